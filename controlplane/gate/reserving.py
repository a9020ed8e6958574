"""Phase 7: the most that a call may use is held against every limit, and the call is noted in flight, in one round trip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections

from auditing.lifecycle import Flight
from controlplane.core.conf import conf
from controlplane.core.ids import now
from controlplane.core.statements import Statement, send_together
from controlplane.denials import Denied
from controlplane.gate import limited, refusing
from controlplane.gate.asking import Asked
from controlplane.gate.bounds import Bound
from controlplane.gate.reconnecting import AWAY, persistently
from controlplane.gate.tally import count
from policies import limits
from policies.errors import PolicyError
from policies.limits import Amounts, Ended, Held
from policies.resolution import Decision
from tenants.scope import current_scope
from tenants.verification import VerifiedKey


@dataclass(frozen=True, slots=True)
class Hold:
    """What a call holds of its limits until it ends."""

    held: Held
    zone: str

    @property
    def warnings(self) -> tuple[dict[str, Any], ...]:
        """The soft limits that the call goes past, as JSON."""
        return tuple(limited.bucket(level, one, self.zone, "warn") for level, one in self.held.warnings)

    def settling(self, input: int | None, output: int | None, cost: Decimal | None) -> Statement[Ended | None]:
        """Charges what was used; what is None is charged as it was held."""
        used = Amounts(input_tokens=input, output_tokens=output, cost=cost)
        return limits.settling(*self._name, used, now())

    def releasing(self) -> Statement[Ended | None]:
        return limits.releasing(*self._name, now())

    def tell(self, ended: Ended | None) -> None:
        """The alerts that this end set off."""
        limits.tell_spent(self.held.asked.tenant_id, self.held.levels, ended, using=conf.DATABASE)

    @property
    def _name(self) -> tuple[UUID, str]:
        return self.held.asked.tenant_id, self.held.asked.request_id


def board(flight: Flight, decision: Decision, key: VerifiedKey, asked: Asked, most: Bound) -> Hold | None:
    """Hold and note, or neither; None: nothing is limited. Raises Denied and DuplicateRequest."""
    wanted = _wanted(flight, decision, key, asked, most)
    if wanted.counters and current_scope() is not None:
        text = "Inside a tenant_scope limits can be read, not written. Call the gate outside of it."
        raise refusing.counted(Denied("limits_unavailable", 503, text, decision=decision))
    if connections[conf.DATABASE].in_atomic_block:
        count("reservation_in_transaction")
    try:
        held = persistently(lambda: _send(flight, wanted))  # the same ids again are the same call
    except AWAY as error:
        raise refusing.counted(refusing.unavailable("limits_unavailable")) from error
    if not held:
        refusing.refuse(limited.denied(held, decision), key, asked.model)
    return None if held.id is None else Hold(held, decision.effective.time_zone)


def _wanted(flight: Flight, decision: Decision, key: VerifiedKey, asked: Asked, most: Bound) -> limits.Asked:
    amounts = Amounts(
        input_tokens=most.input_tokens, output_tokens=most.output_tokens, total_tokens=most.total_tokens, cost=most.cost
    )
    try:
        wanted = limits.ask(decision.effective, str(decision.model), amounts, flight.request_id, at=flight.at)
    except PolicyError as error:
        if error.code == "amount_unknown":
            refusing.refuse(limited.unknown(decision, amounts, most.why), key, asked.model)
        raise
    # A call that says it may take longer holds as long.
    return replace(wanted, expires_at=max(wanted.expires_at, flight.at + asked.deadline))


def _send(flight: Flight, wanted: limits.Asked) -> Held:
    """The reservation and the row in flight in one trip; a second one where a window is new to this process.

    The row is written only if the reservation was: it looks for its id. Raises DuplicateRequest.
    """
    using = conf.DATABASE
    if not wanted.counters:
        held, noted = limits.conclude(wanted, None, using=using), flight.statement().send(using)
        if not noted:
            _raise_taken(flight)
        return held
    limits.open_windows(using, wanted)
    if_held = Statement("EXISTS (SELECT FROM cp_policies_reservation WHERE id = %s)", [wanted.id], bool)
    answer, noted = send_together(using, [limits.reserving(wanted), flight.statement(if_held)])
    try:
        held = limits.conclude(wanted, answer, using=using)
    except PolicyError as error:
        if error.code == "idempotency_conflict":
            raise flight.taken(using=using) from error
        raise refusing.counted(refusing.unavailable("limits_unavailable")) from error
    if held.repeated and held.id != wanted.id:
        raise flight.taken(using=using)
    if held and not noted and not flight.statement(if_held).send(using):
        _raise_taken(flight, wanted)
    return held


def _raise_taken(flight: Flight, wanted: limits.Asked | None = None) -> None:
    """The request id is another call's, unless it is this one, sent again; what was held for it meanwhile is given back."""
    using = conf.DATABASE
    taken = flight.taken(using=using)
    if taken.id == flight.id:
        return
    if wanted is not None:
        limits.release(wanted.tenant_id, wanted.request_id, using=using)
    raise taken
