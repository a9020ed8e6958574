"""What hooks are to be told, and the log of what they were told."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from auditing.admin.base import as_json
from auditing.admin.filters import TypedFilter, is_uuid
from auditing.context import audit_context
from auditing.models.logs import LogQuerySet
from controlplane.core import display
from controlplane.core.admin import confirmed_action
from controlplane.core.bigtables import BigTableAdmin, WindowFilter
from storage_meta import delivering
from storage_meta.admin.accesses import TenantFilter
from storage_meta.admin.base import TenantScopedAdmin, narrowed, visible
from storage_meta.models import HookExecution, StorageEvent

TONES = {"pending": "info", "dead": "bad"}


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("pending", "To be sent"), ("retried", "Failed, to be sent again"), ("dead", "Dead"), ("done", "Done")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if value == "retried":
            return queryset.filter(state="pending", attempts__gt=0)
        return queryset.filter(state=value) if value in StorageEvent.State.values else queryset


class OpenWindowFilter(WindowFilter):
    """The last day; of those that wait or are dead all: an old one is the one that is looked for."""

    def value(self) -> str:
        given = self.used_parameters.get(self.parameter_name)
        return super().value() if given or not self.open else "all"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.open = request.GET.get(StateFilter.parameter_name) in ("pending", "retried", "dead")
        super().__init__(request, params, model, model_admin)


class HookFilter(TypedFilter):
    title = "hook"
    parameter_name = "hook"
    help = "The id of a hook"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(hook_id=value) if is_uuid(value) else queryset.none()


class HookNameFilter(TypedFilter):
    title = "hook"
    parameter_name = "hook"
    help = "Its name, whole"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(hook_name=value.replace("\x00", "")) if value else queryset


class KeyFilter(TypedFilter):
    title = "key"
    parameter_name = "object_key"
    help = "A key, whole"


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("success", "Success"), ("failure", "Failure")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(success=value == "success") if value in ("success", "failure") else queryset


class Attempts(LogQuerySet[HookExecution]):
    """Attempts by cursor. One that somebody else logged may be dated before its id was made."""

    def between(self, start: datetime, end: datetime) -> Self:
        return self.filter(created_at__gte=start, created_at__lt=end)


def _resend(event: StorageEvent, request: HttpRequest, reason: str) -> None:
    with audit_context(reason=reason):
        delivering.resend(event.tenant, [event.pk])


class DeliveryAdmin(TenantScopedAdmin, BigTableAdmin):
    """What both lists have in common: found by key or id."""

    search_fields = ("object_key",)
    every_row = "window=all"
    has_history = False

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip().replace("\x00", "")
        if not text:
            return queryset, False
        found = models.Q(object_key=text)
        return queryset.filter(found | models.Q(pk=text) if is_uuid(text) else found), False

    @admin.display(description="Tenant")
    def of(self, row: Any) -> str:
        return str(row.tenant)

    @admin.display(description="Event")
    def what(self, row: Any) -> str:
        return str(row.event_type.removeprefix("s3:"))

    @admin.display(description="Key")
    def key(self, row: Any) -> str:
        return format_html('<span class="cp-mono cp-long">{}</span>', visible(row.object_key))


@admin.register(StorageEvent)
class StorageEventAdmin(DeliveryAdmin):
    list_display = ("at", "to", "of", "what", "key", "standing", "tried", "due")
    list_filter = (OpenWindowFilter, StateFilter, TenantFilter, HookFilter, KeyFilter)
    search_help_text = "A key or the id of an event, whole"
    list_select_related = ("tenant", "hook")
    fieldsets = (
        (None, {"fields": ("standing", "tried", "due", "leased", "to", "what", "key", "version_id", "sequencer")}),
        ("Attempts", {"fields": ("attempts_shown",)}),
        ("What is sent", {"fields": ("body",)}),
        ("Record", {"fields": ("id", "of", "at")}),
    )
    readonly_fields = (
        "standing", "tried", "due", "leased", "to", "what", "key", "version_id", "sequencer", "attempts_shown", "body", "id",
        "of", "at",
    )  # fmt: skip
    actions = (
        confirmed_action(
            "Send again",
            permission="resend",
            command="storage_hooks --retry",
            past="to be sent again",
            explain="The worker sends these at once, under the same ids. One that was dead has this one attempt more.",
            perform=_resend,
            offered=lambda event: event.state != StorageEvent.State.PENDING,
            preview=lambda events: [(str(event), f"to {event.hook.name} of {event.tenant}") for event in events],
        ),
    )
    empty_help = "A change that matches a hook makes an event, which is sent and stays here for 30 days."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows: LogQuerySet[StorageEvent] = LogQuerySet(StorageEvent, using=super().get_queryset(request).db)
        return narrowed(request, rows).select_related("tenant", "hook").defer("hook__secrets")

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_storage_meta.change_storageevent"))

    @admin.display(description="Time (UTC)")
    def at(self, row: StorageEvent) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Hook")
    def to(self, row: StorageEvent) -> str:
        return format_html('<a href="{}">{}</a>', row.hook.get_absolute_url(), row.hook.name)

    @admin.display(description="State")
    def standing(self, row: StorageEvent) -> str:
        return display.status(row.state, TONES)

    @admin.display(description="Attempts")
    def tried(self, row: StorageEvent) -> str:
        return display.number(row.attempts)

    @admin.display(description="Next (UTC)")
    def due(self, row: StorageEvent) -> str:
        return display.instant(row.next_attempt_at) if row.state == StorageEvent.State.PENDING else display.NOTHING

    @admin.display(description="A worker has it until (UTC)")
    def leased(self, row: StorageEvent) -> str:
        return display.instant(row.leased_until)

    @admin.display(description="When (UTC), and the answer")
    def attempts_shown(self, row: StorageEvent) -> str:
        tries = row.executions.order_by("attempt")[:50]
        if not tries:
            return display.NOTHING
        lines = [
            (
                reverse("admin:cp_storage_meta_hookexecution_change", args=[each.pk]),
                f"{each.created_at:%Y-%m-%d %H:%M:%S}",
                each.status_code or "",
                each.error_message or "done",
            )
            for each in tries
        ]
        return format_html(
            '<ul class="cp-plain cp-lines">{}</ul>',
            format_html_join("", '<li><a href="{}">{}</a> {} {}</li>', lines),
        )

    @admin.display(description="Body")
    def body(self, row: StorageEvent) -> str:
        return as_json(row.payload)


@admin.register(HookExecution)
class HookExecutionAdmin(DeliveryAdmin):
    list_display = ("at", "to", "of", "what", "key", "outcome", "answered", "took")
    list_filter = (WindowFilter, OutcomeFilter, TenantFilter, HookNameFilter, KeyFilter)
    search_help_text = "A key or the id of an attempt, whole"
    list_select_related = ("tenant",)
    fieldsets = (
        (None, {"fields": ("outcome", "at", "to", "number", "what", "key", "event_link")}),
        ("Answer", {"fields": ("answered", "error_message", "took", "answer")}),
        ("What was sent", {"fields": ("body",)}),
        ("Record", {"fields": ("id", "of")}),
    )
    readonly_fields = (
        "outcome", "at", "to", "number", "what", "key", "event_link", "answered", "error_message", "took", "answer",
        "body", "id", "of",
    )  # fmt: skip
    empty_help = "Each attempt to tell a hook of an event is a row, kept for 30 days."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows = Attempts(HookExecution, using=super().get_queryset(request).db)
        return narrowed(request, rows).select_related("tenant")

    @admin.display(description="Time (UTC)")
    def at(self, row: HookExecution) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Hook")
    def to(self, row: HookExecution) -> str:
        return row.hook_name

    @admin.display(description="Status code")
    def answered(self, row: HookExecution) -> str:
        return format_html('<span class="cp-num">{}</span>', row.status_code or display.NOTHING)

    @admin.display(description="Outcome")
    def outcome(self, row: HookExecution) -> str:
        return "success" if row.success else display.status("failure", {"failure": "bad"}, row.error_message)

    @admin.display(description="Attempt")
    def number(self, row: HookExecution) -> str:
        return display.number(row.attempt)

    @admin.display(description="Took")
    def took(self, row: HookExecution) -> str:
        return display.number(round(row.execution_time.total_seconds() * 1000), "ms")

    @admin.display(description="Id of the event")
    def event_link(self, row: HookExecution) -> str:
        if row.event_id is None:
            return "logged by a caller"
        url = reverse("admin:cp_storage_meta_storageevent_change", args=[row.event_id])
        return format_html('<a href="{}">{}</a>', url, display.short_id(row.event_id))

    @admin.display(description="Answer")
    def answer(self, row: HookExecution) -> str:
        return format_html('<pre class="cp-mono">{}</pre>', visible(row.response)) if row.response else display.NOTHING

    @admin.display(description="Body")
    def body(self, row: HookExecution) -> str:
        return as_json(row.payload)
