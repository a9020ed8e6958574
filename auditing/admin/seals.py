from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from auditing.admin import sealed, standing
from auditing.admin.filters import MonthFilter, subject_filter
from auditing.admin.paging import AnyTimeFilter, PagedAdmin
from auditing.admin.verification import verify_seals
from auditing.models import AuditSeal, RetentionRecord
from auditing.verified import last
from controlplane.core import display
from controlplane.core.ids import PLATFORM


@admin.register(AuditSeal)
class AuditSealAdmin(PagedAdmin):
    list_display = ("made", "of", "tenant", "in_month", "number", "count", "ids", "short_root", "state")
    list_filter = (AnyTimeFilter, "log", "kind", MonthFilter, subject_filter("tenant", "tenant", offer=True))
    fieldsets = (
        (None, {"fields": ("made", "state", "kind", "of", "tenant", "in_month", "number", "count")}),
        ("Under it", {"fields": ("id_from", "id_to", "xids", "whole_root")}),
        ("Chain", {"fields": ("whole_prev", "whole_hash")}),
        ("Record", {"fields": ("id", "run", "schema")}),
    )
    readonly_fields = (
        "made", "state", "kind", "of", "tenant", "in_month", "number", "count", "id_from", "id_to", "xids", "whole_root",
        "whole_prev", "whole_hash", "id", "run", "schema",
    )  # fmt: skip
    actions = (verify_seals,)
    empty_help = (
        "Nothing is sealed yet. The sealing duty runs with the worker; the command: manage.py audit_seal --now."
    )
    change_list_template = "cp_auditing/seal_list.html"

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_auditing/auditing.css"]}

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        gone = RetentionRecord.objects.filter(
            kind="retired",
            log=models.OuterRef("log"),
            tenant_id=models.OuterRef("tenant_id"),
            month=models.OuterRef("month"),
        )
        rows: models.QuerySet[Any] = super().get_queryset(request).annotate(retired=models.Exists(gone))
        return rows

    def has_verify_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_auditing.verify_auditlog"))

    def prepare(self, rows: list[Any], changelist: Any) -> None:
        super().prepare(rows, changelist)
        self._judge(rows)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"sealing": standing.sealing(), **(extra_context or {})})

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
            row.__dict__["known"] = sealed.state_of(row, verified, retired=gone)

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
    def state(self, row: AuditSeal) -> str:
        return display.status(row.__dict__.get("known", "sealed"), sealed.TONES)

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
