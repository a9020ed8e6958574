"""Usage of elsewhere, validated and written once, against a raw COPY and bulk_create of the same rows into the same table."""

from __future__ import annotations

import gc
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connection
from psycopg.types.json import JsonbDumper

from auditing import ingest
from auditing.importing import open_usage
from auditing.models import InferenceRequest
from auditing.rendering import COLUMNS
from auditing.testing import empty
from benchmarks.report import Goal, rate, show
from catalog.models import AIModel, ModelPrice, Provider
from controlplane.core import partitions
from controlplane.core.ids import now
from tenants.models import App, Tenant

ROWS = 50_000
DAY = datetime(2023, 11, 16, tzinfo=UTC)


def run() -> bool:
    tenant = Tenant.objects.create(slug="bench", name="Bench")
    app = App.objects.create(tenant=tenant, slug="bench", name="Bench")
    _price()
    partitions.ensure(ingest.LOG, now(), months=[DAY.date().replace(day=1)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(_lines()))
        given = {"tenant_id": tenant.pk, "app_id": app.pk, "provider": "azure", "model": "azure/gpt-4"}
        usage = open_usage(path, constants=given)
        rows = [row for _, row in usage.rows() if isinstance(row, dict)]

        def ours() -> None:
            result = ingest.ingest(usage.rows(), source="import", historical=True, using="default")
            assert result.inserted == ROWS, result  # noqa: S101 - a benchmark of something else would be a lie

        def again() -> None:
            result = ingest.ingest(usage.rows(), source="import", historical=True, using="default")
            assert result.duplicates == ROWS, result  # noqa: S101

        def parsed() -> None:
            result = ingest.ingest(enumerate(rows, 1), source="import", historical=True, using="default")
            assert result.inserted == ROWS, result  # noqa: S101

        parsed()
        facts = list(InferenceRequest.objects.order_by("id").values_list(*COLUMNS))
        assert all(fact[COLUMNS.index("cost")] for fact in facts)  # noqa: S101
        gc.collect()
        gc.freeze()  # what the benchmark holds is no work of what it measures
        rates = {
            "raw COPY of ready rows (floor)": rate(ROWS, lambda: _copy(facts), _empty),
            "ingest of parsed rows, validated and priced": rate(ROWS, parsed, _empty),
            "usage_import of a CSV file, the whole way": rate(ROWS, ours, _empty),
            "the same file again (all duplicates)": rate(ROWS, again, lambda: None),
            "bulk_create(1000) of ready rows (ORM)": rate(ROWS, lambda: _bulk_create(facts), _empty, times=1),
        }
    floor, ingested, imported, _, orm = rates.values()
    goals = [
        Goal("ingest against raw COPY", ingested / floor, 0.6, "{:.2f} x"),
        Goal("ingest against bulk_create", ingested / orm, 3.0, "{:.1f} x"),
        Goal("usage_import, rows per second", imported, 20_000, "{:,.0f}"),
    ]
    return show(f"Ingest of {ROWS:,} requests", rates, "rows/s", goals)


def _lines() -> list[str]:
    chance = random.Random(7)  # noqa: S311 - the same rows every time
    lines = []
    at = DAY
    for _ in range(ROWS):
        at += timedelta(microseconds=chance.randrange(1, 1_500_000))
        lines.append(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{chance.randrange(1, 8000)},{chance.randrange(1, 1000)}\n")
    return lines


def _price() -> None:
    """The model has a list price: that of the calls is looked up and worked out, as it would be."""
    model = AIModel.objects.create(
        key="azure/gpt-4", name="gpt-4", provider=Provider.objects.get_or_create(slug="azure")[0]
    )
    rates = {"input_cost_per_token": "0.00003", "output_cost_per_token": "0.00006"}
    ModelPrice.objects.supersede(model, rates, effective_from=DAY - timedelta(days=365), reason="The benchmark.")


def _empty() -> None:
    empty("cp_auditing_inferencerequest")


def _copy(facts: list[tuple[Any, ...]]) -> None:
    statement = "COPY cp_auditing_inferencerequest (" + ", ".join(COLUMNS) + ") FROM STDIN"
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(dict, JsonbDumper)
        with cursor.copy(statement) as copy:
            for fact in facts:
                copy.write_row(fact)


def _bulk_create(facts: list[tuple[Any, ...]]) -> None:
    rows = [InferenceRequest(**dict(zip(COLUMNS, fact, strict=True))) for fact in facts]
    InferenceRequest.objects.bulk_create(rows, batch_size=1000)
