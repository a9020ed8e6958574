"""A model and its prices as the hot path holds them: read once, shared by many calls, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Self
from uuid import UUID

from catalog.errors import OtherTenant
from tenants.models import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def in_force(self, instant: datetime) -> bool:
        """Whether it holds at the instant (aware)."""
        return self.effective_from <= instant and (self.effective_to is None or instant < self.effective_to)

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Self:
        end = row["effective_to"]
        return cls(
            id=UUID(row["id"]),
            tenant_id=row["tenant_id"] and UUID(row["tenant_id"]),
            effective_from=datetime.fromisoformat(row["effective_from"]),
            effective_to=end and datetime.fromisoformat(end),
            rates=MappingProxyType(row["rates"]),
            discount_percent=Decimal(row["discount_percent"]),
            margin_percent=Decimal(row["margin_percent"]),
            margin_fixed=Decimal(row["margin_fixed"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class ModelRecord:
    """A model as the hot path needs it, with all its prices, past and to come, as one tenant sees them.

    tenant_id: whose; None = nobody's, list prices alone. provider: slug. family: whose pricing rules hold. Limits: None =
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

    @classmethod
    def read(
        cls, model: str, prices: str | None, *, slug: str, family: str, enabled: bool, tenant_id: UUID | None
    ) -> Self:
        """From the row of the model and its prices as JSON. slug, family: its provider's; enabled: both are."""
        row = json.loads(model)
        segments = [PriceSegment.read(price) for price in json.loads(prices or "[]", parse_float=Decimal)]
        segments.sort(key=lambda price: price.effective_from, reverse=True)
        segments.sort(key=lambda price: price.tenant_id is None)
        stated = {**row["flags"], **{name: row[name] for name in row if name.startswith("supports_")}}
        flags = {name.removeprefix("supports_"): value for name, value in stated.items() if isinstance(value, bool)}
        return cls(
            id=UUID(row["id"]),
            provider=slug,
            family=family,
            enabled=enabled,
            flags=MappingProxyType(flags),
            tenant_id=tenant_id,
            prices=tuple(segments),
            **{name: row[name] for name in _PLAIN},
        )


_PLAIN = (
    "key", "name", "source_provider", "mode", "max_input_tokens", "max_output_tokens", "max_tokens",
)  # fmt: skip
