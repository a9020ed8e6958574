from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from catalog.models import CAPABILITIES, AIModel, ModelAlias, Provider
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin

STATES = {"disabled": "warn", "deprecated": "warn", "unlisted": "info"}


class AliasInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ModelAlias
    fields = ("alias", "tenant", "enabled", "note")
    readonly_fields = ("tenant",)
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ModelAlias]:
        return super().get_queryset(request).select_related("tenant")


@admin.register(Provider)
class ProviderAdmin(WritableModelAdmin):
    list_display = ("name", "slug", "model_count", "state", "website")
    list_filter = ("enabled",)
    search_fields = ("slug__startswith", "name__icontains")
    search_help_text = "Slug or name"
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "family", "enabled")}),
        ("About", {"fields": ("website", "doc_url", "notes", "metadata")}),
    )
    empty_help = "A provider serves models: add one, then its models."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Provider]:
        rows: models.QuerySet[Provider] = super().get_queryset(request).annotate(models_n=models.Count("models"))
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("slug",) if obj else ()  # canonical ids and policies stand on it

    @admin.display(description="Models", ordering="models_n")
    def model_count(self, row: Any) -> str:
        return display.number(row.models_n)

    @admin.display(description="Status", ordering="enabled")
    def state(self, row: Provider) -> str:
        return "active" if row.enabled else display.pill("disabled", "warn")


@admin.register(AIModel)
class AIModelAdmin(WritableModelAdmin):
    list_display = ("key", "provider", "mode", "context", "answer", "abilities", "state")
    list_filter = ("enabled", "mode", ("provider", admin.RelatedOnlyFieldListFilter))
    search_fields = ("key__icontains", "display_name__icontains")
    search_help_text = "A part of the key or name"
    list_select_related = ("provider",)
    ordering = ("key",)
    _abilities = tuple(f"supports_{name}" for name in CAPABILITIES)
    fieldsets = (
        (None, {"fields": ("provider", "name", "key", "display_name", "description", "mode", "enabled")}),
        (
            "Limits",
            {"fields": ("max_input_tokens", "max_output_tokens", "max_tokens", "output_vector_size", "rpm", "tpm")},
        ),
        ("Abilities", {"fields": _abilities, "classes": ("collapse",)}),
        ("Offer", {"fields": ("supported_endpoints", "input_modalities", "output_modalities", "regions")}),
        ("Source", {"fields": ("source_provider", "deprecation_date", "source_url", "flags", "extra")}),
        ("Record", {"fields": ("canonical", "origin", "created", "changed")}),
    )
    readonly_fields = ("canonical", "origin", "created", "changed")
    inlines = (AliasInline,)
    empty_help = "Models that may be called. Without one, every call is refused as model_unknown."

    @admin.display(description="Context", ordering="max_input_tokens")
    def context(self, row: AIModel) -> str:
        return display.number(row.max_input_tokens)

    @admin.display(description="Longest answer", ordering="max_output_tokens")
    def answer(self, row: AIModel) -> str:
        return display.number(row.max_output_tokens)

    @admin.display(description="Abilities")
    def abilities(self, row: AIModel) -> str:
        shown = ("vision", "reasoning", "function_calling", "prompt_caching")
        return (
            ", ".join(name.replace("_", " ") for name in shown if getattr(row, f"supports_{name}")) or display.NOTHING
        )

    @admin.display(description="Status")
    def state(self, row: AIModel) -> str:
        return display.status(row.status, STATES)

    @admin.display(description="Canonical id")
    def canonical(self, row: AIModel) -> str:
        return display.mono(row.canonical_id) if row.provider_id else display.NOTHING

    @admin.display(description="Created (UTC)")
    def created(self, row: AIModel) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Changed (UTC)")
    def changed(self, row: AIModel) -> str:
        return display.instant(row.updated_at)


@admin.register(ModelAlias)
class ModelAliasAdmin(WritableModelAdmin):
    list_display = ("alias", "model", "whose", "state", "note")
    list_filter = ("enabled",)
    search_fields = ("alias__icontains", "model__key__icontains", "tenant__slug__exact")
    search_help_text = "Alias, model, or slug of the tenant"
    list_select_related = ("model", "tenant")
    ordering = ("alias",)
    fields = ("alias", "model", "tenant", "enabled", "note")
    empty_help = "An alias is another name of a model, for everybody or for one tenant."

    @admin.display(description="For", ordering="tenant__name")
    def whose(self, row: ModelAlias) -> str:
        return str(row.tenant) if row.tenant else "everybody"

    @admin.display(description="Status", ordering="enabled")
    def state(self, row: ModelAlias) -> str:
        return "active" if row.enabled else display.pill("disabled", "warn")
