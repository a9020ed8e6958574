from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from catalog.errors import CatalogError, ModelDisabled, OtherTenant, UnknownModel
from catalog.models import AIModel, Provider
from catalog.names import fold
from catalog.pricing import Usage
from catalog.resolution import what_prices
from controlplane.core.ids import now
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, ProviderFactory

pytestmark = pytest.mark.django_db

FILE = json.loads((Path(__file__).parent / "resolve_cases.json").read_text())
resolve = AIModel.objects.resolve

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def catalog():
    """The models of the cases, as an import makes them."""
    words = FILE["models"]
    providers = {slug: Provider(slug=slug, name=slug) for slug in map(fold, words.values())}
    Provider.objects.bulk_create(providers.values())
    AIModel.objects.bulk_create(
        AIModel(provider=providers[fold(word)], key=key, name=key.removeprefix(f"{fold(word)}/"), source_provider=word)
        for key, word in words.items()
    )


@pytest.fixture
def openai():
    return ProviderFactory(slug="openai")


@pytest.fixture
def gpt(openai):
    return AIModelFactory(provider=openai, key="gpt-4o", name="gpt-4o")


# --- by the rules of names


def test_each_name_means_the_model_that_its_price_is_found_by(catalog):
    def found(case):
        try:
            return {"key": resolve(**{word: case[word] for word in case if word != "expect"}).key}
        except UnknownModel as error:
            return {"error": error.code}

    assert [found(case) for case in FILE["cases"]] == [case["expect"] for case in FILE["cases"]]


def test_each_model_is_found_by_its_key_and_its_canonical_id(catalog):
    for model in AIModel.objects.select_related("provider"):
        assert resolve(model.key).id == model.pk
        assert resolve(model.canonical_id).canonical_id == model.canonical_id


def test_a_region_has_a_model_of_its_own_before_that_of_everywhere():
    bedrock = ProviderFactory(slug="bedrock")
    AIModelFactory(provider=bedrock, key="anthropic.claude-v1", name="anthropic.claude-v1")
    AIModelFactory(provider=bedrock, key="bedrock/us-east-1/anthropic.claude-v1", name="us-east-1/anthropic.claude-v1")

    def key(region):
        return resolve("anthropic.claude-v1", provider="bedrock", region=region).key

    assert key("us-east-1") == "bedrock/us-east-1/anthropic.claude-v1"
    assert key("eu-west-1") == key(None) == "anthropic.claude-v1"


def test_a_model_that_a_person_made_counts_as_its_providers(openai):
    model = AIModelFactory(provider=openai, key="tuned", name="tuned-2", source_provider="")

    assert resolve("tuned", provider="openai").id == resolve("openai/tuned-2").id == model.pk
    with pytest.raises(UnknownModel):
        resolve("tuned", provider="azure")


def test_a_key_is_meant_before_a_canonical_id(openai):
    bare = AIModelFactory(provider=openai, key="deep", name="deep")
    AIModelFactory(provider=openai, key="another", name="deep")

    assert resolve("openai/deep").id == bare.pk


def test_with_a_provider_aliases_do_not_count(gpt, acme):
    ModelAliasFactory(alias="fast", model=gpt)
    ModelAliasFactory(alias="gpt-4o", model=AIModelFactory(), tenant=acme)

    assert resolve("gpt-4o", tenant=acme, provider="openai").id == gpt.pk
    with pytest.raises(UnknownModel):
        resolve("fast", provider="openai")


def test_a_disabled_model_hides_what_would_come_after_it(openai):
    AIModelFactory(provider=openai, key="openai/o3", name="o3", enabled=False)
    AIModelFactory(provider=openai, key="o3", name="o3")

    with pytest.raises(ModelDisabled):
        resolve("o3", provider="openai")


# --- unknown names


def test_an_unknown_name_tells_what_was_tried_and_what_is_near(gpt):
    with pytest.raises(UnknownModel) as caught:
        resolve("gpt-4-o", provider="openai")

    assert caught.value.tried == ("openai/gpt-4-o", "gpt-4-o")
    assert caught.value.nearest == ("gpt-4o",)
    assert "openai/gpt-4-o" in caught.value.message
    assert "Did you mean gpt-4o?" in caught.value.message


def test_a_model_of_another_provider_is_what_may_have_been_meant(gpt):
    with pytest.raises(UnknownModel) as caught:
        resolve("gpt-4o", provider="azure")

    assert caught.value.nearest == ("gpt-4o",)


@pytest.mark.parametrize("name", ["nothing-like-it", "gpt-4-o", "gpt-4o"])
def test_known_or_not_it_takes_one_statement(gpt, name, django_assert_num_queries):
    with django_assert_num_queries(1), suppress(UnknownModel):
        resolve(name, provider="openai")


@pytest.mark.parametrize("garbage", ["", "a\x00b", "\ud800", "x" * 501, "ft:", "/", "::::", "%_\\", "'; --"])
def test_garbage_is_unknown_wherever_it_stands(gpt, garbage):
    for asked in ({"name": garbage}, {"name": garbage, "provider": "openai"}, {"name": "x", "provider": garbage},
                  {"name": "x", "region": garbage}, {"name": "x", "size": garbage, "quality": garbage}):  # fmt: skip
        with pytest.raises(UnknownModel) as caught:
            resolve(**asked)

        assert len(caught.value.message) < 1500


