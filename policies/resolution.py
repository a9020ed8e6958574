"""The effective policy of one request: one statement, one merge, then decisions in memory.

The only input and output here are the statement in `load` and the look-up of a model's name in the catalog.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from catalog.errors import ModelDisabled, UnknownModel
from catalog.models import AIModel
from controlplane.core.ids import NIL
from controlplane.core.statements import fetch
from policies.deciding import ModelAsked, Verdict, judge_model, judge_storage
from policies.errors import PolicyError
from policies.explain import explain
from policies.merging import Merged, merge
from policies.operators import Row
from policies.periods import Schedule, Window, next_change
from policies.schemas import stored_config_is_valid
from policies.scope import Scope

# ARRAY[nil, x] and no array parameter: with those the planner never keeps a plan. Rows that do not apply yet come back
# too: they are skipped with a reason, and the next of them sets the deadline.
_STATEMENT = """
SELECT t.time_zone, p.id, p.layer, p.priority, p.policy_type, p.config::text, p.overridable, p.final, p.version,
       p.valid_from, p.valid_until, p.schedule::text, p.name, p.message
FROM cp_tenants_tenant t
LEFT JOIN cp_policies_policy p ON p.tenant_id = t.id AND p.enabled
  AND p.app_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.branch_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.user_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.key_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND (p.valid_until IS NULL OR p.valid_until > %s)
