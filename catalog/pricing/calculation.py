"""From rates and usage to a cost: the kind of the call decides which rules price it."""

from __future__ import annotations

from decimal import getcontext, setcontext
from typing import Any

from catalog.pricing.batch import charge_batch
from catalog.pricing.bill import Bill, total
from catalog.pricing.costs import EXACT, Cost
from catalog.pricing.families import OWN_RULES
from catalog.pricing.markup import charge_markup, charge_uplifts
from catalog.pricing.media import charge_image, charge_speech, charge_transcription, charge_video
from catalog.pricing.prices import CR, CW, I, O, Prices
from catalog.pricing.rates import Rates
from catalog.pricing.tokens import TokenRates, charge_tokens, lacks_side
from catalog.pricing.tools import charge_tools
from catalog.pricing.units import charge_ocr, charge_rerank, charge_search
from catalog.pricing.usage import Usage, count

_NO_TIERS = frozenset({"fireworks_ai", "deepseek", "tencent", "xai", "perplexity", "dashscope"})
"""Families that sell no service tiers."""


def cost(rates: Rates, usage: Usage) -> Cost:
    """Price one call.

    rates: US dollars per single unit. usage: counts; prompt_tokens includes cached and written ones. Cost.total is None,
    status "unpriced", when the price has no rate for the call: never 0. Nothing is rounded: who stores it rounds once.
    Raises UsageError("missing_time") for a price that depends on the hour. Rules: docs/pricing.md.
    """
    return _exactly(rates, usage, False)


def worst_case(rates: Rates, *, prompt_tokens: int, max_output_tokens: int, n: int = 1, **usage: Any) -> Cost:
    """The most that a call of so many tokens, or fewer, may cost: to reserve before it is made.

    All input is at the dearest of what fresh, cached and written tokens cost, output at the dearer of text and reasoning;
    where a shorter prompt has dearer rates, at those. n: answers asked for. usage: further fields of Usage, as they will
    be. Raises UsageError as Usage and `cost` do.
    """
    tokens = count("max_output_tokens", max_output_tokens) * count("n", n)
    return _exactly(rates, Usage(prompt_tokens=prompt_tokens, completion_tokens=tokens, **usage), True)


def _exactly(rates: Rates, usage: Usage, worst: bool) -> Cost:
    before = getcontext()
    setcontext(EXACT)  # localcontext() would copy it, which costs more than all the sums
    try:
        return _cost(rates, usage, worst)
    finally:
        setcontext(before)


def _cost(rates: Rates, usage: Usage, worst: bool) -> Cost:
    bill = Bill()
    if rates.is_flat:
        _charge_flat(bill, rates.prices, usage, worst)
    elif not _charge_kind(bill, rates, usage.kind or rates.kind, usage, worst):
        return Cost(input=None, output=None, tools=None, total=None, status="unpriced", price_id=rates.price_id)
    input, output, tools = total(bill.input), total(bill.output), total(bill.tools)
    lines = [*bill.input, *bill.output, *bill.tools]
    amount = input + output + tools
    if rates.markup:
        marked = charge_markup(bill, rates.markup)
        lines += marked
        amount += total(marked)
    return Cost(
        input=input,
        output=output,
        tools=tools,
        total=amount,
        status="estimated" if usage.estimated else "priced",
        unrated=tuple(bill.unrated),
        lines=tuple(lines),
        price_id=rates.price_id,
    )


def _charge_kind(bill: Bill, rates: Rates, kind: str, usage: Usage, worst: bool) -> bool:
    """Add the lines of a call of this kind; False: the price cannot price it."""
    match kind:
        case "tokens":
            return _charge_tokens(bill, rates, rates.tokens, usage, worst)
        case "decisions":
            return _charge_tokens(bill, rates, rates.decisions, usage, worst)
        case "image":
            return charge_image(bill, rates, usage, worst)
        case "speech":
            return charge_speech(bill, rates, usage, worst)
        case "transcription":
            return charge_transcription(bill, rates, usage, worst)
        case "video":
            return charge_video(bill, rates.prices, usage)
        case "rerank":
            return charge_rerank(bill, rates.prices, rates.provider, usage)
        case "search":
            return charge_search(bill, rates.prices, rates.search_rows, usage)
        case _:
            return charge_ocr(bill, rates.prices, usage)


def _charge_tokens(bill: Bill, rates: Rates, tokens: TokenRates, usage: Usage, worst: bool) -> bool:
    family = rates.family
    if usage.batch:
        if not charge_batch(bill, tokens.batch, usage, worst):
            return False
        charge_uplifts(bill, rates.uplifts, family, "batch", usage)
    elif tokens.wall_clock:
        if usage.duration_seconds:
            bill.charge(bill.input, "duration_seconds", usage.duration_seconds, "second", tokens.wall_clock)
    elif family in OWN_RULES:
        if not OWN_RULES[family](bill, tokens, usage, worst):
            return False
    else:
        plan = tokens.plans[""] if family in _NO_TIERS else tokens.plan(usage)
        if lacks_side(plan, usage):
            return False
        charge_tokens(bill, tokens, plan, usage, worst)
        charge_uplifts(bill, rates.uplifts, family, "tokens", usage)
    charge_tools(bill, rates.tools, usage)
    return True


def _charge_flat(bill: Bill, prices: Prices, usage: Usage, worst: bool) -> None:
    text, cached, written = prices[I], usage.cached_tokens, usage.cache_write_tokens
    read, write = prices.get(CR, text), prices.get(CW, text)
    if worst:
        text = max(text, read, write, key=lambda rate: rate.value)
    fresh = max(usage.prompt_tokens - cached - written, 0)
    if fresh:
        bill.charge(bill.input, "text", fresh, "token", text)
    if cached:
        bill.charge(bill.input, "cache_read", cached, "token", text if worst else read)
    if written:
        bill.charge(bill.input, "cache_write", written, "token", text if worst else write)
    if usage.completion_tokens:
        bill.charge(bill.output, "output", usage.completion_tokens, "token", prices[O])
