"""The roll-up: sums requests up by hour, day and month, each once, by adding what was written since it ran last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing import watermarks
from auditing.measures import BUCKETS, MEASURES, MEASURES_OF_READY, READY
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import NIL

WATERMARK = "rollup"
HOURS = partitions.PartitionedLog("cp_auditing_usagehour", at="hour")
ROWS = 200_000
"""Rows of one run: its transaction takes a second or two, and a worker that stops waits no longer for it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of roll-ups. period: its column, and what it is of a request; the instant is where its id begins."""

    name: str
    period: str
    of_request: str
    instant: str
    dimensions: tuple[str, ...]


BOOKED = "coalesce(booked_at, created_at)"
"""The instant at which a request counts."""
_MIDNIGHT = "({}::timestamp AT TIME ZONE 'UTC')"
_NAMES = ("provider", "model")
_SUBJECTS = ("app_id", "branch_id", "api_key_id")
HOUR = Table("cp_auditing_usagehour", "hour", f"date_trunc('hour', {BOOKED}, 'UTC')", "hour", ("tenant_id", *_NAMES))
DAY = Table("cp_auditing_usageday", "day", "local_date", _MIDNIGHT.format("day"), ("tenant_id", *_NAMES, *_SUBJECTS))
MONTH = Table(
    "cp_auditing_usagesummary", "month", "date_trunc('month', local_date::timestamp)::date", _MIDNIGHT.format("month"),
    ("tenant_id", *_NAMES, *_SUBJECTS, "user_id"),
)  # fmt: skip
TABLES = (HOUR, DAY, MONTH)


def dimension(name: str) -> sql.Composable:
    """A dimension of a request as the roll-ups have it."""
    if name in ("tenant_id", *_NAMES):
        return sql.Identifier(name)
    return sql.SQL("coalesce({}, {})").format(sql.Identifier(name), sql.Literal(NIL))


def grouped(table: Table, rows: sql.Composable, measures: Mapping[str, str] = MEASURES) -> sql.Composed:
    """What the rows of a roll-up are, from requests: `id`, the period, the dimensions and the measures, in this order.

    rows: what follows FROM, a table of requests with their columns; measures: how they are counted there.
    """
    return _GROUPED.format(
        instant=sql.SQL(table.instant),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns(table))),
        period=sql.Identifier(table.period),
        of_request=sql.SQL(table.of_request),
        dimensions=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(dimension(name), sql.Identifier(name)) for name in table.dimensions
        ),
        digested=sql.SQL(", ").join(map(dimension, table.dimensions)),
        measures=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.SQL(value), sql.Identifier(name)) for name, value in measures.items()
        ),
        rows=rows,
        groups=sql.SQL(", ").join(sql.SQL(str(n + 1)) for n in range(1 + len(table.dimensions))),
    )


def columns(table: Table) -> tuple[str, ...]:
    """The columns of a roll-up but `id`."""
    return (table.period, *table.dimensions, *MEASURES)


_GROUPED = sql.SQL("""
    SELECT cp_usage_id({instant}, digest) AS id, {columns} FROM (
        SELECT {of_request} AS {period}, {dimensions}, cp_usage_digest({digested}) AS digest, {measures}
        FROM {rows} GROUP BY {groups}
    ) grouped
""")


def run(now: datetime) -> bool:
    """Roll up what transactions that are over have written; True = more waits. One transaction, one at a time.

    About ROWS requests, or those of one larger transaction. A month that hours need and that is not there is made. Raises
    ClusterChanged.
    """
    using = conf.DATABASE
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        span = watermarks.span(cursor, WATERMARK)
        first, beyond = _ends(cursor, span)
        if span.low == span.high:
            return False
        high = span.high if beyond is None else max(beyond, first + 1)
        if first is not None:
            _add(cursor, watermarks.Span(span.low, high), now)
        watermarks.move(cursor, WATERMARK, high)
    return high < span.high


def _ends(cursor: CursorWrapper, span: watermarks.Span) -> tuple[int, int | None]:
    """The transactions of the first row of the span, and of the first beyond a run; None = there is none."""
    cursor.execute(_ENDS, {"low": span.low, "high": span.high, "rows": ROWS})
    found: tuple[int, int | None] = cursor.fetchone()
    return found


_ENDS = """
    SELECT
        (SELECT xid FROM cp_auditing_inferencerequest WHERE xid >= %(low)s AND xid < %(high)s ORDER BY xid LIMIT 1),
        (SELECT xid FROM cp_auditing_inferencerequest WHERE xid >= %(low)s AND xid < %(high)s
            ORDER BY xid OFFSET %(rows)s LIMIT 1)
