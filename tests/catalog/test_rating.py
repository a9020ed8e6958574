from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.context import audit_context
from auditing.errors import InvalidWindow, ReasonRequired
from auditing.ingest import LOG
from auditing.lifecycle import Reported
from auditing.models import AuditLog, InferenceRequest
from catalog.models import AIModel, ModelPrice, Provider
from catalog.rating import price_row, rerate, rerate_unpriced, unpriced
from controlplane.core import partitions
from controlplane.core.caches import CacheUnavailable, invalidation
from controlplane.core.ids import now, uuid7
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import (
    AIModelFactory,
    InferenceRequestFactory,
    ModelAliasFactory,
    ModelPriceFactory,
    ProviderFactory,
)
from tests.races import together

pytestmark = pytest.mark.django_db
requests = InferenceRequest.objects
DAY = timedelta(days=1)
TODAY = now().replace(hour=0, minute=0, second=0, microsecond=0)
MONTH = TODAY.replace(day=1)
LAST_MONTH = (MONTH - DAY).replace(day=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = (LAST_MONTH, TODAY + 2 * DAY)
CHEAP = {"input_cost_per_token": "1e-06", "output_cost_per_token": "2e-06"}
DEAR = {"input_cost_per_token": "3e-06", "output_cost_per_token": "9e-06"}
USAGE = Reported(prompt_tokens=1000, completion_tokens=100)
CHEAPLY, DEARLY = Decimal("0.0012"), Decimal("0.0039")


@pytest.fixture(autouse=True)
def last_month():
    partitions.ensure(LOG, now(), months=[LAST_MONTH.date()])


@pytest.fixture
def openai():
    return ProviderFactory(slug="openai", name="OpenAI")


@pytest.fixture
def gpt(openai):
    """A model without a price."""
    return AIModelFactory(provider=openai, name="gpt-5.6", key="gpt-5.6")


def price(model, rates=CHEAP, **values):
    return ModelPriceFactory(**{"model": model, "effective_from": START, "rates": rates, **values})


def call(tenant, model="openai/gpt-5.6", usage=USAGE, **asked):
    id = requests.start(tenant=tenant, provider="openai", model=model, **asked)
    return requests.complete(id, usage=usage)


def fact_of(tenant, model="openai/gpt-5.6", **values):
    """A request without a cost, of last month, as an import may have written it before there were prices."""
    given = {
        "tenant_id": tenant.pk, "created_at": LAST_MONTH + DAY, "model": model, "cost": None, "pricing_status": "unpriced",
        "prompt_tokens": 1000, "completion_tokens": 100, **values,
    }  # fmt: skip
    if given["cost"] is not None and given["pricing_status"] == "unpriced":
        given["pricing_status"] = "priced"
    return InferenceRequestFactory(**given)


def row_of(tenant, **values):
    return SimpleNamespace(
        **{
            "tenant_id": tenant.pk, "created_at": now(), "provider": "openai", "model": "openai/gpt-5.6",
            "requested_model": None, "prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": None,
            "cache_write_tokens": None, "reasoning_tokens": None, "other_units": None, **values,
        }
    )  # fmt: skip


def total_of(tenant, **values):
    found = price_row(row_of(tenant, **values))
    return None if found is None else found.total


def again(*window, **asked):
    return rerate(*(window or WINDOW), **{"reason": "prices came late", "apply": True, **asked})


def booked(fact):
    """What sums make of one request, its adjustments with it."""
    costs = [fact.cost, *requests.filter(adjusts=fact.pk).values_list("cost", flat=True)]
    return sum((cost for cost in costs if cost is not None), Decimal(0))


# --- requests as they are stored


def test_a_call_through_the_gate_is_priced_by_the_catalog(acme, gpt):
    held = price(gpt)

    fact = call(acme)

    assert (fact.cost, fact.pricing_status, fact.price_id) == (CHEAPLY, "priced", held.pk)
    assert {kind: Decimal(part) for kind, part in fact.cost_breakdown.items()} == {
        "text": Decimal("0.001"),
        "output": Decimal("0.0002"),
    }


def test_rows_of_elsewhere_are_priced_by_the_catalog(acme, gpt):
    held = price(gpt)

    requests.ingest([
        {"request_id": f"r-{n}", "created_at": now(), "tenant_id": acme.pk, "provider": "openai", "model": "openai/gpt-5.6",
         "prompt_tokens": 1000, "completion_tokens": 100}
        for n in range(3)
    ])  # fmt: skip

    assert set(requests.values_list("cost", "pricing_status", "price_id")) == {(CHEAPLY, "priced", held.pk)}


def test_a_known_model_without_a_price_is_unpriced_and_in_the_inbox(acme, gpt):
    fact = call(acme)

    assert (fact.cost, fact.pricing_status, fact.price_id) == (None, "unpriced", None)
    [found] = unpriced()
    assert (found.model, found.provider, found.tenants, found.requests) == ("openai/gpt-5.6", "openai", 1, 1)
    assert (found.prompt_tokens, found.completion_tokens, found.without_usage) == (1000, 100, 0)
    assert found.first_seen == found.last_seen == fact.created_at


@pytest.mark.parametrize("model", ["nobody/knows", "gpt", "openai/" + "x" * 250, "日本", "a/b/c", "%", "'; --"])
def test_a_model_that_nobody_knows_is_unpriced_and_no_error(acme, gpt, model):
    price(gpt)

    result = requests.ingest([
        {"request_id": "r", "created_at": now(), "tenant_id": acme.pk, "provider": "who", "model": model, "prompt_tokens": 5}
    ])  # fmt: skip

    assert result.inserted == 1
    assert requests.get().pricing_status == "unpriced"


def test_a_request_that_says_nothing_of_its_usage_is_unpriced_not_free(acme, gpt):
    price(gpt)

    assert call(acme, usage=None).pricing_status == "unpriced"
    assert call(acme, usage=Reported(prompt_tokens=0, completion_tokens=0)).cost == 0


def test_a_free_model_costs_nothing_and_is_priced(acme, gpt):
    price(gpt, {"input_cost_per_token": "0", "output_cost_per_token": "0"})

    assert (call(acme).cost, call(acme).pricing_status) == (0, "priced")


def test_a_price_without_the_rates_that_a_call_needs_leaves_it_unpriced(acme, gpt):
    price(gpt, {"output_cost_per_image": "0.04"})

    assert call(acme).pricing_status == "unpriced"


@pytest.mark.parametrize("rates", [{}, {**CHEAP, "off_peak_pricing": {"hours_utc": "25:00-99:00"}}])
def test_a_price_that_cannot_be_read_leaves_a_call_unpriced(acme, gpt, rates):
    price(gpt, rates)

    assert call(acme).pricing_status == "unpriced"


def test_units_of_no_name_of_ours_leave_a_request_unpriced(acme, gpt, caplog):
    price(gpt)

    with caplog.at_level(logging.WARNING, "catalog.rating"):
        assert total_of(acme, other_units={"tokens_of_elsewhere": 5}) is None

    assert "cannot be priced" in caplog.text


def test_a_price_holds_from_its_first_instant_to_just_before_its_last(acme, gpt):
    instant = LAST_MONTH + DAY
    price(gpt, CHEAP, effective_to=instant)
    price(gpt, DEAR, effective_from=instant)

    assert total_of(acme, created_at=instant - timedelta(microseconds=1)) == CHEAPLY
    assert total_of(acme, created_at=instant) == DEARLY
    assert total_of(acme, created_at=START - timedelta(microseconds=1)) is None


def test_a_voided_price_never_held(acme, gpt):
    wrong = price(gpt, DEAR)
    wrong.end(START, reason="typed per million")

    assert total_of(acme) is None


def test_a_tenants_own_price_replaces_the_list_price_for_it_alone(acme, globex, gpt):
    price(gpt, DEAR)
    own = price(gpt, CHEAP, tenant=acme)

    assert (total_of(acme), total_of(globex)) == (CHEAPLY, DEARLY)
    assert price_row(row_of(acme)).price_id == own.pk


def test_a_tenant_in_its_own_scope_is_priced_alike(acme, globex, gpt):
    price(gpt, DEAR)
    price(gpt, CHEAP, tenant=acme)

    with tenant_scope(acme):
        assert call(acme).cost == CHEAPLY
    with tenant_scope(globex):
        assert call(globex).cost == DEARLY


def test_terms_of_the_price_are_part_of_it(acme, gpt):
    price(gpt, CHEAP, discount_percent=Decimal(50), margin_fixed=Decimal("0.1"))

    assert total_of(acme) == CHEAPLY / 2 + Decimal("0.1")


def test_a_model_that_is_switched_off_keeps_its_price(acme, gpt):
    price(gpt)
    AIModel.objects.update(enabled=False)
    Provider.objects.update(enabled=False)

    assert total_of(acme) == CHEAPLY


def test_a_recorded_model_is_not_taken_for_an_alias(acme, gpt, openai):
    """The gate has followed aliases already; once more, and a call of this model would be priced as one of another."""
    price(gpt)
    price(other := AIModelFactory(provider=openai), DEAR)
    ModelAliasFactory(tenant=acme, alias="openai/gpt-5.6", model=other)
    ModelAliasFactory(tenant=acme, alias="gpt-5.6", model=other)

    assert total_of(acme) == CHEAPLY


def test_an_imported_alias_means_what_it_means_to_its_tenant(acme, globex, gpt, openai):
    price(gpt)
    price(other := AIModelFactory(provider=openai), DEAR)
    ModelAliasFactory(alias="quick", model=gpt)
    ModelAliasFactory(tenant=acme, alias="quick", model=other)

    assert (total_of(acme, model="quick", provider="who"), total_of(globex, model="quick")) == (DEARLY, CHEAPLY)


def test_what_was_asked_for_prices_what_the_served_model_does_not(acme, gpt, openai):
    price(gpt)
    AIModelFactory(provider=openai, name="gpt-5.6-mini", key="openai/gpt-5.6-mini")

    for served in ("openai/gpt-5.6-mini", "openai/of-tomorrow"):
        assert total_of(acme, model=served, requested_model="gpt-5.6") == CHEAPLY


def test_the_served_model_goes_before_what_was_asked_for_but_for_a_price_of_the_tenants_own(acme, globex, gpt, openai):
    price(gpt, CHEAP)
    price(served := AIModelFactory(provider=openai, name="served", key="openai/served"), DEAR)
    names = {"model": "openai/served", "requested_model": "openai/gpt-5.6"}
    assert total_of(acme, **names) == DEARLY

    price(gpt, {"input_cost_per_token": "0", "output_cost_per_token": "0.001"}, tenant=acme)

    assert (total_of(acme, **names), total_of(globex, **names)) == (Decimal("0.1"), DEARLY)
    price(served, CHEAP, tenant=acme)
    assert total_of(acme, **names) == Decimal("0.1")


def test_of_two_models_with_one_canonical_id_the_one_that_was_asked_for_prices_the_call(acme, gpt, openai):
    other = AIModelFactory(provider=openai, name="gpt-5.6", key="openai/gpt-5.6")
    price(gpt, CHEAP)
    price(other, DEAR)

    assert total_of(acme, requested_model="gpt-5.6") == CHEAPLY
    assert total_of(acme, requested_model="openai/gpt-5.6") == DEARLY
    assert total_of(acme) == DEARLY
    fact_of(acme, cost=CHEAPLY, requested_model="gpt-5.6")
    assert again().adjusted == 0


def test_a_model_without_rates_leaves_the_call_to_the_other_one_of_its_canonical_id(acme, gpt, openai):
    price(AIModelFactory(provider=openai, name="gpt-5.6", key="openai/gpt-5.6"), DEAR)

    assert total_of(acme, requested_model="gpt-5.6") == DEARLY


def test_an_alias_that_was_asked_for_does_not_price_a_call(acme, gpt, openai):
    """What it means now is not what it meant then."""
    price(gpt, CHEAP)
    price(other := AIModelFactory(provider=openai), DEAR, tenant=acme)
    ModelAliasFactory(tenant=acme, alias="quick", model=other)

    assert total_of(acme, requested_model="quick") == CHEAPLY


def test_a_call_is_priced_though_the_cache_has_no_connection(acme, gpt, settings):
    price(gpt)
    invalidation.stop()
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "DATABASE_DIRECT_URL": "postgresql:///none?host=/nowhere"}
    with pytest.raises(CacheUnavailable):
        AIModel.objects.resolve("gpt-5.6")

    fact = call(acme)
    invalidation.stop()

    assert fact.cost == CHEAPLY


