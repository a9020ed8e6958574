"""The duties of the worker: when each was done last, and how it went."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator

from controlplane.core import display
from controlplane.core.admin import ModelAdmin
from controlplane.core.duties import registered
from controlplane.core.ids import now
from controlplane.core.models import WorkerDuty
from controlplane.lateness import State, state_of

TONES = {State.LATE.value: "bad", State.FAILING.value: "bad", State.RUNNING.value: "info"}
WHY = {
    State.LATE: "It has not run for ten of its periods: see that manage.py run_worker runs.",
    State.FAILING: "Its last run failed; it is tried again within a minute.",
    State.RUNNING: "It runs now, or its process was killed and it begins anew.",
    State.ON_TIME: "",
}


class WorkerDutyAdmin(ModelAdmin):
    list_display = ("name", "state", "every", "last_run", "took", "failed", "what")
    search_fields = ("name__startswith",)
    search_help_text = "How a name begins"
    ordering = ("name",)
    fieldsets = ((None, {"fields": ("name", "state", "every", "started", "finished", "took", "failures", "error")}),)
    readonly_fields = ("state", "every", "started", "finished", "took")
    has_history = False
    empty_help = (
        "No duty has been done yet. Run manage.py run_worker beside the server, or manage.py run_maintenance by cron."
    )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    @admin.display(description="State")
    def state(self, row: WorkerDuty) -> str:
        found = state_of(row, _period(row), now())
        return display.status(found.value, TONES, WHY[found])

    @admin.display(description="Every")
    def every(self, row: WorkerDuty) -> str:
        every_s = _period(row)
        return _right(display.NOTHING if every_s is None else duration(every_s))

    @admin.display(description="Last run (UTC)", ordering="started_at")
    def last_run(self, row: WorkerDuty) -> str:
        return display.instant(row.started_at)

    @admin.display(description="Began (UTC)")
    def started(self, row: WorkerDuty) -> str:
        return display.instant(row.started_at)

    @admin.display(description="Ended (UTC)")
    def finished(self, row: WorkerDuty) -> str:
        return display.instant(row.finished_at)

    @admin.display(description="Took")
    def took(self, row: WorkerDuty) -> str:
        if row.finished_at is None or row.finished_at < row.started_at:
            return display.NOTHING
        return _right(duration(seconds_between(row.started_at, row.finished_at)))

    @admin.display(description="Failures in a row", ordering="failures")
    def failed(self, row: WorkerDuty) -> str:
        return display.number(row.failures)

    @admin.display(description="Error")
    def what(self, row: WorkerDuty) -> str:
        if not row.error:
            return display.NOTHING
        return format_html('<span title="{}">{}</span>', row.error, Truncator(row.error).chars(60))


def _period(row: WorkerDuty) -> float | None:
    return next((duty.every_s for duty in registered() if duty.name == row.name), None)


def _right(text: str) -> str:
    return format_html('<span class="cp-num">{}</span>', text)


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def duration(seconds: float) -> str:
    """As people say it, in the largest unit that it is whole or nearly so in: 20 ms, 5 s, 3 min, 1 h, 1 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def register() -> None:
    """A sibling's worker is the control plane's: only the roof shows its duties."""
    admin.site.register(WorkerDuty, WorkerDutyAdmin)
