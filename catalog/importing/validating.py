"""What is wrong with an entry of a price file: errors block it, warnings do not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ValidationError

from catalog.errors import BadRate
from catalog.importing import fields
from catalog.importing.reading import Number
from catalog.pricing import Rates
from controlplane.core.fields import validate_json

MAX_NAME = 200
MAX_WORD = 64
MAX_PLACES = 30
MAX_DIGITS = 1000
MAX_BYTES = 64 * 1024
MAX_DEPTH = 50
RATE_LIMIT = Decimal(10) ** 10
DEAR_TOKEN = Decimal("0.01")

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Between these a price may begin: the database takes times that Python cannot read back, and a price never goes."""

ERRORS = (
    "not_an_object", "missing_provider", "bad_rate", "negative_rate", "too_many_places", "bad_tier_table", "bad_window",
    "key_collision", "duplicate_key", "missing_name", "name_too_long", "bad_value", "too_large", "alias_taken", "unknown_model",
)  # fmt: skip
WARNINGS = (
    "unknown_mode", "unknown_price_field", "bad_deprecation_date", "tier_without_output", "suspicious_unit", "wrong_type",
)  # fmt: skip

_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NUMBER = re.compile(
    r"\s*[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*|\s*[-+]?(nan|inf(inity)?)\s*", re.I
)
_HOURS = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAYS = frozenset([*map(str, range(1, 8)), *_DAYS, *(day[:3] for day in _DAYS)])
_TEXT_MODES = ("", "chat", "completion", "responses")


def unfit(start: datetime | None) -> str:
    """Why a price cannot begin at this instant; "" if it can. None: now."""
    if start is None or (start.tzinfo is not None and EARLIEST <= start < LATEST):
        return ""
    return "A price begins between 2000 and 2200, at a time with a time zone. Choose another time."


@dataclass(frozen=True, slots=True)
class Fault:
    """code: one of ERRORS or WARNINGS; field: path in the entry, "" = all of it; value: what is there; message: why."""

    code: str
    field: str
    value: Any
    message: str

    @property
    def blocks(self) -> bool:
        return self.code in ERRORS


