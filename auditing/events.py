"""What an event of the audit log says: taken at the call, in microseconds; cleaned and rendered later, where there is time."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import marshal
import time
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, TypedDict
from uuid import UUID

from django.db import models

from auditing.context import actor_of, current
from auditing.errors import InvalidRow
from auditing.redaction import clean, is_clean, names_a_secret, redact
from auditing.values import count, money
from controlplane.core.ids import instant_at, number_at, uuid_of

TEXT_LIMIT = 4096
DETAILS_LIMIT = 64 * 1024


class Told(TypedDict, total=False):
    """What a caller may say of an event; what is left out is taken from the open `audit_context`. No tenant = the platform.

    Of a call of a model: prompt_tokens, completion_tokens, latency_ms (whole numbers, milliseconds) and cost (US dollars, a
    Decimal); None = not known.
    """

    tenant: object
    app: object
    branch: object
    user: object
    api_key: object
    actor: object
    resource: models.Model | tuple[str, object] | None
    resource_label: str
    outcome: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    details: dict[str, Any] | None
    reason: str
    request_id: str | None
    ip: str | None
    user_agent: str | None
    provider: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: Decimal | None
    latency_ms: int | None


_COUNTS = ("prompt_tokens", "completion_tokens", "latency_ms")
_IDS = ("id", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id")
OBJECTS = ("before", "after", "details")
"""Columns of JSON."""

COLUMNS = (
    "id", "created_at", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "actor_type", "actor_id", "actor_label",
    "actor_role", "action", "resource_type", "resource_id", "resource_label", "outcome", "before", "after", "details", "reason",
    "request_id", "ip", "user_agent", "provider", "model", "prompt_tokens", "completion_tokens", "cost", "latency_ms",
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
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    details: dict[str, Any] | None = None,
    reason: str = "",
    request_id: str | None = None,
    ip: str | None = None,
    user_agent: str | None = None,
    provider: str = "",
    model: str = "",
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    cost: Decimal | None = None,
    latency_ms: int | None = None,
) -> Event:
    """An event of this moment, by whom and why the open `audit_context` says.

    Raises ValueError for an id that is none, InvalidRow for an address, a count or a cost that is none.
    """
    us, said = time.time_ns() // 1000, current()
    kind: str
    if resource is None:
        kind, key = "", ""
    elif isinstance(resource, models.Model):
        kind, key = resource._meta.db_table, str(resource.pk)
        resource_label = resource_label or str(resource)
    else:
        kind, key = resource[0], str(resource[1])
    if type(actor) is str:
        by = ("system", actor, actor, "")
    elif actor is not None:
        who = actor_of(actor)
        by = (who.type, who.id, who.label, who.role)
    else:
        say = said.get
        by = (say("actor_type", "system"), say("actor_id", ""), say("actor_label", ""), say("actor_role", ""))
    return (
        number_at(us), us, _number(tenant) or _number(said.get("tenant_id")) or 0, None if app is None else _number(app),
        None if branch is None else _number(branch), None if user is None else _number(user),
        None if api_key is None else _number(api_key), *by, action, kind, key, resource_label, outcome, before or None,
        after or None, details or None, reason or said.get("reason", ""), request_id or said.get("request_id"),
        said.get("ip") if ip is None else _address(ip), said.get("user_agent") if user_agent is None else text(user_agent),
        provider, model, None if prompt_tokens is None else count("prompt_tokens", prompt_tokens),
        None if completion_tokens is None else count("completion_tokens", completion_tokens),
        None if cost is None else str(money("cost", cost)), None if latency_ms is None else count("latency_ms", latency_ms),
    )  # fmt: skip


def frozen(told: Event) -> bytes:
    """The event as bytes of this process, which nothing that the caller does later can change. For `thawed` alone."""
    try:
        return marshal.dumps(told)
    except ValueError:  # of types that it does not know, such as a Decimal or a kind of str: their text
        values = dict(zip(COLUMNS, told, strict=True))
        for name, value in values.items():
            values[name] = (value and _details(value)[0]) if name in OBJECTS else _plain(value)
        return marshal.dumps(tuple(values.values()))


def thawed(data: bytes) -> Event:
    told: Event = marshal.loads(data)  # noqa: S302 - made by `frozen`, in this process
    return told


def bounded(told: Event) -> Event:
    """The event with what the log would cut cut already."""
    return tuple(_cleaned(told)[0].values())


def stored(told: Event) -> dict[str, Any]:
    """The columns as an instance of the model has them, as the log takes them: without secrets, NUL and lone surrogates, texts
    cut at 4 KiB."""
    found, _ = _cleaned(told)
    for name in _IDS:
        if found[name] is not None:
            found[name] = uuid_of(found[name])
    found["created_at"] = instant_at(found["created_at"])
    if found["cost"] is not None:
        found["cost"] = Decimal(found["cost"])
    return found


def texts(told: Event) -> dict[str, str | None]:
    """The same columns as text that the database reads."""
    found, objects = _cleaned(told)
    for name in _IDS:
        if found[name] is not None:
            found[name] = f"{found[name]:032x}"
    for name in _COUNTS:
        if found[name] is not None:
            found[name] = str(found[name])
    seconds, us = divmod(found["created_at"], 1_000_000)
    found["created_at"] = f"{_second(seconds)}.{us:06d}+00:00"
    found.update(objects)
    return found


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """The second so long after 1970, as ISO 8601 without its zone: rows of one come together."""
    return instant_at(seconds * 1_000_000).replace(tzinfo=None).isoformat()


def as_json(columns: dict[str, str | None]) -> str:
    """Texts of an event as one JSON object, for `json_populate_record`."""
    rest = json.dumps({name: value for name, value in columns.items() if name not in OBJECTS}, default=str)
    objects = ", ".join([f'"{name}": {columns[name] or "null"}' for name in OBJECTS])
    return f"{rest[:-1]}, {objects}}}"


def as_copied(columns: dict[str, str | None]) -> str:
    """Texts of an event as a line in the text format of COPY, without its end."""
    values = ["\\N" if value is None else value for value in columns.values()]
    try:
        found = "\t".join(values)
    except TypeError:  # of a type that no column takes: the database says so
        values = list(map(str, values))
        found = "\t".join(values)
    # only what stands between the values needs no escape
    breaks = found.count("\t") - len(values) + 1 or "\n" in found or "\r" in found
    if not breaks and found.count("\\") == values.count("\\N"):
        return found
    return "\t".join([value if value == "\\N" else value.translate(_ESCAPES) for value in values])


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _cleaned(told: Event) -> tuple[dict[str, Any], dict[str, str]]:
    """The columns as the log takes them, ids and the instant as numbers still; and what is an object as JSON."""
    found = dict(zip(COLUMNS, told, strict=True))
    try:
        said = "\n".join([found[name] or "" for name in _SAID])
        clean_already = len(said) <= TEXT_LIMIT and is_clean(said)
    except TypeError:
        clean_already = False
    if not clean_already:
        for name in _SAID:
            if found[name] is not None or name != "request_id":
                found[name] = text(found[name])
    objects = {}
    for name in OBJECTS:
        if found[name]:
            found[name], objects[name] = _details(found[name])
    return found, objects


_SAID = ("actor_id", "actor_label", "resource_id", "resource_label", "reason", "request_id")


def text(value: Any) -> str:
    return clean(value if isinstance(value, str) else str(value or ""))[:TEXT_LIMIT]


def _address(told: str) -> str:
    try:
        return str(ipaddress.ip_address(told))
    except ValueError:
        raise InvalidRow(message=f"ip is {told!r}: give an IPv4 or IPv6 address, or None.") from None


def _number(value: object) -> int | None:
    if type(value) is UUID:
        return value.int
    if value is None or value == "":
        return None
    found = getattr(value, "pk", value)
    return (found if isinstance(found, UUID) else UUID(str(found))).int


def _details(details: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The details without secrets, and as JSON; over 64 KiB, their size, SHA-256 and beginning."""
    if simple := _simple(details):
        return details, simple
    try:
        kept: dict[str, Any] = redact(_plain(details))
    except RecursionError:
        kept = {"$unreadable": "It is nested too deeply, or holds itself."}
    whole_text = json.dumps(kept, ensure_ascii=False)
    whole = whole_text.encode()
    if len(whole) > DETAILS_LIMIT:
        kept = {"$bytes": len(whole), "$sha256": hashlib.sha256(whole).hexdigest(), "$head": whole_text[:TEXT_LIMIT]}
    return kept, json.dumps(kept)


def _simple(details: dict[str, Any]) -> str:
    """Details that are kept as they are, as JSON, which most are: names, short texts, whole numbers; else ""."""
    for name, value in details.items():
        if type(name) is not str or type(value) not in _SIMPLE or names_a_secret(name):
            return ""
    found = json.dumps(details)
    return found if len(found) <= TEXT_LIMIT and "\\u" not in found and is_clean(found) else ""


_SIMPLE = (str, int, bool, NoneType)


def _plain(value: Any) -> Any:
    """JSON without what jsonb refuses: NUL and lone surrogates become U+FFFD; unknown types their text."""
    if isinstance(value, dict):
        return {text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    return text(str(value))
