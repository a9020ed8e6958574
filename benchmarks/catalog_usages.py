"""Calls to compare prices with: at every edge of an entry, and at random; the same ones every time."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from catalog.pricing import Usage

SIZES = (0, 1, 7, 128, 1_000, 4_096, 31_999, 65_536, 128_001, 199_999, 272_001, 524_288, 1_100_000)
TIERS = ("", "priority", "fast", "flex", "balanced", "ultrafast", "auto", "default", "scale", "Priority")
MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
RANDOM_CALLS = 32
OUTPUT = frozenset(
    {"completion_tokens", "reasoning_tokens"}
    | {f"output_{modality}_tokens" for modality in ("text", "audio", "image", "video")}
)

_THRESHOLD = re.compile(r"_above_(\d+)(k?)_tokens")
_HOUR = re.compile(r"(\d\d):(\d\d)")


def calls(key: str, entry: Mapping[str, Any]) -> Iterator[Usage]:
    """At each edge of the entry: a token below, at it, a token above, in plain and in each tier; then at random."""
    chance = random.Random(key)  # noqa: S311 - the same calls every time
    for edge in sorted(edges(entry)):
        for tokens in (edge - 1, edge, edge + 1):
            yield _call(chance, entry, prompt_tokens=max(tokens, 0))
            yield _call(chance, entry, prompt_tokens=max(tokens, 0), service_tier=chance.choice(TIERS))
            yield _call(chance, entry, prompt_tokens=max(tokens, 0), batch=True)
    for moment in moments(entry):
        yield _call(chance, entry, at=moment)
    if any(field.endswith("_decisions") for field in entry):
        for _ in range(RANDOM_CALLS):
            yield _call(chance, entry, kind="decisions")
    for _ in range(RANDOM_CALLS):
        yield _call(chance, entry)


def edges(entry: Mapping[str, Any]) -> set[int]:
    """Every count of prompt tokens at which a rate of the entry changes."""
    found = {
        int(number) * (1000 if thousands else 1) for field in entry for number, thousands in _THRESHOLD.findall(field)
    }
    for row in entry.get("tiered_pricing") or ():
        found.update(int(bound) for bound in row.get("range", ()) if bound < 10**9)
    return found


def moments(entry: Mapping[str, Any]) -> Iterator[datetime]:
    """A minute before, at and a minute after each edge of the off-peak hours, on each day of a week."""
    block = entry.get("off_peak_pricing")
    if not block:
        return
    marks = {int(hour) * 60 + int(minute) for hour, minute in _HOUR.findall(str(block))} | {
        16 * 60
    }  # midnight in China
    for day in range(7):
        for minute in sorted(marks):
            for beside in (-1, 0, 1):
                yield MONDAY + timedelta(days=day, minutes=minute + beside)


def _call(chance: random.Random, entry: Mapping[str, Any], **fixed: Any) -> Usage:
    known: dict[str, Any] = {"prompt_tokens": _size(chance), "completion_tokens": _size(chance)} | fixed
    if "code_interpreter_cost_per_session" in entry:
        return Usage(code_sessions=chance.randint(1, 4))
    likely = {_tier: 0.35, _batch: 0.12, _place: 0.2, _cache: 0.5, _input_modalities: 0.2, _units: 0.08, _tools: 0.15}
    likely |= {_output_split: 0.35, _odd: 0.06}
    for part, probability in likely.items():
        if chance.random() < probability:
            known = part(chance, known) | fixed
    if entry.get("off_peak_pricing") and "at" not in known:
        known["at"] = MONDAY + timedelta(minutes=chance.randrange(7 * 24 * 60))
    if entry.get("mode") == "embedding":
        known = {name: value for name, value in known.items() if name not in OUTPUT}
    known["duration_seconds"] = Decimal(chance.randrange(0, 90_000)) / 1000
    return Usage(**known)


def _size(chance: random.Random) -> int:
    return chance.choice(SIZES) if chance.random() < 0.4 else int(10 ** chance.uniform(0, 6))


def _up_to(chance: random.Random, most: int) -> int:
    return chance.choice((0, most, chance.randint(0, max(most, 0)), chance.randint(0, max(most, 0))))


def _tier(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    return known | {"service_tier": chance.choice(TIERS)}


def _batch(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    return known | {"batch": True}


def _place(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    return known | {
        "data_residency": chance.choice(("", "eu", "us", "apac")),
        "location": chance.choice(("", "global", "us-east5", "europe-west1")),
        "inference_geo": chance.choice(("", "us", "US", "global", "not_available", "eu")),
        "speed": chance.choice(("", "fast", "standard")),
    }


def _cache(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    prompt = known["prompt_tokens"]
    read = _up_to(chance, prompt)
    written = _up_to(chance, prompt - read) if chance.random() < 0.6 else 0
    known |= {"cached_tokens": read, "cache_write_tokens": written}
    if chance.random() < 0.2:
        known["cache_type"] = chance.choice(("ephemeral", "implicit"))
    if written and chance.random() < 0.6:
        left = written
        for life in chance.sample(("5m", "30m", "1h", "12h"), k=chance.randint(1, 4)):
            known[f"cache_write_{life}_tokens"] = part = _up_to(chance, left)
            left -= part
    return known


def _input_modalities(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    left = known["prompt_tokens"]
    for modality in chance.sample(("text", "audio", "image", "video"), k=chance.randint(1, 4)):
        known[f"{modality}_tokens"] = part = _up_to(chance, left)
        left -= part
    read = known.get("cached_tokens", 0)
    if read and chance.random() < 0.5:
        for modality in chance.sample(("text", "audio", "image"), k=chance.randint(1, 3)):
            known[f"cached_{modality}_tokens"] = part = _up_to(chance, read)
            read -= part
    return known


def _output_split(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    left = known["completion_tokens"]
    known["reasoning_tokens"] = reasoning = _up_to(chance, left)
    if chance.random() < 0.3:
        left -= reasoning
        for modality in chance.sample(("text", "audio", "image", "video"), k=chance.randint(1, 4)):
            known[f"output_{modality}_tokens"] = part = _up_to(chance, left)
            left -= part
    elif chance.random() < 0.3:
        known["output_text_tokens"] = known["completion_tokens"]  # with the reasoning: some providers count so
    return known


def _units(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    units: dict[str, Any] = {
        "characters": chance.randint(1, 9_000),
        "images": chance.randint(1, 9),
        "audio_seconds": Decimal(chance.randint(1, 9_000)) / 100,
        "video_seconds": Decimal(chance.randint(1, 9_000)) / 100,
        "queries": chance.randint(1, 5),
        "citation_tokens": chance.randint(1, 9_000),
        "provider_cost": Decimal(chance.randint(0, 10**6)) / 10**7,
    }
    return known | {name: units[name] for name in chance.sample(sorted(units), k=chance.randint(1, 3))}


def _tools(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    tools: dict[str, Any] = {
        "web_searches": chance.randint(1, 6),
        "maps_requests": chance.randint(1, 4),
        "browser_opens": chance.randint(1, 4),
        "file_searches": chance.choice((1, 1, 1, 3)),
    }
    known |= {name: tools[name] for name in chance.sample(sorted(tools), k=chance.choice((1, 1, 2)))}
    return known | {"search_context": chance.choice(("", "low", "medium", "high"))}


def _odd(chance: random.Random, known: dict[str, Any]) -> dict[str, Any]:
    """Counts that contradict each other, as broken streams report them."""
    prompt, completion = known["prompt_tokens"], known["completion_tokens"]
    odd: dict[str, Any] = {
        "cached_tokens": prompt + chance.randint(0, 500),
        "cache_write_tokens": prompt + chance.randint(0, 500),
        "cache_write_1h_tokens": known.get("cache_write_tokens", 0) + chance.randint(1, 500),
        "text_tokens": prompt + chance.randint(0, 500),
        "audio_tokens": prompt + chance.randint(0, 500),
        "cached_audio_tokens": known.get("cached_tokens", 0) + chance.randint(0, 500),
        "reasoning_tokens": completion + chance.randint(0, 500),
        "output_text_tokens": completion + chance.randint(0, 500),
        "output_image_tokens": completion + chance.randint(0, 500),
    }
    return known | {name: odd[name] for name in chance.sample(sorted(odd), k=chance.randint(1, 3))}
