"""Filters of the lists of models and prices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone

from catalog import units
from catalog.models import CAPABILITIES, AIModel, Provider

SOON = timedelta(days=90)
"""Within this time a model is soon deprecated."""


class ProviderFilter(admin.SimpleListFilter):
    """By slug, of providers that have models. path: of the provider from the rows of the list."""

    title = "provider"
    parameter_name = "provider"
    path: ClassVar[str] = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        of_it = AIModel.objects.filter(provider=models.OuterRef("pk"))
        return list(Provider.objects.filter(models.Exists(of_it)).order_by("name").values_list("slug", "name"))

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(**{f"{self.path}__slug": value}) if value else queryset


class ModelProviderFilter(ProviderFilter):
    path = "model__provider"


class ModeFilter(admin.SimpleListFilter):
    title = "mode"
    parameter_name = "mode"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = AIModel.objects.order_by("mode").values_list("mode", flat=True).distinct()
        return [(mode or "-", mode.replace("_", " ") or "not stated") for mode in found]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(mode="" if value == "-" else value) if value else queryset


class AbilityFilter(admin.SimpleListFilter):
    """What a model must support: each choice turns itself on and off."""

    title = "ability"
    parameter_name = "ability"
    template = "cp_catalog/toggles.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.replace("_", " ")) for name in CAPABILITIES]

    def chosen(self) -> list[str]:
        asked = str(self.value() or "").split(",")
        return [name for name in CAPABILITIES if name in asked]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        chosen = self.chosen()
        self.text = ", ".join(name.replace("_", " ") for name in chosen)
        yield {
            "selected": not chosen,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": "Any",
        }
        for name, label in self.lookup_choices:
            after = [each for each in CAPABILITIES if (each in chosen) != (each == name)]
            query = changelist.get_query_string({self.parameter_name: ",".join(after) or None})
            yield {"selected": name in chosen, "query_string": query, "display": label}

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(**{f"supports_{name}": True for name in self.chosen()})


class ModelStatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "Active"),
            ("soon", f"Deprecated within {SOON.days} days"),
            ("deprecated", "Deprecated"),
            ("unlisted", "Unlisted"),
            ("disabled", "Disabled"),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        today = timezone.now().date()
        on = {"enabled": True, "provider__enabled": True}
        rows: dict[str | None, Any] = {
            "active": lambda: queryset.filter(**on, unlisted_at=None).exclude(deprecation_date__lte=today),
            "soon": lambda: queryset.filter(deprecation_date__gt=today, deprecation_date__lte=today + SOON),
            "deprecated": lambda: queryset.filter(deprecation_date__lte=today),
            "unlisted": lambda: queryset.exclude(unlisted_at=None),
            "disabled": lambda: queryset.exclude(**on),
        }
        found: models.QuerySet[Any] = rows.get(self.value(), lambda: queryset)()
        return found


class PricedFilter(admin.SimpleListFilter):
    """Whether a model has a list price now, of which at least one rate is known."""

    title = "list price"
    parameter_name = "priced"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Has one"), ("no", "Has none")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        without = models.Q(price_rates__isnull=True) | models.Q(price_rates={})
        if self.value() == "no":
            return queryset.filter(without)
        return queryset.exclude(without) if self.value() == "yes" else queryset


class PriceFilter(admin.ListFilter):
    """Rows whose rate lies in a range, as people count it: `price=input_rate&price_from=0.5&price_to=3`.

    prefix: of the generated columns from the rows of the list.
    """

    title = "price"
    template = "cp_catalog/price_filter.html"
    prefix: ClassVar[str] = ""
    presets = (
        ("0", "0", "Input free"), ("", "0.5", "Input to 0.50"), ("0.5", "3", "Input 0.50 to 3"), ("3", "", "Input from 3"),
    )  # fmt: skip

    def __init__(self, request: HttpRequest, params: Any, model: type[models.Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        given = {name: params.pop(name, [""])[-1].strip() for name in ("price", "price_from", "price_to")}
        column = given["price"] if given["price"] in units.COLUMNS else "input_rate"
        self.label, self.unit = units.COLUMNS[column]
        self.column = column
        self.given = {"from": given["price_from"], "to": given["price_to"]}
        self.bounds = {side: _amount(text) for side, text in self.given.items()}
        if any(text and self.bounds[side] is None for side, text in self.given.items()):
            messages.warning(request, "A price is a number such as 2.50. The bound that is none has been left out.")
        self.used_parameters = {name: text for name, text in given.items() if text}

    def expected_parameters(self) -> list[str | None]:
        return ["price", "price_from", "price_to"]

    def has_output(self) -> bool:
        return True

    @property
    def on(self) -> bool:
        return any(bound is not None for bound in self.bounds.values())

    @property
    def text(self) -> str:
        sides = [f"{side} {units.amount(bound)}" for side, bound in self.bounds.items() if bound is not None]
        return f"{self.label} {' '.join(sides)} per {self.unit.per}"

    def columns(self) -> list[dict[str, Any]]:
        return [
            {"value": name, "label": f"{label}, per {unit.per}", "selected": name == self.column}
            for name, (label, unit) in units.COLUMNS.items()
        ]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        self.kept = [(name, value) for name, value in changelist.params.items() if not name.startswith("price")]
        yield {"selected": not self.on, "query_string": changelist.get_query_string(remove=["price"]), "display": "Any"}
        for low, high, label in self.presets:
            bounds = {"price": "input_rate", "price_from": low or None, "price_to": high or None}
            chosen = self.column == "input_rate" and self.given == {"from": low, "to": high}
            yield {"selected": chosen, "query_string": changelist.get_query_string(bounds), "display": label}

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        lookups = {"from": "gte", "to": "lte"}
        match = {
            f"{self.prefix}{self.column}__{lookups[side]}": self.unit.stored(bound)
            for side, bound in self.bounds.items()
            if bound is not None
        }
        return queryset.filter(**match)


class ModelPriceFilter(PriceFilter):
    """Of models: by the list price in force."""

    prefix = "now_"


class ForceFilter(admin.SimpleListFilter):
    """By when a price holds; void ones never do."""

    title = "when"
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "In force"), ("planned", "Planned"), ("ended", "Ended"), ("void", "Void"), ("any", "Any")]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        first, *rest = super().choices(changelist)
        yield {**first, "display": "Not void"}
        yield from rest

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        void = models.Q(effective_to=models.F("effective_from"))
        rows: dict[str | None, Any] = {
            "now": lambda: queryset.in_force(),
            "planned": lambda: queryset.filter(effective_from__gt=Now()).exclude(void),
            "ended": lambda: queryset.filter(effective_to__lte=Now()).exclude(void),
            "void": lambda: queryset.filter(void),
            "any": lambda: queryset,
        }
        found: models.QuerySet[Any] = rows.get(self.value(), lambda: queryset.exclude(void))()
        return found


class OwnerFilter(admin.SimpleListFilter):
    """List prices, those of any tenant, or those of one by its slug."""

    title = "for"
    parameter_name = "for"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name, "")
        known = [("list", "Everybody: list prices"), ("own", "A tenant: own prices")]
        return known + ([(chosen, chosen)] if chosen and chosen not in ("list", "own") else [])

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        rows: dict[str | None, Any] = {
            None: lambda: queryset,
            "list": lambda: queryset.listed(),
            "own": lambda: queryset.exclude(tenant=None),
        }
        found: models.QuerySet[Any] = rows.get(self.value(), lambda: queryset.filter(tenant__slug=self.value()))()
        return found


class ModelFilter(admin.SimpleListFilter):
    """Prices of one model, by its key; reached from the model's page."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, chosen)] if chosen else []

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(model__key=self.value()) if self.value() else queryset


