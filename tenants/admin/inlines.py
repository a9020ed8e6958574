"""What a user holds, on the user's page: app accesses, keys, sessions. Shown, not changed; each row leads to its own page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from controlplane.core import display
from tenants.admin.key import STATES as KEY_STATES
from tenants.admin.refresh import session_state
from tenants.models import APIKey, RefreshFamily, UserApp

SHOWN = 50


class FirstRows(BaseInlineFormSet):  # type: ignore[type-arg]  # not generic at run time
    """The first rows: a page of a user with thousands of keys stays a page."""

    def get_queryset(self) -> Any:
        if not hasattr(self, "_shown"):  # asked many times; a slice taken anew would be a statement each
            self._shown = super().get_queryset()[:SHOWN]
        return self._shown


class ShownInline(admin.TabularInline):  # type: ignore[type-arg]
    formset = FirstRows
    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AccessInline(ShownInline):
    model = UserApp
    fields = readonly_fields = ("app", "status", "granted", "granted_by")
    ordering = ("-granted_at",)
    verbose_name_plural = f"apps this user has access to (the newest {SHOWN})"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[UserApp]:
        return super().get_queryset(request).select_related("app")

    @admin.display(description="Granted (UTC)")
    def granted(self, row: UserApp) -> str:
        return display.instant(row.granted_at)


class KeyInline(ShownInline):
    model = APIKey
    fields = readonly_fields = ("app", "environment", "state", "ends")
    ordering = ("-created_at",)
    verbose_name_plural = f"personal API keys (the newest {SHOWN})"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[APIKey]:
        return super().get_queryset(request).select_related("app")

    @admin.display(description="State")
    def state(self, row: APIKey) -> str:
        return display.status(row.state, KEY_STATES)

    @admin.display(description="Expires")
    def ends(self, row: APIKey) -> str:
        return display.day(row.expires_at)


class SessionInline(ShownInline):
    model = RefreshFamily
    fields = readonly_fields = ("state", "began", "rotated", "ends")
    ordering = ("-created_at",)
    verbose_name_plural = f"sessions (the newest {SHOWN})"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[RefreshFamily]:
        rows: models.QuerySet[RefreshFamily] = RefreshFamily.objects.with_newest().order_by(*self.ordering)
        return rows

    @admin.display(description="State")
    def state(self, row: Any) -> str:
        return session_state(row)

    @admin.display(description="Began (UTC)")
    def began(self, row: Any) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Last rotated (UTC)")
    def rotated(self, row: Any) -> str:
        return display.instant(row.issued_at)

    @admin.display(description="Ends (UTC)")
    def ends(self, row: Any) -> str:
        return display.instant(row.revoked_at or row.expires_at)
