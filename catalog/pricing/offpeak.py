"""Hours in which a price has other rates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from catalog.errors import BadRate
from catalog.pricing.prices import Rate, read_row

_FIELD = "off_peak_pricing"
_HOURS = re.compile(r"\s*([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)\s*")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EVERY_DAY = frozenset(range(1, 8))


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of a UTC day, start in, end out; start > end passes midnight, equal ones are the whole day. days: ISO."""

    start: int
    end: int
    days: frozenset[int]

    def holds(self, minute: int, day: int) -> bool:
        if day not in self.days:
            return False
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True, slots=True)
class OffPeak:
    """Rates that replace the usual ones while a window is open. calendar: where the weekday is looked up."""

    rates: Mapping[str, Rate]
    windows: tuple[Window, ...]
    calendar: tzinfo

    def is_open(self, at: datetime) -> bool:
        utc = at.astimezone(UTC)
        minute, day = utc.hour * 60 + utc.minute, at.astimezone(self.calendar).isoweekday()
        return any(window.holds(minute, day) for window in self.windows)


def read_off_peak(block: Any) -> OffPeak | None:
    """The off-peak block of a price; None if there is none. Raises BadRate for hours or days that are none."""
    if block is None:
        return None
    if not isinstance(block, Mapping):
        raise BadRate(_FIELD, block)
    windows = _windows(block.get("hours_utc"), _EVERY_DAY)
    items = block.get("windows") or ()
    if not isinstance(items, list | tuple):
        raise BadRate(f"{_FIELD}.windows", items)
    for item in items:
        if not isinstance(item, Mapping):
            raise BadRate(f"{_FIELD}.windows", item)
        windows += _windows(item.get("hours_utc"), _days(item.get("weekdays")))
    return OffPeak(read_row(block, _FIELD), windows, _calendar(block.get("weekday_timezone")))


def _windows(hours: Any, days: frozenset[int]) -> tuple[Window, ...]:
    texts = [hours] if isinstance(hours, str) else hours or ()
    if not isinstance(texts, list | tuple):
        raise BadRate(f"{_FIELD}.hours_utc", hours)
    return tuple(_window(text, days) for text in texts)


def _window(text: Any, days: frozenset[int]) -> Window:
    found = _HOURS.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise BadRate(f"{_FIELD}.hours_utc", text)
    start_hour, start, end_hour, end = map(int, found.groups())
    return Window(start_hour * 60 + start, end_hour * 60 + end, days)


def _days(weekdays: Any) -> frozenset[int]:
    if weekdays is None:
        return _EVERY_DAY
    if not isinstance(weekdays, list | tuple):
        raise BadRate(f"{_FIELD}.weekdays", weekdays)
    return frozenset(map(_day, weekdays))


def _day(weekday: Any) -> int:
    """1 for Monday, given as number, text of a number or English name, short or long."""
    text = "" if isinstance(weekday, bool) else str(weekday).strip().lower()
    if text in {"1", "2", "3", "4", "5", "6", "7"}:
        return int(text)
    for number, name in enumerate(_DAYS, 1):
        if len(text) >= 3 and name.startswith(text):
            return number
    raise BadRate(f"{_FIELD}.weekdays", weekday)


def _calendar(name: Any) -> tzinfo:
    if name is None or name == "":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, TypeError, ValueError, OSError):
        raise BadRate(f"{_FIELD}.weekday_timezone", name) from None