def test_a_cost_beyond_all_bounds_is_not_booked(acme, gpt, caplog):
    price(gpt, {"input_cost_per_token": "1000000", "output_cost_per_token": "0"})
    fact = fact_of(acme, prompt_tokens=2_000_000)

    result = again()

    assert (call(acme, usage=Reported(prompt_tokens=2_000_000)).pricing_status, result.unknown) == ("unpriced", 1)
    assert requests.filter(pk=fact.pk).unpriced().exists()
    assert "keeps its cost" in caplog.text


def test_each_name_is_looked_up_once_in_a_batch(acme, globex, gpt):
    price(gpt)
    rows = [
        row_of(acme),
        row_of(globex),
        row_of(acme, model="nobody/knows"),
        row_of(acme, prompt_tokens=None, completion_tokens=None),
    ]

    def statements(rows):
        with CaptureQueriesContext(connection) as queries:
            found = price_row.many(rows)
        return len(queries), [None if one is None else one.total for one in found]

    few, once = statements(rows)
    many, often = statements(rows * 50)

    assert many == few == 4  # two tenants' price of a model, and a name that is neither the provider's nor anybody's
    assert often == once * 50 == [CHEAPLY, CHEAPLY, None, None] * 50


# --- rated again


def test_requests_of_before_their_price_are_priced_to_the_last_digit(acme, globex, gpt):
    facts = [
        fact_of(tenant, prompt_tokens=7 * n, completion_tokens=n, created_at=LAST_MONTH + timedelta(minutes=n))
        for n in range(40)
        for tenant in (acme, globex)
    ]
    held = price(gpt, {"input_cost_per_token": "1.23456789e-07", "output_cost_per_token": "9.87654321e-07"})

    result = again()

    one = sum(
        (
            (7 * n * Decimal("1.23456789e-07") + n * Decimal("9.87654321e-07")).quantize(Decimal("1e-12"))
            for n in range(40)
        ),
        Decimal(0),
    )
    assert (result.rows, result.adjusted, result.unchanged, result.unknown) == (80, 80, 0, 0)
    assert result.difference == 2 * one
    for tenant in (acme, globex):
        m = requests.metrics(tenant, *WINDOW)
        assert (m.total_cost, m.unpriced, m.total_requests) == (one, 0, 40)
        found = result.sums[tenant.pk, "openai/gpt-5.6"]
        assert (found.rows, found.booked, found.cost) == (40, 0, one)
    assert unpriced() == []
    written = requests.filter(adjusts=facts[0].pk).get()
    assert (written.reason_code, written.price_id, written.reason) == ("priced", held.pk, "prices came late")
    assert written.metadata["key"] == f"{held.pk}:0"


