from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from tenants.errors import TenantsError
from tenants.models import UserApp


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        user, app = cleaned.get("user"), cleaned.get("app")
        if user and app and user.tenant_id != app.tenant_id:
            code = "operator" if user.tenant_id is None else "wrong_tenant"
            self.add_error("user", forms.ValidationError(TenantsError.messages[code], code=code))
        return cleaned


def _keys_that_go_on(rows: Any) -> list[tuple[str, str]]:
    return [(f"{row.user} in {row.app}: keys that go on", f"{row.user.keys_in(row.app).count():,}") for row in rows]


@admin.register(UserApp)
class UserAppAdmin(WritableModelAdmin):
    add_form = GrantForm
    list_display = ("user", "app", "tenant", "role", "state", "granted")
    list_filter = ("status", "role")
    search_fields = ("user__email__istartswith", "app__slug__exact", "tenant__slug__exact")
    search_help_text = "E-mail of the user, slug of the app or of the tenant"
    list_select_related = ("tenant", "app", "user")
    ordering = ("user__email",)
    fields = ("user", "app", "role", "state", "granted", "granted_by", "revoked", "reason")
    readonly_fields = ("state", "granted", "granted_by", "revoked", "reason")
    actions = (
        confirmed_action(
            "Revoke access",
            permission="change",
            command="access_revoke",
            past="revoked",
            explain="The user loses access to the app. Keys of the user in this app go on until they are revoked themselves.",
            perform=lambda row, request, reason: row.app.revoke(row.user, reason, by=str(request.user)),
            offered=lambda row: row.status == UserApp.Status.ACTIVE,
            preview=_keys_that_go_on,
            danger=True,
        ),
    )
    empty_help = "Who may use which app, in which role. The command: manage.py access_grant."

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A revoked access is closed; granted again by "Add", it begins anew."""
        closed = obj is not None and obj.status != UserApp.Status.ACTIVE
        return not closed and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "user", "app") if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: UserApp, form: Any, change: bool) -> None:
        """Granted through the app, so that a revoked access begins anew instead of standing in the way."""
        granted = obj.app.grant(obj.user, obj.role, by=str(request.user))
        obj.pk, obj.tenant_id = granted.pk, granted.tenant_id

    @admin.display(description="Status", ordering="status")
    def state(self, row: UserApp) -> str:
        return display.status(row.status, {"revoked": "warn"})

    @admin.display(description="Granted (UTC)", ordering="granted_at")
    def granted(self, row: UserApp) -> str:
        return display.instant(row.granted_at)

    @admin.display(description="Revoked (UTC)")
    def revoked(self, row: UserApp) -> str:
        return display.instant(row.revoked_at)
