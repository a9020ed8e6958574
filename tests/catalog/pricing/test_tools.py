"""Tools that a call used; discount and margin."""

from __future__ import annotations

from decimal import Decimal

import pytest

from catalog.errors import BadRate
from tests.catalog.pricing.bills import I, O, lines, price

SIZES = {"low": "1", "medium": "2", "high": "3"}
SEARCH = {"search_context_cost_per_query": {f"search_context_size_{size}": rate for size, rate in SIZES.items()}}
PER_QUERY = {"web_search_billing_unit": "per_query"}


def only(*sizes):
    return {"search_context_cost_per_query": {f"search_context_size_{size}": SIZES[size] for size in sizes}}


def tools(entry, provider="openai", **used):
    found = price(entry, provider, **used)
    assert found.tools == found.total
    return lines(found)


@pytest.mark.parametrize("provider", ["openai", "mistral", "azure", "bedrock"])
@pytest.mark.parametrize(
    ("context", "rate"), [("low", 1), ("medium", 2), ("high", 3), ("", 2), ("LOW", 1), ("huge", 2)]
)
def test_searches_cost_by_the_size_of_their_context(provider, context, rate):
    assert tools(SEARCH, provider, web_searches=4, search_context=context) == {"web_searches": (4, rate)}


@pytest.mark.parametrize(
    ("provider", "key"), [("anthropic", ""), ("azure_ai", "x"), ("groq", ""), ("vertex_ai", "Claude-5")]
)
def test_some_charge_searches_at_the_medium_rate_alone(provider, key):
    assert tools(SEARCH, provider, key=key, web_searches=4, search_context="high") == {"web_searches": (4, 2)}


@pytest.mark.parametrize("provider", ["gemini", "vertex_ai"])
def test_google_charges_a_search_per_prompt_or_per_query(provider):
    assert tools(SEARCH, provider, web_searches=4, search_context="high") == {"web_searches": (1, 2)}
    assert tools({**SEARCH, **PER_QUERY}, provider, web_searches=4) == {"web_searches": (4, 2)}
    assert tools({}, provider, web_searches=4) == {"web_searches": (1, Decimal("0.035"))}


@pytest.mark.parametrize("provider", ["gemini", "vertex_ai"])
def test_google_charges_maps_per_prompt_or_per_query(provider):
    stated = {"google_maps_grounding_cost_per_query": "7"}

    assert tools({}, provider, maps_requests=3) == {"maps_requests": (1, Decimal("0.025"))}
    assert tools(PER_QUERY, provider, maps_requests=3) == {"maps_requests": (3, Decimal("0.014"))}
    assert tools(stated, provider, maps_requests=3) == {"maps_requests": (1, 7)}
    assert tools({**stated, **PER_QUERY}, provider, maps_requests=3) == {"maps_requests": (3, 7)}


def test_claude_at_google_has_the_searches_of_claude_and_the_maps_of_google():
    assert tools(SEARCH, "vertex_ai", key="claude-5", web_searches=4, maps_requests=2) == {
        "web_searches": (4, 2), "maps_requests": (1, Decimal("0.025")),
    }  # fmt: skip
    assert tools(SEARCH, "gemini", key="claude-like", web_searches=4) == {"web_searches": (1, 2)}


@pytest.mark.parametrize(
    ("entry", "rate"),
    [(SEARCH, "2"), (only("low", "high"), "1"), (only("high"), "3"), ({}, "0.005"),
     ({"search_context_cost_per_query": {"search_context_size_medium": "0"}}, "0.005")],
)  # fmt: skip
def test_xai_charges_searches_at_the_first_rate_it_has(entry, rate):
    assert tools(entry, "xai", web_searches=4, search_context="high") == {"web_searches": (4, Decimal(rate))}


def test_groq_charges_pages_that_were_opened():
    assert tools(SEARCH, "groq", browser_opens=3) == {"browser_opens": (3, Decimal("0.001"))}


def test_sessions_of_code_and_searches_of_files_are_charged():
    used = {"code_sessions": 2, "file_searches": 3}

    assert tools({"code_interpreter_cost_per_session": "0.03"}, **used) == {
        "code_sessions": (2, Decimal("0.03")), "file_searches": (3, Decimal("0.0025")),
    }  # fmt: skip


def test_tools_without_rate_cost_nothing_and_are_listed():
    used = {"web_searches": 1, "maps_requests": 1, "browser_opens": 1, "code_sessions": 1}

    found = price({I: "1", **only("low")}, prompt_tokens=1, **used)

    assert (found.total, found.tools) == (1, 0)
    assert found.unrated == ("web_searches", "maps_requests", "browser_opens", "code_sessions")


def test_tools_are_charged_beside_batches_and_time_too():
    assert price({I: "2", **SEARCH}, prompt_tokens=1, batch=True, web_searches=1).total == 3
    assert (
        price({"cost_per_second": "2", **SEARCH}, mode="chat", duration_seconds=Decimal(1), web_searches=1).total == 4
    )


@pytest.mark.parametrize("table", ["0.01", {"search_context_size_low": "free"}])
def test_a_search_table_that_is_none_is_refused(table):
    with pytest.raises(BadRate, match="search_context_cost_per_query"):
        price({"search_context_cost_per_query": table})


# discount and margin

CALL = {"prompt_tokens": 100, "completion_tokens": 10, "file_searches": 4}
ENTRY = {I: "1", O: "2"}  # 120.01


def test_a_discount_is_off_the_whole_bill():
    found = price(ENTRY, discount_percent=Decimal("12.5"), **CALL)

    assert found.lines[-1].amount == Decimal("-15.00125")
    assert (found.total, found.input, found.output, found.tools) == (Decimal("105.00875"), 100, 20, Decimal("0.01"))


def test_a_margin_is_on_what_the_discount_leaves_and_the_fixed_one_per_call():
    terms = {"discount_percent": Decimal(50), "margin_percent": Decimal(10), "margin_fixed": Decimal("0.25")}
    found = price(ENTRY, **terms, **CALL)

    assert [(line.kind, line.amount) for line in found.lines[-3:]] == [
        ("discount", Decimal("-60.005")), ("margin", Decimal("6.0005")), ("margin_fixed", Decimal("0.25")),
    ]  # fmt: skip
    assert found.total == Decimal("66.2555")


def test_a_fixed_margin_is_on_a_call_that_cost_nothing():
    assert price(ENTRY, margin_fixed=Decimal("0.25")).total == Decimal("0.25")


def test_an_unpriced_call_has_no_margin():
    assert price({}, margin_fixed=Decimal("0.25"), prompt_tokens=1).total is None
