from __future__ import annotations

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models.functions import Now

from controlplane.core.caches.processes import GONE


class ProcessQuerySet(models.QuerySet["Process"]):
    def seen(self) -> Self:
        """Those of the last ten minutes, by host and start, each with its `age` since it was seen."""
        age = models.ExpressionWrapper(Now() - models.F("seen_at"), models.DurationField())
        return self.filter(seen_at__gte=Now() - GONE).annotate(age=age).order_by("host", "started_at", "process")


class Process(models.Model):
    """A process that has caches, as it writes itself down every 15 s (`controlplane.core.caches`).

    Derived and lost in a crash of the server: only the page and the command that show it read it. Unmanaged, because the
    table is unlogged.
    """

    SILENT = timedelta(seconds=60)

    process = models.UUIDField(primary_key=True)
    host = models.TextField()
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    lease_age_ms = models.BigIntegerField(null=True)
    caches = models.JSONField(default=dict)

    objects = ProcessQuerySet.as_manager()

    age: timedelta
    """Since it was seen; of `seen()`."""

    class Meta:
        managed = False
        db_table = "cp_core_process"
        default_permissions = ("view",)
        permissions = [("flush_process", "Can empty the caches of every process")]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    @property
    def silent(self) -> bool:
        """Whether it has not written for four times as long as it should; it may have ended."""
        return self.age >= self.SILENT


class WorkerDuty(models.Model):
    """When a duty was done last, and how it went: one row per duty, written by the worker that did it.

    failures: runs since the last that succeeded. error: of the last run, without secrets; '' = it went well.
    """

    name = models.CharField(max_length=64, primary_key=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(
        null=True, blank=True, help_text="Of the last run that ended; NULL: the first goes on."
    )
    failures = models.IntegerField(default=0)
    error = models.TextField(default="", blank=True)

    class Meta:
        db_table_comment = "When a duty was done last, and how it went"
        verbose_name_plural = "worker duties"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"Duty {self.name}"
