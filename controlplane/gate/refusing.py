"""A refusal in words: which rule, whose, with which figures, and until when. The message alone says what to change."""

from __future__ import annotations

from typing import NoReturn
from uuid import UUID

from controlplane.denials import Denied, Object, record
from controlplane.gate.tally import count
from policies.resolution import REASONS, Decision, EffectivePolicy, TokenDecision
from tenants.errors import InvalidKey
from tenants.verification import VerifiedKey

LEVELS = ((16, "key"), (8, "user"), (4, "branch"), (2, "app"), (1, "tenant"))
"""Bits of a layer, nearest first."""

NOWHERE = "?"
"""The region of a call that does not say where it goes. None is called so: where policies name regions, it is refused."""

_WORDS = {"key": "an API key", "user": "a user", "branch": "a branch", "app": "an app", "tenant": "the organization"}
_STATES = {f"{name}_disabled": name for name in ("tenant", "app", "branch", "user")}


def counted(denied: Denied) -> Denied:
    """Count a refusal that is about to be raised."""
    count(f"denied.{denied.code}")
    return denied


def refuse(denied: Denied, key: VerifiedKey, model: object) -> NoReturn:
    """Raise a refusal of phases 3 to 7, counted and recorded."""
    record(counted(denied), key, str(model))
    raise denied


def of_key(refused: InvalidKey) -> Denied:
    """A key's refusal. An unknown token and a malformed one look alike; only holders of a real secret learn more."""
    return Denied(
        refused.public_code,
        refused.http_status,
        "This API key is not valid." if refused.public_code == "invalid_api_key" else refused.message,
        level=_STATES.get(refused.code, "key"),
        object=Object("key", refused.key_id, refused.kid),
        retry_after=getattr(refused, "retry_after", None),
    )


def unavailable(code: str) -> Denied:
    return Denied(code, 503, REASONS[code], retry_after=1)


def of_guardrail(effective: EffectivePolicy, name: str) -> Denied:
    """What a caller reports: the guardrail stopped the call. Its policy is named, if one knows the guardrail."""
    leaf = effective.merged.provenance.get("guardrail", {}).get("guardrails", {}).get(name, {})
    sources = (leaf.get("action") or leaf.get("stages") or {}).get("from", [])
    by = sources[0] if sources else None
    own = effective.policies[by].message if by else ""
    return Denied(
        "guardrail_blocked",
        403,
        f"{own or REASONS['guardrail_blocked']} It is {name!r}.{said_by(effective, by)}",
        level=level_of(effective, by),
        object=Object("guardrail", None, name),
        policy_id=by,
        policy_version=version_of(effective, by),
    )


def of_retries(effective: EffectivePolicy, most: int) -> Denied:
    """One try more than the routing policies allow."""
    by = effective.merged.provenance["routing"]["max_retries"]["from"][0]
    return Denied(
        "no_permitted_target",
        403,
        f"{own_words(effective, by)}This call may be repeated {most} times, and was.{said_by(effective, by)}",
        level=level_of(effective, by),
        object=policy_object(effective, by),
        policy_id=by,
        policy_version=version_of(effective, by),
        limit=most,
    )


def of_decision(decision: Decision, note: str = "") -> Denied:
    """A decision's refusal, with the policy that took it named behind its words, its figures and a note."""
    effective, by = decision.effective, decision.by
    cap = decision if isinstance(decision, TokenDecision) and decision.cap else None
    figures = _asked_for(decision) if cap is None else f" {cap.cap} is {cap.limit}; {_asked_tokens(cap)}."
    others = (
        [policy for policy in decision.policies if policy != by] if decision.reason == "no_permitted_target" else []
    )
    return Denied(
        decision.reason,
        503 if decision.reason == "policy_invalid" else 403,
        f"{decision.message}{figures}{note}{said_by(effective, by, decision.pattern)}"
        + "".join(said_by(effective, policy) for policy in others[:3]),
        level=level_of(effective, by),
        object=Object("model", None, decision.model or "") if by is None else policy_object(effective, by),
        policy_id=by,
        policy_version=version_of(effective, by),
        limit=None if cap is None else cap.limit,
        requested=None if cap is None else _requested(cap),
        decision=decision,
    )


def _asked_for(decision: Decision) -> str:
    """What was refused, where neither the policy nor its entry says it."""
    match decision.reason:
        case "no_permitted_target":
            return f" The targets are {', '.join(decision.request['targets'])}."
        case "region_not_allowed" if decision.request["region"] == NOWHERE:
            return " This call does not say where it goes: give region."
        case "model_not_in_allowlist" | "provider_not_allowed":
            return f" The model is {decision.model}."
    return ""


def own_words(effective: EffectivePolicy, policy: UUID) -> str:
    """What the author of a policy wants its refused callers to be told, with a space behind it; "" for nothing."""
    own = effective.policies[policy].message
    return f"{own} " if own else ""


def said_by(effective: EffectivePolicy, policy: UUID | None, pattern: str | None = None) -> str:
    """The policy as a sentence, "" for none."""
    found = None if policy is None else effective.policies.get(policy)
    if found is None:
        return ""
    entry = f", by its entry {pattern}" if pattern else ""
    level = _WORDS[level_of(effective, policy)]
    return f' Policy "{found.name or policy}" of {level}, version {found.row.version}, says so{entry}.'


def level_of(effective: EffectivePolicy, policy: UUID | None) -> str:
    found = None if policy is None else effective.policies.get(policy)
    return "" if found is None else next(name for least, name in LEVELS if found.row.layer >= least)


def version_of(effective: EffectivePolicy, policy: UUID | None) -> int | None:
    found = None if policy is None else effective.policies.get(policy)
    return None if found is None else found.row.version


def policy_object(effective: EffectivePolicy, policy: UUID) -> Object:
    found = effective.policies.get(policy)
    return Object("policy", policy, found.name if found else "")


def _requested(refused: TokenDecision) -> int:
    sent, wanted = refused.request["input_tokens"], refused.request["output_tokens"] or 0
    return int({"max_input_tokens": sent, "max_output_tokens": wanted}.get(refused.cap, sent + wanted))


def _asked_tokens(refused: TokenDecision) -> str:
    sent, wanted = refused.request["input_tokens"], refused.request["output_tokens"]
    return f"this call sends {sent} tokens" + ("" if wanted is None else f" and asks for {wanted}")