# --- what a record holds


def test_a_record_holds_limits_and_what_is_stated_of_abilities():
    model = AIModelFactory(
        max_input_tokens=200_000, max_tokens=8192, supports_vision=True, supports_reasoning=False,
        flags={"supports_rare": True, "supports_odd": "yes"}, source_provider="word",
    )  # fmt: skip

    record = resolve(model.key)

    assert (record.max_input_tokens, record.max_output_tokens, record.max_tokens) == (200_000, None, 8192)
    assert record.flags == {"vision": True, "reasoning": False, "rare": True}
    assert (record.family, record.source_provider) == ("generic", "word")


def test_a_record_cannot_be_changed(gpt):
    ModelPriceFactory(model=gpt)
    record = resolve("gpt-4o")

    with pytest.raises(AttributeError):
        record.key = "x"
    with pytest.raises(TypeError):
        record.flags["vision"] = True
    with pytest.raises(TypeError):
        record.prices[0].rates["input_cost_per_token"] = "0"


# --- prices of a record


def test_a_record_knows_the_price_of_each_instant_also_to_come(gpt):
    first = ModelPriceFactory(model=gpt, effective_from=JANUARY, effective_to=MARCH)
    later = ModelPriceFactory(model=gpt, effective_from=now() + timedelta(days=30), rates={"input_cost_per_token": "1"})
    ModelPriceFactory(model=gpt, effective_from=MARCH, effective_to=MARCH)  # void

    record = resolve("gpt-4o")

    assert record.price_at(JANUARY).id == record.price_at(MARCH - timedelta(microseconds=1)).id == first.pk
    assert record.price_at(JANUARY - timedelta(seconds=1)) is None
    assert record.price_at(MARCH) is None
    assert record.price_at(later.effective_from).id == later.pk
    assert record.price_at(later.effective_from).rates == {"input_cost_per_token": "1"}


def test_a_price_of_a_record_is_exact(gpt):
    price = ModelPriceFactory(
        model=gpt, discount_percent=Decimal("12.3456"), margin_percent=Decimal("0.1"),
        margin_fixed=Decimal("0.000000000001"), rates={"input_cost_per_token": "4.2000000000000006e-08"},
    )  # fmt: skip

    found = resolve("gpt-4o").price_at(JUNE)

    assert found.rates == price.rates
    assert [found.discount_percent, found.margin_percent, found.margin_fixed] == [
        Decimal("12.3456"), Decimal("0.1"), Decimal("0.000000000001"),
    ]  # fmt: skip
    assert (found.effective_from, found.effective_to, found.tenant_id) == (price.effective_from, None, None)


def test_a_tenants_own_price_replaces_the_list_price_and_is_no_others(gpt, acme, globex):
    listed = ModelPriceFactory(model=gpt, effective_from=JANUARY)
    own = ModelPriceFactory(model=gpt, tenant=acme, effective_from=MARCH, effective_to=JUNE)

    mine, theirs = resolve("gpt-4o", tenant=acme), resolve("gpt-4o", tenant=globex)

    assert [mine.price_at(at).id for at in (JANUARY, MARCH, JUNE)] == [listed.pk, own.pk, listed.pk]
    assert [theirs.price_at(at).id for at in (JANUARY, MARCH, JUNE)] == [listed.pk] * 3
    assert theirs.prices == resolve("gpt-4o").prices


def test_a_record_of_one_tenant_does_not_price_for_another(gpt, acme, globex):
    record = resolve("gpt-4o", tenant=acme)

    assert record.price_at(JUNE, tenant=acme) is record.price_at(JUNE, tenant=acme.pk) is None
    for stranger in (globex, globex.pk):
        with pytest.raises(OtherTenant) as caught:
            record.price_at(JUNE, tenant=stranger)
    assert isinstance(caught.value, CatalogError)
    assert caught.value.code == "other_tenant"
    with pytest.raises(OtherTenant):
        resolve("gpt-4o").price_at(JUNE, tenant=acme)


def test_a_record_and_the_model_agree_on_every_price(gpt, acme):
    starts = [JANUARY + timedelta(days=7 * week) for week in range(12)]
    for n, start in enumerate(starts):
        ModelPriceFactory(model=gpt, effective_from=start, effective_to=start + timedelta(days=n % 3 * 3))
        ModelPriceFactory(model=gpt, tenant=acme, effective_from=start, effective_to=start + timedelta(days=n % 4))

    for tenant in (None, acme):
        record = resolve("gpt-4o", tenant=tenant)
        for day in range(100):
            at = JANUARY + timedelta(days=day - 1)
            known, found = gpt.price_at(at, tenant), record.price_at(at)
            assert (found and found.id) == (known and known.pk)


# --- costs of a record

CALL = Usage(prompt_tokens=1_000_000, completion_tokens=1_000_000)