class ImportFilter(admin.SimpleListFilter):
    """Prices that one import made; reached from its page."""

    title = "import"
    parameter_name = "import"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, f"…{chosen[-8:]}")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        try:
            return queryset.filter(price_import=UUID(self.value() or "")) if self.value() else queryset
        except ValueError:
            return queryset.none()


class OriginFilter(admin.SimpleListFilter):
    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("manual", "Entered by a person"), ("import", "Imported")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        if self.value() == "manual":
            return queryset.filter(source="manual")
        return queryset.exclude(source="manual") if self.value() == "import" else queryset


class MovedFilter(admin.SimpleListFilter):
    """By how far the input or output rate moved from the price before."""

    title = "change"
    parameter_name = "moved"
    steps: ClassVar[dict[str, Decimal]] = {"10": Decimal("0.1"), "50": Decimal("0.5")}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, f"{name} % or more") for name in self.steps]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        least = self.steps.get(self.value() or "")
        if least is None:
            return queryset
        moved = models.Q()
        for side in ("input", "output"):
            for bound, step in (("gte", 1 + least), ("lte", 1 - least)):
                reached = models.ExpressionWrapper(models.F(f"{side}_before") * step, models.DecimalField())
                moved |= models.Q(**{f"{side}_before__gt": 0, f"{side}_rate__{bound}": reached})
        return queryset.filter(moved)


def _amount(text: str) -> Decimal | None:
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() and 0 <= found < 10**12 else None
