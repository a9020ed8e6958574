"""How a month goes: archived, recorded, and then detached and dropped, or deleted through the door that its record opens."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing.context import audit_context
from auditing.errors import AuditUnavailable, RetentionRefused
from auditing.keeping import Kind, Terms, refuse_held, turn, write_all
from auditing.models import RetentionRecord
from auditing.rollups import HOURS
from controlplane.core import partitions
from controlplane.core.caches.connections import connect, pooled
from controlplane.core.conf import conf

Direct = psycopg.Connection[Any]
"""A connection in autocommit, past a pooler: what detaches a month runs in no transaction, and one run goes at a time."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run does with all months. archive: folder that rows are written to first; told: hears what is done."""

    archive: Path | None
    reason: str
    by: object
    told: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands in a month of a log. rows: that are there; sealed: of these, by the seals; open: local months that
    hold some of them and are not closed."""

    tenant_id: UUID
    rows: int
    sealed: int
    seals: int
    last_hash: bytes | None
    open: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True)
class Archive:
    """A file with the rows of a month: gzip of CSV with a header, as COPY writes and reads it."""

    path: Path
    sha256: bytes
    rows: int


def partitioned(log: str) -> partitions.PartitionedLog:
    """The log of a name, as `auditlog`."""
    return next(found for found in partitions.registered() if found.table == f"cp_auditing_{log}")


def child(log: partitions.PartitionedLog, month: date) -> str:
    return f"{log.table}_{month:%Y%m}"


@contextmanager
def alone() -> Iterator[Direct]:
    """A connection that has the lock of retention. Raises RetentionRefused where another run has it."""
    if pooled():
        raise RetentionRefused("direct_connection")
    try:
        with connect(timeout_s=900, name="controlplane retention") as direct:
            got = direct.execute("SELECT pg_try_advisory_lock(hashtext('cp_retention'), 0)").fetchone()
            if got != (True,):
                raise RetentionRefused("retention_running")
            direct.execute("SELECT set_config('lock_timeout', %s, false)", [partitions.LOCK_TIMEOUT])
            yield direct
    except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
        connections[conf.DATABASE].close_if_unusable_or_obsolete()  # so that the next run has one that works
        raise AuditUnavailable(
            message="The database went away. Run audit_retention apply again: it continues."
        ) from error


_COUNTED = {
    "auditlog": "SELECT tenant_id, NULL::date, count(*) FROM {} GROUP BY 1",
    "inferencerequest": "SELECT tenant_id, date_trunc('month', local_date)::date, count(*) FROM {} GROUP BY 1, 2",
}
_SEALED = """
    SELECT tenant_id, count(*), sum(n), (array_agg(hash ORDER BY seq DESC))[1] FROM cp_auditing_auditseal
    WHERE log = %s AND month = %s AND kind = 'rows' GROUP BY tenant_id
"""
# what went before, and was made anew by an import since
_GONE = """
    SELECT tenant_id, sum(rows) FROM cp_auditing_retentionrecord
    WHERE kind = 'retired' AND log = %s AND month = %s GROUP BY tenant_id
