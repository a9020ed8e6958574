from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator

from auditing.admin.base import Named, NamedChangeList
from auditing.admin.filters import subject_filter, value_filter
from auditing.models import DeadLetter
from controlplane.core import display


@admin.register(DeadLetter)
class DeadLetterAdmin(Named):
    list_display = ("at", "tenant", "source", "line", "code", "field", "what", "resolved")
    list_filter = (subject_filter("tenant", "tenant", offer=True), value_filter("code"), "resolution")
    search_fields = ("request_id__exact", "source__startswith")
    search_help_text = "A request id, or how a source begins"
    ordering = ("-created_at", "row_number")
    fieldsets = (
        (None, {"fields": ("at", "source", "row_number", "code", "field", "message")}),
        ("Row", {"fields": ("tenant", "request_id", "text", "payload_bytes")}),
        ("Resolution", {"fields": ("resolution", "resolved_at", "resolved_by")}),
    )
    readonly_fields = ("at", "tenant", "text")
    empty_help = "No row was refused. Rows that an import cannot take are kept here, whole, with the reason."

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NamedChangeList]:
        return NamedChangeList

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[DeadLetter]:
        rows: models.QuerySet[DeadLetter] = super().get_queryset(request)
        return rows if request.resolver_match and request.resolver_match.kwargs else rows.defer("payload")

    @admin.display(description="Time (UTC)", ordering="created_at")
    def at(self, row: DeadLetter) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Row", ordering="row_number")
    def line(self, row: DeadLetter) -> str:
        return display.number(row.row_number)

    @admin.display(description="Message")
    def what(self, row: DeadLetter) -> str:
        return format_html('<span title="{}">{}</span>', row.message, Truncator(row.message).chars(60))

    @admin.display(description="State", ordering="resolution")
    def resolved(self, row: DeadLetter) -> str:
        return row.resolution or display.pill("open", "warn")

    @admin.display(description="Content")
    def text(self, row: DeadLetter) -> str:
        shown = bytes(row.payload[:8192]).decode("utf-8", "replace")
        return format_html('<pre class="cp-mono">{}</pre>', shown)
