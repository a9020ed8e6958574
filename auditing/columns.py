"""What a value of each column of a request may be. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from auditing.redaction import redact_text

MAX_INT = 2**31 - 1
MAX_COST = Decimal(10) ** 12
STATUSES = frozenset({"completed", "failed", "cancelled", "lost"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is refused: code, the field, a sentence with the value."""

    code: str
    field: str
    message: str


class Refused(Exception):
    def __init__(self, code: str, field: str, message: str) -> None:
        self.refusal = Refusal(code, field, redact_text(message))


def _text(most: int) -> Callable[[str, Any], str | None]:
    def read(name: str, value: Any) -> str | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise Refused("wrong_type", name, f"{name} is {value!r}: text is needed.")
        if len(value) > most:
            raise Refused("too_large", name, f"{name} has {len(value)} characters: {most} are the most.")
        if "\x00" in value:
            raise Refused("nul_character", name, f"{name} holds a NUL character.")
        if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
            raise Refused("invalid_utf8", name, f"{name} holds a lone surrogate: it is no valid text.")
        return value

    return read


def _uuid(name: str, value: Any) -> UUID | None:
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise Refused("wrong_type", name, f"{name} is {value!r}: a UUID is needed.") from None


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int:  # a bool is no count
        raise Refused("wrong_type", name, f"{name} is {value!r}: a whole number is needed.")
    if value < 0:
        raise Refused("negative", name, f"{name} is {value}: it cannot be negative.")
    if value > MAX_INT:
        raise Refused("out_of_range", name, f"{name} is {value}: {MAX_INT} is the most.")
    return value


def _money(name: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    if type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal):  # a float is no money
        raise Refused("wrong_type", name, f"{name} is {value!r}: a Decimal is needed.")
    if not value.is_finite():
        raise Refused("not_a_number", name, f"{name} is {value}: a finite amount is needed.")
    if value < 0:
        raise Refused("negative", name, f"{name} is {value}: it cannot be negative.")
    if value >= MAX_COST:
        raise Refused("out_of_range", name, f"{name} is {value}: it must be below {MAX_COST}.")
    return value


def _instant(name: str, value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise Refused("wrong_type", name, f"{name} is {value!r}: a datetime is needed.")
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise Refused("naive_datetime", name, f"{name} {value.isoformat()} has no time zone.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Refused("out_of_range", name, f"{name} {value.isoformat()} is at the end of time.") from None


def _status(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in STATUSES):
        raise Refused("invalid_status", name, f"{name} is {value!r}: choose from {', '.join(sorted(STATUSES))}.")
    return str(value) if value else None


def _bool(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise Refused("wrong_type", name, f"{name} is {value!r}: true or false is needed.")
    return bool(value)


def _object(most: int) -> Callable[[str, Any], dict[str, Any] | None]:
    def read(name: str, value: Any) -> dict[str, Any] | None:
        if not value and value is not False and value != 0:
            return None
        if not isinstance(value, dict):
            raise Refused("wrong_type", name, f"{name} is no object.")
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_number)
            size = len(text.encode())
        except UnicodeEncodeError:
            raise Refused("invalid_utf8", name, f"{name} holds a lone surrogate: it is no valid text.") from None
        except ValueError:
            raise Refused("not_a_number", name, f"{name} holds a number that is not finite.") from None
        except (TypeError, RecursionError):
            raise Refused("wrong_type", name, f"{name} holds what JSON cannot say.") from None
        if size > most:
            raise Refused("too_large", name, f"{name} is over {most} bytes.")
        if "\\u0000" in text and _holds_nul(value):
            raise Refused("nul_character", name, f"{name} holds a NUL character.")
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


def _plain_texts(most: int) -> Callable[[Sequence[Any]], bool]:
    def plain(values: Sequence[Any]) -> bool:
        if set(map(type, values)) != {str}:
            return False
        joined, lengths = "".join(values), list(map(len, values))
        return min(lengths) > 0 and max(lengths) <= most and joined.isascii() and "\x00" not in joined

    return plain


def _plain_counts(values: Sequence[Any]) -> bool:
    return set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= MAX_INT


def _plain_uuids(values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {UUID, NoneType}


def _plain_instants(values: Sequence[Any]) -> bool:
    return set(map(type, values)) == {datetime} and all(value.tzinfo is UTC for value in values)


def _absent(values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {NoneType}


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a column are read. read: one value that is not None, from its name and what was given; raises Refused.
    plain: whether all values of many are ones that it would give back as they are: quick, and may say no to some."""

    read: Callable[[str, Any], Any]
    plain: Callable[[Sequence[Any]], bool] = _absent


def _texts(most: int) -> Kind:
    return Kind(_text(most), _plain_texts(most))


_UUIDS, _COUNTS = Kind(_uuid, _plain_uuids), Kind(_count, _plain_counts)

KINDS: dict[str, Kind] = {
    "request_id": _texts(200),
    "created_at": Kind(_instant, _plain_instants),
    "tenant_id": _UUIDS,
    "app_id": _UUIDS,
    "branch_id": _UUIDS,
    "user_id": _UUIDS,
    "api_key_id": _UUIDS,
    "provider": _texts(64),
    "model": _texts(265),
    "requested_model": _texts(265),
    "status": Kind(_status),
    "prompt_tokens": _COUNTS,
    "completion_tokens": _COUNTS,
    "cached_tokens": _COUNTS,
    "cache_write_tokens": _COUNTS,
    "reasoning_tokens": _COUNTS,
    "other_units": Kind(_object(4096)),
    "cost": Kind(_money),
    "price_id": _UUIDS,
    "cost_breakdown": Kind(_object(512)),
    "latency_ms": _COUNTS,
    "ttft_ms": _COUNTS,
    "stream": Kind(_bool),
    "error_code": _texts(64),
    "error": _texts(2000),
    "metadata": Kind(_object(4096)),
}
FIELDS = tuple(KINDS)
"""Names that a row may have."""