"""


def standing(log: str, month: date) -> list[Standing]:
    """How all tenants stand that have rows in a month, by id. Reads the month once."""
    with connections[conf.DATABASE].cursor() as cursor:
        counted = _counted(cursor, log, month)
        cursor.execute(_SEALED, [log, month])
        seals = {tenant: (count, int(n), bytes(last)) for tenant, count, n, last in cursor.fetchall()}
        cursor.execute(_GONE, [log, month])
        gone = {tenant: int(rows) for tenant, rows in cursor.fetchall()}
        found = []
        for tenant, months in sorted(counted.items()):
            count, n, last = seals.get(tenant, (0, 0, None))
            left = tuple(
                first for first in sorted(first for first in months if first) if not _closed(cursor, tenant, first)
            )
            found.append(Standing(tenant, sum(months.values()), n - gone.get(tenant, 0), count, last, left))
    return found


def _counted(cursor: CursorWrapper, log: str, month: date) -> dict[UUID, dict[date | None, int]]:
    """Rows by tenant and local month."""
    table = sql.Identifier(child(partitioned(log), month))
    cursor.execute(sql.SQL(_COUNTED[log]).format(table))
    found: dict[UUID, dict[date | None, int]] = defaultdict(dict)
    for tenant, first, count in cursor.fetchall():
        found[tenant][first] = count
    return found


def _closed(cursor: CursorWrapper, tenant: UUID, first: date) -> bool:
    cursor.execute("SELECT cp_month_closed(%s, %s)", [tenant, first])
    closed: bool = cursor.fetchone()[0]
    return closed


def mark(log: str, month: date, given: Sequence[Standing], run: Run, direct: Direct) -> None:
    """Archive a month if asked, then write the records of all tenants, after which it takes no more rows.

    Raises RetentionRefused where rows came meanwhile, LegalHold, PartitionBusy.
    """
    table = child(partitioned(log), month)
    kept = _archived(direct, log, month, None, given, run)

    def recorded(cursor: CursorWrapper) -> None:
        turn(cursor)
        refuse_held(log, [one.tenant_id for one in given])
        # waits for who writes into this month, and for nobody else
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(table)))
        # the index of tenants tells it, without reading the rows
        cursor.execute(sql.SQL("SELECT tenant_id, count(*) FROM {} GROUP BY 1").format(sql.Identifier(table)))
        _check_still({one.tenant_id: one.rows for one in given}, dict(cursor.fetchall()), table)
        _record(log, month, given, kept, run, subject=table)
        cursor.execute("SELECT cp_retire(%s::regclass)", [table])

    partitions.patiently(recorded, table)
    run.told(f"{table}: recorded")


def finish(log: partitions.PartitionedLog, month: date, run: Run, direct: Direct) -> None:
    """Detach a month that is marked, and drop it, from wherever that stopped before. Raises PartitionBusy."""
    table, parent = sql.Identifier(child(log, month)), sql.Identifier(log.table)
    detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {} ").format(parent, table)
    for _ in range(partitions.TRIES):
        try:
            pending = direct.execute(
                "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = %s::regclass", [child(log, month)]
            ).fetchone()
            if pending is not None:
                direct.execute(detach + sql.SQL("FINALIZE" if pending[0] else "CONCURRENTLY"))
                run.told(f"{child(log, month)}: detached")
            direct.execute(sql.SQL("DROP TABLE {}").format(table))
        except psycopg.errors.LockNotAvailable:
            continue
        except psycopg.errors.ObjectNotInPrerequisiteState:  # another month of the log is half detached: one at a time
            break
        run.told(f"{child(log, month)}: dropped")
        return
    raise partitions.PartitionBusy(
        message=f"{child(log, month)} is still read by a transaction that does not end. The next run continues."
    )


def delete(log: str, month: date, one: Standing, run: Run, direct: Direct) -> None:
    """Delete a tenant's rows of a month, and its hours, in one transaction with their record.

    Raises RetentionRefused where rows came meanwhile, LegalHold.
    """
    kept = _archived(direct, log, month, one.tenant_id, [one], run)
    with audit_context(actor=run.by), connections[conf.DATABASE].cursor() as cursor:
        turn(cursor)
        refuse_held(log, [one.tenant_id])
        [record] = _record(log, month, [one], kept, run)
        cursor.execute("SELECT set_config('cp.retention_record', %s, true)", [str(record.pk)])
        removed = _deleted(cursor, partitioned(log), month, one.tenant_id)
        cursor.execute("SELECT set_config('cp.retention_record', '', true)")
        _check_still({one.tenant_id: one.rows}, {one.tenant_id: removed}, child(partitioned(log), month))
        if log == "inferencerequest":
            _deleted(cursor, HOURS, month, one.tenant_id)
    run.told(f"{child(partitioned(log), month)}: deleted {removed} rows of {one.tenant_id}")


def _deleted(cursor: CursorWrapper, log: partitions.PartitionedLog, month: date, tenant: UUID) -> int:
    query = sql.SQL(
        "DELETE FROM {} t USING cp_month_ids(%s) m WHERE t.tenant_id = %s AND t.id >= m.low AND t.id < m.high"
    )
    cursor.execute(query.format(sql.Identifier(log.table)), [month, tenant])
    removed: int = cursor.rowcount
    return removed


def _check_still(known: dict[UUID, int], present: dict[UUID, int], table: str) -> None:
    if known != present:
        raise RetentionRefused(
            message=f"Rows came into {table} meanwhile. The next run takes them in, once they are sealed."
        )


def _record(
    log: str, month: date, given: Sequence[Standing], kept: Archive | None, run: Run, subject: str = ""
) -> list[RetentionRecord]:
    said: dict[str, Any] = {"month": month, "subject": subject}
    if kept:
        said |= {"archive": str(kept.path), "archive_sha256": kept.sha256}
    each = [
        (one.tenant_id, {**said, "rows": one.rows, "seals": one.seals, "last_hash": one.last_hash}) for one in given
    ]
    return write_all(Kind.RETIRED, log, each, run.reason or "Its time is over.", run.by)


def hours_are_due(month: date, given: Terms, present: date) -> bool:
    """Whether all tenants' requests of the month are due, and none is held, of those that have hours of usage in it."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(child(HOURS, month))))
        tenants = [row[0] for row in cursor.fetchall()]
    log = "inferencerequest"
    return given.may_be_due(log, month, present) and all(
        given.due(log, tenant, month, present) and given.hold(log, tenant) is None for tenant in tenants
    )


