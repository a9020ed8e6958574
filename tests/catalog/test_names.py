from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.names import Candidate, candidates, fold, serves, strip

FILE = json.loads((Path(__file__).parent / "resolve_cases.json").read_text())
KEYS = {key.lower(): key for key in FILE["models"]}


def key_of(name, **asked):
    """The look-up in memory: the first candidate that is a key of a model that counts."""
    for candidate in candidates(name, **asked):
        key = None if candidate.canonical else KEYS.get(candidate.key.lower())
        if key and (not candidate.provider or serves(candidate.provider, FILE["models"][key])):
            return key
    return None


def keys(*args, **asked):
    return [candidate.key for candidate in candidates(*args, **asked) if not candidate.canonical]


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: f"{case.get('provider', '')}:{case['name']}")
def test_a_name_means_the_key_that_its_price_is_found_by(case):
    asked = {word: case[word] for word in ("provider", "size", "quality") if word in case}

    assert key_of(case["name"], **asked) == case["expect"].get("key")


def test_a_name_without_a_provider_is_a_key_first():
    assert candidates("gpt-4o") == (Candidate("gpt-4o"),)
    assert candidates("gpt-4o-2024-08-06") == (Candidate("gpt-4o-2024-08-06"), Candidate("gpt-4o"))


def test_a_name_that_begins_with_a_provider_is_one_of_its_models():
    assert candidates("openai/gpt-4o") == (
        Candidate("openai/gpt-4o"),
        Candidate("openai/gpt-4o", "openai"),
        Candidate("gpt-4o", "openai"),
        Candidate("gpt-4o", "openai", canonical=True),
        Candidate("openai/openai/gpt-4o", "openai"),
    )


def test_with_a_provider_its_own_key_comes_before_the_bare_one():
    assert keys("gpt-4o", "azure") == ["azure/gpt-4o", "gpt-4o"]
    assert keys("azure/gpt-4o", "AZURE")[:2] == ["azure/gpt-4o", "gpt-4o"]


def test_a_region_comes_first_of_all():
    assert keys("anthropic.claude-v1", "bedrock", region="us-east-1")[:2] == [
        "bedrock/us-east-1/anthropic.claude-v1",
        "bedrock/anthropic.claude-v1",
    ]


def test_no_name_has_no_candidates():
    assert candidates("") == candidates("", "openai") == ()


@pytest.mark.parametrize(
    ("provider", "name", "plain"),
    [
        ("bedrock", "bedrock/converse/us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("bedrock", "mantle/openai/nova-2/x", "x"),
        ("bedrock", "us-gov-west-1/anthropic.claude-v1", "anthropic.claude-v1"),
        ("bedrock", "eu-central-1/eu.anthropic.claude-v1", "eu.anthropic.claude-v1"),  # one of the two, not both
        ("bedrock", "us-gov.anthropic.claude-v1", "anthropic.claude-v1"),
        ("bedrock", "ca.anthropic.claude-v1", "ca.anthropic.claude-v1"),
        ("bedrock", "anthropic.claude-v2:1:51k", "anthropic.claude-v2:1"),
        ("bedrock", "anthropic.claude-opus-v1[1m]", "anthropic.claude-opus-v1"),
        ("bedrock", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-v1", "anthropic.claude-v1"),
        ("bedrock_converse", "invoke/us.x", "x"),
        ("bedrock_mantle", "us.x", "us.x"),
        ("vertex_ai", "gemini-2.5-flash-002", "gemini-2.5-flash"),
        ("gemini", "gemini-2.5-flash-002", "gemini-2.5-flash"),
        ("databricks", "x-7", "x"),
        ("openai", "gpt-5-002", "gpt-5-002"),
        ("openai", "gpt-5-2026-10-01", "gpt-5"),
        ("", "gpt-5-2026-10-01", "gpt-5"),
        ("openai", "gpt-5-2026-1-1", "gpt-5-2026-1-1"),
        ("openai", "gpt-5-２０２６-10-01", "gpt-5-２０２６-10-01"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::id", "ft:gpt-4o-2024-08-06"),
        ("openai", "ft:gpt-4o", "ft:gpt-4o"),
    ],
)
def test_what_does_not_change_the_model_is_left_out(provider, name, plain):
    assert strip(name, provider) == plain


@pytest.mark.parametrize(
    ("provider", "word", "counts"),
    [
        ("openai", "openai", True),
        ("openai", "text-completion-openai", False),
        ("openai", "azure", False),
        ("vertex_ai", "vertex_ai-mistral_models", True),
        ("vertex_ai-mistral_models", "vertex_ai", False),
        ("fireworks_ai", "fireworks_ai-embedding-models", True),
        ("bedrock", "bedrock_converse", True),
        ("azure_ai", "openai", True),
        ("azure_ai", "azure", True),
        ("azure", "azure_ai", False),
        ("cohere", "cohere_chat", False),
    ],
)
def test_whose_models_count_as_a_providers(provider, word, counts):
    assert serves(provider, word) is counts


def test_words_of_a_source_fold_into_slugs():
    assert fold("vertex_ai-mistral_models") == "vertex_ai"
    assert fold("fireworks_ai-embedding-models") == "fireworks_ai"
    assert (fold("bedrock_converse"), fold("bedrock_mantle"), fold("openai")) == ("bedrock", "bedrock_mantle", "openai")


def test_images_are_sought_by_quality_and_size_before_the_plain_name():
    assert keys("dall-e-3", "azure", size="1024x1792", quality="hd")[:6] == [
        "hd/1024-x-1792/dall-e-3",
        "azure/hd/1024-x-1792/dall-e-3",
        "1024-x-1792/dall-e-3",
        "high/1024-x-1792/dall-e-3",
        "azure/dall-e-3",
        "dall-e-3",
    ]
    assert keys("azure/x/dall-e-3", "azure", quality="hd")[:6] == [
        "hd/azure/1024-x-1024/x/dall-e-3",
        "azure/hd/1024-x-1024/x/dall-e-3",
        "azure/1024-x-1024/x/dall-e-3",
        "high/azure/1024-x-1024/x/dall-e-3",
        "hd/1024-x-1024/dall-e-3",
        "1024-x-1024/dall-e-3",
    ]


def test_the_size_of_an_image_may_be_written_either_way():
    assert candidates("dall-e-3", size="1024-x-1792") == candidates("dall-e-3", size="1024x1792")


def test_an_image_of_another_provider_does_not_count():
    assert key_of("gpt-image-1.5", provider="vertex_ai", size="1024x1536", quality="high") is None
