"""What it costs to record a change: our watch beside three logs of changes, on the same table, in one run."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction

from auditing.models import AuditLog
from benchmarks.report import Goal, show

ROWS, ROUNDS = 100, 15


def run() -> bool:
    # of an app that is there with the peers alone
    from benchmarks.watched import models  # noqa: PLC0415

    with connection.schema_editor() as editor:
        for model in apps.get_app_config("watched").get_models():
            editor.create_model(model)
    call_command("pgtrigger", "install", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_audit_watch('watched_ours')")
    kinds = (models.Plain, models.Ours, models.ByPghistory, models.ByAuditlog, models.BySimpleHistory)
    saved, updated = measure(kinds, save), measure(kinds, update)
    assert AuditLog.objects.filter(resource_type="watched_ours").count() >= 2 * ROWS * ROUNDS  # noqa: S101 - else nothing was measured
    _, ours, pghistory, auditlog, simple_history = saved
    _, ours_updated, pghistory_updated, *_ = updated
    goals = [
        Goal("save, added by ours against pghistory", ours / pghistory, 2.0, "{:.2f} x", most=True),
        Goal("update(), added by ours against pghistory", ours_updated / pghistory_updated, 2.0, "{:.2f} x", most=True),
        Goal("save, added by ours against django-auditlog", ours / auditlog, 0.25, "{:.2f} x", most=True),
        Goal("save, added by ours against django-simple-history", ours / simple_history, 0.25, "{:.2f} x", most=True),
    ]
    names = ("plain save() or update(), whole", "ours", "django-pghistory", "django-auditlog", "django-simple-history")
    measured = {f"save(): {name}": value * 1e6 for name, value in zip(names, saved, strict=True)}
    measured |= {f"update(): {name}": value * 1e6 for name, value in zip(names[:3], updated, strict=False)}
    return show(f"Recording a change, time added, {ROWS * ROUNDS:,} rows each", measured, "µs", goals, "{:,.1f}")


def measure(kinds: tuple[Any, ...], change: Callable[[Any, int], None]) -> list[float]:
    """Seconds per row: of the first kind all, of the others what they take more. The kinds take turns, so that what else this
    machine does meets all of them."""
    rows = {kind: kind.objects.bulk_create(kind(slug=f"row-{n}", name="Row") for n in range(ROWS)) for kind in kinds}
    taken: dict[Any, list[float]] = {kind: [] for kind in kinds}
    for turn in range(ROUNDS + 1):
        for kind in kinds:
            with transaction.atomic():  # what a commit costs is the same for all
                began = perf_counter()
                for row in rows[kind]:
                    change(row, turn)
                taken[kind].append((perf_counter() - began) / ROWS)
    times = [median(taken[kind][1:]) for kind in kinds]  # the first turn warms up
    return [times[0], *(time - times[0] for time in times[1:])]


def save(row: Any, turn: int) -> None:
    row.name, row.config = f"Name {turn}", {"region": "eu", "turn": turn}
    row.save()


def update(row: Any, turn: int) -> None:
    type(row).objects.filter(pk=row.pk).update(name=f"Other name {turn}", config={"region": "us", "turn": turn})
