"""What changes a bill as a whole: surcharges for where it is served, and the discount and margin of the price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.errors import BadRate
from catalog.pricing.bill import Bill, total
from catalog.pricing.costs import Line
from catalog.pricing.prices import Prices, Rate, number
from catalog.pricing.usage import Usage

_RESIDENCY, _ENDPOINT = "regional_processing_uplift_multiplier_", "regional_endpoint_uplift_multiplier"
_PROVIDER = "provider_specific_entry"


@dataclass(frozen=True, slots=True)
class Uplifts:
    """Factors on input and output. residency: by region of data (eu, us); provider: by place of inference, and `fast`."""

    residency: Mapping[str, Rate]
    endpoint: Rate | None
    provider: Mapping[str, Rate]


@dataclass(frozen=True, slots=True)
class Markup:
    """Shares of a bill, as factors: discount below 0, margin from 0; fixed: US dollars per call."""

    discount: Rate | None
    margin: Rate | None
    fixed: Rate | None


def read_uplifts(prices: Prices, provider_entry: Any) -> Uplifts:
    residency = {name.removeprefix(_RESIDENCY): rate for name, rate in prices.items() if name.startswith(_RESIDENCY)}
    return Uplifts(residency, prices.get(_ENDPOINT), dict(_factors(provider_entry)))


def _factors(provider_entry: Any) -> list[tuple[str, Rate]]:
    """The numbers of a provider's own entry; it holds other things too."""
    found = []
    for name, value in provider_entry.items() if isinstance(provider_entry, Mapping) else ():
        field = f"{_PROVIDER}.{name}"
        try:
            found.append((name, Rate(field, number(field, value))))
        except BadRate:
            continue
    return found


def read_markup(discount_percent: object, margin_percent: object, margin_fixed: object) -> Markup | None:
    """The discount and margins of a price row; None: there are none. Raises BadRate for one that is no number from 0."""
    discount = number("discount_percent", discount_percent)
    margin = number("margin_percent", margin_percent)
    fixed = number("margin_fixed", margin_fixed)
    if not (discount or margin or fixed):
        return None
    return Markup(
        Rate("discount_percent", -discount / 100) if discount else None,
        Rate("margin_percent", margin / 100) if margin else None,
        Rate("margin_fixed", fixed) if fixed else None,
    )


def charge_uplifts(bill: Bill, uplifts: Uplifts, family: str, kind: str, usage: Usage) -> None:
    """Add the surcharges of where and how fast a call was served, on all that is on its input and output.

    kind: tokens, batch, image, speech or transcription.
    """
    if usage.data_residency and (family in ("openai", "generic") or kind != "tokens") and kind != "image":
        bill.uplift(uplifts.residency.get(usage.data_residency.lower()))
    if usage.location and usage.location.lower() != "global" and (family == "vertex_ai" or kind == "batch"):
        bill.uplift(uplifts.endpoint)
    if kind == "tokens" and family in ("anthropic", "bedrock"):
        if usage.speed == "fast" and family == "anthropic":
            bill.uplift(uplifts.provider.get("fast"))
        if usage.inference_geo and usage.inference_geo.lower() not in ("global", "not_available"):
            bill.uplift(uplifts.provider.get(usage.inference_geo.lower()))


def charge_markup(bill: Bill, markup: Markup) -> list[Line]:
    """The lines of discount and margin: the margin is on what the discount leaves, the fixed one per call."""
    amount = total(bill.input) + total(bill.output) + total(bill.tools)
    lines: list[Line] = []
    if markup.discount:
        bill.charge(lines, "discount", amount, "USD", markup.discount)
        amount += total(lines)
    if markup.margin:
        bill.charge(lines, "margin", amount, "USD", markup.margin)
    if markup.fixed:
        bill.charge(lines, "margin_fixed", 1, "call", markup.fixed)
    return lines