def test_a_record_prices_a_call_by_the_price_of_its_time_without_a_query(gpt, acme, django_assert_num_queries):
    listed = ModelPriceFactory(model=gpt, effective_from=JANUARY)
    own = ModelPriceFactory(model=gpt, tenant=acme, effective_from=MARCH, rates={"input_cost_per_token": "1e-06"})
    record = resolve("gpt-4o", tenant=acme)

    with django_assert_num_queries(0):
        by_list, by_own = record.cost(CALL, at=JANUARY), record.cost(replace(CALL, at=JUNE), tenant=acme)
        today = record.cost(CALL)

    assert (by_list.total, by_list.price_id) == (10, listed.pk)
    assert by_own.price_id == today.price_id == own.pk


def test_a_record_charges_by_all_that_its_price_and_provider_say():
    provider = ProviderFactory(slug="reseller", family="deepseek")
    terms = {"discount_percent": Decimal(10), "margin_percent": Decimal("12.5"), "margin_fixed": Decimal("0.01")}
    model = AIModelFactory(provider=provider, key="k", mode="chat", source_provider="word")
    ModelPriceFactory(model=model, **terms)
    usage = replace(CALL, service_tier="priority", cached_tokens=10, at=JUNE)

    assert resolve("k").cost(usage) == model.cost(usage)


def test_a_record_without_a_price_is_unpriced_never_free(gpt):
    priced = ModelPriceFactory(model=gpt, effective_from=JUNE)

    assert (resolve("gpt-4o").cost(CALL, at=MARCH).total, resolve("gpt-4o").cost(CALL, at=MARCH).status) == (
        None,
        "unpriced",
    )
    assert resolve("gpt-4o").cost(CALL, at=priced.effective_from).status == "priced"


def test_the_family_of_a_record_is_its_providers_or_follows_from_the_slug():
    for slug, family, known in (
        ("openai", "", "openai"), ("qwencloud", "", "dashscope"), ("house", "", "generic"), ("shop", "azure", "azure"),
    ):  # fmt: skip
        model = AIModelFactory(provider=ProviderFactory(slug=slug, family=family))

        assert resolve(model.key).family == known


# --- what prices a call


@pytest.fixture
def snapshot(openai):
    return AIModelFactory(provider=openai, key="gpt-4o-2024-08-06", name="gpt-4o-2024-08-06")


def priced_by(served, tenant=None, at=JUNE):
    model, price = what_prices(resolve("gpt-4o", tenant=tenant), served, at)
    return model.key, price and price.id


def test_the_model_that_served_prices_the_call(gpt, snapshot, acme):
    ModelPriceFactory(model=gpt)
    actual = ModelPriceFactory(model=snapshot)
    tenants = ModelPriceFactory(model=snapshot, tenant=acme)

    assert priced_by("gpt-4o-2024-08-06") == priced_by("GPT-4o-2024-08-06") == (snapshot.key, actual.pk)
    assert priced_by("gpt-4o-2024-08-06", tenant=acme) == (snapshot.key, tenants.pk)


def test_without_rates_of_the_model_that_served_the_one_asked_for_prices_the_call(gpt, snapshot):
    asked = ModelPriceFactory(model=gpt)

    for served in ("", "never-heard-of", snapshot.key):
        assert priced_by(served) == ("gpt-4o", asked.pk)
    ModelPriceFactory(model=snapshot, rates={})
    assert priced_by(snapshot.key) == ("gpt-4o", asked.pk)
    ModelPriceFactory(model=AIModelFactory(key="claude", name="claude"))
    assert priced_by("claude") == ("gpt-4o", asked.pk)  # of another provider


def test_a_tenants_price_of_what_it_asked_for_beats_both(gpt, snapshot, acme, globex):
    ModelPriceFactory(model=gpt)
    actual = ModelPriceFactory(model=snapshot)
    own = ModelPriceFactory(model=gpt, tenant=acme, effective_to=JUNE)

    assert priced_by(snapshot.key, tenant=acme, at=MARCH) == ("gpt-4o", own.pk)
    for tenant, at in ((acme, JUNE), (globex, MARCH), (None, MARCH)):
        assert priced_by(snapshot.key, tenant=tenant, at=at) == (snapshot.key, actual.pk)


def test_a_model_switched_off_still_prices_what_it_served(gpt, snapshot):
    ModelPriceFactory(model=gpt)
    actual = ModelPriceFactory(model=snapshot)
    AIModel.objects.filter(pk=snapshot.pk).update(enabled=False)

    assert priced_by(snapshot.key) == (snapshot.key, actual.pk)


def test_nothing_prices_what_has_no_price(gpt):
    assert priced_by("anything") == ("gpt-4o", None)


def test_a_tenants_price_without_rates_beats_nothing(gpt, snapshot, acme):
    ModelPriceFactory(model=gpt, tenant=acme, rates={})
    actual = ModelPriceFactory(model=snapshot)

    assert priced_by(snapshot.key, tenant=acme) == (snapshot.key, actual.pk)
    assert priced_by("", tenant=acme) == ("gpt-4o", None)
