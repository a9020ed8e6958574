"""Providers whose tokens are priced by rules of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from catalog.pricing.bill import Bill, total
from catalog.pricing.costs import Line
from catalog.pricing.offpeak import OffPeak
from catalog.pricing.prices import CR, CW, ONE, REASONING, ZERO, I, O, Prices, Rate
from catalog.pricing.sheets import Plan, Row, Sheet, Sheets, explicit_read
from catalog.pricing.tokens import TokenRates, charge_input, lacks_side
from catalog.pricing.usage import Usage

_PLACES = Decimal("1e-30")


class Pricer(Protocol):
    """Adds the lines of a call's tokens; False: the price has nothing for a side that is used."""

    def __call__(self, bill: Bill, tokens: TokenRates, usage: Usage, worst: bool) -> bool: ...


def read_own(family: str, prices: Prices, rows: Sequence[Row], off_peak: OffPeak | None) -> Plan | None:
    """The sheets of a family that looks its rates up in another way than most; None: it does not."""
    block = off_peak.rates if off_peak else None
    if family == "dashscope":
        return _dashscope_plan(prices, rows, block)
    return Plan(_perplexity_sheets(prices, block)) if family == "perplexity" else None


def _dashscope_plan(prices: Prices, rows: Sequence[Row], block: Prices | None) -> Plan:
    """A row of the tier table, else the usual rates; no thresholds, no service tiers."""
    return Plan(
        base=_dashscope_sheets(prices, {}, block),
        rows=tuple(
            Row(row.start, row.end, row.rates, _dashscope_sheets(prices, row.rates, block) if I in row.rates else None)
            for row in rows
        ),
    )


def _dashscope_sheets(prices: Prices, row: Prices, block: Prices | None) -> Sheets:
    usual = _dashscope_sheet(prices, row, {})
    return usual, usual if block is None else _dashscope_sheet(prices, row, block)


def _dashscope_sheet(prices: Prices, row: Prices, block: Prices) -> Sheet:
    of = row or prices
    text, output = of.get(I), row.get(O) or prices.get(O)
    write = block.get(CW) or of.get(CW) or text
    output_now = block.get(O) or output
    reasoning = row.get(REASONING) or (None if O in row else prices.get(REASONING))
    return Sheet(
        text=block.get(I) or text,
        output=output_now,
        read=block.get(CR) or of.get(CR) or text,
        write=write,
        write_1h=write,
        write_12h=write,
        explicit=explicit_read(prices, "", row, block),
        reasoning=block.get(REASONING) or reasoning or output_now,
    )


def _dashscope(bill: Bill, tokens: TokenRates, usage: Usage, worst: bool) -> bool:
    plan = tokens.own or tokens.plans[""]
    cached, written, reasoning = usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    sheet = tokens.sheet(plan, max(usage.prompt_tokens, cached + written), usage, worst)
    if lacks_side(tokens.plans[""], usage):
        return False
    text, output = max(usage.prompt_tokens - cached - written, 0), max(usage.completion_tokens - reasoning, 0)
    if text:
        bill.charge(bill.input, "text", text, "token", sheet.text)
    if cached:
        # The row of an explicit cache is the one of the prompt as it is reported.
        asked = tokens.sheet(plan, usage.prompt_tokens, usage, worst)
        read = (asked.explicit if usage.cache_type == "ephemeral" else None) or sheet.read
        bill.charge(bill.input, "cache_read", cached, "token", read)
    if written:
        bill.charge(bill.input, "cache_write", written, "token", sheet.write)
    if output:
        bill.charge(bill.output, "output", output, "token", sheet.output)
    if reasoning:
        bill.charge(bill.output, "reasoning", reasoning, "token", sheet.reasoning)
    return True


def _perplexity_sheets(prices: Prices, block: Prices | None) -> Sheets:
    def sheet(block: Prices) -> Sheet:
        text = block.get(I) or prices.get(I)
        return Sheet(
            text=text, output=block.get(O) or prices.get(O), reasoning=prices.get(REASONING),
            read=text, write=text, write_1h=text, write_12h=text, explicit=None,
        )  # fmt: skip

    usual = sheet({})
    return usual, usual if block is None else sheet(block)


def _perplexity(bill: Bill, tokens: TokenRates, usage: Usage, worst: bool) -> bool:
    if usage.provider_cost is not None:
        _reported(bill, bill.output, usage.provider_cost)
        return True
    plan = tokens.own or tokens.plans[""]
    sheet = tokens.sheet(plan, usage.prompt_tokens, usage, worst)
    if lacks_side(tokens.plans[""], usage):
        return False
    reasoning = usage.reasoning_tokens if sheet.reasoning else 0
    output = max(usage.completion_tokens - reasoning, 0)
    if usage.prompt_tokens:
        bill.charge(bill.input, "text", usage.prompt_tokens, "token", sheet.text)
    if usage.citation_tokens:
        citation = tokens.prices.get("citation_cost_per_token")
        bill.charge(bill.input, "citations", usage.citation_tokens, "token", citation)
    if output:
        bill.charge(bill.output, "output", output, "token", sheet.output)
    if reasoning:
        bill.charge(bill.output, "reasoning", reasoning, "token", sheet.reasoning)
    if usage.web_searches:
        bill.charge(bill.output, "web_searches", usage.web_searches, "query", tokens.search.get("low"))
    return True


def _xai(bill: Bill, tokens: TokenRates, usage: Usage, worst: bool) -> bool:
    plan = tokens.plans[""]
    sheet = tokens.sheet(plan, usage.prompt_tokens, usage, worst)
    priced = not lacks_side(plan, usage)
    if priced:
        charge_input(bill, tokens.prices, sheet, usage)
        if usage.completion_tokens:
            bill.charge(bill.output, "output", usage.completion_tokens, "token", sheet.output)
    if usage.provider_cost is None:
        return priced
    _split_reported(bill, usage.provider_cost)
    return True


def _lemonade(bill: Bill, tokens: TokenRates, usage: Usage, worst: bool) -> bool:
    return True


def _split_reported(bill: Bill, reported: Decimal) -> None:
    """Replace the lines by what the provider says that it charged, in the ratio of their sums."""
    computed_input, computed = total(bill.input), total(bill.input) + total(bill.output)
    share = (reported * computed_input / computed).quantize(_PLACES) if computed else ZERO
    bill.input, bill.output, bill.unrated = [], [], []
    _reported(bill, bill.input, share)
    _reported(bill, bill.output, reported - share)


def _reported(bill: Bill, side: list[Line], amount: Decimal) -> None:
    if amount:
        bill.charge(side, "provider_cost", amount, "USD", Rate("", ONE))


OWN_RULES: Mapping[str, Pricer] = {
    "dashscope": _dashscope,
    "perplexity": _perplexity,
    "xai": _xai,
    "lemonade": _lemonade,
}
