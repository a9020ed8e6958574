from __future__ import annotations

from django.contrib import admin

from auditing.admin.filters import MonthFilter, subject_filter, value_filter
from auditing.admin.paging import AnyTimeFilter, PagedAdmin
from auditing.models import UsageSummary
from controlplane.core import display

COUNTS = (
    "requests", "completed", "failed", "cancelled", "lost", "unpriced", "estimated", "adjustments", "prompt_tokens",
    "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip


@admin.register(UsageSummary)
class UsageSummaryAdmin(PagedAdmin):
    list_display = ("period", "tenant", "app", "api_key", "called", "count", "tokens", "money", "without_price")
    list_filter = (
        AnyTimeFilter,
        MonthFilter,
        subject_filter("tenant", "tenant", offer=True),
        subject_filter("app", "app"),
        subject_filter("api_key", "API key"),
        subject_filter("user", "user"),
        value_filter("model"),
    )
    fieldsets = (
        (None, {"fields": ("period", "tenant", "app", "branch", "user", "api_key", "provider", "model")}),
        ("Requests", {"fields": COUNTS[:8]}),
        ("Usage", {"fields": (*COUNTS[8:], "money", "guessed")}),
        ("Record", {"fields": ("id",)}),
    )
    readonly_fields = (
        "period", "tenant", "app", "branch", "user", "api_key", "provider", "model", "money", "guessed", "id", *COUNTS,
    )  # fmt: skip
    empty_help = (
        "Nothing is summed up yet. The roll-up runs with the worker; the command: manage.py usage_rollup --once."
    )

    @admin.display(description="Month")
    def period(self, row: UsageSummary) -> str:
        return f"{row.month:%Y-%m}"

    @admin.display(description="Model")
    def called(self, row: UsageSummary) -> str:
        return row.model

    @admin.display(description="Requests")
    def count(self, row: UsageSummary) -> str:
        return display.number(row.requests)

    @admin.display(description="Tokens in / out")
    def tokens(self, row: UsageSummary) -> str:
        return display.counts(row.prompt_tokens, row.completion_tokens)

    @admin.display(description="Cost")
    def money(self, row: UsageSummary) -> str:
        return display.cost(row.cost)

    @admin.display(description="Estimated, within the cost")
    def guessed(self, row: UsageSummary) -> str:
        return display.cost(row.estimated_cost)

    @admin.display(description="Unpriced")
    def without_price(self, row: UsageSummary) -> str:
        if not row.unpriced:
            return display.number(0)
        return display.pill(f"{row.unpriced:,}", "warn")
