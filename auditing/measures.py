"""What is counted of requests: one sum per column of the roll-ups, each over rows of its own, so that windows add up.

Roll-ups, metrics and reconciliation all count by these, over rows of cp_auditing_inferencerequest.
"""

from __future__ import annotations

from psycopg import sql

BUCKETS = 24
"""Of latencies: bucket n holds those of at most 2^n ms, the last one all beyond."""

# An adjustment is no request, but its sums count; one of a lost call ends it, one that prices an unpriced call clears it.
ENDED = "(adjusts IS NULL OR reason_code = 'late_completion')"
TIMED = f"latency_ms IS NOT NULL AND status = 'completed' AND {ENDED}"
BUCKET = "length(ltrim((greatest(latency_ms, 1) - 1)::bit(32)::text, '0'))"
"""The power of two that a latency is at most: 800 ms = 10."""
LAST_BOUND_MS = 1 << BUCKETS - 1
"""Latencies of up to here have a bucket of their own bound; beyond it only raw rows tell."""

MEASURES = {
    "requests": "count(*) FILTER (WHERE adjusts IS NULL)",
    "completed": f"count(*) FILTER (WHERE status = 'completed' AND {ENDED})",
    "failed": f"count(*) FILTER (WHERE status = 'failed' AND {ENDED})",
    "cancelled": f"count(*) FILTER (WHERE status = 'cancelled' AND {ENDED})",
    "lost": "count(*) FILTER (WHERE adjusts IS NULL AND status = 'lost') "
    "- count(*) FILTER (WHERE reason_code = 'late_completion')",
    "unpriced": "count(*) FILTER (WHERE pricing_status = 'unpriced') - count(*) FILTER (WHERE reason_code = 'priced')",
    "estimated": "count(*) FILTER (WHERE pricing_status = 'estimated') "
    "- count(*) FILTER (WHERE reason_code = 'late_completion' AND metadata ? 'estimate')",
    "adjustments": "count(*) FILTER (WHERE adjusts IS NOT NULL)",
    "prompt_tokens": "coalesce(sum(prompt_tokens), 0)::bigint",
    "completion_tokens": "coalesce(sum(completion_tokens), 0)::bigint",
    "cached_tokens": "coalesce(sum(cached_tokens), 0)::bigint",
    "cache_write_tokens": "coalesce(sum(cache_write_tokens), 0)::bigint",
    "reasoning_tokens": "coalesce(sum(reasoning_tokens), 0)::bigint",
    "cost": "coalesce(sum(cost), 0)",
    "estimated_cost": "coalesce(sum(cost) FILTER (WHERE pricing_status = 'estimated'), 0) "
    "+ coalesce(sum((metadata->>'estimate')::numeric) FILTER (WHERE adjusts IS NOT NULL), 0)",
    "latency_n": f"count(*) FILTER (WHERE {TIMED})",
    "latency_sum_ms": f"coalesce(sum(latency_ms) FILTER (WHERE {TIMED}), 0)::bigint",
    "latency_max_ms": f"max(latency_ms) FILTER (WHERE {TIMED})",
    "latency_hist": "ARRAY["
    + ", ".join(
        f"count(*) FILTER (WHERE {TIMED} AND {'latency_ms > ' + str(1 << n - 1) if n else 'true'}"
        f"{' AND latency_ms <= ' + str(1 << n) if n < BUCKETS - 1 else ''})"
        for n in range(BUCKETS)
    )
    + "]",
}

READY = (
    f"CASE WHEN {ENDED} THEN status END AS outcome, CASE WHEN {TIMED} THEN latency_ms END AS timed_ms, "
    f"CASE WHEN {TIMED} THEN width_bucket(latency_ms, "
    f"'{{{', '.join(str((1 << n) + 1) for n in range(BUCKETS - 1))}}}'::integer[]) END AS bucket"
)
"""Columns of requests that are worked out once per row, where rows are grouped several ways: 24 conditions become 24 looks."""
MEASURES_OF_READY = MEASURES | {
    "completed": "count(*) FILTER (WHERE outcome = 'completed')",
    "failed": "count(*) FILTER (WHERE outcome = 'failed')",
    "cancelled": "count(*) FILTER (WHERE outcome = 'cancelled')",
    "latency_n": "count(timed_ms)",
    "latency_sum_ms": "coalesce(sum(timed_ms), 0)::bigint",
    "latency_max_ms": "max(timed_ms)",
    "latency_hist": "ARRAY[" + ", ".join(f"count(*) FILTER (WHERE bucket = {n})" for n in range(BUCKETS)) + "]",
}


def together(name: str) -> sql.Composable:
    """A measure over parts that have it as a column of its name."""
    column = sql.Identifier(name)
    if name == "latency_max_ms":
        return sql.SQL("max({0}) AS {0}").format(column)
    if name == "latency_hist":
        each = (sql.SQL("coalesce(sum({}[{}]), 0)::bigint").format(column, sql.SQL(str(n + 1))) for n in range(BUCKETS))
        return sql.SQL("ARRAY[{}] AS {}").format(sql.SQL(", ").join(each), column)
    kind = sql.SQL("numeric" if name in ("cost", "estimated_cost") else "bigint")
    return sql.SQL("coalesce(sum({0}), 0)::{1} AS {0}").format(column, kind)
