"""The most that a call may use and cost. Pure: no database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from catalog.records import ModelRecord, PriceSegment, Seller
from controlplane.core.ids import uuid7
from controlplane.denials import Denied
from controlplane.gate.asking import Asked
from controlplane.gate.bounds import bound

AT = datetime(2026, 6, 1, tzinfo=UTC)
RATES = {"input_cost_per_token": "2e-06", "output_cost_per_token": "8e-06"}


def record(**more):
    return ModelRecord(
        **{"id": uuid7(), "key": "m", "provider": "openai", "name": "m", "mode": "chat", "max_input_tokens": 1000,
           "max_output_tokens": 500, **more}
    )  # fmt: skip


def price(rates=RATES, mode="chat"):
    return PriceSegment(
        id=uuid7(), tenant_id=None, effective_from=AT, effective_to=None, rates=rates, discount_percent=Decimal(0),
        margin_percent=Decimal(0), margin_fixed=Decimal(0), seller=Seller("openai", "", None, mode, "m"),
    )  # fmt: skip


def of(model=None, at_price=None, caps=None, output=None, **asked):
    found = bound(Asked(model="m", **asked), model or record(), at_price or price(), caps or {}, output, AT)
    return found.input_tokens, found.output_tokens, found.total_tokens, found.cost


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"input_tokens": 100, "output": 50}, (100, 50, 150, Decimal("0.000600000000"))),
        ({"output": 50}, (1000, 50, 1050, Decimal("0.002400000000"))),
        ({"input_tokens": 100}, (100, 500, 600, Decimal("0.004200000000"))),
        ({"caps": {"max_total_tokens": 1040}, "output": 50}, (1000, 50, 1040, Decimal("0.002400000000"))),
        ({"input_tokens": 0, "output": 0}, (0, 0, 0, Decimal(0))),
        ({"output": 9000}, (1000, 500, 1500, Decimal("0.006000000000"))),
    ],
)
def test_what_is_not_said_is_what_the_model_and_the_caps_allow(asked, expected):
    assert of(**asked) == expected


def test_a_model_of_no_known_size_has_no_bound_and_no_cost():
    wide = record(max_input_tokens=None, max_output_tokens=None)

    assert of(wide) == (None, None, None, None)
    assert of(wide, input_tokens=10) == (10, None, None, None)
    assert of(wide, input_tokens=10, output=5) == (10, 5, 15, Decimal("0.000060000000"))


@pytest.mark.parametrize("rates", [{}, {"input_cost_per_token": "2e-06"}, {"output_cost_per_image": "0.04"}])
def test_a_price_that_does_not_price_the_call_is_no_price(rates):
    assert of(at_price=price(rates))[3] is None


def test_a_model_that_is_free_costs_nothing():
    assert of(at_price=price({"input_cost_per_token": "0", "output_cost_per_token": "0"}))[3] == 0


def test_a_model_without_answers_needs_no_bound_for_them():
    embedding = record(mode="embedding", max_output_tokens=None)

    assert of(embedding, price({"input_cost_per_token": "1e-06"}, "embedding"), input_tokens=10) == (
        10, 0, 10, Decimal("0.000010000000"),
    )  # fmt: skip


def test_what_is_not_sold_by_the_token_is_priced_by_its_units():
    painter, by_image = record(mode="image_generation"), price({"output_cost_per_image": "0.04"}, "image_generation")

    assert of(painter, by_image)[3] is None
    assert of(painter, by_image, units={"output_images": 3})[3] == Decimal("0.12")


def test_several_answers_are_all_paid():
    assert of(input_tokens=0, output=100, units={"n": 3})[3] == Decimal("0.0024")


@pytest.mark.parametrize(
    "units", [{"output_images": -1}, {"no_such_unit": 1}, {"n": "3"}, {"prompt_tokens": 1}, {"at": AT}]
)
def test_units_that_no_call_has_are_refused(units):
    with pytest.raises(Denied) as caught:
        of(units=units)

    assert (caught.value.code, caught.value.http_status) == ("bad_argument", 400)


def test_it_is_rounded_up():
    assert of(at_price=price({"input_cost_per_token": "1e-13", "output_cost_per_token": "0"}), input_tokens=1)[
        3
    ] == Decimal("1e-12")
