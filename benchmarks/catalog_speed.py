"""What a price costs to compute: `cost` with its lines beside LiteLLM's `cost_per_token`, in turns, in one process.

Both compute and wait for nothing, so the processor's time is taken: it is not stretched by what else the machine does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import cycle, islice
from statistics import median
from time import thread_time
from typing import Any

from benchmarks import catalog_oracle as oracle
from benchmarks.report import Goal, show
from catalog.pricing import Rates, Usage, cost

MODEL = "gpt-6-astra"  # priced by thresholds, service tiers, cache reads and writes
NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)
KINDS = {
    "text": Usage(prompt_tokens=1_200, completion_tokens=350),
    "cache": Usage(prompt_tokens=9_000, cached_tokens=6_000, cache_write_tokens=1_500, completion_tokens=350),
    "reasoning": Usage(prompt_tokens=1_200, completion_tokens=2_350, reasoning_tokens=1_900),
    "tier": Usage(prompt_tokens=300_000, cached_tokens=120_000, completion_tokens=2_000, service_tier="priority"),
}
TURNS = 41
CALLS = 250
LEAST = 5.0


def run(prices: bytes) -> bool:
    """Both get what they need ready-made: rates compiled and caches warm, usages and arguments built."""
    oracle.load(prices)
    entries = json.loads(prices, parse_float=Decimal)
    rows = {f"{MODEL}, {name}": [(MODEL, usage)] for name, usage in KINDS.items()}
    usages = cycle(KINDS.values())
    models = [key for key, entry in entries.items() if oracle.chat_type(key, entry)]
    rows[f"all {len(models):,} models"] = [(key, replace(next(usages), at=NOON)) for key in models]
    measured, goals = {}, []
    for name, calls in rows.items():
        ours, theirs = _in_turns([_prepared(key, entries[key], usage) for key, usage in calls])
        measured |= {f"{name}: cost": ours, f"{name}: LiteLLM": theirs}
        goals.append(Goal(f"{name}, against LiteLLM", ours / theirs, LEAST, "{:.1f} x"))
    return show("Prices computed", measured, "calls/s", goals)


def _prepared(key: str, entry: Mapping[str, Any], usage: Usage) -> tuple[Rates, Usage, dict[str, Any]]:
    provider = oracle.provider_of(entry["litellm_provider"])
    rates = Rates.from_entry(entry, provider, key=key)
    theirs = oracle.their_usage(key, provider, usage)
    return rates, usage, oracle.arguments(key, provider, entry.get("mode") or "", usage, theirs)


def _in_turns(calls: list[tuple[Rates, Usage, dict[str, Any]]]) -> tuple[float, float]:
    """Calls per second of ours and of theirs, each the median of turns that alternate; of many models each turn takes others."""
    for rates, usage, arguments in calls:  # once for the caches
        cost(rates, usage)
        oracle.cost_per_token(**arguments)
    queue = cycle(calls)
    ours, theirs = [], []
    for _ in range(TURNS):
        turn = list(islice(queue, CALLS))
        began = thread_time()
        for rates, usage, _arguments in turn:
            cost(rates, usage)
        halfway = thread_time()
        for _rates, _usage, arguments in turn:
            oracle.cost_per_token(**arguments)
        ended = thread_time()
        ours.append(CALLS / (halfway - began))
        theirs.append(CALLS / (ended - halfway))
    return median(ours), median(theirs)
