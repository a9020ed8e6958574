from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db import models
from django.http import HttpRequest

from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from controlplane.core.references import ReferenceField
from tenants.errors import TenantsError
from tenants.models import APIKey, Tenant, User, UserApp


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
    keys = APIKey.objects.live().filter(user__in=rows).count()
    accesses = UserApp.objects.filter(user__in=rows, status=UserApp.Status.ACTIVE).count()
    return [("API keys that will be refused", f"{keys:,}"), ("App accesses that rest", f"{accesses:,}")]


class AccessInline(admin.TabularInline):  # type: ignore[type-arg]
    model = UserApp
    fields = ("app", "status", "granted", "granted_by")
    readonly_fields = fields
    extra = 0
    max_num = 0
    can_delete = False
    verbose_name_plural = "apps this user has access to"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[UserApp]:
        return super().get_queryset(request).select_related("app")

    @admin.display(description="Granted (UTC)")
    def granted(self, row: UserApp) -> str:
        return display.instant(row.granted_at)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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
    inlines = (AccessInline,)
    actions = (
        confirmed_action(
            "Deactivate",
            permission="change",
            command="user_deactivate",
            past="deactivated",
            explain="No sign-in, and every key of the user is refused, until the user is activated again.",
            perform=lambda row, request, reason: row.deactivate(reason),
            offered=lambda row: row.is_active,
            preview=_what_stops,
            danger=True,
        ),
        confirmed_action(
            "Activate",
            permission="change",
            command="",
            past="active again",
            explain="The user can sign in, and the user's keys work again.",
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


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        user, app = cleaned.get("user"), cleaned.get("app")
        if user and app and user.tenant_id != app.tenant_id:
            code = "operator" if user.tenant_id is None else "wrong_tenant"
            self.add_error("user", forms.ValidationError(TenantsError.messages[code], code=code))
        return cleaned


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
            explain="The user loses access to the app. The user's keys of this app are not touched.",
            perform=lambda row, request, reason: row.app.revoke(row.user, reason, by=str(request.user)),
            offered=lambda row: row.status == UserApp.Status.ACTIVE,
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
