"""Verifying from a page: what is small enough to wait for, and the command for what is not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import OperationalError, connections, models, transaction
from django.http import HttpRequest, HttpResponse
from psycopg import sql

from auditing import verifying
from auditing.verified import note
from controlplane.core.bigtables import QUERY_CANCELED
from controlplane.core.conf import conf
from controlplane.core.ids import lower_bound
from controlplane.core.partitions import FIRST_MONTH, month_of, next_month

MOST = 100_000
"""So many rows are verified while somebody waits."""
PATIENCE = "25s"
LOGS = ("auditlog", "inferencerequest")


def verify(request: HttpRequest, log: str | None, tenant: UUID | None, first: date, last: date) -> bool:
    """Verify the months first to last of a log and tenant (None: of all), note it, and say what was found. False: it was not
    done, and the command that does it is said instead.
    """
    start, end = _midnight(first), _midnight(next_month(last))
    command = _command(log, tenant, first, last)
    if _rows(log, tenant, start, end) > MOST:
        messages.warning(request, f"These are more than {MOST:,} rows. The command verifies them: {command}")
        return False
    try:
        with transaction.atomic(using=conf.DATABASE):
            with connections[conf.DATABASE].cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [PATIENCE])
            report = verifying.verify(tenant=tenant, log=log, start=start, end=end)
            with connections[conf.DATABASE].cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', '0', true)")
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != QUERY_CANCELED:
            raise
        messages.error(request, f"This took too long for a page. The command verifies it: {command}")
        return False
    note(report, tenant=tenant, log=log or "", start=start, end=end)
    what = f"{report.rows:,} rows under {report.seals:,} seals, {first:%Y-%m} to {last:%Y-%m}"
    found = len(report.findings) + report.more
    if found:
        messages.error(
            request, f"{found:,} finding{'' if found == 1 else 's'} in {what}. They are listed with the seals."
        )
    else:
        messages.success(request, f"Verified {what}: no finding.")
    return True


def verify_seals(modeladmin: Any, request: HttpRequest, queryset: models.QuerySet[Any]) -> HttpResponse | None:
    """The months of the ticked seals, each once."""
    for log, tenant, first in places(queryset[:100]):
        if not verify(request, log, tenant, first, first):
            break
    return None


verify_seals.short_description = "Verify"  # type: ignore[attr-defined]
verify_seals.allowed_permissions = ("verify",)  # type: ignore[attr-defined]
verify_seals.command = "audit_verify"  # type: ignore[attr-defined]


def places(seals: Iterable[Any]) -> list[tuple[str | None, UUID | None, date]]:
    """(log, tenant, month) to verify for seals. A closed month is of requests; a checkpoint binds all logs of all tenants."""
    found = {
        (None, None, seal.month)
        if seal.kind == "checkpoint"
        else (seal.log if seal.log in LOGS else "inferencerequest", seal.tenant_id, seal.month)
        for seal in seals
    }
    return sorted(found, key=str)


def _rows(log: str | None, tenant: UUID | None, start: datetime, end: datetime) -> int:
    """At most MOST + 1."""
    total = 0
    for name in (log,) if log else LOGS:
        statement = sql.SQL(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE id >= %s AND id < %s{} LIMIT %s) AS rows"
        ).format(sql.Identifier(f"cp_auditing_{name}"), sql.SQL(" AND tenant_id = %s" if tenant is not None else ""))
        bounds = [lower_bound(start), lower_bound(end), *([tenant] if tenant is not None else [])]
        with connections[conf.DATABASE].cursor() as cursor:
            cursor.execute(statement, [*bounds, MOST + 1 - total])
            total += cursor.fetchone()[0]
        if total > MOST:
            break
    return total


def _command(log: str | None, tenant: UUID | None, first: date, last: date) -> str:
    of_tenant = "" if tenant is None else f" --tenant {tenant}"
    of_log = f" --log {log}" if log else ""
    return f"manage.py audit_verify{of_tenant}{of_log} --from {first:%Y-%m-%d} --to {next_month(last):%Y-%m-%d}"


def span(start: datetime | None, end: datetime | None, present: datetime) -> tuple[date, date]:
    """The first and last month of a window, None = all time."""
    first = month_of(start) if start else FIRST_MONTH
    last = min(month_of(end), month_of(present)) if end else month_of(present)
    return max(first, FIRST_MONTH), max(first, FIRST_MONTH, last)


def _midnight(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)
