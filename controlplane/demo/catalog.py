"""Providers, models and aliases of the demo data. Keys are those of the public price file, so an import adopts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """key: `<provider>/<name>`, or the name alone; limits in tokens; abilities: names of `supports_…` columns."""

    provider: str
    key: str
    name: str
    limits: tuple[int, int | None]
    mode: str = "chat"
    abilities: str = "function_calling tool_choice vision response_schema"
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def canonical_id(self) -> str:
        return f"{self.provider}/{self.key.removeprefix(self.provider + '/')}"


PROVIDERS = {
    "anthropic": ("Anthropic", "https://docs.claude.com"),
    "openai": ("OpenAI", "https://platform.openai.com/docs"),
    "gemini": ("Google Gemini", "https://ai.google.dev/gemini-api/docs"),
    "mistral": ("Mistral AI", "https://docs.mistral.ai"),
}
"""Name and documentation by slug."""

_FULL = "function_calling tool_choice vision response_schema reasoning prompt_caching pdf_input"

MODELS = (
    Model("anthropic", "claude-opus-5-5", "Claude Opus 5.5", (1_000_000, 128_000), abilities=f"{_FULL} computer_use"),
    Model("anthropic", "claude-sonnet-5-5", "Claude Sonnet 5.5", (1_000_000, 128_000), abilities=_FULL),
    Model("anthropic", "claude-haiku-5-5", "Claude Haiku 5.5", (1_000_000, 128_000), abilities=_FULL),
    Model("openai", "gpt-5.6", "GPT-5.6", (922_000, 128_000), abilities=f"{_FULL} native_streaming"),
    Model("openai", "gpt-5.4-mini", "GPT-5.4 mini", (272_000, 128_000), abilities=f"{_FULL} native_streaming"),
    Model("openai", "gpt-5.4-nano", "GPT-5.4 nano", (272_000, 128_000), more={"deprecation_date": "2027-04-01"}),
    Model(
        "openai", "text-embedding-3-large", "Embedding 3 large", (8_191, None), mode="embedding", abilities="",
        more={"output_vector_size": 3072},
    ),
    Model("gemini", "gemini/gemini-3.8-flash", "Gemini 3.8 Flash", (1_048_576, 65_536), abilities=_FULL),
    Model("gemini", "gemini/gemini-2.5-pro", "Gemini 2.5 Pro", (1_048_576, 65_536), more={"enabled": False}),
    Model("mistral", "mistral/mistral-large-4", "Mistral Large 4", (1_048_576, 1_048_576)),
    Model("mistral", "mistral/mistral-medium-3-5", "Mistral Medium 3.5", (262_144, 262_144)),
    Model("mistral", "mistral/mistral-embed", "Mistral Embed", (8_192, None), mode="embedding", abilities=""),
)  # fmt: skip

ALIASES = (
    ("", "quick", "claude-haiku-5-5", "Cheap and fast, for everybody"),
    ("", "thorough", "claude-opus-5-5", "When the answer must be right"),
    ("marlow-daughters", "house-style", "claude-sonnet-5-5", "Edits in the house style"),
    ("nordlys-klinikk", "journal", "mistral/mistral-large-4", "Hosted in Europe, as patient records need"),
    ("tamarind-travel", "quick", "gemini/gemini-3.8-flash", "Tamarind's own meaning of quick"),
)
"""(tenant slug or "" for everybody, alias, model key, note)."""
