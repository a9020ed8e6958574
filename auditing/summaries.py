"""Usage of a local month: its summaries, and what no roll-up has read yet, so that they are always the sum of the requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing import rollups, watermarks
from auditing.errors import InvalidMonth, MonthClosed, MonthRetired
from auditing.measures import BUCKETS, MEASURES
from controlplane.core.ids import NIL, lower_bound
from controlplane.core.partitions import FIRST_MONTH, next_month

_EAST, _WEST = timedelta(hours=14), timedelta(hours=12)
"""How far local midnight is before and after that of UTC, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The sums of a roll-up: see `auditing.models.RollUp`. cost: US dollars."""

    requests: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: int = 0
    unpriced: int = 0
    estimated: int = 0
    adjustments: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = Decimal(0)
    estimated_cost: Decimal = Decimal(0)
    latency_n: int = 0
    latency_sum_ms: int = 0
    latency_max_ms: int | None = None
    latency_hist: tuple[int, ...] = (0,) * BUCKETS

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Counts) -> Counts:
        return _combined(self, other, 1)

    def __sub__(self, other: Counts) -> Counts:
        """By how much this is more. latency_max_ms: this one's, None if both have the same."""
        return _combined(self, other, -1)

    def __bool__(self) -> bool:
        return self != Counts()


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """Usage of a month by one app, branch, key, user, provider and model; an absent subject is None."""

    app_id: UUID | None
    branch_id: UUID | None
    api_key_id: UUID | None
    user_id: UUID | None
    provider: str
    model: str
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A local month of a tenant. month: its first day. closed_at: None while it is open. reconciled_at: when it was last seen
    to equal its requests in every sum, None = never."""

    month: date
    totals: Counts
    closed_at: datetime | None
    reconciled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlySummary(Month):
    rows: list[SummaryRow]


def first_of(year: int, month: int) -> date:
    """The first day of a month of the logs. Raises InvalidMonth."""
    if type(year) is int and type(month) is int and 1 <= month <= 12 and FIRST_MONTH.year <= year <= 9998:
        return date(year, month, 1)
    raise InvalidMonth(message=f"{year}-{month} is no month of the logs: they begin in {FIRST_MONTH:%Y-%m}.")


def monthly(tenant_id: UUID, month: date, *, using: str) -> MonthlySummary:
    """See UsageSummary.objects.monthly."""
    rows = _rows(tenant_id, month, using)
    totals = _total(row.counts for row in rows)
    return MonthlySummary(month=month, totals=totals, rows=rows, **_states(tenant_id, using).get(month, _OPEN))


def months(tenant_id: UUID, *, using: str) -> list[Month]:
    """See UsageSummary.objects.months."""
    states, found = _states(tenant_id, using), dict[date, Counts]()
    for month, *row in _summed(tenant_id, _ALL_MONTHS, {}, using):
        found[month] = found.get(month, Counts()) + _counts(row)
    return [
        Month(month=month, totals=found.get(month, Counts()), **states.get(month, _OPEN))
        for month in sorted({*found, *(month for month, state in states.items() if state["closed_at"])}, reverse=True)
    ]


def refresh(tenant_id: UUID, month: date, *, using: str) -> Counts:
    """See UsageSummary.objects.refresh."""
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        span = watermarks.span(cursor, rollups.WATERMARK)  # no roll-up, and no closing, until the end
        check_open(cursor, tenant_id, month)
        check_not_retired(cursor, tenant_id, month)
        params = {**bounds(tenant_id, month), "below": span.low}
        cursor.execute(_STORED, params)
        before = _total(map(_counts, cursor.fetchall()))
        cursor.execute(_CLEARED, params)
        cursor.execute(_REBUILT, params)
        cursor.execute(_STORED, params)
        return _total(map(_counts, cursor.fetchall())) - before


def check_open(cursor: CursorWrapper, tenant_id: UUID, month: date) -> None:
    """Raises MonthClosed."""
    cursor.execute("SELECT cp_month_closed(%s, %s)", [tenant_id, month])
    if cursor.fetchone()[0]:
        raise MonthClosed(month)


def check_not_retired(cursor: CursorWrapper, tenant_id: UUID, month: date) -> None:
    """Raises MonthRetired where requests of the month are gone; its first and last hours may lie in the UTC months beside it."""
    touched = [(month - timedelta(days=1)).replace(day=1), month, next_month(month)]
    cursor.execute(
        "SELECT count(*) FROM cp_auditing_retentionrecord WHERE kind = 'retired' AND log = 'inferencerequest' "
        "AND tenant_id = %s AND month = ANY (%s)",
        [tenant_id, touched],
    )
    if cursor.fetchone()[0]:
        raise MonthRetired(month)


def bounds(tenant_id: UUID, month: date) -> dict[str, Any]:
    """Parameters of the statements about a month of a tenant. starts, ends: of the month in all time zones."""
    end = next_month(month)
    starts = datetime.combine(month, time(), UTC) - _EAST
    ends = datetime.combine(end, time(), UTC) + _WEST
    return {
        "tenant": tenant_id, "month": month, "next": end, "starts": starts, "ends": ends,
        "low": lower_bound(starts), "high": lower_bound(ends),
    }  # fmt: skip


_DIMENSIONS = ("app_id", "branch_id", "api_key_id", "user_id", "provider", "model")
_KEYS = sql.SQL(", ").join(map(sql.Identifier, _DIMENSIONS))
_NAMES = sql.SQL(", ").join(map(sql.Identifier, MEASURES))
_SUMS = sql.SQL(", ").join(map(sql.SQL, MEASURES.values()))
_GROUPS = sql.SQL(", ").join(map(rollups.dimension, _DIMENSIONS))

# A statement is one snapshot: the summaries and the watermark of its time, and raw rows from a watermark that was read before,
# as a number that the planner knows. Where it moved in between, the statement is sent again.
_MONTH = sql.SQL("""
    SELECT (SELECT xid FROM cp_auditing_ingestwatermark WHERE name = 'rollup'), {keys}, {names}
    FROM cp_auditing_usagesummary WHERE tenant_id = %(tenant)s AND month = %(month)s
    UNION ALL
    SELECT (SELECT xid FROM cp_auditing_ingestwatermark WHERE name = 'rollup'), {groups}, {sums}
    FROM cp_auditing_inferencerequest
    WHERE tenant_id = %(tenant)s AND xid >= %(mark)s AND local_date >= %(month)s AND local_date < %(next)s
        AND NOT cp_month_closed(%(tenant)s, %(month)s)
    GROUP BY 2, 3, 4, 5, 6, 7
