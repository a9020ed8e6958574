"""Providers with rules of their own, and surcharges."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.catalog.pricing.bills import CR, CW, CW_1H, EXPLICIT, REASONING, TUESDAY, I, O, lines, price

TEXT = {I: "2", O: "3"}
LOW = {"search_context_cost_per_query": {"search_context_size_low": "5", "search_context_size_medium": "8"}}


# dashscope and its names

ROWS = [{"range": ["0", "10"], I: "2", O: "20", REASONING: "25"}, {"range": ["10", "99"], I: "3"}]


@pytest.mark.parametrize("provider", ["dashscope", "qwencloud", "qwen_ai_platform"])
def test_dashscope_takes_the_row_of_all_that_was_read(provider):
    entry = {"tiered_pricing": ROWS, I: "90", O: "9", REASONING: "8"}

    low = price(entry, provider, prompt_tokens=10, completion_tokens=5, reasoning_tokens=2)
    high = price(
        entry, provider, prompt_tokens=5, cached_tokens=6, cache_write_tokens=5, completion_tokens=5, reasoning_tokens=2
    )

    assert lines(low) == {"text": (10, 2), "output": (3, 20), "reasoning": (2, 25)}
    assert lines(high) == {"cache_read": (6, 3), "cache_write": (5, 3), "output": (3, 9), "reasoning": (2, 8)}


def test_dashscope_has_no_thresholds_no_times_to_live_and_no_modalities():
    entry = {**TEXT, CR: "1", CW: "4", CW_1H: "6", f"{I}_above_5_tokens": "9", "input_cost_per_audio_token": "7"}
    used = {
        "prompt_tokens": 10,
        "cached_tokens": 1,
        "cache_write_tokens": 2,
        "cache_write_1h_tokens": 2,
        "audio_tokens": 3,
    }

    assert lines(price(entry, "dashscope", **used)) == {"text": (7, 2), "cache_read": (1, 1), "cache_write": (2, 4)}


def test_dashscope_charges_reasoning_as_output_where_a_row_has_an_output_rate_alone():
    entry = {"tiered_pricing": [{"range": ["0", "10"], I: "2", O: "20"}], REASONING: "8"}

    assert lines(price(entry, "dashscope", prompt_tokens=1, completion_tokens=1, reasoning_tokens=1))["reasoning"] == (
        1,
        20,
    )


def test_dashscope_without_a_row_has_the_rates_of_the_price():
    assert lines(price({"tiered_pricing": ROWS, O: "9"}, "dashscope", completion_tokens=1)) == {"output": (1, 9)}
    without_input = {"tiered_pricing": [{"range": ["0", "9"], O: "7"}], **TEXT}
    assert lines(price(without_input, "dashscope", prompt_tokens=1, completion_tokens=1)) == {
        "text": (1, 2),
        "output": (1, 3),
    }


def test_dashscope_has_off_peak_hours():
    block = {"hours_utc": "00:00-00:00", I: "0.2", O: "0.3", REASONING: "0.4"}
    used = {"prompt_tokens": 2, "cached_tokens": 1, "completion_tokens": 2, "reasoning_tokens": 1, "at": TUESDAY}

    found = lines(price({**TEXT, "off_peak_pricing": block}, "dashscope", **used))

    assert {kind: str(rate) for kind, (_, rate) in found.items()} == {
        "text": "0.2", "cache_read": "2", "output": "0.3", "reasoning": "0.4",
    }  # fmt: skip


def test_dashscope_takes_the_explicit_rate_of_the_reported_prompt():
    rows = [{"range": ["0", "10"], I: "2", EXPLICIT: "0.2"}, {"range": ["10", "99"], I: "3", EXPLICIT: "0.3"}]
    found = price({"tiered_pricing": rows}, "dashscope", prompt_tokens=5, cached_tokens=12, cache_type="ephemeral")

    assert lines(found) == {"cache_read": (12, Decimal("0.2"))}


def test_dashscope_without_prices_of_a_side_is_unpriced():
    assert price({I: "1"}, "dashscope", completion_tokens=1).status == "unpriced"


# perplexity


def test_perplexity_charges_its_searches_at_the_low_rate_on_the_output():
    entry = {**TEXT, REASONING: "4", "citation_cost_per_token": "7", **LOW}
    used = {
        "prompt_tokens": 10,
        "cached_tokens": 5,
        "citation_tokens": 2,
        "completion_tokens": 5,
        "reasoning_tokens": 1,
    }

    found = price(entry, "perplexity", web_searches=3, **used)

    assert lines(found) == {
        "text": (10, 2), "citations": (2, 7), "output": (4, 3), "reasoning": (1, 4), "web_searches": (3, 5),
    }  # fmt: skip
    assert (found.input, found.output, found.tools) == (34, 31, 0)


def test_perplexity_without_reasoning_rate_charges_all_output_alike():
    assert lines(price(TEXT, "perplexity", completion_tokens=5, reasoning_tokens=1)) == {"output": (5, 3)}


def test_perplexity_lists_what_has_no_rate():
    found = price(TEXT, "perplexity", prompt_tokens=1, citation_tokens=2, web_searches=3)

    assert (found.total, found.unrated) == (2, ("citations", "web_searches"))


def test_perplexity_costs_what_it_says_it_charged():
    found = price({}, "perplexity", prompt_tokens=10, completion_tokens=5, web_searches=3, provider_cost=Decimal("0.7"))

    assert (found.input, found.output, found.tools, found.total) == (0, Decimal("0.7"), 0, Decimal("0.7"))
    assert price(TEXT, "perplexity", prompt_tokens=10, provider_cost=Decimal(0)).total == 0


def test_perplexity_has_off_peak_hours_and_may_be_unpriced():
    entry = {**TEXT, "off_peak_pricing": {"hours_utc": "00:00-00:00", I: "0.2", O: "0.3"}}

    assert price(entry, "perplexity", prompt_tokens=1, completion_tokens=1, at=TUESDAY).total == Decimal("0.5")
    assert price({I: "1"}, "perplexity", completion_tokens=1).status == "unpriced"


# xai


def test_xai_charges_all_output_alike():
    entry = {**TEXT, REASONING: "9", "output_cost_per_audio_token": "9"}
    found = price(entry, "xai", prompt_tokens=4, completion_tokens=5, reasoning_tokens=2, output_audio_tokens=1)

    assert lines(found) == {"text": (4, 2), "output": (5, 3)}


def test_xai_splits_what_it_says_it_charged_in_the_ratio_of_its_rates():
    found = price(TEXT, "xai", prompt_tokens=1, completion_tokens=1, provider_cost=Decimal("0.01"))

    assert (found.input, found.output) == (Decimal("0.004"), Decimal("0.006"))
    assert [(line.kind, line.unit) for line in found.lines] == [("provider_cost", "USD")] * 2


def test_xai_splits_without_losing_the_smallest_part():
    found = price({I: "1", O: "2"}, "xai", prompt_tokens=1, completion_tokens=1, provider_cost=Decimal("0.01"))

    assert found.total == Decimal("0.01")
    assert found.input == Decimal("0.003333333333333333333333333333")


@pytest.mark.parametrize("entry", [{}, {I: "0", O: "0"}])
def test_xai_charges_on_the_output_what_it_says_where_rates_say_nothing(entry):
    found = price(entry, "xai", prompt_tokens=1, completion_tokens=1, web_searches=1, provider_cost=Decimal("0.01"))

    assert (found.input, found.output, found.tools, found.unrated) == (0, Decimal("0.01"), 0, ())
    assert price(entry, "xai", prompt_tokens=1, provider_cost=Decimal(0)).total == 0


def test_xai_without_prices_is_unpriced():
    assert price({I: "1"}, "xai", completion_tokens=1).status == "unpriced"


# lemonade


def test_lemonade_costs_nothing():
    found = price({}, "lemonade", prompt_tokens=1, completion_tokens=1)

    assert (found.total, found.status) == (0, "priced")


# surcharges

EU, ENDPOINT = "regional_processing_uplift_multiplier_eu", "regional_endpoint_uplift_multiplier"
UPLIFTS = {EU: "1.1", "regional_processing_uplift_multiplier_us": "1.0", ENDPOINT: "1.2",
           "provider_specific_entry": {"us": "1.1", "fast": "6", "schema": "titan_v2", "eu": None, "x": "-1"}}  # fmt: skip


def uplifted(provider, entry=TEXT, **used):
    """By how much the call costs more than without surcharges."""
    given = {"prompt_tokens": 10, "completion_tokens": 10, **used}
    plain = {"mode": given.pop("mode", "chat")}
    found = price({**entry, **UPLIFTS}, provider, **plain, **given)
    base = price(entry, provider, **plain, **given)
    assert found.input / base.input == found.output / base.output
    return found.total / base.total


@pytest.mark.parametrize(
    ("provider", "used", "factor"),
    [
        ("openai", {"data_residency": "eu"}, "1.1"),
        ("openai", {"data_residency": "EU"}, "1.1"),
        ("openai", {"data_residency": "us"}, "1"),
        ("openai", {"data_residency": "mars"}, "1"),
        ("openai", {"location": "us-east5"}, "1"),
        ("openai", {"inference_geo": "us", "speed": "fast"}, "1"),
        ("mistral", {"data_residency": "eu"}, "1.1"),
        ("azure", {"data_residency": "eu"}, "1"),
        ("azure", {"data_residency": "eu", "batch": True}, "1.1"),
        ("azure", {"location": "us-east5", "data_residency": "eu", "batch": True}, "1.32"),
        ("vertex_ai", {"location": "us-east5"}, "1.2"),
        ("vertex_ai", {"location": "Global"}, "1"),
        ("vertex_ai", {"data_residency": "eu"}, "1"),
        ("anthropic", {"inference_geo": "us"}, "1.1"),
        ("anthropic", {"inference_geo": "US"}, "1.1"),
        ("anthropic", {"inference_geo": "global"}, "1"),
        ("anthropic", {"inference_geo": "not_available"}, "1"),
        ("anthropic", {"inference_geo": "schema"}, "1"),
        ("anthropic", {"inference_geo": "x"}, "1"),
        ("anthropic", {"speed": "fast"}, "6"),
        ("anthropic", {"speed": "slow"}, "1"),
        ("anthropic", {"speed": "fast", "inference_geo": "us"}, "6.6"),
        ("anthropic", {"speed": "fast", "inference_geo": "us", "batch": True}, "1"),
        ("bedrock", {"inference_geo": "us", "speed": "fast"}, "1.1"),
        ("xai", {"data_residency": "eu"}, "1"),
        ("azure", {"data_residency": "eu", "mode": "audio_speech"}, "1.1"),
        ("azure", {"data_residency": "eu", "mode": "audio_transcription"}, "1.1"),
        ("openai", {"data_residency": "eu", "mode": "image_edit", "output_text_tokens": 10}, "1"),
        ("vertex_ai", {"location": "us-east5", "mode": "image_edit", "output_text_tokens": 10}, "1.2"),
    ],
)  # fmt: skip
def test_surcharges_are_on_both_sides(provider, used, factor):
    assert uplifted(provider, **used) == Decimal(factor)


def test_a_surcharge_is_a_line_of_each_side_that_has_any():
    found = price({**TEXT, **UPLIFTS}, prompt_tokens=10, data_residency="eu")

    assert [(line.kind, line.quantity, line.unit, line.field, line.amount) for line in found.lines[1:]] == [
        ("uplift", 20, "USD", EU, 2)
    ]


def test_a_surcharge_is_not_on_tools():
    found = price({**TEXT, **UPLIFTS}, prompt_tokens=10, file_searches=4, data_residency="eu")

    assert (found.input, found.tools) == (22, Decimal("0.01"))


def test_a_provider_entry_that_is_no_table_is_left_alone():
    assert price({I: "1", "provider_specific_entry": "x"}, "anthropic", prompt_tokens=1, inference_geo="us").total == 1
