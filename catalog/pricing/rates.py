"""The rates of one price, read and worked out once, so that a call is priced by looking them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from typing import Any, Protocol, Self
from uuid import UUID

from catalog.pricing.batch import read_batch
from catalog.pricing.costs import EXACT
from catalog.pricing.families import read_own
from catalog.pricing.markup import Markup, Uplifts, read_markup, read_uplifts
from catalog.pricing.offpeak import OffPeak, read_off_peak
from catalog.pricing.prices import CR, CW, CW_1H, CW_12H, TIERS, ZERO, I, O, Prices, Rate, half, number, read_prices
from catalog.pricing.sheets import read_plan, read_rows
from catalog.pricing.tokens import TokenRates
from catalog.pricing.tools import ToolRates, read_search, read_tools
from catalog.pricing.units import SearchRow, read_search_rows

_FAMILIES = frozenset(
    {
        "openai", "anthropic", "gemini", "azure", "azure_ai", "deepseek", "tencent", "xai", "perplexity", "lemonade",
        "databricks", "bedrock", "dashscope", "vertex_ai", "fireworks_ai",
    }
)  # fmt: skip
_FAMILY_OF = {"bedrock_converse": "bedrock", "qwencloud": "dashscope", "qwen_ai_platform": "dashscope"}
_KIND_OF = {
    "image_generation": "image",
    "image_edit": "image",
    "video_generation": "video",
    "audio_speech": "speech",
    "audio_transcription": "transcription",
    "rerank": "rerank",
    "search": "search",
    "ocr": "ocr",
}
_WALL_CLOCK_MODES = frozenset({"", "chat", "completion", "responses", "embedding", "audio_transcription"})
_DECISIONS = "_decisions"
_LONG_WRITES = (f"{CW_1H}_above_", f"{CW_12H}_above_")
"""A service tier has none of these rates, unless it states them: even one without any rate of its own differs from none."""


class ProviderLike(Protocol):
    """What a price needs of a provider. family: whose rules it follows; "": by its slug."""

    @property
    def slug(self) -> str: ...
    @property
    def family(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One price, ready to price calls: `from_entry`, `flat`. kind: of a call that says none; all else is worked out."""

    provider: str
    family: str
    kind: str = "tokens"
    price_id: UUID | None = None
    is_flat: bool = False
    prices: Prices = field(repr=False)
    tokens: TokenRates = field(repr=False)
    decisions: TokenRates = field(repr=False)
    tools: ToolRates = field(repr=False)
    uplifts: Uplifts = field(repr=False)
    search_rows: tuple[SearchRow, ...] = field(repr=False)
    markup: Markup | None = field(repr=False)

    @classmethod
    def from_entry(
        cls,
        entry: Mapping[str, Any],
        provider: str | ProviderLike,
        *,
        source_provider: str | None = None,
        mode: str | None = None,
        key: str = "",
        discount_percent: Decimal = ZERO,
        margin_percent: Decimal = ZERO,
        margin_fixed: Decimal = ZERO,
        price_id: UUID | None = None,
    ) -> Self:
        """The rates of an entry: the price fields of the source, in US dollars per unit, their numbers as text.

        entry: `ModelPrice.rates`, or an entry of a price file read without floats; ints and Decimals are taken too.
        provider: slug, or provider. source_provider, mode: of the model; None or "": `litellm_provider` (else the slug) and
        `mode` of the entry. key: of the model, where rules look at its name. discount_percent, margin_percent: in percent;
        margin_fixed: US dollars per call. Raises BadRate for what is no rate, a float among it.
        """
        slug, family = (provider, "") if isinstance(provider, str) else (provider.slug, provider.family)
        family = family_of(family or slug)
        source = source_provider or entry.get("litellm_provider") or slug
        with localcontext(EXACT):
            prices, search = read_prices(entry), read_search(entry.get("search_context_cost_per_query"))
            read = _Reader(entry, family, source, mode or entry.get("mode") or "", search)
            decisions = {
                name.removesuffix(_DECISIONS): rate for name, rate in prices.items() if name.endswith(_DECISIONS)
            }
            tokens = read.tokens(prices)
            return cls(
                provider=slug,
                family=family,
                kind=_KIND_OF.get(read.mode, "tokens"),
                price_id=price_id,
                prices=prices,
                tokens=tokens,
                decisions=read.tokens({**prices, **decisions}) if decisions else tokens,
                tools=read_tools(prices, search, slug, family, key, entry.get("web_search_billing_unit")),
                uplifts=read_uplifts(prices, entry.get("provider_specific_entry")),
                search_rows=read_search_rows(entry.get("tiered_pricing")),
                markup=read_markup(discount_percent, margin_percent, margin_fixed),
            )

    @classmethod
    def flat(
        cls,
        input: Decimal | str,
        output: Decimal | str,
        cache_read: Decimal | str | None = None,
        cache_write: Decimal | str | None = None,
        *,
        price_id: UUID | None = None,
    ) -> Self:
        """Rates per token and nothing else: no tiers, tools or surcharges; cached and written tokens default to input."""
        fields = {I: number(I, input), O: number(O, output)}
        fields |= {name: number(name, rate) for name, rate in ((CR, cache_read), (CW, cache_write)) if rate is not None}
        return replace(cls.from_entry(fields, "", price_id=price_id), is_flat=True)


