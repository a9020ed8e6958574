"""Usage in the columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification, which cost tools read.

https://focus.finops.org/focus-specification/v1-2/ . One row is what one key of an app used of one model on one local day. A cost
may not be absent there: what has no price adds nothing, and x_UnpricedRequests says how many requests that are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from auditing.directory import directory
from auditing.metrics import Total
from controlplane.core.ids import iso
from controlplane.core.partitions import next_month

BY = ("day", "app", "branch", "api_key", "provider", "model")
COLUMNS = (
    "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd",
    "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingCategory", "PricingQuantity", "PricingUnit",
    "ConsumedQuantity", "ConsumedUnit", "ProviderName", "PublisherName", "InvoiceIssuerName", "ServiceName",
    "ServiceCategory", "ServiceSubcategory", "SkuId", "ResourceId", "ResourceName", "ResourceType", "SubAccountId",
    "SubAccountName", "Tags", "x_Requests", "x_UnpricedRequests", "x_PromptTokens", "x_CompletionTokens",
)  # fmt: skip


def rows(tenant_id: UUID, start: datetime, end: datetime, found: Iterable[Total]) -> Iterator[tuple[Any, ...]]:
    """Rows in the order of COLUMNS, of totals by BY. start, end: the window that the totals are of; no period reaches beyond."""
    totals = list(found)
    facts = directory().tenants([tenant_id]).get(tenant_id)
    name, zone = (facts.name, ZoneInfo(facts.time_zone)) if facts else ("", ZoneInfo("UTC"))
    apps, keys = _names("app", totals, 1), _names("api_key", totals, 3)
    for total in totals:
        day, app, branch, key, provider, model = total.key
        month = day.replace(day=1)
        yield (
            str(tenant_id), name, "USD", _midnight(month, zone), _midnight(next_month(month), zone),
            *_period(day, zone, start, end), "Usage", None, f"{model}: {total.requests} requests", "Usage-Based",
            total.cost, total.cost, total.cost, total.cost, "Standard", total.tokens, "Tokens",
            total.tokens, "Tokens", provider, provider, provider, model,
            "AI and Machine Learning", "Generative AI", model, _text(key), keys.get(key), "API key" if key else None,
            _text(app), apps.get(app), json.dumps({"branch": str(branch)} if branch else {}),
            total.requests, total.unpriced, total.prompt_tokens, total.completion_tokens,
        )  # fmt: skip


def _names(kind: str, totals: Iterable[Total], place: int) -> dict[UUID, str]:
    return directory().names(kind, {total.key[place] for total in totals} - {None})


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _midnight(day: date, zone: ZoneInfo) -> str:
    return iso(datetime.combine(day, time(), zone))


def _period(day: date, zone: ZoneInfo, start: datetime, end: datetime) -> tuple[str, str]:
    """The instants of a local day, cut to the window. What was booked in another zone may lie a day off: then as it is."""
    begins = datetime.combine(day, time(), zone).astimezone(UTC)
    ends = datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
    if max(begins, start) < min(ends, end):
        begins, ends = max(begins, start), min(ends, end)
    return iso(begins), iso(ends)
