"""The price fields of an entry as numbers: what is written as text becomes a Decimal, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from catalog.errors import BadRate

I = "input_cost_per_token"  # noqa: E741 - the names of the rules in docs/pricing.md
O = "output_cost_per_token"  # noqa: E741
CR = "cache_read_input_token_cost"
CW = "cache_creation_input_token_cost"
CW_1H = "cache_creation_input_token_cost_above_1hr"
CW_12H = "cache_creation_input_token_cost_above_12hr"
REASONING = "output_cost_per_reasoning_token"
EXPLICIT = "explicit_cache_read_input_token_cost"

TIERS = ("priority", "flex", "balanced", "ultrafast")
"""Suffixes of price fields that hold for one service tier."""

ZERO, ONE = Decimal(0), Decimal(1)


class Rate(NamedTuple):
    """A number of a price: US dollars per unit, or a factor. field: its name in the price, for the bill."""

    field: str
    value: Decimal


Prices = Mapping[str, Rate]


def read_prices(entry: Mapping[str, Any]) -> dict[str, Rate]:
    """The numbers of an entry, by field; missing ones (absent, null) are left out, tables and texts too.

    Numbers are text, int or Decimal. Raises BadRate for a price field that is none: a float, a bool, text, NaN, below 0.
    """
    return {
        name: Rate(name, number(name, value))
        for name, value in entry.items()
        if ("cost" in name or "_multiplier" in name) and not isinstance(value, Mapping | list | tuple | None)
    }


def read_row(row: Mapping[str, Any], where: str) -> dict[str, Rate]:
    """As `read_prices`, for a table inside of a price. where: its place, "tiered_pricing[0]"."""
    return {
        name: Rate(f"{where}.{name}", number(f"{where}.{name}", value))
        for name, value in row.items()
        if "cost" in name and value is not None
    }


def number(field: str, value: object) -> Decimal:
    """The number from 0 that a price writes as text, int or Decimal. Raises BadRate."""
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            found = Decimal(value)
        except InvalidOperation:
            raise BadRate(field, value) from None
        if found.is_finite() and found >= 0:
            return found
    raise BadRate(field, value)


def at(prices: Prices, name: str, tier: str) -> Rate | None:
    """The rate of a service tier ("": none) if there is one, else the plain one."""
    return (prices.get(f"{name}_{tier}") if tier else None) or prices.get(name)


def half(rate: Rate) -> Rate:
    return Rate(rate.field, rate.value / 2)


def dearest(*rates: Rate | None) -> Rate | None:
    """The highest of the rates that are there; the first of equals."""
    return max((rate for rate in rates if rate), key=lambda rate: rate.value, default=None)
