from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html

from auditing.admin import sealed
from auditing.admin.base import LogAdmin
from auditing.admin.filters import MonthFilter, is_uuid, subject_filter
from auditing.models import AuditSeal, RetentionRecord
from auditing.models.logs import LogQuerySet
from auditing.verified import last
from auditing.windows import id_bounds
from controlplane.core import display
from controlplane.core.bigtables import WindowFilter
from controlplane.core.ids import PLATFORM


class AnyTimeFilter(WindowFilter):
    """All time unless chosen: of seals there are few, in the order of their ids."""

    def value(self) -> str:
        return super().value() if self.used_parameters.get(self.parameter_name) else "all"


class Paged(LogQuerySet[AuditSeal]):
    """Seals by cursor: their ids are in the order in which they were made."""

    def between(self, start: datetime, end: datetime) -> Paged:
        low, high = id_bounds(start, end)
        return self.filter(id__gte=low, id__lt=high)


@admin.register(AuditSeal)
class AuditSealAdmin(LogAdmin):
    list_display = ("made", "of", "tenant", "in_month", "number", "count", "ids", "short_root", "standing")
    list_filter = (AnyTimeFilter, "log", "kind", MonthFilter, subject_filter("tenant", "tenant", offer=True))
    search_fields = ("id",)
    search_help_text = "The id of a seal or of a sealed row, whole"
    fieldsets = (
        (None, {"fields": ("made", "standing", "kind", "of", "tenant", "in_month", "number", "count")}),
        ("Under it", {"fields": ("id_from", "id_to", "xids", "whole_root")}),
        ("Chain", {"fields": ("whole_prev", "whole_hash")}),
        ("Record", {"fields": ("id", "run", "schema")}),
    )
    readonly_fields = (
        "made", "standing", "kind", "of", "tenant", "in_month", "number", "count", "id_from", "id_to", "xids", "whole_root",
        "whole_prev", "whole_hash", "id", "run", "schema",
    )  # fmt: skip
    empty_help = (
        "Nothing is sealed yet. The sealing duty runs with the worker; the command: manage.py audit_seal --now."
    )
    change_list_template = "cp_auditing/seal_list.html"

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_auditing/auditing.css"]}

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[AuditSeal]:
        gone = RetentionRecord.objects.filter(
            kind="retired",
            log=models.OuterRef("log"),
            tenant_id=models.OuterRef("tenant_id"),
            month=models.OuterRef("month"),
        )
        return Paged(AuditSeal, using=super().get_queryset(request).db).annotate(retired=models.Exists(gone))

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        if not is_uuid(text):
            return queryset.none(), False
        return queryset.filter(pk=text), False

    def prepare(self, rows: list[Any], changelist: Any) -> None:
        super().prepare(rows, changelist)
        self._judge(rows)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            self._judge([found])
        return found

    def _judge(self, rows: list[Any]) -> None:
        """What is known of each seal without verifying it now; one statement."""
        verified = last({PLATFORM, *(row.tenant_id for row in rows)}) if rows else []
        for row in rows:
            gone = row.kind == "rows" and row.retired
            row.__dict__["state"] = sealed.state_of(row, verified, retired=gone)

    @admin.display(description="Sealed (UTC)")
    def made(self, row: AuditSeal) -> str:
        return display.instant(row.sealed_at)

    @admin.display(description="Log")
    def of(self, row: AuditSeal) -> str:
        return row.get_log_display() if row.kind in ("rows", "checkpoint") else f"{row.get_log_display()}, {row.kind}"

    @admin.display(description="Month")
    def in_month(self, row: AuditSeal) -> str:
        return f"{row.month:%Y-%m}"

    @admin.display(description="No.")
    def number(self, row: AuditSeal) -> str:
        return display.number(row.seq)

    @admin.display(description="Rows")
    def count(self, row: AuditSeal) -> str:
        return display.number(row.n)

    @admin.display(description="Ids")
    def ids(self, row: AuditSeal) -> str:
        return format_html("{} to {}", display.short_id(row.id_from), display.short_id(row.id_to))

    @admin.display(description="Root")
    def short_root(self, row: AuditSeal) -> str:
        text = bytes(row.root).hex()
        return format_html(
            '{} <button type="button" class="cp-copy" data-text="{}" aria-label="Copy the root of seal {}">Copy</button>',
            display.short_id(text), text, row.seq,
        )  # fmt: skip

    @admin.display(description="State")
    def standing(self, row: AuditSeal) -> str:
        state = row.__dict__.get("state", "sealed")
        return display.status(state, {**sealed.TONES, "verified": "ok"})

    @admin.display(description="Transactions")
    def xids(self, row: AuditSeal) -> str:
        return f"{row.xid_from:,} up to {row.xid_to:,}, without it"

    @admin.display(description="Root")
    def whole_root(self, row: AuditSeal) -> str:
        return _copied(row.root, "root")

    @admin.display(description="Hash of the one before")
    def whole_prev(self, row: AuditSeal) -> str:
        return _copied(row.prev, "prev")

    @admin.display(description="Hash")
    def whole_hash(self, row: AuditSeal) -> str:
        return _copied(row.hash, "hash")


def _copied(value: Any, name: str) -> str:
    text = bytes(value).hex()
    return format_html(
        '<span class="cp-mono">{}</span> <button type="button" class="cp-copy" data-text="{}" aria-label="Copy {}">Copy</button>',
        text, text, name,
    )  # fmt: skip
