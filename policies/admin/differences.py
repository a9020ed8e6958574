"""Two states of a policy side by side, field by field, as people call them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.safestring import SafeString

from controlplane.core import display
from policies.admin.wording import shown
from policies.forms.words import FIELDS, ROWS
from policies.history import ABSENT, COUNTED, Change, diff
from policies.models import Policy

SCOPE = {"app_id": "slug", "branch_id": "code", "user_id": "email", "key_id": "name"}
_LABELS = {
    "key_id": "API key",
    "overridable": "Nearer policies may loosen",
    "final": "Locked for nearer policies",
    "valid_from": "From",
    "valid_until": "Until",
    "schedule": "Hours of the week",
}
_SAID = {"create": "created", "update": "changed", "delete": "deleted"}


@dataclass(frozen=True)
class Difference:
    """One field that differs. before, after: None where there was, or is, nothing."""

    label: str
    path: str
    before: SafeString | str | None
    after: SafeString | str | None


def record(policy: Policy) -> dict[str, Any]:
    """What an author writes of a policy, as JSON, also of one that is not stored."""
    names = [field.attname for field in policy._meta.concrete_fields if not field.generated]
    found = {name: getattr(policy, name) for name in names if name not in COUNTED}
    written: dict[str, Any] = json.loads(json.dumps(found, cls=DjangoJSONEncoder))
    return written


def between(policy: Policy, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """What differs between two records or bodies of versions of one policy."""
    changes = diff(old, new)
    names = _names(policy, changes)
    return [_difference(policy.policy_type, change, names) for change in changes]


def _difference(policy_type: str, change: Change, names: Mapping[str, str]) -> Difference:
    sides = (_value(change.path, value, names) for value in (change.before, change.after))
    return Difference(" ".join(label_of(policy_type, change.path)), change.path, *sides)


def _value(path: str, value: Any, names: Mapping[str, str]) -> SafeString | str | None:
    if value is ABSENT or value is None or value == "":
        return None
    if path in SCOPE:
        return names.get(value) or display.short_id(value)
    return shown(value)


def label_of(policy_type: str, path: str) -> Iterator[str]:
    """A path in words: config.limits.0.limit is "Limit 1: Limit"; the last part of a path nobody has words for as it is."""
    column, *parts = path.split(".")
    if column == "schedule" and parts:
        yield f"Hours of the week: {FIELDS[f'schedule.{parts[0]}'][0]}" if f"schedule.{parts[0]}" in FIELDS else path
    elif column != "config" or not parts:
        yield _LABELS.get(column, column.removesuffix("_id").replace("_", " ").capitalize())
    else:
        field = f"{policy_type}.{parts[0]}"
        if len(parts) == 1:
            yield FIELDS[field][0] if field in FIELDS else parts[0]
            return
        number = str(int(parts[1]) + 1) if parts[1].isdigit() else parts[1]
        rest = ".".join(parts[2:])
        yield f"{ROWS.get(field, FIELDS[field][0] if field in FIELDS else parts[0])} {number}"
        if rest:
            yield f"› {FIELDS[f'{field}.{rest}'][0] if f'{field}.{rest}' in FIELDS else rest}"


def _names(policy: Policy, changes: Iterable[Change]) -> dict[str, str]:
    """Short names of the apps, branches, users and keys that changes are about: one statement per kind that changed."""
    names: dict[str, str] = {}
    for change in changes:
        if change.path in SCOPE:
            model: Any = policy._meta.get_field(change.path.removesuffix("_id")).related_model
            ids = [UUID(value) for value in (change.before, change.after) if isinstance(value, str)]
            rows = model._default_manager.filter(tenant=policy.tenant_id, pk__in=ids)
            names |= {str(pk): name for pk, name in rows.values_list("pk", SCOPE[change.path])}
    return names


def said(op: str) -> str:
    """What was done, for people."""
    return _SAID.get(op, op)
