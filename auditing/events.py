"""What an event of the audit log says: taken at the call, in microseconds; cleaned and rendered later, where there is time."""

from __future__ import annotations

import hashlib
import json
import marshal
import time
from typing import Any, TypedDict
from uuid import UUID

from django.db import models

from auditing.context import actor_of, current
from auditing.redaction import clean, redact
from controlplane.core.ids import instant_at, number_at

TEXT_LIMIT = 4096
DETAILS_LIMIT = 64 * 1024


class Told(TypedDict, total=False):
    """What a caller may say of an event; what is left out is taken from the open `audit_context`. No tenant = the platform."""

    tenant: object
    app: object
    branch: object
    user: object
    api_key: object
    actor: object
    resource: models.Model | tuple[str, object] | None
    resource_label: str
    outcome: str
    details: dict[str, Any] | None
    reason: str
    request_id: str | None
    provider: str
    model: str


_IDS = ("id", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id")
COLUMNS = (
    "id", "created_at", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "actor_type", "actor_id", "actor_label",
    "actor_role", "action", "resource_type", "resource_id", "resource_label", "outcome", "details", "reason", "request_id", "ip",
    "user_agent", "provider", "model",
)  # fmt: skip
"""Columns of the log that an event fills."""

Event = tuple[Any, ...]
"""Values in the order of COLUMNS as they were told: ids as numbers, the instant in microseconds since 1970, secrets still in."""


def event(
    action: str,
    *,
    tenant: object = None,
    app: object = None,
    branch: object = None,
    user: object = None,
    api_key: object = None,
    actor: object = None,
    resource: models.Model | tuple[str, object] | None = None,
    resource_label: str = "",
    outcome: str = "success",
    details: dict[str, Any] | None = None,
    reason: str = "",
    request_id: str | None = None,
    provider: str = "",
    model: str = "",
) -> Event:
    """An event of this moment, by whom and why the open `audit_context` says. Raises ValueError for an id that is none."""
    us, said = time.time_ns() // 1000, current()
    kind: str
    if resource is None:
        kind, key = "", ""
    elif isinstance(resource, models.Model):
        kind, key = resource._meta.db_table, str(resource.pk)
        resource_label = resource_label or str(resource)
    else:
        kind, key = resource[0], str(resource[1])
    if actor is not None:
        who = actor_of(actor)
        by = (who.type, who.id, who.label, who.role)
    else:
        say = said.get
        by = (say("actor_type", "system"), say("actor_id", ""), say("actor_label", ""), say("actor_role", ""))
    return (
        number_at(us), us, _number(tenant) or _number(said.get("tenant_id")) or 0, _number(app), _number(branch),
        _number(user), _number(api_key), *by, action, kind, key, resource_label, outcome, details or None,
        reason or said.get("reason", ""), request_id or said.get("request_id"), said.get("ip"), said.get("user_agent"),
        provider, model,
    )  # fmt: skip


def frozen(told: Event) -> bytes:
    """The event as bytes of this process, which nothing that the caller does later can change. For `thawed` alone."""
    try:
        return marshal.dumps(told)
    except ValueError:  # of types that it does not know, such as a Decimal or a kind of str: their text
        values = dict(zip(COLUMNS, told, strict=True))
        details = values.pop("details")
        values = {name: _plain(value) for name, value in values.items()}
        return marshal.dumps(tuple((values | {"details": details and _details(details)})[name] for name in COLUMNS))


def thawed(data: bytes) -> Event:
    told: Event = marshal.loads(data)  # noqa: S302 - made by `frozen`, in this process
    return told


def row(told: Event) -> dict[str, Any]:
    """The columns of the event as the log takes them: without secrets, NUL and lone surrogates, texts cut at 4 KiB. Ids are
    numbers still, and the instant microseconds: `stored` and `line` say them."""
    found = dict(zip(COLUMNS, told, strict=True))
    for name in ("actor_id", "actor_label", "resource_id", "resource_label", "reason"):
        found[name] = text(found[name])
    if found["request_id"]:
        found["request_id"] = text(found["request_id"])
    if found["details"]:
        found["details"] = _details(found["details"])
    return found


def bounded(told: Event) -> Event:
    """The event with what the log would cut cut already."""
    return tuple(row(told).values())


def stored(told: Event) -> dict[str, Any]:
    """The columns as an instance of the model has them."""
    found = row(told)
    found |= {name: None if found[name] is None else UUID(int=found[name]) for name in _IDS}
    found["created_at"] = instant_at(found["created_at"])
    return found


def line(told: Event) -> str:
    """The columns as one JSON object, for `json_populate_record`."""
    found = row(told)
    for name in _IDS:
        if found[name] is not None:
            found[name] = f"{found[name]:032x}"
    found["created_at"] = instant_at(found["created_at"]).isoformat()
    return json.dumps(found, default=str)


def text(value: Any) -> str:
    return clean(value if isinstance(value, str) else str(value or ""))[:TEXT_LIMIT]


def _number(value: object) -> int | None:
    if value is None or value == "":
        return None
    found = getattr(value, "pk", value)
    return (found if isinstance(found, UUID) else UUID(str(found))).int


def _details(details: dict[str, Any]) -> dict[str, Any]:
    """The details without secrets; over 64 KiB, their size, SHA-256 and beginning."""
    try:
        kept: dict[str, Any] = redact(_plain(details))
    except RecursionError:
        return {"$unreadable": "It is nested too deeply, or holds itself."}
    whole_text = json.dumps(kept, ensure_ascii=False)
    whole = whole_text.encode()
    if len(whole) <= DETAILS_LIMIT:
        return kept
    return {"$bytes": len(whole), "$sha256": hashlib.sha256(whole).hexdigest(), "$head": whole_text[:TEXT_LIMIT]}


def _plain(value: Any) -> Any:
    """JSON without what jsonb refuses: NUL and lone surrogates become U+FFFD; unknown types their text."""
    if isinstance(value, dict):
        return {text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    return text(str(value))
