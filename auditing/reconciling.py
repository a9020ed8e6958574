"""Reconciliation: the roll-ups against the requests that they were made of, row by row, to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing import rollups, watermarks
from auditing.errors import InvalidWindow, UsageDiffers
from auditing.ingest import LOG
from auditing.measures import MEASURES, together
from auditing.models import AuditLog, RetentionRecord
from auditing.models.logs import id_of
from auditing.windows import id_bounds
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import lower_bound

_DAY = timedelta(days=1)
EAST, WEST = timedelta(hours=14), timedelta(hours=12)
"""A local date begins so long before midnight UTC, and ends so long after, at most."""

Kind = Literal["hour", "day", "month"]
_TABLES: dict[Kind, rollups.Table] = {"hour": rollups.HOUR, "day": rollups.DAY, "month": rollups.MONTH}


@dataclass(frozen=True, slots=True)
class Difference:
    """A day of a tenant in a roll-up that is not what its requests add up to.

    kind: `hour` (the hours of a UTC day), `day` (a local day) or `month` (a local month, on its first day). rows: of the
    roll-up that are wrong, missing or too many. columns: sums over these rows, (of the requests, of the roll-up), where they
    differ. repaired: the rows were made anew from the requests; False: not asked for, or `kept` says why not.
    """

    kind: Kind
    tenant_id: UUID
    on: date
    rows: int
    columns: dict[str, tuple[Any, Any]]
    repaired: bool = False
    kept: str = ""


def reconcile(
    tenant: object = None,
    start: date | None = None,
    end: date | None = None,
    fix: bool = False,
    *,
    progress: Callable[[int], None] | None = None,
    using: str | None = None,
) -> list[Difference]:
    """Compare the requests below the watermark with all three roll-ups, over start <= day < end; returns what differs.

    tenant: None = all. start, end: local days, for hours those of UTC; None = all there are. A month is compared as a whole where
    any of its days is asked for; what retention has removed is not compared. fix: make anew what differs, but for closed
    months; each is recorded as `usage.repaired`. progress: told the days done. Raises InvalidWindow, ClusterChanged.
    """
    alias = using or conf.DATABASE
    tenant_id = None if tenant is None else id_of(tenant)
    months = partitions.existing_months(LOG, alias)
    first = start or min(months, default=date(2020, 1, 1))
    last = end or partitions.next_month(max(months, default=first))
    if first >= last:
        raise InvalidWindow(message=f"The days are none: {first} is not before {last}.")
    found: list[Difference] = []
    retired = _retired(tenant_id, alias)
    filled = months | _rolled_months(alias)
    periods = (period for period in _periods(first, last) if _touched(*period) & filled)
    for done, (kind, on) in enumerate(periods, 1):
        with connections[alias].cursor() as cursor:
            differences = _compare(cursor, kind, on, tenant_id)
        for difference in differences:
            if not retired & {(difference.tenant_id, month) for month in _touched(kind, on)}:
                found.append(_repaired(difference, alias) if fix else difference)
        if progress is not None:
            progress(done)
    return found


def duty(now: datetime) -> None:
    """Compare the days of this month and the last that have ended everywhere. Raises UsageDiffers where any differs."""
    today = (now.astimezone(UTC) - WEST).date()
    first = (today.replace(day=1) - _DAY).replace(day=1)
    found = reconcile(None, first, today)
    if found:
        raise UsageDiffers(found[0].on, len(found))


def _rolled_months(using: str) -> set[date]:
    """Months of which there are roll-ups: those whose requests are gone have no partition."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT month FROM cp_auditing_usagesummary UNION SELECT date_trunc('month', day)::date FROM cp_auditing_usageday"
        )
        return {month for (month,) in cursor.fetchall()} | partitions.existing_months(rollups.HOURS, using)


def _periods(first: date, last: date) -> Iterator[tuple[Kind, date]]:
    on = first
    while on < last:
        yield "hour", on
        yield "day", on
        if on == first or on.day == 1:
            yield "month", on.replace(day=1)
        on += _DAY


def _ends(kind: Kind, on: date) -> date:
    """The date after a period."""
    return partitions.next_month(on) if kind == "month" else on + _DAY


def _touched(kind: Kind, on: date) -> set[date]:
    """UTC months that requests of the period may stand in."""
    if kind == "hour":
        return {on.replace(day=1)}
    return {(on - _DAY).replace(day=1), on.replace(day=1), _ends(kind, on).replace(day=1)}


def _retired(tenant_id: UUID | None, using: str) -> set[tuple[UUID, date]]:
    records = RetentionRecord.objects.using(using).filter(kind=RetentionRecord.Kind.RETIRED, log="inferencerequest")
    if tenant_id is not None:
        records = records.filter(tenant_id=tenant_id)
    return {(tenant, month) for tenant, month in records.values_list("tenant_id", "month") if month is not None}


def _bounds(kind: Kind, on: date, tenant_id: UUID | None) -> dict[str, Any]:
    """Parameters of the statements about a period: its dates, and between which instants and ids its requests stand."""
    until = _ends(kind, on)
    starts, ends = (datetime.combine(day, time(), UTC) for day in (on, until))
    begin, stop = (starts, ends) if kind == "hour" else (starts - EAST, ends + WEST)
    low, high = id_bounds(begin, stop)
    return {
        "tenant": tenant_id, "on": on, "until": until, "begin": begin, "stop": stop, "low": low, "high": high,
        "first": starts, "beyond": ends, "first_id": lower_bound(starts), "beyond_id": lower_bound(ends),
    }  # fmt: skip


