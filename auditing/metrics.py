"""Totals of requests: the two questions that every screen, file and command asks.

Whole hours, days and months are read from the roll-ups, the ends of the window and what is not rolled up yet from the requests:
exact to the instant, whatever runs beside. A request counts at the instant it is booked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections

from auditing.answers import GROUPS, Ask, answers, exact_bounds
from auditing.errors import InvalidWindow
from auditing.measures import LAST_BOUND_MS, MEASURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Totals over a window. Costs in US dollars, with adjustments; unpriced requests are counted, and in no cost.

    total_requests: facts without adjustments, and calls in flight. average_latency_ms: over completed requests that
    tell theirs, else None. p50, p95, p99: milliseconds, upper bounds of power-of-two buckets, so that they add up.
    """

    total_requests: int
    completed_requests: int
    failed_requests: int
    total_tokens: int
    total_cost: Decimal
    average_latency_ms: float | None
    cancelled: int
    lost: int
    in_flight: int
    unpriced: int
    estimated_cost: Decimal
    p50: int | None
    p95: int | None
    p99: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Totals of one group. key: the group's values in the order of `by`; an absent subject is None."""

    key: tuple[Any, ...]
    requests: int
    completed: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    unpriced: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


_SUMMED = ("requests", "completed", "failed", "prompt_tokens", "completion_tokens", "cost", "unpriced")


def metrics(tenant_id: UUID, start: datetime, end: datetime, *, using: str) -> Metrics:
    """See InferenceRequest.objects.metrics."""
    ask = Ask(tenant_id, start, end, (), tuple(MEASURES), None)
    with connections[using].cursor() as cursor:
        [[(*row, flying)]] = answers(cursor, [ask])
        found = dict(zip(MEASURES, row, strict=True))
        if (found["latency_max_ms"] or 0) > LAST_BOUND_MS:
            bounds = exact_bounds(cursor, ask)
        else:
            bounds = [_bound(found["latency_hist"], found["latency_n"], percent) for percent in (50, 95, 99)]
    average = found["latency_sum_ms"] / found["latency_n"] if found["latency_n"] else None
    return Metrics(
        total_requests=found["requests"] + flying, completed_requests=found["completed"], failed_requests=found["failed"],
        total_tokens=found["prompt_tokens"] + found["completion_tokens"], total_cost=found["cost"],
        average_latency_ms=average, cancelled=found["cancelled"], lost=found["lost"], in_flight=flying,
        unpriced=found["unpriced"], estimated_cost=found["estimated_cost"], p50=bounds[0], p95=bounds[1], p99=bounds[2],
    )  # fmt: skip


def _bound(histogram: Sequence[int], count: int, percent: int) -> int | None:
    """The least bound that so many percent of the calls are within: of the one at the nearest rank."""
    rank = -(-count * percent // 100)
    for n, calls in enumerate(histogram):
        rank -= calls
        if rank <= 0:
            return 1 << n if count else None
    return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Totals that are asked for, as the arguments of InferenceRequest.objects.totals. tenant: a row, its id, None = all."""

    tenant: Any
    start: datetime
    end: datetime
    by: tuple[str, ...] = ("model",)
    zone: str | None = None


def totals(
    tenant_id: UUID | None, start: datetime, end: datetime, by: tuple[str, ...], *, zone: str | None = None, using: str
) -> list[Total]:
    """See InferenceRequest.objects.totals. Raises InvalidWindow for a group that there is not."""
    [found] = together([Wanted(tenant_id, start, end, by, zone)], using=using)
    return found


def together(wanted: Sequence[Wanted], *, using: str) -> list[list[Total]]:
    """See InferenceRequest.objects.totals_together. tenant: an id or None."""
    for one in wanted:
        unknown = [name for name in one.by if name not in GROUPS]
        if unknown or not one.by:
            message = f"Totals cannot be grouped by {unknown}: choose from {sorted(GROUPS)}."
            raise InvalidWindow("unknown_group", message)
    asks = [Ask(one.tenant, one.start, one.end, one.by, _SUMMED, one.zone) for one in wanted]
    with connections[using].cursor() as cursor:
        found = answers(cursor, asks)
    return [[_total(row, len(ask.by)) for row in rows] for ask, rows in zip(asks, found, strict=True)]


def _total(row: Sequence[Any], keys: int) -> Total:
    return Total(key=tuple(row[:keys]), **dict(zip(_SUMMED, row[keys:], strict=True)))
