from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html

from auditing.admin import adjustments
from auditing.admin.base import SUBJECTS, LogAdmin, Named, NamedChangeList, as_json
from auditing.admin.filters import subject_filter, value_filter
from auditing.models import InferenceRequest, InFlightRequest
from controlplane.core import display
from controlplane.core.bigtables import WindowFilter
from controlplane.core.ids import now

STATUSES = {"failed": "bad", "cancelled": "warn", "lost": "bad", "running": "info"}


@admin.register(InferenceRequest)
class InferenceRequestAdmin(LogAdmin):
    list_display = (
        "at",
        "ident",
        "tenant",
        "app",
        "called",
        "state",
        "tokens",
        "money",
        "took",
    )
    list_filter = (
        WindowFilter,
        subject_filter("tenant", "tenant", offer=True),
        subject_filter("app", "app"),
        subject_filter("branch", "branch"),
        subject_filter("user", "user"),
        subject_filter("api_key", "API key"),
        "status",
        "pricing_status",
        value_filter("provider"),
        value_filter("model"),
    )
    search_fields = ("request_id",)
    fieldsets = (
        (None, {"fields": ("at", "request_id", "called", "requested_model", "state", "failure", "error")}),
        ("Who", {"fields": ("tenant", "app", "branch", "user", "api_key")}),
        ("Usage", {"fields": (
            "tokens_in", "tokens_out", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "units", "took", "first_token",
            "stream",
        )}),
        ("Cost", {"fields": ("money", "pricing_status", "breakdown", "price_id", "adjusts", "reason_code", "reason")}),
        ("Record", {"fields": ("id", "source", "day", "booked", "more")}),
    )  # fmt: skip
    readonly_fields = (
        "at", "request_id", "called", "requested_model", "state", "failure", "error", "tenant", "app", "branch", "user",
        "api_key", "tokens_in", "tokens_out", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "units", "took",
        "first_token", "stream", "money", "pricing_status", "breakdown", "price_id", "adjusts", "reason_code", "reason", "id",
        "source", "day", "booked", "more",
    )  # fmt: skip
    empty_help = "Calls through the gate are recorded here, and those of `manage.py usage_import`. Or widen the window."
    change_form_template = "cp_auditing/request.html"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.adjust_view)
        return [path("<path:object_id>/adjust/", view, name=adjustments.NAME), *super().get_urls()]

    def adjust_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return adjustments.page(self, request, object_id)

    def has_adjust_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_auditing.adjust_inferencerequest"))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None and row.adjusts is None and self.has_adjust_permission(request):
            context["adjust_url"] = reverse(f"admin:{adjustments.NAME}", args=[row.pk])
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="Request")
    def ident(self, row: InferenceRequest) -> str:
        return display.short_id(row.request_id)

    @admin.display(description="Model")
    def called(self, row: InferenceRequest) -> str:
        return format_html('<span title="{}">{}</span>', row.provider, row.model)

    @admin.display(description="Status")
    def state(self, row: InferenceRequest) -> str:
        return display.status(row.status, STATUSES, why=row.error_code)

    @admin.display(description="Tokens in / out")
    def tokens(self, row: InferenceRequest) -> str:
        return display.counts(row.prompt_tokens, row.completion_tokens)

    @admin.display(description="Tokens in")
    def tokens_in(self, row: InferenceRequest) -> str:
        return display.number(row.prompt_tokens)

    @admin.display(description="Tokens out")
    def tokens_out(self, row: InferenceRequest) -> str:
        return display.number(row.completion_tokens)

    @admin.display(description="Cost")
    def money(self, row: InferenceRequest) -> str:
        return display.cost(row.cost)

    @admin.display(description="Latency")
    def took(self, row: InferenceRequest) -> str:
        return display.number(row.latency_ms, "ms")

    @admin.display(description="First token after")
    def first_token(self, row: InferenceRequest) -> str:
        return display.number(row.ttft_ms, "ms")

    @admin.display(description="Day of booking")
    def day(self, row: InferenceRequest) -> str:
        return f"{row.local_date} in {row.time_zone}"

    @admin.display(description="Booked (UTC)")
    def booked(self, row: InferenceRequest) -> str:
        return display.instant(row.booked_at or row.created_at)

    @admin.display(description="Error code")
    def failure(self, row: InferenceRequest) -> str:
        return row.error_code or display.NOTHING

    @admin.display(description="Other units")
    def units(self, row: InferenceRequest) -> str:
        return as_json(row.other_units)

    @admin.display(description="Cost breakdown")
    def breakdown(self, row: InferenceRequest) -> str:
        return as_json(row.cost_breakdown)

    @admin.display(description="Metadata")
    def more(self, row: InferenceRequest) -> str:
        return as_json(row.metadata)


@admin.register(InFlightRequest)
class InFlightRequestAdmin(Named):
    list_display = ("at", "ident", "tenant", "app", "called", "state", "until")
    list_filter = (subject_filter("tenant", "tenant", offer=True), subject_filter("app", "app"), "status")
    search_fields = ("request_id__exact",)
    search_help_text = "A request id, whole"
    ordering = ("-created_at",)
    fieldsets = (
        (None, {"fields": ("at", "until", "request_id", "called", "requested_model", "state", "stream", "estimate")}),
        ("Who", {"fields": SUBJECTS}),
        ("Record", {"fields": ("id", "time_zone", "more")}),
    )
    readonly_fields = (
        "at", "until", "request_id", "called", "requested_model", "state", "stream", "estimate", *SUBJECTS, "id", "time_zone",
        "more",
    )  # fmt: skip
    empty_help = "No call is under way. A call is listed here from its start until it ends."

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NamedChangeList]:
        return NamedChangeList

    @admin.display(description="Since (UTC)", ordering="created_at")
    def at(self, row: InFlightRequest) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Request")
    def ident(self, row: InFlightRequest) -> str:
        return display.short_id(row.request_id)

    @admin.display(description="Model")
    def called(self, row: InFlightRequest) -> str:
        return format_html('<span title="{}">{}</span>', row.provider, row.model)

    @admin.display(description="Status")
    def state(self, row: InFlightRequest) -> str:
        """A call past its deadline has lost its caller, and is closed as lost."""
        return display.pill("overdue", "bad") if row.deadline < now() else display.status(row.status, STATUSES)

    @admin.display(description="Deadline (UTC)", ordering="deadline")
    def until(self, row: InFlightRequest) -> str:
        return display.instant(row.deadline)

    @admin.display(description="Estimated cost")
    def estimate(self, row: InFlightRequest) -> str:
        return display.NOTHING if row.estimated_cost is None else display.cost(row.estimated_cost)

    @admin.display(description="Metadata")
    def more(self, row: InFlightRequest) -> str:
        return as_json(row.metadata)
