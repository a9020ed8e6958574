"""The answers: a Decision says whether, why, and by whose word. Its reasons are a closed list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from policies.deciding import Verdict
from policies.explain import explain

if TYPE_CHECKING:
    from policies.effective import EffectivePolicy


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
    request: Mapping[str, Any] = field(repr=False, compare=False)
    effective: EffectivePolicy = field(repr=False, compare=False)
    verdict: Verdict = field(repr=False, compare=False)

    @classmethod
    def of(
        cls, effective: EffectivePolicy, verdict: Verdict, request: Mapping[str, Any], record: Any = None, **more: Any
    ) -> Self:
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
            **more,
        )

    def __bool__(self) -> bool:
        return self.allow

    @property
    def message(self) -> str:
        """For the caller: the words of the policy that refused, else what the reason means.

        What the author of a policy wants to be told of a refusal says nothing about a policy that cannot be read.
        """
        told = self.by is not None and not self.allow and self.reason != "policy_invalid"
        decided = self.effective.policies.get(self.by) if told and self.by else None
        return (decided.message if decided else "") or REASONS[self.reason]

    def explain(self, buckets: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """The answer and what led to it, as JSON; its `request` asked again at its `at` gets the same answer.

        buckets: the state of the counters that were asked, as JSON already; they are told as they are.
        """
        return explain(self.effective, self, buckets=buckets)


@dataclass(frozen=True)
class TokenDecision(Decision):
    """May a call use so many tokens? output_tokens: what the caller may ask of the model at most, None = no cap.

    cap: the field of token_caps that was exceeded, or ""; limit: its value.
    """

    output_tokens: int | None = None
    cap: str = ""
    limit: int | None = None


REASONS: Mapping[str, str] = {
    "allowed": "Allowed.",
    "no_restriction": "Allowed: no policy restricts this.",
    "model_unknown": "There is no model of this name. Ask for one of the catalog.",
    "model_disabled": "This model is switched off. Ask for another one.",
    "model_denied": "This model is forbidden here. Ask for another one.",
    "model_not_in_allowlist": "This model is not among those allowed here. Ask for another one.",
    "provider_not_allowed": "The provider of this model is not among those allowed here. Ask for another model.",
    "region_not_allowed": "This region is not among those allowed here. Use another one.",
    "no_permitted_target": "None of the models that calls are routed to is allowed here. An administrator must change them.",
    "token_cap_exceeded": "This call has more tokens than are allowed here. Send less, or ask for a shorter answer.",
    "model_unpriced": "This model has no price, and a budget has to know one. Ask for another model.",
    "rate_limited": "There were too many calls. Try again later.",
    "budget_exceeded": "The budget is used up. An administrator can raise it.",
    "guardrail_blocked": "A guardrail stopped this call.",
    "storage_denied": "This object is forbidden here.",
    "storage_default_deny": "No policy allows storage here. An administrator can.",
    "storage_not_in_allowlist": "This object, or what you want to do with it, is not among those allowed here.",
    "uri_not_canonical": "This address has more than one spelling. Write it as scheme://bucket/key, without % or dots.",
    "policy_invalid": "A policy cannot be read, so everything it is about is refused. An administrator must repair it.",
    "policy_unavailable": "The policies cannot be read: the database does not answer. Try again in a second.",
    "limits_unavailable": "The limits cannot be counted: the database does not answer. Try again in a second.",
    "tenant_mismatch": "An object of another tenant was given, or this tenant cannot be seen here. Stay in one.",
    "scope_mismatch": "The app, branch or user given is not the one the key or branch belongs to. Leave it out.",
}
"""Every reason of a refusal or permission, of ours or of the gate, and what it means. Callers branch on the words."""