def test_the_same_again_books_nothing(acme, gpt):
    facts = [fact_of(acme) for _ in range(5)]
    price(gpt)
    again()

    result = again()

    assert (result.adjusted, result.unchanged, result.difference) == (0, 5, 0)
    assert requests.filter(adjusts__isnull=False).count() == len(facts)


def test_a_dry_run_says_the_same_and_writes_nothing(acme, gpt):
    [fact_of(acme) for _ in range(5)]
    price(gpt)

    dry = again(apply=False)

    assert not requests.filter(adjusts__isnull=False).exists()
    assert not AuditLog.objects.with_action("requests.rerated").exists()
    assert again().sums == dry.sums


def test_a_request_of_last_month_keeps_last_months_price(acme, gpt):
    price(gpt, CHEAP)
    old, new = fact_of(acme, created_at=MONTH - DAY), fact_of(acme, created_at=MONTH)
    again()

    ModelPrice.objects.supersede(gpt, DEAR, effective_from=MONTH, reason="dearer from this month on")
    result = again()

    assert (booked(old), booked(new)) == (CHEAPLY, DEARLY)
    assert (result.adjusted, result.unchanged, result.difference) == (1, 1, DEARLY - CHEAPLY)
    assert requests.get(adjusts=new.pk, reason_code="repriced").cost == DEARLY - CHEAPLY


