"""Sums over windows in one statement: whole hours, days and months from the roll-ups, the rest from the requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing.covering import Piece, Read, cover, merged
from auditing.measures import BUCKET, MEASURES, TIMED, together
from auditing.rollups import BOOKED, DAY, HOUR, MONTH, WATERMARK
from auditing.windows import id_bounds
from controlplane.core.ids import NIL, lower_bound

GROUPS = {
    "tenant": "tenant_id",
    "app": "app_id",
    "branch": "branch_id",
    "user": "user_id",
    "api_key": "api_key_id",
    "provider": "provider",
    "model": "model",
    "day": "day",
    "month": "month",
    "hour": "hour",
}
_TIMES = {"day", "month", "hour"}
_OF_HOURS = {"tenant", "provider", "model"}  # what roll-ups by hour tell apart
_LONG = timedelta(days=62)  # of a longer window months are fewer rows than hours
_ZONES = 6  # groups of tenants of one time zone that are looked up on their own
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Ask:
    """A question: the sums of `measures` by `by`. zone: of days, None = the one that each request was booked in."""

    tenant_id: UUID | None
    start: datetime
    end: datetime
    by: tuple[str, ...]
    measures: tuple[str, ...]
    zone: str | None

    @property
    def sources(self) -> tuple[str, ...]:
        """Roll-ups that tell apart what is asked, coarsest first."""
        asked = set(self.by)
        subjects = asked - _OF_HOURS - _TIMES
        if "hour" in asked:
            return () if subjects or asked & {"day", "month"} else ("hour",)
        if "day" in asked:
            found = () if "user" in asked or (self.zone and "month" in asked) else ("day",)
            return found if subjects or "month" in asked else (*found, "hour")
        if "user" in asked:
            return ("month",)
        if subjects or "month" in asked:
            return ("month", "day")
        return ("month", "hour") if self.end - self.start >= _LONG else ("hour",)

    def sources_of(self, zone: ZoneInfo | None) -> tuple[str, ...]:
        """Those of them that are exact for tenants whose requests were all booked in the zone; None = in several."""
        found = [source for source in self.sources if source == "hour" or zone is not None]
        if "day" in self.by:
            days = ZoneInfo(self.zone) if self.zone else zone
            if days is None or (zone is not None and days.key != zone.key):
                found = [source for source in found if source != "day"]
            if days is None or not _whole_hours(days, self.start, self.end):
                found = [source for source in found if source != "hour"]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far requests are rolled up: all of transactions below xid; None = none is. booked: whether some of the window count
    at another instant than they were made. groups: tenants with roll-ups in the window, by the one zone of all they have."""

    xid: int | None
    booked: bool
    groups: tuple[tuple[ZoneInfo | None, tuple[UUID, ...]], ...]


def answers(cursor: CursorWrapper, asks: Sequence[Ask]) -> list[list[tuple[Any, ...]]]:
    """The rows that each question asks for, all out of one snapshot; they ask for the same measures.

    A row: the keys, the measures, and in the one row of a question without keys the calls in flight. How far the roll-up is
    decides on the statement, so it is read before, and again in the statement: where it has moved in between, all is asked
    anew, and in the end answered from the requests alone.
    """
    asks = [_within(ask) for ask in asks]
    rows: list[tuple[Any, ...]] = []
    for last in (False,) * _TRIES + (True,):
        marks = [_Mark(None, True, ())] * len(asks) if last else _marks(cursor, asks)
        cursor.execute(_statement(asks, marks), {"watermark": WATERMARK})
        rows = cursor.fetchall()
        if last or rows[0][0] == marks[0].xid:
            break
    found: list[list[tuple[Any, ...]]] = [[] for _ in asks]
    width = sum(len(ask.by) for ask in asks)
    for _, n, _, *row in rows:
        if n is not None:
            first, keys = sum(len(ask.by) for ask in asks[:n]), len(asks[n].by)
            found[n].append((*row[first : first + keys], *(row[width:-1] if keys else row[width:])))
    return found


def _within(ask: Ask) -> Ask:
    id_bounds(ask.start, ask.end)
    end = max(min(ask.end, _CEILING), _FLOOR + timedelta(microseconds=1))
    return replace(ask, start=min(max(ask.start, _FLOOR), end - timedelta(microseconds=1)), end=end)


