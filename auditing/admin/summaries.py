from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path

from auditing.admin import months
from auditing.admin.filters import MonthFilter, subject_filter, value_filter
from auditing.admin.paging import AnyTimeFilter, PagedAdmin
from auditing.models import UsageSummary
from controlplane.core import display

LABELS = {"prompt_tokens": "Tokens in", "completion_tokens": "Tokens out"}


def _count(name: str) -> Callable[[UsageSummary], str]:
    """A count as the lists write it, grouped by thousands."""

    @admin.display(description=LABELS.get(name, name.replace("_", " ").capitalize()))
    def shown(row: UsageSummary) -> str:
        return display.number(getattr(row, name))

    return shown


REQUESTS: tuple[Any, ...] = tuple(map(_count, (
    "requests", "completed", "failed", "cancelled", "lost", "unpriced", "estimated", "adjustments",
)))  # fmt: skip
TOKENS: tuple[Any, ...] = tuple(map(_count, (
    "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)))  # fmt: skip


@admin.register(UsageSummary)
class UsageSummaryAdmin(PagedAdmin):
    list_display = ("period", "tenant", "app", "called", "count", "tokens", "money", "without_price")
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
        ("Requests", {"fields": REQUESTS}),
        ("Usage", {"fields": (*TOKENS, "money", "guessed")}),
        ("Record", {"fields": ("id",)}),
    )
    readonly_fields = (
        "period", "tenant", "app", "branch", "user", "api_key", "provider", "model", "money", "guessed", "id",
        *REQUESTS, *TOKENS,
    )  # fmt: skip
    empty_help = (
        "Nothing is summed up yet. The roll-up runs with the worker; the command: manage.py usage_rollup --once."
    )

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("months/", view(self.months_view), name=months.LIST),
            path("months/close/", view(self.close_view), name=months.CLOSE),
            path("months/reopen/", view(self.reopen_view), name=months.REOPEN),
            *super().get_urls(),
        ]

    def months_view(self, request: HttpRequest) -> HttpResponse:
        return months.page(self, request)

    def close_view(self, request: HttpRequest) -> HttpResponse:
        return months.close_page(self, request)

    def reopen_view(self, request: HttpRequest) -> HttpResponse:
        return months.reopen_page(self, request)

    def has_close_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_auditing.close_usagesummary"))

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