WHERE t.id = %s
ORDER BY p.layer DESC, p.priority DESC, p.id
"""


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
        row = Row(
            id_, layer, priority, policy_type, json.loads(config), frozenset(overridable), frozenset(final), version
        )
        return cls(row, Window(start, end, parsed), valid, name, message)


def load(using: str, scope: Scope, at: datetime) -> EffectivePolicy:
    """Read and merge the policies of `scope` at `at`. Raises PolicyError("tenant_mismatch"): no tenant is seen."""
    asked = [scope.app_id, scope.branch_id, scope.user_id, scope.key_id]
    rows = fetch(using, _STATEMENT, [*(value or NIL for value in asked), at, scope.tenant_id])
    if not rows:
        raise PolicyError("tenant_mismatch")
    stored = tuple(StoredPolicy.read(row[1:]) for row in rows if row[1] is not None)
    return EffectivePolicy.of(scope, rows[0][0], at, stored)


@dataclass(frozen=True)
class EffectivePolicy:
    """What all policies of one request come to at one instant. Immutable; `values` and `provenance` are copies.

    applicable: ids in the total order. skipped: (id, why) of those that would apply at another time. conflicts: codes.
    invalid: ids by type of applicable policies whose stored config cannot be read; each check of such a type refuses.
    expires_at: until then, at most 24 hours, the same set applies if nobody writes. time_zone: the tenant's.
    """

    scope: Scope
    time_zone: str
    at: datetime
    applicable: tuple[UUID, ...]
    skipped: tuple[tuple[UUID, str], ...]
    invalid: Mapping[str, tuple[UUID, ...]]
    expires_at: datetime
    fingerprint: str
    merged: Merged = field(repr=False)
    policies: Mapping[UUID, StoredPolicy] = field(repr=False)

    @classmethod
    def of(cls, scope: Scope, time_zone: str, at: datetime, stored: tuple[StoredPolicy, ...]) -> EffectivePolicy:
        """stored: in the total order; all of them match the scope."""
        reasons = {one.row.id: one.window.why_not(at) for one in stored}
        applies = [one for one in stored if not reasons[one.row.id]]
        invalid: dict[str, tuple[UUID, ...]] = {}
        for one in applies:
            if not one.valid:
                invalid[one.row.policy_type] = (*invalid.get(one.row.policy_type, ()), one.row.id)
        return cls(
            scope=scope,
            time_zone=time_zone,
            at=at,
            applicable=tuple(one.row.id for one in applies),
            skipped=tuple((policy, why) for policy, why in reasons.items() if why),
            invalid=invalid,
            expires_at=next_change((one.window for one in stored), at),
            fingerprint=_fingerprint(applies),
            merged=merge(one.row for one in applies if one.valid),
            policies={one.row.id: one for one in stored},
        )

    @property
    def tenant_id(self) -> UUID:
        return self.scope.tenant_id

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

    def decide_model(self, name: str, region: str | None = None) -> Decision:
        """May this request use the model `name`: an alias of its routing policies, or any name the catalog knows?

        region: where the call would go; None leaves regions unchecked. A name that is no printable ASCII is unknown: it
        could look like another. Makes the look-ups of AIModel.objects.resolve, nothing else.
        """
        request = {"model": name, "region": region}
        if refusal := self._refuse_invalid("model_access", "routing"):
            return Decision.of(self, refusal, request)
        if not (name.isascii() and name.isprintable() and name):
            return Decision.of(self, Verdict(False, "model_unknown"), request)
        aliases = self.merged.values.get("routing", {}).get("aliases", {})
        try:
            model = AIModel.objects.resolve(aliases.get(name.lower(), name), tenant=self.tenant_id)
        except UnknownModel:
            return Decision.of(self, Verdict(False, "model_unknown"), request)
        except ModelDisabled:
            return Decision.of(self, Verdict(False, "model_disabled"), request)
        verdict = judge_model(self.merged, ModelAsked(name, model.canonical_id, model.provider, region))
        return Decision.of(self, verdict, request, model)

    def decide_storage(self, uri: str, mode: str) -> Decision:
        """May this request do `mode` (list, read, write, delete) with the object at `uri`? Without a word: no."""
        refusal = self._refuse_invalid("storage_access")
        return Decision.of(self, refusal or judge_storage(self.merged, uri, mode), {"uri": uri, "mode": mode})

    def explain(self) -> dict[str, Any]:
        """What holds and why, as JSON."""
        return explain(self)

    def _refuse_invalid(self, *types: str) -> Verdict | None:
        """Skipping a broken policy would open what it denies."""
        broken = [policy for policy_type in types for policy in self.invalid.get(policy_type, ())]
        return Verdict(False, "policy_invalid", by=broken[0], policies=tuple(broken)) if broken else None


def _fingerprint(applies: list[StoredPolicy]) -> str:
    """SHA-256, in hex, over the sorted ids and versions: equal for equal sets."""
    listed = sorted(f"{one.row.id} {one.row.version}" for one in applies)
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


@dataclass(frozen=True)
class Decision:
    """One answer; true if it allows. reason: one of REASONS. model: canonical id, None if the name is not known.

    by: the policy that decided; pattern: its entry; layer: index into the list of lists of `values`; policies: all with
    a part. record: the catalog's record of the model, None for storage and unknown names. request: what was asked.
    """

    allow: bool
    reason: str
    model: str | None
    by: UUID | None
    pattern: str | None
    layer: int | None
    policies: tuple[UUID, ...]
    record: Any = field(repr=False, compare=False)
    request: Mapping[str, str | None] = field(repr=False, compare=False)
    effective: EffectivePolicy = field(repr=False, compare=False)
    verdict: Verdict = field(repr=False, compare=False)

    @classmethod
    def of(
        cls, effective: EffectivePolicy, verdict: Verdict, request: Mapping[str, str | None], record: Any = None
    ) -> Decision:
        return cls(
            allow=verdict.allow,
            reason=verdict.reason,
            model=None if record is None else record.canonical_id,
            by=verdict.by,
            pattern=verdict.pattern,
            layer=verdict.layer,
            policies=verdict.policies,
            record=record,
            request=request,
            effective=effective,
            verdict=verdict,
        )

    def __bool__(self) -> bool:
        return self.allow

    @property
    def message(self) -> str:
        """For the caller: the words of the policy that refused, else what the reason means."""
        decided = None if self.by is None or self.allow else self.effective.policies.get(self.by)
        return (decided.message if decided else "") or REASONS[self.reason]

    def explain(self) -> dict[str, Any]:
        """The answer and what led to it, as JSON; its `request` asked again at its `at` gets the same answer."""
        return explain(self.effective, self)


REASONS: Mapping[str, str] = {
    "allowed": "Allowed.",
    "no_restriction": "Allowed: no policy restricts this.",
    "model_unknown": "There is no model of this name. Ask for one of the catalog.",
    "model_disabled": "This model is switched off. Ask for another one.",
    "model_denied": "This model is forbidden here. Ask for another one.",
    "model_not_in_allowlist": "This model is not among those allowed here. Ask for another one.",
    "provider_not_allowed": "The provider of this model is not among those allowed here. Ask for another model.",
    "region_not_allowed": "This region is not among those allowed here. Use another one.",
    "storage_denied": "This object is forbidden here.",
    "storage_default_deny": "No policy allows storage here. An administrator can.",
    "storage_not_in_allowlist": "This object, or what you want to do with it, is not among those allowed here.",
    "uri_not_canonical": "This address has more than one spelling. Write it as scheme://bucket/key, without % or dots.",
    "policy_invalid": "A policy cannot be read, so everything it is about is refused. An administrator must repair it.",
}
"""Every reason of a Decision, and what it means. The words are stable; callers branch on them."""
