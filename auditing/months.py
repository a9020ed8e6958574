"""Closing a local month of a tenant: its sums are sealed, and what comes later is booked later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing import rollups, sealing, watermarks
from auditing.adjusting import read_reason
from auditing.booking import GRACE
from auditing.context import audit_context
from auditing.directory import directory
from auditing.errors import InvalidRow, MonthNotClosable, MonthNotClosed
from auditing.models.auditlog import AuditLog
from auditing.models.logs import id_of
from auditing.redaction import clean
from auditing.summaries import bounds, check_not_retired, check_open, first_of, rebuilt
from controlplane.core.conf import conf
from controlplane.core.ids import NIL, now
from controlplane.core.partitions import next_month

_LOG, _TABLE = "usagesummary", "cp_auditing_usagesummary"
_WAIT = "10s"


def closed(tenant: object, month: date, *, using: str | None = None) -> bool:
    """Whether a month (its first day) of a tenant is closed."""
    with connections[using or conf.DATABASE].cursor() as cursor:
        cursor.execute("SELECT cp_month_closed(%s, %s)", [id_of(tenant), month])
        found: bool = cursor.fetchone()[0]
    return found


def close(
    tenant: object,
    year: int,
    month: int,
    *,
    by: object,
    reason: str = "",
    accept_unpriced: bool = False,
    using: str | None = None,
) -> sealing.Seal:
    """Close a local month: its summaries are sealed and refuse every change; what is late for it is booked now.

    by: see `auditing.context.actor_of`. accept_unpriced: close it although requests in it have no cost. Returns the seal.
    Raises MonthNotClosable with all reasons, MonthClosed, InvalidMonth, InvalidRow for a tenant that there is not.
    """
    tenant_id, first, alias = id_of(tenant), first_of(year, month), using or conf.DATABASE
    said = clean(reason).strip()
    try:
        with _turn(tenant_id, first, by, said, alias) as cursor:
            check_open(cursor, tenant_id, first)
            span = watermarks.span(cursor, rollups.WATERMARK)  # no roll-up, no refresh, until the end
            reasons = _reasons(cursor, tenant_id, first, span.low, accept_unpriced)
            if reasons:
                raise MonthNotClosable(first, reasons)
            return _seal(cursor, "close", tenant_id, first, said)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == "55P03":  # lock_timeout
            raise MonthNotClosable(
                first, ["Somebody writes into it, or rolls it up, at this moment: try again."]
            ) from error
        raise


def hindrances(
    tenant: object, year: int, month: int, *, accept_unpriced: bool = False, using: str | None = None
) -> list[str]:
    """What would stand in the way of closing a month now, a sentence each; nothing is locked, so that it may differ then.

    Raises MonthClosed, InvalidMonth, InvalidRow for a tenant that there is not.
    """
    tenant_id, first = id_of(tenant), first_of(year, month)
    with connections[using or conf.DATABASE].cursor() as cursor:
        check_open(cursor, tenant_id, first)
        cursor.execute("SELECT xid FROM cp_auditing_ingestwatermark WHERE name = %s", [rollups.WATERMARK])
        row = cursor.fetchone()
        return _reasons(cursor, tenant_id, first, row[0] if row else 0, accept_unpriced)


def reopen(tenant: object, year: int, month: int, *, by: object, reason: str, using: str | None = None) -> sealing.Seal:
    """Open a closed month again: late rows and adjustments count in it as before, and its sums change. Returns the seal.

    Raises ReasonRequired, MonthNotClosed, MonthRetired where its requests are gone, InvalidMonth.
    """
    tenant_id, first, alias = id_of(tenant), first_of(year, month), using or conf.DATABASE
    said = read_reason(reason)
    with _turn(tenant_id, first, by, said, alias) as cursor:
        cursor.execute("SELECT cp_month_closed(%s, %s)", [tenant_id, first])
        if not cursor.fetchone()[0]:
            raise MonthNotClosed(first)
        check_not_retired(cursor, tenant_id, first)
        return _seal(cursor, "reopen", tenant_id, first, said)


@contextmanager
def _turn(tenant_id: UUID, month: date, by: object, reason: str, using: str) -> Iterator[CursorWrapper]:
    """The turn of who closes or reopens a month: a transaction in which nobody else does, or writes a request into it."""
    with audit_context(actor=by, reason=reason, tenant=tenant_id, using=using), connections[using].cursor() as cursor:
        # who waits for this lock holds up writers into the month
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_WAIT])
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cp_month'), cp_month_lock(%s, %s))", [tenant_id, month])
        yield cursor


def _reasons(cursor: CursorWrapper, tenant_id: UUID, month: date, below: int, accept_unpriced: bool) -> list[str]:
    """All that stands in the way of closing a month, a sentence each. below: the watermark of the roll-up."""
    end = _end(tenant_id, month)
    closable = end + GRACE
    if now() < closable:
        return [f"It is over at {_shown(end)} and can be closed from {_shown(closable)} on."]
    params = {**bounds(tenant_id, month), "below": below, "closable": closable}
    return [text for text in (
        _in_flight(cursor, params),
        _open_transactions(cursor, params),
        _not_rolled_up(cursor, params),
        _different(cursor, params),
        None if accept_unpriced else _unpriced(cursor, params),
    ) if text]  # fmt: skip


def _end(tenant_id: UUID, month: date) -> datetime:
    """When a month ends in the tenant's zone."""
    facts = directory().tenants([tenant_id]).get(tenant_id)
    if facts is None:
        raise InvalidRow(message=f"No tenant has the id {tenant_id}.")
    return datetime.combine(next_month(month), time(), ZoneInfo(facts.time_zone)).astimezone(UTC)


