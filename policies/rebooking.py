"""Charging what became known after a call was settled: an unpriced one was charged what it held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from django.db import connections

from auditing import adjusting
from auditing.models import InferenceRequest
from controlplane.core.conf import conf
from controlplane.core.ids import lower_bound
from policies.counting import Amounts
from policies.models import Reservation
from policies.settling import correcting

PAGE = 500
_AROUND = timedelta(days=1)
"""A request begins when its reservation does, but for the clocks of two machines."""


@dataclass(frozen=True, slots=True)
class Rebooked:
    """looked: estimated reservations. corrected: those that are charged otherwise, or are estimated no longer."""

    looked: int
    corrected: int


def rebook(tenant_id: UUID | None = None, *, using: str | None = None) -> Rebooked:
    """Charge every estimated reservation, of one tenant or all, what its request is known to have used by now.

    What the log says counts, with all that was booked for the request since; credits are no part of it. Each is one
    statement, so it may be stopped and run again; a corrected one is estimated no longer.
    """
    alias = using or conf.DATABASE
    looked, corrected = 0, 0
    for page in _pages(alias, tenant_id):
        for reservation, actual in _known(alias, page):
            ended = correcting(reservation.tenant_id, reservation.request_id, actual).send(alias)
            if ended is not None and ended.changed:
                corrected += not ended.estimated or ended.actuals != tuple(reservation.actuals or ())
        looked += len(page)
    return Rebooked(looked, corrected)


def _pages(alias: str, tenant_id: UUID | None) -> Iterator[list[Reservation]]:
    rows = Reservation.objects.using(alias).filter(state=Reservation.State.SETTLED, estimated=True).order_by("pk")
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    after = rows
    while page := list(after[:PAGE]):
        yield page
        after = rows.filter(pk__gt=page[-1].pk)


def _known(alias: str, page: Iterable[Reservation]) -> Iterator[tuple[Reservation, Amounts]]:
    for reservation in page:
        facts = InferenceRequest.objects.using(alias).for_tenant(reservation.tenant_id)
        fact = facts.filter(
            request_id=reservation.request_id,
            adjusts=None,
            id__gte=lower_bound(reservation.reserved_at - _AROUND),
            id__lt=lower_bound(reservation.reserved_at + _AROUND),
        ).first()
        if fact is None:
            continue
        with connections[alias].cursor() as cursor:
            since = adjusting.booked(cursor, [fact.pk]).get(fact.pk, adjusting.Booked())
        known = fact.cost is not None or since.priced
        yield (
            reservation,
            Amounts(
                input_tokens=_sum(fact.prompt_tokens, since.prompt_tokens),
                output_tokens=_sum(fact.completion_tokens, since.completion_tokens),
                cost=max((fact.cost or Decimal(0)) + since.cost, Decimal(0)) if known else None,
            ),
        )


def _sum(told: int | None, booked: int | None) -> int | None:
    return None if told is None and booked is None else max((told or 0) + (booked or 0), 0)
