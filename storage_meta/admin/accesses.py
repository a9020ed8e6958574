"""The access log as a list: what was done to which key, by whom, and how it ended."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import Truncator

from auditing.admin.base import as_json
from auditing.admin.filters import PeriodFilter, RequestFilter, SubjectFilter, TypedFilter, is_uuid, period
from auditing.directory import directory
from auditing.models.logs import LogQuerySet
from controlplane.core import display
from controlplane.core.bigtables import BigTableAdmin
from controlplane.core.ids import PLATFORM
from storage_meta.admin.base import TenantScopedAdmin, narrowed, own_tenant, size_cell, visible
from storage_meta.models import StorageAudit


class TenantFilter(SubjectFilter):
    """By tenant, for those who see more than one."""

    title = "tenant"
    parameter_name = "tenant"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.offer = own_tenant(request) is None  # type: ignore[misc]
        super().__init__(request, params, model, model_admin)

    def has_output(self) -> bool:
        return self.offer and super().has_output()


class BucketFilter(TypedFilter):
    title = "bucket"
    parameter_name = "bucket"
    help = "Its name, whole"


class KeyFilter(TypedFilter):
    title = "key"
    parameter_name = "object_key"
    help = "A key, whole"


class ActionFilter(TypedFilter):
    title = "action"
    parameter_name = "action"
    help = "As s3:PutObject"


class ActorFilter(TypedFilter):
    title = "actor"
    parameter_name = "actor_id"
    help = "Id of a user or key, or the name of a command"


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("success", "Success"), ("failure", "Refused or failed")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(success=value == "success") if value in ("success", "failure") else queryset


@admin.register(StorageAudit)
class StorageAuditAdmin(TenantScopedAdmin, BigTableAdmin):
    rows_are = "accesses"
    list_display = ("at", "who", "done", "what", "where", "measure", "tenant")
    list_filter = (
        PeriodFilter,
        TenantFilter,
        BucketFilter,
        KeyFilter,
        ActionFilter,
        ActorFilter,
        OutcomeFilter,
        "record_type",
        RequestFilter,
    )
    search_fields = ("object_key",)
    search_help_text = "A key, a request id or the id of an access, whole"
    fieldsets = (
        (None, {"fields": ("at", "who", "done", "error", "where", "whole_key", "version_id", "sequencer")}),
        ("What", {"fields": ("record_type", "measure", "entity_tag", "sent", "marker", "more")}),
        ("From where", {"fields": ("tenant", "from_ip", "user_agent", "request_id")}),
        ("Record", {"fields": ("id",)}),
    )
    readonly_fields = (
        "at", "who", "done", "error", "where", "whole_key", "version_id", "sequencer", "record_type", "measure", "entity_tag",
        "sent", "marker", "more", "tenant", "from_ip", "user_agent", "request_id", "id",
    )  # fmt: skip
    empty_help = "Every change of what is stored is recorded here, and every read that its bucket asks for."
    every_row = "window=all"
    has_history = False

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return narrowed(request, LogQuerySet(StorageAudit, using=super().get_queryset(request).db))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return period(request) or super().changelist_view(request, extra_context)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip().replace("\x00", "")
        if not text:
            return queryset, False
        if is_uuid(text):
            return queryset.filter(models.Q(pk=text) | models.Q(request_id=text)), False
        return queryset.filter(models.Q(object_key=text) | models.Q(request_id=text)), False

    def prepare(self, rows: list[Any], changelist: Any) -> None:
        offered = [spec for spec in changelist.filter_specs if isinstance(spec, SubjectFilter)]
        _name(rows, offered[0].names() if offered else {})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            _name([found], {})
        return found

    @admin.display(description="Time (UTC)")
    def at(self, row: StorageAudit) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Actor")
    def who(self, row: StorageAudit) -> str:
        return format_html('<span title="{}">{}</span>', f"{row.actor_type} {row.actor_id}".strip(), actor(row))

    @admin.display(description="Action")
    def done(self, row: StorageAudit) -> str:
        return action(row)

    @admin.display(description="Key")
    def what(self, row: StorageAudit) -> str:
        return short_key(row.object_key)

    @admin.display(description="Key")
    def whole_key(self, row: StorageAudit) -> str:
        if not row.object_key:
            return display.NOTHING
        query = urlencode({"tenant": str(row.tenant_id), "bucket": row.bucket, "prefix": row.object_key})
        url = reverse("admin:cp_storage_meta_storageobject_changelist")
        return format_html('<a class="cp-mono" href="{}?{}">{}</a>', url, query, visible(row.object_key))

    @admin.display(description="Bucket")
    def where(self, row: StorageAudit) -> str:
        return row.bucket or display.NOTHING

    @admin.display(description="Tenant")
    def tenant(self, row: StorageAudit) -> str:
        if row.tenant_id == PLATFORM:
            return "Platform"
        return display.named(row.__dict__.get("tenant_name"), row.tenant_id)

    @admin.display(description="Size")
    def measure(self, row: StorageAudit) -> str:
        return size_cell(row.size)

    @admin.display(description="ETag")
    def entity_tag(self, row: StorageAudit) -> str:
        return row.etag or display.NOTHING

    @admin.display(description="Delete marker")
    def marker(self, row: StorageAudit) -> str:
        return "yes" if row.is_delete_marker else "no"

    @admin.display(description="Bytes sent")
    def sent(self, row: StorageAudit) -> str:
        return size_cell(row.bytes_sent)

    @admin.display(description="IP address")
    def from_ip(self, row: StorageAudit) -> str:
        return row.source_ip or display.NOTHING

    @admin.display(description="Why not")
    def error(self, row: StorageAudit) -> str:
        return f"{row.error_message} ({row.error_code})" if row.error_code else display.NOTHING

    @admin.display(description="Details")
    def more(self, row: StorageAudit) -> str:
        return as_json(row.metadata)


def actor(row: StorageAudit) -> str:
    """Who did it, as people call it."""
    return row.actor_name or row.actor_id or row.actor_type


def action(row: StorageAudit) -> str:
    """What was done; a failure stands out and says why on hovering."""
    name = row.action.removeprefix("s3:")
    if row.success:
        return name
    why = f"{row.error_code}: {row.error_message}".strip(": ")
    return display.status(name, {name: "warn" if row.error_code == "access_denied" else "bad"}, why=why)


def short_key(key: str) -> str:
    """A key for a cell; its end tells keys of one folder apart, so the middle goes."""
    if not key:
        return display.NOTHING
    text = visible(key)
    shown = text if len(text) <= 36 else f"{Truncator(text).chars(14)}{text[-22:]}"
    return format_html('<span class="cp-mono" title="{}">{}</span>', text, shown)


def _name(rows: list[StorageAudit], known: Any) -> None:
    missing = {row.tenant_id for row in rows} - known.keys() - {PLATFORM}
    names = dict(known) | (directory().names("tenant", missing) if missing else {})
    for row in rows:
        row.__dict__["tenant_name"] = names.get(row.tenant_id)
