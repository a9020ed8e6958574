"""An entry of a price file as the columns and rates of ours, and back. Pure. Each field lands in exactly one place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from catalog import units
from catalog.importing import fields
from catalog.importing.reading import Number
from catalog.importing.validating import Fault, decimal
from catalog.models import CAPABILITIES
from catalog.models.price import fingerprint
from catalog.names import fold

_PLAIN = re.compile(r"[0-9]{1,40}(\.[0-9]{0,60})?([eE][-+]?[0-9]{1,2})?")
_URL = re.compile(r"https?://[^\s]+")
_BIG, _INT = 2**63 - 1, 2**31 - 1
_KNOWN = {
    "ai21": "AI21 Labs", "amazon_nova": "Amazon Nova", "anthropic": "Anthropic", "azure": "Azure OpenAI",
    "azure_ai": "Azure AI Foundry", "bedrock": "Amazon Bedrock", "bedrock_mantle": "Amazon Bedrock Mantle",
    "black_forest_labs": "Black Forest Labs", "cohere": "Cohere", "deepseek": "DeepSeek", "elevenlabs": "ElevenLabs",
    "fal_ai": "fal.ai", "fireworks_ai": "Fireworks AI", "gemini": "Google Gemini", "github_copilot": "GitHub Copilot",
    "groq": "Groq", "jina_ai": "Jina AI", "meta_llama": "Meta Llama", "mistral": "Mistral AI", "nvidia_nim": "NVIDIA NIM",
    "oci": "Oracle Cloud", "openai": "OpenAI", "sagemaker": "Amazon SageMaker", "together_ai": "Together AI",
    "vertex_ai": "Google Vertex AI", "voyage": "Voyage AI", "watsonx": "IBM watsonx", "xai": "xAI", "zai": "Z.ai",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mapped:
    """An entry without errors. provider: slug; columns: those of AIModel that the source fills, all of them, by name;
    rates, fingerprint: as of ModelPrice, rates may be empty."""

    key: str
    provider: str
    columns: dict[str, Any]
    rates: dict[str, Any]
    fingerprint: str


def provider_name(slug: str) -> str:
    """A provider's name for people, as good as it can be known."""
    return _KNOWN.get(slug, slug.replace("_", " ").replace("-", " ").title())


def to_columns(key: str, entry: Mapping[str, Any]) -> tuple[Mapped, list[Fault]]:
    """Where each field of an entry without errors goes, and the warnings of those whose column does not fit."""
    columns: dict[str, Any] = {**EMPTY, "flags": {}, "extra": {}}
    rates: dict[str, Any] = {}
    faults = []
    for name, value in entry.items():
        if fields.is_price(name):
            rates[name] = _literal(value)
            continue
        fit = COLUMNS.get(name)
        found = fit.read(value) if fit else None
        if fit and found is not None:
            columns[fit.column] = found
        elif name.startswith("supports_") and isinstance(value, bool):
            columns["flags"][name] = value
        else:
            columns["extra"][name] = exact(value)
            if fit and value not in (None, "", []):
                faults.append(fit.fault(name, value))
    slug = fold(columns["source_provider"])
    columns["name"] = key.removeprefix(f"{slug}/")
    return Mapped(key, slug, columns, rates, fingerprint(rates) if rates else ""), faults


def to_entry(columns: Mapping[str, Any], rates: Mapping[str, Any]) -> dict[str, Any]:
    """The entry that a model and its price come from, equal in value; numbers are int or Decimal."""
    entry = {
        name: _written(columns[fit.column])
        for name, fit in COLUMNS.items()
        if columns[fit.column] not in (None, "", [])
    }
    entry |= {name: _numbers(value) for name, value in rates.items()}
    return {**columns["extra"], **columns["flags"], **entry}


def exact(value: Any) -> Any:
    """A value as read, its numbers as int or Decimal."""
    if isinstance(value, Number):
        return Decimal(value) if not value.lstrip("-").isdecimal() else _int(value)
    if isinstance(value, dict):
        return {name: exact(inner) for name, inner in value.items()}
    return [exact(inner) for inner in value] if isinstance(value, list) else value


