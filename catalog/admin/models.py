from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import models
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import path

from auditing.context import audit_context
from catalog import units
from catalog.admin import calculator, cells, history
from catalog.admin.filters import (
    AbilityFilter,
    ModeFilter,
    ModelPriceFilter,
    ModelStatusFilter,
    PricedFilter,
    ProviderFilter,
)
from catalog.aliases import redirected
from catalog.models import CAPABILITIES, AIModel, ModelAlias
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action

STATES = {"disabled": "warn", "deprecated": "warn", "unlisted": "info", "provider disabled": "warn"}


def switch(row: Any, on: bool, reason: str) -> None:
    """Turn a model or a provider on or off."""
    row.enabled = on
    with audit_context(reason=reason):
        row.save(update_fields=["enabled"])


def switch_actions(what: str, command: str = "") -> tuple[Any, ...]:
    """Disable and enable; what: whose calls are refused meanwhile; command: the one that does the same."""
    return (
        confirmed_action(
            "Disable",
            permission="change",
            command=command,
            past="disabled",
            explain=f"Calls of {what} are refused as model_disabled from now on. Prices and what was used stay readable.",
            perform=lambda row, request, reason: switch(row, False, reason),
            offered=lambda row: row.enabled,
            danger=True,
        ),
        confirmed_action(
            "Enable",
            permission="change",
            command=command,
            past="enabled",
            explain=f"Calls of {what} are taken again, where policies allow them.",
            perform=lambda row, request, reason: switch(row, True, reason),
            offered=lambda row: not row.enabled,
        ),
    )


class AliasInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ModelAlias
    fields = ("alias", "tenant", "enabled", "note")
    readonly_fields = ("tenant",)
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ModelAlias]:
        return super().get_queryset(request).select_related("tenant")


@admin.register(AIModel)
class AIModelAdmin(WritableModelAdmin):
    list_display = ("key", "provider", "mode", "context", "input", "output", "cache_read", "other", "state")
    list_filter = (ProviderFilter, ModeFilter, AbilityFilter, ModelPriceFilter, PricedFilter, ModelStatusFilter)
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
        ("Source", {"fields": ("source_provider", "deprecation_date", "source_url")}),
        ("Other fields of the source", {"fields": ("flags", "extra"), "classes": ("collapse",)}),
        ("Record", {"fields": ("canonical", "origin", "created", "changed")}),
    )
    readonly_fields = ("canonical", "origin", "created", "changed")
    inlines = (AliasInline,)
    actions = switch_actions("these models")
    empty_help = "Models that may be called. Without one, every call is refused as model_unknown."
    change_form_template = "cp_catalog/model.html"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[AIModel]:
        """With the rates of the list price in force as `now_<column>`; there is at most one such price."""
        begun = models.Q(prices__tenant=None, prices__effective_from__lte=Now())
        not_over = models.Q(prices__effective_to=None) | models.Q(prices__effective_to__gt=Now())
        rows: models.QuerySet[AIModel] = (
            super()
            .get_queryset(request)
            .annotate(price=models.FilteredRelation("prices", condition=begun & not_over))
            .alias(price_rates=models.F("price__rates"))
            .annotate(**{f"now_{name}": models.F(f"price__{name}") for name in (*units.COLUMNS,)})
        )
        return rows

    def get_urls(self) -> list[Any]:
        bill = self.admin_site.admin_view(self.calculator_view)
        return [path("calculator/", bill, name="cp_catalog_aimodel_calculator"), *super().get_urls()]

    def calculator_view(self, request: HttpRequest) -> HttpResponse:
        return calculator.page(self, request)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None and request.user.has_perm("cp_catalog.view_modelprice"):
            context["prices"] = history.panel(obj, may_set=request.user.has_perm("cp_catalog.add_modelprice"))
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="Context", ordering="max_input_tokens")
    def context(self, row: AIModel) -> str:
        return display.number(row.max_input_tokens)

    @admin.display(description="Input / 1M", ordering=cells.RateOrder("price__input_rate"))
    def input(self, row: Any) -> str:
        return cells.rate(row.now_input_rate)

    @admin.display(description="Output / 1M", ordering=cells.RateOrder("price__output_rate"))
    def output(self, row: Any) -> str:
        return cells.rate(row.now_output_rate)

    @admin.display(description="Cache read / 1M", ordering=cells.RateOrder("price__cache_read_rate"))
    def cache_read(self, row: Any) -> str:
        return cells.rate(row.now_cache_read_rate)

    @admin.display(description="Other")
    def other(self, row: Any) -> str:
        return cells.other_rates(row, "now_")

    @admin.display(description="Status")
    def state(self, row: AIModel) -> str:
        status = row.status if row.provider.enabled or not row.enabled else "provider disabled"
        why = f"{row.deprecation_date:%Y-%m-%d}" if status == "deprecated" and row.deprecation_date else ""
        return display.status(status, STATES, why)

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

    def save_model(self, request: HttpRequest, obj: ModelAlias, form: Any, change: bool) -> None:
        """A tenant may redirect its own calls of a key; whoever does that is told."""
        super().save_model(request, obj, form, change)
        hidden = redirected(obj.alias) if obj.tenant_id else None
        if hidden is not None and hidden != obj.model:
            messages.warning(
                request, f"{hidden.key} is a model's key; {obj.tenant}'s calls of it now go to {obj.model.key}."
            )

    @admin.display(description="For", ordering="tenant__name")
    def whose(self, row: ModelAlias) -> str:
        return str(row.tenant) if row.tenant else "everybody"

    @admin.display(description="Status", ordering="enabled")
    def state(self, row: ModelAlias) -> str:
        return "active" if row.enabled else display.pill("disabled", "warn")
