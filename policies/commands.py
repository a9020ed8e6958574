"""What the commands about policies share: a policy by its id or name, differences as lines, changes from a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN, REFUSED
from policies.applying import Plan, plan, read
from policies.changes import FIELDS
from policies.changes import Change as Unmade
from policies.errors import PolicyError
from policies.history import ABSENT, Change
from policies.models import Policy, PolicyVersion
from tenants.models import Tenant


def policy_id_of(tenant: Tenant, text: str) -> UUID:
    """The id of a policy of a tenant, there or deleted, by its id or its name; one that is there goes before.

    Raises CommandError (could not run): there is none, or several have the name.
    """
    versions = PolicyVersion.objects.filter(tenant=tenant)
    try:
        found = [*versions.filter(policy_id=UUID(text)).values_list("policy_id", flat=True)[:1]]
    except ValueError:
        policies = Policy.objects.filter(tenant=tenant)
        gone = versions.filter(op=PolicyVersion.Op.DELETE, body__name=text).exclude(policy_id__in=policies.values("pk"))
        found = [*policies.filter(name=text).values_list("pk", flat=True)[:2]]
        found = found or [*gone.order_by("policy_id").values_list("policy_id", flat=True).distinct()[:2]]
    if len(found) == 1:
        return found[0]
    there = "Several policies have" if found else "There is no policy with"
    raise CommandError(
        f"{there} the name or id {text!r}. policy_list --tenant {tenant.slug} shows their ids, policy_history those of "
        "deleted ones too.",
        returncode=COULD_NOT_RUN,
    )


def lines_of(changes: Iterable[Change]) -> Iterator[str]:
    """`  config.limits.0.limit: "5" → "6"`, a line each."""
    for change in changes:
        if change.before is ABSENT:
            yield f"  + {change.path}: {_json(change.after)}"
        elif change.after is ABSENT:
            yield f"  - {change.path}: {_json(change.before)}"
        else:
            yield f"    {change.path}: {_json(change.before)} → {_json(change.after)}"


def changes_in(tenant: Tenant, file: str) -> list[Unmade]:
    """The changes that a file asks for: a document as `policy_apply` takes it, or a list of `{"op", "policy_id",
    "fields"}`. file: a path, - for stdin. Raises CommandError: it cannot be read, or the document does not fit.
    """
    try:
        asked = read(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(f"The file {file!r} cannot be read: {error}.", returncode=COULD_NOT_RUN) from error
    except PolicyError as error:
        raise CommandError(error.message, returncode=COULD_NOT_RUN) from error
    if isinstance(asked, list):
        return [_unmade(number, entry) for number, entry in enumerate(asked)]
    planned = plan(tenant, asked)
    if planned.refused:
        raise CommandError("\n".join(f"{fault.path}: {fault.text}" for fault in planned.refused), returncode=REFUSED)
    return changes_of(planned)


def changes_of(planned: Plan) -> list[Unmade]:
    """A plan as changes that nobody has made."""
    return [
        Unmade("update", one.policy.pk, {"enabled": False})
        if one.op == "disable"
        else Unmade(one.op, one.policy.pk, {name: getattr(one.policy, name) for name in sorted(FIELDS)})
        for one in planned.changes
    ]


def _unmade(number: int, entry: Any) -> Unmade:
    known = isinstance(entry, dict) and entry.keys() <= {"op", "policy_id", "fields"}
    if not known or not isinstance(entry.get("fields", {}), dict) or not isinstance(entry.get("op"), str):
        text = f'Change {number} is none. Write {{"op": "update", "policy_id": "…", "fields": {{"enabled": false}}}}.'
        raise CommandError(text, returncode=COULD_NOT_RUN)
    try:
        policy_id = None if entry.get("policy_id") is None else UUID(entry["policy_id"])
    except (ValueError, TypeError, AttributeError):
        raise CommandError(f"Change {number}: {entry['policy_id']} is no id.", returncode=COULD_NOT_RUN) from None
    return Unmade(entry["op"], policy_id, entry.get("fields", {}))  # `changed` judges the op


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