def test_a_wrong_price_that_was_corrected_gives_exactly_the_difference(acme, gpt):
    wrong = price(gpt, DEAR)
    stored = call(acme)
    fact = fact_of(acme)
    again()
    assert (stored.cost, booked(fact)) == (DEARLY, DEARLY)

    wrong.end(wrong.effective_from, reason="typed wrongly")
    right = price(gpt, CHEAP)
    result = again(reason="typed wrongly")

    assert result.difference == 2 * (CHEAPLY - DEARLY)
    for one in (stored, fact):
        row = requests.filter(adjusts=one.pk).order_by("metadata__key").last()
        assert (booked(one), row.price_id) == (CHEAPLY, right.pk)
    assert requests.get(adjusts=fact.pk, reason_code="repriced").metadata["key"] == f"{right.pk}:1"
    assert requests.metrics(acme, *WINDOW).total_cost == 2 * CHEAPLY


def test_a_price_that_comes_and_goes_is_followed_there_and_back(acme, gpt):
    fact = fact_of(acme)
    expected = [(CHEAP, CHEAPLY), (DEAR, DEARLY), (CHEAP, CHEAPLY), (DEAR, DEARLY)]

    for rates, due in expected:
        ModelPrice.objects.filter(effective_to=None).update(effective_to=START)
        price(gpt, rates)
        again()
        assert booked(fact) == due

    codes = requests.filter(adjusts=fact.pk).order_by("metadata__adjusted_at").values_list("reason_code", flat=True)
    assert list(codes) == ["priced", "repriced", "repriced", "repriced"]


