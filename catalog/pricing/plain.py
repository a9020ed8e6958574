"""What most calls cost, those that used text tokens and nothing else: the very amounts of `cost`, at a fraction of its time."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from catalog.pricing.families import OWN_RULES
from catalog.pricing.prices import ZERO, Rate
from catalog.pricing.rates import Rates
from catalog.pricing.sheets import Plan

_MAX_BREAKDOWN = 400
"""Characters of amounts: with their names they stay below the limit of `Cost.breakdown`, which shortens what is longer."""


@dataclass(frozen=True, slots=True)
class PlainRates:
    """The rates of a price by which such calls are worth nothing but counts times rates."""

    plan: Plan

    def charge(
        self, prompt: int, completion: int, cached: int = 0, written: int = 0, reasoning: int = 0
    ) -> tuple[Decimal, dict[str, str]] | None:
        """`total` and `breakdown` of `cost`; None: ask that. Call it in the context EXACT, with counts from 0.

        prompt: with cached and written tokens; completion: with reasoning.
        """
        sheet = self.plan.sheet(prompt, False)
        sides: tuple[tuple[tuple[str, int, Rate | None], ...], ...]
        if cached or written or reasoning:
            sides = (
                (("text", prompt - cached - written, sheet.text), ("cache_read", cached, sheet.read),
                 ("cache_write", written, sheet.write)),
                (("output", completion - reasoning, sheet.output), ("reasoning", reasoning, sheet.reasoning)),
            )  # fmt: skip
        else:  # most calls
            sides = (("text", prompt, sheet.text),), (("output", completion, sheet.output),)
        total, shown, size = ZERO, {}, 0
        for side in sides:
            sum = ZERO
            for kind, count, rate in side:
                if count > 0:
                    if rate is None:
                        return None
                    amount = count * rate.value
                    if amount:
                        sum += amount
                        text = str(amount)
                        shown[kind] = text = f"{amount:f}" if "E" in text else text
                        size += len(text)
            total += sum
        return (total, shown) if size <= _MAX_BREAKDOWN else None


def read_plain(rates: Rates) -> PlainRates | None:
    """The plain rates of a price; None: its calls are worth more than counts times rates, or depend on the hour."""
    tokens = rates.tokens
    if rates.is_flat or rates.markup or rates.kind != "tokens" or rates.family in OWN_RULES:
        return None
    if tokens.wall_clock or tokens.off_peak:
        return None
    plan = tokens.plans[""]
    return PlainRates(plan) if plan.prices_input and plan.prices_output else None
