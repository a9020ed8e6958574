"""From what a call used to what it costs: pure, exact, without clock, database or settings.

Rates.from_entry(entry, provider, *, source_provider=None, mode=None, key="", discount_percent=Decimal(0),
                 margin_percent=Decimal(0), margin_fixed=Decimal(0), price_id=None) -> Rates
Rates.flat(input, output, cache_read=None, cache_write=None, *, price_id=None) -> Rates
cost(rates: Rates, usage: Usage) -> Cost
worst_case(rates: Rates, *, prompt_tokens: int, max_output_tokens: int, n: int = 1, **usage: Any) -> Cost
"""

from __future__ import annotations

from catalog.pricing.costs import Cost, Line
from catalog.pricing.usage import Usage

__all__ = ["Cost", "Line", "Usage"]