def mark_hours(month: date) -> None:
    """Let no more hours into the month: it is dropped next. They are sums of requests that are gone, and leave no record."""
    table = child(HOURS, month)
    partitions.patiently(lambda cursor: cursor.execute("SELECT cp_retire(%s::regclass)", [table]), table)


def _archived(
    direct: Direct, log: str, month: date, tenant: UUID | None, given: Sequence[Standing], run: Run
) -> Archive | None:
    if run.archive is None or not given:
        return None
    table = child(partitioned(log), month)
    name = f"{log}-{month:%Y-%m}{f'-{tenant}' if tenant else ''}.csv.gz"
    kept = archive(direct, table, tenant, run.archive / name)
    if kept.rows != sum(one.rows for one in given):
        raise RetentionRefused(
            message=f"Rows came into {table} meanwhile. The next run takes them in, once they are sealed."
        )
    run.told(f"{table}: archived in {kept.path}")
    return kept


def archive(direct: Direct, table: str, tenant: UUID | None, path: Path) -> Archive:
    """Write the rows of a partition, of one tenant or all, by id. The same rows give the same file; it is whole or not there.

    Raises RetentionRefused where the folder takes no file.
    """
    rows = sql.SQL("FROM {} WHERE tenant_id = coalesce({}, tenant_id)").format(
        sql.Identifier(table), sql.Literal(tenant)
    )
    half = path.with_name(path.name + ".half")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with direct.transaction(), os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            direct.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            [count] = direct.execute(sql.SQL("SELECT count(*) ") + rows).fetchone() or [0]
            with (
                gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=6) as packed,
                direct.cursor().copy(
                    sql.SQL("COPY (SELECT * ") + rows + sql.SQL(" ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")
                ) as copied,
            ):
                for block in copied:
                    packed.write(block)
            file.flush()
            os.fsync(file.fileno())
        half.rename(path)
        with path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").digest()
    except OSError as error:
        raise RetentionRefused(
            message=f"{path.parent} takes no archive: {error.strerror}. Choose another folder."
        ) from error
    return Archive(path, digest, count)
