from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UsageError
from catalog.pricing import Usage
from catalog.pricing.shapes import (
    from_anthropic,
    from_bedrock,
    from_cohere,
    from_deepseek,
    from_gemini,
    from_openai,
    from_xai,
)

LEAST = {  # the least that each takes for a usage
    from_openai: {"prompt_tokens": 1},
    from_anthropic: {"output_tokens": 1},
    from_bedrock: {"inputTokens": 1},
    from_gemini: {"promptTokenCount": 1},
    from_xai: {"prompt_tokens": 1},
    from_deepseek: {"prompt_tokens": 1},
    from_cohere: {"billed_units": {}},
}

WORDS = (
    "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "cost",
    "prompt_tokens_details", "completion_tokens_details", "cache_creation", "iterations", "service_tier", "type",
    "inputTokens", "outputTokens", "cacheDetails", "ttl", "promptTokenCount", "promptTokensDetails", "modality",
    "tokenCount", "trafficType", "billed_units", "cost_in_usd_ticks", "reasoning_tokens", "seconds",
)  # fmt: skip

every_converter = pytest.mark.parametrize("convert", LEAST, ids=lambda convert: convert.__name__)


@pytest.mark.parametrize(
    ("convert", "reported", "usage"),
    [
        pytest.param(
            from_openai,
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0, "cache_write_tokens": 50},
                "completion_tokens_details": {"reasoning_tokens": 120, "accepted_prediction_tokens": 0},
            },
            Usage(
                prompt_tokens=2006,
                cached_tokens=1920,
                cache_write_tokens=50,
                completion_tokens=300,
                reasoning_tokens=120,
            ),
            id="chat",
        ),
        pytest.param(
            from_openai,
            {
                "input_tokens": 36,
                "input_tokens_details": {
                    "cached_tokens": 10,
                    "cache_write_tokens": 20,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 5, "ttl_12h_tokens": 15},
                },
                "output_tokens": 87,
                "output_tokens_details": {"reasoning_tokens": 64},
                "total_tokens": 123,
            },
            Usage(
                prompt_tokens=36,
                cached_tokens=10,
                cache_write_tokens=20,
                cache_write_30m_tokens=5,
                cache_write_12h_tokens=15,
                completion_tokens=87,
                reasoning_tokens=64,
            ),
            id="responses",
        ),
        pytest.param(
            from_openai,
            {
                "total_tokens": 253,
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "image_tokens": 0,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 3, "image_tokens": 1},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
            Usage(
                prompt_tokens=132,
                cached_tokens=64,
                cached_text_tokens=60,
                cached_audio_tokens=3,
                cached_image_tokens=1,
                text_tokens=119,
                audio_tokens=13,
                completion_tokens=121,
                output_text_tokens=30,
                output_audio_tokens=91,
            ),
            id="realtime",
        ),
        pytest.param(
            from_openai,
            {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 1056,
                "output_tokens_details": {"text_tokens": 0, "image_tokens": 1056},
            },
            Usage(
                prompt_tokens=50, text_tokens=10, image_tokens=40, completion_tokens=1056, output_image_tokens=1056
            ),
            id="images",
        ),
        pytest.param(from_openai, {"type": "duration", "seconds": 93.4}, Usage(audio_seconds=Decimal("93.4")), id="audio"),
        pytest.param(from_openai, {"prompt_tokens": 8, "total_tokens": 8}, Usage(prompt_tokens=8), id="embeddings"),
        pytest.param(
            from_openai,
            {
                "prompt_tokens": 3000,
                "completion_tokens": 9,
                "prompt_tokens_details": {
                    "cached_tokens": 1000,
                    "cache_creation_input_tokens": 1500,
                    "cache_creation": {"ephemeral_5m_input_tokens": 1500},
                    "cache_type": "ephemeral",
                },
            },
            Usage(
                prompt_tokens=3000,
                cached_tokens=1000,
                cache_type="ephemeral",
                cache_write_tokens=1500,
                cache_write_5m_tokens=1500,
                completion_tokens=9,
            ),
            id="qwen, explicit cache",
        ),
        pytest.param(
            from_openai,
            {"prompt_tokens": 90, "completion_tokens": 5, "cached_tokens": 80},
            Usage(prompt_tokens=90, cached_tokens=80, completion_tokens=5),
            id="moonshot",
        ),
        pytest.param(
            from_openai,
            {
                "prompt_tokens": 33,
                "completion_tokens": 7163,
                "citation_tokens": 19028,
                "num_search_queries": 18,
                "reasoning_tokens": 73997,
                "cost": {"input_tokens_cost": 0.0, "total_cost": 0.41},
            },
            Usage(
                provider_cost=Decimal("0.41"),
                prompt_tokens=33,
                citation_tokens=19028,
                completion_tokens=7163,
                reasoning_tokens=73997,
                web_searches=18,
            ),
            id="perplexity",
        ),
        pytest.param(
            from_anthropic,
            {
                "input_tokens": 2095,
                "cache_creation_input_tokens": 500,
                "cache_read_input_tokens": 1800,
                "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 44},
                "output_tokens": 503,
                "output_tokens_details": {"thinking_tokens": 77},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
                "service_tier": "priority",
                "inference_geo": "us",
                "speed": "fast",
            },
            Usage(
                service_tier="priority",
                inference_geo="us",
                speed="fast",
                prompt_tokens=4395,
                cached_tokens=1800,
                cache_write_tokens=500,
                cache_write_5m_tokens=456,
                cache_write_1h_tokens=44,
                completion_tokens=503,
                reasoning_tokens=77,
                web_searches=2,
            ),
            id="messages",
        ),
        pytest.param(
            from_anthropic,
            {"input_tokens": 3, "output_tokens": 5, "service_tier": "batch", "cache_creation": None},
            Usage(batch=True, prompt_tokens=3, completion_tokens=5),
            id="messages, batch",
        ),
        pytest.param(
            from_anthropic,
            {
                "input_tokens": 23000,
                "output_tokens": 1000,
                "iterations": [
                    {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500, "cache_read_input_tokens": 7},
                    {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
                    {"type": "advisor_message", "model": "another", "input_tokens": 9, "output_tokens": 9},
                ],
            },
            Usage(prompt_tokens=203007, cached_tokens=7, completion_tokens=4500),
            id="messages, compacted",
        ),
        pytest.param(
            from_bedrock,
            {
                "inputTokens": 100,
                "outputTokens": 50,
                "totalTokens": 1450,
                "cacheReadInputTokens": 1000,
                "cacheWriteInputTokens": 300,
                "cacheDetails": [
                    {"ttl": "1h", "inputTokens": 200},
                    {"ttl": "5m", "inputTokens": 60},
                    {"ttl": "5m", "inputTokens": 10},
                    {"ttl": "1d", "inputTokens": 30},
                ],
            },
            Usage(
                prompt_tokens=1400,
                cached_tokens=1000,
                cache_write_tokens=300,
                cache_write_5m_tokens=70,
                cache_write_1h_tokens=200,
                completion_tokens=50,
            ),
            id="converse",
        ),
        pytest.param(
            from_gemini,
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 300,
                "candidatesTokenCount": 200,
                "thoughtsTokenCount": 80,
                "toolUsePromptTokenCount": 20,
                "totalTokenCount": 1300,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 500},
                    {"modality": "DOCUMENT", "tokenCount": 100},
                    {"modality": "IMAGE", "tokenCount": 258},
                    {"modality": "AUDIO", "tokenCount": 42},
                    {"modality": "VIDEO", "tokenCount": 100},
                ],
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 250},
                    {"modality": "AUDIO", "tokenCount": 2},
                    {"modality": "IMAGE", "tokenCount": 8},
                    {"modality": "VIDEO", "tokenCount": 40},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 150}, {"modality": "TEXT", "tokenCount": 50}],
                "trafficType": "ON_DEMAND_PRIORITY",
            },
            Usage(
                service_tier="priority",
                prompt_tokens=1020,
                cached_tokens=300,
                cached_text_tokens=250,
                cached_audio_tokens=2,
                cached_image_tokens=8,
                text_tokens=620,
                audio_tokens=42,
                image_tokens=258,
                video_tokens=60,
                completion_tokens=280,
                output_text_tokens=50,
                reasoning_tokens=80,
                output_image_tokens=150,
            ),
            id="gemini",
        ),
        pytest.param(
            from_gemini,
            {"promptTokenCount": 10, "candidatesTokenCount": 30, "thoughtsTokenCount": 20, "totalTokenCount": 40},
            Usage(prompt_tokens=10, completion_tokens=30, reasoning_tokens=20),
            id="gemini, thoughts among the candidates",
        ),
        pytest.param(
            from_gemini,
            {
                "promptTokenCount": 10,
                "responseTokenCount": 30,
                "totalTokenCount": 40,
                "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}],
            },
            Usage(prompt_tokens=10, completion_tokens=30, output_audio_tokens=30),
            id="gemini, live",
        ),
        pytest.param(
            from_xai,
            {
                "prompt_tokens": 125,
                "completion_tokens": 48,
                "total_tokens": 473,
                "prompt_tokens_details": {"text_tokens": 125, "cached_tokens": 98},
                "completion_tokens_details": {"reasoning_tokens": 300},
                "cost_in_usd_ticks": 37756001,
                "server_side_tool_usage_details": {"web_search_calls": 4, "x_search_calls": 1},
            },
            Usage(
                provider_cost=Decimal("0.0037756001"),
                prompt_tokens=125,
                cached_tokens=98,
                text_tokens=125,
                completion_tokens=348,
                reasoning_tokens=300,
                web_searches=4,
            ),
            id="xai, reasoning apart",
        ),
        pytest.param(
            from_xai,
            {"input_tokens": 5, "output_tokens": 9, "total_tokens": 14, "output_tokens_details": {"reasoning_tokens": 4}},
            Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=4),
            id="xai, reasoning inside",
        ),
        pytest.param(
            from_xai,
            {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=4),
            id="xai, no total",
        ),
        pytest.param(
            from_deepseek,
            {
                "prompt_tokens": 1000,
                "prompt_cache_hit_tokens": 640,
                "prompt_cache_miss_tokens": 360,
                "completion_tokens": 70,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            Usage(prompt_tokens=1000, cached_tokens=640, completion_tokens=70, reasoning_tokens=50),
            id="deepseek",
        ),
        pytest.param(
            from_cohere,
            {
                "billed_units": {"input_tokens": 15.0, "output_tokens": 108, "search_units": 2},
                "tokens": {"input_tokens": 82, "output_tokens": 108},
            },
            Usage(prompt_tokens=15, completion_tokens=108, queries=2),
            id="cohere",
        ),
        pytest.param(
            from_cohere,
            {"api_version": {"version": "2"}, "billed_units": {"images": 1, "image_tokens": 300, "input_tokens": 4}},
            Usage(prompt_tokens=304, image_tokens=300, images=1),
            id="cohere, images",
        ),
    ],
)  # fmt: skip
def test_what_a_provider_reports_becomes_our_usage(convert, reported, usage):
    assert convert(json.loads(json.dumps(reported))) == usage


