"""Decisions about models beside policy engines, and a cold look-up beside its own SQL."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import policies_cold, policies_peers
from benchmarks.policies_set import CHECKED, MODELS, Pair, Stored, pairs, reference, rules, sliced
from benchmarks.report import Goal, show
from controlplane.core.caches import invalidation
from policies.models import Policy

TURNS, WHOLE = 15, 20

Question = tuple[Callable[..., Any], tuple[Any, ...]]


def run() -> bool:
    """Each figure is the median of turns that take turns with those it is compared to."""
    everything, asked = rules(), pairs()
    by_owner = {rule.owner: rule for rule in everything}
    stored = Stored(everything)
    held = _held(stored, asked)
    answers = {pair: [m for m in MODELS if reference(sliced(by_owner, pair), m)] for pair in asked}
    guardian = policies_peers.Guardian(answers)
    engines = {
        name: {pair: make(pair, sliced(by_owner, pair)) for pair in asked}
        for name, make in {**policies_peers.SLICED, "django-guardian, allow rows": guardian.sliced}.items()
    }
    whole = {name: make(everything) for name, make in policies_peers.WHOLE.items()}
    sample = random.Random(3).sample([(pair, model) for pair in asked for model in MODELS], CHECKED)  # noqa: S311
    assert 0 < sum(model in answers[pair] for pair, model in sample) < CHECKED  # noqa: S101 - both answers are asked for
    for pair, model in sample:
        given = {name: asks[pair](model) for name, asks in engines.items()}
        given |= {f"{name}, unsliced": ask(pair, model) for name, ask in whole.items()}
        given["ours"] = held[pair].decide_model(model).allow
        wrong = [name for name, answer in given.items() if answer != (model in answers[pair])]
        assert not wrong, (wrong, pair, model)  # noqa: S101
    return all([_warm(stored, held, engines), _unsliced(whole, sample), policies_cold.run()])


def _held(stored: Stored, asked: Sequence[Pair]) -> dict[Pair, Any]:
    invalidation.poll()
    return {pair: _effective(stored, pair) for pair in asked}


def _effective(stored: Stored, pair: Pair) -> Any:
    return Policy.objects.effective(stored.tenant, app=stored.app[pair.app], user=stored.user[pair.user])


def _warm(stored: Stored, held: dict[Pair, Any], engines: dict[str, dict[Pair, Callable[[str], bool]]]) -> bool:
    def whole_path(pair: Pair, model: str) -> Any:
        return _effective(stored, pair).decide_model(model)

    calls: dict[str, list[Question]] = {
        "decide_model on a held EffectivePolicy": [(held[p].decide_model, (m,)) for p in held for m in MODELS],
        "effective(…) from the cache, and decide_model": [(whole_path, (p, m)) for p in held for m in MODELS],
    }
    calls |= {name: [(asks[p], (m,)) for p in asks for m in MODELS] for name, asks in engines.items()}
    measured = in_turns(calls)
    warm, _, *peers, _ = measured.values()  # guardian is no policy engine: it is handed the answers
    first = held[next(iter(held))].decide_model(MODELS[0])
    assert first.policies  # noqa: S101 - provenance is never left out, so one figure answers both goals
    goals = [Goal("held, with its reasons, in the fastest policy engine", warm / max(peers), 10, "{:.1f} x")]
    return show("Decisions, with their reasons, per (app, user) pair", measured, "a second", goals)


def _unsliced(whole: dict[str, Callable[[Pair, str], bool]], sample: list[tuple[Pair, str]]) -> bool:
    calls: dict[str, list[Question]] = {
        name: [(ask, question) for question in sample[:WHOLE]] for name, ask in whole.items()
    }
    return show("Engines that hold all 5,051 policies", in_turns(calls, turns=2), "a second", [])


def in_turns(calls: dict[str, list[Question]], turns: int = TURNS) -> dict[str, float]:
    """Calls a second by name: the median of turns, in which each has its go; the first fills what is kept."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, questions in calls.items():
            invalidation.poll()
            began = perf_counter()
            for call, arguments in questions:
                call(*arguments)
            if turn:
                rates[name].append(len(questions) / (perf_counter() - began))
    return {name: median(found) for name, found in rates.items()}
