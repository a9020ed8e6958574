"""One row of usage from elsewhere: what it must say, and how it becomes a fact. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditing.redaction import redact, redact_text
from controlplane.core.ids import uuid7_of

COLUMNS = (
    "id", "created_at", "request_id", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "provider", "model",
    "requested_model", "status", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens",
    "reasoning_tokens", "other_units", "cost", "pricing_status", "price_id", "cost_breakdown", "latency_ms", "ttft_ms",
    "stream", "error_code", "error", "time_zone", "local_date", "source", "metadata",
)  # fmt: skip
"""Columns of the log that a row from elsewhere fills, in the order of `Fact.values`."""

MAX_INT = 2**31 - 1
MAX_COST = Decimal(10) ** 12
STATUSES = frozenset({"completed", "failed", "cancelled", "lost"})
MAX_AGE = timedelta(days=35)
MAX_AHEAD = timedelta(minutes=5)
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is refused: code, the field, a sentence with the value."""

    code: str
    field: str
    message: str


class Fact(NamedTuple):
    """A row that may be written. values: in the order of COLUMNS."""

    id: UUID
    tenant_id: UUID
    request_id: str
    created_at: datetime
    values: tuple[Any, ...]


class _Refused(Exception):
    def __init__(self, code: str, field: str, message: str) -> None:
        self.refusal = Refusal(code, field, redact_text(message))


class Validator:
    """Judges rows against one present.

    zones: time zones of known tenants by id. historical: created_at may go back to 2020. source: `ingest` or `import`.
    """

    __slots__ = ("_latest", "_oldest", "_source", "_tenants")

    def __init__(self, *, present: datetime, zones: Mapping[UUID, str], source: str, historical: bool) -> None:
        self._latest = present + MAX_AHEAD
        self._oldest = FIRST if historical else present - MAX_AGE
        self._tenants = {tenant: (zone, tenant.bytes + b"\x00") for tenant, zone in zones.items()}
        self._source = source

    def check(self, row: Mapping[str, Any]) -> Fact | Refusal:
        """The fact that a row states, or why it is refused.

        row: columns by name; needs request_id, created_at, tenant_id, provider, model. status defaults to completed,
        cost to None (unpriced). Codes: docs/usage-import.md.
        """
        try:
            return self._fact(row)
        except _Refused as refused:
            return refused.refusal

    def _fact(self, row: Mapping[str, Any]) -> Fact:
        if not row.keys() <= _READERS.keys():
            name = str(next(name for name in row if name not in _READERS))[:64]
            raise _Refused("unknown_field", name, f"There is no field {name!r} in a request.")
        v = _NOTHING.copy()
        for name, value in row.items():
            if value is not None:
                v[name] = _READERS[name](name, value)
        for name in _NEEDED:
            if v[name] is None:
                raise _Refused("missing_field", name, f"{name} is missing.")
        tenant, created, request_id, model = v["tenant_id"], v["created_at"], v["request_id"], v["model"]
        known = self._tenants.get(tenant)
        if known is None:
            raise _Refused("unknown_tenant", "tenant_id", f"No tenant has the id {tenant}.")
        zone, seed = known
        if not self._oldest <= created <= self._latest:
            raise _wrong_time(created, self._oldest)
        if v["cached_tokens"] or v["cache_write_tokens"] or v["reasoning_tokens"]:
            _check_parts(v)
        cost, asked = v["cost"], v["requested_model"]
        id = uuid7_of(created, seed + request_id.encode())
        values = (
            id, created, request_id, tenant, v["app_id"], v["branch_id"], v["user_id"], v["api_key_id"], v["provider"],
            model, asked if asked != model else None, v["status"] or "completed", v["prompt_tokens"],
            v["completion_tokens"], v["cached_tokens"], v["cache_write_tokens"], v["reasoning_tokens"],
            redact(v["other_units"]), cost, "unpriced" if cost is None else "priced", v["price_id"],
            v["cost_breakdown"], v["latency_ms"], v["ttft_ms"], v["stream"] or False, v["error_code"] or "",
            redact_text(v["error"])[:2000] if v["error"] else "", zone, _local_date(created, zone), self._source,
            redact(v["metadata"]),
        )  # fmt: skip
        return Fact(id, tenant, request_id, created, values)


def validate(
    row: Mapping[str, Any], *, present: datetime, zones: Mapping[UUID, str], source: str, historical: bool
) -> Fact | Refusal:
    """One row judged alone; see Validator."""
    return Validator(present=present, zones=zones, source=source, historical=historical).check(row)


def _wrong_time(created: datetime, oldest: datetime) -> _Refused:
    if created < oldest:
        return _Refused(
            "created_at_too_old", "created_at", f"created_at {created.isoformat()} is before {oldest:%Y-%m-%d}."
        )
    return _Refused("created_at_in_future", "created_at", f"created_at {created.isoformat()} lies in the future.")


def _check_parts(v: Mapping[str, Any]) -> None:
    for total, parts in _PARTS:
        whole = v[total]
        if whole is not None and (part := sum([v[name] or 0 for name in parts])) > whole:
            raise _Refused("parts_exceed_total", total, f"{total} is {whole}, but its parts add up to {part}.")


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise _Refused("unknown_time_zone", "tenant_id", f"The tenant's time zone {name!r} is unknown.") from None


