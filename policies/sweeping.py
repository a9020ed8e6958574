"""Giving back what nobody ended, removing counters of windows long past, and proving that the counters are right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from django.db import DatabaseError

from controlplane.core.caches import Ask
from controlplane.core.ids import now
from controlplane.core.statements import fetch
from policies.settling import expiring

logger = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two sweeps of a process."""

STALE, BATCH = 1_000, 10_000
"""Reservations of one look; counters of one statement."""

# Read without a lock: who ends one meanwhile wins, and its statement changes nothing.
_STALE = """
SELECT tenant_id, request_id FROM cp_policies_reservation WHERE state = 'reserved' AND expires_at <= %s
ORDER BY expires_at LIMIT %s
"""

# Two windows after their end. One that is locked is in use, and goes another time; one that is held too. Each kind of window
# by itself, and in order: so the index finds the oldest, and where there are none nothing else is read.
_ENDED = """
WITH gone AS MATERIALIZED (
    SELECT o.id FROM unnest(%s::text[], %s::timestamptz[]) AS w("window", before) CROSS JOIN LATERAL (
        SELECT b.id FROM cp_policies_limitbucket b
        WHERE b.kind = 'rate' AND b."window" = w."window" AND b.ends_at <= w.before AND b.reserved = 0
        ORDER BY b.ends_at LIMIT %s FOR UPDATE SKIP LOCKED
    ) o LIMIT %s
), alerts AS (
    DELETE FROM cp_policies_limitalert WHERE bucket_id = ANY (ARRAY(SELECT id FROM gone))
), buckets AS (
    DELETE FROM cp_policies_limitbucket WHERE id = ANY (ARRAY(SELECT id FROM gone)) RETURNING id
)
SELECT count(*) FROM buckets
"""

_KEPT = {
    "1s": timedelta(seconds=2), "10s": timedelta(seconds=20), "1m": timedelta(minutes=2), "1h": timedelta(hours=2),
    "1d": timedelta(days=2),
}  # fmt: skip

# One statement sees one moment: so it may run beside traffic.
_COMPARE = """
WITH told AS (
    SELECT p.id, coalesce(sum(p.amount) FILTER (WHERE r.state = 'reserved'), 0) AS reserved,
           coalesce(sum(p.actual) FILTER (WHERE r.state = 'settled'), 0) AS spent
    FROM cp_policies_reservation r CROSS JOIN unnest(r.bucket_ids, r.amounts, r.actuals) AS p(id, amount, actual)
    WHERE r.tenant_id = coalesce(%s::uuid, r.tenant_id) GROUP BY p.id
)
SELECT b.id, b.tenant_id, b.key, b.spent, coalesce(t.spent, 0), b.reserved, coalesce(t.reserved, 0)
FROM cp_policies_limitbucket b LEFT JOIN told t ON t.id = b.id
WHERE b.tenant_id = coalesce(%s::uuid, b.tenant_id)
AND (b.spent <> coalesce(t.spent, 0) OR b.reserved <> coalesce(t.reserved, 0)) ORDER BY b.tenant_id, b.key
"""


@dataclass(frozen=True, slots=True)
class Swept:
    """expired: reservations given back. removed: counters of rate limits whose window is long past."""

    expired: int
    removed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is not the sum of its reservations; told_…: what they say."""

    bucket_id: UUID
    tenant_id: UUID
    key: str
    spent: Decimal
    told_spent: Decimal
    reserved: Decimal
    told_reserved: Decimal


def sweep(ask: Ask, at: datetime | None = None) -> Swept:
    """Give back every reservation that is stale at `at` (None = now), one by one; remove counters long past, in batches.

    ask: runs one statement, in autocommit. Whatever stops it, what it did is done, and the next sweep goes on.
    """
    at = at or now()
    expired = 0
    while stale := ask(_STALE, [at, STALE]):
        ended = [_expire(ask, tenant_id, request_id, at) for tenant_id, request_id in stale]
        expired += sum(ended)
        if not all(ended):  # others sweep too
            break
    removed = 0
    while gone := ask(_ENDED, [[*_KEPT], [at - kept for kept in _KEPT.values()], BATCH, BATCH])[0][0]:
        removed += gone
        if gone < BATCH:
            break
    return Swept(expired, removed)


def _expire(ask: Ask, tenant_id: UUID, request_id: str, at: datetime) -> bool:
    statement = expiring(tenant_id, request_id, at)
    try:
        ended = statement.read(ask(statement.query, statement.params))
    except (DatabaseError, psycopg.Error) as error:  # the others are not kept waiting for it
        logger.warning("the reservation %s of %s could not be given back: %s", request_id, tenant_id, error)
        return False
    return ended is not None and ended.changed


def duty(connection: psycopg.Connection[Any]) -> None:
    """`sweep` on a connection of the caches: each process that decides about calls does it every 10 s."""
    sweep(lambda query, params: connection.execute(query.encode(), params).fetchall())


def through(using: str) -> Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]:
    """Django's connection, for `sweep`."""
    return lambda query, params: fetch(using, query, params)


def verify(using: str, tenant_id: UUID | None = None) -> list[Difference]:
    """Counters, of one tenant or all, that are not what their reservations hold and spent; sorted by tenant and key."""
    return [Difference(*row) for row in fetch(using, _COMPARE, [tenant_id, tenant_id])]
