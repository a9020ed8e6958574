"""Which rules apply: kind, family, service tier, wall clock, no price."""

from __future__ import annotations

import decimal
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest

from catalog.errors import BadRate
from catalog.pricing import Rates, Usage, cost
from catalog.pricing.rates import family_of
from tests.catalog.pricing.bills import CR, CW, I, O, lines, price

PRICE = UUID("01930000-0000-7000-8000-000000000001")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("image_generation", "image"), ("image_edit", "image"), ("video_generation", "video"), ("audio_speech", "speech"),
        ("audio_transcription", "transcription"), ("rerank", "rerank"), ("search", "search"), ("ocr", "ocr"),
        ("chat", "tokens"), ("embedding", "tokens"), ("", "tokens"), ("anything", "tokens"), (None, "tokens"),
    ],
)  # fmt: skip
def test_the_mode_of_a_model_says_the_kind_of_its_calls(mode, kind):
    assert Rates.from_entry({}, "openai", mode=mode).kind == kind


def test_an_entry_of_a_price_file_says_its_mode_and_provider_word():
    entry = {I: "2", "mode": "rerank", "litellm_provider": "fireworks_ai"}

    rates = Rates.from_entry(entry, "fireworks_ai")

    assert rates.kind == "rerank"
    assert rates.tokens.prices[CR].value == 1


def test_a_usage_may_say_its_kind():
    found = price({I: "2", "input_cost_per_query": "5"}, mode="rerank", kind="tokens", prompt_tokens=3)

    assert lines(found) == {"text": (3, 2)}


def test_decisions_have_rates_of_their_own_where_stated():
    entry = {
        I: "2",
        O: "3",
        f"{I}_above_1k_tokens": "4",
        f"{I}_decisions": "20",
        f"{I}_above_1k_tokens_decisions": "40",
    }
    calls = [price(entry, kind="decisions", prompt_tokens=prompt, completion_tokens=1) for prompt in (10, 2000)]

    assert [lines(call) for call in calls] == [
        {"text": (10, 20), "output": (1, 3)},
        {"text": (2000, 40), "output": (1, 3)},
    ]
    assert calls[0].lines[0].field == f"{I}_decisions"


def test_decisions_without_rates_of_their_own_cost_as_tokens():
    assert price({I: "2"}, kind="decisions", prompt_tokens=1).total == 2


@pytest.mark.parametrize(
    ("word", "family"),
    [
        ("vertex_ai", "vertex_ai"), ("vertex_ai-language-models", "vertex_ai"), ("bedrock", "bedrock"),
        ("bedrock_converse", "bedrock"), ("bedrock_mantle", "generic"), ("fireworks_ai-embedding-models", "fireworks_ai"),
        ("dashscope", "dashscope"), ("qwencloud", "dashscope"), ("qwen_ai_platform", "dashscope"), ("openai", "openai"),
        ("anthropic", "anthropic"), ("gemini", "gemini"), ("azure", "azure"), ("azure_ai", "azure_ai"),
        ("deepseek", "deepseek"), ("tencent", "tencent"), ("xai", "xai"), ("perplexity", "perplexity"),
        ("lemonade", "lemonade"), ("databricks", "databricks"), ("mistral", "generic"), ("", "generic"),
    ],
)  # fmt: skip
def test_the_provider_says_whose_rules_hold(word, family):
    assert family_of(word) == family


@pytest.mark.parametrize(("family", "expected"), [("", "generic"), ("xai", "xai"), ("qwencloud", "dashscope")])
def test_a_provider_may_follow_the_rules_of_another(family, expected):
    provider = SimpleNamespace(slug="acme-llm", family=family)

    rates = Rates.from_entry({}, provider)

    assert (rates.provider, rates.family) == ("acme-llm", expected)


@pytest.mark.parametrize(
    ("tier", "rate"),
    [
        ("priority", 5), ("PRIORITY", 5), ("fast", 5), ("flex", 1), ("balanced", 2), ("ultrafast", 2), ("auto", 2),
        ("default", 2), ("scale", 2), ("", 2), ("batches", 2),
    ],
)  # fmt: skip
def test_a_service_tier_has_its_own_rates_where_stated(tier, rate):
    entry = {I: "2", f"{I}_priority": "5", f"{I}_flex": "1", f"{I}_batches": "9"}

    assert price(entry, prompt_tokens=1, service_tier=tier).total == rate


@pytest.mark.parametrize("family", ["fireworks_ai", "deepseek", "tencent", "xai", "perplexity", "dashscope"])
def test_some_families_sell_no_service_tiers(family):
    assert price({I: "2", f"{I}_priority": "5"}, family, prompt_tokens=1, service_tier="priority").total == 2


def test_a_batch_has_no_service_tier():
    assert price({I: "2", f"{I}_priority": "5"}, prompt_tokens=1, service_tier="priority", batch=True).total == 1


@pytest.mark.parametrize(
    ("entry", "rate"),
    [
        ({"cost_per_second": "2", "input_cost_per_second": "3"}, 2),
        ({"input_cost_per_second": "3", "output_cost_per_second": "4"}, 3),
        ({"output_cost_per_second": "4", I: "0", O: "0"}, 4),
    ],
)
@pytest.mark.parametrize("provider", ["bedrock", "xai", "openai"])
def test_provisioned_throughput_is_charged_by_the_second_it_took(entry, rate, provider):
    found = price(entry, provider, prompt_tokens=9, completion_tokens=9, duration_seconds=Decimal("1.5"), mode="chat")

    assert lines(found) == {"duration_seconds": (Decimal("1.5"), rate)}
    assert (found.input, found.output) == (rate * Decimal("1.5"), 0)


