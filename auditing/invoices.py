"""A provider's invoice beside what the requests cost by our prices: by provider, model and month."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from uuid import UUID

from auditing.errors import InvalidInvoice
from auditing.metrics import totals
from auditing.values import MAX_COST
from controlplane.core.conf import conf
from controlplane.core.partitions import FIRST_MONTH, next_month

COLUMNS = ("provider", "model", "month", "cost")

Key = tuple[str, str, date]
"""provider, model (`provider/name`), first day of the month."""


@dataclass(frozen=True, slots=True)
class Delta:
    """One model of a provider in one month of UTC, which is what providers bill by. In US dollars.

    invoiced: 0 where the invoice does not name the model. unpriced: requests that are in no cost of ours.
    """

    provider: str
    model: str
    month: date
    invoiced: Decimal
    ours: Decimal
    unpriced: int

    @property
    def difference(self) -> Decimal:
        """What the invoice asks for beyond ours."""
        return self.invoiced - self.ours


def read_invoice(path: Path) -> dict[Key, Decimal]:
    """The lines of an invoice: a CSV file with the columns provider, model, month (YYYY-MM) and cost in US dollars, others are
    left alone. Lines of one model and month add up; a credit is negative.

    A model is canonical (`openai/gpt-5`) or its provider's name for it (`gpt-5`). Raises InvalidInvoice, which names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, csv.DictReader(file))
    except OSError as error:
        raise InvalidInvoice(message=f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (UnicodeDecodeError, csv.Error):
        raise InvalidInvoice(message=f"{path.name} is no CSV file in UTF-8.") from None


def _read(path: Path, rows: csv.DictReader[str]) -> dict[Key, Decimal]:
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise InvalidInvoice(
            message=f"{path.name} has no column {', '.join(missing)}. It needs {', '.join(COLUMNS)} in its first line."
        )
    found: defaultdict[Key, Decimal] = defaultdict(Decimal)
    for row in rows:
        try:
            provider, model, month, cost = ((row[name] or "").strip() for name in COLUMNS)
            found[provider, _canonical(provider, model), _month(month)] += _cost(cost)
        except ValueError as why:
            raise InvalidInvoice(message=f"{path.name}, line {rows.line_num}: {why}") from None
    if not found:
        raise InvalidInvoice(message=f"{path.name} has no lines: there is nothing to compare.")
    return dict(found)


def _canonical(provider: str, model: str) -> str:
    if not provider or not model:
        raise ValueError("provider and model must both be given.")
    return model if model.startswith(f"{provider}/") else f"{provider}/{model}"


def _month(text: str) -> date:
    try:
        month = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise ValueError(f"{text!r} is no month: write it as 2026-12.") from None
    if not FIRST_MONTH <= month < date(9999, 1, 1):
        raise ValueError(f"{text} is no month of the logs: they begin in {FIRST_MONTH:%Y-%m}.")
    return month


def _cost(text: str) -> Decimal:
    try:
        cost = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no amount: write it as 1234.56, in US dollars.") from None
    if not cost.is_finite() or abs(cost) >= MAX_COST:
        raise ValueError(f"{text} is no amount of an invoice.")
    return cost


def compare(lines: Mapping[Key, Decimal], *, tenant_id: UUID | None = None, using: str | None = None) -> list[Delta]:
    """Each line of an invoice beside ours, and what we have of its providers and months that it does not name, by month,
    provider and model. tenant_id: of one tenant alone; None = of all.
    """
    ours: dict[Key, tuple[Decimal, int]] = {}
    providers = {(provider, month) for provider, _, month in lines}
    for month in sorted({month for *_, month in lines}):
        for provider, model, cost, unpriced in _of_month(month, tenant_id, using or conf.DATABASE):
            if (provider, month) in providers:
                ours[provider, model, month] = cost, unpriced
    keys = sorted({*lines, *ours}, key=lambda key: (key[2], key[0], key[1]))
    return [Delta(*key, lines.get(key, Decimal(0)), *ours.get(key, (Decimal(0), 0))) for key in keys]


def _of_month(month: date, tenant_id: UUID | None, using: str) -> Iterator[tuple[str, str, Decimal, int]]:
    start, end = (datetime.combine(day, time(), UTC) for day in (month, next_month(month)))
    for total in totals(tenant_id, start, end, ("provider", "model"), using=using):
        yield *total.key, total.cost, total.unpriced
