"""Short ways to say a price and a call, and what the bill says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from catalog.pricing import Rates, Usage, cost

I, O = "input_cost_per_token", "output_cost_per_token"  # noqa: E741
CR, CW = "cache_read_input_token_cost", "cache_creation_input_token_cost"
CW_1H, CW_12H = f"{CW}_above_1hr", f"{CW}_above_12hr"
REASONING = "output_cost_per_reasoning_token"
EXPLICIT = "explicit_cache_read_input_token_cost"
TUESDAY = datetime(2026, 11, 17, tzinfo=UTC)


def price(entry, provider="openai", **given):
    """The cost of a call by an entry; `mode`, `key`, `source_provider` and terms go to the rates, the rest is used."""
    named = ("mode", "key", "source_provider", "discount_percent", "margin_percent", "margin_fixed", "price_id")
    terms = {name: given.pop(name) for name in named if name in given}
    return cost(Rates.from_entry(entry, provider, **terms), Usage(**given))


def lines(found):
    """Quantity and rate by kind of line; a kind that is there twice fails."""
    shown = {line.kind: (line.quantity, line.rate) for line in found.lines}
    assert len(shown) == len(found.lines)
    return shown


def dollars(text):
    return Decimal(text)
