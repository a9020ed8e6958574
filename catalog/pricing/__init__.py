"""From what a call used to what it costs: pure, exact, without clock, database or settings.

rates = Rates.from_entry(entry, provider)      # once per price; or Rates.flat(input, output)
cost(rates, usage).total                       # US dollars, or None: unpriced
worst_case(rates, prompt_tokens=1000, max_output_tokens=500).total
"""

from __future__ import annotations

from catalog.pricing.calculation import cost, worst_case
from catalog.pricing.costs import Cost, Line
from catalog.pricing.rates import ProviderLike, Rates
from catalog.pricing.usage import Usage

__all__ = ["Cost", "Line", "ProviderLike", "Rates", "Usage", "cost", "worst_case"]
