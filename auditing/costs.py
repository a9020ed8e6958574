"""What facts of elsewhere cost: asked for by the batch, told by the piece."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from auditing.columns import KINDS
from auditing.pricer import FREE, UNPRICED, Price, Subject, prepare, price, pricer
from auditing.validation import Facts

_PRICED = tuple(name for name in KINDS if name not in Price._fields)
_Row = namedtuple("_Row", _PRICED)  # type: ignore[misc]
_STATUS = _PRICED.index("status")


def prices(facts: Facts) -> Callable[[int, int], list[Price]]:
    """What the facts from one place to another cost: as their source says it, else as the pricer does. A failed call costs
    nothing then, as at the gate: a source that bills it says so."""
    known = _named(facts)
    if pricer() is not None:
        if answer := prepare(_subjects(facts)):
            return lambda start, end: _asked(facts, known, start, end, answer)
        known = _asked(facts, known, 0, len(facts), price)
    return lambda start, end: known[start:end]


def _named(facts: Facts) -> list[Price]:
    known = [UNPRICED] * len(facts)
    if facts.columns.keys() & Price._fields:
        costs = facts.column("cost")
        statuses = ["unpriced" if cost is None else "priced" for cost in costs]
        known = list(map(Price, costs, statuses, facts.column("price_id"), facts.column("cost_breakdown")))
    return known


def _subjects(facts: Facts) -> list[Subject]:
    """Each once. By the number of the tenant's id, which hashes slowly itself."""
    columns = [facts.column(name) for name in Subject._fields]
    seen = {(tenant.int, *names): tenant for tenant, *names in zip(*columns, strict=True)}
    return [Subject(tenant, *names) for (_, *names), tenant in seen.items()]


def _asked(
    facts: Facts, known: list[Price], start: int, end: int, answer: Callable[[Sequence[Any]], list[Price]]
) -> list[Price]:
    """The prices from start to end, those that are not known answered."""
    found, columns = known[start:end], [facts.column(name)[start:end] for name in _PRICED]
    failed = [status == "failed" for status in columns[_STATUS]]
    if any(failed):
        found = [FREE if one.cost is None and free else one for one, free in zip(found, failed, strict=True)]
    asked = [one.cost is None for one in found]
    answers = iter(answer(list(map(_Row._make, compress(zip(*columns, strict=True), asked)))))
    for at in compress(range(len(found)), asked):
        told = next(answers)
        if told is not UNPRICED:
            found[at] = told
    return found