_MINE = "(%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)"
_DATES = "local_date >= %(on)s AND local_date < %(until)s"
# What was booked later than it was accepted stands in any month before; a partial index finds it
_REQUESTS = """(
    SELECT * FROM cp_auditing_inferencerequest WHERE {mine} AND booked_at IS NULL AND id >= %(low)s AND id < %(high)s
        AND {within} AND xid < {below}
    UNION ALL
    SELECT * FROM cp_auditing_inferencerequest WHERE {mine} AND booked_at >= %(begin)s AND booked_at < %(stop)s
        AND id < %(high)s {dated} AND xid < {below}
) of_period"""
_ROLLED = {
    "hour": "id >= %(first_id)s AND id < %(beyond_id)s AND hour >= %(first)s AND hour < %(beyond)s",
    "day": "day = %(on)s",
    "month": "month = %(on)s",
}
_MARK = "(SELECT coalesce(max(xid), 0) FROM cp_auditing_ingestwatermark WHERE name = 'rollup')"


def _requests(kind: Kind, below: str) -> sql.SQL:
    within = "created_at >= %(begin)s AND created_at < %(stop)s" if kind == "hour" else _DATES
    dated = "" if kind == "hour" else f"AND {_DATES}"
    return sql.SQL(_REQUESTS.format(mine=_MINE, within=within, dated=dated, below=below))


def _compared(kind: Kind) -> sql.Composed:
    table = _TABLES[kind]
    names = rollups.columns(table)
    return _COMPARED.format(
        should=rollups.grouped(table, _requests(kind, _MARK)),
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        table=sql.Identifier(table.name),
        rolled=sql.SQL(f"{_MINE} AND {_ROLLED[kind]}"),
        left=sql.SQL(", ").join(sql.Identifier("should", name) for name in names),
        right=sql.SQL(", ").join(sql.Identifier("stored", name) for name in names),
        sums=sql.SQL(", ").join(map(together, MEASURES)),
    )


# One statement and so one snapshot: the roll-ups and the watermark are of one moment
_COMPARED = sql.SQL("""
    WITH should AS MATERIALIZED ({should}),
    stored AS MATERIALIZED (SELECT id, {columns} FROM {table} WHERE {rolled}),
    wrong AS (SELECT id FROM should FULL JOIN stored USING (id) WHERE ROW({left}) IS DISTINCT FROM ROW({right}))
    SELECT tenant_id, stored, count(*), {sums} FROM (
        SELECT false AS stored, id, {columns} FROM should UNION ALL SELECT true, id, {columns} FROM stored
    ) sides WHERE id IN (SELECT id FROM wrong) GROUP BY tenant_id, stored ORDER BY tenant_id, stored
""")
_STATEMENTS = {kind: _compared(kind) for kind in _TABLES}


def _compare(cursor: CursorWrapper, kind: Kind, on: date, tenant_id: UUID | None) -> list[Difference]:
    cursor.execute(_STATEMENTS[kind], _bounds(kind, on, tenant_id))
    sides: dict[UUID, dict[bool, tuple[int, list[Any]]]] = {}
    for owner, stored, rows, *sums in cursor.fetchall():
        sides.setdefault(owner, {})[stored] = (rows, sums)
    nothing = (
        0,
        [[0] * 24 if name == "latency_hist" else None if name == "latency_max_ms" else 0 for name in MEASURES],
    )
    found = []
    for owner, both in sides.items():
        (expected, should), (there, stored) = both.get(False, nothing), both.get(True, nothing)
        pairs = zip(MEASURES, zip(should, stored, strict=True), strict=True)
        columns = {name: pair for name, pair in pairs if pair[0] != pair[1]}
        found.append(Difference(kind, owner, on, max(expected, there), columns))
    return found


def _repaired(found: Difference, using: str) -> Difference:
    """The rows of the period made anew, unless its month is closed or its requests are not all there."""
    table, months = _TABLES[found.kind], _touched(found.kind, found.on)
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        span = watermarks.span(cursor, rollups.WATERMARK)  # no roll-up and no closing until the end
        if not {found.on.replace(day=1)} <= partitions.existing_months(LOG, using):
            return replace(found, kept="no requests of this month are there")
        local = {found.on.replace(day=1)} if found.kind != "hour" else months
        cursor.execute(
            "SELECT bool_or(cp_month_closed(%s, month)) FROM unnest(%s) month", [found.tenant_id, list(local)]
        )
        if cursor.fetchone()[0]:
            return replace(found, kept="the month is closed")
        bounds = {**_bounds(found.kind, found.on, found.tenant_id), "below": span.low}
        columns = sql.SQL(", ").join(map(sql.Identifier, rollups.columns(table)))
        rolled = sql.SQL(f"{_MINE} AND {_ROLLED[found.kind]}")
        cursor.execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table.name), rolled), bounds)
        made = rollups.grouped(table, _requests(found.kind, "%(below)s"))
        insert = sql.SQL("INSERT INTO {} (id, {}) {}").format(sql.Identifier(table.name), columns, made)
        cursor.execute(insert, bounds)
        AuditLog.objects.record(
            "usage.repaired",
            tenant=found.tenant_id,
            resource=(table.name, found.on.isoformat()),
            details={
                "rows": found.rows,
                "columns": {name: [str(value) for value in pair] for name, pair in found.columns.items()},
            },
        )
    return replace(found, repaired=True)
