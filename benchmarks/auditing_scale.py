"""Ten million requests of 13 months and 200 tenants: what a page waits for, what a row takes, how a month goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

from django.db import connection
from psycopg import sql

from auditing import rollups
from auditing.ingest import LOG
from auditing.models import InferenceRequest
from benchmarks.auditing_shape import make, tenant
from benchmarks.report import Goal, show
from controlplane.core import partitions
from controlplane.core.ids import now

ROWS = 10_000_000
END = datetime(2026, 11, 21, 20, tzinfo=UTC)
START = datetime(2025, 11, 1, tzinfo=UTC)


def run(rows: int = int(os.environ.get("BENCH_ROWS", ROWS))) -> bool:
    months = [START.date()]
    while months[-1] < END.date().replace(day=1):
        months.append(partitions.next_month(months[-1]))
    partitions.ensure(LOG, now(), months=months)
    partitions.ensure(rollups.HOURS, now(), months=months)
    measured = {"make": _seconds(lambda: make(rows, START, END)), "roll up": _seconds(_roll_up)}
    _execute(
        "ANALYZE cp_auditing_inferencerequest, cp_auditing_usagehour, cp_auditing_usageday, cp_auditing_usagesummary"
    )
    largest, requests = tenant(0), InferenceRequest.objects
    month_ago, begin = END - timedelta(days=30), END.replace(day=1, hour=0)
    asked = {
        "metrics of 30 days": lambda: requests.metrics(largest, month_ago + timedelta(minutes=7), END),
        "a day by hour": lambda: requests.totals(largest, begin, begin + timedelta(days=1), by=("hour",)),
        "all by model": lambda: requests.totals(None, START, END, by=("model",)),
        "all by model, of the requests": lambda: _execute(
            "SELECT model, count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost) "
            "FROM cp_auditing_inferencerequest GROUP BY 1"
        ),
    }
    took = {name: _seconds(call, times=1 if "requests" in name else 7) * 1000 for name, call in asked.items()}
    took["page 1"] = _far_page(largest, 0)
    took["page 10,000"] = _far_page(largest, min(10_000, rows // 1000))
    bytes_per_row = _bytes() / rows
    gone, kept = _retire("cp_auditing_inferencerequest_202512"), _delete("cp_auditing_inferencerequest_202601")
    sys.stdout.write(f"{rows:,} requests: made in {measured['make']:.0f} s, rolled up in {measured['roll up']:.0f} s\n")
    took |= {"retire a month: DETACH and DROP": gone * 1000, "the month after by DELETE and VACUUM": kept * 1000}
    by_model = took["all by model"] / took["all by model, of the requests"]
    goals = [
        Goal("metrics of a tenant over 30 days, ms", took["metrics of 30 days"], 25, "{:.1f}", most=True),
        Goal("a day by hour, ms", took["a day by hour"], 25, "{:.1f}", most=True),
        Goal(
            "all by model against the requests",
            by_model,
            0.1,
            "{:.3f} x",
            True,
        ),
        Goal("page 10,000 against page 1", took["page 10,000"] / took["page 1"], 1.2, "{:.2f} x", True),
        Goal("bytes per request with indexes", bytes_per_row, 500, "{:.0f}", True),
        Goal("retire a month, s", gone, 2, "{:.2f}", True),
        Goal("retire against DELETE and VACUUM", gone / kept, 0.2, "{:.3f} x", True),
    ]
    return show(f"Usage of {rows:,} requests, 200 tenants, 13 months", took, "ms", goals, form="{:,.1f}")


def _roll_up() -> None:
    while rollups.run(now()):
        pass


def _seconds(call: Callable[[], object], times: int = 1) -> float:
    took = []
    for _ in range(times):
        began = perf_counter()
        call()
        took.append(perf_counter() - began)
    return median(took)


def _execute(statement: str | sql.Composable) -> list[tuple[int, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _far_page(owner: str, number: int) -> float:
    """Milliseconds of that page of a tenant, from its cursor on; the pages before are not read."""
    rows = InferenceRequest.objects.for_tenant(owner)
    [edge] = rows.order_by("-id").values_list("pk", flat=True)[number * 100 : number * 100 + 1]
    after = rows.filter(id__lte=edge).page(size=1, binding="bench").next
    return _seconds(lambda: rows.page(after=after, size=100, binding="bench"), times=15) * 1000


def _retire(partition: str) -> float:
    """Seconds that a month takes to go as retention lets it go; what seals and records say of it is not part of this."""

    def go() -> None:
        _execute(
            sql.SQL("ALTER TABLE cp_auditing_inferencerequest DETACH PARTITION {} CONCURRENTLY").format(
                sql.Identifier(partition)
            )
        )
        _execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition)))

    return _seconds(go)


def _delete(partition: str) -> float:
    """Seconds that a month takes to go row by row, its guards lifted."""
    table = sql.Identifier(partition)
    _execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
    return _seconds(
        lambda: [_execute(sql.SQL(each).format(table)) for each in ("DELETE FROM {}", "VACUUM {}")],
    )


def _bytes() -> int:
    [(size,)] = _execute(
        "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits "
        "WHERE inhparent = 'cp_auditing_inferencerequest'::regclass"
    )
    return size
