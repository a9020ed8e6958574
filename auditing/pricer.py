"""What auditing asks of the catalog: what a call costs whose writer does not say it. The floor that knows registers itself in
its `ready()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from django.utils.module_loading import import_string

from auditing.errors import InvalidRow
from auditing.values import money, small_object
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError

logger = logging.getLogger(__name__)


class Pricer(Protocol):
    """What a call costs. One that also has `many(rows)`, which answers for each row in order, is given batches whole.

    One that has `ready(subjects)` too is asked to look up what it needs for calls of these (each a Subject, once), and what
    it returns prices any rows of theirs, in order, without asking the database, which is being written to meanwhile. It may
    answer with a Price, which is kept as it is.
    """

    def __call__(self, row: Any) -> object:
        """The cost of a call: an object with `total`, `status`, `price_id` and `breakdown`; None or a total of None:
        unpriced. row: the columns of a request that say what was called when and used, by attribute; it is not stored yet.
        """


class Subject(NamedTuple):
    """What a call was of. requested_model: None = the same."""

    tenant_id: UUID
    provider: str
    model: str
    requested_model: str | None


class Price(NamedTuple):
    """What a row of the log says of its cost, in the order of the columns. cost: US dollars, to 12 places."""

    cost: Decimal | None
    pricing_status: str
    price_id: UUID | None
    cost_breakdown: dict[str, Any] | None


UNPRICED = Price(None, "unpriced", None, None)
FREE = Price(Decimal(0), "priced", None, None)

_registered: Pricer | None = None


def register(pricer: Pricer) -> None:
    global _registered
    _registered = pricer


def pricer() -> Pricer | None:
    """The pricer in force: `CONTROLPLANE["AUDIT_PRICER"]`, else the registered one; None: nothing is priced."""
    given = conf.AUDIT_PRICER
    if given is not None:
        found: Pricer = import_string(given) if isinstance(given, str) else given
        return found
    return _registered


def price(rows: Sequence[Any]) -> list[Price]:
    """What the pricer in force says of each row. An answer that cannot be kept is logged, and the row is unpriced: a call is
    never lost for its price, and can be priced later."""
    asked = pricer()
    if asked is None or not rows:
        return [UNPRICED] * len(rows)
    # one is asked for in a call's last moment, and quickly
    many = getattr(asked, "many", None) if len(rows) > 1 else None
    return _answered(rows, many or (lambda rows: map(asked, rows)))


def prepare(subjects: Iterable[Subject]) -> Callable[[Sequence[Any]], list[Price]] | None:
    """As `price` for rows of these subjects, with all looked up; None: the pricer in force has no such way."""
    ready = getattr(pricer(), "ready", None)
    if ready is None:
        return None
    try:
        answer = ready(subjects)
    except ControlPlaneError as error:
        logger.error("calls are unpriced: the pricer failed: %s", error)
        return lambda rows: [UNPRICED] * len(rows)
    return lambda rows: _answered(rows, answer)


def _answered(rows: Sequence[Any], answer: Callable[[Sequence[Any]], Iterable[object]]) -> list[Price]:
    try:
        prices = [_kept(rows, at, found) for at, found in enumerate(answer(rows))]
    except ControlPlaneError as error:
        logger.error("%d calls are unpriced: the pricer failed: %s", len(rows), error)
        return [UNPRICED] * len(rows)
    if len(prices) != len(rows):
        raise ValueError(f"The pricer was asked for {len(rows)} calls and answered for {len(prices)}.")
    return prices


def read_price(cost: object) -> Price:
    """The columns of a cost given as an object, None = unpriced. Raises InvalidRow for one that cannot be kept."""
    total = money("cost", getattr(cost, "total", None))
    return Price(
        total,
        "unpriced" if total is None else str(getattr(cost, "status", "priced")),
        getattr(cost, "price_id", None),
        small_object("cost_breakdown", getattr(cost, "breakdown", None), 512),
    )


def _kept(rows: Sequence[Any], at: int, answer: object) -> Price:
    if type(answer) is Price:
        return answer
    if answer is None:
        return UNPRICED
    try:
        return read_price(answer)
    except InvalidRow as error:
        logger.error("a call of %s is unpriced: %s", rows[at].model, error)
        return UNPRICED
