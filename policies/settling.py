"""The end of a reservation, each one statement: settled with what was used, released, or expired.

What was held goes back to each counter, what was used is added. Only who finds it in a state that it can leave changes
anything; everybody else gets what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from controlplane.core.statements import Statement, plain
from policies.counting import Amounts
from policies.errors import PolicyError

# Each lock is in a CTE of its own, and the second one depends on all of the first: so buckets are locked by id, then the
# reservation. Its counters never change, so they may be read before; its state is what the lock found, not what the
# snapshot holds. A counter that was removed after its window has nothing to be given back to.
# The constraints are held against the row of the snapshot first, and only then is the newest one fetched: so every update
# sets all that a constraint compares, and from what the lock found.
_LOCKED = """
WITH known AS MATERIALIZED (
    SELECT bucket_ids FROM cp_policies_reservation WHERE tenant_id = %s AND request_id = %s
), l AS MATERIALIZED (
    SELECT b.id, b.metric, b.spent, b.reserved FROM cp_policies_limitbucket b
    WHERE b.id = ANY ((SELECT bucket_ids FROM known)::uuid[]) AND b.tenant_id = %s ORDER BY b.id FOR NO KEY UPDATE OF b
), r AS MATERIALIZED (
    SELECT r.* FROM cp_policies_reservation r
    WHERE r.tenant_id = %s AND r.request_id = %s AND (SELECT count(*) FROM l) >= 0 FOR NO KEY UPDATE OF r
)"""

_END = (
    _LOCKED  # noqa: S608 - two texts of this file
    + """, due AS MATERIALIZED (
    SELECT * FROM r WHERE state = ANY (%s::text[]) AND expires_at <= coalesce(%s::timestamptz, expires_at)
), part AS MATERIALIZED (
    SELECT p.id, p.amount, p.place, CASE l.metric
        WHEN 'requests' THEN %s::numeric WHEN 'input_tokens' THEN %s::numeric WHEN 'output_tokens' THEN %s::numeric
        WHEN 'total_tokens' THEN %s::numeric WHEN 'cost' THEN %s::numeric ELSE 0 END AS used
    FROM due CROSS JOIN unnest(due.bucket_ids, due.amounts) WITH ORDINALITY AS p(id, amount, place) LEFT JOIN l ON l.id = p.id
), u AS (
    UPDATE cp_policies_limitbucket b
    SET reserved = l.reserved - CASE due.state WHEN 'reserved' THEN part.amount ELSE 0 END,
        spent = l.spent + coalesce(part.used, part.amount)
    FROM part JOIN l USING (id), due WHERE b.id = l.id
), e AS (
    UPDATE cp_policies_reservation x
    SET state = %s, ended_at = %s, actuals = n.actuals, overrun = n.overrun, estimated = n.estimated
    FROM due, (
        SELECT CASE WHEN %s THEN array_agg(coalesce(used, amount) ORDER BY place) END AS actuals,
               coalesce(bool_or(used > amount), false) AS overrun, coalesce(bool_or(used IS NULL), false) AS estimated
        FROM part
    ) n
    WHERE x.id = due.id RETURNING x.id, x.state, x.actuals, x.overrun, x.estimated
)
SELECT r.id, e.id IS NOT NULL, coalesce(e.state, r.state), r.bucket_ids, r.amounts, coalesce(e.actuals, r.actuals),
    coalesce(e.overrun, r.overrun), coalesce(e.estimated, r.estimated),
    ARRAY(SELECT id FROM l ORDER BY id), ARRAY(SELECT spent FROM l ORDER BY id)
FROM r LEFT JOIN e ON true
"""
)

# The same locks. What is known by now takes the place of what was charged, what is still unknown stays. The counters come
# back without the former charge, as those of an end come back without the new one.
_CORRECT = (
    _LOCKED  # noqa: S608 - two texts of this file
    + """, due AS MATERIALIZED (
    SELECT * FROM r WHERE state = 'settled' AND estimated
), part AS MATERIALIZED (
    SELECT p.id, p.amount, p.actual, p.place, CASE l.metric
        WHEN 'input_tokens' THEN %s::numeric WHEN 'output_tokens' THEN %s::numeric WHEN 'total_tokens' THEN %s::numeric
        WHEN 'cost' THEN %s::numeric ELSE p.actual END AS used
    FROM due CROSS JOIN unnest(due.bucket_ids, due.amounts, due.actuals) WITH ORDINALITY AS p(id, amount, actual, place)
    LEFT JOIN l ON l.id = p.id
), u AS (
    UPDATE cp_policies_limitbucket b SET reserved = l.reserved, spent = l.spent + part.used - part.actual
    FROM part JOIN l USING (id) WHERE b.id = l.id AND part.used <> part.actual
), e AS (
    UPDATE cp_policies_reservation x
    SET state = due.state, ended_at = due.ended_at, actuals = n.actuals, overrun = n.overrun, estimated = n.estimated
    FROM due, (
        SELECT array_agg(coalesce(used, actual) ORDER BY place) AS actuals,
               coalesce(bool_or(used > amount), false) AS overrun, coalesce(bool_or(used IS NULL), false) AS estimated
        FROM part
    ) n
    WHERE x.id = due.id RETURNING x.id, x.actuals, x.overrun, x.estimated
)
SELECT r.id, e.id IS NOT NULL, r.state, r.bucket_ids, r.amounts, coalesce(e.actuals, r.actuals),
    coalesce(e.overrun, r.overrun), coalesce(e.estimated, r.estimated), ARRAY(SELECT id FROM l ORDER BY id),
    ARRAY(SELECT l.spent - coalesce(part.actual, 0) FROM l LEFT JOIN part ON part.id = l.id ORDER BY l.id)