@every_converter
def test_nulls_are_the_same_as_what_is_missing(convert):
    nulls = dict.fromkeys(WORDS)

    assert convert({**nulls, **LEAST[convert]}) == convert(LEAST[convert])


@pytest.mark.parametrize(
    ("traffic", "tier"),
    [
        ("ON_DEMAND", ""),
        ("ON_DEMAND_PRIORITY", "priority"),
        ("FLEX", "flex"),
        ("ON_DEMAND_FLEX", "flex"),
        ("BATCH", "flex"),
        ("PROVISIONED_THROUGHPUT", ""),
        ("on_demand_flex", "flex"),
    ],
)
def test_the_traffic_type_of_gemini_is_a_service_tier(traffic, tier):
    assert from_gemini({"promptTokenCount": 1, "trafficType": traffic}).service_tier == tier


@every_converter
@pytest.mark.parametrize("other", [{}, {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 3}}])
def test_an_object_without_any_total_is_refused_and_never_free(convert, other):
    with pytest.raises(UsageError, match="It has none of") as refused:
        convert(other)

    assert refused.value.code == "wrong_type"


@every_converter
@pytest.mark.parametrize("other", [None, [], "prompt_tokens", 7])
def test_what_is_no_object_is_refused(convert, other):
    with pytest.raises(UsageError) as refused:
        convert(other)

    assert (refused.value.code, refused.value.field) == ("wrong_type", "usage")


