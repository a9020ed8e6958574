"""A month of 1 GB of requests that goes: by our retirement, against DELETE and VACUUM of the same rows in a plain table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from django.db import connection

from auditing import retiring
from auditing.ingest import LOG
from benchmarks.auditing_shape import make
from benchmarks.report import Goal, show
from controlplane.core import partitions
from controlplane.core.ids import now

ROWS = 1_100_000
START, END = datetime(2023, 11, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC)
TABLE = "cp_auditing_inferencerequest_202311"
GIGABYTE = 10**9


def run(rows: int = ROWS) -> bool:
    """Sealing and verifying come before, and have benchmarks of their own: here a month goes that may go."""
    partitions.ensure(LOG, now(), months=[START.date()])
    make(rows, START, END)
    _ask(f"VACUUM (ANALYZE) {TABLE}")
    size = _ask(f"SELECT pg_total_relation_size('{TABLE}')")
    _ask(f"CREATE TABLE cp_bench_plain (LIKE {TABLE} INCLUDING ALL)")
    _ask(f"INSERT INTO cp_bench_plain SELECT * FROM {TABLE}")  # noqa: S608 - a constant
    baseline, baseline_wal = _measured(_delete)
    _ask("DROP TABLE cp_bench_plain")
    ours, wal = _measured(_retire)
    told = {
        "size of the month, MB": size / 10**6,
        "DELETE and VACUUM of a plain table, s": baseline,
        "their WAL, MB": baseline_wal / 10**6,
        "count, record, detach and drop, s": ours,
        "its WAL, MB": wal / 10**6,
    }
    goals = [
        Goal("size of the month, GB", size / GIGABYTE, min(1.0, rows / ROWS), "{:.2f}"),
        Goal("retire a month, s", ours, 2.0, "{:.2f}", most=True),
        Goal("retire against DELETE and VACUUM", ours / baseline, 0.2, "{:.3f} x", most=True),
        Goal("WAL of a retired month, MB", wal / 10**6, 1.0, "{:.2f}", most=True),
    ]
    return show(f"Retiring a month of {rows:,} requests", told, "", goals, form="{:,.2f}")


def _retire() -> None:
    run = retiring.Run(archive=None, reason="The benchmark.", by="benchmark", told=lambda line: None)
    with retiring.alone() as direct:
        month = START.date()
        retiring.mark("inferencerequest", month, retiring.standing("inferencerequest", month), run, direct)
        retiring.finish(LOG, month, run, direct)


def _delete() -> None:
    _ask("DELETE FROM cp_bench_plain")
    _ask("VACUUM cp_bench_plain")


def _measured(work: Callable[[], None]) -> tuple[float, int]:
    """Seconds, and octets of write-ahead log, which is the whole server's: nothing else runs there."""
    before, began = _ask("SELECT pg_current_wal_lsn()"), perf_counter()
    work()
    took = perf_counter() - began
    return took, int(_ask(f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{before}')"))


def _ask(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else 0
