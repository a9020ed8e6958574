"""Holding the upper bound of a call on all its counters, or on none: one statement.

Lock order, here and in policies.settling: buckets by id, then the reservation. Missing buckets, those of a new window, are
inserted before and committed on their own: beside held row locks inserts could deadlock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections

from controlplane.core.conf import conf
from controlplane.core.ids import uuid7
from controlplane.core.statements import Statement, fetch, plain
from policies.counting import LEVELS, Amounts, Counter, Threshold, counters
from policies.errors import PolicyError
from policies.resolution import EffectivePolicy
from policies.scope import Scope
from policies.settling import check_request_id
from tenants.apart import apart

# NO KEY UPDATE and not UPDATE: no key changes. The limits come back into the row for display, also where a call is refused;
# the amounts only with the reservation.
_RESERVE = """
WITH want AS (
    SELECT * FROM unnest(%s::text[], %s::numeric[], %s::numeric[], %s::text[]) AS w(key, amount, bound, mode)
), l AS (
    SELECT b.id, b.key, b.spent, b.reserved, w.amount, w.bound, w.mode,
           (w.mode <> 'hard' OR b.spent + b.reserved + w.amount <= w.bound) AS fits
    FROM cp_policies_limitbucket b JOIN want w USING (key) WHERE b.tenant_id = %s ORDER BY b.id FOR NO KEY UPDATE OF b
), r AS (
    INSERT INTO cp_policies_reservation (id, tenant_id, request_id, state, bucket_ids, amounts, app_id, branch_id, user_id,
        key_id, model, digest, policy_ids, policy_versions, overrun, estimated, reserved_at, expires_at)
    SELECT %s, %s, %s, 'reserved', array_agg(id ORDER BY id), array_agg(amount ORDER BY id), %s, %s, %s, %s, %s, %s,
        %s::uuid[], %s::int[], false, false, %s, %s
    FROM l HAVING bool_and(fits) AND count(*) = %s
    ON CONFLICT (tenant_id, request_id) DO NOTHING RETURNING id
), g AS (
    SELECT EXISTS (SELECT FROM r) AS granted
), u AS (
    UPDATE cp_policies_limitbucket b
    SET reserved = b.reserved + CASE WHEN g.granted THEN l.amount ELSE 0 END, last_limit = l.bound, last_mode = l.mode
    FROM l, g
    WHERE b.id = l.id AND (g.granted OR b.last_limit IS DISTINCT FROM l.bound OR b.last_mode IS DISTINCT FROM l.mode)
)
SELECT l.key, l.id, l.spent, l.reserved, l.fits, g.granted, p.id, p.state, p.digest
FROM g, l LEFT JOIN cp_policies_reservation p ON p.tenant_id = %s AND p.request_id = %s
"""

_OPEN = """
INSERT INTO cp_policies_limitbucket (id, tenant_id, key, kind, owner_kind, app_id, branch_id, user_id, key_id, metric,
    "window", label, starts_at, ends_at, spent, reserved, last_limit, last_mode, models)
SELECT id, %s, key, kind, owner_kind, app_id, branch_id, user_id, key_id, metric,
    "window", label, starts_at, ends_at, 0, 0, last_limit, last_mode, models
FROM jsonb_to_recordset(%s::jsonb) AS n(id uuid, key text, kind text, owner_kind text, app_id uuid, branch_id uuid,
    user_id uuid, key_id uuid, metric text, "window" text, label text, starts_at timestamptz, ends_at timestamptz,
    last_limit numeric, last_mode text, models text[])
ORDER BY key
ON CONFLICT (tenant_id, key) DO NOTHING
RETURNING id
"""

_REMEMBERED = 100_000
_open: dict[tuple[UUID, str], None] = {}
"""Buckets that this process knows to be there. One that is gone all the same is missed, and opened again."""


LONGEST = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Asked:
    """A reservation to be made. counters: sorted by key, each once; none: nothing is limited, there is nothing to send.

    digest: SHA-256 of what is asked, in hex. expires_at: from then on who made it is taken for gone.
    """

    id: UUID
    request_id: str
    scope: Scope
    model: str
    counters: tuple[Counter, ...]
    digest: str
    at: datetime
    expires_at: datetime

    @property
    def tenant_id(self) -> UUID:
        return self.scope.tenant_id


@dataclass(frozen=True, slots=True)
class Level:
    """A counter as a reservation found it, without its own amount. fits: no hard limit of it refuses the call."""

    counter: Counter
    bucket_id: UUID
    spent: Decimal
    reserved: Decimal
    fits: bool

    @property
    def left(self) -> Decimal | None:
        """What the hard limit leaves, never below 0; None without one."""
        if self.counter.hard is None:
            return None
        return max(self.counter.hard - self.spent - self.reserved, Decimal(0))

    def passed(self, mode: str) -> tuple[Threshold, ...]:
        """The entries of `mode` whose limit the call goes past."""
        used = self.spent + self.reserved + self.counter.amount
        return tuple(one for one in self.counter.thresholds if one.mode == mode and used > one.limit)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the statement said. levels: of the buckets that were there. earlier: id, state, digest of the request id."""

    levels: tuple[Level, ...]
    granted: bool
    earlier: tuple[UUID, str, str] | None


