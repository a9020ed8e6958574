from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator

from auditing.admin.base import Named, NamedChangeList
from auditing.admin.filters import MonthFilter, subject_filter
from auditing.models import RetentionRecord
from controlplane.core import display

TONES = {"hold": "warn", "retired": "info", "erased": "info"}
LOGS = {"auditlog": "Audit log", "inferencerequest": "Requests"}


@admin.register(RetentionRecord)
class RetentionRecordAdmin(Named):
    list_display = ("at", "did", "of", "tenant", "what", "why", "by")
    list_filter = ("kind", subject_filter("tenant", "tenant", offer=True), MonthFilter)
    search_fields = ("reason__icontains", "subject__exact", "actor__exact")
    search_help_text = "A part of a reason, or an actor, whole"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": ("at", "did", "of", "tenant", "what", "reason", "actor")}),
        ("What went", {"fields": ("month", "rows", "seals", "hash", "archive", "sha256", "subject")}),
        ("Record", {"fields": ("id", "releases")}),
    )
    readonly_fields = (
        "at", "did", "of", "tenant", "what", "reason", "actor", "month", "rows", "seals", "hash", "archive", "sha256", "subject",
        "id", "releases",
    )  # fmt: skip
    empty_help = (
        "No rule, no hold, and nothing went. Requests are kept for 13 months, the audit log for 36. The command: "
        "manage.py audit_retention."
    )

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_auditing/auditing.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NamedChangeList]:
        return NamedChangeList

    @admin.display(description="Time (UTC)", ordering="id")
    def at(self, row: RetentionRecord) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Kind", ordering="kind")
    def did(self, row: RetentionRecord) -> str:
        return display.status(row.kind, TONES)

    @admin.display(description="Log")
    def of(self, row: RetentionRecord) -> str:
        return LOGS.get(row.log, row.log) or "Every log"

    @admin.display(description="Tenant")
    def tenant(self, row: RetentionRecord) -> str:
        return "Every tenant" if row.all_tenants else super().tenant(row)

    @admin.display(description="What")
    def what(self, row: RetentionRecord) -> str:
        if row.kind == "rule":
            return f"keep {row.months} months"
        if row.kind == "retired":
            return f"{row.month:%Y-%m}: {row.rows or 0:,} rows" if row.month else f"{row.rows or 0:,} rows"
        if row.kind == "erased":
            return f"personal columns of {row.rows or 0:,} rows"
        if row.kind == "release":
            return format_html("ends hold {}", display.short_id(row.releases))
        return "nothing of it goes"

    @admin.display(description="Reason")
    def why(self, row: RetentionRecord) -> str:
        return format_html('<span title="{}">{}</span>', row.reason, Truncator(row.reason).chars(50))

    @admin.display(description="Decided by")
    def by(self, row: RetentionRecord) -> str:
        return row.actor or display.NOTHING

    @admin.display(description="Hash of its last seal")
    def hash(self, row: RetentionRecord) -> str:
        return display.mono(bytes(row.last_hash).hex()) if row.last_hash else display.NOTHING

    @admin.display(description="SHA-256 of the archive")
    def sha256(self, row: RetentionRecord) -> str:
        return display.mono(bytes(row.archive_sha256).hex()) if row.archive_sha256 else display.NOTHING
