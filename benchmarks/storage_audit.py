"""The access log: a page of it, and months that go, whole by detaching and dropping, against DELETE of the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from django.db import connection, transaction

from benchmarks.report import Goal, show
from controlplane.core import partitions
from controlplane.core.ids import now
from storage_meta import cleaning, trail
from storage_meta.handle import Files
from tenants.models import Tenant

ROWS = 1_000_000
TENANTS = 200
TABLE = cleaning.LOG.table
MONTH = datetime(2023, 11, 1, tzinfo=UTC)
AFTER = datetime(2023, 12, 2, tzinfo=UTC)
"""A day after the month's end: with days=1 all of it is too old."""

_MAKE = """
    INSERT INTO cp_storage_meta_storageaudit
        (id, created_at, tenant_id, action, record_type, bucket, object_key, version_id, sequencer, size, etag, actor_type,
         actor_id, source_ip, user_agent, request_id)
    SELECT cp_uuid7(at), at, ('0197d0a0-0000-7000-8000-' || lpad(to_hex(n %% %s), 12, '0'))::uuid, 's3:PutObject', 'CREATE',
        'docs', 'reports/' || n %% 5000 || '.txt', 'null', lpad(to_hex(n), 16, '0'), 1024, md5(n::text), 'user', n %% 50,
        '203.0.113.7', 'curl/8.5', md5(n::text)
    FROM (SELECT n, %s::timestamptz + n * interval '30 days' / %s AS at FROM generate_series(1, %s) n) t
"""


def run(rows: int = ROWS) -> bool:
    """Rows of 200 tenants that take turns. The same rows go four times: from a plain table, at once, by batches, as a month."""
    _make(rows)
    tenant = _ask(f"SELECT tenant_id FROM {TABLE}_202311 LIMIT 1")  # noqa: S608
    buffers = max(_buffers(tenant, {}), _buffers(tenant, {"object_key": "reports/0.txt"}))
    _ask(f"CREATE TABLE cp_bench_plain (LIKE {TABLE} INCLUDING ALL)")
    _ask(f"INSERT INTO cp_bench_plain SELECT * FROM {TABLE}_202311")  # noqa: S608
    plain = _seconds(lambda: (_ask("DELETE FROM cp_bench_plain"), _ask("VACUUM cp_bench_plain")))
    _ask("DROP TABLE cp_bench_plain")
    at_once = _seconds(_delete)
    _make(rows)
    deleted = _seconds(lambda: _clean(rows, bucket="docs"))
    _clean(0)  # the month, which is empty now
    _make(rows)
    dropped = _seconds(lambda: _clean(rows))
    told = {
        "DELETE and VACUUM of a plain table, s": plain,
        "one DELETE from the log, through its door, s": at_once,
        "cleaned up by batches of 10,000, s": deleted,
        "cleaned up by the month, s": dropped,
    }
    goals = [
        Goal("G9 page of 50, buffers", buffers, 60, "{:.0f}", most=True),
        Goal("G9 dropping a month against DELETE of its rows", at_once / dropped, 3.0, "{:.1f} x"),
    ]
    return show(f"The access log, {rows:,} rows of a month", told, "", goals, form="{:,.2f}")


def _make(rows: int) -> None:
    partitions.ensure(cleaning.LOG, now(), months=[MONTH.date()])
    _ask(_MAKE, [TENANTS, MONTH, rows + 1, rows])
    _ask(f"VACUUM (ANALYZE) {TABLE}_202311")


def _delete() -> None:
    with transaction.atomic():
        _ask("SELECT set_config('cp.retention_before', %s, true)", [AFTER.isoformat()])
        _ask(f"DELETE FROM {TABLE}_202311")  # noqa: S608
    _ask(f"VACUUM {TABLE}_202311")


def _clean(rows: int, bucket: str | None = None) -> None:
    done = cleaning.clean(AFTER, days=1, bucket=bucket, by="benchmark")
    if done.rows != rows or len(done.months) != (bucket is None):
        raise RuntimeError(f"{done.rows} rows went, {done.months} were dropped.")


def _buffers(tenant: Any, asked: dict[str, str]) -> int:
    files = Files(tenant=Tenant(pk=tenant), bucket_name="docs")
    rows = trail.narrowed(files, asked)[:51]  # as `logs` asks for 50: one more tells whether there is a next page
    list(rows)  # what a connection reads once of an index, it has read
    plan = json.loads(rows.explain(analyze=True, buffers=True, format="json"))[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _ask(statement: str, values: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0] if cursor.description else None
