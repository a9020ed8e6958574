"""Phases 1 to 6 of a call: the key, the policies, the model, its tokens and the most that it may cost. Nothing is written."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from catalog.rating import billed_by
from controlplane.core.caches import CacheUnavailable
from controlplane.denials import Denied, Object
from controlplane.gate import refusing
from controlplane.gate.asking import MAX_TOKENS, Asked
from controlplane.gate.bounds import Bound, bound
from controlplane.gate.reconnecting import AWAY, persistently
from controlplane.gate.refusing import NOWHERE, counted
from policies.effective import OF_A_CALL
from policies.errors import PolicyError
from policies.models import Policy
from policies.resolution import Decision, EffectivePolicy
from tenants.errors import InvalidKey
from tenants.models import APIKey
from tenants.verification import VerifiedKey


def verify(token: str, asked: Asked) -> VerifiedKey:
    """Phases 1 and 2: the key, and what it stands on."""
    try:
        found: VerifiedKey = APIKey.objects.verify(token, environment=asked.environment, scope=asked.scope)
        return found
    except InvalidKey as refused:
        raise counted(refusing.of_key(refused)) from refused


def in_force(key: VerifiedKey) -> EffectivePolicy:
    """The policies in force for a key."""
    try:
        found: EffectivePolicy = persistently(lambda: Policy.objects.effective(key.tenant_id, key=key))
    except (*AWAY, CacheUnavailable) as error:
        raise counted(refusing.unavailable("policy_unavailable")) from error
    except PolicyError as error:
        tenant = Object("tenant", key.tenant_id)
        denied = Denied("policy_unavailable", 503, error.message, level="tenant", object=tenant, retry_after=1)
        raise counted(denied) from error
    return found


def read(key: VerifiedKey, asked: Asked) -> EffectivePolicy:
    """Phase 3: the policies in force, all of them to be read."""
    found = in_force(key)
    if refusal := found.unreadable(*OF_A_CALL):
        asks = {"model": _name(asked), "region": asked.region or NOWHERE}
        refusing.refuse(refusing.of_decision(Decision.of(found, refusal, asks)), key, asked.model)
    return found


def _name(asked: Asked) -> str:
    return asked.model if isinstance(asked.model, str) else ""


def decide(effective: EffectivePolicy, key: VerifiedKey, asked: Asked) -> Decision:
    """Phase 4: the model, where it is called, and the models of the key itself."""
    try:
        decision = persistently(lambda: effective.decide_model(_name(asked), asked.region or NOWHERE))
    except (*AWAY, CacheUnavailable) as error:
        raise counted(refusing.unavailable("policy_unavailable")) from error
    if not decision:
        refusing.refuse(refusing.of_decision(decision), key, asked.model)
    if not key.allows_model(str(decision.model)):
        denied = Denied(
            "model_not_allowed", 403, f"This API key may not use {decision.model}. Use a key that allows it.",
            level="key", object=Object("key", key.key_id, key.kid), decision=decision,
        )  # fmt: skip
        refusing.refuse(denied, key, asked.model)
    return decision


class Cost(NamedTuple):
    """max_output_tokens: to send to the provider, None = no cap."""

    max_output_tokens: int | None
    bound: Bound


def weigh(effective: EffectivePolicy, key: VerifiedKey, asked: Asked, decision: Decision, at: datetime) -> Cost:
    """Phases 5 and 6: the token caps, then the most that the call may use and cost. A price that nobody knows refuses in
    phase 7, where a hard limit asks for it."""
    sent, unsaid = asked.input_tokens, ""
    if sent is None:  # unknown is never zero
        sent = MAX_TOKENS if decision.record.max_input_tokens is None else decision.record.max_input_tokens
        unsaid = (
            " It does not say how many tokens it sends, so these are as many as the model takes: give input_tokens."
        )
    tokens = effective.check_tokens(sent, asked.max_output_tokens)
    if not tokens:
        refusing.refuse(refusing.of_decision(tokens, unsaid), key, asked.model)
    caps = effective.merged.values.get("token_caps", {})
    try:
        price = billed_by(key.tenant_id, decision.record, asked.model, at)
    except (*AWAY, CacheUnavailable) as error:
        raise counted(refusing.unavailable("limits_unavailable")) from error
    return Cost(tokens.output_tokens, bound(asked, decision.record, price, caps, tokens.output_tokens, at))
