"""What one call costs, line by line. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Literal
from uuid import UUID

EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""How every amount is computed, whatever the caller's context is: in 50 digits products of prices do not round."""

MAX_BREAKDOWN = 512
"""Bytes of a breakdown as JSON: what the log of requests keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One position of a bill: amount = quantity × rate, exactly, in US dollars.

    kind: what is charged (`text`, `cache_read`, …: docs/pricing.md). unit: of the quantity (`token`, `second`, …; `USD`
    where a share of the bill is charged). field: the price field that the rate comes from, "" if a fixed rule.
    """

    kind: str
    quantity: int | Decimal
    unit: str
    field: str
    rate: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one call costs, not rounded: total = input + output + tools, less discount, plus margin = the sum of lines.

    `unpriced`: the price cannot price this call; input, output, tools, total are None, for unknown is never 0. unrated:
    units in use without a rate of their own on a side that is priced in others; they cost 0.
    """

    input: Decimal | None
    output: Decimal | None
    tools: Decimal | None
    total: Decimal | None
    status: Literal["priced", "unpriced", "estimated"]
    unrated: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    price_id: UUID | None = None
    currency: str = "USD"

    @property
    def breakdown(self) -> dict[str, str]:
        """Amounts by kind of line as text, without zeros; at most 512 bytes of JSON: what is too much becomes `other`."""
        sums: dict[str, Decimal] = {}
        for line in self.lines:
            sums[line.kind] = EXACT.add(sums.get(line.kind, Decimal(0)), line.amount)
        shown = {kind: amount for kind, amount in sums.items() if amount}
        while len(text := {kind: f"{amount:f}" for kind, amount in shown.items()}) > 1 and _size(text) > MAX_BREAKDOWN:
            least, next_least = sorted(shown, key=lambda kind: (kind != "other", abs(shown[kind])))[:2]
            shown["other"] = EXACT.add(shown.pop(least), shown.pop(next_least))
        return text


def _size(text: dict[str, str]) -> int:
    return len(json.dumps(text).encode())
