"""Figures as people read them: one way to write a count, an amount and an axis."""

from __future__ import annotations

from decimal import Decimal

Number = int | float | Decimal


def plain(value: Number) -> str:
    """Every digit, grouped by thousands: 22,361,870."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if abs(float(value)) < 1000 else f"{value:,.0f}"


def short(value: Number) -> str:
    """Three digits and a scale, for axes and cards: 950, 1.25k, 22.4M, 1.2B."""
    size = float(value)
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(size) >= scale * 0.9995:
            return f"{size / scale:.3g}{letter}"
    return f"{size:.3g}"


def dollars(value: Number) -> str:
    """From one dollar two places, below it four significant digits, nothing as $0: an amount never looks like zero."""
    amount = Decimal(str(value))
    if amount == 0:
        return "$0"
    return f"${amount:,.2f}" if abs(amount) >= 1 else f"${amount:.{3 - amount.adjusted()}f}"
