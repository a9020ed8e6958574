"""After a dump was restored into another cluster: transactions are numbered anew, far below what the jobs have read.

What was written before keeps its numbers, which seals name. What is written from now on gets the new number and an offset, so
that it stands behind all that is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connections
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing import sealing
from auditing.context import audit_context
from auditing.errors import ReasonRequired
from auditing.models import AuditLog
from controlplane.core.conf import conf

_GUARD = "cp_append_only"


@dataclass(frozen=True, slots=True)
class Rebase:
    """offset: what is added to the number of a transaction from now on. former: what was before. rows: written between the
    restore and now, which got it too."""

    offset: int
    former: int
    rows: int


def changed() -> bool:
    """Whether the cluster is another one than the jobs have read in, or its numbers begin below what they have read."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_CHANGED)
        found: bool = cursor.fetchone()[0]
    return found


def rebase(*, reason: str, by: object) -> Rebase | None:
    """Number what is written from now on behind all that is there, in one transaction; None: nothing has changed.

    by: who does it, for the audit log, which keeps the reason. Writers of the logs wait meanwhile; it ends with an error where
    one of them does not let go in time (lock_timeout). After pg_upgrade, which keeps the numbers, the offset stays as it was.
    Raises ReasonRequired.
    """
    if not reason.strip():
        raise ReasonRequired
    with audit_context(actor=by, reason=reason), connections[conf.DATABASE].cursor() as cursor:
        sealing.alone(cursor)
        cursor.execute("LOCK TABLE cp_auditing_ingestwatermark IN EXCLUSIVE MODE")
        if not changed():
            return None
        tables = [sql.Identifier(f"cp_auditing_{log}") for log in sealing.LOGS]
        cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(tables)))
        done = _renumber(cursor, tables)
        details = {"offset": done.offset, "former_offset": done.former, "rows": done.rows}
        AuditLog.objects.record("audit.rebased", details=details)
    return done


def _renumber(cursor: CursorWrapper, tables: list[sql.Identifier]) -> Rebase:
    cursor.execute(
        "SELECT coalesce(max(xid_offset), 0), max(xid), pg_current_xact_id()::text::bigint, "
        "pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM cp_auditing_ingestwatermark"
    )
    former, highest, present, oldest = cursor.fetchone()
    for table in tables:
        cursor.execute(sql.SQL("SELECT max(xid) FROM {}").format(table))
        highest = max(highest, cursor.fetchone()[0] or 0)
    offset, rows = former, 0
    if present + former <= highest:
        since = [_written_here(cursor, table, former, highest) for table in tables]
        # who is open already may still write
        offset = highest + 1 - min([oldest, *(number for found in since for number in found.values())])
        for table, found in zip(tables, since, strict=True):
            rows += len(found)
            _raise_numbers(cursor, table, list(found), offset - former)
            cursor.execute(sql.SQL(_DEFAULT).format(table, sql.Literal(offset)))
    cursor.execute(
        "UPDATE cp_auditing_ingestwatermark w SET xid_offset = %s, system_identifier = s.system_identifier, "
        "updated_at = clock_timestamp() FROM pg_control_system() s",
        [offset],
    )
    return Rebase(offset, former, rows)


def _written_here(cursor: CursorWrapper, table: sql.Identifier, former: int, highest: int) -> dict[UUID, int]:
    """Rows that were written in this cluster already, with the number of their transaction; jobs would pass them by."""
    cursor.execute(sql.SQL(_WRITTEN_HERE).format(log=table), {"former": former, "highest": highest})
    return dict(cursor.fetchall())


def _raise_numbers(cursor: CursorWrapper, table: sql.Identifier, ids: list[UUID], by: int) -> None:
    """No leaf covers the number of a transaction, and no seal is over these rows yet: so the guard is lifted for them."""
    if not ids:
        return
    guard = sql.Identifier(_GUARD)
    cursor.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table, guard))
    cursor.execute(sql.SQL("UPDATE {} SET xid = xid + %s WHERE id = ANY (%s)").format(table), [by, ids])
    cursor.execute(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(table, guard))


_CHANGED = """
    SELECT EXISTS (
        SELECT FROM cp_auditing_ingestwatermark w, pg_control_system() s
        WHERE w.system_identifier <> s.system_identifier
            OR pg_snapshot_xmax(pg_current_snapshot())::text::bigint + w.xid_offset < w.xid)
"""
# A restored row was written by the transaction that restored its table (xmin), and hardly has its number; where one has by
# chance, others of that transaction have not.
_WRITTEN_HERE = """
    SELECT id, xid - %(former)s FROM {log} r
    WHERE xid < %(highest)s AND (xid - %(former)s) & 4294967295 = xmin::text::bigint
        AND NOT EXISTS (SELECT FROM {log} o WHERE o.xmin = r.xmin AND o.xid <> r.xid)
"""
_DEFAULT = (
    "ALTER TABLE {} ALTER COLUMN xid SET DEFAULT (pg_current_xact_id()::text)::bigint + {}"  # and of all partitions
)
