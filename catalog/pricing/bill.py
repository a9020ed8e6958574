"""A bill as it is written, line by line."""

from __future__ import annotations

from decimal import Decimal

from catalog.pricing.costs import Line
from catalog.pricing.prices import ONE, ZERO, Rate


class Bill:
    """Lines by side, and the units that no rate was found for."""

    __slots__ = ("input", "output", "tools", "unrated")

    def __init__(self) -> None:
        self.input: list[Line] = []
        self.output: list[Line] = []
        self.tools: list[Line] = []
        self.unrated: list[str] = []

    def charge(self, side: list[Line], kind: str, quantity: int | Decimal, unit: str, rate: Rate | None) -> None:
        """Add a line to a side of the bill; without a rate note that this kind has none."""
        if rate is None:
            self.unrated.append(kind)
        else:
            value = rate.value
            side.append(
                Line(kind=kind, quantity=quantity, unit=unit, field=rate.field, rate=value, amount=quantity * value)
            )

    def uplift(self, factor: Rate | None) -> None:
        """Multiply input and output, as they are, by a factor; None = 1."""
        if factor and factor.value != ONE:
            more = Rate(factor.field, factor.value - ONE)
            for side in (self.input, self.output):
                if side:
                    self.charge(side, "uplift", total(side), "USD", more)


def total(side: list[Line]) -> Decimal:
    amount = ZERO
    for line in side:
        amount += line.amount
    return amount
