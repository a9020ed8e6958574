"""Sealing of requests, and its parts, beside the floor: SHA-256 of the same rows as the server prints them."""

from __future__ import annotations

from django.db import connection

from auditing.sealing import seal
from auditing.testing import empty
from benchmarks.report import Goal, rate, show
from controlplane.core.ids import now

ROWS = 100_000
_FILLED = """
    INSERT INTO cp_auditing_inferencerequest (
        id, created_at, request_id, tenant_id, app_id, api_key_id, provider, model, status, prompt_tokens, completion_tokens,
        cached_tokens, cost, pricing_status, cost_breakdown, latency_ms, ttft_ms, time_zone, local_date, source)
    SELECT cp_uuid7(at), at, 'request-' || n, tenants[n %% 5 + 1], apps[n %% 20 + 1], keys[n %% 50 + 1], 'openai',
        'openai/gpt-4o', 'completed', 100 + n %% 900, n %% 300, n %% 100, 0.001234 + n * 0.000001, 'priced',
        '{"prompt": "0.001", "completion": "0.000234"}', 200 + n %% 3000, 100 + n %% 500, 'Europe/Berlin',
        (at AT TIME ZONE 'Europe/Berlin')::date, 'gate'
    FROM (SELECT n, now() - n * interval '1 millisecond' AS at FROM generate_series(1, %s) n) s,
        (SELECT array_agg(gen_random_uuid()) AS tenants FROM generate_series(1, 5)) t,
        (SELECT array_agg(gen_random_uuid()) AS apps FROM generate_series(1, 20)) a,
        (SELECT array_agg(gen_random_uuid()) AS keys FROM generate_series(1, 50)) k
"""
_RAW = "SELECT count(sha256(convert_to(r::text, 'UTF8'))) FROM cp_auditing_inferencerequest r"
_LEAVES = "SELECT count(cp_leaf(r)) FROM cp_auditing_inferencerequest r"
_ROOTS_BY_SERVER = """
    SELECT count(root) FROM (
        SELECT cp_merkle_root(array_agg(leaf ORDER BY id)) AS root FROM (
            SELECT tenant_id, id, leaf, (row_number() OVER (PARTITION BY tenant_id ORDER BY id) - 1) / 1000 AS piece
            FROM (SELECT tenant_id, id, cp_leaf(r) AS leaf FROM cp_auditing_inferencerequest r OFFSET 0) leaves
        ) cut GROUP BY tenant_id, piece
    ) roots
"""


def run() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_FILLED, [ROWS])
        cursor.execute("VACUUM ANALYZE cp_auditing_inferencerequest")
        cursor.execute("SET jit = off")
    rates = {
        "SHA-256 of the rows as text (floor)": rate(ROWS, lambda: _ask(_RAW), lambda: None),
        "leaves alone": rate(ROWS, lambda: _ask(_LEAVES), lambda: None),
        "leaves and roots, both by the server": rate(ROWS, lambda: _ask(_ROOTS_BY_SERVER), lambda: None),
        "seal, the whole run": rate(ROWS, _seal, _unsealed),
    }
    goals = [Goal("sealed rows per second", rates["seal, the whole run"], 100_000, "{:,.0f}")]
    return show(f"Sealing of {ROWS:,} requests", rates, "rows/s", goals)


def _ask(query: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query)
        assert cursor.fetchone()[0]  # noqa: S101 - a benchmark of something else would be a lie


def _seal() -> None:
    run = seal(now(), force=True)
    assert run.rows == ROWS, run  # noqa: S101


def _unsealed() -> None:
    empty("cp_auditing_auditseal", "cp_auditing_ingestwatermark")
