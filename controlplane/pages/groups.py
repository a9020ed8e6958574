"""Groups of Django's own, which operators without superuser's rights get their permissions from."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as StockGroupAdmin
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.http import HttpRequest

from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin


class GroupAdmin(WritableModelAdmin, StockGroupAdmin):
    """Django's page of a group under our rules: nothing is deleted, and the audit log is the history."""

    list_display = ("name", "permission_count")
    search_fields = ("name__icontains",)
    search_help_text = "A part of the name"
    ordering = ("name",)
    filter_horizontal = ()
    empty_help = "A group gives operators permissions. Users of tenants have theirs by their role."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Group]:
        rows: models.QuerySet[Group] = super().get_queryset(request).annotate(permissions_n=models.Count("permissions"))
        return rows

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        """Of the permissions, those that some page of this admin asks for."""
        found: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        of_groups = Q(content_type__app_label="auth", content_type__model="group")
        asked = Q(content_type__app_label__startswith="cp_") | of_groups
        found.queryset = found.queryset.filter(asked).exclude(codename__startswith="delete_")
        return found

    @admin.display(description="Permissions", ordering="permissions_n")
    def permission_count(self, row: Group) -> str:
        return display.number(row.permissions_n)  # type: ignore[attr-defined]


def register() -> None:
    """Put it in the place of Django's. A sibling's admin is a sibling's: only the roof's URLs call this."""
    admin.site.unregister(Group)
    admin.site.register(Group, GroupAdmin)