# No request is of before or after: partitions are refused
_FLOOR = datetime(2019, 12, 1, tzinfo=UTC)
_CEILING = datetime(9000, 1, 1, tzinfo=UTC)


def _marks(cursor: CursorWrapper, asks: Sequence[Ask]) -> list[_Mark]:
    parts = sql.SQL(" UNION ALL ").join(_mark(n, ask) for n, ask in enumerate(asks))
    cursor.execute(_MARKS.format(parts), {"watermark": WATERMARK})
    marks = []
    for _, found in groupby(cursor.fetchall(), itemgetter(0)):
        rows = list(found)
        _, xid, booked, *_ = rows[0]
        groups: dict[ZoneInfo | None, list[UUID]] = {}
        for n, (*_, name, tenants) in enumerate(rows):
            if tenants is not None:
                groups.setdefault(_zone(name) if n < _ZONES else None, []).extend(tenants)
        marks.append(_Mark(xid, booked, tuple((zone, tuple(ids)) for zone, ids in groups.items())))
    return marks


def _mark(n: int, ask: Ask) -> sql.Composed:
    values = {
        "n": n, "tenant": ask.tenant_id, "start": ask.start, "end": ask.end,
        "high": id_bounds(ask.start, ask.end)[1], "zoned": ask.sources not in ((), ("hour",)),
        "first": ask.start.astimezone(UTC).date() - timedelta(days=1),
        "last": ask.end.astimezone(UTC).date() + timedelta(days=1),
    }  # fmt: skip
    return _MARK.format(**{name: sql.Literal(value) for name, value in values.items()})


# Tenants with requests in the window that are rolled up, by zone, the zone of most tenants first; '' = they had several.
_MARKS = sql.SQL("SELECT * FROM ({}) marks ORDER BY n, cardinality(tenants) DESC NULLS LAST, time_zone")
_MARK = sql.SQL("""
    SELECT {n} AS n, w.xid, w.booked, z.time_zone, z.tenants FROM (
        SELECT (SELECT xid FROM cp_auditing_ingestwatermark WHERE name = %(watermark)s) AS xid,
            EXISTS (SELECT FROM cp_auditing_inferencerequest WHERE ({tenant}::uuid IS NULL OR tenant_id = {tenant})
                AND id < {high} AND booked_at >= {start} AND booked_at < {end}) AS booked
    ) w LEFT JOIN (
        SELECT time_zone, array_agg(tenant_id) AS tenants FROM (
            SELECT tenant_id,
                CASE WHEN {zoned} AND min(time_zone) = max(time_zone) THEN min(time_zone) ELSE '' END AS time_zone
            FROM cp_auditing_usagezone WHERE ({tenant}::uuid IS NULL OR tenant_id = {tenant})
                AND last_on >= {first} AND first_on <= {last}
            GROUP BY tenant_id
        ) of_tenants GROUP BY time_zone
    ) z ON true
""")


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):  # known to the database alone
        return None


def _whole_hours(zone: ZoneInfo, start: datetime, end: datetime) -> bool:
    """Whether local days begin at whole UTC hours all the time; no zone keeps another offset for less than a week."""
    weeks = range(0, (end - start).days + 7, 7)
    offsets = {(start + timedelta(days=days)).astimezone(zone).utcoffset() for days in weeks}
    return all(offset is not None and not offset % timedelta(hours=1) for offset in offsets)


def _statement(asks: Sequence[Ask], marks: Sequence[_Mark]) -> sql.Composed:
    """Rows of: how far the roll-up is, the question's number and the row's place in its answer, the keys of all questions, of
    which others than its own are NULL, the measures, the calls in flight."""
    parts = (_answer(asks, n, mark) for n, mark in enumerate(marks))
    return _ANSWERS.format(sql.SQL(" UNION ALL ").join(parts))


_ANSWERS = sql.SQL("""
    SELECT w.xid, answers.* FROM (SELECT (SELECT xid FROM cp_auditing_ingestwatermark WHERE name = %(watermark)s) AS xid) w
    LEFT JOIN ({}) answers ON true ORDER BY ask, place
""")


