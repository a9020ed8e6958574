"""What providers report, as Usage: one converter per shape. Pure.

Each takes the usage object of an answer as decoded JSON and returns the Usage; null is the same as missing. What is not in that
object is not in the Usage either: set it with `dataclasses.replace` (`at`, `batch`, the service tier of OpenAI, …). UsageError:
`wrong_type` for a field of another type and for an object that reports no total of this shape, as a whole answer does not;
`negative_count`; `not_finite`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from catalog.errors import UsageError
from catalog.pricing.costs import EXACT
from catalog.pricing.usage import Usage

TICKS_PER_DOLLAR = Decimal(10**10)
"""Of xAI's cost_in_usd_ticks: docs.x.ai, Cost Tracking."""

TIERS_OF_TRAFFIC = {"ON_DEMAND_PRIORITY": "priority", "FLEX": "flex", "ON_DEMAND_FLEX": "flex", "BATCH": "flex"}
"""What Gemini calls `trafficType`; every other is billed at the plain rates."""

_OWN_STEPS = frozenset({"", "message", "compaction"})


def from_openai(usage: Mapping[str, Any]) -> Usage:
    """Chat completions, responses, realtime, images, embeddings, transcriptions, and whoever speaks that dialect.

    Totals are inclusive there as here: the cached are among the prompt's tokens, reasoning is in the completion. Also read:
    Moonshot's cached_tokens, Qwen's explicit caches, and what Perplexity adds (citations, searches, its cost).
    """
    given = _Object(usage)
    given.require("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "seconds")
    read = given.part("prompt_tokens_details", "input_tokens_details", "input_token_details")
    made = given.part("completion_tokens_details", "output_tokens_details", "output_token_details")
    cached = read.part("cached_tokens_details")
    written = read.part("cache_write_tokens_details", "cache_creation")
    return Usage(
        provider_cost=_stated_cost(given),
        prompt_tokens=given.count("prompt_tokens", "input_tokens"),
        cached_tokens=read.count("cached_tokens") or given.count("cached_tokens"),
        cached_text_tokens=cached.count("text_tokens"),
        cached_audio_tokens=cached.count("audio_tokens"),
        cached_image_tokens=cached.count("image_tokens"),
        cache_type=read.text("cache_type"),
        cache_write_tokens=read.count("cache_write_tokens", "cache_creation_input_tokens"),
        cache_write_5m_tokens=written.count("ephemeral_5m_input_tokens"),
        cache_write_30m_tokens=written.count("ttl_30m_tokens"),
        cache_write_1h_tokens=written.count("ephemeral_1h_input_tokens"),
        cache_write_12h_tokens=written.count("ttl_12h_tokens"),
        text_tokens=read.count("text_tokens"),
        audio_tokens=read.count("audio_tokens"),
        image_tokens=read.count("image_tokens"),
        video_tokens=read.count("video_tokens"),
        citation_tokens=given.count("citation_tokens"),
        audio_seconds=given.number("seconds") or Decimal(0),
        completion_tokens=given.count("completion_tokens", "output_tokens"),
        output_text_tokens=made.count("text_tokens"),
        reasoning_tokens=made.count("reasoning_tokens") or given.count("reasoning_tokens"),
        output_audio_tokens=made.count("audio_tokens"),
        output_image_tokens=made.count("image_tokens"),
        output_video_tokens=made.count("video_tokens"),
        web_searches=given.count("num_search_queries"),
    )


def from_anthropic(usage: Mapping[str, Any]) -> Usage:
    """Messages. input_tokens are neither read from nor written to a cache; the prompt is the sum of the three.

    Where the context was compacted on the way, `iterations` holds what each step used and the totals are those of the last
    alone: the steps are summed, but for those of another model (an advisor's), which is priced by itself. The tier `batch` is a
    batch.
    """
    given = _Object(usage)
    given.require("input_tokens", "output_tokens")
    steps = [step for step in given.parts("iterations") if step.text("type") in _OWN_STEPS] or [given]
    read, written = (sum(step.count(f"cache_{way}_input_tokens") for step in steps) for way in ("read", "creation"))
    lives = [step.part("cache_creation") for step in steps]
    tier = given.text("service_tier")
    return Usage(
        batch=tier == "batch",
        service_tier="" if tier == "batch" else tier,
        inference_geo=given.text("inference_geo"),
        speed=given.text("speed"),
        prompt_tokens=sum(step.count("input_tokens") for step in steps) + read + written,
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_5m_tokens=sum(life.count("ephemeral_5m_input_tokens") for life in lives),
        cache_write_1h_tokens=sum(life.count("ephemeral_1h_input_tokens") for life in lives),
        completion_tokens=sum(step.count("output_tokens") for step in steps),
        reasoning_tokens=sum(step.part("output_tokens_details").count("thinking_tokens") for step in steps),
        web_searches=given.part("server_tool_use").count("web_search_requests"),
    )


def from_bedrock(usage: Mapping[str, Any]) -> Usage:
    """Converse. inputTokens are neither read from nor written to a cache, as with Anthropic."""
    given = _Object(usage)
    given.require("inputTokens", "outputTokens")
    read, written = given.count("cacheReadInputTokens"), given.count("cacheWriteInputTokens")
    lives = {"5m": 0, "1h": 0}  # of another life: at the plain write rate, as part of the written ones
    for detail in given.parts("cacheDetails"):
        life = detail.text("ttl")
        lives[life] = lives.get(life, 0) + detail.count("inputTokens")
    return Usage(
        prompt_tokens=given.count("inputTokens") + read + written,
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_5m_tokens=lives["5m"],
        cache_write_1h_tokens=lives["1h"],
        completion_tokens=given.count("outputTokens"),
    )


def from_gemini(usage: Mapping[str, Any]) -> Usage:
    """`usageMetadata` of Gemini and Vertex AI, Live included.

    Thoughts count apart from candidates, unless the total shows that they are among them. Tokens that tools put into the prompt
    count as prompt: who knows that they came from Google Search, which is charged per search, subtracts them.
    """
    given = _Object(usage)
    given.require("promptTokenCount", "candidatesTokenCount", "responseTokenCount", "totalTokenCount")
    tools, thoughts = given.count("toolUsePromptTokenCount"), given.count("thoughtsTokenCount")
    prompt, answer = given.count("promptTokenCount") + tools, given.count("candidatesTokenCount", "responseTokenCount")
    among = given.count("totalTokenCount") == prompt + answer
    read, cached = _modalities(given, "promptTokensDetails"), _modalities(given, "cacheTokensDetails")
    made = _modalities(given, "candidatesTokensDetails", "responseTokensDetails")
    return Usage(
        service_tier=TIERS_OF_TRAFFIC.get(given.text("trafficType").upper(), ""),
        prompt_tokens=prompt,
        cached_tokens=given.count("cachedContentTokenCount"),
        cached_text_tokens=cached["text"],
        cached_audio_tokens=cached["audio"],
        cached_image_tokens=cached["image"],
        text_tokens=read["text"] + tools if read["text"] else 0,
        audio_tokens=read["audio"],
        image_tokens=read["image"],
        video_tokens=max(read["video"] - cached["video"], 0),
        completion_tokens=answer if among else answer + thoughts,
        output_text_tokens=made["text"],
        reasoning_tokens=thoughts,
        output_audio_tokens=made["audio"],
        output_image_tokens=made["image"],
        output_video_tokens=made["video"],
    )


def from_xai(usage: Mapping[str, Any]) -> Usage:
    """As OpenAI's, but reasoning stands beside the completion where the total says so; and xAI names its price."""
    given, plain = _Object(usage), from_openai(usage)
    total, completion = given.count("total_tokens"), plain.completion_tokens
    apart = total not in (0, plain.prompt_tokens + completion)
    ticks = given.number("cost_in_usd_ticks")
    return replace(
        plain,
        provider_cost=plain.provider_cost if ticks is None else EXACT.divide(ticks, TICKS_PER_DOLLAR),
        completion_tokens=completion + plain.reasoning_tokens if apart else completion,
        web_searches=given.part("server_side_tool_usage_details").count("web_search_calls"),
    )


def from_deepseek(usage: Mapping[str, Any]) -> Usage:
    """As OpenAI's; the hits of the cache have a name of their own."""
    plain = from_openai(usage)
    return replace(plain, cached_tokens=_Object(usage).count("prompt_cache_hit_tokens") or plain.cached_tokens)


def from_cohere(usage: Mapping[str, Any]) -> Usage:
    """Chat, embed, rerank: `usage` or `meta`. What was billed counts, not what was processed; a search unit is a query."""
    given = _Object(usage)
    given.require("billed_units")
    billed = given.part("billed_units")
    images = billed.whole("image_tokens")
    return Usage(
        prompt_tokens=billed.whole("input_tokens") + images,
        image_tokens=images,
        images=billed.whole("images"),
        completion_tokens=billed.whole("output_tokens"),
        queries=billed.whole("search_units") or None,
    )


def _stated_cost(given: _Object) -> Decimal | None:
    """What the provider says that it charged: a number, or Perplexity's object of parts."""
    if isinstance(given.fields.get("cost"), Mapping):
        return given.part("cost").number("total_cost")
    return given.number("cost")


def _modalities(given: _Object, *names: str) -> dict[str, int]:
    counts = {"text": 0, "audio": 0, "image": 0, "video": 0}
    for name in names:
        for detail in given.parts(name):
            modality = detail.text("modality").lower()
            counts[modality if modality in counts else "text"] += detail.count(
                "tokenCount"
            )  # DOCUMENT is billed as text
    return counts


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object, read with the types that are expected. Of several names the first that is there counts."""

    fields: Mapping[str, Any]
    path: str = "usage"

    def __post_init__(self) -> None:
        if not isinstance(self.fields, Mapping):
            raise UsageError("wrong_type", self.path, f"It is a {type(self.fields).__name__}, no object.")

    def require(self, *names: str) -> None:
        if all(self.fields.get(name) is None for name in names):
            raise UsageError("wrong_type", self.path, f"It has none of {', '.join(names)}.")

    def count(self, *names: str) -> int:
        name, value = self._first(names)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError("wrong_type", name, f"It is a {type(value).__name__}, no whole number.")
        if value < 0:
            raise UsageError("negative_count", name, "It is below 0.")
        return value

    def whole(self, name: str) -> int:
        """A count that may be written as 5.0."""
        value = self.fields.get(name)
        if isinstance(value, float) and value.is_integer():
            return _Object({name: int(value)}, self.path).count(name)
        return self.count(name)

    def number(self, name: str) -> Decimal | None:
        name, value = self._first((name,))
        if value is None or isinstance(value, Decimal):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError("wrong_type", name, f"It is a {type(value).__name__}, no number.")
        return Decimal(str(value))  # the shortest text of a float is what the answer said

    def text(self, name: str) -> str:
        name, value = self._first((name,))
        if value is None or isinstance(value, str):
            return value or ""
        raise UsageError("wrong_type", name, f"It is a {type(value).__name__}, no text.")

    def part(self, *names: str) -> _Object:
        name, value = self._first(names)
        return _Object({} if value is None else value, name)

    def parts(self, name: str) -> list[_Object]:
        name, value = self._first((name,))
        if not isinstance(value, list | None):
            raise UsageError("wrong_type", name, f"It is a {type(value).__name__}, no list.")
        return [_Object(item, f"{name}[{index}]") for index, item in enumerate(value or ())]

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        name = next((name for name in names if self.fields.get(name) is not None), names[0])
        return f"{self.path}.{name}", self.fields.get(name)
