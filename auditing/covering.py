"""Which roll-ups answer for a span of time: whole months and days of a time zone, whole hours, and the requests for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a span, start <= instant < end, and what answers for it: `raw`, `hour`, `day` or `month`.

    first, last: the local dates of days and months, first <= date < last.
    """

    source: str
    start: datetime
    end: datetime
    first: date | None = None
    last: date | None = None


def cover(start: datetime, end: datetime, sources: Sequence[str], zone: ZoneInfo) -> list[Piece]:
    """The pieces of start <= instant < end, in order. sources: coarsest first; a finer one takes what is left at the ends.

    Every instant is in one piece, and a piece of a roll-up has whole hours, or whole dates of the zone.
    """
    if start >= end:
        return []
    if not sources:
        return [Piece("raw", start, end)]
    source, *finer = sources
    whole = _hours(start, end) if source == "hour" else _dates(source, start, end, zone)
    if whole is None:
        return cover(start, end, finer, zone)
    return [*cover(start, whole.start, finer, zone), whole, *cover(whole.end, end, finer, zone)]


@dataclass(frozen=True, slots=True)
class Read:
    """What is read of a source for some tenants: low <= at < high, local dates of `day` and `month`, else instants."""

    source: str
    low: Any
    high: Any
    tenants: tuple[UUID, ...]


def merged(pieces: Iterable[tuple[Piece, tuple[UUID, ...]]]) -> list[Read]:
    """The pieces of groups of tenants, each span once for all that have it: so most of a table is read for all of them at once.

    No tenant is in two groups. Groups differ at the ends of a window, where the midnights of their zones do.
    """
    found: dict[str, list[Read]] = {}
    for piece, tenants in pieces:
        low, high = (piece.first, piece.last) if piece.first and piece.last else (piece.start, piece.end)
        found.setdefault(piece.source, []).append(Read(piece.source, low, high, tenants))
    reads: list[Read] = []
    for source, given in found.items():
        spans: list[Read] = []
        for low, high in pairwise(sorted({edge for one in given for edge in (one.low, one.high)})):
            tenants = tuple(id for one in given if one.low <= low and high <= one.high for id in one.tenants)
            if spans and spans[-1].high == low and spans[-1].tenants == tenants:
                spans[-1] = replace(spans[-1], high=high)
            else:
                spans.append(Read(source, low, high, tenants))
        reads += [one for one in spans if one.tenants]
    return reads


def _hours(start: datetime, end: datetime) -> Piece | None:
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if first < start:
        first += _HOUR
    last = end.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return Piece("hour", first, last) if first < last else None


def _dates(source: str, start: datetime, end: datetime, zone: ZoneInfo) -> Piece | None:
    # A day on the way, so that a time zone that skips or doubles a midnight is found to do so
    first = _first(source, start.astimezone(zone).date() - _DAY)
    while midnight(first, zone) < start:
        first = _next(source, first)
    last = _first(source, end.astimezone(zone).date() + _DAY)
    while midnight(last, zone) > end:
        last = _first(source, last - _DAY)
    if first >= last:
        return None
    return Piece(source, midnight(first, zone), midnight(last, zone), first, last)


def _first(source: str, on: date) -> date:
    return on.replace(day=1) if source == "month" else on


def _next(source: str, on: date) -> date:
    return _first(source, on + (timedelta(days=31) if source == "month" else _DAY))


def midnight(on: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local date, UTC."""
    return datetime.combine(on, time(), zone).astimezone(UTC)