""").format(keys=_KEYS, names=_NAMES, groups=_GROUPS, sums=_SUMS)
_ALL_MONTHS = sql.SQL("""
    SELECT (SELECT xid FROM cp_auditing_ingestwatermark WHERE name = 'rollup'), month, {names}
    FROM cp_auditing_usagesummary WHERE tenant_id = %(tenant)s
    UNION ALL
    SELECT (SELECT xid FROM cp_auditing_ingestwatermark WHERE name = 'rollup'), {month}, {sums}
    FROM cp_auditing_inferencerequest WHERE tenant_id = %(tenant)s AND xid >= %(mark)s
    GROUP BY 2 HAVING NOT cp_month_closed(%(tenant)s, {month})
""").format(names=_NAMES, sums=_SUMS, month=sql.SQL(rollups.MONTH.of_request))

# Requests below a watermark that count in a month. What was booked later than it was accepted stands anywhere before its month;
# a partial index finds it.
_OF_MONTH = sql.SQL("""
    (SELECT * FROM cp_auditing_inferencerequest
     WHERE tenant_id = %(tenant)s AND id >= %(low)s AND id < %(high)s AND booked_at IS NULL
        AND local_date >= %(month)s AND local_date < %(next)s AND xid < %(below)s
     UNION ALL
     SELECT * FROM cp_auditing_inferencerequest
     WHERE tenant_id = %(tenant)s AND booked_at >= %(starts)s AND booked_at < %(ends)s
        AND local_date >= %(month)s AND local_date < %(next)s AND xid < %(below)s) of_month
