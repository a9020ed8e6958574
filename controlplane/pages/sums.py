"""Figures of usage, as the pages of the roof show them: their sums, their changes, and the lists that they sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from auditing.metrics import Total
from controlplane.core import charts
from controlplane.core.ids import iso
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Sums:
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    unpriced: int
    cost: Any

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def of(cls, rows: Sequence[Total]) -> Sums:
        names = ("requests", "failed", "prompt_tokens", "completion_tokens", "unpriced", "cost")
        return cls(*(sum(getattr(row, name) for row in rows) for name in names))


def merged(totals: Sequence[Total], place: int) -> list[Total]:
    """The totals by one value of their keys alone."""
    found: dict[Any, list[Total]] = {}
    for row in totals:
        found.setdefault(row.key[place], []).append(row)
    names = ("requests", "completed", "failed", "prompt_tokens", "completion_tokens", "cost", "unpriced")
    return [
        Total(key=(key,), **{name: sum(getattr(row, name) for row in rows) for name in names})
        for key, rows in found.items()
    ]


def largest_first(totals: Sequence[Total]) -> list[Total]:
    return sorted(totals, key=lambda row: (-row.requests, str(row.key)))


def requests_url(tenant: Tenant | None, start: datetime, end: datetime, /, **match: str) -> str:
    """The list of the requests of a span: what a figure sums."""
    window = "..".join(map(iso, (start, end)))
    query = {"window": window, **({"tenant": str(tenant.pk)} if tenant else {}), **match}
    return f"{reverse('admin:cp_auditing_inferencerequest_changelist')}?{urlencode(query)}"


def change(value: int | Decimal, before: int | Decimal) -> str:
    """In percent, or how many times as much where that says more. Nothing before: empty."""
    if before > 0 and value >= 10 * before:
        return f"{value / before:,.0f} times"
    return f"{(value - before) * 100 / before:+.1f} %" if before else ""


def spend(sums: Sums) -> str:
    """Unknown is never zero: with nothing priced yet there is no sum."""
    return "unpriced" if sums.unpriced and not sums.cost else charts.dollars(sums.cost)


def rate(sums: Sums) -> float:
    return sums.failed * 100 / sums.requests if sums.requests else 0.0
