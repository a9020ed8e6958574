"""The access log: what a page of it touches, and how months of it go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from time import perf_counter

from benchmarks.report import Goal
from benchmarks.storage_shape import execute
from benchmarks.storage_timing import Timing, asked_by
from controlplane.core import partitions
from storage_meta import cleaning
from storage_meta.models import Bucket, StorageObject

TABLE = "cp_storage_meta_storageaudit"
MONTHS = (date(2026, 3, 1), date(2026, 4, 1), date(2026, 5, 1))
NOW = datetime(2026, 11, 21, tzinfo=UTC)

# Three in ten rows are of the largest tenant; each key comes again and again.
_MAKE = """
    INSERT INTO cp_storage_meta_storageaudit (id, created_at, tenant_id, action, record_type, bucket, object_key, size, etag,
        actor_type, actor_id, actor_name, user_agent)
    SELECT cp_uuid7(at), at, CASE WHEN n %% 10 < 3 THEN %(tenant)s::uuid ELSE md5((n %% 199)::text)::uuid END, 's3:GetObject',
        'READ', 'docs', 'area-a/set-00012/invoice-' || n %% 5000, n, md5(n::text), 'user', 'user-' || n %% 50, 'Ann',
        'Mozilla/5.0 (X11; Linux x86_64)'
    FROM (SELECT n, %(month)s::timestamptz + interval '27 days' * (n::float / %(rows)s) AS at
          FROM generate_series(1, %(rows)s) n) shaped
"""


def goals(bucket: Bucket, rows: int) -> list[Goal]:
    """G9. rows: of each of the three months."""
    partitions.ensure(cleaning.LOG, NOW, months=[*MONTHS])
    for month in MONTHS:
        execute(_MAKE, {"tenant": bucket.tenant_id, "month": f"{month} 00:00Z", "rows": rows})
    execute(f"VACUUM (ANALYZE) {TABLE}")
    files = StorageObject.objects.for_tenant(bucket.tenant)
    pages = {
        "all of a tenant": Timing.of(asked_by(lambda: files.get_audit_logs(limit=50), TABLE)),
        "of a key": Timing.of(
            asked_by(lambda: files.get_audit_logs(object_key="area-a/set-00012/invoice-10", limit=50), TABLE)
        ),
        "of a user": Timing.of(asked_by(lambda: files.get_audit_logs(actor_id="user-10", limit=50), TABLE)),
    }
    for name, page in pages.items():
        sys.stdout.write(f"  access log, {name:<26} {page.p50:9.2f} ms, {page.buffers} buffers, {page.rows} rows\n")

    first = f"{TABLE}_{MONTHS[0]:%Y%m}"
    execute(f"ALTER TABLE {first} DISABLE TRIGGER USER")
    deleted = _seconds(lambda: execute(f"DELETE FROM {first}")) / rows  # noqa: S608 - a constant
    execute(f"ALTER TABLE {first} ENABLE TRIGGER USER")
    began = perf_counter()
    cleaned = cleaning.clean(NOW, days=90)
    dropped = (perf_counter() - began) / max(cleaned.rows, 1)
    sys.stdout.write(
        f"  {cleaned.rows:,} rows of {len(cleaned.months)} months dropped: {dropped * 1e6:.2f} µs a row; "
        f"deleted: {deleted * 1e6:.2f}\n"
    )
    worst = max(page.buffers for page in pages.values())
    return [
        Goal("G9 buffers of a page of 50 of the access log", worst, 60, "{:.0f}", most=True),
        Goal("G9 months dropped against DELETE of their rows", deleted / dropped, 3, "{:.1f} x"),
        Goal("G9 rows that did not go", 2 * rows - cleaned.rows, 0, "{:.0f}", most=True),
    ]


def _seconds(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began
