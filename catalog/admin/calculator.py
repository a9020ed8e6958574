"""What would this call cost: a page that asks for a model and what is used, and shows the bill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from catalog import units
from catalog.errors import UnknownModel, UsageError
from catalog.forms import Moment
from catalog.models import AIModel, ModelPrice
from catalog.pricing import Line, Usage
from catalog.pricing.usage import KINDS
from catalog.records import ModelRecord
from controlplane.core import display
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import now
from controlplane.core.references import ReferenceField
from tenants.models import Tenant

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Tokens", ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")),
    (
        "Sound, pictures, video",
        (
            "images", "output_images", "image_size", "image_quality", "image_resolution", "characters", "audio_seconds",
            "video_seconds", "output_video_seconds", "videos", "resolution",
        ),
    ),
    ("Queries, pages, time", ("queries", "max_results", "pages", "annotation_pages", "credits", "duration_seconds")),
    ("Tools", ("web_searches", "search_context", "maps_requests", "browser_opens", "code_sessions", "file_searches")),
    ("How it ran", ("kind", "batch", "service_tier", "speed", "data_residency", "location", "inference_geo", "provider_cost",
        "estimated")),
)  # fmt: skip
"""What stands in the form besides the finer counts, which come last."""

FINER = "Finer counts"
_OWN = frozenset({"at"})


def _groups() -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from GROUPS
    shown = {name for _, names in GROUPS for name in names} | _OWN
    yield FINER, tuple(field.name for field in fields(Usage) if field.name not in shown)


class CallForm(forms.Form):
    """A call. Counts are read by `Usage` itself, whose errors stand beside the fields."""

    model = forms.CharField(max_length=500, help_text="Any name callers may use: a key, an alias, provider/name.")
    tenant = ReferenceField(
        Tenant.objects.all(), required=False, help_text="Whose aliases and prices hold. Empty: list prices."
    )
    at = forms.DateTimeField(required=False, label="When (UTC)", widget=Moment, help_text="Empty: now.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in fields(Usage):
            if field.name not in _OWN:
                self.fields[field.name] = _input(field.name, str(field.type), field.default)

    def groups(self) -> Iterator[dict[str, Any]]:
        """Fields by group; a group is open that holds something."""
        for title, names in _groups():
            bound = [self[name] for name in names]
            used = any(field.errors or field.data not in (None, False, "", str(field.initial)) for field in bound)
            yield {"title": title, "open": used or title == "Tokens", "fields": bound}

    def used(self) -> Usage:
        """Raises UsageError."""
        given = {
            name: self.cleaned_data[name]
            for name in self.fields
            if name not in ("model", "tenant", "at") and self.cleaned_data[name] not in (None, "")
        }
        return Usage(at=self.cleaned_data["at"] or now(), **given)


def _input(name: str, kind: str, default: Any) -> forms.Field:
    label = name.replace("_", " ").capitalize()
    if kind == "bool":
        return forms.BooleanField(label=label, required=False)
    if kind == "str" and name == "kind":
        kinds = [("", "by the model"), *((each, each) for each in sorted(KINDS - {""}))]
        return forms.ChoiceField(label=label, required=False, choices=kinds)
    if kind == "str":
        return forms.CharField(label=label, required=False, max_length=64, strip=True)
    number = forms.IntegerField if kind.startswith("int") else forms.DecimalField
    widget = forms.TextInput(attrs={"inputmode": "decimal", "class": "cp-amount", "autocomplete": "off"})
    return number(label=label, required=False, widget=widget, initial=default or None)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the bill as it is read. per: of the rate as people count it; exact: the rate per single unit."""

    kind: str
    quantity: str
    unit: str
    rate: str
    per: str
    exact: str
    field: str
    amount: str


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: model, tenant, at, and the fields of Usage; the address holds the whole question."""
    if not request.user.has_perm("cp_catalog.view_modelprice"):
        raise PermissionDenied
    form = CallForm(request.GET if "model" in request.GET else None, initial=request.GET.dict())
    context = {
        **modeladmin.admin_site.each_context(request), "title": "What a call costs", "opts": modeladmin.opts, "form": form,
    }  # fmt: skip
    status = 200
    if form.is_bound:
        try:
            context |= _answer(form) if form.is_valid() else {}
        except UsageError as refused:
            form.add_error(
                refused.field if refused.field in form.fields else None, f"{refused.message} ({refused.code})"
            )
        except UnknownModel as unknown:
            form.add_error("model", f"{unknown.message} ({unknown.code})")
            context["nearest"] = [(name, _again(request, name)) for name in unknown.nearest]
        except ControlPlaneError as refused:
            form.add_error(None, f"{refused.message} ({refused.code})")
        status = 422 if form.errors else 200
    return TemplateResponse(request, "cp_catalog/calculator.html", context, status=status)


def _answer(form: CallForm) -> dict[str, Any]:
    """The bill. Raises UsageError, and what resolving a name raises."""
    usage, tenant = form.used(), form.cleaned_data["tenant"]
    record: ModelRecord = AIModel.objects.resolve(
        form.cleaned_data["model"], tenant, size=usage.image_size or None, quality=usage.image_quality or None
    )
    cost = record.cost(usage)
    places = _places([cost.total or units.ZERO, *(line.amount for line in cost.lines)])
    price = None if cost.price_id is None else ModelPrice.objects.select_related("tenant").get(pk=cost.price_id)
    sums = [("Input", cost.input), ("Output", cost.output), ("Tools", cost.tools)]
    return {
        "record": record, "cost": cost, "price": price, "rows": [_row(line, record.mode, places) for line in cost.lines],
        "total": None if cost.total is None else f"{cost.total:,.{places}f}",
        "sums": [(label, units.plain(value)) for label, value in sums if value],
        "at": display.instant(usage.at), "model": AIModel.objects.get(pk=record.id),
    }  # fmt: skip


def _places(amounts: Sequence[Decimal]) -> int:
    """Decimal places in which amounts are all exact, at least two; at most the twelve that are kept of a cost."""
    return min(max(2, *(len(units.plain(amount).partition(".")[2]) for amount in amounts)), 12)


def _row(line: Line, mode: str, places: int) -> Row:
    unit = units.unit_of(line.field, mode) if line.field else None
    exact = f"{units.plain(line.rate)} per {line.unit}" if line.unit != "USD" else ""
    share = f"{units.plain(line.rate * 100)} %" if line.unit == "USD" else ""
    counted = unit is not None and unit.one == line.unit
    return Row(
        kind=line.kind.replace("_", " "),
        quantity=f"{line.quantity:,}",
        unit=line.unit if line.unit == "USD" or line.quantity == 1 else _plural(line.unit),
        rate=share or (units.amount(unit.shown(line.rate), 12) if unit and counted else units.plain(line.rate)),
        per="" if share else f"per {unit.per if unit and counted else line.unit}",
        exact=exact,
        field=line.field,
        amount=f"{line.amount:,.{places}f}",
    )


def _plural(unit: str) -> str:
    return "queries" if unit == "query" else f"{unit}s"


def _again(request: HttpRequest, name: str) -> str:
    """The same question about another model."""
    asked = request.GET.copy()
    asked["model"] = name
    return f"?{asked.urlencode()}"
