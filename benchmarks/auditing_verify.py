"""Verification: rows that are read, hashed and compared with their seals, in the database and by the stand-alone program."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from django.db import connection

from auditing.exporting import export
from auditing.models import InferenceRequest
from auditing.sealing import seal
from auditing.standalone import verify_export
from auditing.verifying import verify
from benchmarks.report import Goal, rate, show
from controlplane.core.ids import now, uuid7

ROWS = 200_000


def run() -> bool:
    tenant = uuid7()
    _fill(tenant)
    while seal(now(), force=True).more:
        pass

    def in_sql() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM cp_audit_verify('inferencerequest', %s)", [tenant])
            assert cursor.fetchone() == (0,)  # noqa: S101 - a benchmark of something else would be a lie

    def ours() -> None:
        report = verify(tenant=tenant, log="inferencerequest")
        assert (report.rows, report.findings) == (ROWS, [])  # noqa: S101

    def leaves() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(cp_leaf(r)) FROM cp_auditing_inferencerequest r WHERE tenant_id = %s", [tenant]
            )

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "export"

        def exported() -> None:
            export(
                tenant=tenant,
                start=now() - timedelta(days=27),
                end=now() + timedelta(hours=1),
                out=target,
                logs=["inferencerequest"],
            )

        def alone() -> None:
            report = verify_export.verify(target, jobs=2)
            assert (report["findings"], report["logs"][0]["sealed"]) == (0, ROWS)  # noqa: S101

        rates = {
            "leaves alone, in SQL (floor)": rate(ROWS, leaves, lambda: None),
            "verify(): leaves in SQL, roots in Python": rate(ROWS, ours, lambda: None),
            "cp_audit_verify(), all in SQL": rate(ROWS, in_sql, lambda: None),
            "audit_export, JSON lines": rate(ROWS, exported, lambda: None, times=1),
            "verify_export.py in two processes, on the export": rate(ROWS, alone, lambda: None),
        }
    _, verified, _, _, stand_alone = rates.values()
    goals = [
        Goal("verify, rows per second", verified, 150_000, "{:,.0f}"),
        Goal("stand-alone, rows per second", stand_alone, 80_000, "{:,.0f}"),
    ]
    return show(f"Verifying {ROWS:,} requests", rates, "rows/s", goals)


def _fill(tenant: object) -> None:
    with connection.cursor() as cursor:
        for part in range(0, ROWS, 20_000):
            cursor.execute(_ROWS, [tenant, part, part + 20_000])
        cursor.execute(f"ANALYZE {InferenceRequest._meta.db_table}")


_ROWS = """
    INSERT INTO cp_auditing_inferencerequest (
        id, created_at, request_id, tenant_id, app_id, api_key_id, provider, model, status, prompt_tokens, completion_tokens,
        cost, pricing_status, price_id, cost_breakdown, latency_ms, ttft_ms, time_zone, local_date, source
    )
    SELECT cp_uuid7(at), at, 'request-' || n, %s, md5((n %% 7)::text)::uuid, md5((n %% 30)::text)::uuid, 'openai',
           'openai/gpt-4o', 'completed', n %% 8000, n %% 1000, (n %% 8000)::numeric / 100000, 'priced', md5('price')::uuid,
           '{"input": "0.0012", "output": "0.003"}', n %% 5000, n %% 300, 'Europe/Berlin', at::date, 'gate'
    FROM (SELECT n, clock_timestamp() AS at FROM generate_series(%s::int, %s::int - 1) n) g
"""
