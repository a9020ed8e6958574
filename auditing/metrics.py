"""Totals of requests: the two questions that every screen, file and command asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections
from psycopg import sql

from auditing.errors import InvalidWindow
from auditing.windows import id_bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Totals over a window. Costs in US dollars, with adjustments; unpriced requests are counted, and in no cost.

    total_requests: facts without adjustments, and calls in flight. average_latency_ms: over completed requests that
    tell theirs, else None. p50, p95, p99: milliseconds, upper bounds of power-of-two buckets, so that they add up.
    """

    total_requests: int
    completed_requests: int
    failed_requests: int
    total_tokens: int
    total_cost: Decimal
    average_latency_ms: float | None
    cancelled: int
    lost: int
    in_flight: int
    unpriced: int
    estimated_cost: Decimal
    p50: int | None
    p95: int | None
    p99: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Totals of one group. key: the group's values in the order of `by`; an absent subject is None."""

    key: tuple[Any, ...]
    requests: int
    completed: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    unpriced: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


_WINDOW = """
    (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s) AND id >= %(low)s AND id < %(high)s
    AND created_at >= %(start)s AND created_at < %(end)s
"""
# An adjustment is no request, but its sums count; one of a lost call ends it, one that prices an unpriced call clears it.
# Each is a sum over rows of its own, so that windows add up.
_ENDED = sql.SQL("(adjusts IS NULL OR reason_code = 'late_completion')")
_SUMS = sql.SQL("""
    count(*) FILTER (WHERE adjusts IS NULL),
    count(*) FILTER (WHERE {ended} AND status = 'completed'),
    count(*) FILTER (WHERE {ended} AND status = 'failed'),
    coalesce(sum(prompt_tokens), 0)::bigint,
    coalesce(sum(completion_tokens), 0)::bigint,
    coalesce(sum(cost), 0),
    count(*) FILTER (WHERE pricing_status = 'unpriced') - count(*) FILTER (WHERE reason_code = 'priced')
""").format(ended=_ENDED)
_METRICS = sql.SQL("""
    SELECT {sums},
        count(*) FILTER (WHERE {ended} AND status = 'cancelled'),
        count(*) FILTER (WHERE adjusts IS NULL AND status = 'lost') - count(*) FILTER (WHERE reason_code = 'late_completion'),
        coalesce(sum(cost) FILTER (WHERE pricing_status = 'estimated'), 0)
            + coalesce(sum((metadata->>'estimate')::numeric) FILTER (WHERE adjusts IS NOT NULL), 0),
        (avg(latency_ms) FILTER (WHERE {ended} AND status = 'completed'))::float8,
        percentile_disc(ARRAY[0.5, 0.95, 0.99])
            WITHIN GROUP (ORDER BY 1::bigint << length(ltrim((greatest(latency_ms, 1) - 1)::bit(32)::text, '0')))
            FILTER (WHERE latency_ms IS NOT NULL AND {ended} AND status = 'completed'),
        (SELECT count(*) FROM cp_auditing_inflightrequest
            WHERE tenant_id = %(tenant)s AND created_at >= %(start)s AND created_at < %(end)s)
    FROM cp_auditing_inferencerequest WHERE {where}
""").format(sums=_SUMS, ended=_ENDED, where=sql.SQL(_WINDOW))
_GROUPS = {
    "tenant": "tenant_id",
    "app": "app_id",
    "branch": "branch_id",
    "user": "user_id",
    "api_key": "api_key_id",
    "provider": "provider",
    "model": "model",
    "day": "local_date",
    "month": "date_trunc('month', local_date)::date",
    "hour": "date_trunc('hour', created_at, 'UTC')",
}


def metrics(tenant_id: UUID, start: datetime, end: datetime, *, using: str) -> Metrics:
    """See InferenceRequest.objects.metrics."""
    with connections[using].cursor() as cursor:
        cursor.execute(_METRICS, _bounds(tenant_id, start, end))
        row = cursor.fetchone()
    (
        facts,
        completed,
        failed,
        prompt,
        completion,
        cost,
        unpriced,
        cancelled,
        lost,
        estimated,
        average,
        bounds,
        flying,
    ) = row
    p50, p95, p99 = bounds or (None, None, None)
    return Metrics(
        total_requests=facts + flying, completed_requests=completed, failed_requests=failed,
        total_tokens=prompt + completion, total_cost=cost, average_latency_ms=average, cancelled=cancelled, lost=lost,
        in_flight=flying, unpriced=unpriced, estimated_cost=estimated, p50=p50, p95=p95, p99=p99,
    )  # fmt: skip


def totals(
    tenant_id: UUID | None, start: datetime, end: datetime, by: tuple[str, ...], *, zone: str | None = None, using: str
) -> list[Total]:
    """See InferenceRequest.objects.totals. Raises InvalidWindow for a group that there is not."""
    unknown = [name for name in by if name not in _GROUPS]
    if unknown or not by:
        raise InvalidWindow("unknown_group", f"Totals cannot be grouped by {unknown}: choose from {sorted(_GROUPS)}.")
    groups = _GROUPS if zone is None else {**_GROUPS, "day": "(created_at AT TIME ZONE %(zone)s)::date"}
    keys = sql.SQL(", ").join(sql.SQL(groups[name]) for name in by)
    in_time = bool({"day", "month", "hour"} & set(by))
    numbers = sql.SQL(", ").join(sql.SQL(str(n + 1)) for n in range(len(by)))
    query = sql.SQL(
        "SELECT {keys}, {sums} FROM cp_auditing_inferencerequest WHERE {where} GROUP BY {n} ORDER BY {order}"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(
            query.format(
                keys=keys,
                sums=_SUMS,
                where=sql.SQL(_WINDOW),
                n=numbers,
                order=numbers if in_time else sql.SQL("{} DESC, {}").format(sql.SQL(str(len(by) + 1)), numbers),
            ),
            {**_bounds(tenant_id, start, end), "zone": zone},
        )
        return [
            Total(
                key=tuple(row[: len(by)]),
                **dict(zip(Total.__slots__[1:], row[len(by) :], strict=True)),
            )
            for row in cursor.fetchall()
        ]


def _bounds(tenant_id: UUID | None, start: datetime, end: datetime) -> dict[str, Any]:
    low, high = id_bounds(start, end)
    return {"tenant": tenant_id, "start": start, "end": end, "low": low, "high": high}