def test_a_price_of_zero_prices_what_was_unpriced(acme, gpt):
    fact = fact_of(acme)
    price(gpt, {"input_cost_per_token": "0", "output_cost_per_token": "0"})

    result = again()

    assert (result.adjusted, result.difference) == (1, 0)
    assert requests.get(adjusts=fact.pk).reason_code == "priced"
    assert requests.metrics(acme, *WINDOW).unpriced == 0
    assert again().adjusted == 0


def test_the_original_never_changes(acme, gpt):
    fact = fact_of(acme, cost=Decimal(5))
    before = requests.filter(pk=fact.pk).values().get()
    price(gpt)

    again()

    assert requests.filter(pk=fact.pk).values().get() == before
    assert booked(fact) == CHEAPLY


def test_a_request_without_a_price_at_its_time_stays_as_it_is(acme, gpt):
    priced, lacking = fact_of(acme, cost=Decimal(5)), fact_of(acme)
    price(gpt, effective_from=MONTH)

    result = again()

    assert (result.rows, result.unknown, result.adjusted) == (2, 2, 0)
    assert (booked(priced), requests.unpriced().get()) == (5, lacking)


def test_a_credit_stays_on_top_and_what_else_was_booked_is_part_of_the_cost(acme, gpt):
    credited, corrected = fact_of(acme, cost=DEARLY), fact_of(acme, cost=DEARLY)
    requests.adjust(credited.pk, reason_code="credit", reason="goodwill", cost=Decimal("-0.001"))
    requests.adjust(corrected.pk, reason_code="manual", reason="typed wrongly", cost=CHEAPLY - DEARLY)
    price(gpt)

    result = again()

    assert (result.adjusted, result.unchanged) == (1, 1)
    assert (booked(credited), booked(corrected)) == (CHEAPLY - Decimal("0.001"), CHEAPLY)


def test_what_was_free_by_its_end_stays_free(acme, gpt):
    failed = fact_of(acme, status="failed", cost=Decimal(0))
    broken_off = fact_of(acme, status="cancelled", cost=Decimal(0), prompt_tokens=None, completion_tokens=None)
    billed = fact_of(acme, status="failed")
    price(gpt)

    result = again()

    assert (result.unchanged, result.adjusted) == (2, 1)
    assert (booked(failed), booked(broken_off), booked(billed)) == (0, 0, CHEAPLY)


def test_what_says_nothing_of_its_usage_stays_unpriced(acme, gpt):
    fact_of(acme, prompt_tokens=None, completion_tokens=None)
    lost = fact_of(
        acme, status="lost", prompt_tokens=None, completion_tokens=None, cost=Decimal(2), pricing_status="estimated"
    )
    price(gpt)

    result = again()

    assert (result.unknown, result.adjusted, booked(lost)) == (2, 0, 2)
    assert unpriced()[0].without_usage == 1


def test_usage_that_an_adjustment_told_is_priced(acme, gpt):
    price(gpt)
    lost = fact_of(
        acme, status="lost", prompt_tokens=None, completion_tokens=None, cost=Decimal(2), pricing_status="estimated"
    )
    requests.complete(lost.pk, usage=USAGE)
    more = fact_of(acme, prompt_tokens=400, cost=Decimal(1))
    requests.adjust(more.pk, reason_code="manual", reason="counted anew", prompt_tokens=600)

    result = again()

    assert (booked(lost), booked(more), result.adjusted) == (CHEAPLY, CHEAPLY, 1)
    assert requests.metrics(acme, *WINDOW).estimated_cost == 0


def test_an_estimate_stays_an_estimate_of_its_new_cost(acme, gpt):
    fact = fact_of(acme, cost=Decimal(2), pricing_status="estimated")
    price(gpt)

    again()

    m = requests.metrics(acme, *WINDOW)
    assert (booked(fact), m.total_cost, m.estimated_cost) == (CHEAPLY, CHEAPLY, CHEAPLY)


