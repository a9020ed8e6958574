"""Policies of a tenant as one JSON document: by name, their scopes by slug, code, e-mail and key prefix; no ids.

What an entry leaves out has its default: the document says all that a policy says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from controlplane.core.ids import iso
from policies.errors import PolicyError
from policies.models import Policy
from policies.schemas import SCHEMAS, Closed
from tenants.models import APIKey, Tenant, User

MAX_ENTRY_BYTES = 1_048_576


def _instant(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
        there = at.tzinfo is not None and at.astimezone(UTC)
    except (ValueError, OverflowError):
        there = None
    if not there:
        raise PydanticCustomError("no_instant", "Write a time with its zone, as 2026-12-31T00:00:00Z")
    return text


Instant = Annotated[str, AfterValidator(_instant)]
Name = Annotated[str, Field(min_length=1, max_length=120)]
Label = Annotated[str, Field(min_length=1, max_length=320)]


class ScopeNames(Closed):
    """app: slug; branch: code, with its app; user: e-mail or user name; key: first part of a token, or id."""

    app: Label | None = None
    branch: Label | None = None
    user: Label | None = None
    key: Label | None = None


class Entry(Closed):
    """One policy. config and schedule have schemas of their own (policies.schemas)."""

    name: Name
    policy_type: Literal[tuple(SCHEMAS)]  # type: ignore[valid-type]
    scope: ScopeNames = ScopeNames()
    config: dict[str, Any] = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=-32768, le=32767)] = 0
    enabled: bool = True
    overridable: list[str] = Field(default_factory=list)
    final: list[str] = Field(default_factory=list)
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    schedule: dict[str, Any] | None = None
    description: str = ""
    message: Annotated[str, Field(max_length=500)] = ""


class Document(Closed):
    """The whole; its entries are judged one by one."""

    format: Literal[1] = 1
    policies: list[Any]


@dataclass(frozen=True, slots=True)
class Export:
    """document: as `read` returns it. left_out: policies that no name tells from the others, and so cannot be in it."""

    document: dict[str, Any]
    left_out: tuple[Policy, ...]


def export(tenant: Tenant) -> Export:
    """All policies of a tenant as a document, by name; the same policies always give the same document."""
    policies = stored(tenant)
    names = Counter(policy.name for policy in policies)
    named = [policy for policy in policies if policy.name and names[policy.name] == 1]
    entries = [sparse(entry_of(policy)) for policy in sorted(named, key=lambda policy: policy.name)]
    return Export({"format": 1, "policies": entries}, tuple(policy for policy in policies if policy not in named))


def stored(tenant: Tenant) -> Sequence[Policy]:
    """The policies of a tenant with what `entry_of` reads, by id."""
    policies = Policy.objects.filter(tenant=tenant).select_related("app", "branch", "user", "key")
    return list(policies.prefetch_related("key__secrets").order_by("id"))


def entry_of(policy: Policy) -> dict[str, Any]:
    """A policy as an entry with every field; reads the rows of its scope."""
    scope = {
        "app": policy.app and policy.app.slug,
        "branch": policy.branch and policy.branch.code,
        "user": policy.user and _user_name(policy.user),
        "key": policy.key and _key_name(policy.key),
    }
    return {
        "name": policy.name,
        "policy_type": policy.policy_type,
        "scope": {level: label for level, label in scope.items() if label},
        "config": policy.config,
        "priority": policy.priority,
        "enabled": policy.enabled,
        "overridable": policy.overridable,
        "final": policy.final,
        "valid_from": _text(policy.valid_from),
        "valid_until": _text(policy.valid_until),
        "schedule": policy.schedule,
        "description": policy.description,
        "message": policy.message,
    }


def sparse(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry without what is as by default."""
    kept = ("name", "policy_type", "config")
    plain = Entry(name="-", policy_type="budget").model_dump() | {"scope": {}}
    return {name: value for name, value in entry.items() if name in kept or value != plain[name]}


def read(data: bytes) -> Any:
    """A document from its bytes. Raises PolicyError("document_unreadable"); what it says, `plan` judges."""
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise PolicyError("document_unreadable", "The document is nested too deeply to be read.") from None
    except ValueError as error:
        raise PolicyError("document_unreadable", f"The document is no JSON: {error}.") from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values would hold is anybody's guess."""
    found = dict(pairs)
    if len(found) != len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object says {name!r} twice")
    return found


def _user_name(user: User) -> str:
    return user.email or user.username or str(user.pk)


def _key_name(key: APIKey) -> str:
    """The public part of its newest secret; a key without any has its id alone."""
    newest = max(key.secrets.all(), key=lambda secret: secret.pk, default=None)
    return str(key.pk) if newest is None else f"cpk_{key.environment}_{newest.kid}"


def _text(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
