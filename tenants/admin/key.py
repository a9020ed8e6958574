from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, models
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables

from auditing.admin.filters import subject_filter
from auditing.models import AuditLog
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from controlplane.core.ids import now
from tenants.admin.keyforms import KeyForm, NewKeyForm
from tenants.errors import KeyOperationError
from tenants.models import APIKey, APIKeySecret, Issued

PREFIX = re.compile(r"cpk_(live|test)_(?=[0-9A-Za-z]{12}$)", re.ASCII)
STATES = {"revoked": "bad", "disabled": "warn", "expired": "bad", "not yet valid": "info"}
GRACES = {"0": "At once", "3600": "After 1 hour", "86400": "After 24 hours", "604800": "After 7 days"}


class SecretInline(admin.TabularInline):  # type: ignore[type-arg]
    model = APIKeySecret
    fields = ("state", "created", "used", "ends")
    readonly_fields = fields
    extra = 0
    max_num = 0
    can_delete = False
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[APIKeySecret]:
        return super().get_queryset(request).select_related("use")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="State")
    def state(self, row: APIKeySecret) -> str:
        if row.revoked_at:
            return display.pill("revoked", "bad")
        return display.pill("ended", "warn") if row.expires_at and row.expires_at <= now() else "live"

    @admin.display(description="Made (UTC)")
    def created(self, row: APIKeySecret) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Last used (UTC)")
    def used(self, row: APIKeySecret) -> str:
        return display.instant(row.last_used_at) if row.last_used_at else "never"

    @admin.display(description="Ends (UTC)")
    def ends(self, row: APIKeySecret) -> str:
        return display.instant(row.revoked_at or row.expires_at)


class KeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("live", "Live"), ("expiring", "Expiring in 14 days"), ("unused", "Live, unused for 30 days"),
            ("expired", "Expired"), ("revoked", "Revoked"),
        ]  # fmt: skip

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        month_ago = now() - timedelta(days=30)
        found: dict[str | None, Any] = {
            "live": lambda: queryset.live(),
            "expiring": lambda: queryset.expiring(timedelta(days=14)),
            "unused": lambda: queryset.live().filter(created_at__lt=month_ago).unused(since=month_ago),
            "expired": lambda: queryset.filter(expires_at__lte=now(), revoked_at=None),
            "revoked": lambda: queryset.exclude(revoked_at=None),
        }
        return found.get(self.value(), lambda: queryset)()  # type: ignore[no-any-return]


