"""A limit's refusal: whose it is, what is used, held and asked for, when it starts anew, and the policy that sets it."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from catalog.units import plain
from controlplane.denials import Denied, Object
from controlplane.gate.names import name_of
from controlplane.gate.refusing import level_of, own_words, policy_object, said_by
from policies.counting import LEVELS, Amounts, Counter, Threshold
from policies.limits import Held, Level
from policies.resolution import REASONS, Decision, EffectivePolicy
from policies.standing import told

_METRICS = {
    "requests": "calls", "input_tokens": "tokens sent", "output_tokens": "tokens of answers", "total_tokens": "tokens",
    "concurrent": "calls at a time", "cost": "US dollars",
}  # fmt: skip
_WINDOWS = {"1s": "second", "10s": "10 seconds", "1m": "minute", "1h": "hour", "1d": "day"}
_ONE = re.compile(r"\b(call|token|dollar)s\b")
_TOLD = 5
_SOON = 1
"""Seconds after which a call that waits for another one to end may try again."""


def denied(held: Held, decision: Decision) -> Denied:
    """All limits that refuse, budgets first; the message and the figures are those of the first one."""
    effective, at = decision.effective, held.asked.at
    failing = sorted(held.failing, key=lambda level: (level.counter.kind != "budget", -_wait(level.counter, at)))
    first, rule = failing[0], _rule(failing[0].counter)
    budget = first.counter.kind == "budget"
    waits = [_wait(level.counter, at) for level in failing]
    owner, whose = _owner(effective, first.counter)
    return Denied(
        "budget_exceeded" if budget else "rate_limited",
        402 if budget else 429,
        _message(effective, first, rule, owner),
        level=whose.kind,
        object=whose,
        policy_id=rule.policy_id,
        policy_version=rule.policy_version,
        limit=rule.limit,
        used=first.spent,
        reserved=first.reserved,
        requested=first.counter.amount,
        resets_at=first.counter.ends_at,
        retry_after=None if budget else max(waits),
        buckets=tuple(bucket(level, _rule(level.counter), effective.time_zone, "fail") for level in failing),
        decision=decision,
    )


def unknown(decision: Decision, amounts: Amounts, why: str) -> Denied:
    """A hard limit asks for what has no bound. why: what the price lacks."""
    effective = decision.effective
    counted = [limit for limit in effective.limits(str(decision.model)) if limit.mode == "hard"]
    hit = next(limit for limit in counted if amounts.of(limit.metric) is None)
    by = hit.policies[0]
    said = (
        f"{REASONS['model_unpriced']} {why}"
        if hit.metric == "cost"
        else f"How many {_METRICS[hit.metric]} this call needs has no bound, and a limit counts them. Give input_tokens and "
        "max_output_tokens, or cap them by a policy."
    )
    return Denied(
        "model_unpriced",
        403,
        f"{own_words(effective, by)}{said}{said_by(effective, by)}",
        level=level_of(effective, by),
        object=policy_object(effective, by),
        policy_id=by,
        policy_version=effective.policies[by].row.version,
        limit=hit.limit,
        decision=decision,
    )


def bucket(level: Level, rule: Threshold, zone: str, result: str) -> dict[str, Any]:
    """The state of one counter as a call found it, as JSON."""
    stands = told(level.counter, level.spent, level.reserved, level.counter.amount, zone)
    return stands | {
        "mode": rule.mode,
        "policy": str(rule.policy_id),
        "version": rule.policy_version,
        "limit": plain(rule.limit),
        "result": result,
    }


def _rule(counter: Counter) -> Threshold:
    """The hard entry that refuses: the lowest."""
    return min((one for one in counter.thresholds if one.mode == "hard"), key=lambda one: one.limit)


def _wait(counter: Counter, at: datetime) -> int:
    """Whole seconds until the window is over."""
    return _SOON if counter.ends_at is None else max(math.ceil((counter.ends_at - at).total_seconds()), _SOON)


def _owner(effective: EffectivePolicy, counter: Counter) -> tuple[str, Object]:
    """Whose limit it is: in words, and its nearest part."""
    parts = [
        Object(kind, id, name_of(kind, id)) for kind, id in zip(LEVELS, counter.owner, strict=True) if id is not None
    ]
    if not parts:
        tenant = Object("tenant", effective.tenant_id, name_of("tenant", effective.tenant_id))
        if not counter.owner_kind.startswith("scope:"):
            return f"all calls without a {counter.owner_kind.removeprefix('per:')}", tenant
        return f"the organization {tenant.name}".rstrip(), tenant
    words = [f"{_KINDS.get(part.kind, part.kind)} {part.name or part.id}" for part in reversed(parts)]
    return " in ".join(words), parts[-1]


_KINDS = {"key": "API key"}


def _message(effective: EffectivePolicy, level: Level, rule: Threshold, owner: str) -> str:
    """What is so, with its figures and its end, and which policy says so; before it that policy's own words."""
    counter, unit = level.counter, _METRICS[level.counter.metric]
    if rule.limit == 1:
        unit = _ONE.sub(r"\1", unit)
    window = _WINDOWS.get(counter.window, counter.window)
    per = "" if counter.window == "none" else " in all" if counter.window == "total" else f" per {window}"
    of = "" if counter.models is None else f" with {_some(counter.models)}"
    limit, used, held, asked = map(plain, (rule.limit, level.spent, level.reserved, counter.amount))
    what = "budget" if counter.kind == "budget" else "limit"
    said = (
        f"The {what} of {owner} is {limit} {unit}{per}{of}: {used} used, {held} reserved by calls that run, and this call "
        f"needs up to {asked}."
    )
    own, by = own_words(effective, rule.policy_id), said_by(effective, rule.policy_id)
    return f"{own}{said}{_until(counter, effective.time_zone)}{by}"


def _some(models: tuple[str, ...]) -> str:
    """Not all of them: a limit may name 64 patterns of 265 characters."""
    more = len(models) - _TOLD
    return ", ".join(models[:_TOLD]) + (f" and {more} more" if more > 0 else "")


def _until(counter: Counter, zone: str) -> str:
    if counter.ends_at is None:
        return ""
    return f" It starts anew on {counter.ends_at.astimezone(ZoneInfo(zone)):%Y-%m-%d at %H:%M:%S} ({zone})."
