"""Requests by the million for benchmarks, made by the database: 200 tenants of very different size in four time zones."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

TENANTS = 200
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")

# Sizes of tenants fall as a power: the first has about a sixth of all. A user has one key, a key one app; a tenant uses few
# models, one of them mostly. Four in five calls are made by day. Every thousandth is unpriced, every fiftieth fails.
_MAKE = """
    INSERT INTO cp_auditing_inferencerequest (id, created_at, request_id, tenant_id, app_id, branch_id, user_id, api_key_id,
        provider, model, status, prompt_tokens, completion_tokens, cached_tokens, cost, pricing_status, price_id,
        cost_breakdown, latency_ms, ttft_ms, stream, time_zone, local_date, source)
    SELECT cp_uuid7(at), at, 'req-' || n || '-' || substr(md5(n::text), 1, 16), cp_bench_id('tenant', tenant, 0),
        cp_bench_id('app', tenant, who %% 4), nullif(cp_bench_id('branch', tenant, who %% 2),
        cp_bench_id('branch', tenant, 1)), cp_bench_id('user', tenant, who), cp_bench_id('key', tenant, who %% 12),
        (ARRAY['openai', 'anthropic', 'azure'])[1 + model %% 3],
        (ARRAY['openai/gpt-4o', 'anthropic/claude-sonnet', 'azure/gpt-4o-mini', 'openai/o3', 'anthropic/claude-haiku',
            'azure/gpt-4.1'])[1 + model],
        CASE WHEN n %% 50 = 0 THEN 'failed' WHEN n %% 211 = 0 THEN 'cancelled' ELSE 'completed' END,
        prompt, completion, CASE WHEN n %% 3 = 0 THEN prompt / 2 END,
        CASE WHEN n %% 1000 <> 1 THEN prompt * 0.0000025 + completion * 0.00001 END,
        CASE WHEN n %% 1000 = 1 THEN 'unpriced' ELSE 'priced' END, cp_bench_id('price', model, 0),
        CASE WHEN n %% 1000 <> 1 THEN jsonb_build_object('input', prompt * 0.0000025, 'output', completion * 0.00001) END,
        latency, latency / 4, n %% 2 = 0, zone, (at AT TIME ZONE zone)::date, 'gate'
    FROM (
        SELECT *, (ARRAY[0, 0, 0, 0, 0, 1, 1, 1, 2, 3])[1 + (dice1 * 10)::int %% 10] + tenant %% 3 AS model,
            (dice2 * dice2 * (4 + 400 / (1 + tenant)))::int AS who, (20 + 3000 * dice3 * dice3)::int AS prompt,
            (5 + 800 * dice4 * dice4)::int AS completion, (150 + 4000 * dice4 * dice5 + 20000 * dice5 ^ 20)::int AS latency,
            (%(zones)s::text[])[1 + tenant %% 4] AS zone
        FROM (
            SELECT n, %(start)s::timestamptz + %(step)s * (n - %(first)s) + interval '1 second' * random() AS at,
                least(%(tenants)s - 1, floor(%(tenants)s * power(random(), 4)))::int AS tenant,
                random() AS dice1, random() AS dice2, random() AS dice3, random() AS dice4, random() AS dice5
            FROM generate_series(%(first)s, %(last)s) n
        ) dice
    ) shaped
"""
_ID = """
    CREATE OR REPLACE FUNCTION cp_bench_id(kind text, a int, b int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN md5(kind || ':' || a || ':' || b)::uuid
"""


def make(rows: int, start: datetime, end: datetime, batch: int = 200_000) -> None:
    """Write so many requests evenly over the time, each batch a transaction of its own. Their months are there."""
    step = (end - start) / rows
    with connection.cursor() as cursor:
        cursor.execute(_ID)
        for first in range(0, rows, batch):
            last = min(first + batch, rows)
            given = {"first": first, "last": last - 1, "step": step, "start": start + step * first}
            cursor.execute(_MAKE, {**given, "tenants": TENANTS, "zones": list(ZONES)})


def tenant(number: int) -> str:
    """The id of a tenant, the largest first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_bench_id('tenant', %s, 0)", [number])
        [(found,)] = cursor.fetchall()
        return str(found)


SPAN = timedelta(days=395)
