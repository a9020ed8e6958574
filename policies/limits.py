"""Limits held and charged: the doors. Rules for readers: docs/limits.md.

    held = limits.reserve(effective, decision.model, Amounts(input_tokens=900, output_tokens=500, cost=worst), request_id)
    if not held: refuse(held.failing)
    …
    limits.settle(held, Amounts(input_tokens=880, output_tokens=212, cost=real))

Who sends several statements at once takes `ask`, `open_windows`, `reserving` and `conclude` instead of `reserve`, and
`settling` and `tell_spent` instead of `settle`.
"""

from __future__ import annotations

import logging
from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections

from controlplane.core.conf import conf
from controlplane.core.ids import now
from policies import notices, sweeping
from policies.counting import Amounts, Threshold
from policies.errors import PolicyError
from policies.periods import check_instant
from policies.reserving import Answer, Asked, Level, ask, insert, open_windows, reserving
from policies.resolution import EffectivePolicy
from policies.settling import Ended, expiring, releasing, settling
from policies.sweeping import Difference, Swept

__all__ = (
    "Amounts", "Answer", "Asked", "Ended", "Held", "Level", "ask", "conclude", "expire", "expiring",
    "open_windows", "release", "releasing", "reserve", "reserving", "settle", "settle_request", "settling",
    "sweep", "tally", "tell_spent", "verify",
)  # fmt: skip

logger = logging.getLogger(__name__)

TRIES = 5
tally: Tally[str] = Tally()
"""What happened in this process: reservation_in_transaction."""


@dataclass(frozen=True, slots=True)
class Held:
    """The answer to `reserve`; true if the call may be made.

    id: of the reservation, None if nothing is held. repeated: this request id was asked before, alike; then `state` is
    how that one stands (reserved: it still holds; settled, released, expired: it ended) and nothing more was held.
    state: empty if it was refused, or nothing is limited. levels: each counter as it was found, without this call.
    """

    asked: Asked
    id: UUID | None
    granted: bool
    repeated: bool
    state: str
    levels: tuple[Level, ...]

    def __bool__(self) -> bool:
        return self.granted

    @property
    def failing(self) -> tuple[Level, ...]:
        """The counters that refuse the call, all of them; budgets first."""
        if self.granted or self.repeated:
            return ()
        return tuple(sorted((one for one in self.levels if not one.fits), key=lambda one: one.counter.kind))

    @property
    def warnings(self) -> tuple[tuple[Level, Threshold], ...]:
        """The soft limits that the call goes past."""
        return self._passed("soft")

    @property
    def shadowed(self) -> tuple[tuple[Level, Threshold], ...]:
        """The shadow limits that the call goes past: what would happen if they were enforced."""
        return self._passed("shadow")

    def _passed(self, mode: str) -> tuple[tuple[Level, Threshold], ...]:
        return tuple((level, one) for level in self.levels for one in level.passed(mode)) if not self.repeated else ()


def reserve(
    effective: EffectivePolicy,
    model: str,
    amounts: Amounts,
    request_id: str,
    *,
    at: datetime | None = None,
    ttl: timedelta | None = None,
    using: str | None = None,
) -> Held:
    """Hold the upper bound of a call on every counter it counts against, or on none.

    model: canonical id. amounts: what the call uses at most. request_id: unique in the tenant, at most 200 characters;
    the same one, asked alike, is held once and answered alike. ttl: how long until its maker is taken for gone; None =
    RESERVATION_TTL. Raises PolicyError: idempotency_conflict, policy_invalid, amount_unknown, limits_unavailable,
    request_id_invalid, ttl_invalid, time_out_of_range.
    """
    alias = using or conf.DATABASE
    asked = ask(effective, model, amounts, request_id, at=now() if at is None else check_instant(at), ttl=ttl)
    if asked.counters:
        open_windows(alias, asked)
        return conclude(asked, reserving(asked).send(alias), using=alias)
    return conclude(asked, None, using=alias)