def _answer(asks: Sequence[Ask], number: int, mark: _Mark) -> sql.Composed:
    ask = asks[number]
    names = [sql.Identifier(f"key_{n}") for n in range(len(ask.by))]
    keys: list[sql.Composable] = []
    for n, other in enumerate(asks):
        keys += names if n == number else [sql.SQL("NULL::" + _TYPES.get(name, "uuid")) for name in other.by]
    group: sql.Composable = sql.SQL("")
    order: sql.Composable = group
    if ask.by:
        group = sql.SQL("GROUP BY {}").format(sql.SQL(", ").join(names))
        most = [] if _TIMES & set(ask.by) else [sql.SQL("sum(requests) DESC")]
        order = sql.SQL("ORDER BY {}").format(sql.SQL(", ").join([*most, *names]))
    return _ANSWER.format(
        number=sql.Literal(number),
        order=order,
        keys=sql.SQL("").join(sql.SQL("{}, ").format(key) for key in keys),
        sums=sql.SQL(", ").join(together(name) for name in ask.measures),
        flying=sql.SQL("NULL::bigint")
        if ask.by
        else _FLYING.format(*map(sql.Literal, (ask.tenant_id, ask.start, ask.end))),
        parts=sql.SQL(" UNION ALL ").join(_parts(ask, mark)),
        group=group,
    )


_TYPES = {"provider": "text", "model": "text", "day": "date", "month": "date", "hour": "timestamptz"}
_ANSWER = sql.SQL(
    "SELECT {number} AS ask, row_number() OVER ({order}) AS place, {keys}{sums}, {flying} FROM ({parts}) parts {group}"
)
# Of the same snapshot: a call that ends meanwhile is in flight or finished, and never neither.
_FLYING = sql.SQL(
    "(SELECT count(*) FROM cp_auditing_inflightrequest WHERE tenant_id = {} AND created_at >= {} AND created_at < {})"
)


def _parts(ask: Ask, mark: _Mark) -> list[sql.Composable]:
    """The parts of the answer: pieces of the window that are rolled up, or read where they are not, and what came since."""
    if mark.xid is None:
        return _raw(ask, mark, ask.start, ask.end, None, sql.SQL("true"), None)
    parts = _raw(ask, mark, ask.start, ask.end, None, sql.SQL("xid >= {}").format(sql.Literal(mark.xid)), None)
    pieces: dict[ZoneInfo | None, list[tuple[Piece, tuple[UUID, ...]]]] = {}
    for zone, members in mark.groups:
        for piece in cover(ask.start, ask.end, ask.sources_of(zone), zone or ZoneInfo("UTC")):
            local = zone if piece.source == "hour" and "day" in ask.by else None
            pieces.setdefault(local, []).append((piece, members))
    everybody = sum(len(members) for _, members in mark.groups)
    below = sql.SQL("xid < {}").format(sql.Literal(mark.xid))
    for local, found in pieces.items():
        for read in merged(found):
            among = None if len(read.tenants) == everybody else read.tenants
            if read.source == "raw":
                parts += _raw(ask, mark, read.low, read.high, among, below, local)
            else:
                parts.append(_rolled(ask, read, among, local))
    return parts


def _raw(
    ask: Ask, mark: _Mark, start: datetime, end: datetime, among: Sequence[UUID] | None, xid: sql.Composable,
    zone: ZoneInfo | None,
) -> list[sql.Composable]:  # fmt: skip
    """Requests that count at start <= instant < end, by their ids; those booked at another instant on their own."""
    low, high = id_bounds(start, end)
    values = {"low": low, "high": high, "start": start, "end": end}
    literals = {name: sql.Literal(value) for name, value in values.items()}
    wheres = [_MADE.format(**literals), *([_BOOKED.format(**literals)] if mark.booked else [])]
    return [
        _PART.format(
            keys=_keys(ask, "raw", zone),
            measures=sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(sql.SQL(MEASURES[name]), sql.Identifier(name)) for name in ask.measures
            ),
            table=sql.Identifier("cp_auditing_inferencerequest"),
            where=sql.SQL(" AND ").join([*_tenants(ask, among), where, xid]),
            group=_group(ask),
        )
        for where in wheres
    ]