def to_json(value: Any) -> str:
    """JSON with each number as it is: json.dumps knows no Decimal, and floats would be others."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(name))}: {to_json(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def from_json(text: str) -> Any:
    """JSON with each number as int or Decimal."""
    return json.loads(text, parse_float=Decimal, parse_int=_int)


def _int(text: str) -> int | Decimal:
    """Python refuses to read an int of thousands of digits."""
    return int(text) if len(text) < 20 else Decimal(text)


def _literal(value: Any) -> Any:
    """A rate as it is stored: each number the text it was written as, or, if the database would refuse that, another one
    of the same value."""
    if isinstance(value, Number):
        return str(value) if _PLAIN.fullmatch(value) else plain(Decimal(value))
    if isinstance(value, dict):
        return {name: _literal(inner) for name, inner in value.items()}
    return [_literal(inner) for inner in value] if isinstance(value, list) else value


def plain(value: Decimal) -> str:
    """A rate as text that the database takes for one."""
    return units.plain(value.copy_abs())  # abs() rounds


def _numbers(value: Any) -> Any:
    """The reverse of _literal."""
    if isinstance(value, str):
        return exact(Number(value)) if _PLAIN.fullmatch(value) else value
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items()}
    return [_numbers(inner) for inner in value] if isinstance(value, list) else value


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True, slots=True)
class Fit:
    """column: of AIModel; read: the value for it, or None where it does not fit; what: what would fit."""

    column: str
    read: Callable[[Any], Any]
    what: str

    def fault(self, name: str, value: Any) -> Fault:
        code = "bad_deprecation_date" if name == "deprecation_date" else "wrong_type"
        return Fault(code, name, value, f"It is not {self.what}; kept in extra.")


def _word(longest: int) -> Callable[[Any], str | None]:
    return lambda value: value if type(value) is str and 0 < len(value) <= longest else None


def _words(longest: int) -> Callable[[Any], list[str] | None]:
    word = _word(longest)
    return lambda value: value if isinstance(value, list) and value and all(map(word, value)) else None


def _whole(most: int) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        number = decimal(value) if isinstance(value, Number) else None
        return int(number) if number is not None and 0 <= number <= most and number == number.to_integral() else None

    return read


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _day(value: Any) -> date | None:
    try:
        day = date.fromisoformat(value) if type(value) is str else None
    except ValueError:
        return None
    return day if day and day.isoformat() == value else None


def _url(value: Any) -> str | None:
    return value if type(value) is str and len(value) <= 500 and _URL.fullmatch(value) else None


COLUMNS: dict[str, Fit] = {
    "litellm_provider": Fit("source_provider", _word(64), "a word"),
    "mode": Fit("mode", _word(64), "a word"),
    **{
        name: Fit(name, _whole(_BIG), "a whole number")
        for name in ("max_input_tokens", "max_output_tokens", "max_tokens")
    },
    **{f"supports_{name}": Fit(f"supports_{name}", _flag, "true or false") for name in CAPABILITIES},
    "supported_endpoints": Fit("supported_endpoints", _words(100), "a list of words"),
    "supported_modalities": Fit("input_modalities", _words(32), "a list of words"),
    "supported_output_modalities": Fit("output_modalities", _words(32), "a list of words"),
    "supported_regions": Fit("regions", _words(64), "a list of words"),
    "output_vector_size": Fit("output_vector_size", _whole(_INT), "a whole number"),
    **{name: Fit(name, _whole(_BIG), "a whole number") for name in ("rpm", "tpm")},
    "deprecation_date": Fit("deprecation_date", _day, "a date as 2026-12-31"),
    "source": Fit("source_url", _url, "an address"),
}
"""The source's fields that have a column."""

_TEXTS = ("source_provider", "mode", "source_url")
_LISTS = ("supported_endpoints", "input_modalities", "output_modalities", "regions")
EMPTY: dict[str, Any] = {
    fit.column: "" if fit.column in _TEXTS else [] if fit.column in _LISTS else None for fit in COLUMNS.values()
}
"""What a column holds where the source is silent."""
