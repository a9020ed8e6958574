from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.core.exceptions import ValidationError

from catalog.errors import AliasError, ModelDisabled, UnknownModel
from catalog.models import CAPABILITIES, AIModel, ModelAlias, Provider
from controlplane.core.ids import now
from tenants.scope import tenant_scope
from tests.factories import AIModelFactory, ModelAliasFactory, ProviderFactory

resolve = AIModel.objects.resolve


@pytest.fixture
def openai(db):
    return ProviderFactory(slug="openai", name="OpenAI")


@pytest.fixture
def gpt(openai):
    return AIModelFactory(
        provider=openai, key="gpt-4o", name="gpt-4o", max_input_tokens=128_000, max_output_tokens=16_384
    )


# --- names


@pytest.mark.parametrize("name", ["gpt-4o", "GPT-4O", "openai/gpt-4o", "OpenAI/gpt-4o", "openai/GPT-4o"])
def test_a_model_is_found_by_key_and_canonical_id_in_any_case(gpt, name):
    record = resolve(name)

    assert (record.id, record.key, record.provider, record.name) == (gpt.pk, "gpt-4o", "openai", "gpt-4o")
    assert record.canonical_id == gpt.canonical_id == "openai/gpt-4o"
    assert (record.mode, record.max_input_tokens, record.max_output_tokens) == ("chat", 128_000, 16_384)


@pytest.mark.parametrize(
    "name", ["", " ", "gpt", "gpt-4", "gpt-4o ", "azure/gpt-4o", "/gpt-4o", "openai/", "openai/gpt-4o/x", "openai//gpt-4o",
             "%", "gpt_4o", "a\x00b", "x" * 10_000]
)  # fmt: skip
def test_a_name_that_is_not_quite_it_is_unknown(gpt, name):
    with pytest.raises(UnknownModel) as caught:
        resolve(name)

    assert (caught.value.code, caught.value.http_status, caught.value.name) == ("unknown_model", 404, name)
    assert len(caught.value.message) < 1000


def test_an_unknown_name_comes_with_the_nearest(gpt):
    AIModelFactory(provider=gpt.provider, key="gpt-4o-mini")
    AIModelFactory(key="claude-3-opus")

    with pytest.raises(UnknownModel, match="gpt-4o") as caught:
        resolve("gpt-4p")

    assert "claude-3-opus" not in caught.value.nearest
    assert set(caught.value.nearest) <= {"gpt-4o", "gpt-4o-mini"}


def test_a_disabled_model_is_not_proposed_and_not_used(gpt, openai):
    AIModel.objects.filter(pk=gpt.pk).update(enabled=False)

    with pytest.raises(ModelDisabled) as caught:
        resolve("gpt-4o")
    assert (caught.value.code, caught.value.http_status) == ("model_disabled", 403)
    with pytest.raises(UnknownModel) as unknown:
        resolve("gpt-4x")
    assert unknown.value.nearest == ()


def test_a_model_of_a_disabled_provider_is_disabled(gpt, openai):
    Provider.objects.filter(pk=openai.pk).update(enabled=False)

    with pytest.raises(ModelDisabled):
        resolve("openai/gpt-4o")


def test_an_alias_for_everybody_means_its_model(gpt, acme):
    ModelAliasFactory(alias="Fast", model=gpt)

    for tenant in (None, acme, acme.pk):
        assert resolve("fast", tenant=tenant).id == gpt.pk


def test_a_tenants_alias_is_its_own_and_wins(gpt, acme, globex):
    other = AIModelFactory(key="other")
    ModelAliasFactory(alias="fast", model=gpt)
    ModelAliasFactory(alias="fast", model=other, tenant=acme)
    ModelAliasFactory(alias="gpt-4o", model=other, tenant=acme)

    assert resolve("fast", tenant=acme).id == resolve("gpt-4o", tenant=acme).id == other.pk
    for tenant in (None, globex):
        assert resolve("fast", tenant=tenant).id == resolve("gpt-4o", tenant=tenant).id == gpt.pk


def test_an_alias_switched_off_is_none(gpt):
    ModelAliasFactory(alias="fast", model=gpt, enabled=False)

    with pytest.raises(UnknownModel):
        resolve("fast")


def test_an_alias_of_a_disabled_model_is_disabled_and_falls_back_on_nothing(gpt, acme):
    ModelAliasFactory(alias="fast", model=gpt)
    ModelAliasFactory(alias="fast", model=AIModelFactory(enabled=False), tenant=acme)

    with pytest.raises(ModelDisabled):
        resolve("fast", tenant=acme)


