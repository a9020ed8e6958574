"""A call that was let through: how it ends, and how it is made again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections

from auditing.errors import ConflictingDuplicate
from auditing.lifecycle import End, Flight, Start, counted
from auditing.models import InferenceRequest
from auditing.pricer import UNPRICED, Price
from controlplane.core.conf import conf
from controlplane.core.ids import now
from controlplane.core.statements import Statement
from controlplane.gate import ending, phases, refusing, reserving
from controlplane.gate.asking import Asked
from controlplane.gate.reserving import Hold
from policies.resolution import Decision, EffectivePolicy
from tenants.verification import VerifiedKey


@dataclass(slots=True)
class Grant:
    """A call that may be made: settle, fail or release it once it has ended.

    id: of the request, in flight and then in the log. model: canonical id to call. max_output_tokens: to ask for, at most;
    None = no cap. estimated_cost: US dollars at most, None = not known. warnings: soft limits that it exceeds, as JSON. Each
    of the three ends the call; ended again alike nothing changes, differently ConflictingDuplicate is raised.
    """

    id: UUID
    key: VerifiedKey
    model: str
    decision: Decision
    max_output_tokens: int | None
    estimated_cost: Decimal | None
    asked: Asked = field(repr=False)
    flight: Flight = field(repr=False)
    hold: Hold | None = field(repr=False)
    _began: float = field(default_factory=time.monotonic, repr=False)
    _first_token: float | None = field(default=None, repr=False)

    @property
    def request_id(self) -> str:
        """Of this try: the caller's, or one made here; a repeated call's ends with `#` and its number."""
        return self.flight.request_id

    @property
    def effective(self) -> EffectivePolicy:
        return self.decision.effective

    @property
    def warnings(self) -> tuple[dict[str, Any], ...]:
        return () if self.hold is None else self.hold.warnings

    def first_token(self) -> None:
        """Note that the answer has begun; the time to it is recorded."""
        if self._first_token is None:
            self._first_token = time.monotonic()

    def settle(self, usage: object = None, cost: object = None) -> InferenceRequest:
        """The call succeeded: what it used and cost is recorded and counted against its limits.

        usage: as `auditing.lifecycle.Reported`; None = the provider reported nothing. cost: as InferenceRequest.objects.complete
        takes it, None = by the catalog's price. What is not known counts as what was reserved. Raises
        auditing.errors.AuditUnavailable (503) where the database does not answer: see `gate.catch_up`.
        """
        return self._end(End("completed", usage=usage, cost=cost, latency_ms=self._elapsed(), ttft_ms=self._ttft()))

    def fail(
        self, error: str, error_code: str = "provider_error", usage: object = None, *, billable: bool = False
    ) -> InferenceRequest:
        """The call failed; it costs nothing, unless the provider bills it. Tokens that it used count."""
        return self._end(
            End(
                "failed", usage=usage, latency_ms=self._elapsed(), error=error, error_code=error_code, free=not billable
            )
        )

    def release(self, usage: object = None) -> InferenceRequest:
        """The caller gave up; what was used until then is recorded and counted."""
        return self._end(End("cancelled", usage=usage, latency_ms=self._elapsed(), free=usage is None))

    def targets(self) -> list[str]:
        """Canonical ids of the models that routing policies name and that may be called, in order, but this one.

        Raises Denied(no_permitted_target) where they name some, and none may be called.
        """
        decisions = self.effective.decide_targets(self.asked.region or refusing.NOWHERE)
        for decision in decisions:
            if not decision:
                refusing.refuse(refusing.of_decision(decision), self.key, self.asked.model)
        models = [str(found.model) for found in decisions]
        return [model for model in models if model != self.model and self.key.allows_model(model)]

    def next(self, model: str | None = None, region: str | None = None) -> Grant:
        """Permission to call again, another model or (None) the same one; this call must have ended.

        It passes phases 3 to 7 anew, under the request id with `#1`, `#2`, …. Raises Denied as `authorize`, and
        no_permitted_target for more tries than routing policies allow.
        """
        effective, number = phases.read(self.key, self.asked), self.asked.attempt + 1
        most = effective.merged.values.get("routing", {}).get("max_retries")
        if most is not None and number > most:
            refusing.refuse(refusing.of_retries(effective, most), self.key, self.asked.model)
        first = self.asked.retry_of or self.request_id
        asked = replace(
            self.asked, model=model or self.asked.model, region=region or self.asked.region,
            request_id=f"{first}#{number}", attempt=number, retry_of=first,
        )  # fmt: skip
        return admit(self.key, asked, effective)

    def write(self, how: End) -> InferenceRequest:
        """Record an end and settle what was held, in one round trip; `ending.end` repeats it."""
        subject, hold = self.flight.subject(), self.hold
        if hold is None:
            return InferenceRequest.objects.finish(self.id, how, subject=subject)
        ended: list[Any] = []

        def settle(used: dict[str, Any], price: Price) -> Statement[Any]:
            one = self._settling(hold, how, used, price)
            return replace(one, read=lambda rows: ended.append(one.read(rows)))

        try:
            fact = InferenceRequest.objects.finish(self.id, how, subject=subject, beside=settle)
        except ConflictingDuplicate:
            if not ended and not connections[conf.DATABASE].in_atomic_block:
                # The log refused the fact and undid the settle with it, but what was used was used.
                self._settling(hold, how, counted(how.usage), UNPRICED).send(conf.DATABASE)
            raise
        hold.tell(ended[0])
        return fact

    def _end(self, how: End) -> InferenceRequest:
        return ending.end(self, how)

    def _settling(self, hold: Hold, how: End, used: Mapping[str, Any], price: Price) -> Statement[Any]:
        if how.status != "completed" and how.usage is None and how.cost is None:
            return hold.releasing()
        return hold.settling(used["prompt_tokens"], used["completion_tokens"], price.cost)

    def _elapsed(self) -> int:
        return round((time.monotonic() - self._began) * 1000)

    def _ttft(self) -> int | None:
        return None if self._first_token is None else round((self._first_token - self._began) * 1000)


def admit(key: VerifiedKey, asked: Asked, effective: EffectivePolicy | None = None) -> Grant:
    """Phases 3 to 7 for a key that was verified."""
    effective = effective or phases.read(key, asked)
    decision = phases.decide(effective, key, asked)
    at = now()
    weighed = phases.weigh(effective, key, asked, decision, at)
    model, most = str(decision.model), weighed.bound
    hints: dict[str, Any] = {"input_tokens": asked.input_tokens, "max_output_tokens": asked.max_output_tokens}
    hints |= {"retry_of": asked.retry_of, "policy_epoch": effective.epoch or None}
    start = Start(
        request_id=asked.request_id, tenant_id=key.tenant_id, app_id=key.app_id, branch_id=key.branch_id,
        user_id=key.user_id, api_key_id=key.key_id, provider=decision.record.provider, model=model,
        requested_model=asked.model if asked.model != model else None, estimated_cost=most.cost, deadline=asked.deadline,
        stream=asked.stream, time_zone=effective.time_zone,
        metadata={name: value for name, value in hints.items() if value is not None},
    )  # fmt: skip
    flight = Flight.of(start, at)
    hold = reserving.board(flight, decision, key, asked, most)
    return Grant(flight.id, key, model, decision, weighed.max_output_tokens, most.cost, asked, flight, hold)
