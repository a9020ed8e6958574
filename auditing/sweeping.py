"""Calls that nobody ended: past their deadline they become facts, as lost, so that a killed gateway loses no request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper

from auditing.ingest import LOG
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import NIL

logger = logging.getLogger(__name__)

BATCH = 1000
"""Calls of one transaction."""

AT_ONCE = 50 * BATCH
"""Calls of one run of the duty, which goes on at once where there are more."""

# Who ends a call at this moment has its row locked, and wins; who comes later finds the fact, and adds its end to it.
_OVERDUE = """
    SELECT id, created_at, deadline FROM cp_auditing_inflightrequest
    WHERE deadline <= %s AND (deadline, id) > (%s, %s) ORDER BY deadline, id LIMIT %s FOR UPDATE SKIP LOCKED
"""
_STILL = "SELECT id, created_at, deadline FROM cp_auditing_inflightrequest WHERE id = %s FOR UPDATE SKIP LOCKED"
# An import may have written the request meanwhile: its row stays, as the only one.
_LOST = """
    WITH gone AS (DELETE FROM cp_auditing_inflightrequest WHERE id = ANY (%s) RETURNING *)
    INSERT INTO cp_auditing_inferencerequest (id, created_at, request_id, tenant_id, app_id, branch_id, user_id, api_key_id,
        provider, model, requested_model, stream, time_zone, local_date, metadata, source, status, cost, pricing_status)
    SELECT id, created_at, request_id, tenant_id, app_id, branch_id, user_id, api_key_id, provider, model, requested_model,
        stream, time_zone, (created_at AT TIME ZONE time_zone)::date, metadata, 'sweep', 'lost', estimated_cost,
        CASE WHEN estimated_cost IS NULL THEN 'unpriced' ELSE 'estimated' END
    FROM gone ORDER BY id ON CONFLICT DO NOTHING
"""

_Row = tuple[UUID, datetime, datetime]


def overdue(now: datetime) -> int:
    """Number of calls in flight past their deadline at `now`."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cp_auditing_inflightrequest WHERE deadline <= %s", [now])
        found: int = cursor.fetchone()[0]
    return found


def sweep(now: datetime, *, limit: int | None = None, using: str | None = None) -> int:
    """Turn calls in flight whose deadline is over at `now` into lost ones, a thousand in a transaction; returns how many.

    limit: about so many, None = all. Their cost is the estimate they began with, and `estimated`, else they are unpriced. A
    call that ends at this moment is left to who ends it; one that ends later gets an adjustment. One that the log does not
    take stays, and is told in the program's log. Safe beside others.
    """
    alias = using or conf.DATABASE
    swept, after = 0, (datetime.min.replace(tzinfo=UTC), NIL)
    while limit is None or swept < limit:
        try:
            with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
                cursor.execute(_OVERDUE, [now, *after, BATCH])
                rows: list[_Row] = cursor.fetchall()
                _lose(cursor, rows, now, alias)
            swept += len(rows)
        except (OperationalError, InterfaceError):
            raise
        except (
            DatabaseError,
            partitions.PartitionMissing,
        ):  # one of them is refused: the others are not kept waiting for it
            swept += sum(_lose_one(id, now, alias) for id, *_ in rows)
        if len(rows) < BATCH:
            break
        after = (rows[-1][2], rows[-1][0])
    return swept


def _lose(cursor: CursorWrapper, rows: Sequence[_Row], now: datetime, using: str) -> None:
    months = {partitions.month_of(created) for _, created, _ in rows} - {partitions.month_of(now)}
    if months:  # of long ago: it may have been retired
        partitions.ensure(LOG, now, months=months, using=using)
    if rows:
        cursor.execute(_LOST, [[id for id, *_ in rows]])


def _lose_one(id: UUID, now: datetime, using: str) -> bool:
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(_STILL, [id])
            rows: list[_Row] = cursor.fetchall()
            _lose(cursor, rows, now, using)
    except (OperationalError, InterfaceError):
        raise
    except (DatabaseError, partitions.PartitionMissing) as error:
        logger.warning("the request %s is overdue, and cannot be recorded as lost: %s", id, str(error).splitlines()[0])
        return False
    return bool(rows)


def duty(now: datetime) -> bool:
    """`sweep`, every 10 s. True: there may be more."""
    return sweep(now, limit=AT_ONCE) >= AT_ONCE
