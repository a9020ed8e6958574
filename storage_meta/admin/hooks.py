"""Hooks: made with a secret that is shown once, rotated, disabled, enabled, removed."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables

from auditing.context import audit_context
from controlplane.core import display
from controlplane.core.admin import VERSION, WritableModelAdmin, confirmed_action, version_of
from controlplane.core.conf import conf
from storage_meta import outbox, signing
from storage_meta.admin.base import NamedForm, TenantScopedAdmin
from storage_meta.models import StorageHook


def _offered() -> list[str]:
    """All types, and the beginnings of them that end at a colon."""
    groups = {each.rpartition(":")[0] + ":*" for each in outbox.EVENT_TYPES}
    return ["s3:*", *sorted(groups | set(outbox.EVENT_TYPES))]


class HookForm(NamedForm):
    event_types = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        label="Told of",
        help_text="At least one; what ends in * covers all that begins so.",
        required=False,  # the model says so, and says it once
    )

    class Meta:
        help_texts = {
            "name": "For people, and in the log of deliveries.",
            "bucket": "Of which bucket; empty: of all.",
            "url": "https, port 443 or 8443, on the public internet. Each delivery is signed (Standard Webhooks).",
            "prefix": "Of keys that begin so, to the letter. Empty: of all.",
            "suffix": "Of keys that end so, as .pdf. Empty: of all.",
        }
        labels = {"url": "Address"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "event_types" in self.fields:
            known = list(dict.fromkeys([*_offered(), *(self.instance.event_types or [])]))
            self.fields["event_types"].choices = [(each, each) for each in known]  # type: ignore[attr-defined]


def _enable(hook: StorageHook, request: HttpRequest, reason: str) -> None:
    with audit_context(reason=reason):
        hook.enable()


def _disable(hook: StorageHook, request: HttpRequest, reason: str) -> None:
    with audit_context(reason=reason):
        hook.disable(reason)


def _remove(hook: StorageHook, request: HttpRequest, reason: str) -> None:
    with audit_context(reason=reason):
        hook.remove()


@admin.register(StorageHook)
class StorageHookAdmin(TenantScopedAdmin, WritableModelAdmin):
    form = HookForm
    list_display = ("name", "tenant", "of", "told", "address", "standing", "changed")
    list_filter = ("enabled",)
    search_fields = ("name__icontains", "url__icontains", "tenant__slug__exact")
    search_help_text = "A part of name or address, or a tenant's slug"
    list_select_related = ("tenant", "bucket")
    ordering = ("tenant__name", "name", "id")
    _what: ClassVar[Any] = ("Which changes", {"fields": ("bucket", "event_types", "prefix", "suffix")})
    add_fieldsets = ((None, {"fields": ("tenant", "name", "url")}), _what)
    fieldsets = (
        (None, {"fields": ("standing", "disabled_reason", "tenant", "name", "url")}),
        _what,
        ("Record", {"fields": ("id", "deliveries", "signed_by", "created", "changed")}),
    )
    readonly_fields = ("id", "standing", "disabled_reason", "deliveries", "signed_by", "created", "changed")
    actions = (
        confirmed_action(
            "Disable",
            permission="change",
            command="storage_hook disable",
            past="disabled",
            explain="Changes make no events for these hooks, and what waits is not sent, until they are enabled.",
            perform=_disable,
            offered=lambda hook: hook.enabled,
        ),
        confirmed_action(
            "Enable",
            permission="change",
            command="storage_hook enable",
            past="enabled",
            explain="Changes make events for these hooks again, and what waited is sent.",
            perform=_enable,
            offered=lambda hook: not hook.enabled,
        ),
        confirmed_action(
            "Delete",
            permission="remove",
            command="storage_hook remove",
            past="deleted",
            explain="These hooks end, with their events and the log of their deliveries. What waits is not sent.",
            perform=_remove,
            preview=lambda hooks: [(hook.name, hook.url) for hook in hooks],
            danger=True,
        ),
    )
    empty_help = "A hook tells an address of yours of changes to objects, signed, and again until it answers."
    change_form_template = "cp_storage_meta/hook.html"

    def get_urls(self) -> list[Any]:
        rotate = self.admin_site.admin_view(self.rotate_view)
        return [path("<uuid:id>/rotate/", rotate, name="cp_storage_meta_storagehook_rotate"), *super().get_urls()]

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_storage_meta.delete_storagehook"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is None:  # the answer is the page with the secret: there is nothing to go on with
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        elif self.has_change_permission(request):
            context["rotate_url"] = reverse("admin:cp_storage_meta_storagehook_rotate", args=[obj.pk])
        return super().render_change_form(request, context, *args, **kwargs)

    @method_decorator(sensitive_variables())
    def save_model(self, request: HttpRequest, obj: StorageHook, form: Any, change: bool) -> None:
        if not change:
            obj.secrets = signing.new_secret()
        super().save_model(request, obj, form, change)

    @method_decorator(sensitive_variables())
    def response_add(
        self, request: HttpRequest, obj: StorageHook, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._secret_page(request, obj, obj.secrets, "Hook created")

    @method_decorator(sensitive_variables())
    def rotate_view(self, request: HttpRequest, id: UUID) -> HttpResponse:
        """Ask, then show the new secret, once."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        hook = self.get_queryset(request).select_related("tenant").filter(pk=id).first()
        if hook is None:
            raise Http404
        status = 200
        if request.method == "POST":
            with transaction.atomic(using=conf.DATABASE):
                locked = StorageHook.objects.select_for_update().filter(pk=id).first()
                due = locked is not None and request.POST.get(VERSION) == version_of(locked)
                secret = hook.rotate_secret() if due else ""
            if secret:
                return self._secret_page(request, hook, secret, "Secret rotated")
            messages.error(
                request, "Somebody has changed this hook meanwhile. Look again, and rotate it if it is still due."
            )
            status = 409
        context = {
            **self.admin_site.each_context(request), "title": "Rotate the secret", "opts": self.opts, "hook": hook,
            "version_field": VERSION, "version": version_of(hook),
        }  # fmt: skip
        return TemplateResponse(request, "cp_storage_meta/rotate.html", context, status=status)

    @method_decorator(sensitive_variables())
    @method_decorator(never_cache)
    def _secret_page(self, request: HttpRequest, hook: StorageHook, secret: str, title: str) -> HttpResponse:
        """The answer to the POST is the page: the secret is in it, and nowhere else."""
        context = {
            **self.admin_site.each_context(request), "title": title, "opts": self.opts, "hook": hook, "secret": secret,
        }  # fmt: skip
        response = TemplateResponse(request, "cp_storage_meta/secret.html", context)
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response

    @admin.display(description="Bucket")
    def of(self, row: StorageHook) -> str:
        return row.bucket.name if row.bucket else "all"

    @admin.display(description="Told of")
    def told(self, row: StorageHook) -> str:
        where = [f"{row.prefix}…" if row.prefix else "", f"…{row.suffix}" if row.suffix else ""]
        return " ".join([", ".join(each.removeprefix("s3:") for each in row.event_types), *filter(None, where)])

    @admin.display(description="Address", ordering="url")
    def address(self, row: StorageHook) -> str:
        return format_html('<span class="cp-mono cp-long" title="{}">{}</span>', row.url, row.url[:60])

    @admin.display(description="State", ordering="enabled")
    def standing(self, row: StorageHook) -> str:
        return "enabled" if row.enabled else display.status("disabled", {"disabled": "warn"}, row.disabled_reason)

    @admin.display(description="Deliveries")
    def deliveries(self, row: StorageHook) -> str:
        links = [
            ("Events", reverse("admin:cp_storage_meta_storageevent_changelist"), {"hook": str(row.pk)}),
            ("Dead", reverse("admin:cp_storage_meta_storageevent_changelist"), {"hook": str(row.pk), "state": "dead"}),
            (
                "Log",
                reverse("admin:cp_storage_meta_hookexecution_changelist"),
                {"hook": row.name, "tenant": str(row.tenant_id)},
            ),
        ]
        shown = [format_html('<a href="{}?{}">{}</a>', url, urlencode(query), label) for label, url, query in links]
        return format_html("{} · {} · {}", *shown)

    @admin.display(description="Signed by")
    def signed_by(self, row: StorageHook) -> str:
        return "one secret, or two from a rotation to the next; each was shown once"

    @admin.display(description="Created (UTC)")
    def created(self, row: StorageHook) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Changed", ordering="updated_at")
    def changed(self, row: StorageHook) -> str:
        return display.day(row.updated_at)
