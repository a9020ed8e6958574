"""Every chat-type entry of the price file × calls of every sort: what `catalog.pricing` and LiteLLM charge must be equal.

Each difference is a deviation on purpose, recognised by the very amount that it makes, or a failure. Alone, without a database:
`python -m benchmarks.catalog_comparison [--prices PATH]`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks import catalog_oracle as oracle
from benchmarks.catalog_usages import calls
from catalog.errors import CatalogError
from catalog.pricing import Cost, Rates, Usage, cost

LEAST_CASES = 100_000
TOLERANCE = 1e-12
FILE_SEARCH = 0.0025
SHOWN = 3
RATE_ALONE = "a rate that exists is used even beside no text rate"

INPUT_UNITS = (
    "prompt_tokens", "cached_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_30m_tokens",
    "cache_write_1h_tokens", "cache_write_12h_tokens", "text_tokens", "audio_tokens", "image_tokens", "video_tokens",
    "citation_tokens", "characters", "images", "audio_seconds", "video_seconds", "queries",
)  # fmt: skip
OUTPUT_UNITS = (
    "completion_tokens", "output_text_tokens", "reasoning_tokens", "output_audio_tokens", "output_image_tokens",
    "output_video_tokens",
)  # fmt: skip
INPUT_FIELDS = (
    "input_cost_per_",
    "cache_read_",
    "cache_creation_",
    "explicit_cache_read_",
    "citation_cost_",
    "cost_per_second",
)
OUTPUT_FIELDS = ("output_cost_per_", "cost_per_second")
VARIANT = re.compile(r"_(priority|flex|balanced|ultrafast|batches|decisions)$")
IDLE = re.compile(
    r"_cache_hit$|_interval$|_per_request$|_per_text_message$|^cache_read_input_image_|^cache_creation_input_audio_"
)
WITHOUT_TIERS = frozenset(
    {"fireworks_ai", "deepseek", "tencent", "xai", "perplexity", "dashscope", "qwencloud", "qwen_ai_platform"}
)
WITH_RULES = WITHOUT_TIERS | {
    "vertex_ai", "anthropic", "bedrock", "openai", "databricks", "azure", "gemini", "lemonade", "azure_ai",
}  # fmt: skip
"""Providers that LiteLLM prices without asking first whether there is a text rate."""


@dataclass(frozen=True, slots=True)
class Case:
    key: str
    entry: Mapping[str, Any]
    provider: str
    usage: Usage
    ours: Cost
    theirs: oracle.Answer

    def rate(self, name: str) -> float:
        return float(self.entry.get(name) or 0)

    def differing(self) -> list[str]:
        """Of input, output, tools those that are not equal at 1e-12."""
        return [part for part in ("input", "output", "tools") if not self.equal(part)]

    def equal(self, part: str, expected: float = 0.0) -> bool:
        """Whether ours is theirs and so much more. A cost that the provider states is split by a subtraction of floats."""
        split = float(self.usage.provider_cost or 0) if self.provider == "xai" else 0.0
        return equal(getattr(self.ours, part), getattr(self.theirs, part) + expected, split)


@dataclass(slots=True)
class Outcome:
    entries: int = 0
    cases: int = 0
    deviations: Counter[str] = field(default_factory=Counter)
    failures: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by kind

    @property
    def good(self) -> bool:
        return not self.failures and self.cases >= LEAST_CASES


def compare(prices: bytes) -> Outcome:
    """Price every call with both, entry by entry; entries that LiteLLM finds another in place of, after taking that one away."""
    oracle.load(prices)
    outcome, hidden = Outcome(), defaultdict(list)
    exact = json.loads(prices, parse_float=Decimal)
    entries = {key: entry for key, entry in exact.items() if oracle.chat_type(key, entry)}
    for key, entry in entries.items():
        found = oracle.found_by(key, oracle.provider_of(entry["litellm_provider"]))
        if found == key:
            _compare_entry(key, entry, outcome)
        else:
            hidden[found].append(key)
    oracle.load(prices, without=[key for key in hidden if key])
    for key in (key for keys in hidden.values() for key in keys):
        _compare_entry(key, entries[key], outcome)
    return outcome


def _compare_entry(key: str, entry: Mapping[str, Any], outcome: Outcome) -> None:
    provider = oracle.provider_of(entry["litellm_provider"])
    rates = Rates.from_entry(entry, provider, key=key)
    outcome.entries += 1
    for usage in calls(key, entry):
        if usage.batch and provider in oracle.LOGGED_IN:
            continue
        outcome.cases += 1
        theirs = oracle.ask(key, provider, entry.get("mode") or "", usage)
        try:
            ours = cost(rates, usage)
        except CatalogError as error:
            outcome.failures[f"error {error.code}"].append(
                f"{key}: {_used(usage)}\n    ours {error}\n    theirs {theirs}"
            )
            continue
        case = Case(key, entry, provider, usage, ours, theirs)
        kind, excused = _judge(case)
        if not excused:
            outcome.failures[f"{provider}: {kind}"].append(f"{key}: {_used(usage)}\n    {_amounts(case)}")
        elif kind:
            outcome.deviations[kind] += 1


def _judge(case: Case) -> tuple[str, bool]:
    """What the difference is, and whether it is meant. ("", True): there is none."""
    lacking = _unpriced_sides(case)
    if case.ours.status == "unpriced" or lacking:
        billed = any(getattr(case.theirs, side) for side in lacking)
        agreed = case.ours.status == "unpriced" and case.ours.total is None and bool(lacking) and not billed
        return "no usable rate: unpriced, not 0", agreed
    if case.theirs.error:
        return f"LiteLLM: {case.theirs.error}", False
    differing = case.differing()
    if not differing:
        return "", True
    reasons = {part: _reason(case, part) for part in differing}
    if all(reasons.values()):
        return " + ".join(sorted(set(reasons.values()))), True
    return ", ".join(part for part, reason in reasons.items() if not reason), False


def _reason(case: Case, part: str) -> str:
    """The deviation on purpose that makes exactly this difference; "" if none does."""
    return next((name for name, expected in _deviations(case, part) if case.equal(part, expected)), "")


def _deviations(case: Case, part: str) -> Iterator[tuple[str, float]]:
    """Each deviation that this case may show in this amount, and by how much ours is more than theirs then."""
    usage, entry = case.usage, case.entry
    if part == "tools" and usage.file_searches:
        counted = 0 if case.provider == "azure" or _searched(case) else 1
        yield "each file search counts", FILE_SEARCH * (usage.file_searches - counted)
    sessions = usage.code_sessions * case.rate("code_interpreter_cost_per_session")
    if (
        part == "tools"
        and sessions
        and case.provider != "azure"
        and not any(name.endswith("_per_token") for name in entry)
    ):
        yield RATE_ALONE, sessions
    if part == "input" and usage.batch and _missing(entry, "input_cost_per_token_batches"):
        half = case.rate("input_cost_per_token") / 2 * _uplift(case)
        over = half * max(usage.cached_tokens + usage.cache_write_tokens - usage.prompt_tokens, 0)
        unread = half * usage.cached_tokens if _missing(entry, "cache_read_input_token_cost") else 0.0
        if unread:
            yield "a batch without cache-read rate bills reads at half the input rate", unread
        if over:
            yield "counts never go negative", over
        if unread and over:
            yield (
                "a batch without cache-read rate bills reads at half the input rate + counts never go negative",
                unread + over,
            )
    unasked = case.provider not in WITH_RULES and not usage.batch and not entry.get("tiered_pricing")
    textless = not case.rate("input_cost_per_token") and not case.rate("output_cost_per_token")
    if part != "tools" and unasked and textless and not case.theirs.input and not case.theirs.output:
        yield RATE_ALONE, float(getattr(case.ours, part))


def _missing(entry: Mapping[str, Any], name: str) -> bool:
    return entry.get(name) is None


def _uplift(case: Case) -> float:
    regional = case.rate(f"regional_processing_uplift_multiplier_{case.usage.data_residency}") or 1.0
    abroad = case.usage.location not in ("", "global")
    return regional * ((case.rate("regional_endpoint_uplift_multiplier") or 1.0) if abroad else 1.0)


def _searched(case: Case) -> bool:
    """LiteLLM bills the searches of the web, and then no other tool of this sort."""
    opened = case.usage.browser_opens if case.provider == "groq" else 0
    return bool(case.usage.web_searches or opened)


def _unpriced_sides(case: Case) -> list[str]:
    """The sides that have units and no price field that a rule could use."""
    usage, entry = case.usage, case.entry
    stated = case.provider in ("perplexity", "xai") and usage.provider_cost is not None and not usage.batch
    if case.provider == "lemonade" or stated:
        return []
    if entry.get("tiered_pricing") and not usage.batch:
        return []
    names = [name for name, value in entry.items() if value is not None and _usable(case, name)]
    sides = {
        "input": (INPUT_UNITS, ("input_cost_per_token",) if usage.batch else INPUT_FIELDS),
        "output": (
            OUTPUT_UNITS,
            ("output_cost_per_token", "output_cost_per_image_token") if usage.batch else OUTPUT_FIELDS,
        ),
    }
    return [
        side
        for side, (units, fields) in sides.items()
        if any(getattr(usage, unit) for unit in units) and not any(name.startswith(fields) for name in names)
    ]


def _usable(case: Case, name: str) -> bool:
    """Not a field of another service tier, or of batches, or one that no rule uses."""
    if IDLE.search(name):
        return False
    variant = VARIANT.search(name)
    if not variant:
        return True
    if variant[1] == "batches":
        return case.usage.batch
    if variant[1] == "decisions":
        return case.usage.kind == "decisions"
    tier = case.usage.service_tier.lower()
    sold = case.provider not in WITHOUT_TIERS and not case.usage.batch
    return sold and variant[1] == {"fast": "priority"}.get(tier, tier)


def equal(ours: Decimal | None, theirs: float, scale: float = 0.0) -> bool:
    """At 1e-12 of the greater, or of `scale` if that is more."""
    if ours is None:
        return False
    return abs(float(ours) - theirs) <= max(TOLERANCE * max(abs(float(ours)), abs(theirs), scale), 1e-18)


def _used(usage: Usage) -> str:
    plain = Usage()
    changed = {
        f.name: getattr(usage, f.name) for f in fields(usage) if getattr(usage, f.name) != getattr(plain, f.name)
    }
    changed.pop("duration_seconds", None)
    return ", ".join(
        f"{name}={value if not isinstance(value, str) else repr(value)}" for name, value in changed.items()
    )


def _amounts(case: Case) -> str:
    ours = case.ours
    return (
        f"ours {ours.status} input={ours.input} output={ours.output} tools={ours.tools}\n"
        f"    theirs input={case.theirs.input!r} output={case.theirs.output!r} tools={case.theirs.tools!r} {case.theirs.error}"
    )


def show(outcome: Outcome) -> bool:
    """Write what was compared; whether nothing is unexplained and enough was."""
    lines = [f"{outcome.cases:,} calls over {outcome.entries:,} entries, equal to LiteLLM at {TOLERANCE:g}, but for"]
    lines += [f"  {count:>9,} {name}" for name, count in outcome.deviations.most_common()]
    lines += [f"  {sum(map(len, outcome.failures.values())):>9,} UNEXPLAINED"]
    for kind, told in sorted(outcome.failures.items(), key=lambda item: -len(item[1])):
        lines += [f"  {len(told):>9,} of these: {kind}", *(f"  {each}" for each in told[:SHOWN])]
    if outcome.cases < LEAST_CASES:
        lines.append(f"  MISSED {LEAST_CASES:,} calls are required")
    sys.stdout.write("\n".join(lines) + "\n")
    return outcome.good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", type=Path, help="a price file; default: the one that LiteLLM ships")
    file = parser.parse_args().prices
    sys.exit(0 if show(compare(file.read_bytes() if file else oracle.bundled())) else 1)
