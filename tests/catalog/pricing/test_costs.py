from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing import Cost, Line
from catalog.pricing.costs import EXACT


def line(kind, amount):
    return Line(kind=kind, quantity=1, unit="token", field="", rate=amount, amount=amount)


def cost(*lines):
    zero = Decimal(0)
    return Cost(input=zero, output=zero, tools=zero, total=zero, status="priced", lines=lines)


amounts = st.decimals(-(10**6), 10**6, allow_nan=False, allow_infinity=False, places=30)


@given(st.dictionaries(st.text(min_size=1, max_size=30), amounts, max_size=30))
def test_a_breakdown_fits_the_log_and_adds_up(by_kind):
    found = cost(*(line(kind, amount) for kind, amount in by_kind.items())).breakdown

    assert len(json.dumps(found).encode()) <= 512
    total = Decimal(0)
    for amount in by_kind.values():
        total = EXACT.add(total, amount)
    for amount in found.values():
        total = EXACT.subtract(total, Decimal(amount))
    assert total == 0


def test_a_breakdown_leaves_out_what_costs_nothing():
    assert cost(line("text", Decimal(0)), line("output", Decimal("1E-7"))).breakdown == {"output": "0.0000001"}


def test_lines_of_one_kind_are_one_entry_of_a_breakdown():
    assert cost(line("text", Decimal("0.1")), line("text", Decimal("0.2"))).breakdown == {"text": "0.3"}
