from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.importing import parse, to_json
from catalog.importing.fields import is_price, is_priced
from catalog.importing.mapping import COLUMNS, EMPTY, plain, provider_name, to_entry
from catalog.models import AIModel
from tests.catalog.importing.files import chat, dump


def mapped(value, key="gpt-test"):
    return parse(dump({key: value}), "p.json").entries[key]


@pytest.mark.parametrize(
    ("word", "slug"),
    [
        ("openai", "openai"),
        ("vertex_ai-language-models", "vertex_ai"),
        ("vertex_ai_beta", "vertex_ai"),
        ("bedrock_converse", "bedrock"),
        ("bedrock_mantle", "bedrock_mantle"),
        ("fireworks_ai-embedding-models", "fireworks_ai"),
        ("azure_ai", "azure_ai"),
    ],
)
def test_the_words_of_a_provider_fold_and_the_word_is_kept(word, slug):
    model = mapped(chat(litellm_provider=word))

    assert (model.provider, model.columns["source_provider"]) == (slug, word)


@pytest.mark.parametrize(
    ("key", "provider", "name"),
    [
        ("gpt-4o", "openai", "gpt-4o"),
        ("gemini/gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("openrouter/gemini/pro", "openrouter", "gemini/pro"),
        ("azure/eu/gpt-4o", "azure", "eu/gpt-4o"),
        ("gemini/gemini/pro", "gemini", "gemini/pro"),
        ("geminis/pro", "gemini", "geminis/pro"),
    ],
)
def test_a_name_is_the_key_without_its_provider(key, provider, name):
    assert mapped(chat(litellm_provider=provider), key).columns["name"] == name


def test_each_kind_of_field_has_its_place():
    model = mapped(
        chat(
            deprecation_date="2027-02-03", source="https://example.org/p", supported_modalities=["text"],
            supported_output_modalities=["audio"], supported_regions=["global"], supported_endpoints=["/v1/x"], rpm=1000.0,
            supports_none_reasoning_effort=True, metadata={"n": 1.5}, thinking_always_on=False, output_vector_size=3,
            web_search_billing_unit="per_query", search_free_requests={"count": 5000, "period": "month"},
        )
    )  # fmt: skip

    assert model.columns == {
        **EMPTY,
        "name": "gpt-test", "source_provider": "openai", "mode": "chat", "max_input_tokens": 128000, "max_output_tokens": 16384,
        "supports_vision": True, "deprecation_date": date(2027, 2, 3), "source_url": "https://example.org/p",
        "input_modalities": ["text"], "output_modalities": ["audio"], "regions": ["global"], "supported_endpoints": ["/v1/x"],
        "rpm": 1000, "output_vector_size": 3, "flags": {"supports_none_reasoning_effort": True},
        "extra": {"metadata": {"n": Decimal("1.5")}, "thinking_always_on": False},
    }  # fmt: skip
    assert model.rates == {
        "input_cost_per_token": "2.5e-06", "output_cost_per_token": "1e-05", "web_search_billing_unit": "per_query",
        "search_free_requests": {"count": "5000", "period": "month"},
    }  # fmt: skip


def test_every_column_of_the_source_is_one_of_the_model():
    names = {field.attname for field in AIModel._meta.fields}

    assert {fit.column for fit in COLUMNS.values()} <= names
    assert len({fit.column for fit in COLUMNS.values()}) == len(COLUMNS)


@pytest.mark.parametrize(
    "field",
    ["input_cost_per_token_above_272k_tokens_priority", "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
     "output_cost_per_image_0.5K", "output_cost_per_second_4k", "regional_processing_uplift_multiplier_eu", "tiered_pricing"],
)  # fmt: skip
def test_a_field_that_a_rule_reads_is_known(field):
    assert is_price(field)
    assert is_priced(field)


@pytest.mark.parametrize(
    "field", ["input_cost_per_tokens", "input_cost_per_token_cache_hit", "input_cost_per_character_above_128k_tokens"]
)
def test_a_price_field_that_no_rule_reads_is_known_as_such(field):
    assert is_price(field)
    assert not is_priced(field)


@pytest.mark.parametrize("field", ["max_tokens", "token_count_model", "metadata", "mode"])
def test_other_fields_are_no_prices(field):
    assert not is_price(field)


@pytest.mark.parametrize(
    ("literal", "stored"),
    [
        ("4.2000000000000006e-08", "4.2000000000000006e-08"),
        ("0", "0"),
        ("0.0", "0.0"),
        ("-0.0", "0"),
        ("1e-007", "0.0000001"),
        ("1E-7", "1E-7"),
        ("1e+5", "1e+5"),
        ("0e-999", "0"),
        ("0." + "0" * 29 + "1" + "0" * 50, "0." + "0" * 29 + "1"),
        ("0.123456789012345678901234567891" + "0" * 40, "0.123456789012345678901234567891"),
    ],
)
def test_a_rate_is_stored_as_it_was_written_or_in_a_form_that_the_database_takes(literal, stored):
    text = f'{{"m": {{"litellm_provider": "x", "input_cost_per_token": {literal}}}}}'

    assert parse(text.encode(), "p").entries["m"].rates == {"input_cost_per_token": stored}


@pytest.mark.parametrize(("value", "text"), [("0.000030", "0.00003"), ("3E+1", "30"), ("0E-9", "0"), ("5", "5")])
def test_a_number_is_written_plainly(value, text):
    assert plain(Decimal(value)) == text


def test_providers_have_names_for_people():
    assert provider_name("openai") == "OpenAI"
    assert provider_name("you_com") == "You Com"


NUMBERS = st.decimals(0, 10**6, places=9) | st.integers(0, 10**9)
RATES = st.dictionaries(
    st.sampled_from(["input_cost_per_token", "output_cost_per_token_priority", "made_up_cost", "x_multiplier"]), NUMBERS
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
FIELDS = st.sampled_from([*COLUMNS, "supports_rarely", "notes", "metadata"]).filter(
    lambda name: name != "litellm_provider"
)


@given(RATES, st.dictionaries(FIELDS, JSON), st.sampled_from(["openai", "vertex_ai-text-models"]))
def test_an_entry_comes_back_equal_in_value_whatever_it_says(rates, others, provider):
    entry = {"litellm_provider": provider, **others, **rates}
    text = to_json({"m": entry})

    [model] = parse(text.encode(), "p").entries.values()

    assert typed(to_entry(model.columns, model.rates)) == typed(entry)


def typed(value):
    """A value in which true is not 1."""
    if isinstance(value, dict):
        return {name: typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return (isinstance(value, bool), value)


def test_json_is_written_with_every_digit():
    value = {"a": [Decimal("0.1"), Decimal("1E-30"), 5, True, None, "ü\u2028"], 'b"': {}}

    assert json.loads(to_json(value), parse_float=Decimal) == value
