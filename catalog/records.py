"""A model and its prices as the hot path holds them: read once, shared by many calls, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self
from uuid import UUID

from catalog.errors import OtherTenant
from catalog.pricing import Cost, Rates, Usage, cost
from catalog.pricing.plain import PlainRates, read_plain
from catalog.pricing.rates import family_of
from controlplane.core.ids import now
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Seller:
    """What the rates of a price mean depends on: the provider's slug and family, and the model."""

    slug: str
    family: str
    source_provider: str | None
    mode: str
    key: str


@dataclass(frozen=True, kw_only=True)
class PriceSegment:
    """A price of a model from one instant to another, as `ModelPrice`. tenant_id: None = the list price.

    rates: the source's price fields, numbers as text, in US dollars per unit.
    """

    id: UUID
    tenant_id: UUID | None
    effective_from: datetime
    effective_to: datetime | None
    rates: Mapping[str, Any]
    discount_percent: Decimal
    margin_percent: Decimal
    margin_fixed: Decimal
    seller: Seller

    def in_force(self, instant: datetime) -> bool:
        """Whether it holds at the instant (aware)."""
        return self.effective_from <= instant and (self.effective_to is None or instant < self.effective_to)

    @cached_property
    def compiled(self) -> Rates:
        """The rates as `catalog.pricing.cost` takes them, worked out once."""
        return Rates.from_entry(
            self.rates, self.seller, source_provider=self.seller.source_provider, mode=self.seller.mode, key=self.seller.key,
            discount_percent=self.discount_percent, margin_percent=self.margin_percent, margin_fixed=self.margin_fixed,
            price_id=self.id,
        )  # fmt: skip

    @cached_property
    def plain(self) -> PlainRates | None:
        """The same for calls that used text tokens and nothing else; None: such calls have no short way."""
        return read_plain(self.compiled)

    @classmethod
    def read(cls, row: Mapping[str, Any], seller: Seller) -> Self:
        """From a row of cp_catalog_modelprice as JSON."""
        end, tenant = row["effective_to"], row["tenant_id"]
        return cls(
            id=UUID(row["id"]),
            tenant_id=None if tenant is None else UUID(tenant),
            effective_from=datetime.fromisoformat(row["effective_from"]),
            effective_to=None if end is None else datetime.fromisoformat(end),
            rates=MappingProxyType(row["rates"]),
            discount_percent=Decimal(row["discount_percent"]),
            margin_percent=Decimal(row["margin_percent"]),
            margin_fixed=Decimal(row["margin_fixed"]),
            seller=seller,
        )


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class ModelRecord:
    """A model as the hot path needs it, with all its prices, past and to come, as one tenant sees them.

    tenant_id: whose; None = nobody's, list prices alone. provider: slug. family: whose pricing rules hold;
    most: `generic`. Limits: None =
    not stated. flags: what the source states of its abilities, as `{"vision": True}`; what is absent is not stated.
    prices: the tenant's own before the list's, each from the latest on.
    """

    id: UUID
    key: str
    provider: str
    name: str
    family: str = ""
    source_provider: str = ""
    mode: str = ""
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_tokens: int | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    enabled: bool = True
    tenant_id: UUID | None = None
    prices: tuple[PriceSegment, ...] = field(default=(), repr=False)

    @property
    def canonical_id(self) -> str:
        """`<provider>/<name>`: what policies match on and the log records."""
        return f"{self.provider}/{self.name}"

    def price_at(self, instant: datetime, tenant: Tenant | UUID | None = None) -> PriceSegment | None:
        """The price that holds at the instant (aware): the tenant's own, else the list price, else None.

        tenant: the one that the record was read for, which is also meant if none is given. Raises OtherTenant.
        """
        if tenant is not None and (tenant.pk if isinstance(tenant, Tenant) else tenant) != self.tenant_id:
            raise OtherTenant
        return next((price for price in self.prices if price.in_force(instant)), None)

    def cost(self, usage: Usage, at: datetime | None = None, tenant: Tenant | UUID | None = None) -> Cost:
        """What a call costs by the price at `at`; None: at `usage.at`, else now. Status "unpriced" without a price.

        tenant: as for `price_at`. Raises OtherTenant, UsageError.
        """
        price = self.price_at(at or usage.at or now(), tenant)
        return cost(self._unpriced() if price is None else price.compiled, usage)

    def _unpriced(self) -> Rates:
        return Rates.from_entry({}, self.provider, mode=self.mode, key=self.key)

    @classmethod
    def read(
        cls, model: str, prices: str | None, *, slug: str, family: str, enabled: bool, tenant_id: UUID | None
    ) -> Self:
        """From the row of the model and its prices as JSON. slug, family: its provider's; enabled: both are."""
        row = json.loads(model)
        seller = Seller(slug, family, row["source_provider"] or None, row["mode"], row["key"])
        segments = [PriceSegment.read(price, seller) for price in json.loads(prices or "[]", parse_float=Decimal)]
        segments.sort(key=lambda price: price.effective_from, reverse=True)
        segments.sort(key=lambda price: price.tenant_id is None)
        stated = {**row["flags"], **{name: row[name] for name in row if name.startswith("supports_")}}
        flags = {name.removeprefix("supports_"): value for name, value in stated.items() if isinstance(value, bool)}
        return cls(
            id=UUID(row["id"]),
            provider=slug,
            family=family_of(family or slug),
            enabled=enabled,
            flags=MappingProxyType(flags),
            tenant_id=tenant_id,
            prices=tuple(segments),
            **{name: row[name] for name in _PLAIN},
        )


_PLAIN = (
    "key", "name", "source_provider", "mode", "max_input_tokens", "max_output_tokens", "max_tokens",
)  # fmt: skip