"""


def _add(cursor: CursorWrapper, span: watermarks.Span, now: datetime) -> None:
    bounds = {"low": span.low, "high": span.high}
    cursor.execute("SET LOCAL work_mem = '128MB'")  # what is grouped stays in memory
    cursor.execute("SET LOCAL jit = off")
    try:
        with transaction.atomic(using=cursor.db.alias):
            cursor.execute(_ADD, bounds)
    except IntegrityError:
        cursor.execute(_MONTHS, bounds)
        if not partitions.ensure(HOURS, now, months=[month for (month,) in cursor.fetchall()], using=cursor.db.alias):
            raise
        cursor.execute(_ADD, bounds)


_MONTHS = sql.SQL(
    "SELECT DISTINCT (date_trunc('month', {booked}, 'UTC') AT TIME ZONE 'UTC')::date "
    "FROM cp_auditing_inferencerequest WHERE xid >= %(low)s AND xid < %(high)s"
).format(booked=sql.SQL(BOOKED))


def added(table: Table) -> sql.Composed:
    """The statement's part that adds what is grouped from `delta` to a roll-up, in the order of its key."""
    mine = sql.Identifier(table.name)
    return _UPSERT.format(
        table=mine,
        columns=sql.SQL(", ").join(map(sql.Identifier, columns(table))),
        grouped=grouped(table, sql.SQL("delta"), MEASURES_OF_READY),
        open=sql.SQL("true") if table is HOUR else _OPEN.format(sql.Identifier(table.period)),
        sums=sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), _sum(name, mine, sql.SQL("excluded"))) for name in MEASURES
        ),
    )


def _sum(name: str, mine: sql.Composable, theirs: sql.Composable) -> sql.Composed:
    """A measure of two parts together."""
    column = sql.Identifier(name)
    if name == "latency_max_ms":  # greatest() leaves out NULL
        return sql.SQL("greatest({mine}.{c}, {theirs}.{c})").format(mine=mine, theirs=theirs, c=column)
    if name == "latency_hist":
        pairs = (
            sql.SQL("{mine}.{c}[{n}] + {theirs}.{c}[{n}]").format(
                mine=mine, theirs=theirs, c=column, n=sql.SQL(str(n + 1))
            )
            for n in range(BUCKETS)
        )
        return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(pairs))
    return sql.SQL("{mine}.{c} + {theirs}.{c}").format(mine=mine, theirs=theirs, c=column)


# A row that came into a closed month past all that books, by hand, must not stop the roll-up: reconciliation finds it.
_OPEN = sql.SQL("(tenant_id, date_trunc('month', {0}::timestamp)::date) NOT IN (SELECT tenant_id, month FROM closed)")
_UPSERT = sql.SQL(
    "INSERT INTO {table} (id, {columns}) SELECT id, {columns} FROM ({grouped}) found WHERE {open} ORDER BY id "
    "ON CONFLICT (id) DO UPDATE SET {sums}"
)
# One statement, and so one snapshot; the rows are read once. Adjustments alone have an estimate among their metadata.
_ADD = sql.SQL("""
    WITH delta AS MATERIALIZED (
        SELECT tenant_id, app_id, branch_id, api_key_id, user_id, provider, model, created_at, booked_at, time_zone, local_date,
            status, pricing_status, adjusts, reason_code, prompt_tokens, completion_tokens, cached_tokens,
            cache_write_tokens, reasoning_tokens, cost, CASE WHEN adjusts IS NOT NULL THEN metadata END AS metadata, {ready}
        FROM cp_auditing_inferencerequest WHERE xid >= %(low)s AND xid < %(high)s
    ), touched AS MATERIALIZED (  -- so that a month is looked up once, and not for each of its requests
        SELECT DISTINCT tenant_id, date_trunc('month', local_date::timestamp)::date AS month FROM delta
        WHERE date_trunc('month', local_date::timestamp) < now() - interval '30 days'
    ), closed AS MATERIALIZED (
        SELECT tenant_id, month FROM touched WHERE cp_month_closed(tenant_id, month)
    ), hours AS ({hours}), days AS ({days}), months AS ({months})
    INSERT INTO cp_auditing_usagezone AS z (id, tenant_id, time_zone, first_on, last_on)
    SELECT cp_usage_id('epoch', cp_usage_digest(tenant_id, time_zone, '')), tenant_id, time_zone, min(local_date), max(local_date)
    FROM delta GROUP BY tenant_id, time_zone ORDER BY 1
    ON CONFLICT (id) DO UPDATE SET first_on = least(z.first_on, excluded.first_on),
        last_on = greatest(z.last_on, excluded.last_on)
    WHERE excluded.first_on < z.first_on OR excluded.last_on > z.last_on
""").format(ready=sql.SQL(READY), hours=added(HOUR), days=added(DAY), months=added(MONTH))
