"""Price files as tests need them."""

from __future__ import annotations

import json
from decimal import Decimal

CHAT = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_input_tokens": 128000,
    "max_output_tokens": 16384,
    "input_cost_per_token": 2.5e-06,
    "output_cost_per_token": 1e-05,
    "supports_vision": True,
}


def chat(**other):
    """An entry of a chat model; None leaves a field out."""
    return {name: value for name, value in (CHAT | other).items() if value is not None}


def dump(entries):
    return json.dumps(entries, indent=4).encode()


def big(count):
    """A file of many models of many shapes, as large files have them."""
    providers = ["openai", "anthropic", "gemini", "vertex_ai-language-models", "bedrock_converse", "mistral", "azure"]
    entries = {}
    for n in range(count):
        entry = chat(
            litellm_provider=providers[n % 7], max_input_tokens=1000 + n, input_cost_per_token=float(Decimal(n + 1).scaleb(-9)),
            cache_read_input_token_cost=float(Decimal(n + 1).scaleb(-10)), source=f"https://example.org/{n}",
            supports_tool_choice=n % 2 == 0, supports_none_reasoning_effort=True, rpm=n, metadata={"n": n},
        )  # fmt: skip
        if n % 5 == 0:
            entry["search_context_cost_per_query"] = {"search_context_size_low": 0.01, "search_context_size_high": 0.03}
        if n % 50 == 0:
            entry = {"litellm_provider": "openai", "mode": "moderation"}
        entries[f"model-{n}"] = entry
    return entries