""")


def rebuilt(table: rollups.Table) -> sql.Composed:
    """The rows that a roll-up should have of a month; parameters: `bounds`, and below, the watermark."""
    return rollups.grouped(table, _OF_MONTH)


_STORED = sql.SQL("SELECT {} FROM cp_auditing_usagesummary WHERE tenant_id = %(tenant)s AND month = %(month)s").format(
    _NAMES
)
_CLEARED = "DELETE FROM cp_auditing_usagesummary WHERE tenant_id = %(tenant)s AND month = %(month)s"
_REBUILT = sql.SQL("INSERT INTO cp_auditing_usagesummary (id, {}) {}").format(
    sql.SQL(", ").join(map(sql.Identifier, rollups.columns(rollups.MONTH))), rebuilt(rollups.MONTH)
)


def _rows(tenant_id: UUID, month: date, using: str) -> list[SummaryRow]:
    """Sums by all dimensions, the greatest cost first."""
    found: dict[tuple[Any, ...], Counts] = {}
    for row in _summed(tenant_id, _MONTH, {"month": month, "next": next_month(month)}, using):
        key, counts = tuple(row[: len(_DIMENSIONS)]), _counts(row[len(_DIMENSIONS) :])
        found[key] = found[key] + counts if key in found else counts
    ordered = sorted(found.items(), key=lambda pair: (-pair[1].cost, -pair[1].requests, str(pair[0])))
    return [_row(key, counts) for key, counts in ordered]


def _row(key: tuple[Any, ...], counts: Counts) -> SummaryRow:
    app, branch, api_key, user = (None if id == NIL else id for id in key[:4])
    return SummaryRow(app, branch, api_key, user, key[4], key[5], counts)


def _summed(tenant_id: UUID, query: sql.Composed, params: dict[str, Any], using: str) -> list[tuple[Any, ...]]:
    """The rows of a statement of summaries and of what they do not hold yet, without its first column."""
    with connections[using].cursor() as cursor:
        while True:
            cursor.execute("SELECT coalesce(max(xid), 0) FROM cp_auditing_ingestwatermark WHERE name = 'rollup'")
            mark = cursor.fetchone()[0]
            cursor.execute(query, {**params, "tenant": tenant_id, "mark": mark})
            rows = cursor.fetchall()
            if all((row[0] or 0) == mark for row in rows):
                return [row[1:] for row in rows]


_OPEN: dict[str, Any] = {"closed_at": None, "reconciled_at": None}
_SEALED = """
    SELECT DISTINCT ON (month) month, kind, sealed_at, max(sealed_at) FILTER (WHERE kind = 'close') OVER (PARTITION BY month)
    FROM cp_auditing_auditseal WHERE tenant_id = %s AND log = 'usagesummary' ORDER BY month, seq DESC
"""


def _states(tenant_id: UUID, using: str) -> dict[date, dict[str, Any]]:
    """By month, of those that were ever closed. Whoever closes a month has reconciled it."""
    with connections[using].cursor() as cursor:
        cursor.execute(_SEALED, [tenant_id])
        return {
            month: {"closed_at": at if kind == "close" else None, "reconciled_at": reconciled}
            for month, kind, at, reconciled in cursor.fetchall()
        }


def _counts(row: Sequence[Any]) -> Counts:
    *sums, hist = row
    return Counts(**dict(zip(MEASURES, (*sums, tuple(hist)), strict=True)))


def _total(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())


def _combined(one: Counts, other: Counts, sign: int) -> Counts:
    found: dict[str, Any] = {}
    for field in fields(Counts):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "latency_hist":
            found[field.name] = tuple(a + sign * b for a, b in zip(mine, theirs, strict=True))
        elif field.name != "latency_max_ms":
            found[field.name] = mine + sign * theirs
        elif sign < 0:
            found[field.name] = None if mine == theirs else mine
        else:
            found[field.name] = max((ms for ms in (mine, theirs) if ms is not None), default=None)
    return Counts(**found)
