"""Prices as lists and pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from catalog import units
from catalog.models import ModelPrice
from controlplane.core import display

REST = ("image_rate", "second_rate", "character_rate", "query_rate", "page_rate")
"""Columns that a list shows in one cell: a model has at most one or two of them."""


class RateOrder(models.F):
    """An order of rates in which those that are missing come last, whichever way."""

    def asc(self, **kwargs: Any) -> Any:
        return super().asc(nulls_last=True)

    def desc(self, **kwargs: Any) -> Any:
        return super().desc(nulls_last=True)


def rate(value: Decimal | None, unit: units.Unit = units.TOKENS) -> SafeString:
    """A rate as people count it, so that the points of a column stand below each other; all digits in the title."""
    if value is None:
        return display.number(None)  # type: ignore[return-value]  # a dash is markup too
    whole = unit.shown(value)
    text = units.rounded(whole)
    places = min(len(text.partition(".")[2]), 4)
    if units.number(text.replace(",", "")) == whole:
        return format_html('<span class="cp-num cp-d{}">{}</span>', places, text)
    return format_html('<span class="cp-num cp-d{}" title="{}">{}</span>', places, units.plain(whole), text)


def other_rates(row: Any, prefix: str = "") -> SafeString:
    """What a model costs that is not sold by the token: `0.04 / image`."""
    known = [(name, value) for name in REST if (value := getattr(row, f"{prefix}{name}")) is not None]
    texts = []
    for name, value in known:
        unit = units.COLUMNS[name][1]
        texts.append(f"{units.rounded(unit.shown(value))} / {unit.per}")
    return format_html('<span class="cp-num{}">{}</span>', "" if texts else " cp-quiet", ", ".join(texts) or "–")


@dataclass(frozen=True, slots=True)
class Rate:
    """One line of a price. text: the amount per unit as people count it; exact: per single unit, or the raw value."""

    field: str
    label: str
    text: str
    per: str
    exact: str


def rates_of(rates: dict[str, Any], mode: str = "") -> list[Rate]:
    """Every value of a price, those with a name of their own first, tables taken apart."""
    found = dict(units.leaves(rates))
    order = [*(name for name in units.NAMED if name in found), *(name for name in found if name not in units.NAMED)]
    return [_line(name, found[name], mode) for name in order]


def _line(name: str, value: Any, mode: str) -> Rate:
    label = units.NAMED[name].label if name in units.NAMED else ""
    unit, exact = units.unit_of(name, mode), units.number(value)
    if unit is None or exact is None:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return Rate(name, label, "–" if value is None else shown, "", "")
    return Rate(
        name, label, units.amount(unit.shown(exact), 12), f"per {unit.per}", f"{units.plain(exact)} per {unit.one}"
    )


def rates_table(rates: Iterable[Rate]) -> SafeString:
    rows = [
        (rate.label or rate.field, rate.field if rate.label else "", rate.text, rate.per, rate.exact) for rate in rates
    ]
    if not rows:
        return format_html('<span class="cp-quiet">{}</span>', "none: every call is unpriced")
    return format_html(
        '<div class="cp-scroll" tabindex="0"><table class="cp-table cp-rates"><tbody>{}</tbody></table></div>',
        format_html_join(
            "",
            '<tr><th scope="row">{} <span class="cp-mono cp-quiet">{}</span></th><td class="cp-num">{}</td>'
            '<td class="cp-quiet">{}</td><td class="cp-num cp-quiet">{}</td></tr>',
            rows,
        ),
    )


def import_link(id: UUID | None) -> SafeString | str:
    """The import that made a row."""
    if id is None:
        return display.NOTHING
    return format_html(
        '<a href="{}">{}</a>', reverse("admin:cp_catalog_priceimport_change", args=[id]), display.short_id(id)
    )


def terms(price: Any) -> str:
    """Discount and margins in words; empty if there are none. Also of a provider."""
    parts = [
        (price.discount_percent, f"{units.plain(price.discount_percent)} % off"),
        (price.margin_percent, f"{units.plain(price.margin_percent)} % on top"),
        (price.margin_fixed, f"{units.plain(price.margin_fixed)} USD on top of each call"),
    ]
    return ", ".join(text for value, text in parts if value)


def state(price: ModelPrice, instant: Any) -> str:
    """For people: void, planned, in force or ended."""
    if price.void:
        return "void"
    if price.effective_from > instant:
        return "planned"
    return "in force" if price.in_force(instant) else "ended"


STATES = {"void": "bad", "planned": "info", "ended": ""}


def percent(before: Decimal | None, after: Decimal | None) -> Decimal | None:
    """How far a rate moved; None where there is nothing to compare with."""
    if before is None or after is None or not before:
        return None
    return (after - before) * 100 / before


def change(moves: Iterable[Decimal | None]) -> SafeString:
    """The largest of some changes, signed: `+12.5 %`."""
    known = [move for move in moves if move]
    if not known:
        return display.number(None)  # type: ignore[return-value]
    largest = max(known, key=abs)
    return format_html('<span class="cp-num">{}</span>', f"{largest:+,.1f} %")