def conclude(asked: Asked, answer: Answer | None, *, using: str | None = None) -> Held:
    """What the answer means. Sends the statement again after a window was missing, which is rare; tells what was passed.

    answer: None if nothing was sent, because `asked` has no counters. Errors as of `reserve`.
    """
    alias = using or conf.DATABASE
    if answer is None:
        return Held(asked, None, True, False, "", ())
    for _ in range(TRIES):
        if answer.earlier is not None:
            return _again(asked, answer, *answer.earlier)
        missing = {one.key for one in asked.counters} - {level.counter.key for level in answer.levels}
        if missing:
            insert(alias, asked.tenant_id, [one for one in asked.counters if one.key in missing])
        elif answer.granted or not all(level.fits for level in answer.levels):
            return _new(asked, answer, alias)
        # Else the same request id was stored by somebody else at this very time: it will be seen now.
        answer = reserving(asked).send(alias)
    raise PolicyError("limits_unavailable", http_status=503)


def _new(asked: Asked, answer: Answer, alias: str) -> Held:
    if answer.granted and connections[alias].in_atomic_block:
        tally["reservation_in_transaction"] += 1
        logger.info(
            "reservation_in_transaction: counters stay locked until the transaction of %s ends", asked.request_id
        )
    notices.tell(alias, asked.tenant_id, notices.of_reserve(answer.levels, answer.granted))
    id_, state = (asked.id, "reserved") if answer.granted else (None, "")
    return Held(asked, id_, answer.granted, False, state, answer.levels)


def _again(asked: Asked, answer: Answer, id_: UUID, state: str, digest: str) -> Held:
    if digest != asked.digest:
        raise PolicyError("idempotency_conflict", http_status=409)
    return Held(asked, id_, state == "reserved", True, state, answer.levels)


def settle(held: Held, actual: Amounts, *, at: datetime | None = None, using: str | None = None) -> Ended | None:
    """Charge what was used, and give the rest back. None: nothing was held. A second call changes nothing.

    actual: what is not known of it is charged as it was held, and flagged `estimated`; more than was held is charged in
    full, and flagged `overrun`. A process without `held` uses `settle_request`.
    """
    alias = using or conf.DATABASE
    if held.id is None:
        return None
    tenant_id, request_id = held.asked.tenant_id, held.asked.request_id
    found = settling(tenant_id, request_id, actual, at or now()).send(alias)
    tell_spent(tenant_id, held.levels, found, using=alias)
    return found


def settle_request(
    tenant_id: UUID, request_id: str, actual: Amounts, *, at: datetime | None = None, using: str | None = None
) -> Ended | None:
    """`settle` by the request's name. A share of a budget that this passes is told by the next call that counts on it."""
    return settling(tenant_id, request_id, actual, at or now()).send(using or conf.DATABASE)


def tell_spent(tenant_id: UUID, levels: Iterable[Level], found: Ended | None, *, using: str | None = None) -> None:
    """Tell the shares that a settle passed: no statement if it passed none, or they were told."""
    if found is not None and found.changed:
        notices.tell(using or conf.DATABASE, tenant_id, notices.of_settle(levels, found))


def release(tenant_id: UUID, request_id: str, *, at: datetime | None = None, using: str | None = None) -> Ended | None:
    """Give back all that is held under this request id; nothing is charged. None: nothing was reserved under it."""
    return releasing(tenant_id, request_id, at or now()).send(using or conf.DATABASE)


def expire(tenant_id: UUID, request_id: str, *, at: datetime | None = None, using: str | None = None) -> Ended | None:
    """The same, if its time is over at `at`. It may still be settled."""
    return expiring(tenant_id, request_id, at or now()).send(using or conf.DATABASE)


def sweep(*, at: datetime | None = None, using: str | None = None) -> Swept:
    """Give back what is stale at `at` (None = now), and remove counters of windows long past. Also a duty, every 10 s."""
    return sweeping.sweep(sweeping.through(using or conf.DATABASE), at)


def verify(tenant_id: UUID | None = None, *, using: str | None = None) -> list[Difference]:
    """Counters that are not what their reservations hold and spent: none, or somebody wrote past these functions."""
    return sweeping.verify(using or conf.DATABASE, tenant_id)
