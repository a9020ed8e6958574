"""Rates per token and nothing else."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest

from catalog.errors import BadRate
from catalog.pricing import Rates, Usage, cost, worst_case
from tests.catalog.pricing.bills import lines

USED = {"prompt_tokens": 10, "cached_tokens": 4, "cache_write_tokens": 3, "completion_tokens": 5}


def test_flat_rates_charge_cached_and_written_tokens_at_their_own_rate_else_as_input():
    plain, full = Rates.flat("1", "2"), Rates.flat(Decimal(1), Decimal(2), "0.5", "1.5")

    assert lines(cost(plain, Usage(**USED))) == {
        "text": (3, 1), "cache_read": (4, 1), "cache_write": (3, 1), "output": (5, 2),
    }  # fmt: skip
    assert lines(cost(full, Usage(**USED))) == {
        "text": (3, 1), "cache_read": (4, Decimal("0.5")), "cache_write": (3, Decimal("1.5")), "output": (5, 2),
    }  # fmt: skip


def test_nothing_else_applies_to_flat_rates():
    used = {"reasoning_tokens": 3, "audio_tokens": 5, "batch": True, "service_tier": "priority", "web_searches": 3,
            "kind": "ocr", "cache_write_1h_tokens": 2, "data_residency": "eu"}  # fmt: skip

    assert cost(Rates.flat("1", "2"), Usage(**USED, **used)).total == 20
    assert cost(Rates.flat("1", "2"), Usage()).total == 0


def test_flat_counts_never_go_below_zero():
    assert lines(cost(Rates.flat("1", "2"), Usage(prompt_tokens=1, cached_tokens=4))) == {"cache_read": (4, 1)}


def test_flat_rates_may_belong_to_a_price():
    price_id = uuid4()

    assert cost(Rates.flat("1", "2", price_id=price_id), Usage()).price_id == price_id


@pytest.mark.parametrize(
    "given",
    [
        {"input": 1.5, "output": "1"}, {"input": "1", "output": "x"}, {"input": ["1"], "output": "1"},
        {"input": None, "output": "1"}, {"input": "1", "output": {"a": "1"}},
        {"input": "1", "output": "1", "cache_read": ["1"]},
    ],
)  # fmt: skip
def test_flat_rates_that_are_none_are_refused(given):
    with pytest.raises(BadRate):
        Rates.flat(**given)


def test_the_worst_case_of_flat_rates_is_at_the_dearest_input():
    found = worst_case(Rates.flat("1", "2", "0.5", "3"), prompt_tokens=10, max_output_tokens=5, n=2)

    assert lines(found) == {"text": (10, 3), "output": (10, 2)}
    assert (
        worst_case(
            Rates.flat("1", "2"), max_output_tokens=5, **{k: v for k, v in USED.items() if k != "completion_tokens"}
        ).total
        == 20
    )
