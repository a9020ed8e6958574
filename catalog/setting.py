"""A price set by a person: some rates anew, the others as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from catalog.checking import Move, said, tenfold
from catalog.errors import PriceRefused
from catalog.importing.fields import is_priced
from catalog.importing.mapping import plain
from catalog.importing.reading import Number
from catalog.importing.validating import rate_faults, unfit
from catalog.models import AIModel, ModelPrice
from catalog.models.fields import TERMS
from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants.models import Tenant


def set_price(
    model: AIModel,
    rates: Mapping[str, Decimal | None],
    *,
    tenant: Tenant | None = None,
    effective_from: datetime | None = None,
    reason: str = "",
    fresh: bool = False,
    confirmed: bool = False,
    **terms: Decimal,
) -> ModelPrice:
    """End the price in force at `effective_from` (aware; None: now) and let one with these rates follow.

    rates: US dollars per unit by field; None takes one away. Those not named stay as they are in force for the tenant,
    as do discount_percent, margin_percent and margin_fixed (terms); fresh: none stays. confirmed: also if a rate is ten
    times, or a tenth, of the one it replaces or of the list price. Raises PriceRefused, and ValidationError for terms.
    """
    if why := unfit(effective_from):
        raise PriceRefused("bad_time", why)
    if effective_from and effective_from < now() and not reason.strip():
        raise PriceRefused("missing_reason")
    for field, rate in rates.items():
        _check(field, rate)
    _check_terms(terms)
    with transaction.atomic(using=conf.DATABASE):
        ModelPrice.objects.hold(model)
        start = effective_from or now()
        old, listed = model.price_at(start, tenant), model.price_at(start)
        kept: dict[str, Any] = {} if fresh or old is None else dict(old.rates)
        new = kept | {field: None if rate is None else plain(rate) for field, rate in rates.items()}
        new = {field: rate for field, rate in new.items() if rate is not None}
        if not new:
            raise PriceRefused("no_rate")
        moves = [move for price in (old, listed) if price for move in tenfold(price.rates, new)]
        if moves and not confirmed:
            raise PriceRefused("ten_times_off", _doubt(moves[0]))
        standing = {} if fresh or old is None else {name: getattr(old, name) for name in TERMS}
        price: ModelPrice = ModelPrice.objects.supersede(
            model,
            new,
            tenant=tenant,
            effective_from=start,
            reason=reason.strip() or "Set by hand",
            **standing | terms,
        )
    return price


def end_price(
    model: AIModel, *, tenant: Tenant | None = None, at: datetime | None = None, void: bool = False, reason: str
) -> ModelPrice:
    """End the price that holds at `at` (aware; None: now), of everybody or of the tenant, there; void: as if it had never been.

    Returns it. Raises PriceRefused: no_price, bad_time, bad_end, missing_reason, in_scope; PriceOverlap.
    """
    if why := unfit(at):
        raise PriceRefused("bad_time", why)
    if not reason.strip():
        raise PriceRefused("missing_reason", "Ending a price needs a reason. Say why.")
    with transaction.atomic(using=conf.DATABASE):
        ModelPrice.objects.hold(model)
        instant = at or now()  # after those who held it
        price: ModelPrice | None = model.prices.in_force(instant).filter(tenant=tenant).first()
        if price is None:
            raise PriceRefused("no_price")
        price.end(price.effective_from if void else instant, reason=reason.strip())
    return price


def _check(field: str, rate: Decimal | None) -> None:
    if not is_priced(field):
        raise PriceRefused("unknown_rate", f"{field[:100]}: {PriceRefused.messages['unknown_rate']}")
    for fault in rate_faults(field, None if rate is None else Number(rate)):
        if fault.blocks:
            raise PriceRefused(fault.code, f"{field} is {fault.value}: {fault.message}")


def _check_terms(terms: Mapping[str, Decimal]) -> None:
    """Refuse what the database would round, or would refuse with a sentence of its own. Raises ValidationError."""
    price = ModelPrice(**terms)
    others = {field.name for field in ModelPrice._meta.fields} - set(TERMS)
    price.clean_fields(exclude=others)
    price.validate_constraints(exclude=others)


def _doubt(move: Move) -> str:
    return (
        f"{move.field} would be {said(move.field, move.becomes)} instead of {said(move.field, move.was)}. "
        "Look whether the unit is right, then confirm it."
    )
