"""What roll-ups and metrics must say, counted one row at a time."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, time
from decimal import Decimal

from auditing.models import InferenceRequest, IngestWatermark, UsageDay, UsageHour, UsageSummary
from controlplane.core.ids import NIL

SUBJECTS = ("app_id", "branch_id", "api_key_id")
TABLES = {
    UsageHour: ("hour", ("tenant_id", "provider", "model")),
    UsageDay: ("day", ("tenant_id", "provider", "model", *SUBJECTS)),
    UsageSummary: ("month", ("tenant_id", "provider", "model", *SUBJECTS, "user_id")),
}
MEASURES = (
    "requests", "completed", "failed", "cancelled", "lost", "unpriced", "estimated", "adjustments", "prompt_tokens",
    "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "cost", "estimated_cost", "latency_n",
    "latency_sum_ms", "latency_max_ms", "latency_hist",
)  # fmt: skip


def booked(row):
    return row.booked_at or row.created_at


def period(row, name):
    if name == "hour":
        return booked(row).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return row.local_date if name == "day" else row.local_date.replace(day=1)


def instant(period):
    return period if isinstance(period, datetime) else datetime.combine(period, time(), UTC)


def bucket(latency):
    n = 0
    while n < 23 and latency > 1 << n:
        n += 1
    return n


def counted(rows):
    """The measures of rows of the log, as the columns of a roll-up."""
    found = dict.fromkeys(MEASURES, 0) | {"cost": Decimal(0), "estimated_cost": Decimal(0), "latency_max_ms": None}
    hist = [0] * 24
    for row in rows:
        late = row.reason_code == "late_completion"
        found["adjustments" if row.adjusts else "requests"] += 1
        if late or not row.adjusts:
            found[row.status] += 1
            if row.status == "completed" and row.latency_ms is not None:
                found["latency_n"] += 1
                found["latency_sum_ms"] += row.latency_ms
                found["latency_max_ms"] = max(found["latency_max_ms"] or 0, row.latency_ms)
                hist[bucket(row.latency_ms)] += 1
        if late:
            found["lost"] -= 1
        found["unpriced"] += (row.pricing_status == "unpriced") - (row.reason_code == "priced")
        estimate = (row.metadata or {}).get("estimate") if row.adjusts else None
        found["estimated"] += (row.pricing_status == "estimated") - (late and estimate is not None)
        found["estimated_cost"] += (row.cost if row.pricing_status == "estimated" else 0) + Decimal(estimate or 0)
        found["cost"] += row.cost or 0
        for name in ("prompt", "completion", "cached", "cache_write", "reasoning"):
            found[f"{name}_tokens"] += getattr(row, f"{name}_tokens") or 0
    return found | {"latency_hist": hist}


def grouped(rows, model):
    name, dimensions = TABLES[model]
    groups = defaultdict(list)
    for row in rows:
        groups[period(row, name), *(getattr(row, dimension) or NIL for dimension in dimensions)].append(row)
    return {key: counted(mine) for key, mine in groups.items()}


def stored(model, tenants):
    name, dimensions = TABLES[model]
    return {
        (getattr(row, name), *(getattr(row, dimension) for dimension in dimensions)): {
            measure: getattr(row, measure) for measure in MEASURES
        }
        for row in model.objects.filter(tenant_id__in=tenants)
    }


def rows_of(tenants, below=None):
    rows = InferenceRequest.objects.filter(tenant_id__in=tenants)
    return list(rows if below is None else rows.filter(xid__lt=below))


def watermark():
    return IngestWatermark.objects.values_list("xid", flat=True).get(name="rollup")


def check_rolled_up(*tenants):
    """The roll-ups of the tenants are what their requests below the watermark add up to, to the last digit."""
    rows = rows_of(tenants, below=watermark())
    for model in TABLES:
        assert stored(model, tenants) == grouped(rows, model), model.__name__
    return len(rows)