def _in_flight(cursor: CursorWrapper, params: dict[str, Any]) -> str | None:
    """A call that ends has the instant at which it began: its row is what keeps the month open."""
    cursor.execute(
        "SELECT count(*) FROM cp_auditing_inflightrequest WHERE tenant_id = %(tenant)s "
        "AND created_at >= %(starts)s AND created_at < %(ends)s "
        "AND (created_at AT TIME ZONE time_zone)::date >= %(month)s AND (created_at AT TIME ZONE time_zone)::date < %(next)s",
        params,
    )
    if count := cursor.fetchone()[0]:
        return f"Calls in flight that began in it: {count}. End them, or let usage_sweep give up those past their deadline."
    return None


def _open_transactions(cursor: CursorWrapper, params: dict[str, Any]) -> str | None:
    """Who began to write before anybody looked whether the month is closed."""
    cursor.execute(
        "SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL "
        "AND pid <> pg_backend_pid() AND xact_start < %(closable)s",
        params,
    )
    if since := cursor.fetchone()[0]:
        return f"A transaction has been open since {_shown(since)} and may still write into it: end it."
    return None


def _not_rolled_up(cursor: CursorWrapper, params: dict[str, Any]) -> str | None:
    cursor.execute(
        "SELECT count(*) FROM cp_auditing_inferencerequest WHERE tenant_id = %(tenant)s AND xid >= %(below)s "
        "AND local_date >= %(month)s AND local_date < %(next)s",
        params,
    )
    if count := cursor.fetchone()[0]:
        return f"Requests of it that are not rolled up yet: {count}. Wait for the worker, or run usage_rollup."
    return None


def _different(cursor: CursorWrapper, params: dict[str, Any]) -> str | None:
    """Every sum, of every day and of the month, equals that of the requests."""
    found = []
    for table in (rollups.DAY, rollups.MONTH):
        cursor.execute(_DIFFERENCE[table], params)
        found.append(cursor.fetchone()[0])
    if any(found):
        days, summaries = found
        return (
            f"Sums that differ from the requests: {days} of days, {summaries} of the month. "
            "Look with usage_reconcile, which repairs them with --fix."
        )
    return None


_DIFFERENCE = {
    table: sql.SQL("""
        WITH made AS ({made}),
            kept AS (SELECT id, {columns} FROM {table}
                WHERE tenant_id = %(tenant)s AND {period} >= %(month)s AND {period} < %(next)s)
        SELECT count(DISTINCT id) FROM (
            (TABLE made EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE made)
        ) different
    """).format(
        made=rebuilt(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, rollups.columns(table))),
        table=sql.Identifier(table.name),
        period=sql.Identifier(table.period),
    )
    for table in (rollups.DAY, rollups.MONTH)
}  # fmt: skip


def _unpriced(cursor: CursorWrapper, params: dict[str, Any]) -> str | None:
    cursor.execute(_UNPRICED, params)
    if count := cursor.fetchone()[0]:
        return f"Requests without a cost: {count}. Price them, or close it with --accept-unpriced."
    return None


_UNPRICED = (
    "SELECT coalesce(sum(unpriced), 0) FROM cp_auditing_usagesummary WHERE tenant_id = %(tenant)s AND month = %(month)s"
)
_SUMMED_UP = """
    SELECT count(*), coalesce(sum(requests), 0), coalesce(sum(cost), 0), coalesce(sum(unpriced), 0),
        (array_agg(id ORDER BY id))[1], (array_agg(id ORDER BY id DESC))[1],
        cp_merkle_root(coalesce(array_agg(cp_leaf(s) ORDER BY id), '{}'))
    FROM cp_auditing_usagesummary s WHERE tenant_id = %(tenant)s AND month = %(month)s
"""


def _seal(cursor: CursorWrapper, kind: str, tenant_id: UUID, month: date, reason: str) -> sealing.Seal:
    cursor.execute(_SUMMED_UP, {"tenant": tenant_id, "month": month})
    rows, requests, cost, unpriced, first, last, root = cursor.fetchone()
    AuditLog.objects.record(
        "month.closed" if kind == "close" else "month.reopened",
        tenant=tenant_id,
        resource=(_TABLE, f"{month:%Y-%m}"),
        resource_label=f"{month:%Y-%m}",
        reason=reason,
        details={
            "rows": rows, "requests": int(requests), "cost": f"{cost:f}", "unpriced": int(unpriced), "root": bytes(root).hex(),
        },
    )  # fmt: skip
    return sealing.append(
        cursor, kind, _LOG, tenant_id, month,
        n=rows, root=bytes(root), at=now(), id_from=first or NIL, id_to=last or NIL,
    )  # fmt: skip


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
