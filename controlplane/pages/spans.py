"""Spans of time that a page shows: read from its address, in the days and hours of one time zone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from controlplane.core.partitions import next_month

WINDOWS = {"24h": ("24 hours", 1), "7d": ("7 days", 7), "30d": ("30 days", 30)}
MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class Span:
    """start <= t < end, aware. name: for people.

    every: "hour", "day" or "month" of the zone; "" = by hours if it is at most two days, else by days.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo
    name: str
    window: str = ""
    every: str = ""

    @property
    def hourly(self) -> bool:
        return self.every == "hour" if self.every else self.end - self.start <= timedelta(days=2)

    def before(self, present: datetime) -> tuple[datetime, datetime]:
        """The span of the same length just before; of one that is not over, the same part, so that it is no fall."""
        begin = self.start - (self.end - self.start)
        return begin, begin + (min(self.end, max(present, self.start + timedelta(hours=1))) - self.start)

    def periods(self) -> list[datetime | date]:
        """Hours (UTC), local days or the first days of local months of the span, oldest first."""
        if self.hourly:
            first = self.start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            hours = int((self.end - first) / timedelta(hours=1) + 0.999999)
            return [first + timedelta(hours=n) for n in range(hours)]
        first_day, last = (
            self.start.astimezone(self.zone).date(),
            (self.end - timedelta(microseconds=1)).astimezone(self.zone),
        )
        days = [first_day + timedelta(days=n) for n in range((last.date() - first_day).days + 1)]
        return list(dict.fromkeys(day.replace(day=1) for day in days)) if self.every == "month" else list(days)

    def bounds(self, period: datetime | date) -> tuple[datetime, datetime]:
        """Start and end of one period, as far as it lies in the span: hours of UTC begin within those of some zones."""
        if isinstance(period, datetime):
            start, end = period, period + timedelta(hours=1)
        else:
            after = next_month(period) if self.every == "month" else period + timedelta(days=1)
            start, end = _midnight(period, self.zone), _midnight(after, self.zone)
        return max(start, self.start), min(end, self.end)

    def label(self, period: datetime | date) -> str:
        if isinstance(period, datetime):
            local = period.astimezone(self.zone)
            return f"{local.day} {local:%b %H:%M}" if self.end - self.start > timedelta(hours=25) else f"{local:%H:%M}"
        return f"{period:%b}’{period:%y}" if self.every == "month" else f"{period.day} {period:%b}"


def read_span(
    first: str,
    last: str,
    window: str,
    zone: ZoneInfo,
    present: datetime,
    windows: Mapping[str, tuple[str, int]] = WINDOWS,
) -> tuple[Span, str]:
    """The span asked for, and a sentence if it could not be understood.

    first, last: ISO dates, both included, or "". window: one of `windows`, which counts without dates; 7d if it is none.
    """
    notice = ""
    if first or last:
        try:
            start = date.fromisoformat(first or last)
            end = date.fromisoformat(last or first)
            if start <= end and (end - start).days < MAX_DAYS and date(2020, 1, 1) <= start and end < date(9999, 1, 1):
                name = _day(start) if start == end else f"{_day(start)} to {_day(end)}"
                return Span(_midnight(start, zone), _midnight(end + timedelta(days=1), zone), zone, name), ""
            notice = (
                f"From {first} to {last} is no span of at most {MAX_DAYS} days since 2020. The last 7 days are shown."
            )
        except ValueError:
            notice = "A date is written as 2026-11-21. The last 7 days are shown."
    if window not in windows:
        window = "7d"
    label, days = windows[window]
    if days == 1:
        end_at = present.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        return Span(end_at - timedelta(hours=24), end_at, zone, f"Last {label}", window), notice
    today = present.astimezone(zone).date()
    begin = _midnight(today - timedelta(days=days - 1), zone)
    return Span(begin, _midnight(today + timedelta(days=1), zone), zone, f"Last {label}", window), notice


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
