"""What all policies of one request come to, and the decisions made from it in memory.

The one input here is the look-up of a model's name in the catalog.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from catalog.errors import ModelDisabled, UnknownModel
from catalog.models import ModelRecord
from catalog.resolution import cache as catalog
from catalog.resolution import resolve
from controlplane.core.caches import in_transaction
from policies.allowances import Limit, judge_tokens, limits_of
from policies.deciding import ModelAsked, Verdict, judge_model, judge_storage
from policies.decisions import Decision, TokenDecision
from policies.errors import PolicyError
from policies.explain import explain
from policies.listing import permitted
from policies.merging import Merged, merge
from policies.operators import Row
from policies.periods import Schedule, Window, next_change
from policies.schemas import stored_config_is_valid
from policies.scope import Scope

ALWAYS = Window()

Look = Callable[[str, UUID], ModelRecord]
"""From a name to the model that it means to a tenant; raises UnknownModel, ModelDisabled."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """One policy as read. valid: its config fits its schema and its schedule can be read; window: when it applies."""

    row: Row
    window: Window
    valid: bool
    name: str
    message: str

    @classmethod
    def read(cls, columns: tuple[Any, ...]) -> StoredPolicy:
        id_, layer, priority, policy_type, config, overridable, final, version, start, end, schedule, name, message = (
            columns
        )
        valid = stored_config_is_valid(policy_type, config)
        try:
            parsed = None if schedule is None else Schedule.parse(json.loads(schedule))
        except PolicyError:
            # A zone that this machine lacks: it cannot be told whether the policy applies, so its type refuses.
            parsed, valid = None, False
        try:
            said = json.loads(config)
        except (ValueError, RecursionError):  # so it is not valid, and nobody asks
            said = {}
        row = Row(id_, layer, priority, policy_type, said, frozenset(overridable), frozenset(final), version)
        bounded = start or end or parsed
        return cls(row, Window(start, end, parsed) if bounded else ALWAYS, valid, name, message)


OF_A_CALL = ("model_access", "routing", "token_caps", "budget", "rate_limit", "guardrail")
"""Types of policies that a call of a model is subject to. It is refused if one of them cannot be read, guardrails too: they
are its caller's to run, and nobody would miss one that is left out."""

MAX_DECIDED = 500
"""Models that an effective policy remembers its decisions about."""

MAX_REGION = 64
"""Characters of a region that is remembered: no policy names a longer one."""