@pytest.mark.parametrize(
    ("more", "given"),
    [({I: "1"}, {}), ({O: "1"}, {}), ({"tiered_pricing": []}, {}), ({}, {"mode": "realtime"}), ({}, {"batch": True})],
)
def test_time_is_not_charged_where_anything_else_is(more, given):
    found = price({"cost_per_second": "2", **more}, duration_seconds=Decimal(1), **{"mode": "chat", **given})

    assert found.lines == ()


def test_no_time_costs_nothing_by_the_second():
    assert price({"cost_per_second": "2"}, mode="chat", prompt_tokens=5).total == 0


@pytest.mark.parametrize(
    "used", [{"prompt_tokens": 1}, {"images": 1}, {"cached_tokens": 1}, {"audio_seconds": Decimal(1)}, {"queries": 1}]
)
def test_input_without_any_price_of_input_is_unpriced(used):
    found = price({O: "2"}, **used)

    assert (found.status, found.total, found.input, found.output, found.tools) == ("unpriced", None, None, None, None)
    assert found.lines == ()


@pytest.mark.parametrize("used", [{"completion_tokens": 1}, {"reasoning_tokens": 1}, {"output_audio_tokens": 1}])
def test_output_without_any_price_of_output_is_unpriced(used):
    assert price({I: "2"}, **used).status == "unpriced"


def test_a_side_without_price_that_is_not_used_does_no_harm():
    assert price({I: "2"}, prompt_tokens=3).total == 6


def test_a_call_that_used_nothing_costs_nothing_even_without_prices():
    assert price({}).total == 0


def test_a_price_of_another_service_tier_is_none_of_this_one():
    entry = {f"{I}_priority": "5"}

    assert price(entry, prompt_tokens=1).status == "unpriced"
    assert price(entry, prompt_tokens=1, service_tier="priority").total == 5


@pytest.mark.parametrize(
    "name",
    [
        "input_cost_per_token_cache_hit", "cache_read_input_image_token_cost", "cache_creation_input_audio_token_cost",
        "input_cost_per_request", "input_cost_per_video_per_second_above_8s_interval", "input_cost_per_text_message",
        "input_dbu_cost_per_token", "input_cost_per_token_batches", "search_free_requests_cost",
    ],
)  # fmt: skip
def test_what_no_rule_prices_makes_no_call_priced(name):
    assert price({name: "1"}, prompt_tokens=1).status == "unpriced"


def test_a_unit_without_rate_beside_priced_ones_costs_nothing_and_is_listed():
    found = price({"input_cost_per_audio_token": "2"}, prompt_tokens=9, text_tokens=5, audio_tokens=4, cached_tokens=0)

    assert lines(found) == {"audio": (4, 2)}
    assert (found.status, found.unrated) == ("priced", ("text",))


def test_every_unit_without_rate_is_listed():
    entry = {"input_cost_per_audio_token": "2"}

    assert price(entry, prompt_tokens=9, cache_write_tokens=5, cache_write_1h_tokens=5).unrated == (
        "text",
        "cache_write_1h",
    )
    assert price({"output_cost_per_character": "1"}, completion_tokens=3).unrated == ("output",)


def test_zero_is_a_rate():
    found = price({I: "0", O: "0.0"}, prompt_tokens=5, completion_tokens=5)

    assert (found.total, found.status, found.unrated) == (0, "priced", ())


def test_null_is_no_rate():
    assert price({I: "2", CR: None, CW: None}, prompt_tokens=3, cached_tokens=1).total == 6


def test_guessed_counts_make_an_estimated_cost():
    assert price({I: "2"}, prompt_tokens=1, estimated=True).status == "estimated"


def test_a_cost_names_its_price_and_currency():
    found = price({I: "2"}, price_id=PRICE, prompt_tokens=1)

    assert (found.price_id, found.currency) == (PRICE, "USD")
    assert price({}, price_id=PRICE, prompt_tokens=1).price_id == PRICE


def test_the_context_of_the_caller_neither_matters_nor_changes():
    rates = Rates.from_entry({I: "0.123456789012345678901234567890"}, "openai", margin_percent=Decimal("12.3456"))
    exact = cost(rates, Usage(prompt_tokens=7))
    with decimal.localcontext(prec=3, rounding=decimal.ROUND_UP) as context:
        context.clear_flags()
        again = Rates.from_entry({I: "0.123456789012345678901234567890"}, "openai", margin_percent=Decimal("12.3456"))

        assert cost(again, Usage(prompt_tokens=7)) == exact
        assert decimal.getcontext() is context
        assert not context.flags[decimal.Inexact]


@pytest.mark.parametrize("value", [1.5, True, "abc", "NaN", "Infinity", "-1", Decimal("-1"), -1, "", "1/2"])
def test_a_price_field_that_is_no_rate_is_refused(value):
    with pytest.raises(BadRate, match=I) as refused:
        Rates.from_entry({I: value}, "openai")

    assert (refused.value.code, refused.value.field) == ("bad_rate", I)


def test_numbers_may_be_text_ints_or_decimals():
    for value in ("2", "2.0", "2e0", 2, Decimal(2)):
        assert price({I: value}, prompt_tokens=3).total == 6


@pytest.mark.parametrize("name", ["discount_percent", "margin_percent", "margin_fixed"])
def test_terms_that_are_no_numbers_are_refused(name):
    with pytest.raises(BadRate, match=name):
        Rates.from_entry({}, "openai", **{name: Decimal("NaN")})


def test_other_fields_and_tables_are_left_alone():
    entry = {I: "2", "guardrail_cost_per_unit": {"word": "1"}, "max_tokens": 5, "supports_vision": True, "source": "x"}

    assert price(entry, prompt_tokens=1).total == 2