def test_only_what_is_asked_for_is_rated_again(acme, globex, gpt, openai):
    azure = ProviderFactory(slug="azure")
    price(gpt)
    price(AIModelFactory(provider=azure, name="gpt-5.6", key="azure/gpt-5.6"))
    ModelAliasFactory(alias="quick", model=gpt)
    ModelAliasFactory(alias="ours", model=gpt, tenant=acme)
    mine, theirs = fact_of(acme), fact_of(globex)
    elsewhere = fact_of(acme, "azure/gpt-5.6", provider="azure")
    wrong = fact_of(acme, cost=Decimal(1))
    guess = fact_of(acme, cost=Decimal(1), pricing_status="estimated")
    openais = {mine.pk, theirs.pk, wrong.pk, guess.pk}

    def rated(**asked):
        with transaction.atomic():
            again(**asked)
            found = set(requests.filter(adjusts__isnull=False).values_list("adjusts", flat=True))
            transaction.set_rollback(True)
        return found

    assert rated() == openais | {elsewhere.pk}
    assert rated(model="openai/gpt-5.6") == rated(model="gpt-5.6") == rated(model="quick") == openais
    assert rated(provider="azure") == rated(model="azure/gpt-5.6") == {elsewhere.pk}
    assert rated(model="ours", tenant=acme) == rated(model="ours", tenant=acme.pk) == openais - {theirs.pk}
    assert rated(model="ours", tenant=globex) == rated(model="ours") == set()
    assert rated(tenant=globex) == rated(tenant=globex.pk) == {theirs.pk}
    assert rated(status="unpriced") == {mine.pk, theirs.pk, elsewhere.pk}
    assert rated(status="priced", tenant=acme) == {wrong.pk}
    assert rated(status="estimated") == {guess.pk}
    assert rated(model="nobody/knows") == rated(provider="who") == rated(tenant=uuid7()) == set()


def test_what_was_priced_since_is_unpriced_no_longer(acme, gpt):
    fact_of(acme)
    wrong = price(gpt, DEAR)
    again(status="unpriced")
    wrong.end(START, reason="typed wrongly")
    price(gpt)

    assert again(status="unpriced").rows == 0
    assert again().adjusted == 1


def test_a_window_is_half_open_and_exact(acme, gpt):
    price(gpt)
    instant = LAST_MONTH + DAY
    before, at = fact_of(acme, created_at=instant - timedelta(microseconds=1)), fact_of(acme, created_at=instant)

    again(instant, instant + timedelta(microseconds=1))
    assert (booked(before), booked(at)) == (0, CHEAPLY)
    again(instant - DAY, instant)
    assert booked(before) == CHEAPLY


@pytest.mark.parametrize("window", [(TODAY, TODAY), (TODAY, MONTH - DAY), (TODAY.replace(tzinfo=None), TODAY + DAY)])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(InvalidWindow):
        again(*window)


@pytest.mark.parametrize("apply", [True, False])
def test_rating_again_says_why(apply):
    with pytest.raises(ReasonRequired):
        again(reason=" ", apply=apply)


def test_a_reason_is_kept_without_secrets(acme, gpt):
    fact_of(acme)
    price(gpt)

    again(reason=" a\x00 Bearer abcdefghijklmnop ")

    assert requests.get(adjusts__isnull=False).reason == "a\ufffd Bearer [redacted]"
    assert AuditLog.objects.with_action("requests.rerated").get().reason == "a\ufffd Bearer [redacted]"


def test_each_page_and_tenant_leaves_an_event_with_its_figures(acme, globex, gpt):
    price(gpt)
    for n in range(6):
        fact_of(acme if n % 3 else globex, created_at=LAST_MONTH + timedelta(minutes=n))

    with audit_context(actor="billing"):
        again(page=4)

    events = AuditLog.objects.with_action("requests.rerated").order_by("id")
    found = [(event.tenant_id, event.details["adjusted"], Decimal(event.details["difference"])) for event in events]
    assert sorted(found) == sorted([(acme.pk, 2, 2 * CHEAPLY), (globex.pk, 2, 2 * CHEAPLY), (acme.pk, 2, 2 * CHEAPLY)])
    assert {(event.actor_id, event.reason) for event in events} == {("billing", "prices came late")}


def test_an_interrupted_run_keeps_its_pages_and_the_next_one_does_the_rest(acme, gpt):
    price(gpt)
    for n in range(10):
        fact_of(acme, created_at=LAST_MONTH + timedelta(minutes=n))

    def interrupt(done):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(page=3, progress=interrupt)
    assert requests.filter(adjusts__isnull=False).count() == 6

    result = again(page=3)

    assert (result.adjusted, result.unchanged) == (4, 6)
    assert requests.metrics(acme, *WINDOW).total_cost == 10 * CHEAPLY


