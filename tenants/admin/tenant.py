from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from auditing.models import InferenceRequest
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from controlplane.core.ids import now
from tenants.models import APIKey, App, Branch, Status, Tenant, User

MOST_COUNTED = 10_000
TONES = {"suspended": "warn", "deleted": "bad"}


class StatusFilter(admin.SimpleListFilter):
    """Hides what is deleted, until asked."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("suspended", "Suspended"), ("deleted", "Deleted"), ("any", "Any")]

    def choices(self, changelist: Any) -> Any:
        first, *rest = super().choices(changelist)
        yield {**first, "display": "Not deleted"}
        yield from rest

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if value == "any":
            return queryset
        return queryset.filter(status=value) if value else queryset.exclude(status=Status.DELETED)


def count(rows: models.QuerySet[Any], name: str) -> models.Expression:
    """How many of the rows refer to this one by the field `name`; by a sub-query: joins would multiply each other."""
    here = rows.filter(**{name: models.OuterRef("pk")}).order_by()
    counted = here.values(name).annotate(n=models.Count("pk")).values("n")
    return Coalesce(models.Subquery(counted, output_field=models.IntegerField()), 0)


def _what_stops(rows: Sequence[Any]) -> list[tuple[str, str]]:
    """What no longer works once these tenants, apps or branches are closed."""
    field = type(rows[0])._meta.model_name
    keys = APIKey.objects.live().filter(**{f"{field}__in": rows}).count()
    begin = now() - timedelta(hours=24)
    recent = InferenceRequest.objects.filter(**{f"{field}_id__in": [row.pk for row in rows]}).between(begin, now())
    calls = len(recent.values_list("pk")[: MOST_COUNTED + 1])
    found = [
        ("API keys that will be refused", f"{keys:,}"),
        ("Requests in the last 24 hours", f"{MOST_COUNTED:,}+" if calls > MOST_COUNTED else f"{calls:,}"),
    ]
    if isinstance(rows[0], Tenant):
        users = User.objects.active().filter(tenant__in=rows).count()
        apps = App.objects.active().filter(tenant__in=rows).count()
        found += [("Users who cannot sign in", f"{users:,}"), ("Apps that stop", f"{apps:,}")]
    return found


def lifecycle_actions(noun: str) -> tuple[Any, ...]:
    """Suspend, resume, delete and restore, for a model with a Lifecycle."""
    return (
        confirmed_action(
            "Suspend",
            permission="change",
            command=f"{noun}_suspend" if noun == "tenant" else "",
            past="suspended",
            explain="Nothing below verifies until it is resumed. No row is changed or removed.",
            perform=lambda row, request, reason: row.suspend(reason),
            offered=lambda row: row.status == Status.ACTIVE,
            preview=_what_stops,
            danger=True,
        ),
        confirmed_action(
            "Resume",
            permission="change",
            command=f"{noun}_resume" if noun == "tenant" else "",
            past="active again",
            explain="Everything below works again.",
            perform=lambda row, request, reason: row.resume(reason),
            offered=lambda row: row.status == Status.SUSPENDED,
        ),
        confirmed_action(
            "Delete",
            permission="change",
            command=f"{noun}_delete" if noun == "tenant" else "",
            past="deleted",
            explain="It is hidden and closed. Its rows, usage and audit stay readable, its names stay taken; it can be restored.",
            perform=lambda row, request, reason: row.delete(reason),
            offered=lambda row: row.status != Status.DELETED,
            preview=_what_stops,
            danger=True,
        ),
        confirmed_action(
            "Restore",
            permission="change",
            command=f"{noun}_restore" if noun == "tenant" else "",
            past="restored",
            explain="It is active again, with everything below it.",
            perform=lambda row, request, reason: row.restore(reason),
            offered=lambda row: row.status == Status.DELETED,
        ),
    )


class LifecycleAdmin(WritableModelAdmin):
    every_row = "status=any"
    _record: ClassVar[Any] = ("Record", {"fields": ("id", "created", "updated", "deleted")})
    _shown = ("state", "id", "created", "updated", "deleted")

    @admin.display(description="Status", ordering="status")
    def state(self, row: Any) -> str:
        return display.status(row.status, TONES)

    @admin.display(description="Created (UTC)", ordering="created_at")
    def created(self, row: Any) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Changed (UTC)")
    def updated(self, row: Any) -> str:
        return display.instant(row.updated_at)

    @admin.display(description="Deleted (UTC)")
    def deleted(self, row: Any) -> str:
        return display.instant(row.deleted_at)

    @admin.display(description="Live keys")
    def key_count(self, row: Any) -> str:
        """The number leads to the list of them."""
        chosen = urlencode({str(self.opts.model_name): row.pk, "state": "live"})
        address = f"{reverse('admin:cp_tenants_apikey_changelist')}?{chosen}"
        return format_html('<a href="{}">{}</a>', address, display.number(row.keys_n))


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]
    """The database URL holds a password: it is written here and never shown again."""

    db_dsn = forms.CharField(
        label="New database URL", required=False, max_length=2000, widget=forms.PasswordInput(attrs={"class": "vTextField"}),
        help_text="As postgresql://user:password@host/name. Empty: stays as it is. A single - removes it.",
    )  # fmt: skip

    def clean_db_dsn(self) -> str:
        given: str = self.cleaned_data["db_dsn"]
        kept: str = {"": self.instance.db_dsn, "-": ""}.get(given, given)
        return kept


@admin.register(Tenant)
class TenantAdmin(LifecycleAdmin):
    form = TenantForm
    list_display = ("name_and_slug", "state", "app_count", "user_count", "key_count", "time_zone", "domain", "created")
    list_filter = (StatusFilter,)
    search_fields = ("slug__startswith", "name__icontains", "domain__exact")
    search_help_text = "Slug, name or domain"
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "state", "domain", "time_zone")}),
        ("Settings", {"fields": ("settings", "metadata")}),
        ("Own database", {"fields": ("database", "db_dsn", "db_schema"), "classes": ("collapse",)}),
        LifecycleAdmin._record,
    )
    readonly_fields = (*LifecycleAdmin._shown, "database")
    actions = lifecycle_actions("tenant")
    empty_help = "A tenant is an organisation whose apps call models. The command: manage.py tenant_create."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Tenant]:
        counts = {
            "apps_n": count(App.objects.all(), "tenant"),
            "users_n": count(User.objects.active(), "tenant"),
            "keys_n": count(APIKey.objects.live(), "tenant"),
        }
        rows: models.QuerySet[Tenant] = super().get_queryset(request).annotate(**counts)
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "slug") if obj else self.readonly_fields  # a slug is for ever

    @admin.display(description="Tenant", ordering="name")
    def name_and_slug(self, row: Tenant) -> str:
        return format_html('{} <span class="cp-quiet">{}</span>', row.name, row.slug)

    @admin.display(description="Apps")
    def app_count(self, row: Any) -> str:
        return display.number(row.apps_n)

    @admin.display(description="Database")
    def database(self, row: Tenant) -> str:
        """Host and name alone."""
        try:
            parts = urlsplit(row.db_dsn)
        except ValueError:
            return display.pill("unreadable", "bad")
        return f"{parts.hostname or ''}{parts.path}" or display.NOTHING

    @admin.display(description="Active users")
    def user_count(self, row: Any) -> str:
        return display.number(row.users_n)


@admin.register(App)
class AppAdmin(LifecycleAdmin):
    list_display = ("name", "slug", "tenant", "app_type", "state", "key_count", "created")
    list_filter = (StatusFilter, "app_type")
    search_fields = ("slug__startswith", "name__icontains", "tenant__slug__exact")
    search_help_text = "Slug or name of the app, or slug of its tenant"
    list_select_related = ("tenant",)
    ordering = ("tenant__name", "name")
    fieldsets = (
        (None, {"fields": ("tenant", "name", "slug", "app_type", "state")}),
        ("Settings", {"fields": ("config", "metadata")}),
        LifecycleAdmin._record,
    )
    readonly_fields = LifecycleAdmin._shown
    actions = lifecycle_actions("app")
    empty_help = "An app of a tenant holds the keys that call models. The command: manage.py app_create."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[App]:
        keys = count(APIKey.objects.live(), "app")
        rows: models.QuerySet[App] = super().get_queryset(request).annotate(keys_n=keys)
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant", "slug") if obj else self.readonly_fields


@admin.register(Branch)
class BranchAdmin(LifecycleAdmin):
    list_display = ("name", "code", "app", "tenant", "branch_type", "state", "key_count", "created")
    list_filter = (StatusFilter, "branch_type")
    search_fields = ("code__startswith", "name__icontains", "tenant__slug__exact")
    search_help_text = "Code or name of the branch, or slug of its tenant"
    list_select_related = ("tenant", "app")
    ordering = ("tenant__name", "app__name", "name")
    fieldsets = (
        (None, {"fields": ("tenant", "app", "name", "code", "branch_type", "state")}),
        ("Place", {"fields": ("address", "contact", "metadata")}),
        LifecycleAdmin._record,
    )
    readonly_fields = LifecycleAdmin._shown
    actions = lifecycle_actions("branch")
    empty_help = "A branch is a location or sub-unit of an app. The command: manage.py branch_create."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Branch]:
        keys = count(APIKey.objects.live(), "branch")
        rows: models.QuerySet[Branch] = super().get_queryset(request).annotate(keys_n=keys)
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant", "app") if obj else self.readonly_fields
