"""What the tools of a provider cost that a call used: searches, maps, code, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from catalog.errors import BadRate
from catalog.pricing.bill import Bill
from catalog.pricing.prices import Prices, Rate, number
from catalog.pricing.usage import Usage

_TABLE = "search_context_cost_per_query"
_SIZES = ("low", "medium", "high")
_FILE_SEARCH = Rate("", Decimal("0.0025"))
_BROWSER_OPEN = Rate("", Decimal("0.001"))
_GOOGLE_SEARCH = Rate("", Decimal("0.035"))
_GOOGLE_MAPS_QUERY, _GOOGLE_MAPS_PROMPT = Rate("", Decimal("0.014")), Rate("", Decimal("0.025"))
_XAI_SEARCH = Rate("", Decimal("0.005"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRates:
    """What tools cost. search: by size of the context; search_once, maps_once: per call, however many there were.

    in_tokens: searches are on the bill of the tokens. provider_tells: they are in what the provider says it charged.
    """

    search: Mapping[str, Rate | None]
    search_once: bool = False
    maps: Rate | None = None
    maps_once: bool = False
    browser_open: Rate | None = None
    code_session: Rate | None = None
    in_tokens: bool = False
    provider_tells: bool = False


def read_search(table: Any) -> dict[str, Rate]:
    """What a web search costs by size of its context, low, medium, high; without those that are missing. Raises BadRate."""
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise BadRate(_TABLE, table)
    names = {size: f"search_context_size_{size}" for size in _SIZES}
    return {
        size: Rate(f"{_TABLE}.{name}", number(f"{_TABLE}.{name}", table[name]))
        for size, name in names.items()
        if table.get(name) is not None
    }


def read_tools(
    prices: Prices, search: Mapping[str, Rate], provider: str, family: str, key: str, unit: object
) -> ToolRates:
    """The rates of tools by the rules of a provider. unit: web_search_billing_unit of the price; key: of the model."""
    medium, code = search.get("medium"), prices.get("code_interpreter_cost_per_session")
    google, claude = family in ("gemini", "vertex_ai"), family == "vertex_ai" and "claude" in key.lower()
    once = google and unit != "per_query"
    maps = prices.get("google_maps_grounding_cost_per_query") or (_GOOGLE_MAPS_PROMPT if once else _GOOGLE_MAPS_QUERY)
    by_size: dict[str, Rate | None] = {size: search.get(size) for size in _SIZES}
    if google and not claude:
        by_size = dict.fromkeys(_SIZES, medium or _GOOGLE_SEARCH)
    elif claude or family in ("anthropic", "azure_ai") or provider == "groq":
        by_size = dict.fromkeys(_SIZES, medium)
    elif family == "xai":
        rates = (medium, search.get("low"), search.get("high"))
        by_size = dict.fromkeys(_SIZES, next((rate for rate in rates if rate and rate.value), _XAI_SEARCH))
    return ToolRates(
        search=by_size,
        search_once=once and not claude,
        maps=maps if google else None,
        maps_once=once,
        browser_open=_BROWSER_OPEN if provider == "groq" else None,
        code_session=code,
        in_tokens=family == "perplexity",
        provider_tells=family == "xai",
    )


def charge_tools(bill: Bill, rates: ToolRates, usage: Usage) -> None:
    """Add the lines of the tools that a call used."""
    side = bill.tools
    if usage.web_searches and not rates.in_tokens and not (rates.provider_tells and usage.provider_cost is not None):
        rate = rates.search.get(usage.search_context.lower() or "medium", rates.search["medium"])
        bill.charge(side, "web_searches", 1 if rates.search_once else usage.web_searches, "query", rate)
    if usage.maps_requests:
        bill.charge(side, "maps_requests", 1 if rates.maps_once else usage.maps_requests, "query", rates.maps)
    if usage.browser_opens:
        bill.charge(side, "browser_opens", usage.browser_opens, "page", rates.browser_open)
    if usage.code_sessions:
        bill.charge(side, "code_sessions", usage.code_sessions, "session", rates.code_session)
    if usage.file_searches:
        bill.charge(side, "file_searches", usage.file_searches, "query", _FILE_SEARCH)
