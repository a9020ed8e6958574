"""What is odd about the prices and aliases that hold now: findings to look at, none of them certain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from statistics import median
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Q

from auditing.models import InferenceRequest
from catalog.importing.fields import is_token_rate
from catalog.importing.validating import DEAR_TOKEN
from catalog.models import AIModel, ModelAlias, ModelPrice
from catalog.units import TOKENS, number, plain, ten_times_off
from controlplane.core.conf import conf
from controlplane.core.ids import now

SOON = timedelta(days=30)
"""A model that is dropped within this time, and was used within this time, is in use although deprecated."""

OFFERS = 3
"""So many providers have to offer a model for their median to mean something."""

CODES = (
    "ten_times_off", "suspicious_unit", "gap", "ended", "alias_to_unlisted", "alias_to_disabled", "deprecated_in_use",
)  # fmt: skip

_COMPARED = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")


@dataclass(frozen=True, slots=True)
class Finding:
    """code: one of CODES; key: of the model; tenant: slug, "" for the list price; message: what is odd, with the numbers."""

    code: str
    key: str
    tenant: str
    message: str


@dataclass(frozen=True, slots=True)
class Move:
    """A rate that is ten times another, or a tenth, or less. Both are in US dollars per unit."""

    field: str
    was: Decimal
    becomes: Decimal


def tenfold(was: Mapping[str, Any], becomes: Mapping[str, Any]) -> list[Move]:
    """The plain rates of two prices that are ten times as high, or a tenth, or further apart. 0 is compared with nothing."""
    moves = []
    for field, text in becomes.items():
        old, new = number(was.get(field)), number(text)
        if old and new and ten_times_off(old, new):
            moves.append(Move(field, old, new))
    return moves


def check_prices(at: datetime | None = None) -> list[Finding]:
    """All findings at an instant (aware; None: now), by code in the order of CODES, then by key.

    A price is taken for ten times off beside the median of the model at OFFERS providers or more (the last part of the
    key tells that it is the same), a tenant's beside the list price, one that a person entered beside what it replaced.
    """
    instant = at or now()
    prices = _in_force(instant)
    found = [
        *_beside_offers(prices), *_beside_list(prices), *_beside_replaced(prices), *_dear(prices), *_periods(),
        *_aliases(), *_deprecated(instant),
    ]  # fmt: skip
    return sorted(found, key=lambda finding: (CODES.index(finding.code), finding.key, finding.tenant))


def _in_force(instant: datetime) -> list[ModelPrice]:
    rows = ModelPrice.objects.using(conf.DATABASE).in_force(instant).select_related("model", "tenant")
    return list(rows.filter(model__enabled=True, model__unlisted_at=None))


def said(field: str, rate: Decimal) -> str:
    """A rate for people: per million where it is per token."""
    if is_token_rate(field):
        return f"{plain(TOKENS.shown(rate))} USD per million"
    return f"{plain(rate)} USD"


def _finding(code: str, price: ModelPrice, message: str) -> Finding:
    return Finding(code, price.model.key, price.tenant.slug if price.tenant else "", message)


def _off(price: ModelPrice, move: Move, beside: str) -> Finding:
    more = move.becomes > move.was
    times = move.becomes / move.was if more else move.was / move.becomes
    what = (
        f"{move.field} is {said(move.field, move.becomes)}, {times:,.0f} times {'' if more else 'less than '}{beside}"
    )
    return _finding("ten_times_off", price, f"{what}, {said(move.field, move.was)}.")


def _beside_offers(prices: list[ModelPrice]) -> Iterator[Finding]:
    offers: dict[str, list[ModelPrice]] = defaultdict(list)
    for price in prices:
        if price.tenant_id is None and price.model.mode in ("chat", "responses", "completion", "embedding"):
            offers[price.model.key.lower().rpartition("/")[2]].append(price)
    for group in offers.values():
        for field in _COMPARED:
            rates = [rate for price in group if (rate := number(price.rates.get(field)))]
            usual = {field: str(median(rates))} if len(rates) >= OFFERS else {}
            for price in group:
                for move in tenfold(usual, price.rates):
                    yield _off(price, move, f"the median of {len(rates)} offers of this model")


def _beside_list(prices: list[ModelPrice]) -> Iterator[Finding]:
    listed = {price.model_id: price for price in prices if price.tenant_id is None}
    for price in prices:
        if price.tenant_id is not None and price.model_id in listed:
            for move in tenfold(listed[price.model_id].rates, price.rates):
                yield _off(price, move, "the list price")


def _beside_replaced(prices: list[ModelPrice]) -> Iterator[Finding]:
    typed = {
        (price.model_id, price.tenant_id, price.effective_from): price for price in prices if price.source == "manual"
    }
    if not typed:
        return
    before = ModelPrice.objects.using(conf.DATABASE).filter(
        model__in={model for model, _, _ in typed}, effective_to__in={start for _, _, start in typed}
    )
    for old in before.exclude(effective_to=F("effective_from")):
        if price := typed.get((old.model_id, old.tenant_id, old.effective_to)):
            for move in tenfold(old.rates, price.rates):
                yield _off(price, move, "the price it replaced")


def _dear(prices: list[ModelPrice]) -> Iterator[Finding]:
    for price in prices:
        for field, text in price.rates.items():
            rate = number(text)
            if rate is not None and rate > DEAR_TOKEN and is_token_rate(field):
                message = f"{field} is {said(field, rate)}: was it typed per million, as a price per token?"
                yield _finding("suspicious_unit", price, message)


def _periods() -> Iterator[Finding]:
    """Times in which a model has no list price, after it had one: gaps, and prices that end with none after them."""
    rows = ModelPrice.objects.using(conf.DATABASE).listed().exclude(effective_to=F("effective_from"))
    rows = rows.filter(model__enabled=True, model__unlisted_at=None).order_by("model_id", "effective_from")
    spans = rows.values_list("model_id", "model__key", "effective_from", "effective_to")
    for _, group in groupby(spans, key=lambda span: span[0]):
        prices = list(group)
        for (_, key, _, end), (_, _, start, _) in pairwise(prices):
            if end < start:
                yield Finding(
                    "gap", key, "", f"There is no price from {end:%Y-%m-%d %H:%M}Z to {start:%Y-%m-%d %H:%M}Z."
                )
        _, key, _, end = prices[-1]
        if end is not None:
            yield Finding("ended", key, "", f"Its last price ends at {end:%Y-%m-%d %H:%M}Z, and none follows.")


def _aliases() -> Iterator[Finding]:
    rows = ModelAlias.objects.using(conf.DATABASE).filter(enabled=True).select_related("model", "tenant")
    for alias in rows.filter(Q(model__enabled=False) | Q(model__unlisted_at__isnull=False)):
        state = "disabled" if not alias.model.enabled else "unlisted"
        message = f"The alias {alias.alias} means this model, which is {state}."
        yield Finding(f"alias_to_{state}", alias.model.key, alias.tenant.slug if alias.tenant else "", message)


def _deprecated(instant: datetime) -> Iterator[Finding]:
    using = conf.DATABASE
    models = AIModel.objects.using(using).filter(enabled=True, deprecation_date__lte=(instant + SOON).date())
    going = {model.canonical_id: model for model in models.select_related("provider")}
    used = InferenceRequest.objects.using(using).between(instant - SOON, instant).filter(model__in=going, adjusts=None)
    calls = dict(used.order_by().values("model").annotate(n=Count("pk")).values_list("model", "n"))
    aliased: dict[UUID, str] = dict(
        ModelAlias.objects.using(using).filter(enabled=True, model__in=[model.pk for model in going.values()])
        .values_list("model_id", "alias")
    )  # fmt: skip
    for name, model in going.items():
        uses = [f"{calls[name]:,} calls in {SOON.days} days"] if name in calls else []
        uses += [f"the alias {aliased[model.pk]}"] if model.pk in aliased else []
        if uses:
            message = f"Its provider drops it on {model.deprecation_date}; it is used: {', '.join(uses)}."
            yield Finding("deprecated_in_use", model.key, "", message)
