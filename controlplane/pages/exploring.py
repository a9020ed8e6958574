"""What the usage explorer is asked, read from its address; and its groups, from totals. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from auditing.metrics import Total
from controlplane.core import charts
from controlplane.core.figures import Number
from controlplane.pages import spans
from controlplane.pages.spans import Span, read_span
from controlplane.pages.sums import Sums

DIMENSIONS = {
    "tenant": "Tenant", "app": "App", "branch": "Branch", "user": "User", "api_key": "API key", "provider": "Provider",
    "model": "Model",
}  # fmt: skip
WIDE = frozenset({"user", "api_key"})
"""So many that they are not drawn over time."""

EVERY = {"hour": timedelta(days=7), "day": timedelta(days=367), "month": timedelta(days=367)}
"""The longest span that is shown by each."""

WINDOWS = {**spans.WINDOWS, "90d": ("90 days", 90), "12m": ("12 months", 365)}
SHOWN, STACKED = 500, 5


@dataclass(frozen=True, slots=True)
class Measure:
    """What groups are ordered, compared and drawn by. of: its value in sums; form: as people read it."""

    label: str
    unit: str
    form: Callable[[Number], str]
    of: Callable[[Sums], Any]


MEASURES = {
    "cost": Measure("Spend", "US dollars", charts.dollars, lambda sums: sums.cost),
    "requests": Measure("Requests", "requests", charts.plain, lambda sums: sums.requests),
    "tokens": Measure("Tokens", "tokens", charts.plain, lambda sums: sums.tokens),
}


@dataclass(frozen=True, slots=True)
class Question:
    """by: one or two of DIMENSIONS. measure: a key of MEASURES. The span knows whether it is by hour, day or month."""

    by: tuple[str, ...]
    measure: str
    span: Span

    @property
    def every(self) -> str:
        return self.span.every

    @property
    def narrow(self) -> bool:
        """Whether its groups are few enough to be drawn over time."""
        return not WIDE & set(self.by)

    @property
    def grouped(self) -> tuple[str, ...]:
        """What totals are grouped by: of a zone days alone lie on the span's borders, and months are made of them."""
        return (*self.by, "hour" if self.every == "hour" else "day") if self.narrow else self.by


def read(asked: Mapping[str, str], zone: ZoneInfo, present: datetime) -> tuple[Question, list[str]]:
    """The question of an address, and a sentence for each part that could not be understood.

    by, then: dimensions; every: hour, day or month; measure; window, or from and to. What is absent has a default.
    """
    span, misread = read_span(
        asked.get("from", ""), asked.get("to", ""), asked.get("window", "30d"), zone, present, WINDOWS
    )
    said = [misread] if misread else []
    for name, known in (("by", DIMENSIONS), ("then", DIMENSIONS), ("every", EVERY), ("measure", MEASURES)):
        if asked.get(name) and asked[name] not in known:
            said.append(f"{name}={asked[name][:40]!r} is not known: choose one of {', '.join(known)}.")
    first = asked.get("by", "") if asked.get("by") in DIMENSIONS else "model"
    then = asked.get("then", "")
    every = asked.get("every", "")
    length = span.end - span.start
    if every in EVERY and length > EVERY[every] + timedelta(hours=1):  # of a clock that is put back
        said.append(f"By {every} at most {EVERY[every].days} days are shown: choose a shorter window.")
        every = ""
    if every not in EVERY:
        every = "hour" if length <= timedelta(days=2) else "day" if length <= timedelta(days=93) else "month"
    by = (first, then) if then in DIMENSIONS and then != first else (first,)
    measure = asked.get("measure", "") if asked.get("measure") in MEASURES else "cost"
    return Question(by, measure, replace(span, every=every)), said


@dataclass(frozen=True, slots=True)
class Group:
    """One row: key, its sums, and those of the span before."""

    key: tuple[Any, ...]
    sums: Sums
    before: Sums


NOTHING = Sums.of([])


def groups(question: Question, totals: Sequence[Total], before: Sequence[Total]) -> list[Group]:
    """Every group of the span or the one before it, the largest by the measure first."""
    now, then = by_key(totals, len(question.by)), by_key(before, len(question.by))
    of = MEASURES[question.measure].of
    found = [Group(key, now.get(key, NOTHING), then.get(key, NOTHING)) for key in now.keys() | then.keys()]
    found.sort(key=lambda each: tuple(map(str, each.key)))
    found.sort(key=lambda each: (of(each.sums), each.sums.requests, of(each.before)), reverse=True)
    return found


def by_key(totals: Sequence[Total], length: int) -> dict[tuple[Any, ...], Sums]:
    """Sums by the first so many values of the keys."""
    rows: dict[tuple[Any, ...], list[Total]] = {}
    for row in totals:
        rows.setdefault(row.key[:length], []).append(row)
    return {key: Sums.of(found) for key, found in rows.items()}


def over_time(question: Question, totals: Sequence[Total]) -> dict[Any, dict[datetime | date, Sums]]:
    """Sums by the first dimension and by period, the largest first; after the largest STACKED the rest as ...: (Ellipsis)."""
    of = MEASURES[question.measure].of
    whole = by_key(totals, 1)
    ranked = sorted(whole, key=lambda key: (-of(whole[key]), str(key)))
    kept = {key[0] for key in ranked[:STACKED]}
    rows: dict[Any, dict[datetime | date, list[Total]]] = {key[0]: {} for key in ranked[:STACKED]}
    if len(ranked) > STACKED:
        rows[...] = {}
    for row in in_months(question, totals):
        rows[row.key[0] if row.key[0] in kept else ...].setdefault(row.key[-1], []).append(row)
    return {key: {period: Sums.of(found) for period, found in periods.items()} for key, periods in rows.items()}


def in_months(question: Question, totals: Sequence[Total]) -> Sequence[Total]:
    """The totals with the first days of months in the place of days, where that was asked for."""
    if question.every != "month" or not question.narrow:
        return totals
    return [replace(row, key=(*row.key[:-1], row.key[-1].replace(day=1))) for row in totals]


def in_all(found: Sequence[Sums]) -> Sums:
    """One sum of sums."""
    names = ("requests", "failed", "prompt_tokens", "completion_tokens", "unpriced", "cost")
    return Sums(*(sum(getattr(each, name) for each in found) for name in names))
