from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import path
from django.utils.html import format_html
from django.utils.text import Truncator

from auditing.admin import standing, timeline
from auditing.admin.base import LogAdmin, as_json
from auditing.admin.differences import changes
from auditing.admin.filters import (
    ActionFilter,
    ActorFilter,
    PeriodFilter,
    RequestFilter,
    ResourceFilter,
    period,
    subject_filter,
)
from auditing.admin.timeline import OUTCOMES, actor, explained
from auditing.models import AuditLog
from controlplane.core import display


@admin.register(AuditLog)
class AuditLogAdmin(LogAdmin):
    rows_are = "events"
    list_display = ("at", "who", "done", "object", "tenant", "change", "why")
    list_filter = (
        PeriodFilter,
        subject_filter("tenant", "tenant", offer=True),
        subject_filter("app", "app"),
        subject_filter("user", "user"),
        ActorFilter,
        ActionFilter,
        ResourceFilter,
        RequestFilter,
        "actor_type",
        "outcome",
    )
    search_fields = ("request_id",)
    fieldsets = (
        (None, {"fields": ("at", "who", "action", "object", "result", "reason", "difference")}),
        ("Where", {"fields": ("tenant", "app", "branch", "user", "api_key", "request_id", "address", "user_agent")}),
        ("Record", {"fields": ("id", "more", "proof")}),
    )
    readonly_fields = (
        "at", "who", "action", "object", "result", "reason", "difference", "tenant", "app", "branch", "user", "api_key",
        "request_id", "address", "user_agent", "id", "more", "proof",
    )  # fmt: skip
    empty_help = "Every change of tenants, keys, models and policies is recorded here by the database."

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("timeline/", view(self.timeline_view), name=timeline.NAME),
            path("partitions/", view(self.partitions_view), name=standing.PARTITIONS),
            *super().get_urls(),
        ]

    def timeline_view(self, request: HttpRequest) -> HttpResponse:
        return timeline.page(self, request)

    def partitions_view(self, request: HttpRequest) -> HttpResponse:
        return standing.partitions_page(self, request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return period(request) or super().changelist_view(request, extra_context)

    def has_verify_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_auditing.verify_auditlog"))

    @admin.display(description="Actor")
    def who(self, row: AuditLog) -> str:
        shown = actor(row)
        return format_html('<span title="{}">{}</span>', f"{row.actor_type} {row.actor_id}", shown)

    @admin.display(description="Action")
    def done(self, row: AuditLog) -> str:
        tone = OUTCOMES.get(row.outcome)
        return display.pill(row.action, tone) if tone else row.action

    @admin.display(description="Reason")
    def why(self, row: AuditLog) -> str:
        if not row.reason:
            return display.NOTHING
        return format_html('<span title="{}">{}</span>', row.reason, Truncator(row.reason).chars(24))

    @admin.display(description="Object")
    def object(self, row: AuditLog) -> str:
        if not row.resource_type:
            return display.NOTHING
        kind = row.resource_type.removeprefix("cp_").split("_", 1)[-1]
        return format_html(
            '<span title="{}">{} {}</span>', row.resource_id, kind, row.resource_label or f"…{row.resource_id[-8:]}"
        )

    @admin.display(description="Changed")
    def change(self, row: AuditLog) -> str:
        if row.before is None or row.after is None:
            return display.NOTHING
        return Truncator(", ".join(sorted(row.after))).chars(24)

    @admin.display(description="IP address")
    def address(self, row: AuditLog) -> str:
        return row.ip or display.NOTHING

    @admin.display(description="Outcome")
    def result(self, row: AuditLog) -> str:
        shown, url = display.status(row.outcome, OUTCOMES), explained(row)
        return format_html('{} <a href="{}">Explain this</a>', shown, url) if url else shown

    @admin.display(description="Fields")
    def difference(self, row: AuditLog) -> str:
        found = changes(row.before, row.after)
        return render_to_string("cp_auditing/changes.html", {"changes": found}) if found else display.NOTHING

    @admin.display(description="Details")
    def more(self, row: AuditLog) -> str:
        return as_json(row.details)

    @admin.display(description="Commitment")
    def proof(self, row: AuditLog) -> str:
        text = bytes(row.pii_commit).hex() if row.pii_commit else ""
        return format_html('<span class="cp-mono">{}</span>', text or display.NOTHING)
