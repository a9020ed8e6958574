"""What the values of a fact may be where Python gives them: counts, money, texts, small objects. Raises InvalidRow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

from auditing.errors import InvalidRow
from auditing.redaction import clean, names_a_secret, redact

MAX_TOKENS = 2**31 - 1
MAX_COST = Decimal(10) ** 12
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_PLACES, _PRECISION = Decimal("1e-12"), Context(prec=50)


def count(name: str, value: object, *, signed: bool = False) -> int | None:
    """A whole number as the log keeps it. signed: of an adjustment."""
    least = -MAX_TOKENS if signed else 0
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_TOKENS:
        raise InvalidRow(message=f"{name} is {value!r}: give a whole number from {least} to {MAX_TOKENS}, or None.")
    return value


def money(name: str, value: object, *, signed: bool = False) -> Decimal | None:
    """US dollars as the logs keep them: rounded once, half to even, to 12 places. signed: of an adjustment."""
    if value is None:
        return None
    least = -MAX_COST if signed else Decimal(0)
    if not isinstance(value, Decimal) or not value.is_finite() or not least <= value < MAX_COST:
        raise InvalidRow(message=f"{name} is {value!r}: give a Decimal from {least:f} to below {MAX_COST:f}, or None.")
    return round_money(value)


def round_money(value: Decimal) -> Decimal:
    """A finite sum below MAX_COST, half to even, to 12 places."""
    rounded = value.quantize(_PLACES, ROUND_HALF_EVEN, _PRECISION)
    if abs(rounded) >= MAX_COST:
        raise InvalidRow(message=f"{value} US dollars are no cost of a call: it must be below {MAX_COST:f}.")
    return rounded


def small_object(name: str, value: object, most: int) -> dict[str, object] | None:
    """An object as jsonb takes it: without NUL and secrets, Decimals as text; None for an empty one."""
    if not value:
        return None
    kept: dict[str, object] = value if _is_text(value) else redact(_plain(value))  # type: ignore[assignment]
    size = len(json.dumps(kept)) if kept is value else len(json.dumps(kept, ensure_ascii=False).encode())
    if size > most:
        raise InvalidRow(message=f"{name} has {size} bytes: {most} are the most.")
    return kept


def _is_text(value: object) -> bool:
    """Whether an object may be kept as it is: names and texts in ASCII without secrets. Most are, and looking is quicker than
    copying."""
    if type(value) is not dict:
        return False
    try:
        text = "\n".join([*value, *value.values()])
    except TypeError:
        return False
    return text.isascii() and "\x00" not in text and clean(text) == text and not any(map(names_a_secret, value))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return clean(str(value))


def check_parts(tokens: Mapping[str, int | None]) -> None:
    """Totals include their parts."""
    cached = (tokens["cached_tokens"] or 0) + (tokens["cache_write_tokens"] or 0)
    for total, part in (("prompt_tokens", cached), ("completion_tokens", tokens["reasoning_tokens"] or 0)):
        whole = tokens[total]
        if whole is not None and part > whole:
            raise InvalidRow(
                message=f"{total} is {whole}, but its parts add up to {part}. The total includes its parts."
            )


def check_text(name: str, value: str, most: int) -> None:
    if not 0 < len(value) <= most or "\x00" in value or value != value.encode("utf-8", "replace").decode():
        raise InvalidRow(message=f"{name} needs 1 to {most} characters, without NUL or lone surrogates.")
