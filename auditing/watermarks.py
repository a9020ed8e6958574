"""How far a job has read the logs: by transaction, so that nothing is missed or read twice whatever commits last.

A row of a log carries the number of the transaction that wrote it (`xid`). All transactions below the oldest that still runs
in this database are over, so the rows with `low <= xid < high` are all there and stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.backends.utils import CursorWrapper

from auditing.errors import ClusterChanged


@dataclass(frozen=True, slots=True)
class Span:
    """Transactions whose rows a job has not read yet: low <= xid < high."""

    low: int
    high: int


_MADE = """
    INSERT INTO cp_auditing_ingestwatermark (name, xid, system_identifier, xid_offset, updated_at)
    SELECT %s, 3, system_identifier, coalesce((SELECT max(xid_offset) FROM cp_auditing_ingestwatermark), 0), clock_timestamp()
    FROM pg_control_system() ON CONFLICT (name) DO NOTHING
"""
_LOCKED = """
    SELECT w.xid, w.system_identifier = s.system_identifier
    FROM cp_auditing_ingestwatermark w, pg_control_system() s WHERE w.name = %s FOR UPDATE OF w
"""
# Of the transactions that were open when the statement began, only those that may write here count: one is left out where a
# session of another database has it. Without this a long transaction anywhere in the cluster would hold up everything. Who
# cannot be found counts: it is prepared, or ended between the snapshot and the look at the sessions. A snapshot does not name
# its own transaction.
_HIGH = """
    SELECT least(coalesce(o.oldest, pg_snapshot_xmax(s)), pg_current_xact_id())::text::bigint + w.xid_offset,
           pg_current_xact_id()::text::bigint + w.xid_offset,
           o.oldest IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_xid = o.oldest::xid)
    FROM cp_auditing_ingestwatermark w, pg_current_snapshot() s, LATERAL (
        SELECT min(open.xid) AS oldest FROM pg_snapshot_xip(s) open (xid) WHERE NOT EXISTS (
            SELECT FROM pg_stat_activity a, pg_database d
            WHERE a.backend_xid = open.xid::xid AND d.datname = current_database() AND a.datid <> d.oid)
    ) o
    WHERE w.name = %s
"""
_LOOKS = 5


def span(cursor: CursorWrapper, name: str) -> Span:
    """Lock the job's watermark to the end of the transaction, and return what it has not read: it may be empty.

    The transaction has READ COMMITTED, and nothing written in it is within the span. Raises ClusterChanged.
    """
    cursor.execute(_LOCKED, [name])
    row = cursor.fetchone()
    if row is None:
        cursor.execute(_MADE, [name])
        cursor.execute(_LOCKED, [name])
        row = cursor.fetchone()
    low, same_cluster = row
    for _ in range(_LOOKS):
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else the sessions are those of the first look
        # after the lock: a snapshot from before it would hide what others have read meanwhile
        cursor.execute(_HIGH, [name])
        high, present, ended = cursor.fetchone()
        if not ended:
            break
    if not same_cluster or present < low:
        raise ClusterChanged
    return Span(low, max(low, high))


def move(cursor: CursorWrapper, name: str, xid: int) -> None:
    """Note that the job has read all rows of transactions below xid."""
    cursor.execute(
        "UPDATE cp_auditing_ingestwatermark SET xid = %s, updated_at = clock_timestamp() WHERE name = %s", [xid, name]
    )
