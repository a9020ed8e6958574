"""What a model cost over time: a picture, and the same in words and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from catalog import units
from catalog.admin import cells
from catalog.models import AIModel, ModelPrice
from controlplane.core import charts, display
from controlplane.core.ids import now

MOST_PRICES = 200
MOST_ROWS = 12
MOST_RATES, MOST_TENANTS = 4, 3
"""What a picture holds before it is a tangle; the table below it has the rest."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The prices of a model as its page shows them. tools: (label, address) of what can be done."""

    present: ModelPrice | None
    rates: list[cells.Rate]
    terms: str
    figures: list[SafeString]
    rows: list[dict[str, Any]]
    unseen: int
    list_url: str
    tools: list[tuple[str, str]]


def panel(model: AIModel, *, may_set: bool) -> Panel:
    instant = now()
    prices = list(
        ModelPrice.objects.filter(model=model).select_related("tenant").order_by("-effective_from", "-id")[:MOST_PRICES]
    )
    listed = [price for price in prices if price.tenant_id is None]
    present = next((price for price in listed if price.in_force(instant)), None)
    return Panel(
        present=present,
        rates=cells.rates_of(present.rates, model.mode) if present else [],
        terms=cells.terms(present) if present else "",
        figures=list(_figures(model, prices, instant)),
        rows=_rows(prices, instant),
        unseen=max(len(prices) - MOST_ROWS, 0),
        list_url=f"{reverse('admin:cp_catalog_modelprice_changelist')}?{urlencode({'model': model.key, 'when': 'any'})}",
        tools=[*(_tools(model, present) if may_set else []), ("What a call costs", _calculator(model))],
    )


def _tools(model: AIModel, present: ModelPrice | None) -> list[tuple[str, str]]:
    add, key = reverse("admin:cp_catalog_modelprice_add"), urlencode({"model": model.key})
    own = [("Copy the list price for a tenant", f"{add}?{key}&own=1")] if present else []
    return [("End and replace" if present else "Set a price", f"{add}?{key}"), *own]


def _calculator(model: AIModel) -> str:
    call = {"model": model.key, "prompt_tokens": "1000", "completion_tokens": "500"}
    return f"{reverse('admin:cp_catalog_aimodel_calculator')}?{urlencode(call)}"


def _rows(prices: Sequence[ModelPrice], instant: datetime) -> list[dict[str, Any]]:
    """The newest prices, each with how far its rates moved from the one before it of the same owner."""
    rows = []
    for index, price in enumerate(prices[:MOST_ROWS]):
        before = next((p for p in prices[index + 1 :] if p.tenant_id == price.tenant_id and not p.void), None)
        names = ("input_rate", "output_rate", *cells.REST)
        moves = [cells.percent(getattr(before, name, None), getattr(price, name)) for name in names]
        state = cells.state(price, instant)
        rows.append(
            {
                "url": reverse("admin:cp_catalog_modelprice_change", args=[price.pk]),
                "start": display.day(price.effective_from),
                "end": display.day(price.effective_to) if price.effective_to else "",
                "whose": str(price.tenant) if price.tenant else "everybody",
                "state": display.pill(state, cells.STATES[state]) if state in cells.STATES else state,
                "input": cells.rate(price.input_rate),
                "output": cells.rate(price.output_rate),
                "other": cells.other_rates(price),
                "change": cells.change([] if price.void else moves),
                "source": price.source,
                "reason": price.reason,
            }
        )
    return rows


def _figures(model: AIModel, prices: Sequence[ModelPrice], instant: datetime) -> Iterable[SafeString]:
    """One picture per unit: the list price as lines, tenants' own prices dashed in the colour of the rate."""
    held = [price for price in reversed(prices) if not price.void]
    if not held:
        return
    names = [field.name for field in units.RATE_FIELDS if any(field.name in price.rates for price in held)]
    start, end = _extent(held, instant)
    for unit in dict.fromkeys(units.unit_of(name, model.mode) for name in names):
        if unit is None:
            continue
        of_it = [name for name in names if units.unit_of(name, model.mode) == unit][:MOST_RATES]
        lines = list(_lines(held, of_it, unit, end))
        if lines:
            yield charts.step_chart(
                charts.StepTimeline(
                    title=f"Price of {model.key}",
                    unit=f"USD per {unit.per}",
                    start=start,
                    end=end,
                    now=instant,
                    lines=lines,
                    form=lambda value: units.amount(units.number(str(value)) or units.ZERO),
                )
            )


def _extent(held: Sequence[ModelPrice], instant: datetime) -> tuple[datetime, datetime]:
    """From the first price until now; beyond it where a price begins or ends later."""
    known = [at for price in held for at in (price.effective_from, price.effective_to) if at is not None]
    first, last = min(known), max(known)
    if last > instant:
        last += max((last - first) / 10, timedelta(days=1))
    end = max(last, instant)
    return min(first, end - timedelta(days=1)), end


def _lines(held: Sequence[ModelPrice], names: Sequence[str], unit: units.Unit, end: datetime) -> Iterable[charts.Steps]:
    owners = {price.tenant_id: price.tenant for price in held}
    tenants = [owner for id, owner in owners.items() if id is not None][:MOST_TENANTS]
    for owner in [None, *tenants]:
        of_it = [price for price in held if price.tenant == owner]
        for colour, name in enumerate(names if owner is None else names[:2]):
            known = [(price, units.number(price.rates.get(name))) for price in of_it]
            spans = [
                charts.Span(price.effective_from, price.effective_to or end, unit.shown(rate))
                for price, rate in known
                if rate is not None
            ]
            if spans:
                label = units.NAMED[name].label
                yield charts.Steps(
                    f"{owner.name}: {label}" if owner else label, spans, colour, dashed=owner is not None
                )
