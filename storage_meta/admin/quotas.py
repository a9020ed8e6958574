from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html

from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin
from controlplane.core.charts import Mark, level_bar
from storage_meta.admin import usage
from storage_meta.admin.base import SizeField, TenantScopedAdmin, own_tenant, size_cell, size_text
from storage_meta.models import StorageQuota, StorageUsage


class QuotaForm(forms.ModelForm):  # type: ignore[type-arg]
    max_bytes = SizeField(
        required=False,
        label="Bytes at most",
        help_text="Of all versions together, with a unit: 500 MiB, 10 GiB. Empty: no limit.",
    )

    class Meta:
        labels = {"max_objects": "Objects at most"}
        help_texts = {
            "max_objects": "Live objects, over all buckets. Empty: no limit.",
            "on_excess": "Of a put above it. Warn: it is taken, and marked. Refuse: it is not taken.",
        }
        error_messages = {"tenant": {"unique": "This tenant has a quota already. Change that one."}}

    def clean_max_objects(self) -> int | None:
        most: int | None = self.cleaned_data["max_objects"]
        if most is not None and most < 0:
            raise forms.ValidationError("A quota is 0 or more; leave it empty for no limit.", code="negative")
        return most


@admin.register(StorageQuota)
class StorageQuotaAdmin(TenantScopedAdmin, WritableModelAdmin):
    form = QuotaForm
    list_display = ("tenant", "room", "objects_shown", "on_excess", "changed")
    list_filter = ("on_excess",)
    search_fields = ("tenant__slug__exact", "tenant__name__istartswith")
    search_help_text = "Slug of a tenant, or how its name begins"
    list_select_related = ("tenant",)
    ordering = ("tenant__name", "id")
    fieldsets = ((None, {"fields": ("tenant", "max_bytes", "max_objects", "on_excess")}),)
    empty_help = "Without a quota a tenant stores as much as it likes. A quota warns of a put above it, or refuses it."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("tenant",) if obj is not None else ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A tenant does not set its own bounds."""
        return own_tenant(request) is None and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return own_tenant(request) is None and super().has_change_permission(request, obj)

    @admin.display(description="Bytes at most", ordering="max_bytes")
    def room(self, row: StorageQuota) -> str:
        return display.NOTHING if row.max_bytes is None else size_cell(row.max_bytes)

    @admin.display(description="Objects at most", ordering="max_objects")
    def objects_shown(self, row: StorageQuota) -> str:
        return display.number(row.max_objects)

    @admin.display(description="Changed", ordering="updated_at")
    def changed(self, row: StorageQuota) -> str:
        return display.day(row.updated_at)


@admin.register(StorageUsage)
class StorageUsageAdmin(TenantScopedAdmin):
    list_display = ("whose", "stored", "of_quota", "objects_shown", "versions_shown", "counted")
    search_fields = ("tenant__slug__exact", "tenant__name__istartswith")
    search_help_text = "Slug of a tenant, or how its name begins"
    list_select_related = ("tenant", "tenant__storage_quota")
    ordering = ("-bytes", "id")
    fieldsets = (
        (None, {"fields": ("whose", "stored", "of_quota", "objects_shown", "versions_shown", "counted", "more")}),
    )
    readonly_fields = ("whose", "stored", "of_quota", "objects_shown", "versions_shown", "counted", "more")
    rows_are = "tenants"
    empty_help = "The worker counts what every tenant stores every five minutes. Start it: manage.py run_worker."
    has_history = False

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant", "tenant__storage_quota")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.overview_view)
        return [path("overview/", view, name=usage.NAME), *super().get_urls()]

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        return usage.page(self, request)

    @admin.display(description="Tenant", ordering="tenant__name")
    def whose(self, row: StorageUsage) -> str:
        return str(row.tenant)

    @admin.display(description="Stored", ordering="bytes")
    def stored(self, row: StorageUsage) -> str:
        return size_cell(row.bytes)

    @admin.display(description="Of its quota")
    def of_quota(self, row: StorageUsage) -> str:
        quota = getattr(row.tenant, "storage_quota", None)
        return gauge(row.bytes, quota.max_bytes if quota else None, firm=not quota or quota.on_excess == "refuse")

    @admin.display(description="Objects", ordering="objects_count")
    def objects_shown(self, row: StorageUsage) -> str:
        return display.number(row.objects_count)

    @admin.display(description="Versions", ordering="versions")
    def versions_shown(self, row: StorageUsage) -> str:
        return display.number(row.versions)

    @admin.display(description="Counted (UTC)", ordering="counted_at")
    def counted(self, row: StorageUsage) -> str:
        return display.instant(row.counted_at)

    @admin.display(description="In detail")
    def more(self, row: StorageUsage) -> str:
        url = reverse(f"admin:{usage.NAME}")
        return format_html('<a href="{}?tenant={}">By bucket, type and class</a>', url, row.tenant_id)


def gauge(used: int, most: int | None, *, firm: bool = True) -> str:
    """A bar of what is used of a quota, with the share in words."""
    if most is None:
        return format_html('<span class="cp-quiet">{}</span>', "no quota")
    words = f"{_percent(used, most)} of {size_text(most)}"
    return format_html(
        '<div class="cp-gauge">{}<span class="cp-nowrap">{}</span></div>',
        level_bar(words, used, marks=[Mark(most, firm)]),
        words,
    )


def _percent(used: int, most: int) -> str:
    if not most:
        return "all"
    share = used / most * 100
    return f"{share:.0f} %" if share >= 10 or not used else f"{share:.2g} %"
