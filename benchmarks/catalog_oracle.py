"""LiteLLM as the oracle of prices: how it is asked what a `catalog.pricing.Usage` costs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

# Read by the import: nothing is fetched, neither a price file nor what a server of Lemonade on this machine would say.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_OFFLINE_MODE": "true",
    "LEMONADE_API_BASE": "http://127.0.0.1:9",
}

import litellm
from litellm._internal_context import pinned_billing_time
from litellm.cost_calculator import batch_cost_calculator, cost_per_token
from litellm.litellm_core_utils.get_model_cost_map import (
    GetModelCostMap,
    _finalize_model_cost_map,
    adopt_model_cost_map,
)
from litellm.litellm_core_utils.llm_cost_calc.tool_call_cost_tracking import (
    StandardBuiltInToolCostTracking,
)
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import (
    CacheCreationTokenDetails,
    CompletionTokensDetailsWrapper,
    PromptTokensDetailsWrapper,
    ServerToolUse,
)
from litellm.types.utils import Usage as TheirUsage
from litellm.utils import get_model_info_helper_for_pricing

from catalog.pricing import Usage

NO_MODELS = frozenset({"sample_spec", "fallback_generalizations"})
OTHER_KINDS = frozenset(
    {
        "image_generation",
        "image_edit",
        "video_generation",
        "audio_speech",
        "audio_transcription",
        "rerank",
        "search",
        "ocr",
    }
)
"""Modes that are not priced by tokens, or not by tokens alone."""
LOGGED_IN = frozenset({"chatgpt", "github_copilot"})
"""Providers that LiteLLM logs in to before it prices a batch; they have none."""
COUNTED_IN_THE_USAGE = frozenset({"anthropic", "azure_ai", "gemini", "groq", "perplexity", "vertex_ai", "xai"})
"""Families whose searches LiteLLM reads from the usage; of the others it counts them in a response."""

litellm.suppress_debug_info = True
logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)


class Answer(NamedTuple):
    """US dollars as LiteLLM computes them. error: it raised instead, and the amounts are 0."""

    input: float
    output: float
    tools: float
    error: str = ""


def bundled() -> bytes:
    """The price file that this version of LiteLLM ships."""
    return GetModelCostMap.read_local_model_cost_map_bytes()


def load(prices: bytes, without: Iterable[str] = ()) -> None:
    """Make this the price list that LiteLLM works with, the way it adopts a file itself; `without` these entries."""
    entries = json.loads(prices)
    for key in without:
        entries.pop(key, None)
    adopt_model_cost_map(_finalize_model_cost_map(entries))


def chat_type(key: str, entry: Mapping[str, Any]) -> bool:
    """An entry priced as a chat is, by cost_per_token: also responses, completions, embeddings, realtime, no mode, …."""
    return key not in NO_MODELS and entry.get("mode") not in OTHER_KINDS


def provider_of(source: str) -> str:
    """The provider by whose name LiteLLM is called, from the word that the price file has for it."""
    folded = {"bedrock_converse": "bedrock"}
    families = ("vertex_ai", "fireworks_ai")
    return next((family for family in families if source.startswith(family)), folded.get(source, source))


def found_by(key: str, provider: str) -> str | None:
    """The key of the entry that LiteLLM prices a call of this name with; None if it knows none."""
    try:
        return str(get_model_info_helper_for_pricing(model=_name(key, provider), custom_llm_provider=provider)["key"])
    except Exception:
        return None


def _name(key: str, provider: str) -> str:
    """As cost_per_token reads a key: a repeated prefix is an accident to it."""
    while key.startswith(f"{provider}/{provider}/"):
        key = key.removeprefix(f"{provider}/")
    return key


def ask(key: str, provider: str, mode: str, usage: Usage) -> Answer:
    """What LiteLLM charges for this call of this model."""
    theirs = their_usage(key, provider, usage)
    try:
        with pinned_billing_time(usage.at) if usage.at else nullcontext():
            if usage.batch:
                prompt, completion = _batch(key, provider, usage, theirs)
            else:
                prompt, completion = cost_per_token(**arguments(key, provider, mode, usage, theirs))
            return Answer(float(prompt), float(completion), _tools(key, provider, usage, theirs))
    except Exception as error:
        return Answer(0.0, 0.0, 0.0, f"{type(error).__name__}: {error}"[:200])


def arguments(key: str, provider: str, mode: str, usage: Usage, theirs: TheirUsage) -> dict[str, Any]:
    """Of cost_per_token."""
    call_type = "embedding" if mode == "embedding" else "completion"
    return {
        "model": key,
        "custom_llm_provider": provider,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "usage_object": theirs,
        "response_time_ms": float(usage.duration_seconds * 1000),
        "service_tier": usage.service_tier or None,
        "data_residency": usage.data_residency or None,
        "vertex_location": usage.location or None,
        "call_type": "decisions" if usage.kind == "decisions" else call_type,
    }


def _batch(key: str, provider: str, usage: Usage, theirs: TheirUsage) -> tuple[float, float]:
    """With the entry in its hand: by itself it looks some names up otherwise in a batch than in a call."""
    return batch_cost_calculator(
        usage=theirs,
        model=key,
        custom_llm_provider=provider,
        model_info=litellm.get_model_info(model=_name(key, provider), custom_llm_provider=provider),
        data_residency=usage.data_residency or None,
        vertex_location=usage.location or None,
    )


def their_usage(key: str, provider: str, usage: Usage) -> TheirUsage:
    more: dict[str, Any] = {
        "citation_tokens": usage.citation_tokens,
        "inference_geo": usage.inference_geo,
        "speed": usage.speed,
        "cost": None if usage.provider_cost is None else float(usage.provider_cost),
    }
    prompt = _prompt_details(usage)
    if provider == "xai" and usage.web_searches:
        more["server_side_tool_usage_details"] = {"web_search_calls": usage.web_searches}
    elif provider in ("anthropic", "azure_ai", "groq") or (provider == "vertex_ai" and "claude" in key):
        if usage.web_searches or usage.browser_opens:
            more["server_tool_use"] = ServerToolUse(
                web_search_requests=usage.web_searches, browser_open_requests=usage.browser_opens
            )
    elif provider in COUNTED_IN_THE_USAGE and usage.web_searches:
        prompt["web_search_requests"] = usage.web_searches
    if usage.maps_requests:
        prompt["google_maps_grounding_requests"] = usage.maps_requests
    completion = {
        "text_tokens": usage.output_text_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.output_audio_tokens,
        "image_tokens": usage.output_image_tokens,
        "video_tokens": usage.output_video_tokens,
    }
    return TheirUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetailsWrapper(**prompt) if prompt else None,
        completion_tokens_details=CompletionTokensDetailsWrapper(**completion) if any(completion.values()) else None,
        **{name: value for name, value in more.items() if value not in (None, "", 0)},
    )


def _prompt_details(usage: Usage) -> dict[str, Any]:
    cached = {
        "text_tokens": usage.cached_text_tokens,
        "audio_tokens": usage.cached_audio_tokens,
        "image_tokens": usage.cached_image_tokens,
    }
    written = {
        "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
        "ephemeral_30m_input_tokens": usage.cache_write_30m_tokens,
        "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        "ephemeral_12h_input_tokens": usage.cache_write_12h_tokens,
    }
    details = {
        "cached_tokens": usage.cached_tokens,
        "cached_tokens_details": cached if any(cached.values()) else None,
        "cache_type": usage.cache_type,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_creation_token_details": CacheCreationTokenDetails(**written) if any(written.values()) else None,
        "text_tokens": usage.text_tokens,
        "audio_tokens": usage.audio_tokens,
        "image_tokens": usage.image_tokens,
        "video_tokens": usage.video_tokens,
        "character_count": usage.characters,
        "image_count": usage.images,
        "audio_length_seconds": float(usage.audio_seconds),
        "video_length_seconds": float(usage.video_seconds),
        "query_count": usage.queries,
    }
    return {name: value for name, value in details.items() if value}


def _tools(key: str, provider: str, usage: Usage, theirs: TheirUsage) -> float:
    if not (
        usage.web_searches or usage.maps_requests or usage.browser_opens or usage.code_sessions or usage.file_searches
    ):
        return 0.0
    searches = usage.web_searches + (usage.browser_opens if provider == "groq" else 0)
    asked: dict[str, Any] = {"code_interpreter_sessions": usage.code_sessions}
    if usage.search_context:
        asked["web_search_options"] = {"search_context_size": usage.search_context}
    if usage.file_searches:
        asked["file_search"] = {"type": "file_search"}
    return float(
        StandardBuiltInToolCostTracking.get_cost_for_built_in_tools(
            model=key,
            response_object=_response(searches, usage.file_searches),
            usage=theirs,
            custom_llm_provider=provider,
            standard_built_in_tools_params=asked,
        )
    )


@cache
def _response(web_searches: int, file_searches: int) -> ResponsesAPIResponse:
    """An answer of the Responses API that called these tools so many times."""
    calls = [{"type": "web_search_call"}] * web_searches + [{"type": "file_search_call"}] * file_searches
    return ResponsesAPIResponse(id="resp_1", created_at=0, output=[dict(call) for call in calls])
