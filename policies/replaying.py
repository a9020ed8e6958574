"""Requests asked again of policies at hand, in the order of time, with counters in memory. Writes nothing.

Merging, deciding and counting are those of enforcement. Here is what makes it quick: policies are merged once for each set
that applies together, and each question is put to a set once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from policies import merging
from policies.changes import Shelf
from policies.counting import Amounts, Counter, counters
from policies.effective import ALWAYS, Look
from policies.errors import PolicyError
from policies.operators import Row
from policies.periods import Window
from policies.resolution import Decision, EffectivePolicy, StoredPolicy
from policies.samples import Request
from policies.scope import Scope

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one request. reason: as of a Decision. model: canonical id, None if unknown. by: the policy that
    decided. output_tokens: what it may ask for, None = no number. counter: the one that is full, of the first limit that
    refused.
    """

    allow: bool
    reason: str
    model: str | None = None
    by: UUID | None = None
    output_tokens: int | None = None
    counter: Counter | None = None


class Merges:
    """Effective policies by the set of policies they are made of, shared by all that is asked in one simulation.

    Each type is merged by itself, once for the policies of this type: a thousand users who share an app share most.
    """

    def __init__(self, time_zone: str, look: Look) -> None:
        self._time_zone, self._look = time_zone, look
        self._found: dict[tuple[int, ...], Merged] = {}
        self._of_type: dict[tuple[int, ...], merging.Merged] = {}
        self._unbounded: dict[int, StoredPolicy] = {}

    def of(self, scope: Scope, applies: Sequence[StoredPolicy], at: datetime) -> Merged:
        """applies: what applies at `at`, in the total order; the same objects for the same policies."""
        key = tuple(map(id, applies))
        if key not in self._found:
            stored = tuple(map(self._always, applies))
            effective = EffectivePolicy.of(scope, self._time_zone, at, stored, merge=self._merge)
            self._found[key] = Merged(effective, self._look, tuple(applies))
        return self._found[key]

    def _always(self, one: StoredPolicy) -> StoredPolicy:
        """Bounds in time have been seen to: without them nobody works out when the set will change."""
        if id(one) not in self._unbounded:
            self._unbounded[id(one)] = replace(one, window=ALWAYS)
        return self._unbounded[id(one)]

    def _merge(self, rows: Sequence[Row]) -> merging.Merged:
        by_type: dict[str, list[Row]] = {}
        for row in rows:
            by_type.setdefault(row.policy_type, []).append(row)
        return merging.joined(map(self._merge_type, by_type.values()))

    def _merge_type(self, rows: Sequence[Row]) -> merging.Merged:
        key = tuple(map(id, rows))
        if key not in self._of_type:
            self._of_type[key] = merging.merge(rows)
        return self._of_type[key]


@dataclass
class Merged:
    """One set of policies, merged, with the answers that it gave."""

    effective: EffectivePolicy
    look: Look
    held: tuple[StoredPolicy, ...]  # keeps their ids from being given to others
    _answers: dict[Hashable, Decision] = field(default_factory=dict)
    _scopes: dict[Scope, EffectivePolicy] = field(default_factory=dict)

    def decide(self, request: Request) -> Decision:
        asked = (request.model, request.region) if not request.uri else (request.uri, request.mode, "")
        if asked not in self._answers:
            self._answers[asked] = (
                self.effective.decide_storage(request.uri, request.mode)
                if request.uri
                else self.effective.decide_model(request.model, request.region, look=self.look)
            )
        return self._answers[asked]

    def of_scope(self, scope: Scope) -> EffectivePolicy:
        if scope not in self._scopes:
            self._scopes[scope] = replace(self.effective, scope=scope)
        return self._scopes[scope]

    def caps_tokens(self) -> bool:
        return "token_caps" in self.effective.merged.values or "token_caps" in self.effective.invalid


@dataclass(frozen=True, slots=True)
class Moment:
    """What a scope meets at one time: the set, and the same with the scope of its own, whose counters differ."""

    merged: Merged
    effective: EffectivePolicy
    caps_tokens: bool


