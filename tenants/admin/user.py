from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.http import HttpRequest

from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from controlplane.core.references import ReferenceField
from tenants.admin.inlines import AccessInline, KeyInline, SessionInline
from tenants.errors import TenantsError
from tenants.models import RefreshFamily, RefreshToken, Tenant, User


class UserCreationForm(AdminUserCreationForm):  # type: ignore[type-arg]
    tenant = ReferenceField(Tenant.objects.all(), required=False, help_text="Empty: an operator of the platform.")

    class Meta:
        model = User
        fields = ("tenant", "email", "username", "display_name", "role", "is_staff")


class UserChangeForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("role", "owner") != "owner" and self.instance.is_last_owner():
            self.add_error("role", forms.ValidationError(TenantsError.messages["last_owner"], code="last_owner"))
        return cleaned


def _what_stops(rows: Any) -> list[tuple[str, str]]:
    users = User.objects.filter(pk__in=[row.pk for row in rows])
    preview = users.deactivation_preview()
    return [
        ("API keys that will be refused", f"{preview.keys:,}"),
        ("Sessions that end", f"{preview.families:,}"),
        ("App accesses that rest", f"{preview.accesses:,}"),
        ("Keys of apps that they issued: these go on, rotate them", f"{preview.seen_keys:,}"),
    ]


def _live_sessions(rows: Any) -> list[tuple[str, str]]:
    live = RefreshFamily.objects.filter(tenant__in={row.tenant_id for row in rows}, user__in=rows).live().count()
    return [("Sessions that end", f"{live:,}")]


@admin.register(User)
class UserAdmin(WritableModelAdmin, StockUserAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    list_display = ("email", "display_name", "tenant", "role", "state", "seen", "created")
    list_filter = ("is_active", "role")
    search_fields = ("email__istartswith", "username__istartswith", "display_name__icontains", "tenant__slug__exact")
    search_help_text = "E-mail, user name or name, or slug of the tenant"
    list_select_related = ("tenant",)
    ordering = ("email",)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("tenant", "email", "username", "display_name", "role", "state")}),
        ("Identity provider", {"fields": ("oidc_issuer", "oidc_sub"), "classes": ("collapse",)}),
        ("Operators only", {"fields": ("is_staff", "is_superuser", "groups"), "classes": ("collapse",)}),
        ("Record", {"fields": ("metadata", "id", "created", "seen", "deleted")}),
    )
    add_fieldsets = (
        (None, {"fields": ("tenant", "email", "username", "display_name", "role", "is_staff")}),
        ("Password", {"fields": ("usable_password", "password1", "password2")}),
    )
    readonly_fields = ("state", "id", "created", "seen", "deleted")
    inlines = (AccessInline, KeyInline, SessionInline)
    actions = (
        confirmed_action(
            "Deactivate",
            permission="change",
            command="user_deactivate",
            past="deactivated",
            explain="No sign-in, and every key of the user is refused, until the user is activated again. Sessions end for good.",
            perform=lambda row, request, reason: row.deactivate(reason),
            offered=lambda row: row.is_active,
            preview=_what_stops,
            danger=True,
        ),
        confirmed_action(
            "End sessions",
            permission="change",
            command="refresh_revoke",
            past="sessions ended",
            explain="Every refresh token of the user is refused from now on. The user can sign in again, and keys go on.",
            perform=lambda row, request, reason: RefreshToken.objects.revoke_all(row, reason),
            offered=lambda row: row.tenant_id is not None,
            preview=_live_sessions,
            danger=True,
        ),
        confirmed_action(
            "Activate",
            permission="change",
            command="",
            past="active again",
            explain="The user can sign in, and the user's keys work again. Sessions that ended stay ended.",
            perform=lambda row, request, reason: row.activate(reason),
            offered=lambda row: not row.is_active,
        ),
    )
    empty_help = "Users of tenants, and the operators of the platform. The command: manage.py user_create."

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj is not None and obj.tenant_id else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        of_tenant = obj is not None and obj.tenant_id is not None
        return [each for each in super().get_fieldsets(request, obj) if not (of_tenant and each[0] == "Operators only")]

    @admin.display(description="Status", ordering="is_active")
    def state(self, row: User) -> str:
        if row.deleted_at:
            return display.pill("deleted", "bad")
        return "active" if row.is_active else display.pill("inactive", "warn")

    @admin.display(description="Last sign-in (UTC)", ordering="last_login")
    def seen(self, row: User) -> str:
        return display.instant(row.last_login)

    @admin.display(description="Created (UTC)", ordering="created_at")
    def created(self, row: User) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Deleted (UTC)")
    def deleted(self, row: User) -> str:
        return display.instant(row.deleted_at)