@pytest.mark.parametrize(
    ("convert", "reported", "code", "field"),
    [
        (from_openai, {"prompt_tokens": "12"}, "wrong_type", "usage.prompt_tokens"),
        (from_openai, {"prompt_tokens": True}, "wrong_type", "usage.prompt_tokens"),
        (from_openai, {"prompt_tokens": 12.0}, "wrong_type", "usage.prompt_tokens"),
        (from_openai, {"prompt_tokens": -1}, "negative_count", "usage.prompt_tokens"),
        (from_openai, {"prompt_tokens": 2**63}, "wrong_type", "prompt_tokens"),
        (from_openai, {"input_tokens": [1]}, "wrong_type", "usage.input_tokens"),
        (from_openai, {"prompt_tokens": 1, "prompt_tokens_details": 5}, "wrong_type", "usage.prompt_tokens_details"),
        (
            from_openai,
            {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": {}}},
            "wrong_type",
            "usage.prompt_tokens_details.cached_tokens",
        ),
        (
            from_openai,
            {"input_tokens": 1, "input_token_details": {"cached_tokens_details": []}},
            "wrong_type",
            "usage.input_token_details.cached_tokens_details",
        ),
        (from_openai, {"prompt_tokens": 1, "cost": "0.5"}, "wrong_type", "usage.cost"),
        (from_openai, {"prompt_tokens": 1, "cost": False}, "wrong_type", "usage.cost"),
        (from_openai, {"prompt_tokens": 1, "cost": {"total_cost": []}}, "wrong_type", "usage.cost.total_cost"),
        (from_openai, {"prompt_tokens": 1, "cost": float("nan")}, "not_finite", "provider_cost"),
        (from_openai, {"seconds": float("inf")}, "not_finite", "audio_seconds"),
        (from_openai, {"prompt_tokens": 1, "cost": -0.5}, "negative_count", "provider_cost"),
        (
            from_openai,
            {"prompt_tokens": 1, "prompt_tokens_details": {"cache_type": 1}},
            "wrong_type",
            "usage.prompt_tokens_details.cache_type",
        ),
        (from_anthropic, {"input_tokens": -5, "cache_read_input_tokens": 9}, "negative_count", "usage.input_tokens"),
        (from_anthropic, {"input_tokens": 5, "service_tier": 1}, "wrong_type", "usage.service_tier"),
        (from_anthropic, {"input_tokens": 5, "iterations": {}}, "wrong_type", "usage.iterations"),
        (from_anthropic, {"input_tokens": 5, "iterations": [1]}, "wrong_type", "usage.iterations[0]"),
        (
            from_anthropic,
            {"input_tokens": 5, "iterations": [{"input_tokens": "5"}]},
            "wrong_type",
            "usage.iterations[0].input_tokens",
        ),
        (from_bedrock, {"inputTokens": None, "outputTokens": "7"}, "wrong_type", "usage.outputTokens"),
        (from_bedrock, {"inputTokens": 1, "cacheDetails": "5m"}, "wrong_type", "usage.cacheDetails"),
        (
            from_bedrock,
            {"inputTokens": 1, "cacheDetails": [{"ttl": "5m", "inputTokens": -1}]},
            "negative_count",
            "usage.cacheDetails[0].inputTokens",
        ),
        (from_gemini, {"promptTokenCount": 1, "trafficType": 3}, "wrong_type", "usage.trafficType"),
        (
            from_gemini,
            {"promptTokenCount": 1, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": "3"}]},
            "wrong_type",
            "usage.promptTokensDetails[0].tokenCount",
        ),
        (from_xai, {"prompt_tokens": 1, "total_tokens": "2"}, "wrong_type", "usage.total_tokens"),
        (from_xai, {"prompt_tokens": 1, "cost_in_usd_ticks": "2"}, "wrong_type", "usage.cost_in_usd_ticks"),
        (from_deepseek, {"prompt_tokens": 1, "prompt_cache_hit_tokens": 0.5}, "wrong_type", "usage.prompt_cache_hit_tokens"),
        (from_cohere, {"billed_units": {"input_tokens": 1.5}}, "wrong_type", "usage.billed_units.input_tokens"),
        (from_cohere, {"billed_units": {"input_tokens": -1.0}}, "negative_count", "usage.billed_units.input_tokens"),
        (from_cohere, {"billed_units": 3}, "wrong_type", "usage.billed_units"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused_and_named(convert, reported, code, field):
    with pytest.raises(UsageError) as refused:
        convert(reported)

    assert (refused.value.code, refused.value.field) == (code, field)


def test_the_ticks_of_xai_are_exact_whatever_the_context():
    with localcontext(prec=3):
        usage = from_xai({"prompt_tokens": 1, "cost_in_usd_ticks": 12345678901})

    assert usage.provider_cost == Decimal("1.2345678901")


def test_what_the_usage_object_does_not_say_is_set_by_the_caller():
    usage = replace(from_openai({"prompt_tokens": 1}), service_tier="flex", batch=True)

    assert (usage.prompt_tokens, usage.service_tier, usage.batch) == (1, "flex", True)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)


@every_converter
@given(reported=anything)
def test_any_json_is_a_usage_or_refused_with_a_code(convert, reported):
    try:
        outcome = convert(reported)
    except UsageError as refused:
        outcome = refused.code

    assert isinstance(outcome, Usage) or outcome in {"wrong_type", "negative_count", "not_finite"}