def ask(
    effective: EffectivePolicy,
    model: str,
    amounts: Amounts,
    request_id: str,
    *,
    at: datetime,
    ttl: timedelta | None = None,
) -> Asked:
    """What a call of `model` (canonical id) would hold of its counters. amounts: its upper bound.

    ttl: None = RESERVATION_TTL, at least twice the timeout of the routing policies. Raises PolicyError as `counters`, and
    request_id_invalid, ttl_invalid.
    """
    check_request_id(request_id)
    if ttl is not None and not (isinstance(ttl, timedelta) and timedelta(0) < ttl <= LONGEST):
        raise PolicyError("ttl_invalid", http_status=400)
    if ttl is None:
        timeout = effective.merged.values.get("routing", {}).get("timeout_ms", 0)
        ttl = max(timedelta(seconds=conf.RESERVATION_TTL), 2 * timedelta(milliseconds=timeout))
    scope = effective.scope
    found = counters(effective, model, amounts, at)
    return Asked(uuid7(), request_id, scope, model, found, _digest(scope, model, amounts), at, at + ttl)


def _digest(scope: Scope, model: str, amounts: Amounts) -> str:
    cost = None if amounts.cost is None else amounts.cost.normalize()
    who = (scope.app_id, scope.branch_id, scope.user_id, scope.key_id)
    counts = (amounts.requests, amounts.input_tokens, amounts.output_tokens, amounts.total_tokens, amounts.concurrent)
    said = (*who, model, cost, *counts)
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()


def reserving(asked: Asked) -> Statement[Answer]:
    """The statement that holds all or nothing; `open_windows` comes before it. `asked` has counters."""
    wanted, scope = asked.counters, asked.scope
    policies = {one.policy_id: one.policy_version for counter in wanted for one in counter.thresholds}
    shown = [counter.shown for counter in wanted]
    who = map(plain, (scope.app_id, scope.branch_id, scope.user_id, scope.key_id))
    params = (
        [counter.key for counter in wanted], [counter.amount for counter in wanted],
        [one.limit for one in shown], [one.mode for one in shown], asked.tenant_id,
        asked.id, asked.tenant_id, asked.request_id, *who, asked.model, asked.digest, [*policies], [*policies.values()],
        asked.at, asked.expires_at, len(wanted), asked.tenant_id, asked.request_id,
    )  # fmt: skip
    return Statement(_RESERVE, params, partial(_read, asked))


def _read(asked: Asked, rows: list[tuple[Any, ...]]) -> Answer:
    found = {row[0]: row for row in rows}
    levels = tuple(Level(one, *found[one.key][1:5]) for one in asked.counters if one.key in found)
    if not rows:
        return Answer((), False, None)
    *_, granted, id_, state, digest = rows[0]
    return Answer(levels, granted, None if id_ is None else (id_, state, digest))


def open_windows(using: str, asked: Asked) -> None:
    """Insert the counters that this process does not know to be there: one statement in a new window, else none."""
    unknown = [counter for counter in asked.counters if (asked.tenant_id, counter.key) not in _open]
    if unknown:
        insert(using, asked.tenant_id, unknown)


def insert(using: str, tenant_id: UUID, wanted: Iterable[Counter]) -> None:
    """Insert counters, committed on their own, and remember that they are there.

    Inside a transaction they go through a connection of their own. Where that cannot see the tenant, because the same
    transaction made it, they go into the transaction: nobody else counts for that tenant yet.
    """
    wanted = list(wanted)
    params = (tenant_id, json.dumps([_row(counter) for counter in wanted]))
    work = partial(fetch, using, _OPEN, params)
    connection = connections[using]
    if connection.in_atomic_block or not connection.get_autocommit():
        try:
            apart(work, using)
        except IntegrityError:
            work()
    else:
        work()
    if len(_open) >= _REMEMBERED:
        _open.clear()
    _open.update(dict.fromkeys((tenant_id, counter.key) for counter in wanted))


def _row(counter: Counter) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        **{
            name: getattr(counter, name)
            for name in ("key", "kind", "owner_kind", "metric", "window", "label", "models")
        },
        **{f"{level}_id": value and str(value) for level, value in zip(LEVELS, counter.owner, strict=True)},
        "starts_at": counter.starts_at and counter.starts_at.isoformat(),
        "ends_at": counter.ends_at and counter.ends_at.isoformat(),
        "last_limit": str(counter.shown.limit),
        "last_mode": counter.shown.mode,
    }
