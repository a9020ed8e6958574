"""The page that says what a call costs."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.urls import reverse

from catalog.admin.calculator import CallForm
from catalog.models import AIModel, ModelPrice
from catalog.pricing import Usage
from tests.admin_rows import Page
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, OperatorFactory

pytestmark = pytest.mark.django_db

PAGE = reverse("admin:cp_catalog_aimodel_calculator")
RATES = {
    "input_cost_per_token": "2e-06",
    "output_cost_per_token": "8e-06",
    "cache_read_input_token_cost": "5e-07",
    "input_cost_per_token_above_200k_tokens": "4e-06",
}


@pytest.fixture
def operator(client):
    client.force_login(OperatorFactory())
    return client


@pytest.fixture
def model():
    model = AIModelFactory(name="gpt")
    ModelPriceFactory(model=model, rates=RATES)
    return model


def bill(client, **asked):
    answer = client.get(PAGE, asked)
    assert Page(answer).faults == []
    return answer


def test_the_bill_names_what_is_counted_its_rate_and_the_field_it_comes_from(operator, model):
    answer = bill(operator, model="gpt", prompt_tokens="1000", cached_tokens="400", completion_tokens="500")

    assert [(row.kind, row.quantity, row.rate, row.per, row.field, row.amount) for row in answer.context["rows"]] == [
        ("text", "600", "2.00", "per 1M tokens", "input_cost_per_token", "0.0012"),
        ("cache read", "400", "0.50", "per 1M tokens", "cache_read_input_token_cost", "0.0002"),
        ("output", "500", "8.00", "per 1M tokens", "output_cost_per_token", "0.0040"),
    ]
    assert answer.context["total"] == "0.0054"
    assert str(ModelPrice.objects.get().pk) in answer.content.decode()


def test_the_rows_add_up_to_the_total_and_to_what_the_model_says(operator, model):
    answer = bill(operator, model="gpt", prompt_tokens="250001", completion_tokens="7", web_searches="1")
    used = Usage(prompt_tokens=250_001, completion_tokens=7, web_searches=1)

    amounts = [Decimal(row.amount.replace(",", "")) for row in answer.context["rows"]]

    assert "input_cost_per_token_above_200k_tokens" in answer.content.decode()
    assert sum(amounts) == Decimal(answer.context["total"]) == AIModel.objects.get().cost(used).total


def test_discount_and_margin_are_lines_of_the_bill(operator):
    model = AIModelFactory(name="gpt")
    ModelPriceFactory(model=model, rates=RATES, discount_percent=10, margin_fixed=Decimal("0.01"))

    answer = bill(operator, model="gpt", prompt_tokens="1000000")

    assert [(row.kind, row.rate, row.amount) for row in answer.context["rows"]][1:] == [
        ("discount", "-10 %", "-0.40"), ("margin fixed", "0.01", "0.01"),
    ]  # fmt: skip


def test_a_tenant_is_asked_by_its_own_price_and_alias_and_at_the_instant_given(operator, model, acme):
    june = datetime(2026, 6, 1, tzinfo=UTC)
    ModelPrice.objects.supersede(
        model, {"input_cost_per_token": "1e-06"}, tenant=acme, reason="own", effective_from=june
    )
    ModelAliasFactory(tenant=acme, alias="quick", model=model)
    asked = {"model": "quick", "tenant": "acme", "prompt_tokens": "1000000"}

    assert bill(operator, **asked).context["total"] == "1.00"
    assert "By the price of Acme since 2026-06-01" in bill(operator, **asked).content.decode()
    assert bill(operator, **asked, at="2026-05-31T23:59").context["total"] == "4.00"


def test_a_call_that_has_no_price_is_unpriced_and_never_free(operator, model):
    AIModelFactory(name="new")
    AIModelFactory(name="painter", mode="image_generation")
    ModelPriceFactory(model=AIModel.objects.get(name="painter"), rates={"input_cost_per_token": "1e-06"})

    nothing = bill(operator, model="new", prompt_tokens="1")
    unrated = bill(operator, model="painter", output_images="1")

    assert nothing.context["total"] is unrated.context["total"] is None
    assert "has no price at this instant" in nothing.content.decode()
    assert "has no rate for what was used" in unrated.content.decode()


@pytest.mark.parametrize(
    ("asked", "field", "code"),
    [
        ({"prompt_tokens": "-1"}, "prompt_tokens", "negative_count"),
        ({"prompt_tokens": "9" * 30}, "prompt_tokens", "wrong_type"),
        ({"credits": "-0.5"}, "credits", "negative_count"),
        ({"prompt_tokens": "x"}, "prompt_tokens", "Enter a whole number"),
        ({"audio_seconds": "NaN"}, "audio_seconds", "Enter a number"),
        ({"at": "yesterday"}, "at", "valid date"),
        ({"kind": "magic"}, "kind", "valid choice"),
        ({"tenant": "nobody"}, "tenant", "Nothing is called"),
        ({"model": ""}, "model", "required"),
        ({"model": "gtp"}, "model", "unknown_model"),
        ({"model": "x\x00"}, "model", "Null characters"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_by_its_code(operator, model, asked, field, code):
    answer = bill(operator, **{"model": "gpt", "prompt_tokens": "1"} | asked)

    assert answer.status_code == 422
    assert code in str(answer.context["form"].errors[field])
    assert "cost" not in answer.context


def test_a_name_that_is_nearly_right_leads_to_the_right_one_with_the_same_question(operator):
    AIModelFactory(name="gpt-4o-mini")

    answer = bill(operator, model="gpt-4o-mni", prompt_tokens="77")

    assert answer.context["nearest"] == [("gpt-4o-mini", "?model=gpt-4o-mini&prompt_tokens=77")]


def test_a_disabled_model_says_so(operator):
    AIModelFactory(name="off", enabled=False)

    assert "(model_disabled)" in bill(operator, model="off").content.decode()


def test_everything_a_usage_knows_can_be_typed(operator):
    shown = {field.name for group in CallForm().groups() for field in group["fields"]}

    assert shown == {field.name for field in fields(Usage)} - {"at"}


def test_who_may_not_see_prices_may_not_calculate(client):
    client.force_login(OperatorFactory(is_superuser=False))

    assert client.get(PAGE).status_code == 403


def test_asking_writes_nothing(operator, model, django_assert_num_queries):
    before = list(ModelPrice.objects.values())

    assert operator.post(PAGE, {"model": "gpt"}).status_code == 200
    assert list(ModelPrice.objects.values()) == before
