"""What auditing asks of the catalog: what a call costs whose writer does not say it. The floor that knows registers itself in
its `ready()`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
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
    """What a call costs. One that also has `many(rows)`, which answers for each row in order, is given batches whole."""

    def __call__(self, row: Any) -> object:
        """The cost of a call: an object with `total`, `status`, `price_id` and `breakdown`; None or a total of None:
        unpriced. row: the columns of a request that say what was called when and used, by attribute; it is not stored yet.
        """


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
    many = (
        getattr(asked, "many", None) if len(rows) > 1 else None
    )  # one is asked for in a call's last moment, and quickly
    answers: Iterable[object]
    try:
        answers = many(rows) if many else [asked(row) for row in rows]
        return [_kept(row, answer) for row, answer in zip(rows, answers, strict=True)]
    except ControlPlaneError as error:
        logger.error("%d calls are unpriced: the pricer failed: %s", len(rows), error)
        return [UNPRICED] * len(rows)


def read_price(cost: object) -> Price:
    """The columns of a cost given as an object, None = unpriced. Raises InvalidRow for one that cannot be kept."""
    total = money("cost", getattr(cost, "total", None))
    return Price(
        total,
        "unpriced" if total is None else str(getattr(cost, "status", "priced")),
        getattr(cost, "price_id", None),
        small_object("cost_breakdown", getattr(cost, "breakdown", None), 512),
    )


def _kept(row: Any, answer: object) -> Price:
    if answer is None:
        return UNPRICED
    try:
        return read_price(answer)
    except InvalidRow as error:
        logger.error("a call of %s is unpriced: %s", row.model, error)
        return UNPRICED