def test_of_two_models_of_one_canonical_id_the_first_key_is_meant_always(openai):
    AIModelFactory(provider=openai, key="openai/deep", name="deep")
    AIModelFactory(provider=openai, key="deep", name="deep")

    assert resolve("openai/deep").key == "openai/deep"
    assert resolve("deep").key == "deep"


def test_a_name_is_resolved_in_one_statement(gpt, django_assert_num_queries):
    with django_assert_num_queries(1):
        resolve("gpt-4o")


def test_a_tenant_resolves_in_its_own_scope_and_sees_no_others_alias(gpt, acme, globex):
    ModelAliasFactory(alias="mine", model=gpt, tenant=acme)
    ModelAliasFactory(alias="theirs", model=gpt, tenant=globex)

    with tenant_scope(acme):
        assert resolve("mine", tenant=acme).id == gpt.pk
        with pytest.raises(UnknownModel):
            resolve("theirs", tenant=globex)


# --- aliases


@pytest.mark.parametrize("alias", ["gpt-4o", "GPT-4O"])
def test_an_alias_that_would_hide_a_model_is_refused_with_words(gpt, alias):
    with pytest.raises(AliasError) as caught:
        ModelAliasFactory(alias=alias, model=gpt)
    with pytest.raises(ValidationError) as invalid:
        ModelAlias(alias=alias, model=gpt).full_clean()

    assert caught.value.code == "alias_shadows_model"
    assert invalid.value.error_dict["alias"][0].code == "alias_shadows_model"


def test_a_model_that_an_alias_would_hide_is_refused_with_words(gpt):
    ModelAliasFactory(alias="fast", model=gpt)

    with pytest.raises(ValidationError) as invalid:
        AIModelFactory.build(provider=gpt.provider, key="FAST").full_clean()

    assert invalid.value.error_dict["key"][0].code == "alias_taken"


def test_a_tenant_sees_its_aliases_and_those_of_everybody(gpt, acme, globex):
    shared, mine = ModelAliasFactory(model=gpt), ModelAliasFactory(model=gpt, tenant=acme)
    ModelAliasFactory(model=gpt, tenant=globex)

    assert set(ModelAlias.objects.for_tenant(acme)) == {shared, mine}


# --- models


def test_a_key_left_blank_is_the_canonical_id(openai):
    model = AIModel.objects.create(provider=openai, name="new")
    form = AIModel(provider=openai, name="newer")
    form.full_clean()

    assert model.key == "openai/new"
    assert form.key == "openai/newer"


def test_models_are_filtered_by_provider_mode_and_use(gpt, openai):
    image = AIModelFactory(provider=openai, mode="image_generation")
    AIModelFactory(provider=ProviderFactory(enabled=False))
    off = AIModelFactory(enabled=False)

    assert set(AIModel.objects.for_provider(openai)) == set(AIModel.objects.for_provider("openai")) == {gpt, image}
    assert set(AIModel.objects.with_mode("image_generation")) == {image}
    assert set(AIModel.objects.enabled()) == {gpt, image}
    assert off not in AIModel.objects.enabled()


def test_search_puts_the_most_alike_first(openai):
    for key in ("claude-3-5-sonnet", "claude-3-opus", "gpt-4o", "sonar"):
        AIModelFactory(provider=openai, key=key)

    assert [model.key for model in AIModel.objects.search("sonet")][:1] == ["claude-3-5-sonnet"]
    assert AIModel.objects.search("CLAUDE-3-OPUS")[0].key == "claude-3-opus"
    assert list(AIModel.objects.search("zzzz")) == []
    assert len(AIModel.objects.search("claude", limit=1)) == 1
    assert list(AIModel.objects.search("claude", provider="other")) == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "active"),
        ({"deprecation_date": date(2020, 1, 1)}, "deprecated"),
        ({"deprecation_date": now().date()}, "deprecated"),
        ({"deprecation_date": now().date() + timedelta(days=300)}, "active"),
        ({"unlisted_at": now(), "deprecation_date": date(2020, 1, 1)}, "unlisted"),
        ({"enabled": False, "unlisted_at": now()}, "disabled"),
    ],
)
def test_a_status_for_people(fields, status):
    assert AIModel(**fields).status == status


def test_each_capability_has_its_column():
    columns = {field.name for field in AIModel._meta.concrete_fields}

    assert len(CAPABILITIES) == len(set(CAPABILITIES)) == 20
    assert {f"supports_{name}" for name in CAPABILITIES} <= columns
