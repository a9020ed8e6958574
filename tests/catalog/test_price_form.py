"""The page on which a price is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from auditing.models import AuditLog
from catalog.models import ModelPrice
from controlplane.core.ids import now
from tests.admin_rows import Page
from tests.factories import AIModelFactory, ModelPriceFactory, OperatorFactory
from tests.races import together

pytestmark = pytest.mark.django_db

ADD = reverse("admin:cp_catalog_modelprice_add")
FROM_SOURCE = {
    "input_cost_per_token": "4.2000000000000006e-08",
    "output_cost_per_token": "8e-06",
    "input_cost_per_token_above_200k_tokens": "8.4e-08",
    "tiered_pricing": [{"range": ["0", "256000.0"], "input_cost_per_token": "5e-08"}],
}


@pytest.fixture
def operator(client):
    client.force_login(OperatorFactory())
    return client


@pytest.fixture
def model():
    return AIModelFactory(name="gpt", key="acme/gpt 4")


def address(model, **query):
    return f"{ADD}?{urlencode({'model': model.key, **query})}"


def filled(client, url, **typed):
    """The form as a browser would send it back, with what is typed."""
    form = client.get(url).context["form"]
    start = {name: form[name].value() for name in form.fields}
    start["rarer"] = form["rarer"].value()
    return {
        name: "" if value is None else value for name, value in (start | {"reason": "as announced"} | typed).items()
    }


def save(client, url, **typed):
    return client.post(url, filled(client, url, **typed) | {"_save": "Save price"})


# ---------------------------------------------------------------- whose price


def test_the_model_is_asked_first_and_may_be_typed_by_any_of_its_names(operator, model):
    assert "price_subject" in operator.get(ADD).template_name
    for name in (model.key, str(model.pk)):
        assert operator.get(ADD, {"model": name}).context["model"] == model


@pytest.mark.parametrize("query", [{"model": "nobody's"}, {"model": "acme/gpt 4", "tenant": "nobody"}])
def test_a_name_that_is_none_is_said_beside_its_field(operator, model, query):
    answer = operator.get(ADD, query)

    assert answer.status_code == 200
    assert "Nothing is called" in answer.content.decode()


def test_to_copy_the_list_price_a_tenant_is_needed(operator, model, acme):
    ModelPriceFactory(model=model)

    assert "Say which tenant" not in operator.get(address(model, own=1)).content.decode()
    assert operator.get(address(model, own=1, tenant="acme")).context["form"]["input_cost_per_token"].value() == "2.00"


# ---------------------------------------------------------------- from what is typed to what is kept


def test_rates_are_typed_per_million_and_kept_per_token(operator, model):
    answer = save(operator, address(model), input_cost_per_token="2.50", output_cost_per_token="10")

    price = ModelPrice.objects.get()
    assert answer.status_code == 302
    assert price.rates == {"input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001"}
    assert (price.source, price.reason, price.tenant) == ("manual", "as announced", None)
    assert AuditLog.objects.filter(resource_id=str(price.pk), reason="as announced").exists()


@pytest.mark.parametrize(
    ("mode", "field", "typed", "kept"),
    [
        ("audio_speech", "input_cost_per_character", "0.015", "0.000015"),
        ("image_generation", "output_cost_per_image", "0.04", "0.04"),
        ("audio_transcription", "input_cost_per_second", "0.006", "0.0001"),
        ("video_generation", "output_cost_per_second", "0.1", "0.1"),
        ("ocr", "ocr_cost_per_page", "0.003", "0.003"),
        ("rerank", "input_cost_per_query", "0.002", "0.002"),
        ("chat", "input_cost_per_token", "1,250.5", "0.0012505"),
        ("chat", "input_cost_per_token", "0", "0"),
        ("chat", "input_cost_per_token", "  3e-1 ", "0.0000003"),
    ],
)
def test_each_unit_is_typed_as_people_count_it(operator, mode, field, typed, kept):
    model = AIModelFactory(mode=mode)

    save(operator, address(model), **{field: typed})

    assert ModelPrice.objects.get().rates == {field: kept}


def test_what_is_not_touched_keeps_its_text_to_the_last_digit(operator, model):
    ModelPriceFactory(model=model, rates=FROM_SOURCE)
    assert operator.get(address(model)).context["form"]["input_cost_per_token"].value() == "0.042"

    save(operator, address(model), output_cost_per_token="9")

    assert ModelPrice.objects.in_force().get().rates == FROM_SOURCE | {"output_cost_per_token": "0.000009"}


def test_numbers_of_rarer_rates_are_kept_as_they_were_typed(operator, model):
    table = '[{"range": [0, 32000.0]}]'
    rarer = f'{{"output_cost_per_token_priority": 1.50e-05, "tiered_pricing": {table}, "web_search_billing_unit": "per_query"}}'

    save(operator, address(model), input_cost_per_token="1", rarer=rarer)

    assert ModelPrice.objects.get().rates == {
        "input_cost_per_token": "0.000001",
        "output_cost_per_token_priority": "1.50e-05",
        "tiered_pricing": [{"range": ["0", "32000.0"]}],
        "web_search_billing_unit": "per_query",
    }


def test_the_price_before_ends_where_this_one_begins(operator, model):
    before = ModelPriceFactory(model=model)

    save(operator, address(model), input_cost_per_token="3", effective_from="2026-06-01T12:00")

    before.refresh_from_db()
    after = ModelPrice.objects.get(effective_to=None)
    assert before.effective_to == after.effective_from == datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_a_price_for_a_tenant_starts_from_the_list_price_and_leaves_it_alone(operator, model, acme):
    listed = ModelPriceFactory(model=model, discount_percent=5)

    save(operator, address(model, tenant="acme"), input_cost_per_token="1.8")

    own = ModelPrice.objects.get(tenant=acme)
    assert own.rates == {"input_cost_per_token": "0.0000018", "output_cost_per_token": "8e-06"}
    assert own.discount_percent == 5
    listed.refresh_from_db()
    assert listed.effective_to is None


def test_a_price_may_have_an_end(operator, model):
    save(operator, address(model), input_cost_per_token="1", effective_to="2099-01-01T00:00")

    assert ModelPrice.objects.get().effective_to == datetime(2099, 1, 1, tzinfo=UTC)


def test_beside_each_field_stands_what_is_kept(operator, model):
    ModelPriceFactory(model=model, rates=FROM_SOURCE)

    page = operator.get(address(model)).content.decode()
    checked = operator.post(
        address(model), filled(operator, address(model), output_cost_per_token="9") | {"_check": "x"}
    )

    assert "0.000000042000000000000006 per token" in page
    assert checked.status_code == 200
    assert "0.000009 per token" in checked.content.decode()
    assert "was 8.00" in checked.content.decode()
    assert ModelPrice.objects.count() == 1


def test_an_example_says_what_a_call_costs_now_and_by_what_is_typed(operator, model):
    ModelPriceFactory(model=model)
    asked = filled(operator, address(model), input_cost_per_token="2.5", output_cost_per_token="10") | {"_check": "x"}

    assert operator.get(address(model)).context["examples"][0] == "1,000 in + 500 out = 0.006 USD"
    assert operator.post(address(model), asked).context["examples"][0] == (
        "1,000 in + 500 out = 0.0075 USD, before 0.006 USD"
    )


@pytest.mark.parametrize(
    ("mode", "field", "typed", "example"),
    [
        ("image_generation", "output_cost_per_image", "0.04", "1 image = 0.04 USD"),
        ("audio_speech", "input_cost_per_character", "0.015", "1,000 characters = 0.015 USD"),
        ("audio_transcription", "input_cost_per_second", "0.006", "1 minute of audio = 0.006 USD"),
        ("video_generation", "output_cost_per_second", "0.1", "10 seconds of video = 1 USD"),
        ("rerank", "input_cost_per_query", "0.002", "1 query = 0.002 USD"),
        ("ocr", "ocr_cost_per_page", "0.003", "1 page = 0.003 USD"),
        ("chat", "output_cost_per_image", "0.04", "1,000 in + 500 out = unpriced"),
    ],
)
def test_an_example_counts_as_the_model_is_sold(operator, mode, field, typed, example):
    model = AIModelFactory(mode=mode)

    answer = operator.post(address(model), filled(operator, address(model), **{field: typed}) | {"_check": "x"})

    assert answer.context["examples"][0] == example


# ---------------------------------------------------------------- what is refused, with nothing lost


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("input_cost_per_token", "2,50", "with a point"),
        ("input_cost_per_token", "dear", "with a point"),
        ("input_cost_per_token", "-1", "from 0"),
        ("input_cost_per_token", "NaN", "from 0"),
        ("input_cost_per_token", "Infinity", "from 0"),
        ("input_cost_per_token", "1e40", "Check the unit"),
        ("input_cost_per_token", "1e-40", "Check the unit"),
        ("input_cost_per_token", "9" * 61, "at most 60"),
        ("input_cost_per_token", "1\x00", "Null characters"),
        ("rarer", "[1]", "Write an object"),
        ("rarer", "{", "valid JSON"),
        ("rarer", '{"tiered_pricing": [{"range": ["x", "9"], "input_cost_per_token": "1e-06"}]}', "Correct the price"),
        ("rarer", '{"x_cost": true}', "no number from 0"),
        ("rarer", '{"x_cost": "NaN"}', "no number from 0"),
        ("rarer", '{"x_cost": -1}', "no number from 0"),
        ("rarer", '{"input_cost_per_token": 1}', "has a field above"),
        ("discount_percent", "101", "at most 100"),
        ("effective_from", "soon", "valid date"),
        ("reason", "  ", "Say why"),
    ],
)
def test_what_is_no_price_is_refused_where_it_was_typed(operator, model, field, typed, said):
    answer = save(operator, address(model), **{"output_cost_per_token": "8", field: typed})

    assert answer.status_code == 422
    assert said in str(answer.context["form"].errors[field])
    assert answer.context["form"]["output_cost_per_token"].value() == "8"
    assert Page(answer).faults == []
    assert not ModelPrice.objects.exists()


def test_a_price_without_a_rate_is_refused(operator, model):
    answer = save(operator, address(model))

    assert "Give at least one rate" in answer.content.decode()
    assert not ModelPrice.objects.exists()


def test_a_price_ends_after_it_begins(operator, model):
    times = {"effective_from": "2026-06-01T00:00", "effective_to": "2026-06-01T00:00"}

    assert save(operator, address(model), input_cost_per_token="1", **times).status_code == 422


def test_a_price_that_would_run_into_a_planned_one_is_refused(operator, model):
    ModelPriceFactory(model=model, effective_from=now() + timedelta(days=9))

    answer = save(operator, address(model), input_cost_per_token="1", effective_to="2099-01-01T00:00")

    assert answer.status_code == 422
    assert "Another price of this model holds in that time" in answer.content.decode()
    assert ModelPrice.objects.count() == 1


# ---------------------------------------------------------------- slips of the unit


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("20", "Input: 20.00 USD per 1M tokens, 10.00 times the list price of 2.00."),
        ("0.2", "Input: 0.20 USD per 1M tokens, 1/10.00 of the list price of 2.00."),
        ("0", "Input: 0 USD per 1M tokens, the list price has 2.00."),
        ("", "Input: no rate, the list price has 2.00. Calls that need it become unpriced."),
    ],
)
def test_a_rate_that_looks_like_a_slip_is_asked_about_with_both_numbers(operator, model, typed, said):
    ModelPriceFactory(model=model)

    answer = save(operator, address(model), input_cost_per_token=typed)

    assert answer.status_code == 422
    assert any(sentence.startswith(said) for sentence in answer.context["form"].warnings)
    assert 'type="checkbox" name="confirmed"' in answer.content.decode()
    assert ModelPrice.objects.count() == 1


@pytest.mark.parametrize("typed", ["19.9", "0.21"])
def test_a_rate_less_than_ten_times_off_is_not_asked_about(operator, model, typed):
    ModelPriceFactory(model=model)

    assert save(operator, address(model), input_cost_per_token=typed).status_code == 302


@pytest.mark.parametrize("typed", ["2500000", "0.0000025"])
def test_the_first_price_of_a_model_is_asked_about_when_no_model_costs_as_much_or_as_little(operator, model, typed):
    answer = save(operator, address(model), input_cost_per_token=typed)

    assert "no usual price of tokens" in answer.content.decode()


def test_a_tenants_price_is_compared_with_the_list_price_and_with_the_one_it_replaces(operator, model, acme):
    ModelPriceFactory(model=model)
    ModelPriceFactory(model=model, tenant=acme, rates={"input_cost_per_token": "1e-06"})

    warnings = save(operator, address(model, tenant="acme"), input_cost_per_token="20").context["form"].warnings

    assert warnings[0] == (
        "Input: 20.00 USD per 1M tokens, 10.00 times the list price of 2.00, 20.00 times the price it replaces of 1.00."
    )


def test_a_tick_confirms_the_numbers_it_stood_beside_and_no_others(operator, model):
    ModelPriceFactory(model=model)
    asked = filled(operator, address(model), input_cost_per_token="20") | {"_save": "x"}
    digest = operator.post(address(model), asked).context["form"].digest

    other = operator.post(address(model), asked | {"confirmed": digest, "input_cost_per_token": "200"})
    assert other.status_code == 422
    assert ModelPrice.objects.count() == 1

    assert operator.post(address(model), asked | {"confirmed": digest}).status_code == 302
    assert ModelPrice.objects.in_force().get().rates["input_cost_per_token"] == "0.00002"


def test_a_planned_price_is_compared_with_the_one_of_that_time(operator, model):
    ModelPriceFactory(model=model, effective_to=now() + timedelta(days=5))
    ModelPriceFactory(model=model, effective_from=now() + timedelta(days=5), rates={"input_cost_per_token": "2e-05"})

    answer = save(
        operator, address(model), input_cost_per_token="2", output_cost_per_token="", effective_from="2090-01-01T00:00"
    )

    assert "1/10.00 of the list price of 20.00" in " ".join(answer.context["form"].warnings)


# ---------------------------------------------------------------- two at once


def test_a_price_that_somebody_has_set_meanwhile_is_not_replaced_unseen(operator, model):
    ModelPriceFactory(model=model)
    asked = filled(operator, address(model), input_cost_per_token="3") | {"_save": "x"}
    ModelPrice.objects.supersede(model, {"input_cost_per_token": "2.5e-06"}, reason="a colleague")

    answer = operator.post(address(model), asked)

    assert answer.status_code == 422
    assert "Somebody has set or ended a price of this model meanwhile" in answer.content.decode()
    assert ModelPrice.objects.in_force().get().reason == "a colleague"
    again = asked | {"seen": answer.context["seen"]}
    assert operator.post(address(model), again).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_at_once_one_is_told():
    model = AIModelFactory(key="raced")
    ModelPriceFactory(model=model)
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(OperatorFactory())
    asked = [
        filled(client, address(model), input_cost_per_token=f"{n}") | {"_save": "x"}
        for n, client in enumerate(clients, 3)
    ]

    answers = together(
        *(lambda c=client, a=each: c.post(address(model), a) for client, each in zip(clients, asked, strict=True))
    )

    assert sorted(answer.status_code for answer in answers) == [302, 422]
    assert ModelPrice.objects.count() == 2
