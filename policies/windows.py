"""Windows of counters: which stretch of time an instant belongs to. Pure: no ORM, no clock; all instants are aware.

Up to an hour they lie on the grid of UTC. From a day on they begin at midnight of the tenant's zone. The windows of one
kind tile time: every instant belongs to exactly one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from policies.errors import PolicyError

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GRID = {"1s": 1, "10s": 10, "1m": 60, "1h": 3_600, "hour": 3_600}
_LOCAL = {"1d": "day", "day": "day", "week": "week", "month": "month"}
_ENDLESS = ("total", "none")
FIRST, LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Instants that can be told in every zone, with a day before and after them: FIRST <= at < LAST."""
KINDS = (*_GRID, *_LOCAL, *_ENDLESS)
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Period:
    """One window, start <= at < end, in UTC; None = no bound.

    label: its name among those of its kind: the local date of its start, up to an hour its first instant in UTC, empty
    for a window without bounds. A tenant that changes its zone keeps the labels, and so the counts, of its months.
    """

    start: datetime | None
    end: datetime | None
    label: str

    def holds(self, at: datetime) -> bool:
        return (self.start is None or self.start <= at) and (self.end is None or at < self.end)


_ALWAYS = Period(None, None, "")
_last: dict[tuple[str, str, int], Period] = {}


def check_instant(at: datetime) -> datetime:
    """The instant, if policies can be asked about it. Raises ValueError without a zone, PolicyError("time_out_of_range")."""
    if at.tzinfo is None:
        raise ValueError("at has no time zone: give an aware datetime.")
    if not FIRST <= at < LAST:
        raise PolicyError("time_out_of_range", http_status=400)
    return at


def window(kind: str, zone: str, at: datetime, anchor: int = 1) -> Period:
    """The window of `kind` that `at` belongs to.

    kind: `1s 10s 1m 1h 1d none` of rate limits, `hour day week month total` of budgets; none and total have no bounds.
    zone: IANA name. anchor: the day that a week (1 = Monday to 7) or a month (1 to 28) begins on; else it means nothing.
    Raises PolicyError("unknown_time_zone"), ValueError for another kind.
    """
    asked = (kind, zone, anchor)
    found = _last.get(asked)
    if found is None or not found.holds(at):
        found = _find(kind, zone, at, anchor)
        if len(_last) >= _REMEMBERED:
            _last.clear()
        _last[asked] = found
    return found


def _find(kind: str, zone: str, at: datetime, anchor: int) -> Period:
    if kind in _ENDLESS:
        return _ALWAYS
    if kind in _GRID:
        width = _GRID[kind]
        start = _EPOCH + timedelta(seconds=(at - _EPOCH) // timedelta(seconds=width) * width)
        return Period(start, start + timedelta(seconds=width), f"{start:%Y-%m-%dT%H:%M:%SZ}")
    if kind not in _LOCAL:
        raise ValueError(f"There is no window {kind}: it is one of {', '.join(KINDS)}.")
    try:
        known = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise PolicyError("unknown_time_zone") from None
    first, after = _dates(_LOCAL[kind], _day_of(known, at), anchor)
    return Period(midnight(known, first), midnight(known, after), first.isoformat())


def _dates(kind: str, day: date, anchor: int) -> tuple[date, date]:
    """The first date of the window that `day` belongs to, and that of the one after it."""
    if kind == "day":
        return day, day + _DAY
    if kind == "week":
        first = day - _DAY * ((day.isoweekday() - anchor) % 7)
        return first, first + 7 * _DAY
    first = day.replace(day=anchor)
    if first > day:
        first = (first.replace(day=1) - _DAY).replace(day=anchor)
    return first, (first.replace(day=1) + 31 * _DAY).replace(day=anchor)


def _day_of(zone: ZoneInfo, at: datetime) -> date:
    """The date whose day `at` belongs to: usually its local date, but for what a clock set back past midnight repeats."""
    day = at.astimezone(zone).date()
    while at >= midnight(zone, day + _DAY):
        day += _DAY
    return day


@lru_cache(maxsize=4_096)
def midnight(zone: ZoneInfo, day: date) -> datetime:
    """When `day` begins in `zone`, in UTC: at 00:00, the earlier one of two.

    Where a change of the clock skips 00:00, at the first instant after the gap.
    """
    local = datetime.combine(day, time(), zone)
    found = local.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return found
    return next(offset_changes(zone, local.replace(fold=1).astimezone(UTC), found))


def offset_changes(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Instants, to the second, at which the zone's offset changes in (after, until]; never two in one hour."""
    low = after.astimezone(UTC).replace(microsecond=0)
    while low < until:
        high = min(low + _HOUR, until.astimezone(UTC) + _SECOND)
        before = low.astimezone(zone).utcoffset()
        if high.astimezone(zone).utcoffset() != before:
            start, end = low, high
            while end - start > _SECOND:
                middle = start + timedelta(seconds=(end - start) // _SECOND // 2)
                if middle.astimezone(zone).utcoffset() == before:
                    start = middle
                else:
                    end = middle
            yield end
        low = high
