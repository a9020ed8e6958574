"""What is priced by query or page: reranking, web search as a service, reading of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from catalog.pricing.bill import Bill
from catalog.pricing.prices import I, Prices, Rate, read_row
from catalog.pricing.sheets import bounds
from catalog.pricing.usage import Usage

_PER_QUERY = "input_cost_per_query"
_BY_TOKEN = frozenset({"jina_ai", "voyage"})


@dataclass(frozen=True, slots=True)
class SearchRow:
    """What a query costs that asks for so many results, both ends in."""

    least: Decimal
    most: Decimal
    rate: Rate | None


def read_search_rows(table: Any) -> tuple[SearchRow, ...]:
    """The rows of a tier table that go by the number of results. Raises BadRate."""
    rows = []
    for place, row in enumerate(table if isinstance(table, list | tuple) else ()):
        where = f"tiered_pricing[{place}]"
        if isinstance(row, Mapping) and row.get("max_results_range") is not None:
            least, most = bounds(f"{where}.max_results_range", row["max_results_range"])
            rows.append(SearchRow(least, most, read_row(row, where).get(_PER_QUERY)))
    return tuple(rows)


def charge_rerank(bill: Bill, prices: Prices, provider: str, usage: Usage) -> bool:
    """Add the line of a reranking: by query, or by token where there is no such rate; False: neither is known."""
    by_query, by_token = prices.get(_PER_QUERY), prices.get(I)
    if by_query and provider not in _BY_TOKEN:
        return _charge(bill, "queries", usage.queries, "query", by_query)
    return _charge(bill, "text", usage.prompt_tokens, "token", by_token)


def charge_search(bill: Bill, prices: Prices, rows: Sequence[SearchRow], usage: Usage) -> bool:
    """Add the line of a search, which is one query if nobody counted; False: it has no rate."""
    rate = prices.get(_PER_QUERY)
    if rows:
        fits = (row.rate for row in rows if row.least <= usage.max_results <= row.most)
        rate = next(fits, rows[-1].rate)
    return _charge(bill, "queries", 1 if usage.queries is None else usage.queries, "query", rate)


def charge_ocr(bill: Bill, prices: Prices, usage: Usage) -> bool:
    """Add the lines of a document: by credit if both are known, else by page; False: a rate or the count is missing."""

    def rate(name: str) -> Rate | None:
        return (prices.get(f"{name}_batches") if usage.batch else None) or prices.get(name)

    by_credit, by_page = rate("ocr_cost_per_credit"), rate("ocr_cost_per_page")
    by_annotation = rate("annotation_cost_per_page") or by_page
    if by_credit and usage.credits is not None:
        return _charge(bill, "credits", usage.credits, "credit", by_credit)
    annotated = bool(usage.annotation_pages and by_annotation)
    if not annotated and (usage.pages is None or not by_page):
        return False
    if usage.pages:
        bill.charge(bill.input, "pages", usage.pages, "page", by_page)
    if usage.annotation_pages:
        bill.charge(bill.input, "annotation_pages", usage.annotation_pages, "page", by_annotation)
    return True


def _charge(bill: Bill, kind: str, quantity: int | Decimal | None, unit: str, rate: Rate | None) -> bool:
    if quantity is None or rate is None:
        return False
    if quantity:
        bill.charge(bill.input, kind, quantity, unit, rate)
    return True