@admin.register(APIKey)
class APIKeyAdmin(WritableModelAdmin):
    form = KeyForm
    add_form = NewKeyForm
    list_display = ("name", "prefix", "tenant", "app", "user", "condition", "used", "ends", "made")
    list_filter = (
        KeyStateFilter, "environment", *(subject_filter(name, name) for name in ("tenant", "app", "branch", "user")),
    )  # fmt: skip
    search_fields = ("name__icontains", "secrets__kid__exact", "tenant__slug__exact", "app__slug__exact")
    search_help_text = "Name, kid, or slug of tenant or app"
    list_select_related = ("tenant", "app", "user")
    ordering = ("-created_at",)
    _limits: ClassVar[Any] = ("Limits", {"fields": ("scopes", "allowed_models", "not_before", "expires_at", "enabled")})
    _notes: ClassVar[Any] = ("Notes", {"fields": ("tags", "metadata")})
    add_fieldsets = ((None, {"fields": ("app", "name", "environment", "user", "branch", "new_id")}), _limits, _notes)
    fieldsets = (
        (None, {"fields": ("name", "condition", "tenant", "app", "environment", "user", "branch")}),
        _limits,
        _notes,
        (
            "Record",
            {"fields": ("key_id", "created", "created_by", "rotation", "revoked", "revoked_by", "revoke_reason")},
        ),
    )
    readonly_fields = (
        "condition", "tenant", "key_id", "created", "created_by", "rotation", "revoked", "revoked_by", "revoke_reason",
    )  # fmt: skip
    inlines = (SecretInline,)
    actions = (
        confirmed_action(
            "Revoke",
            permission="revoke",
            command="keys_revoke",
            past="revoked",
            explain="Every secret of these keys is refused from now on. This is final.",
            perform=lambda row, request, reason: row.revoke(reason, by=str(request.user)),
            offered=lambda row: row.revoked_at is None,
            preview=lambda rows: [(str(row), f"{row.tenant} / {row.app}") for row in rows],
            danger=True,
        ),
    )
    empty_help = "A key lets an app call models. The command: manage.py keys_issue."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[APIKey]:
        newest = APIKeySecret.objects.filter(key=models.OuterRef("pk")).order_by("-created_at")
        kid, hint = (models.Subquery(newest.values(name)[:1]) for name in ("kid", "hint"))
        rows: Any = super().get_queryset(request).annotate(newest_kid=kid, newest_hint=hint)
        found: models.QuerySet[APIKey] = rows.with_last_use()
        return found

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """The public part of a token, as cpk_live_0123456789ab, finds its key."""
        found: tuple[Any, bool] = super().get_search_results(
            request, queryset, PREFIX.sub("", search_term) if PREFIX.match(search_term) else search_term
        )
        return found

    def get_urls(self) -> list[Any]:
        rotate = self.admin_site.admin_view(self.rotate_view)
        return [path("<uuid:id>/rotate/", rotate, name="cp_tenants_apikey_rotate"), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("cp_tenants.issue_apikey"))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_tenants.revoke_apikey"))

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "app", "environment", "user", "branch") if obj else self.readonly_fields

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is None:  # the answer is the page with the token: there is nothing to go on with
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        elif obj.revoked_at is None and request.user.has_perm("cp_tenants.rotate_apikey"):
            context["rotate_url"] = reverse("admin:cp_tenants_apikey_rotate", args=[obj.pk])
        return super().render_change_form(request, context, *args, **kwargs)

    change_form_template = "cp_tenants/key.html"

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """A form that was sent before, or is being sent at this moment, makes no second key and shows no token."""
        if request.method != "POST" or not self.has_add_permission(request):
            return super().add_view(request, form_url, extra_context)
        if made := _already_made(request.POST.get("new_id", "")):
            return self._created_page(request, made, None)
        try:
            return super().add_view(request, form_url, extra_context)
        except IntegrityError:
            if made := _already_made(request.POST.get("new_id", "")):
                return self._created_page(request, made, None)
            raise

    @method_decorator(sensitive_variables())
    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        columns = ("tenant", "app", "name", "environment", "user", "branch", "scopes", "allowed_models")
        more = ("expires_at", "not_before", "metadata", "tags")
        given = {name: getattr(obj, name) for name in (*columns, *more)}
        user: Any = request.user
        obj.issued = APIKey.objects.issue(**given, by=str(user), by_id=user.pk, id=form.cleaned_data["new_id"])  # type: ignore[attr-defined]
        obj.pk = obj.issued.key.pk  # type: ignore[attr-defined]

    @method_decorator(sensitive_variables())
    def response_add(self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None) -> HttpResponse:
        issued: Issued = obj.issued  # type: ignore[attr-defined]
        return self._created_page(request, issued.key, issued)

    @method_decorator(sensitive_variables())
    def rotate_view(self, request: HttpRequest, id: UUID) -> HttpResponse:
        """Ask how long the old secrets go on, then show the new one, once."""
        if not request.user.has_perm("cp_tenants.rotate_apikey"):
            raise PermissionDenied
        key = APIKey.objects.select_related("tenant", "app").filter(pk=id).first()
        if key is None:
            raise Http404
        status = 200
        if request.method == "POST":
            grace = request.POST.get("grace", "")
            seen = request.POST.get("rotation", "")
            key.rotation = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 10 else -1
            try:
                if grace not in GRACES:
                    raise KeyOperationError("bad_grace")
                issued = key.rotate(timedelta(seconds=int(grace)))
                return self._created_page(request, key, issued, title="Key rotated")
            except KeyOperationError as error:
                messages.error(request, error.message)
                status = error.http_status
                key.refresh_from_db()
        context = {
            **self.admin_site.each_context(request), "title": "Rotate", "opts": self.opts, "key": key, "graces": GRACES,
            "secrets": [secret.prefix for secret in key.secrets.live().select_related("key")],
        }  # fmt: skip
        return TemplateResponse(request, "cp_tenants/rotate.html", context, status=status)

    @method_decorator(sensitive_variables())
    @method_decorator(never_cache)
    def _created_page(
        self, request: HttpRequest, key: APIKey, issued: Issued | None, title: str = "Key created"
    ) -> HttpResponse:
        """The answer to the POST is the page: the token is in it, and nowhere else."""
        if issued is not None:
            label = f"cpk_{key.environment}_{issued.secret.kid}"
            details = {"prefix": label}
            AuditLog.objects.record(
                "apikey.reveal", tenant=key.tenant_id, app=key.app_id, api_key=key.pk, resource=key, details=details
            )
        context = {
            **self.admin_site.each_context(request), "title": title if issued else "Already created",
            "opts": self.opts, "key": key, "token": issued.token if issued else "",
            "prefix": f"cpk_{key.environment}_{key.secrets.order_by('-created_at').values_list('kid', flat=True).first()}",
        }  # fmt: skip
        response = TemplateResponse(request, "cp_tenants/created.html", context)
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response

    @admin.display(description="Prefix")
    def prefix(self, row: Any) -> str:
        if not row.newest_kid:
            return display.NOTHING
        return display.mono(row.newest_hint or f"cpk_{row.environment}_{row.newest_kid}")

    @admin.display(description="Last used", ordering="used_at")
    def used(self, row: Any) -> str:
        return display.day(row.used_at) if row.used_at else "never"

    @admin.display(description="State")
    def condition(self, row: APIKey) -> str:
        return display.status(row.state, STATES)

    @admin.display(description="Expires", ordering="expires_at")
    def ends(self, row: APIKey) -> str:
        return display.day(row.expires_at)

    @admin.display(description="Created", ordering="created_at")
    def made(self, row: APIKey) -> str:
        return display.day(row.created_at)

    @admin.display(description="Created (UTC)", ordering="created_at")
    def created(self, row: APIKey) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Revoked (UTC)")
    def revoked(self, row: APIKey) -> str:
        return display.instant(row.revoked_at)

    @admin.display(description="Id")
    def key_id(self, row: APIKey) -> str:
        return display.mono(str(row.pk))


def _already_made(text: str) -> APIKey | None:
    try:
        found: APIKey | None = APIKey.objects.filter(pk=UUID(text)).first()
    except ValueError:
        return None
    return found
