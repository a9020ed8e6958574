"""A price file into an empty catalog and again into the full one, audit on, beside `update_or_create` in a loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from time import perf_counter
from typing import Any

from django.db import transaction

from auditing.context import audit_context
from auditing.models import AuditLog
from benchmarks.report import Goal, show
from catalog import importing
from catalog.models import AIModel, ModelPrice, Provider
from controlplane.core.ids import now

EVERY = 9  # entry is written by the loop: it takes long
FIRST_S, AGAIN_S, AGAINST_LOOP = 10.0, 5.0, 0.1


def run(prices: bytes) -> bool:
    """Leaves the catalog full."""
    parsed = importing.parse(prices, "prices.json")
    entries = len(parsed.entries)
    rows = {
        key: (mapped.provider, _floats(mapped.columns), mapped.rates)
        for key, mapped in islice(parsed.entries.items(), 0, None, EVERY)
    }
    with transaction.atomic():
        loop = _seconds(lambda: _one_by_one(rows)) * entries / len(rows)
        assert AIModel.objects.count() == len(rows)  # noqa: S101 - a benchmark of something else would be a lie
        transaction.set_rollback(True)
    logged = AuditLog.objects.count()
    first = _seconds(lambda: _import(prices))
    assert AuditLog.objects.count() - logged > entries  # noqa: S101
    again = _seconds(lambda: _import(prices))
    assert AIModel.objects.count() == entries  # noqa: S101
    assert ModelPrice.objects.in_force().count() == ModelPrice.objects.count()  # noqa: S101
    measured = {
        "into an empty catalog": first,
        "the same file again": again,
        f"update_or_create in a loop ({len(rows)} of them, scaled)": loop,
    }
    goals = [
        Goal("import, seconds", first, FIRST_S, "{:.1f}", most=True),
        Goal("the same again, seconds", again, AGAIN_S, "{:.1f}", most=True),
        Goal("import against the loop", first / loop, AGAINST_LOOP, "{:.2f} x", most=True),
    ]
    return show(f"Import of {entries:,} entries, audit on", measured, "s", goals, "{:.2f}")


def _import(prices: bytes) -> None:
    """The whole way, from the bytes of the file."""
    with audit_context(actor="bench"):
        importing.plan(importing.parse(prices, "prices.json")).apply()


def _one_by_one(rows: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    """Of rows that were read and mapped before."""
    start = now()
    with audit_context(actor="bench", reason="Import of prices.json"):
        for key, (slug, columns, rates) in rows.items():
            provider, _ = Provider.objects.get_or_create(slug=slug, defaults={"name": slug})
            model, _ = AIModel.objects.update_or_create(key=key, defaults={**columns, "provider": provider})
            if rates:
                terms = {"rates": rates, "source": "litellm", "version": "bench"}
                ModelPrice.objects.update_or_create(model=model, tenant=None, effective_from=start, defaults=terms)


def _floats(columns: dict[str, Any]) -> dict[str, Any]:
    """What Django's JSON fields take: they know no Decimal."""
    return {**columns, "extra": json.loads(json.dumps(columns["extra"], default=float))}


def _seconds(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