FROM r LEFT JOIN e ON true
"""
)

_NOTHING = Amounts(requests=0, input_tokens=0, output_tokens=0, cost=Decimal(0), concurrent=0)
_USED = ("requests", "input_tokens", "output_tokens", "total_tokens", "cost")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a reservation stands after its end was asked for.

    changed: this call ended it; else it had ended before, as state says. buckets, amounts and actuals go together;
    actuals: empty unless it is settled. overrun: more was used than was held. estimated: something is charged as it was
    held, because what was used is not known. spent: by bucket, what the counters stand at now.
    """

    id: UUID
    request_id: str
    changed: bool
    state: str
    buckets: tuple[UUID, ...]
    amounts: tuple[Decimal, ...]
    actuals: tuple[Decimal, ...]
    overrun: bool
    estimated: bool
    spent: dict[UUID, Decimal]


def check_request_id(request_id: str) -> None:
    """Raises PolicyError("request_id_invalid") for what no reservation can be kept under."""
    fits = isinstance(request_id, str) and 0 < len(request_id) <= 200 and "\x00" not in request_id
    if not (fits and (request_id.isascii() or request_id.encode("utf-8", "replace").decode() == request_id)):
        raise PolicyError("request_id_invalid", http_status=400)


def settling(tenant_id: UUID, request_id: str, actual: Amounts, at: datetime) -> Statement[Ended | None]:
    """Charge what was used to the counters of the reserve, whatever was edited since; an expired one too.

    What is not known of `actual` is charged as it was held. None: nothing was reserved under this request id.
    """
    return _ending(tenant_id, request_id, actual, at, "settled", ("reserved", "expired"))


def releasing(tenant_id: UUID, request_id: str, at: datetime) -> Statement[Ended | None]:
    """Give back what an open reservation holds, and charge nothing."""
    return _ending(tenant_id, request_id, _NOTHING, at, "released", ("reserved",))


def expiring(tenant_id: UUID, request_id: str, at: datetime) -> Statement[Ended | None]:
    """The same for one whose time is over at `at`."""
    return _ending(tenant_id, request_id, _NOTHING, at, "expired", ("reserved",))


def correcting(tenant_id: UUID, request_id: str, actual: Amounts) -> Statement[Ended | None]:
    """Charge what became known after the settle of an estimated reservation, instead of what was charged for it.

    Any other reservation stays as it is. What is still not known keeps it estimated.
    """
    used = (plain(actual.of(metric)) for metric in _USED if metric != "requests")
    params = (tenant_id, request_id, tenant_id, tenant_id, request_id, *used)
    return Statement(_CORRECT, params, partial(_read, request_id))


def _ending(
    tenant_id: UUID, request_id: str, used: Amounts, at: datetime, state: str, out_of: Sequence[str]
) -> Statement[Ended | None]:
    check_request_id(request_id)
    params = (
        tenant_id, request_id, tenant_id, tenant_id, request_id, [*out_of], plain(at if state == "expired" else None),
        *(plain(used.of(metric)) for metric in _USED), state, at, state == "settled",
    )  # fmt: skip
    return Statement(_END, params, partial(_read, request_id))


def _read(request_id: str, rows: list[tuple[Any, ...]]) -> Ended | None:
    if not rows:
        return None
    [(id_, changed, state, buckets, amounts, actuals, overrun, estimated, locked, before)] = rows
    actuals = actuals or ()
    spent = dict(zip(locked, before, strict=True))
    if changed:
        for bucket, actual in zip(buckets, actuals, strict=False):
            if bucket in spent:
                spent[bucket] += actual
    return Ended(
        id_, request_id, changed, state, tuple(buckets), tuple(amounts), tuple(actuals), overrun, estimated, spent
    )