def decimal(text: str) -> Decimal | None:
    """The number that was written; None for NaN, infinity and what Decimal cannot hold."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def check(key: str, value: Any) -> Iterator[Fault]:
    """The faults of an entry, as read by `reading`."""
    found = list(_check(key, value))
    yield from found
    if not any(fault.blocks for fault in found):
        yield from _tables(value)


def _check(key: str, value: Any) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault("not_an_object", "", value, "A model is described by a JSON object.")
        return
    yield from _names(key, value)
    rates = {name: rate for name, rate in value.items() if fields.is_price(name)}
    for name, rate in rates.items():
        yield from rate_faults(name, rate)
        if not fields.is_priced(name):
            yield Fault("unknown_price_field", name, rate, "Kept, but no rule prices by it.")
    yield from _tiers(value)
    yield from _windows(value.get("off_peak_pricing"))
    mode = value.get("mode")
    if type(mode) is str and mode and mode not in fields.MODES:
        yield Fault("unknown_mode", "mode", mode, "No rule knows this mode; it is priced as tokens.")


def _names(key: str, value: Mapping[str, Any]) -> Iterator[Fault]:
    word = value.get("litellm_provider")
    if type(word) is not str or not _PROVIDER.fullmatch(word):
        yield Fault(
            "missing_provider", "litellm_provider", word, "It is a word of lower-case letters, digits and _ . -"
        )
    elif key in ("", f"{word}/"):
        yield Fault("missing_name", "", key, "A model needs a name.")
    if len(key) > MAX_NAME:
        yield Fault("name_too_long", "", f"{key[:40]}…", f"It has {len(key)} characters, {MAX_NAME} fit.")
    if not key.isprintable():
        yield Fault("bad_value", "", None, "The key holds a character that cannot be printed.")
    mode = value.get("mode")
    if type(mode) is str and len(mode) > MAX_WORD:
        yield Fault("name_too_long", "mode", f"{mode[:40]}…", f"It has {len(mode)} characters, {MAX_WORD} fit.")
    if unstorable(value):
        for name, inner in value.items():
            if why := unstorable([name, inner]):
                yield Fault("bad_value", name, None, why)


def too_deep(value: Any) -> bool:
    """Whether a value, as read, is nested in more levels than an entry has: what looks into it goes as deep as it does."""
    tables = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inside = (inner for each in tables for inner in (each.values() if isinstance(each, dict) else each))
        tables = [inner for inner in inside if isinstance(inner, dict | list)]
    return bool(tables)


def unstorable(value: Any) -> str:
    """Why a value, as read, is none that jsonb takes; "" if it is."""
    try:
        validate_json(value)
    except ValidationError as error:
        return str(error.message)
    for _, inner in leaves(value, ""):
        if isinstance(inner, Number):
            number = decimal(inner)
            if number is None or max(abs(number.adjusted()), len(inner)) > MAX_DIGITS:
                return f"{inner[:40]} is no number that can be stored."
    return ""


def rate_faults(name: str, value: Any) -> Iterator[Fault]:
    """What is wrong with a price field, its numbers as Number."""
    if value is None:
        return
    if name in fields.WORDS:
        if not isinstance(value, str) or isinstance(value, Number) or _NUMBER.fullmatch(value):
            yield Fault("bad_rate", name, value, "It is a word, as per_query.")
    elif (
        name in fields.NESTED
        or name in fields.TABLES
        or (isinstance(value, list | dict) and not fields.is_priced(name))
    ):
        if not isinstance(value, list | dict):
            yield Fault("bad_rate", name, value, "It is a table: an object or a list.")
        for path, inner in leaves(value, name):
            yield from _leaf(path, inner, words=name not in fields.TABLES)
    else:
        yield from _leaf(name, value, words=False)


def _leaf(name: str, value: Any, *, words: bool) -> Iterator[Fault]:
    """One number, or, where words are allowed, text that cannot be taken for a number."""
    if value is None or (words and type(value) is str and not _NUMBER.fullmatch(value)):
        return
    number = decimal(value) if isinstance(value, Number) else None
    if number is None:
        yield Fault(
            "bad_rate", name, value, "It is no number. Rates are numbers in US dollars per unit, without quotes."
        )
    elif number < 0:
        yield Fault("negative_rate", name, value, "A rate is 0 or more.")
    elif number and number.as_tuple().exponent < -MAX_PLACES and _places(number) > MAX_PLACES:  # type: ignore[operator]
        yield Fault("too_many_places", name, value, f"It has {_places(number)} decimal places, {MAX_PLACES} fit.")
    elif number >= RATE_LIMIT and fields.is_price(name.rpartition(".")[2]):
        yield Fault("bad_rate", name, value, "It is 10,000,000,000 or more, which no rate is.")
    elif number > DEAR_TOKEN and fields.is_token_rate(name.rpartition(".")[2]):
        yield Fault(
            "suspicious_unit", name, value, "More than 0.01 US dollars per token: is it meant per million tokens?"
        )


def _places(number: Decimal) -> int:
    """Decimal places without zeros at the end."""
    _, digits, exponent = number.as_tuple()
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return max(-(int(exponent) + zeros), 0)


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What is in a value, with its path: `tiered_pricing[1].input_cost_per_token`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{place}]")
    else:
        yield path, value


def _tables(entry: Mapping[str, Any]) -> Iterator[Fault]:
    """What stands in the tables of an entry where a rate has to, and is none: every call would be unpriced."""
    tables = {name: entry[name] for name in (*fields.NESTED, *fields.TABLES) if entry.get(name) is not None}
    try:
        if tables:
            Rates.from_entry(tables, "")
    except BadRate as error:
        yield Fault("bad_rate", error.field, None, error.message)


def _tiers(entry: Mapping[str, Any]) -> Iterator[Fault]:
    table = entry.get("tiered_pricing")
    if table is None:
        return
    if not isinstance(table, list) or not table or not all(isinstance(row, dict) for row in table):
        yield Fault("bad_tier_table", "tiered_pricing", table, "It is a list of objects, each with a range.")
        return
    by = "range" if "range" in table[0] else "max_results_range"
    ranges = [_range(row.get(by)) for row in table]
    for place, found in enumerate(ranges):
        if found is None:
            yield Fault(
                "bad_tier_table",
                f"tiered_pricing[{place}]",
                table[place],
                f"It needs a {by} of two numbers that ascend.",
            )
            return
    why = _unbroken([found for found in ranges if found], 0 if by == "range" else 1)
    if why:
        yield Fault("bad_tier_table", "tiered_pricing", table, why)
    bare = by == "range" and entry.get("mode", "") in _TEXT_MODES and entry.get("output_cost_per_token") is None
    if bare and any(row.get("output_cost_per_token") is None for row in table):
        yield Fault(
            "tier_without_output", "tiered_pricing", table, "A tier has no output rate: output costs nothing there."
        )


def _range(value: Any) -> tuple[Decimal, Decimal] | None:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(bound, Number) for bound in value):
        return None
    start, end = (decimal(bound) for bound in value)
    return (start, end) if start is not None and end is not None and 0 <= start < end else None


def _unbroken(ranges: Sequence[tuple[Decimal, Decimal]], step: int) -> str:
    """Why tiers do not follow each other from 0 or 1 on; step: from one's last to the next one's first."""
    if ranges[0][0] > step:
        return f"The first tier begins at {ranges[0][0]}: below that there is no price."
    for (start, end), (following, _) in pairwise(ranges):
        if following <= start:
            return f"The tiers descend: {following} comes after {start}."
        if following < end + step:
            return f"Two tiers overlap: one ends at {end}, the next begins at {following}."
        if following > end + step:
            return f"There is a gap between {end} and {following}."
    return ""


def _windows(block: Any) -> Iterator[Fault]:
    if block is None:
        return
    if not isinstance(block, dict):
        yield Fault("bad_window", "off_peak_pricing", block, "It is an object with rates, and hours_utc or windows.")
        return
    zone = block.get("weekday_timezone", "UTC")
    if not isinstance(zone, str) or not _is_zone(zone):
        yield Fault("bad_window", "off_peak_pricing.weekday_timezone", zone, "It is no time zone of the IANA.")
    windows = block.get("windows", [])
    if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
        yield Fault("bad_window", "off_peak_pricing.windows", windows, "It is a list of objects.")
        return
    if not windows and block.get("hours_utc") is None:
        yield Fault("bad_window", "off_peak_pricing", block, "It says nowhere when it holds: hours_utc or windows.")
    if block.get("hours_utc") is not None:
        yield from _hours("off_peak_pricing.hours_utc", block["hours_utc"])
    for place, window in enumerate(windows):
        path = f"off_peak_pricing.windows[{place}]"
        yield from _hours(f"{path}.hours_utc", window.get("hours_utc"))
        days = window.get("weekdays") or []
        if not isinstance(days, list) or not all(str(day).lower() in _WEEKDAYS for day in days):
            yield Fault(
                "bad_window", f"{path}.weekdays", days, "It is a list of days: 1 (Monday) to 7, or their names."
            )


def _hours(path: str, value: Any) -> Iterator[Fault]:
    spans = value if isinstance(value, list) else [value]
    if not spans or not all(isinstance(span, str) and _HOURS.fullmatch(span) for span in spans):
        yield Fault("bad_window", path, value, "It is HH:MM-HH:MM, or a list of such.")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