def test_pages_see_each_request_once(acme, gpt):
    price(gpt)
    same = LAST_MONTH + DAY
    facts = [fact_of(acme, created_at=same) for _ in range(7)]  # ids of one millisecond
    seen = []

    result = again(page=2, progress=seen.append)

    assert (result.rows, seen) == (len(facts), [2, 4, 6, 7])


# --- the inbox


def test_the_inbox_says_what_is_unpriced_by_model(acme, globex, gpt):
    for n, tenant in enumerate([acme, globex, acme]):
        fact_of(tenant, created_at=LAST_MONTH + n * DAY, prompt_tokens=10, completion_tokens=n)
    fact_of(acme, "who/else", provider="who", prompt_tokens=None, completion_tokens=None)
    fact_of(acme, cost=Decimal(1))

    first, second = unpriced()

    assert (first.model, first.provider, first.tenants, first.requests) == ("openai/gpt-5.6", "openai", 2, 3)
    assert (first.prompt_tokens, first.completion_tokens) == (30, 3)
    assert (first.first_seen, first.last_seen) == (LAST_MONTH, LAST_MONTH + 2 * DAY)
    assert (second.model, second.requests, second.without_usage) == ("who/else", 1, 1)
    assert unpriced(limit=1) == [first]
    assert [one.requests for one in unpriced(tenant=globex)] == [1]


def test_from_the_inbox_a_model_is_priced_looked_at_and_booked(acme, globex, gpt):
    facts = [fact_of(tenant, created_at=LAST_MONTH + n * DAY) for n, tenant in enumerate([acme, globex, acme])]
    fact_of(acme, "who/else", provider="who")
    [waiting] = [one for one in unpriced() if one.provider == "openai"]

    ModelPrice.objects.supersede(gpt, CHEAP, effective_from=waiting.first_seen, reason="from the invoice")
    preview = rerate_unpriced(waiting.model, waiting.provider, reason="from the invoice")
    assert [booked(fact) for fact in facts] == [0, 0, 0]
    done = rerate_unpriced(waiting.model, waiting.provider, reason="from the invoice", apply=True)

    assert (preview.sums, preview.difference) == (done.sums, 3 * CHEAPLY)
    assert [booked(fact) for fact in facts] == [CHEAPLY] * 3
    assert [one.model for one in unpriced()] == ["who/else"]
    assert rerate_unpriced(waiting.model, waiting.provider, reason="from the invoice", apply=True).rows == 0


def test_a_price_can_be_looked_at_before_it_is_kept(acme, gpt):
    fact_of(acme)

    with transaction.atomic():
        ModelPrice.objects.supersede(gpt, DEAR, effective_from=START, reason="what if")
        preview = rerate_unpriced("openai/gpt-5.6", "openai", reason="what if")
        transaction.set_rollback(True)

    assert preview.difference == DEARLY
    assert rerate_unpriced("openai/gpt-5.6", "openai", reason="what if").difference == 0


# --- at once


@pytest.mark.django_db(transaction=True)
def test_of_two_runs_at_once_each_request_is_booked_once(acme, globex, gpt):
    price(gpt)
    for n in range(60):
        fact_of(acme if n % 2 else globex, created_at=LAST_MONTH + timedelta(minutes=n))

    outcomes = together(*(lambda: again(page=7) for _ in range(4)))

    assert sum(outcome.adjusted for outcome in outcomes) == 60
    assert requests.filter(adjusts__isnull=False).count() == 60
    assert sum(requests.metrics(tenant, *WINDOW).total_cost for tenant in (acme, globex)) == 60 * CHEAPLY


@pytest.mark.django_db(transaction=True)
def test_a_correction_by_hand_meanwhile_is_seen_or_comes_after(acme, gpt):
    price(gpt)
    fact = fact_of(acme, cost=DEARLY)

    def by_hand():
        requests.adjust(fact.pk, reason_code="manual", reason="typed wrongly", cost=CHEAPLY - DEARLY)

    together(again, by_hand)
    again()

    assert booked(fact) == CHEAPLY


# --- against plain arithmetic

