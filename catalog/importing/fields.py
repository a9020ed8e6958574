"""Which field of a price file is a price, and which of them a rule reads."""

from __future__ import annotations

import re

META = frozenset({"sample_spec", "fallback_generalizations", "about"})
"""Entries of a file that are no models; `about` is ours (the bundled catalog says there of when it is)."""

NESTED = frozenset({"off_peak_pricing", "provider_specific_entry", "search_free_requests", "tiered_pricing"})
TABLES = frozenset({"search_context_cost_per_query", "guardrail_cost_per_unit"})
WORDS = frozenset({"web_search_billing_unit"})
"""Price fields that hold something else than one number: objects and lists with words in them, objects of numbers, a word."""

MODES = frozenset(
    {
        "audio_speech", "audio_transcription", "chat", "completion", "decisions", "embedding", "evaluation", "extraction",
        "guardrail", "image_edit", "image_generation", "moderation", "ocr", "realtime", "rerank", "responses", "search",
        "vector_store", "video_generation",
    }
)  # fmt: skip

_TIER = r"(_(priority|flex|balanced|ultrafast|batches|decisions))?"
_ABOVE = r"(_above_\d+k?_tokens)?"
_PRICED = re.compile(
    "|".join(
        (
            rf"(input|output)_cost_per_token{_ABOVE}{_TIER}",
            rf"cache_(read|creation)_input_token_cost{_ABOVE}{_TIER}",
            rf"cache_creation_input_token_cost_above_(1|12)hr{_ABOVE}{_TIER}",
            rf"output_cost_per_reasoning_token{_TIER}",
            rf"(explicit_cache_read_input_token|cache_read_input_audio_token)_cost{_TIER}",
            rf"input_cost_per_(audio|image|video)_token{_TIER}",
            r"output_cost_per_(audio|video)_token|output_cost_per_image_token(_batches)?",
            r"input_cost_per_(character|image|pixel|query)|input_cost_per_(audio|video)_per_second",
            r"(input_)?cost_per_second|output_cost_per_(video_per_second|pixel)",
            r"output_cost_per_(second|image)(_\d+[pkK]?|_[\d.]+K)?",
            r"(ocr|annotation)_cost_per_page(_batches)?|ocr_cost_per_credit|citation_cost_per_token",
            r"search_context_cost_per_query|google_maps_grounding_cost_per_query|code_interpreter_cost_per_session",
            r"regional_processing_uplift_multiplier_(eu|us)|regional_endpoint_uplift_multiplier",
            r"off_peak_pricing|provider_specific_entry|tiered_pricing|web_search_billing_unit",
        )
    )
)


def is_price(field: str) -> bool:
    """Whether a field of an entry belongs to its rates."""
    return "cost" in field or "_multiplier" in field or field in NESTED or field in WORDS


def is_priced(field: str) -> bool:
    """Whether some rule of pricing reads this price field."""
    return _PRICED.fullmatch(field) is not None


def is_token_rate(field: str) -> bool:
    """Whether a price field, or one in a table, is in US dollars per token."""
    return "token" in field and "cost" in field and "_1k_" not in field
