from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import units


@pytest.mark.parametrize(
    ("name", "per"),
    [
        ("input_cost_per_token", "1M tokens"),
        ("cache_creation_input_token_cost_above_1hr_above_200k_tokens", "1M tokens"),
        ("input_cost_per_token_above_272k_tokens_priority", "1M tokens"),
        ("output_cost_per_image_token_batches", "1M tokens"),
        ("tiered_pricing[1].output_cost_per_token", "1M tokens"),
        ("input_cost_per_character_above_128k_tokens", "1,000 characters"),
        ("output_cost_per_image_4K", "image"),
        ("input_cost_per_image_above_128k_tokens", "image"),
        ("output_cost_per_second_1080p", "second"),
        ("input_cost_per_video_per_second_above_15s_interval", "second"),
        ("search_context_cost_per_query.search_context_size_low", "query"),
        ("ocr_cost_per_page_batches", "page"),
        ("code_interpreter_cost_per_session", "session"),
    ],
)
def test_a_price_field_says_by_its_name_what_it_is_per(name, per):
    assert units.unit_of(name).per == per


@pytest.mark.parametrize(
    "name", ["regional_processing_uplift_multiplier_eu", "web_search_billing_unit", "tiered_pricing[0].range"]
)
def test_what_is_no_amount_per_unit_has_none(name):
    assert units.unit_of(name) is None


def test_speech_is_sold_by_the_minute_and_video_by_the_second():
    assert units.unit_of("input_cost_per_second", "audio_transcription").per == "minute"
    assert units.unit_of("output_cost_per_second", "video_generation").per == "second"


@given(st.decimals(min_value=0, max_value=10**6, places=12))
def test_what_is_typed_per_million_comes_back_as_it_was(typed):
    rate = units.TOKENS.stored(typed)

    assert units.TOKENS.shown(rate) == typed
    assert Decimal(units.plain(rate)) == rate


def test_a_price_per_minute_that_does_not_end_per_second_is_kept_to_thirty_places():
    rate = units.MINUTES.stored(Decimal("0.01"))

    assert units.plain(rate) == "0.000166666666666666666666666667"
    assert units.amount(units.MINUTES.shown(rate), 12) == "0.01"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ("4.2000000000000006e-08", "0.042"),
        ("0.0000025", "2.50"),
        ("1.5e-05", "15.00"),
        ("0", "0"),
        ("0.001234567", "1,234.57"),
        ("1.3e-10", "0.00013"),
    ],
)
def test_an_amount_is_short_and_never_looks_like_zero(rate, text):
    assert units.amount(units.TOKENS.shown(Decimal(rate))) == text


def test_a_list_rounds_to_four_places_and_small_ones_to_three_digits():
    assert [units.rounded(Decimal(text)) for text in ("0.285714", "1.12497", "0.0328571", "0.000123456", "0")] == [
        "0.2857", "1.125", "0.0329", "0.000123", "0",
    ]  # fmt: skip


def test_tables_inside_a_price_are_taken_apart():
    rates = {
        "input_cost_per_token": "1e-06",
        "tiered_pricing": [{"range": ["0", "32000"], "input_cost_per_token": "2e-06"}],
        "search_context_cost_per_query": {"search_context_size_low": "0.01"},
    }

    assert dict(units.leaves(rates)) == {
        "input_cost_per_token": "1e-06",
        "tiered_pricing[0].range": ["0", "32000"],
        "tiered_pricing[0].input_cost_per_token": "2e-06",
        "search_context_cost_per_query.search_context_size_low": "0.01",
    }


@pytest.mark.parametrize("value", ["x", "NaN", "Infinity", True, None, [], ""])
def test_what_is_no_number_is_none(value):
    assert units.number(value) is None


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [("1", "10", True), ("1", "9.99", False), ("1", "0.1", True), ("1", "0.1001", False), ("1", "1", False),
     ("0", "1", True), ("1", "0", True)],
)  # fmt: skip
def test_ten_times_is_off_in_both_directions(one, other, far):
    assert units.ten_times_off(Decimal(one), Decimal(other)) is far
    assert units.ten_times_off(Decimal(other), Decimal(one)) is far
