"""What one call may use: the token caps it keeps to, and the limits it is counted against. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from policies.deciding import Check, Verdict
from policies.merging import Merged
from policies.patterns import names_model


@dataclass(frozen=True, slots=True)
class Limit:
    """A merged limit. owner: whose counter, `scope:<layer>` or `per:<x>` of the request. metric: `cost` for a budget.

    models: patterns in lower case, None = calls of all models. limit: US dollars for a budget. alert_at: shares of it.
    policies: ids of those that gave it. entry: as written, and its `bucket`; shared by all, never to be changed.
    """

    kind: Literal["rate", "budget"]
    owner: str
    metric: str
    window: str
    anchor: int
    models: frozenset[str] | None
    mode: str
    limit: Decimal
    alert_at: tuple[float, ...]
    policies: tuple[UUID, ...]
    entry: Mapping[str, Any]

    def meets(self, model: str) -> bool:
        """Whether a call of this model (`<provider>/<name>`) counts."""
        return self.models is None or any(names_model(pattern, model) for pattern in self.models)


def limits_of(merged: Merged) -> tuple[Limit, ...]:
    """Every limit, rates before budgets, each in the order of `values`."""
    found = []
    for kind, policy_type in _KINDS.items():
        entries = merged.values.get(policy_type, {}).get("limits", [])
        leaves = merged.provenance.get(policy_type, {}).get("limits", [])
        found += [_limit(kind, entry, leaf["from"]) for entry, leaf in zip(entries, leaves, strict=True)]
    return tuple(found)


_KINDS: Mapping[Literal["rate", "budget"], str] = {"rate": "rate_limit", "budget": "budget"}


def _limit(kind: Literal["rate", "budget"], entry: Mapping[str, Any], sources: list[UUID]) -> Limit:
    models = entry.get("models")
    return Limit(
        kind=kind,
        owner=entry["bucket"],
        metric=entry.get("metric", "cost"),
        window=entry["window"],
        anchor=entry.get("anchor", 1),
        models=None if models is None else frozenset(model.lower() for model in models),
        mode=entry.get("mode", "hard"),
        limit=Decimal(entry["limit"]),
        alert_at=tuple(entry.get("alert_at") or ()),
        policies=tuple(sources),
        entry=entry,
    )


@dataclass(frozen=True, slots=True)
class Tokens:
    """The caps of one call, judged. output: at most so many tokens of output may be asked for, None = no cap.

    cap: the field that was exceeded, or "". limit: its value.
    """

    verdict: Verdict
    output: int | None
    cap: str = ""
    limit: int | None = None


def judge_tokens(merged: Merged, input: int, output: int | None) -> Tokens:
    """May a call of `input` tokens ask for `output` tokens? None: it asks for no number, and gets the default.

    Too much input is refused. Too much output is cut to what is left of both caps where `on_exceed` says clamp, unless
    nothing is left; else refused. A default is always cut: nobody asked for it.
    """
    caps, trace = merged.values.get("token_caps", {}), _Trace(merged)
    for name in ("max_input_tokens", "max_total_tokens"):
        if name in caps and not trace.passes(name, input <= caps[name]):
            return trace.refuse(name)
    used = {"max_output_tokens": 0, "max_total_tokens": input}
    left = {name: caps[name] - tokens for name, tokens in used.items() if name in caps}
    if not left:
        return trace.allow(caps.get("default_max_output_tokens") if output is None else output)
    name = min(left, key=lambda cap: left[cap])
    ceiling = left[name]
    if output is None:
        return trace.allow(min(caps.get("default_max_output_tokens", ceiling), ceiling))
    cut = caps.get("on_exceed") == "clamp" and ceiling > 0
    if not trace.passes(name, output <= ceiling or cut):
        return trace.refuse(name)
    return trace.allow(min(output, ceiling))


class _Trace:
    def __init__(self, merged: Merged) -> None:
        self._caps = merged.values.get("token_caps", {})
        self._sources = {name: tuple(leaf["from"]) for name, leaf in merged.provenance.get("token_caps", {}).items()}
        self._checks: list[Check] = []

    def passes(self, name: str, passed: bool) -> bool:
        self._checks.append(Check(f"tokens.{name}", passed, None, None, self._sources[name]))
        return passed

    def allow(self, output: int | None) -> Tokens:
        asked = dict.fromkeys(policy for check in self._checks for policy in check.policies)
        reason = "allowed" if self._checks else "no_restriction"
        return Tokens(Verdict(True, reason, policies=tuple(asked), checks=tuple(self._checks)), output)

    def refuse(self, name: str) -> Tokens:
        sources = self._sources[name]
        verdict = Verdict(False, "token_cap_exceeded", by=sources[0], policies=sources, checks=tuple(self._checks))
        return Tokens(verdict, None, name, self._caps[name])
