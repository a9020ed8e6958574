from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse

from auditing.context import audit_context
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from policies.admin import editing, explaining, history, simulating
from policies.models import Policy, PolicyVersion
from tenants.scope import current_scope

TONES = {"disabled": "warn", "expired": "warn", "unreadable": "bad", "not_yet_valid": "info", "out_of_schedule": "info"}
LEVELS = ("key", "user", "branch", "app")


class ScopeFilter(admin.SimpleListFilter):
    """By the most particular thing a scope names."""

    title = "scope"
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("organization", "Organization"), *((level, level.capitalize()) for level in reversed(LEVELS))]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if value not in ("organization", *LEVELS):
            return queryset
        nearer = LEVELS[: LEVELS.index(value)] if value in LEVELS else LEVELS
        found = queryset.filter(**{f"{level}__isnull": True for level in nearer})
        return found.filter(**{f"{value}__isnull": False}) if value in LEVELS else found


def _switch(policy: Policy, on: bool, reason: str) -> None:
    policy.enabled = on
    with audit_context(reason=reason):
        policy.save(update_fields=["enabled"])


def _scopes(rows: Any) -> list[tuple[str, str]]:
    return [(str(row), f"{row.tenant.slug}: {row.scope_label()}") for row in rows]


@admin.register(Policy)
class PolicyAdmin(WritableModelAdmin):
    """Policies are written on pages of their own: fields made from the schema of the type, then a look at the change."""

    list_display = ("label", "scope", "kind", "version_shown", "state", "validity", "changed_on", "changed_by")
    list_filter = ("policy_type", "enabled", ScopeFilter)
    search_fields = ("name__icontains", "tenant__slug__exact", "app__slug__exact", "user__email__iexact")
    search_help_text = "Name, slug of tenant or app, or e-mail"
    list_select_related = ("tenant", "app", "branch", "user", "key")
    ordering = ("-id",)
    # What those see who may not change: the rest write on the pages of policies.admin.editing.
    fieldsets = (
        (None, {"fields": ("name", "policy_type", "enabled", "config", "message", "description")}),
        ("Scope", {"fields": ("tenant", "app", "branch", "user", "key")}),
        ("Precedence", {"fields": ("priority", "overridable", "final")}),
        ("Time", {"fields": ("valid_from", "valid_until", "schedule")}),
        ("Record", {"fields": ("id", "layer", "version", "created", "changed")}),
    )
    readonly_fields = ("id", "layer", "version", "created", "changed")
    change_form_template = "cp_policies/policy_seen.html"
    empty_help = "A policy says who may use which models, how much and when. Without one, every known model is allowed."
    actions = (
        confirmed_action(
            "Disable",
            permission="change",
            command="policy_apply",
            past="disabled",
            explain="These policies say nothing from now on; what they allowed, forbade or limited is then up to the others.",
            perform=lambda row, request, reason: _switch(row, False, reason),
            offered=lambda row: row.enabled,
            preview=_scopes,
            danger=True,
        ),
        confirmed_action(
            "Enable",
            permission="change",
            command="policy_apply",
            past="enabled",
            explain="These policies hold from now on, in their time.",
            perform=lambda row, request, reason: _switch(row, True, reason),
            offered=lambda row: not row.enabled,
            preview=_scopes,
        ),
    )

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_policies/policies.css"]}

    def get_urls(self) -> list[Any]:
        return [*explaining.urls(self), *simulating.urls(self), *history.urls(self), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Inside a tenant scope policies can be read, not written: the database says so too."""
        return current_scope() is None and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return current_scope() is None and super().has_change_permission(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """With the names of those who made the versions: one statement for the page."""
        answer = super().changelist_view(request, extra_context)
        found = getattr(answer, "context_data", {}).get("cl")
        rows = found.result_list if found else ()
        names = history.people(row.changed_by for row in rows)
        for row in rows:
            row.changed_by = names.get(row.changed_by, row.changed_by)
        return answer

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return editing.add(self, request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The form; for those who may only look, the stock page, which has no input then."""
        if not self.has_change_permission(request):
            if request.method == "POST":
                raise PermissionDenied
            return super().change_view(request, object_id, form_url, extra_context)
        policy = self.get_object(request, unquote(object_id))
        if policy is None:
            raise Http404
        return editing.change(self, request, policy)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Policy]:
        """With who made the version that stands. Findings have no column: they are of a tenant's policies together, and
        are found anew each time; the review of a change shows them.
        """
        rows: models.QuerySet[Policy] = super().get_queryset(request)
        standing = PolicyVersion.objects.filter(
            tenant=models.OuterRef("tenant"), policy_id=models.OuterRef("pk"), version=models.OuterRef("version")
        )
        return rows.annotate(changed_by=models.Subquery(standing.values("actor")[:1]))

    @admin.display(description="Name", ordering="name")
    def label(self, row: Policy) -> str:
        return row.name or "(no name)"

    @admin.display(description="Type", ordering="policy_type")
    def kind(self, row: Policy) -> str:
        return row.policy_type.replace("_", " ")

    @admin.display(description="Scope", ordering="layer")
    def scope(self, row: Policy) -> str:
        return f"{row.tenant.slug}: {row.scope_label()}"

    @admin.display(description="Version", ordering="version")
    def version_shown(self, row: Policy) -> str:
        return display.number(row.version)

    @admin.display(description="Status", ordering="enabled")
    def state(self, row: Policy) -> str:
        state = row.state()
        return display.pill(state.replace("_", " "), TONES[state]) if state in TONES else state

    @admin.display(description="Valid", ordering="valid_until")
    def validity(self, row: Policy) -> str:
        bounds = [f"{word} {at:%Y-%m-%d}" for word, at in (("from", row.valid_from), ("until", row.valid_until)) if at]
        return ", ".join([*bounds, *(["by schedule"] if row.schedule else [])]) or "always"

    @admin.display(description="Changed", ordering="updated_at")
    def changed_on(self, row: Policy) -> str:
        return display.day(row.updated_at)

    @admin.display(description="By")
    def changed_by(self, row: Any) -> str:
        return row.changed_by or display.NOTHING

    @admin.display(description="Created (UTC)")
    def created(self, row: Policy) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Changed (UTC)", ordering="updated_at")
    def changed(self, row: Policy) -> str:
        return display.instant(row.updated_at)
