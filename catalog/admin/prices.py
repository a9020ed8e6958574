from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html

from auditing.context import audit_context
from catalog.admin import cells, entry, inbox
from catalog.admin.filters import (
    ForceFilter,
    ImportFilter,
    ModelFilter,
    ModelProviderFilter,
    MovedFilter,
    OriginFilter,
    OwnerFilter,
    PriceFilter,
)
from catalog.models import ModelPrice
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from controlplane.core.ids import now


def _before(column: str) -> models.Subquery:
    """The rate of the price that held before, of the same model and owner."""
    same = models.Q(tenant=models.OuterRef("tenant")) | models.Q(
        models.Exists(ModelPrice.objects.filter(pk=models.OuterRef(models.OuterRef("pk")), tenant=None)), tenant=None
    )
    earlier = ModelPrice.objects.filter(
        same, model=models.OuterRef("model"), effective_from__lt=models.OuterRef("effective_from")
    ).exclude(effective_to=models.F("effective_from"))
    return models.Subquery(earlier.order_by("-effective_from").values(column)[:1])


def _end(price: ModelPrice, reason: str) -> None:
    with audit_context(reason=reason):
        price.end(reason=reason)


def _void(price: ModelPrice, reason: str) -> None:
    with audit_context(reason=reason):
        price.end(price.effective_from, reason=reason)


def _what_ends(rows: Any) -> list[tuple[str, str]]:
    return [
        (
            row.model.key,
            f"{'everybody' if row.tenant is None else row.tenant}, from {row.effective_from:%Y-%m-%d %H:%M} UTC",
        )
        for row in rows
    ]


@admin.register(ModelPrice)
class ModelPriceAdmin(WritableModelAdmin):
    """Prices are set, ended and voided, never changed: the page of one has no input."""

    list_display = ("of_model", "whose", "input", "output", "other", "change_shown", "start", "end", "state")
    list_filter = (
        ModelFilter, ImportFilter, ModelProviderFilter, OwnerFilter, ForceFilter, PriceFilter, OriginFilter, MovedFilter,
    )  # fmt: skip
    search_fields = ("model__key__icontains", "tenant__slug__exact")
    search_help_text = "A part of the model's key, or the slug of a tenant"
    list_select_related = ("model", "tenant")
    ordering = ("-effective_from", "-id")
    fieldsets = (
        (None, {"fields": ("model_link", "whose", "state", "start_at", "end_at", "reason")}),
        ("Rates", {"fields": ("rates_shown", "terms")}),
        ("Record", {"fields": ("source", "version", "came_with", "fingerprint_shown", "id", "created")}),
    )
    readonly_fields = (
        "model_link", "whose", "state", "start_at", "end_at", "rates_shown", "terms", "came_with", "fingerprint_shown", "id",
        "created",
    )  # fmt: skip
    actions = (
        confirmed_action(
            "End now",
            permission="end",
            command="",
            past="ended",
            explain="These prices hold no longer. Where a tenant's own price ends, the list price holds again; where a list "
            "price ends, calls are unpriced until another is set.",
            perform=lambda row, request, reason: _end(row, reason),
            offered=lambda row: row.in_force(now()),
            preview=_what_ends,
            danger=True,
        ),
        confirmed_action(
            "Void",
            permission="end",
            command="",
            past="void",
            explain="These prices never hold, from their beginning on. What was billed by them keeps its cost until re-rated.",
            perform=lambda row, request, reason: _void(row, reason),
            offered=lambda row: not row.void,
            preview=_what_ends,
            danger=True,
        ),
    )
    every_row = "when=any"
    empty_help = "A price says what a model costs from an instant on. Without one, calls are unpriced, never free."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ModelPrice]:
        rows: models.QuerySet[ModelPrice] = super().get_queryset(request)
        return rows.annotate(input_before=_before("input_rate"), output_before=_before("output_rate"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("cp_catalog.add_modelprice"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_catalog.change_modelprice"))

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("unpriced/", view(self.unpriced_view), name="cp_catalog_modelprice_unpriced"),
            path("unpriced/rerate/", view(self.rerate_view), name="cp_catalog_modelprice_rerate"),
            *super().get_urls(),
        ]

    def unpriced_view(self, request: HttpRequest) -> HttpResponse:
        return inbox.page(self, request)

    def rerate_view(self, request: HttpRequest) -> HttpResponse:
        return inbox.rerate_page(self, request)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """A page of its own: rates are typed per million and compared with those they replace."""
        return entry.page(self, request)

    @admin.display(description="Model", ordering="model__key")
    def of_model(self, row: ModelPrice) -> str:
        return row.model.key

    @admin.display(description="Model")
    def model_link(self, row: ModelPrice) -> str:
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:cp_catalog_aimodel_change", args=[row.model_id]), row.model
        )

    @admin.display(description="For", ordering="tenant__name")
    def whose(self, row: ModelPrice) -> str:
        return str(row.tenant) if row.tenant else "everybody"

    @admin.display(description="Input / 1M", ordering=cells.RateOrder("input_rate"))
    def input(self, row: ModelPrice) -> str:
        return cells.rate(row.input_rate)

    @admin.display(description="Output / 1M", ordering=cells.RateOrder("output_rate"))
    def output(self, row: ModelPrice) -> str:
        return cells.rate(row.output_rate)

    @admin.display(description="Other")
    def other(self, row: ModelPrice) -> str:
        return cells.other_rates(row)

    @admin.display(description="Change")
    def change_shown(self, row: Any) -> str:
        return cells.change(
            [cells.percent(row.input_before, row.input_rate), cells.percent(row.output_before, row.output_rate)]
        )

    @admin.display(description="From", ordering="effective_from")
    def start(self, row: ModelPrice) -> str:
        return display.day(row.effective_from)

    @admin.display(description="Until", ordering="effective_to")
    def end(self, row: ModelPrice) -> str:
        return display.day(row.effective_to)

    @admin.display(description="Status")
    def state(self, row: ModelPrice) -> str:
        return display.status(cells.state(row, now()), cells.STATES)

    @admin.display(description="From (UTC)")
    def start_at(self, row: ModelPrice) -> str:
        return display.instant(row.effective_from)

    @admin.display(description="Until (UTC)")
    def end_at(self, row: ModelPrice) -> str:
        return display.instant(row.effective_to)

    @admin.display(description="Rates, USD")
    def rates_shown(self, row: ModelPrice) -> str:
        return cells.rates_table(cells.rates_of(row.rates, row.model.mode))

    @admin.display(description="Terms")
    def terms(self, row: ModelPrice) -> str:
        return cells.terms(row) or "none: the rates as they are"

    @admin.display(description="Import")
    def came_with(self, row: ModelPrice) -> str:
        return cells.import_link(row.price_import_id)

    @admin.display(description="Fingerprint")
    def fingerprint_shown(self, row: ModelPrice) -> str:
        return display.mono(row.fingerprint)

    @admin.display(description="Created (UTC)")
    def created(self, row: ModelPrice) -> str:
        return display.instant(row.created_at)
