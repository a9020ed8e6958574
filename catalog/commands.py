"""What the commands of the catalog share: the tenant that may be named, and models and prices as people read them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from catalog.models import CAPABILITIES, AIModel, ModelAlias, ModelPrice
from catalog.units import TOKENS, leaves, number, plain, unit_of
from controlplane.core.commands import shown
from tenants.commands import tenant_by_slug
from tenants.models import Tenant


def add_tenant(parser: ArgumentParser, help: str) -> None:
    parser.add_argument("--tenant", metavar="SLUG", help=help)


def tenant_or_none(slug: str | None) -> Tenant | None:
    """The tenant of a slug, if one was given. Raises TenantsError: not_found, not_active."""
    return None if slug is None else tenant_by_slug(slug)


def prices_of(models: Sequence[AIModel], tenant: Tenant | None, at: datetime | None = None) -> dict[UUID, ModelPrice]:
    """The price in force of each model that has one: the tenant's own, else the list price. at: aware; None: now."""
    prices = ModelPrice.objects.in_force(at).filter(model__in=models)
    prices = prices.listed() if tenant is None else prices.for_tenant(tenant)
    return {price.model_id: price for price in sorted(prices, key=lambda price: price.tenant_id is not None)}


def model_row(model: AIModel, price: ModelPrice | None) -> dict[str, Any]:
    """A model in a list. Needs `provider`."""
    return {
        "key": model.key,
        "id": model.canonical_id,
        "mode": model.mode,
        "context": model.max_input_tokens,
        "input_per_million": price and per_million(price.input_rate),
        "output_per_million": price and per_million(price.output_rate),
        "status": model.status if model.provider.enabled else "disabled",
    }


def model_sheet(model: AIModel, price: ModelPrice | None, tenant: Tenant | None) -> dict[str, Any]:
    """All that is known of a model, and its price. Needs `provider`. Of aliases those that the tenant may use."""
    aliases = ModelAlias.objects.filter(model=model, enabled=True)
    aliases = aliases.filter(tenant=None) if tenant is None else aliases.for_tenant(tenant)
    stated = {name: getattr(model, f"supports_{name}") for name in CAPABILITIES}
    return {
        **model_row(model, price),
        "model_id": model.pk,
        "name": model.display_name,
        "provider": model.provider.slug,
        "source_provider": model.source_provider,
        "max_output_tokens": model.max_output_tokens,
        "deprecation_date": model.deprecation_date,
        "supports": sorted(name for name, value in stated.items() if value),
        "aliases": sorted(aliases.values_list("alias", flat=True)),
        "price": price and price_sheet(price),
    }


def price_sheet(price: ModelPrice) -> dict[str, Any]:
    """A price: when and for whom it holds, its rates as stored, and those per token as people read them."""
    return {
        "id": price.pk,
        "tenant_id": price.tenant_id,
        "effective_from": price.effective_from,
        "effective_to": price.effective_to,
        "source": price.source,
        "discount_percent": price.discount_percent,
        "margin_percent": price.margin_percent,
        "margin_fixed": price.margin_fixed,
        "rates": price.rates,
        "per_million": {
            path: per_million(number(value)) for path, value in leaves(price.rates) if unit_of(path) is TOKENS
        },
    }


def per_million(rate: Decimal | None) -> str | None:
    """A rate per token as people read it, every digit: US dollars per million tokens."""
    return None if rate is None else plain(TOKENS.shown(rate))


def rate_lines(rates: Mapping[str, Any], mode: str) -> list[tuple[str, str, str]]:
    """Each value of the rates: its path, itself as stored, and as people count it, `2.5 per 1M tokens`."""
    lines = []
    for path, value in leaves(rates):
        rate, unit = number(value), unit_of(path, mode)
        counted = "-" if rate is None or unit is None else f"{plain(unit.shown(rate))} per {unit.per}"
        lines.append((path, shown(value), counted))
    return lines
