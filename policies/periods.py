"""When a policy holds: validity bounds and weekly schedules; windows of counters are `window`. Pure: no ORM, no clock.

All instants are aware. The database answers the same question with cp_policies_schedule_holds
(sql/0001_schedule.up.sql); a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Self
from zoneinfo import ZoneInfo, available_timezones

from policies.errors import PolicyError
from policies.windows import FIRST, LAST, Period, check_instant, offset_changes, window

__all__ = (
    "FIRST", "LAST", "WEEKDAYS", "Period", "Schedule", "Window", "check_instant", "known_time_zone", "next_change", "window",
)  # fmt: skip

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # "localtime" is whatever this machine is set to: the database and a second process may mean another zone by it.
    return frozenset(available_timezones() - {"localtime"})


def known_time_zone(name: str) -> bool:
    """Whether `name` is an IANA zone, in its exact spelling."""
    return name in _zones()


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hours of a week in a zone, half-open.

    days: 0 = Monday. end < start crosses midnight and belongs to its start day; equal = the whole of each day. The
    local wall time decides: a time that a clock change skips never comes, one that it repeats holds twice.
    """

    zone: ZoneInfo
    days: frozenset[int]
    start: time
    end: time

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> Self:
        """Read a stored `{tz, days, start, end}`. Raises PolicyError("unknown_time_zone"): this machine lacks it."""
        if not known_time_zone(stored["tz"]):
            raise PolicyError("unknown_time_zone")
        return cls(
            zone=ZoneInfo(stored["tz"]),
            days=frozenset(WEEKDAYS.index(day) for day in stored["days"]),
            start=time.fromisoformat(stored["start"]),
            end=time.fromisoformat(stored["end"]),
        )

    def holds(self, at: datetime) -> bool:
        local = at.astimezone(self.zone)
        wall, today = local.time(), local.weekday()
        if self.start == self.end:
            return today in self.days
        if self.start < self.end:
            return today in self.days and self.start <= wall < self.end
        return (today in self.days and wall >= self.start) or ((today - 1) % 7 in self.days and wall < self.end)

    def edges(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Every instant in (after, until] at which `holds` can change, and some at which it cannot; in no order.

        Changes of the zone's offset count: a gap can jump over an edge, a repeated hour can jump back before one.
        """
        day = after.astimezone(self.zone).date() - _DAY
        last = until.astimezone(self.zone).date() + _DAY
        while day <= last:
            for wall in (time(), self.start, self.end):
                for fold in (0, 1):
                    yield datetime.combine(day, wall.replace(fold=fold), self.zone).astimezone(UTC)
            day += _DAY
        yield from offset_changes(self.zone, after, until)


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which one policy applies: valid_from <= at < valid_until, and its schedule holds. None = no bound."""

    valid_from: datetime | None = None
    valid_until: datetime | None = None
    schedule: Schedule | None = None

    def why_not(self, at: datetime) -> str:
        """ "" if the policy applies at `at`; else expired, not_yet_valid or out_of_schedule, the first that is true."""
        if self.valid_until is not None and at >= self.valid_until:
            return "expired"
        if self.valid_from is not None and at < self.valid_from:
            return "not_yet_valid"
        if self.schedule is not None and not self.schedule.holds(at):
            return "out_of_schedule"
        return ""

    def edges(self, after: datetime, until: datetime) -> Iterator[datetime]:
        if self.valid_from is not None:
            yield self.valid_from
        if self.valid_until is not None:
            yield self.valid_until
        if self.schedule is not None:
            yield from self.schedule.edges(after, until)


def next_change(windows: Iterable[Window], at: datetime) -> datetime:
    """The first instant within 24 hours after `at` at which a window opens or closes, else `at` + 24 hours."""
    found = at.astimezone(UTC) + _DAY
    for bounds in windows:
        applies = not bounds.why_not(at)
        for instant in sorted(edge for edge in bounds.edges(at, found) if at < edge < found):
            if (not bounds.why_not(instant)) != applies:
                found = instant
                break
    return found