def _local_date(created: datetime, zone: str) -> date:
    return created.date() if zone == "UTC" else created.astimezone(_zone(zone)).date()


def _text(most: int) -> Callable[[str, Any], str | None]:
    def read(name: str, value: Any) -> str | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise _Refused("wrong_type", name, f"{name} is {value!r}: text is needed.")
        if len(value) > most:
            raise _Refused("too_large", name, f"{name} has {len(value)} characters: {most} are the most.")
        if "\x00" in value:
            raise _Refused("nul_character", name, f"{name} holds a NUL character.")
        if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
            raise _Refused("invalid_utf8", name, f"{name} holds a lone surrogate: it is no valid text.")
        return value

    return read


def _uuid(name: str, value: Any) -> UUID | None:
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise _Refused("wrong_type", name, f"{name} is {value!r}: a UUID is needed.") from None


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int:  # a bool is no count
        raise _Refused("wrong_type", name, f"{name} is {value!r}: a whole number is needed.")
    if value < 0:
        raise _Refused("negative", name, f"{name} is {value}: it cannot be negative.")
    if value > MAX_INT:
        raise _Refused("out_of_range", name, f"{name} is {value}: {MAX_INT} is the most.")
    return value


def _money(name: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    if type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal):  # a float is no money
        raise _Refused("wrong_type", name, f"{name} is {value!r}: a Decimal is needed.")
    if not value.is_finite():
        raise _Refused("not_a_number", name, f"{name} is {value}: a finite amount is needed.")
    if value < 0:
        raise _Refused("negative", name, f"{name} is {value}: it cannot be negative.")
    if value >= MAX_COST:
        raise _Refused("out_of_range", name, f"{name} is {value}: it must be below {MAX_COST}.")
    return value


def _instant(name: str, value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _Refused("wrong_type", name, f"{name} is {value!r}: a datetime is needed.")
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise _Refused("naive_datetime", name, f"{name} {value.isoformat()} has no time zone.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise _Refused("out_of_range", name, f"{name} {value.isoformat()} is at the end of time.") from None


def _status(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in STATUSES):
        raise _Refused("invalid_status", name, f"{name} is {value!r}: choose from {', '.join(sorted(STATUSES))}.")
    return str(value) if value else None


def _bool(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _Refused("wrong_type", name, f"{name} is {value!r}: true or false is needed.")
    return bool(value)


def _object(most: int) -> Callable[[str, Any], dict[str, Any] | None]:
    def read(name: str, value: Any) -> dict[str, Any] | None:
        if not value and value is not False and value != 0:
            return None
        if not isinstance(value, dict):
            raise _Refused("wrong_type", name, f"{name} is no object.")
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_number)
            size = len(text.encode())
        except UnicodeEncodeError:
            raise _Refused("invalid_utf8", name, f"{name} holds a lone surrogate: it is no valid text.") from None
        except ValueError:
            raise _Refused("not_a_number", name, f"{name} holds a number that is not finite.") from None
        except (TypeError, RecursionError):
            raise _Refused("wrong_type", name, f"{name} holds what JSON cannot say.") from None
        if size > most:
            raise _Refused("too_large", name, f"{name} is over {most} bytes.")
        if "\\u0000" in text and _holds_nul(value):
            raise _Refused("nul_character", name, f"{name} holds a NUL character.")
        found: dict[str, Any] = json.loads(text)
        return found

    return read


def _number(value: object) -> int | float:
    """A Decimal, as JSON files are read with, as the number that JSON says."""
    if not isinstance(value, Decimal):
        raise TypeError
    if not value.is_finite():
        raise ValueError
    return int(value) if value == value.to_integral_value() and abs(value) < MAX_COST else float(value)


def _holds_nul(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\x00" in value


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "request_id": _text(200),
    "created_at": _instant,
    "tenant_id": _uuid,
    "app_id": _uuid,
    "branch_id": _uuid,
    "user_id": _uuid,
    "api_key_id": _uuid,
    "provider": _text(64),
    "model": _text(265),
    "requested_model": _text(265),
    "status": _status,
    "prompt_tokens": _count,
    "completion_tokens": _count,
    "cached_tokens": _count,
    "cache_write_tokens": _count,
    "reasoning_tokens": _count,
    "other_units": _object(4096),
    "cost": _money,
    "price_id": _uuid,
    "cost_breakdown": _object(512),
    "latency_ms": _count,
    "ttft_ms": _count,
    "stream": _bool,
    "error_code": _text(64),
    "error": _text(2000),
    "metadata": _object(4096),
}
_NOTHING: dict[str, Any] = dict.fromkeys(_READERS)
_NEEDED = ("request_id", "created_at", "tenant_id", "provider", "model")
_PARTS = (("prompt_tokens", ("cached_tokens", "cache_write_tokens")), ("completion_tokens", ("reasoning_tokens",)))

FIELDS = tuple(_READERS)
"""Names that a row may have."""
