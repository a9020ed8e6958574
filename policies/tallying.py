"""What a simulation found: counts, money, values and examples. Pure."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any
from uuid import UUID

from controlplane.core.ids import iso
from policies.counting import Counter
from policies.replaying import Merged, Outcome, Replay
from policies.samples import Request, Sample

MOST_SHOWN = 100
KINDS = ("newly_denied", "newly_allowed", "still_denied", "still_allowed")
GROUPS = ("app", "user", "model")


@dataclass(frozen=True, slots=True)
class ChangedValue:
    """A merged value that differs. path: as `token_caps.max_output_tokens`; None = nobody says anything. requests: how
    many met it.
    """

    path: str
    before: Any
    after: Any
    requests: int


@dataclass(frozen=True, slots=True)
class CounterSeen:
    """Counters that differ in their owner alone. owner: `scope:<layer>` or `per:<x>`; models: patterns, None = all calls;
    policy: whose limit it is; owners: how many the sample met.
    """

    kind: str
    owner: str
    metric: str
    window: str
    models: tuple[str, ...] | None
    policy: UUID
    owners: int


@dataclass(frozen=True, slots=True)
class Example:
    """A request whose fate changes. kind: newly_denied, newly_allowed, or changed: allowed, but as another model, or
    with another number of tokens.
    """

    kind: str
    request: Request
    before: Outcome
    after: Outcome


@dataclass(frozen=True)
class Simulation:
    """requests = newly_denied + newly_allowed + still_denied + still_allowed; changed: those still allowed whose model or
    tokens are others.

    by: `{"app" | "user" | "model": {id or name: {kind: requests}}}`; None: requests without one. reasons: by kind, why
    (newly_allowed: why they were refused before). cost_before, cost_after: US dollars of what is allowed; unpriced: how
    many of those on either side have no known cost. values, examples, started: at most 100 each.
    started: counters that the changes bring and that begin at 0, because a limit with another window, owner or list of
    models is another counter. partial: counters of windows that began before the sample: what was spent before is
    missing, so fewer are refused than would be. truncated: the sample ends before its end.
    """

    start: datetime | None
    end: datetime | None
    truncated: bool
    requests: int
    newly_denied: int
    newly_allowed: int
    still_denied: int
    still_allowed: int
    changed: int
    by: Mapping[str, Mapping[UUID | str | None, Mapping[str, int]]]
    reasons: Mapping[str, Mapping[str, int]]
    cost_before: Decimal
    cost_after: Decimal
    unpriced: int
    values: tuple[ChangedValue, ...]
    examples: tuple[Example, ...]
    started: tuple[CounterSeen, ...]
    partial: tuple[CounterSeen, ...]

    @property
    def cost_difference(self) -> Decimal:
        """US dollars; negative: the changes save so much."""
        return self.cost_after - self.cost_before

    def as_record(self) -> dict[str, Any]:
        """As JSON: ids, instants and amounts are text, and requests without an app, user or model are under ""."""
        names = ("truncated", "requests", *KINDS, "changed", "unpriced")
        return {
            **{name: getattr(self, name) for name in names},
            "start": self.start and iso(self.start),
            "end": self.end and iso(self.end),
            "by": {group: {_text(k): dict(n) for k, n in found.items()} for group, found in self.by.items()},
            "reasons": {kind: dict(found) for kind, found in self.reasons.items()},
            "cost": {
                "before": f"{self.cost_before:f}",
                "after": f"{self.cost_after:f}",
                "difference": f"{self.cost_difference:f}",
            },
            "values": [
                {"path": one.path, "before": one.before, "after": one.after, "requests": one.requests}
                for one in self.values
            ],
            "examples": [_example(one) for one in self.examples],
            "started": [_seen(one) for one in self.started],
            "partial": [_seen(one) for one in self.partial],
        }


class Tallies:
    """Adds up request by request."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._counts: Tally[str] = Tally()
        self._by: dict[str, dict[UUID | str | None, Tally[str]]] = {group: defaultdict(Tally) for group in GROUPS}
        self._reasons: dict[str, Tally[str]] = {kind: Tally() for kind in KINDS}
        self._costs = [Decimal(0), Decimal(0)]
        self._unpriced = 0
        self._examples: dict[str, list[Example]] = {"newly_denied": [], "newly_allowed": [], "changed": []}
        self._sets: dict[tuple[int, int], tuple[Merged, Merged]] = {}
        self._met: Tally[tuple[int, int]] = Tally()
        self._started: tuple[CounterSeen, ...] = ()
        self._partial: tuple[CounterSeen, ...] = ()

    def add(self, request: Request, was: Outcome, becomes: Outcome, before: Merged, after: Merged) -> None:
        """before, after: the sets that answered."""
        kind = (
            ("still_allowed" if becomes.allow else "newly_denied")
            if was.allow
            else ("newly_allowed" if becomes.allow else "still_denied")
        )
        self._counts[kind] += 1
        self._reasons[kind][was.reason if kind == "newly_allowed" else becomes.reason] += 1
        scope = request.scope
        for group, value in (("app", scope.app_id), ("user", scope.user_id), ("model", _label(request, was, becomes))):
            self._by[group][value][kind] += 1
        self._unpriced += request.cost is None and not request.uri and (was.allow or becomes.allow)
        for side, outcome in enumerate((was, becomes)):
            if outcome.allow and request.cost is not None:
                self._costs[side] += request.cost
        if kind == "still_allowed" and (was.model, was.output_tokens) != (becomes.model, becomes.output_tokens):
            kind = "changed"
            self._counts[kind] += 1
        if kind in self._examples and len(self._examples[kind]) < MOST_SHOWN:
            self._examples[kind].append(Example(kind, request, was, becomes))
        if before is not after:
            pair = id(before), id(after)
            self._met[pair] += 1
            self._sets[pair] = before, after

    def end(self, before: Replay, after: Replay) -> None:
        fresh = [counter for kind, counter in after.begun.items() if kind not in before.begun]
        self._started = tuple(_grouped(fresh))
        self._partial = tuple(_grouped({**before.partial, **after.partial}.values()))

    def result(self) -> Simulation:
        return Simulation(
            start=self._sample.start,
            end=self._sample.end,
            truncated=self._sample.truncated,
            requests=len(self._sample),
            **{name: self._counts[name] for name in (*KINDS, "changed")},
            by={group: dict(found) for group, found in self._by.items()},
            reasons={kind: found for kind, found in self._reasons.items() if found},
            cost_before=self._costs[0],
            cost_after=self._costs[1],
            unpriced=self._unpriced,
            values=self._changed_values(),
            examples=tuple(islice(_in_turn(self._examples.values()), MOST_SHOWN)),
            started=self._started,
            partial=self._partial,
        )

    def _changed_values(self) -> tuple[ChangedValue, ...]:
        """What merged values became, those that most requests met first."""
        found: Tally[tuple[str, str, str]] = Tally()
        for pair, (before, after) in self._sets.items():
            for path, old, new in _differences(before.effective.merged.values, after.effective.merged.values):
                found[path, json.dumps(old, sort_keys=True), json.dumps(new, sort_keys=True)] += self._met[pair]
        most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_SHOWN]
        return tuple(ChangedValue(path, json.loads(old), json.loads(new), n) for (path, old, new), n in most)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for policy_type in sorted({*before, *after}):
        old, new = before.get(policy_type, {}), after.get(policy_type, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                yield f"{policy_type}.{name}", old.get(name), new.get(name)


def _label(request: Request, was: Outcome, becomes: Outcome) -> str | None:
    """The model to count a request by: the one that served it, else what its name means, else the name."""
    return request.served or was.model or becomes.model or request.model or None


def _grouped(counters: Iterable[Counter]) -> Iterator[CounterSeen]:
    """Those of most owners first."""
    found: dict[CounterSeen, set[tuple[UUID | None, ...]]] = defaultdict(set)
    for one in counters:
        kind = CounterSeen(one.kind, one.owner_kind, one.metric, one.window, one.models, one.shown.policy_id, 0)
        found[kind].add(one.owner)
    most = sorted(found.items(), key=lambda item: (-len(item[1]), str(item[0])))[:MOST_SHOWN]
    return (replace(kind, owners=len(owners)) for kind, owners in most)


def _in_turn(lists: Iterable[list[Example]]) -> Iterator[Example]:
    return (one for row in zip_longest(*lists) for one in row if one is not None)


def _text(value: UUID | str | None) -> str:
    return "" if value is None else str(value)


def _example(one: Example) -> dict[str, Any]:
    request, scope = one.request, one.request.scope
    ids = {"app": scope.app_id, "branch": scope.branch_id, "user": scope.user_id, "key": scope.key_id}
    asked = (
        {"model": request.model, "region": request.region}
        if not request.uri
        else {"uri": request.uri, "mode": request.mode}
    )
    return {
        "kind": one.kind,
        "request": {name: _text(value) for name, value in ids.items() if value is not None}
        | {"at": iso(request.at), "request_id": request.request_id}
        | {name: value for name, value in asked.items() if value},
        "before": _outcome(one.before),
        "after": _outcome(one.after),
    }


def _outcome(one: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"decision": "allow" if one.allow else "deny", "reason": one.reason, "model": one.model}
    if one.by is not None:
        told["policy"] = str(one.by)
    if one.output_tokens is not None:
        told["output_tokens"] = one.output_tokens
    if one.counter is not None:
        limit = one.counter.shown
        told["counter"] = {"owner": one.counter.owner_id, "window": one.counter.window, "limit": f"{limit.limit:f}"}
    return told


def _seen(one: CounterSeen) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "owner": one.owner,
        "metric": one.metric,
        "window": one.window,
        "models": None if one.models is None else [*one.models],
        "policy": str(one.policy),
        "owners": one.owners,
    }