counts = st.none() | st.integers(0, 3_000_000)
rates = st.decimals(0, Decimal("0.001"), places=12).map(str)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(counts, counts, st.none() | st.decimals(0, 9, places=12)), min_size=1, max_size=12),
    rates,
    rates,
    rates,
    rates,
)
def test_after_any_prices_what_is_booked_is_what_the_last_one_says(acme, gpt, given_rows, in_1, out_1, in_2, out_2):
    with transaction.atomic():
        facts = [fact_of(acme, prompt_tokens=p, completion_tokens=c, cost=cost) for p, c, cost in given_rows]
        for input, output in ((in_1, out_1), (in_2, out_2)):
            ModelPrice.objects.filter(effective_to=None).update(effective_to=START)
            price(gpt, {"input_cost_per_token": input, "output_cost_per_token": output})
            again(page=5)

        for fact, (p, c, cost) in zip(facts, given_rows, strict=True):
            due = ((p or 0) * Decimal(in_2) + (c or 0) * Decimal(out_2)).quantize(Decimal("1e-12"))
            assert booked(fact) == ((cost or 0) if p is None and c is None else due)
        m = requests.metrics(acme, *WINDOW)
        assert m.total_cost == sum(map(booked, facts), Decimal(0))
        assert m.unpriced == sum(p is None and c is None and cost is None for p, c, cost in given_rows)
        assert again(page=5).adjusted == 0
        transaction.set_rollback(True)


# --- the command


def command(capsys, *arguments, start=LAST_MONTH, end=WINDOW[1], reason="late prices"):
    call_command("prices_rerate", "--from", start.isoformat(), "--to", end.isoformat(), "--reason", reason, *arguments)
    return capsys.readouterr().out


def test_the_command_looks_at_all_time_there_is(acme, gpt, capsys):
    fact_of(acme)
    price(gpt)

    shown = command(capsys, start=datetime(1, 1, 1, tzinfo=UTC), end=datetime(9999, 12, 31, tzinfo=UTC))

    assert "1 of 1 requests would be adjusted" in shown


@pytest.mark.parametrize("option", ["--model", "--provider", "--tenant"])
def test_the_command_refuses_what_is_no_text(acme, capsys, option):
    with pytest.raises(CommandError):
        command(capsys, option, "\udcff")


def test_the_command_shows_what_is_due_and_books_it_when_told(acme, gpt, capsys):
    for _ in range(3):
        fact_of(acme)
    fact_of(acme, "who/else", provider="who")
    price(gpt)

    shown = command(capsys)
    assert "Acme" in shown
    assert (
        "3 of 4 requests would be adjusted, by +0.003600000000 US dollars in all; 0 are right, 1 have no price" in shown
    )
    assert "--apply" in shown
    assert not requests.filter(adjusts__isnull=False).exists()

    done = command(capsys, "--apply")
    assert "3 of 4 requests were adjusted, by +0.003600000000 US dollars" in done
    assert requests.metrics(acme, *WINDOW).total_cost == 3 * CHEAPLY
    event = AuditLog.objects.with_action("requests.rerated").get()
    assert (event.actor_type, event.actor_id, event.reason) == ("command", "prices_rerate", "late prices")
    assert "0 of 4 requests were adjusted, by +0 US dollars in all; 3 are right" in command(capsys, "--apply")


def test_the_command_tells_tenants_of_one_name_apart(acme, globex, gpt, capsys):
    Tenant.objects.update(name="Acme")
    fact_of(acme)
    fact_of(globex)
    price(gpt)

    assert command(capsys).count("Acme") == 2


def test_the_command_tells_a_script_the_same(acme, globex, gpt, capsys):
    fact_of(acme)
    fact_of(globex)
    price(gpt)

    told = json.loads(
        command(
            capsys, "--json", "--tenant", "acme", "--model", "gpt-5.6", "--provider", "openai", "--status", "unpriced"
        )
    )

    assert told == {
        "applied": False, "rows": 1, "adjusted": 1, "unchanged": 0, "unknown": 0, "difference": "+0.001200000000",
        "sums": [{
            "tenant": "Acme", "model": "openai/gpt-5.6", "requests": 1, "booked": "0", "cost": "0.001200000000",
            "difference": "+0.001200000000",
        }],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"end": LAST_MONTH}, 1), ({"reason": " "}, 1), ({"arguments": ["--tenant", "nobody"]}, 2)],
)
def test_the_command_refuses_what_cannot_be(db, capsys, asked, code):
    with pytest.raises(CommandError) as caught:
        command(capsys, *asked.pop("arguments", ()), **asked)

    assert caught.value.returncode == code
