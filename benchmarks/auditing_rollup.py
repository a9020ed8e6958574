"""The roll-up against ingest of the same rows: it has to keep up with what is written, twice over."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter
from typing import Any

from auditing import ingest, rollups
from auditing.models import InferenceRequest
from auditing.testing import empty
from benchmarks.auditing_shape import make
from benchmarks.report import Goal, show
from controlplane.core.ids import now
from tenants.models import Tenant

ROWS = 200_000
INGESTED = 50_000
_FIELDS = (
    "created_at", "request_id", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "provider", "model", "status",
    "prompt_tokens", "completion_tokens", "cached_tokens", "latency_ms", "ttft_ms", "stream",
)  # fmt: skip


def run() -> bool:
    """As the worker meets them: requests of two busy hours, of 200 tenants."""
    start = now() - timedelta(hours=2)
    make(ROWS, start, start + timedelta(hours=2))
    ids = InferenceRequest.objects.values_list("tenant_id", flat=True).distinct()
    Tenant.objects.bulk_create(Tenant(id=id, slug=f"bench-{n}", name=f"Bench {n}") for n, id in enumerate(ids))
    given = [dict(zip(_FIELDS, row, strict=True)) for row in InferenceRequest.objects.values_list(*_FIELDS)[:INGESTED]]
    rolled = ROWS / _roll_up()
    _empty()
    began = perf_counter()
    result = ingest.ingest(enumerate(given, 1), source="ingest", using="default")
    ingested = INGESTED / (perf_counter() - began)
    assert result.inserted == INGESTED, result.rejections[:1]  # noqa: S101 - a benchmark of something else would be a lie
    same = INGESTED / _roll_up()
    measured: dict[str, Any] = {"ingest": ingested, "roll-up of the same rows": same, f"roll-up of {ROWS:,}": rolled}
    goals = [
        Goal("roll-up, rows per second", rolled, 120_000, "{:,.0f}"),
        Goal("roll-up against ingest", same / ingested, 2.0, "{:.1f} x"),
    ]
    return show("Roll-up of requests of 200 tenants in two hours", measured, "rows/s", goals)


def _roll_up() -> float:
    """Seconds."""
    began = perf_counter()
    while rollups.run(now()):
        pass
    return perf_counter() - began


def _empty() -> None:
    empty("cp_auditing_inferencerequest")