class Rulebook:
    """The policies of one tenant, asked for a scope and a time within a span."""

    def __init__(self, shelf: Shelf, merges: Merges, start: datetime, end: datetime) -> None:
        self._shelf, self._merges, self._span = shelf, merges, (start, end)
        self._edges: dict[Window, list[datetime]] = {}
        self._scopes: dict[Scope, _Times] = {}

    def at(self, scope: Scope, at: datetime) -> Moment:
        times = self._scopes.get(scope)
        if times is None:
            stored = self._shelf.matching((scope.app_id, scope.branch_id, scope.user_id, scope.key_id))
            bounded = {one.window for one in stored if one.window is not ALWAYS}
            instants = sorted({edge for window in bounded for edge in self._edges_of(window)})
            times = self._scopes[scope] = _Times(stored, instants)
        part = bisect_right(times.instants, at)
        moment = times.moments.get(part)
        if moment is None:
            applies = [one for one in times.stored if one.window is ALWAYS or not one.window.why_not(at)]
            merged = self._merges.of(scope, applies, at)
            moment = times.moments[part] = Moment(merged, merged.of_scope(scope), merged.caps_tokens())
        return moment

    def _edges_of(self, window: Window) -> list[datetime]:
        """Instants of the span at which a window can open or close."""
        if window not in self._edges:
            self._edges[window] = [*window.edges(*self._span)]
        return self._edges[window]


@dataclass(frozen=True, slots=True)
class _Times:
    """instants: when the set may change, sorted; moments: by the number of those that have passed."""

    stored: Sequence[StoredPolicy]
    instants: Sequence[datetime]
    moments: dict[int, Moment] = field(default_factory=dict)


class Replay:
    """Requests asked of one rulebook, earlier ones first.

    Counters begin at 0 with the first request; `begun` has one of each, by what it counts. partial: what is counted in
    windows that began before `start`, so that what came before is missing. asked: the set that answered last.
    """

    def __init__(self, rulebook: Rulebook, start: datetime) -> None:
        self._rulebook, self._start = rulebook, start
        self._spent: dict[str, Decimal] = {}
        self._running: list[tuple[datetime, int, tuple[str, ...]]] = []
        self._number = 0
        self.begun: dict[str, Counter] = {}
        self.partial: dict[str, Counter] = {}
        self.asked: Merged

    def ask(self, request: Request, at: datetime) -> Outcome:
        """at: when policies are asked, mostly `request.at`; counters run by the request's own time."""
        moment = self._rulebook.at(request.scope, at)
        self.asked = moment.merged
        decision = moment.merged.decide(request)
        if not decision.allow or request.uri:
            return Outcome(decision.allow, decision.reason, decision.model, decision.by)
        capped = request.output_tokens
        if moment.caps_tokens:
            tokens = moment.effective.check_tokens(request.input_tokens or 0, request.output_tokens)
            capped = tokens.output_tokens
            if not tokens.allow:
                return Outcome(False, tokens.reason, decision.model, tokens.by)
        return self._count(request, moment, decision, capped)

    def _count(self, request: Request, moment: Moment, decision: Decision, capped: int | None) -> Outcome:
        # What nobody recorded counts as nothing, but for costs: an unknown price is refused by a hard budget.
        amounts = Amounts(
            input_tokens=request.input_tokens or 0, output_tokens=request.output_tokens or 0, cost=request.cost
        )
        try:
            wanted = counters(moment.effective, decision.model or "", amounts, request.at)
        except PolicyError as error:
            reason = "model_unpriced" if error.code == "amount_unknown" else error.code
            return Outcome(False, reason, decision.model)
        self._end_calls(request.at)
        self._note(wanted)
        full = [
            one for one in wanted if one.hard is not None and self._spent.get(one.key, _ZERO) + one.amount > one.hard
        ]
        if full:
            first = min(full, key=lambda counter: counter.kind != "budget")
            reason = "budget_exceeded" if first.kind == "budget" else "rate_limited"
            return Outcome(False, reason, decision.model, first.shown.policy_id, capped, first)
        self._spend(request, wanted)
        return Outcome(True, decision.reason, decision.model, decision.by, capped)

    def _spend(self, request: Request, wanted: Iterable[Counter]) -> None:
        ended = request.ended_at or request.at
        for counter in wanted:
            if counter.metric != "concurrent":
                self._spent[counter.key] = self._spent.get(counter.key, _ZERO) + counter.amount
        at_once = tuple(counter.key for counter in wanted if counter.metric == "concurrent")
        if at_once and ended > request.at:
            for key in at_once:
                self._spent[key] = self._spent.get(key, _ZERO) + 1
            self._number += 1
            heapq.heappush(self._running, (ended, self._number, at_once))

    def _end_calls(self, at: datetime) -> None:
        while self._running and self._running[0][0] <= at:
            for key in heapq.heappop(self._running)[2]:
                self._spent[key] -= 1

    def _note(self, wanted: Iterable[Counter]) -> None:
        for counter in wanted:
            if counter.key not in self._spent:
                self._spent[counter.key] = _ZERO
                kind = counter.key.removesuffix(counter.label)
                self.begun.setdefault(kind, counter)
                if counter.window == "total" or (counter.starts_at is not None and counter.starts_at < self._start):
                    self.partial.setdefault(kind, counter)
