from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from auditing import retention
from auditing.admin.base import Named, NamedChangeList
from auditing.admin.filters import MonthFilter, subject_filter
from auditing.directory import directory
from auditing.keeping import DEFAULTS
from auditing.models import RetentionRecord
from controlplane.core import display
from controlplane.core.admin import confirmed_action
from controlplane.core.errors import ControlPlaneError

HOLD = "cp_auditing_retentionrecord_hold"
TONES = {"hold": "warn", "retired": "info", "erased": "info"}
LOGS = {"auditlog": "Audit log", "inferencerequest": "Requests"}


class HoldForm(forms.Form):
    tenant = forms.CharField(
        max_length=200, required=False, help_text="Its short name or id. Empty: the records of every tenant."
    )
    log = forms.ChoiceField(
        label="Log", required=False, choices=[("", "Every log"), *((name, LOGS[name]) for name in DEFAULTS)]
    )
    reason = forms.CharField(
        max_length=2000, widget=forms.Textarea(attrs={"rows": 3}), help_text="It is kept with the hold."
    )

    def clean_tenant(self) -> UUID | None:
        text = self.cleaned_data["tenant"].strip()
        if not text:
            return None
        found = directory().find("tenant", text)
        if found is None:
            raise forms.ValidationError("There is no such tenant. Write its short name, as acme.")
        return found


@dataclass(frozen=True, slots=True)
class Term:
    """A rule or a hold that is in force, for the head of the list."""

    label: str
    value: str
    held: bool = False


def in_force() -> list[Term]:
    """One statement: of rules the latest of each log and tenant counts; of holds all that are not released."""
    released = RetentionRecord.objects.filter(kind="release").values("releases")
    records = RetentionRecord.objects.filter(kind__in=("rule", "hold")).exclude(pk__in=released).order_by("pk")
    rules: dict[tuple[str, bool], int | None] = {}
    single, holds = set[tuple[str, UUID]](), 0
    for record in records:
        if record.kind == "hold":
            holds += 1
        elif record.all_tenants:
            rules[record.log, True] = record.months
        else:
            single.add((record.log, record.tenant_id))
    terms = [
        Term(f"{LOGS[log]} are kept" if log == "inferencerequest" else f"The {LOGS[log].lower()} is kept",
             f"{rules.get((log, True), rules.get(('', True), months))} months")
        for log, months in DEFAULTS.items()
    ]  # fmt: skip
    if single:
        terms.append(Term("Rules of single tenants", f"{len(single):,}"))
    return [*terms, Term("Holds in force", f"{holds:,}", held=bool(holds))]


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
    actions = (
        confirmed_action(
            "Release",
            permission="hold",
            command="audit_retention release",
            past="released",
            explain="What they held may go from the next run on, as soon as its time is over.",
            perform=lambda row, request, reason: retention.release(row, reason=reason, by=request.user),
            offered=lambda row: row.kind == "hold" and not row.released,
            danger=True,
        ),
    )
    change_list_template = "cp_auditing/retention_list.html"
    empty_help = (
        "No rule, no hold, and nothing went. Requests are kept for 13 months, the audit log for 36. The command: "
        "manage.py audit_retention."
    )

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_auditing/auditing.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NamedChangeList]:
        return NamedChangeList

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        ended = RetentionRecord.objects.filter(releases=models.OuterRef("pk"))
        rows: models.QuerySet[Any] = super().get_queryset(request).annotate(released=models.Exists(ended))
        return rows

    def get_urls(self) -> list[Any]:
        return [path("hold/", self.admin_site.admin_view(self.hold_view), name=HOLD), *super().get_urls()]

    def has_hold_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_auditing.hold_retentionrecord"))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        more = {"in_force": in_force(), "may_hold": self.has_hold_permission(request)}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def hold_view(self, request: HttpRequest) -> HttpResponse:
        """GET: the form, for the tenant of the address if it names one. POST: hold."""
        if not self.has_hold_permission(request):
            raise PermissionDenied
        form = HoldForm(
            request.POST or None, initial={"tenant": request.GET.get("tenant", "").replace("\x00", "")[:200]}
        )
        if form.is_bound and form.is_valid():
            try:
                retention.hold(by=request.user, **form.cleaned_data)
            except ControlPlaneError as refused:
                form.add_error(None, refused.message)
            else:
                messages.success(request, "Held: nothing of it is removed or erased until the hold is released.")
                return HttpResponseRedirect(reverse("admin:cp_auditing_retentionrecord_changelist"))
        context = {
            **self.admin_site.each_context(request), "title": "Hold records", "opts": self.opts, "form": form,
            "in_force": in_force(),
        }  # fmt: skip
        return TemplateResponse(request, "cp_auditing/hold.html", context, status=422 if form.errors else 200)

    @admin.display(description="Time (UTC)", ordering="id")
    def at(self, row: RetentionRecord) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Kind", ordering="kind")
    def did(self, row: Any) -> str:
        return row.kind if row.kind == "hold" and row.released else display.status(row.kind, TONES)

    @admin.display(description="Log")
    def of(self, row: RetentionRecord) -> str:
        return LOGS.get(row.log, row.log) or "Every log"

    @admin.display(description="Tenant")
    def tenant(self, row: RetentionRecord) -> str:
        return "Every tenant" if row.all_tenants else super().tenant(row)

    @admin.display(description="What")
    def what(self, row: Any) -> str:
        if row.kind == "rule":
            return f"keep {row.months} months"
        if row.kind == "retired":
            return f"{row.month:%Y-%m}: {row.rows or 0:,} rows" if row.month else f"{row.rows or 0:,} rows"
        if row.kind == "erased":
            return f"personal columns of {row.rows or 0:,} rows"
        if row.kind == "release":
            return format_html("ends hold {}", display.short_id(row.releases))
        return "was held, and is released" if row.released else "nothing of it goes"

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