def family_of(slug: str) -> str:
    """Whose pricing rules a provider follows, by its slug or the source's word for it; most: `generic`."""
    folded = next((known for known in ("vertex_ai", "fireworks_ai") if slug.startswith(known)), slug)
    known = _FAMILY_OF.get(folded, folded)
    return known if known in _FAMILIES else "generic"


@dataclass(frozen=True, slots=True)
class _Reader:
    """Works the token rates of an entry out."""

    entry: Mapping[str, Any]
    family: str
    source_provider: str
    mode: str
    search: Mapping[str, Rate]

    def tokens(self, prices: Prices) -> TokenRates:
        rows, off_peak = read_rows(self.entry.get("tiered_pricing")), read_off_peak(self.entry.get("off_peak_pricing"))
        batch = read_batch(prices, inclusive=self.inclusive)
        if self.source_provider == "fireworks_ai" and CR not in prices and I in prices:
            prices, off_peak = _with_half_reads(prices, off_peak)
        return TokenRates(
            prices=prices,
            plans={
                tier: read_plan(prices, tier, rows, off_peak, inclusive=self.inclusive)
                for tier in ("", *TIERS)
                if not tier or any(name.endswith(f"_{tier}") or name.startswith(_LONG_WRITES) for name in prices)
            },
            off_peak=off_peak,
            batch=batch,
            search=self.search,
            own=read_own(self.family, prices, rows, off_peak),
            wall_clock=self.wall_clock(prices),
        )

    @property
    def inclusive(self) -> bool:
        return self.family == "xai"

    def wall_clock(self, prices: Prices) -> Rate | None:
        """What a second of a call costs, where neither tokens nor a tier table are priced."""
        by_token = any(name in prices and prices[name].value for name in (I, O))
        if by_token or self.entry.get("tiered_pricing") is not None or self.mode not in _WALL_CLOCK_MODES:
            return None
        seconds = ("cost_per_second", "input_cost_per_second", "output_cost_per_second")
        return next((prices[name] for name in seconds if name in prices), None)


def _with_half_reads(prices: Prices, off_peak: OffPeak | None) -> tuple[Prices, OffPeak | None]:
    """Fireworks sells cached tokens at half of the input rate, where it states none."""
    reads = half(prices[I])
    if off_peak and CR not in off_peak.rates:
        rates = off_peak.rates
        off_peak = replace(off_peak, rates={**rates, CR: half(rates[I]) if I in rates else reads})
    return {**prices, CR: reads}, off_peak