@dataclass(frozen=True)
class EffectivePolicy:
    """What all policies of one request come to at one instant. Immutable; `values` and `provenance` are copies.

    epoch: number of the tenant's last change of policies that this was read with. applicable: ids in the total order.
    skipped: (id, why) of those that would apply at another time. conflicts: codes. invalid: ids by type of applicable
    policies whose stored config cannot be read; each check of such a type refuses. expires_at: until then, at most 24
    hours, the same set applies if nobody writes. time_zone: the tenant's.
    """

    scope: Scope
    time_zone: str
    at: datetime
    applicable: tuple[UUID, ...]
    skipped: tuple[tuple[UUID, str], ...]
    invalid: Mapping[str, tuple[UUID, ...]]
    expires_at: datetime
    epoch: int
    merged: Merged = field(repr=False)
    policies: Mapping[UUID, StoredPolicy] = field(repr=False)
    _decided: dict[str | tuple[str, str], tuple[int, Decision]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        scope: Scope,
        time_zone: str,
        at: datetime,
        stored: tuple[StoredPolicy, ...],
        epoch: int = 0,
        merge: Callable[[Sequence[Row]], Merged] = merge,
    ) -> EffectivePolicy:
        """stored: in the total order; all of them match the scope. merge: policies.merging's, or one that remembers."""
        applies: list[StoredPolicy] = []
        skipped: list[tuple[UUID, str]] = []
        invalid: dict[str, tuple[UUID, ...]] = {}
        for one in stored:
            if one.window is not ALWAYS and (why := one.window.why_not(at)):
                skipped.append((one.row.id, why))
                continue
            applies.append(one)
            if not one.valid:
                invalid[one.row.policy_type] = (*invalid.get(one.row.policy_type, ()), one.row.id)
        return cls(
            scope=scope,
            time_zone=time_zone,
            at=at,
            applicable=tuple([one.row.id for one in applies]),
            skipped=tuple(skipped),
            invalid=invalid,
            expires_at=next_change([one.window for one in stored if one.window is not ALWAYS], at),
            epoch=epoch,
            merged=merge([one.row for one in applies if one.valid]),
            policies={one.row.id: one for one in stored},
        )

    @property
    def tenant_id(self) -> UUID:
        return self.scope.tenant_id

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over the sorted ids and versions of what applies: equal for equal sets."""
        rows = [self.policies[policy].row for policy in self.applicable]
        return hashlib.sha256("\n".join(sorted(f"{row.id} {row.version}" for row in rows)).encode()).hexdigest()

    @property
    def conflicts(self) -> tuple[str, ...]:
        return self.merged.conflicts

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """`{type: {field: value}}`, absent where no policy said anything; INTERSECT fields are lists of lists."""
        return copy.deepcopy(self.merged.values)

    @property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """The shape of `values`, with `{"op", "from", "shadowed"}` for each value; for limits a list beside theirs."""
        return copy.deepcopy(self.merged.provenance)

    def decide_model(self, name: str, region: str | None = None, *, look: Look | None = None) -> Decision:
        """May this request use the model `name`: an alias of its routing policies, or any name the catalog knows?

        region: where the call would go; None leaves regions unchecked. A name that is no printable ASCII is unknown: it
        could look like another. Makes the look-ups of AIModel.objects.resolve, nothing else, and remembers the answer
        until the catalog changes. look: instead of these, for who asks for the same names ever again in one transaction,
        where the catalog's cache does not know the unknown ones; nothing is remembered then.
        """
        if look is None:
            fresh_until = (
                catalog.lease.fresh_until
            )  # catalog.generation() by hand: a call of it takes as long as the rest
            found = self._decided.get(name if region is None else (name, region))
            if found is not None and found[0] == catalog.generations and catalog.clock() < fresh_until:
                return found[1]
        return self._decide_model(name, region, look)

    def _decide_model(self, name: str, region: str | None, look: Look | None = None) -> Decision:
        request = {"model": name, "region": region}
        if refusal := self.unreadable("model_access", "routing"):
            return Decision.of(self, refusal, request)
        if not (name.isascii() and name.isprintable() and name):
            return Decision.of(self, Verdict(False, "model_unknown"), request)
        generation = catalog.generation()
        aliases = self.merged.values.get("routing", {}).get("aliases", {})
        try:
            model = (look or resolve)(aliases.get(name.lower(), name), self.tenant_id)
        except UnknownModel:
            return Decision.of(self, Verdict(False, "model_unknown"), request)
        except ModelDisabled:
            return Decision.of(self, Verdict(False, "model_disabled"), request)
        verdict = self.judge(ModelAsked(name, model.canonical_id, model.provider, region))
        decision = Decision.of(self, verdict, request, model)
        # Not within a transaction: what it sees of the catalog may never be committed.
        if look is None and generation is not None and len(region or "") <= MAX_REGION and not in_transaction():
            if len(self._decided) >= MAX_DECIDED:
                self._decided.clear()
            self._decided[name if region is None else (name, region)] = generation, decision
        return decision

    def judge(self, asked: ModelAsked) -> Verdict:
        """The verdict on a model whose name was resolved."""
        return self.unreadable("model_access", "routing") or judge_model(self.merged, asked)

    def decide_storage(self, uri: str, mode: str, *, below: bool = False) -> Decision:
        """May this request do `mode` (list, read, write, delete) with the object at `uri`? Without a word: no.

        below: with each that begins with `uri`, whether there or not; for sums, which tell of what is in them.
        """
        request = {"uri": uri, "mode": mode} | ({"below": True} if below else {})
        verdict = self.unreadable("storage_access") or judge_storage(self.merged, uri, mode, below=below)
        return Decision.of(self, verdict, request)

    def decide_targets(self, region: str | None = None) -> list[Decision]:
        """The models that calls are routed to, in order of preference: those of `routing.targets` that may be used.

        Each is decided by itself, as `decide_model` does. None is allowed: one refusal, `no_permitted_target`. No policy
        names targets: nothing.
        """
        request = {"targets": self.values.get("routing", {}).get("targets", []), "region": region}
        if refusal := self.unreadable("model_access", "routing"):
            return [Decision.of(self, refusal, request)]
        decisions = [self.decide_model(target, region) for target in request["targets"]]
        if any(decisions) or not decisions:
            return [decision for decision in decisions if decision]
        had_part = dict.fromkeys(policy for decision in decisions for policy in decision.policies)
        checks = tuple(check for decision in decisions for check in decision.verdict.checks)
        [by, *_] = self.merged.provenance["routing"]["targets"]["from"]
        verdict = Verdict(False, "no_permitted_target", by=by, policies=tuple(had_part), checks=checks)
        return [Decision.of(self, verdict, request)]

    def check_tokens(self, input: int, output: int | None = None) -> TokenDecision:
        """May a call send `input` tokens and ask for `output` tokens; how many may it ask for?

        output None: it asks for no number; `output_tokens` of the answer is then the default, if there is one. Raises
        ValueError for numbers below 0.
        """
        if input < 0 or (output is not None and output < 0):
            raise ValueError("A call has no negative number of tokens.")
        request = {"input_tokens": input, "output_tokens": output}
        if refusal := self.unreadable("token_caps"):
            return TokenDecision.of(self, refusal, request)
        judged = judge_tokens(self.merged, input, output)
        return TokenDecision.of(
            self, judged.verdict, request, output_tokens=judged.output, cap=judged.cap, limit=judged.limit
        )

    def limits(self, model: str) -> tuple[Limit, ...]:
        """The limits that a call of `model` (canonical id) is counted against; all of them have to pass.

        Raises PolicyError("policy_invalid") where one cannot be read: nobody may pass for lack of it.
        """
        if self.unreadable("rate_limit", "budget"):
            raise PolicyError("policy_invalid", http_status=503)
        return tuple(limit for limit in self._limits if limit.meets(model))

    def unreadable(self, *types: str) -> Verdict | None:
        """The refusal if a policy of these types cannot be read: skipping it would open what it denies.

        Whoever reads `values` of a type that no decision here is about, as guardrail and retention, asks this first.
        """
        broken = [policy for policy_type in types for policy in self.invalid.get(policy_type, ())]
        return Verdict(False, "policy_invalid", by=broken[0], policies=tuple(broken)) if broken else None

    @property
    def restricts_regions(self) -> bool:
        """Whether a call has to know its region to be decided."""
        return "regions" in self.merged.values.get("routing", {})

    def models(self, region: str | None = None) -> list[str]:
        """Canonical ids of the models that may be used, sorted: of the catalog, exactly those `decide_model` allows."""
        return permitted(self, region)

    def explain(self, buckets: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """What holds and why, as JSON. buckets: the state of counters, as JSON already."""
        return explain(self, buckets=buckets)

    @cached_property
    def _limits(self) -> tuple[Limit, ...]:
        return limits_of(self.merged)
