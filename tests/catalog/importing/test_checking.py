from __future__ import annotations

from datetime import timedelta

import pytest

from catalog.checking import check_prices, tenfold
from catalog.models import AIModel
from controlplane.core.ids import now
from tests.factories import (
    AIModelFactory,
    InferenceRequestFactory,
    ModelAliasFactory,
    ModelPriceFactory,
    ProviderFactory,
)  # fmt: skip

pytestmark = pytest.mark.django_db


def codes(**asked):
    return [(finding.code, finding.key, finding.tenant) for finding in check_prices(**asked)]


def priced(key, rate="2e-06", **other):
    model = other.pop("model", None) or AIModelFactory(key=key)
    return ModelPriceFactory(model=model, rates={"input_cost_per_token": rate}, **other)


def test_prices_in_order_are_not_mentioned():
    for key in ("a/m", "b/m", "c/m"):
        priced(key)

    assert codes() == []


@pytest.mark.parametrize(
    ("rate", "found"), [("2e-05", True), ("2e-07", True), ("1.9e-05", False), ("2.1e-07", False), ("0", False)]
)
def test_an_offer_ten_times_beside_the_median_of_the_others_is_found(rate, found):
    for key in ("a/Model-X", "b/model-x", "c/d/model-x"):
        priced(key)

    priced("e/model-x", rate)

    assert codes() == ([("ten_times_off", "e/model-x", "")] if found else [])


def test_two_offers_tell_nothing():
    priced("a/m")
    priced("b/m", "2e-04")

    assert codes() == []


def test_offers_that_are_off_or_gone_do_not_count():
    for key in ("a/m", "b/m", "c/m"):
        priced(key)
    priced("d/m", "1e-03", model=AIModelFactory(key="d/m", enabled=False))
    priced("e/m", "1e-03", model=AIModelFactory(key="e/m", unlisted_at=now()))

    assert codes() == []


def test_a_tenants_price_ten_times_beside_the_list_price_is_found(acme):
    price = priced("m")
    priced("m", "2e-05", model=price.model, tenant=acme)

    assert codes() == [("ten_times_off", "m", "acme")]


def test_a_price_that_a_person_set_ten_times_beside_the_one_before_is_found_and_an_imported_one_is_not():
    at = now() - timedelta(days=1)
    for key, source in (("m", "manual"), ("n", "litellm")):
        old = priced(key, effective_to=at, source="litellm")
        priced(key, "3e-05", model=old.model, effective_from=at, source=source)

    assert codes() == [("ten_times_off", "m", "")]


def test_more_than_a_cent_per_token_is_found():
    priced("m", "2.5")

    [finding] = check_prices()

    assert (finding.code, finding.message) == (
        "suspicious_unit", "input_cost_per_token is 2500000 USD per million: was it typed per million, as a price per token?",
    )  # fmt: skip


def test_a_gap_between_two_prices_is_found_and_a_void_price_fills_none():
    at, day = now(), timedelta(days=1)
    first = priced("m", effective_from=at - 9 * day, effective_to=at - 5 * day)
    priced("m", model=first.model, effective_from=at - 5 * day, effective_to=at - 4 * day)
    priced("m", model=first.model, effective_from=at - 3 * day, effective_to=at - 3 * day)
    priced("m", model=first.model, effective_from=at - 2 * day)

    assert codes() == [("gap", "m", "")]


def test_a_price_that_ends_without_successor_is_found_and_a_tenants_is_not(acme):
    price = priced("m", effective_to=now() + timedelta(days=3))
    priced("m", model=price.model, tenant=acme, effective_to=now())
    priced("n", effective_to=now(), model=AIModelFactory(key="n", unlisted_at=now()))

    assert codes() == [("ended", "m", "")]


def test_an_alias_of_a_model_that_is_gone_or_off_is_found(acme):
    ModelAliasFactory(alias="x", model=AIModelFactory(key="gone", unlisted_at=now()))
    ModelAliasFactory(alias="y", model=AIModelFactory(key="off", enabled=False), tenant=acme)
    ModelAliasFactory(alias="z", model=AIModelFactory(key="gone-too", unlisted_at=now()), enabled=False)

    assert codes() == [("alias_to_unlisted", "gone", ""), ("alias_to_disabled", "off", "acme")]


def test_a_deprecated_model_is_found_when_it_is_used():
    provider = ProviderFactory(slug="openai")
    soon = now().date() + timedelta(days=20)
    for name in ("called", "named", "idle"):
        AIModelFactory(key=name, name=name, provider=provider, deprecation_date=soon)
    later = AIModelFactory(key="later", name="later", provider=provider, deprecation_date=soon + timedelta(days=60))
    InferenceRequestFactory(model="openai/called", created_at=now() - timedelta(hours=1))
    InferenceRequestFactory(model="openai/later", created_at=now() - timedelta(hours=1))
    ModelAliasFactory(alias="n", model=AIModel.objects.get(key="named"))
    ModelAliasFactory(alias="l", model=later)

    found = check_prices()

    assert [(finding.code, finding.key) for finding in found] == [
        ("deprecated_in_use", "called"),
        ("deprecated_in_use", "named"),
    ]
    assert "1 calls in 30 days" in found[0].message
    assert "the alias n" in found[1].message


def test_an_instant_may_be_asked_for():
    priced("m", effective_from=now() + timedelta(days=5), rate="9")

    assert codes() == []
    assert codes(at=now() + timedelta(days=6)) == [("suspicious_unit", "m", "")]


@pytest.mark.parametrize(
    ("was", "becomes", "moved"),
    [
        ({"a": "1"}, {"a": "10"}, ["a"]),
        ({"a": "1"}, {"a": "0.1"}, ["a"]),
        ({"a": "1"}, {"a": "9.99"}, []),
        ({"a": "0"}, {"a": "9"}, []),
        ({"a": None}, {"a": "9"}, []),
        ({}, {"a": "9", "b": {"c": "1"}}, []),
        ({"u": "per_query"}, {"u": "per_prompt"}, []),
    ],
)
def test_rates_are_compared_where_both_have_one(was, becomes, moved):
    assert [move.field for move in tenfold(was, becomes)] == moved