_MADE = sql.SQL("booked_at IS NULL AND id >= {low} AND id < {high} AND created_at >= {start} AND created_at < {end}")
_BOOKED = sql.SQL("booked_at >= {start} AND booked_at < {end} AND id < {high}")
_PART = sql.SQL("(SELECT {keys}{measures} FROM {table} WHERE {where} {group})")


def _rolled(ask: Ask, read: Read, among: Sequence[UUID] | None, zone: ZoneInfo | None) -> sql.Composable:
    table = {"hour": HOUR, "day": DAY, "month": MONTH}[read.source]
    if read.source == "hour":
        low, high = lower_bound(read.low), lower_bound(read.high)
        span = sql.SQL("id >= {} AND id < {}").format(sql.Literal(low), sql.Literal(high))
    else:
        span = sql.SQL("{0} >= {1} AND {0} < {2}").format(
            sql.Identifier(table.period), sql.Literal(read.low), sql.Literal(read.high)
        )
    return _PART.format(
        keys=_keys(ask, read.source, zone),
        measures=sql.SQL(", ").join(map(sql.Identifier, ask.measures)),
        table=sql.Identifier(table.name),
        where=sql.SQL(" AND ").join([*_tenants(ask, among), span]),
        group=sql.SQL(""),
    )


def _tenants(ask: Ask, among: Sequence[UUID] | None) -> list[sql.Composable]:
    if ask.tenant_id is not None:
        return [sql.SQL("tenant_id = {}").format(sql.Literal(ask.tenant_id))]
    if among is not None:
        return [sql.SQL("tenant_id = ANY ({})").format(sql.Literal(list(among)))]
    return []


def _group(ask: Ask) -> sql.Composable:
    if not ask.by:
        return sql.SQL("")
    return sql.SQL("GROUP BY {}").format(sql.SQL(", ").join(sql.SQL(str(n + 1)) for n in range(len(ask.by))))


def _keys(ask: Ask, source: str, zone: ZoneInfo | None) -> sql.Composable:
    """What a row is grouped by, each followed by a comma. zone: of days out of hours, where none is asked for."""
    instant = sql.SQL(BOOKED) if source == "raw" else sql.Identifier("hour")
    local = ask.zone or (zone.key if zone else None)
    times: dict[str, sql.Composable] = {
        "hour": sql.SQL("date_trunc('hour', {}, 'UTC')").format(instant),
        "day": sql.SQL({"raw": "local_date", "day": "day"}.get(source, "NULL")),
        "month": sql.SQL(_MONTHS.get(source, "NULL")),
    }
    if (ask.zone is not None and source == "raw") or source == "hour":
        times["day"] = sql.SQL("({} AT TIME ZONE {})::date").format(instant, sql.Literal(local))
    found = []
    for n, name in enumerate(ask.by):
        column = times.get(name) or sql.SQL(GROUPS[name])
        if name not in _TIMES | _OF_HOURS:
            column = sql.SQL("nullif({}, {})").format(column, sql.Literal(NIL))
        found.append(sql.SQL("{} AS {}, ").format(column, sql.Identifier(f"key_{n}")))
    return sql.SQL("").join(found)


_MONTHS = {
    "raw": "date_trunc('month', local_date::timestamp)::date",
    "day": "date_trunc('month', day::timestamp)::date",
    "month": "month",
}


def exact_bounds(cursor: CursorWrapper, ask: Ask) -> list[int | None]:
    """The bounds from the requests themselves: the last bucket of a roll-up has none."""
    low, high = id_bounds(ask.start, ask.end)
    cursor.execute(_BOUNDS, {"tenant": ask.tenant_id, "start": ask.start, "end": ask.end, "low": low, "high": high})
    [bounds] = cursor.fetchone()
    return bounds or [None, None, None]


_BOUNDS = sql.SQL("""
    SELECT percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY 1::bigint << {bucket})
    FROM cp_auditing_inferencerequest WHERE tenant_id = %(tenant)s AND {timed} AND (
        booked_at IS NULL AND id >= %(low)s AND id < %(high)s AND created_at >= %(start)s AND created_at < %(end)s
        OR booked_at >= %(start)s AND booked_at < %(end)s)
""").format(bucket=sql.SQL(BUCKET), timed=sql.SQL(TIMED))
