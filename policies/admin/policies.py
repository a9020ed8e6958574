from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin
from controlplane.core.forms import JSONField
from policies.admin import explaining
from policies.models import Policy

TONES = {"disabled": "warn", "expired": "warn", "unreadable": "bad", "not_yet_valid": "info", "out_of_schedule": "info"}
LEVELS = ("key", "user", "branch", "app")


class IndentedJSON(json.JSONEncoder):
    """Writes JSON over several lines, as people edit it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2})


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]
    """What is wrong inside the JSON is said by path, as `limits.0.limit: …`, by the checks of the model."""

    config = JSONField(
        encoder=IndentedJSON,
        required=False,
        initial=dict,
        widget=forms.Textarea(attrs={"rows": 14, "cols": 90, "spellcheck": "false", "class": "cp-mono"}),
        help_text=Policy._meta.get_field("config").help_text,
    )

    def clean_config(self) -> Any:
        """An empty field means a policy that says nothing."""
        value = self.cleaned_data["config"]
        return {} if value is None else value

    class Meta:
        model = Policy
        exclude: tuple[str, ...] = ()


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


@admin.register(Policy)
class PolicyAdmin(WritableModelAdmin):
    form = PolicyForm
    list_display = ("label", "scope", "kind", "version_shown", "state", "validity", "changed_on")
    list_filter = ("policy_type", "enabled", ScopeFilter)
    search_fields = ("name__icontains", "tenant__slug__exact", "app__slug__exact", "user__email__iexact")
    search_help_text = "Name, slug of tenant or app, or e-mail"
    list_select_related = ("tenant", "app", "branch", "user", "key")
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": ("name", "policy_type", "enabled", "config", "message", "description")}),
        ("Scope", {"fields": ("tenant", "app", "branch", "user", "key")}),
        ("Precedence", {"fields": ("priority", "overridable", "final")}),
        ("Time", {"fields": ("valid_from", "valid_until", "schedule")}),
        ("Record", {"fields": ("id", "layer", "version", "created", "changed")}),
    )
    readonly_fields = ("id", "layer", "version", "created", "changed")
    raw_id_fields = ("key",)
    empty_help = "A policy says who may use which models, how much and when. Without one, every known model is allowed."

    def get_urls(self) -> list[Any]:
        return [*explaining.urls(self), *super().get_urls()]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant", "policy_type") if obj else self.readonly_fields

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

    @admin.display(description="Created (UTC)")
    def created(self, row: Policy) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Changed (UTC)", ordering="updated_at")
    def changed(self, row: Policy) -> str:
        return display.instant(row.updated_at)
