"""What holds for every price and every call, tried with random ones."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from catalog.pricing import Rates, Usage, cost, worst_case
from catalog.pricing.costs import EXACT
from catalog.pricing.plain import read_plain
from catalog.pricing.usage import KINDS
from tests.catalog.pricing.bills import CR, CW, CW_1H, CW_12H, EXPLICIT, REASONING, I, O

ENTRIES = json.loads((Path(__file__).parents[1] / "pricing_entries.json").read_text())
PROVIDERS = ("openai", "anthropic", "gemini", "vertex_ai", "bedrock", "fireworks_ai", "dashscope", "xai", "perplexity",
             "mistral", "groq", "lemonade")  # fmt: skip
NAMES = [
    f"{name}{threshold}{tier}"
    for name in (I, O, CR, CW, CW_1H, CW_12H)
    for threshold in ("", "_above_1k_tokens", "_above_2000_tokens")
    for tier in ("", "_priority", "_batches")
]
NAMES += [REASONING, EXPLICIT, "input_cost_per_audio_token", "output_cost_per_image_token", "input_cost_per_image",
          "cache_read_input_audio_token_cost", "regional_processing_uplift_multiplier_eu"]  # fmt: skip
RATES = st.decimals(0, 10, places=4, allow_nan=False, allow_infinity=False).map(str)
COUNTS = st.integers(0, 4000) | st.sampled_from([1000, 1001, 2000, 2001, 10**7])
INSTANTS = st.integers(0, 7 * 24 * 60).map(
    lambda minutes: datetime(2026, 11, 16, tzinfo=UTC) + timedelta(minutes=minutes)
)
PERCENT = st.decimals(0, 100, places=4, allow_nan=False, allow_infinity=False)
TERMS = st.fixed_dictionaries({"discount_percent": PERCENT, "margin_percent": PERCENT, "margin_fixed": PERCENT})


@st.composite
def entries(draw):
    """An entry with rates, at times a tier table and off-peak hours."""
    entry = draw(st.dictionaries(st.sampled_from(NAMES), RATES, max_size=12))
    row = st.dictionaries(st.sampled_from([O, CR, CW, CW_1H, REASONING, EXPLICIT]), RATES)
    if draw(st.integers(0, 3)) == 0:
        rows = [{**draw(row), I: draw(RATES), "range": bounds} for bounds in (["0", "1000"], ["1000", "2000"])]
        entry["tiered_pricing"] = rows
    if draw(st.integers(0, 3)) == 0:
        block = draw(st.dictionaries(st.sampled_from([I, O, CR, CW, REASONING, EXPLICIT]), RATES))
        entry["off_peak_pricing"] = {"hours_utc": "08:00-20:00", **block}
    return entry


def prices():
    real = st.sampled_from(sorted(ENTRIES)).map(
        lambda key: (ENTRIES[key]["rates"], ENTRIES[key]["provider"], key, ENTRIES[key]["mode"])
    )
    made = st.tuples(entries(), st.sampled_from(PROVIDERS), st.just("model"), st.just("chat"))
    return st.builds(
        lambda price, terms: Rates.from_entry(price[0], price[1], key=price[2], mode=price[3], **terms),
        real | made,
        st.just({}) | TERMS,
    )


def usages():
    by_type = {
        "int": st.just(0) | COUNTS,
        "Decimal": st.just(Decimal(0)) | st.decimals(0, 5000, places=3, allow_nan=False, allow_infinity=False),
        "bool": st.booleans(),
    }
    chosen = {
        "kind": st.just("") | st.sampled_from(sorted(KINDS)),
        "service_tier": st.sampled_from(["", "priority", "flex"]),
        "data_residency": st.sampled_from(["", "eu"]),
        "location": st.sampled_from(["", "us-east5"]),
        "inference_geo": st.sampled_from(["", "us"]),
        "speed": st.sampled_from(["", "fast"]),
        "cache_type": st.sampled_from(["", "ephemeral"]),
        "search_context": st.sampled_from(["", "low"]),
        "image_size": st.sampled_from(["", "64x64"]),
        "image_resolution": st.sampled_from(["", "4K"]),
        "image_quality": st.just(""),
        "resolution": st.sampled_from(["", "720p"]),
        "at": INSTANTS,
        "provider_cost": st.none() | st.decimals(0, 5, places=6, allow_nan=False, allow_infinity=False),
    }
    return st.builds(
        Usage,
        **{
            field.name: chosen[field.name] if field.name in chosen else by_type[str(field.type).removesuffix(" | None")]
            for field in fields(Usage)
        },
    )


@given(prices(), usages())
def test_the_lines_of_a_bill_add_up_exactly(rates, usage):
    found = cost(rates, usage)

    assume(found.total is not None)
    with localcontext(prec=200):
        assert sum(line.amount for line in found.lines) == found.total
        assert all(line.amount == line.quantity * line.rate for line in found.lines)
        marked = sum(line.amount for line in found.lines if line.kind in {"discount", "margin", "margin_fixed"})
        assert found.input + found.output + found.tools + marked == found.total
    assert len(json.dumps(found.breakdown).encode()) <= 512


@given(prices(), usages())
def test_no_call_costs_less_than_nothing_and_none_is_priced_without_rates(rates, usage):
    found = cost(rates, usage)

    assert (found.total is None) == (found.status == "unpriced")
    if found.total is not None:
        assert min(found.input, found.output, found.tools, found.total) >= 0
        assert found.status == ("estimated" if usage.estimated else "priced")


@given(prices(), usages())
def test_the_same_call_costs_the_same(rates, usage):
    assert cost(rates, usage) == cost(rates, usage)


@given(
    prices(), st.data(), st.sampled_from(["completion_tokens", "web_searches", "file_searches", "images", "citation_tokens"]),
    st.integers(1, 5000), st.integers(0, 999), st.booleans(), INSTANTS,
)  # fmt: skip
def test_more_of_anything_never_costs_less(rates, data, name, more, prompt, batch, at):
    cached = data.draw(st.integers(0, prompt))
    usage = Usage(
        kind="tokens", prompt_tokens=prompt, cached_tokens=cached, completion_tokens=1000, reasoning_tokens=500, images=1,
        batch=batch, at=at,
    )  # fmt: skip
    less, greater = cost(rates, usage), cost(rates, replace(usage, **{name: getattr(usage, name) + more}))

    assume(less.total is not None and greater.total is not None)
    assert greater.total >= less.total


@given(prices(), st.integers(0, 999), st.integers(0, 999), st.integers(0, 999), st.booleans(), INSTANTS)
def test_a_longer_prompt_below_a_threshold_never_costs_less(rates, short, long, cached, batch, at):
    short, long = sorted((short, long))
    given_usage = {
        "kind": "tokens",
        "cached_tokens": min(cached, short),
        "completion_tokens": 5,
        "batch": batch,
        "at": at,
    }
    less, greater = (cost(rates, Usage(prompt_tokens=prompt, **given_usage)) for prompt in (short, long))

    assume(short and less.total is not None)
    assert greater.total >= less.total


@given(prices(), st.data(), st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 3))
def test_no_call_costs_more_than_its_worst_case(rates, data, prompt, completion, n):
    def upto(most):
        return data.draw(st.integers(0, most))

    asked = {
        "kind": "tokens", "at": data.draw(INSTANTS), "batch": data.draw(st.booleans()),
        "service_tier": data.draw(st.sampled_from(["", "priority"])), "web_searches": 2,
        "data_residency": data.draw(st.sampled_from(["", "eu"])),
    }  # fmt: skip
    used = max(upto(prompt), 1)
    cached = upto(used)
    written = upto(used - cached)
    hours = upto(written)
    output = upto(completion * n)
    usage = Usage(
        prompt_tokens=used, cached_tokens=cached, cache_write_tokens=written, cache_write_1h_tokens=hours,
        cache_write_12h_tokens=upto(written - hours), completion_tokens=output, reasoning_tokens=upto(output),
        cache_type=data.draw(st.sampled_from(["", "ephemeral"])), **asked,
    )  # fmt: skip

    found = cost(rates, usage)
    worst = worst_case(rates, prompt_tokens=prompt, max_output_tokens=completion, n=n, **asked)

    assume(worst.total is not None and found.total is not None)
    assert found.total <= worst.total


def rates_of(key):
    return Rates.from_entry(ENTRIES[key]["rates"], ENTRIES[key]["provider"], key=key, mode=ENTRIES[key]["mode"])


SHORT = [rates_of(key) for key in sorted(ENTRIES) if read_plain(rates_of(key))]
PLAIN = st.dictionaries(st.sampled_from(NAMES), RATES, max_size=12).flatmap(
    lambda entry: st.builds(
        lambda input, output, provider: Rates.from_entry({**entry, I: input, O: output}, provider),
        RATES, RATES, st.sampled_from(["openai", "gemini", "bedrock", "fireworks_ai"]),
    )
)  # fmt: skip


@settings(max_examples=300)
@given(st.sampled_from(SHORT) | PLAIN, st.tuples(*[st.just(0) | COUNTS] * 5))
def test_the_short_way_of_plain_calls_gives_the_amounts_of_the_long_one(rates, counts):
    plain = read_plain(rates)
    with localcontext(EXACT):
        found = plain and plain.charge(*counts)

    assume(found is not None)
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    whole = cost(rates, Usage(**dict(zip(names, counts, strict=True))))
    assert (whole.status, whole.unrated) == ("priced", ())
    assert found == (whole.total, whole.breakdown)
    assert list(found[1]) == list(whole.breakdown)


def test_most_prices_of_chats_have_a_short_way():
    chats = [key for key in ENTRIES if ENTRIES[key]["mode"] == "chat"]

    assert len([key for key in chats if read_plain(rates_of(key))]) > len(chats) / 2
