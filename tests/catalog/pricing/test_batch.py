"""Batches: rates of their own, else half."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.catalog.pricing.bills import CR, CW, CW_1H, CW_12H, REASONING, I, O, lines, price

USED = {"prompt_tokens": 100, "cached_tokens": 20, "cache_write_tokens": 10, "completion_tokens": 5, "batch": True}


def batch(entry, provider="openai", **used):
    return lines(price(entry, provider, **{**USED, **used}))


def test_a_batch_has_rates_of_its_own():
    entry = {I: "9", O: "9", f"{I}_batches": "1", f"{O}_batches": "3", f"{CR}_batches": "0.5", f"{CW}_batches": "2"}

    assert batch(entry) == {
        "text": (70, 1), "cache_read": (20, Decimal("0.5")), "cache_write": (10, 2), "output": (5, 3),
    }  # fmt: skip


def test_cached_and_written_tokens_are_text_where_the_batch_has_no_rate_for_them():
    assert batch({f"{I}_batches": "1", O: "4", CR: "9", CW: "9"}) == {"text": (100, 1), "output": (5, 2)}


def test_a_batch_that_was_all_read_from_a_cache_has_no_line_of_text():
    entry = {f"{I}_batches": "1", f"{CR}_batches": "2", O: "0"}

    assert "text" not in batch(entry, cached_tokens=100, cache_write_tokens=0)


def test_written_tokens_of_a_batch_cost_by_time_to_live():
    entry = {f"{I}_batches": "1", O: "4", f"{CW_1H}_batches": "7"}
    found = batch(entry, cache_write_1h_tokens=4, cache_write_12h_tokens=1)

    assert found == {
        "text": (90, 1), "cache_write": (5, 1), "cache_write_1h": (4, 7), "cache_write_12h": (1, 1), "output": (5, 2),
    }  # fmt: skip
    assert batch({**entry, f"{CW_12H}_batches": "8"}, cache_write_12h_tokens=1)["cache_write_12h"] == (1, 8)


def test_kinds_of_input_have_batch_rates_or_cost_as_text():
    used = {
        "audio_tokens": 10, "image_tokens": 5, "video_tokens": 5, "cached_audio_tokens": 4, "cache_write_tokens": 0,
        "completion_tokens": 0,
    }  # fmt: skip
    entry = {f"{I}_batches": "1", f"{CR}_batches": "0.5"}
    rated = {f"input_cost_per_{kind}_token_batches": "7" for kind in ("audio", "image", "video")}

    assert batch(entry, **used) == {
        "text": (64, 1), "cache_read": (16, Decimal("0.5")), "cache_read_audio": (4, Decimal("0.5")), "audio": (6, 1),
        "image": (5, 1), "video": (5, 1),
    }  # fmt: skip
    found = batch({**entry, **rated, "cache_read_input_audio_token_cost_batches": "0.3"}, **used)
    assert (found["audio"], found["image"], found["video"]) == ((6, 7), (5, 7), (5, 7))
    assert found["cache_read_audio"] == (4, Decimal("0.3"))


def test_cached_audio_alone_has_no_line_of_cached_text_in_a_batch():
    found = batch({f"{I}_batches": "1", f"{CR}_batches": "2", O: "0"}, cached_audio_tokens=20, cache_write_tokens=0)

    assert found["cache_read_audio"] == (20, 2)
    assert "cache_read" not in found


def test_without_rates_of_its_own_a_batch_costs_half():
    entry = {I: "2", O: "4", CR: "1", CW: "3", CW_1H: "9"}

    assert batch(entry, cache_write_1h_tokens=10) == {
        "text": (70, 1), "cache_read": (20, Decimal("0.5")), "cache_write": (10, Decimal("1.5")), "output": (5, 2),
    }  # fmt: skip


def test_cached_tokens_of_a_batch_without_cache_rates_cost_half_of_the_input():
    assert batch({I: "2", O: "4"}) == {"text": (70, 1), "cache_read": (20, 1), "cache_write": (10, 1), "output": (5, 2)}


def test_halves_know_no_thresholds_and_no_kinds():
    entry = {I: "2", O: "4", f"{I}_above_50_tokens": "8", "input_cost_per_audio_token": "9", REASONING: "9"}
    found = batch(entry, cached_tokens=0, cache_write_tokens=0, audio_tokens=10, reasoning_tokens=3)

    assert found == {"text": (100, 1), "output": (5, 2)}


@pytest.mark.parametrize(("prompt", "rate"), [(1000, 1), (1001, 5), (2001, 7)])
def test_the_highest_threshold_crossed_has_the_rate_of_a_batch(prompt, rate):
    entry = {f"{I}_batches": "1", f"{I}_above_1k_tokens_batches": "5", f"{I}_above_2k_tokens_batches": "7",
             f"{I}_above_1k_tokens": "99", O: "2"}  # fmt: skip

    assert batch(entry, prompt_tokens=prompt)["text"] == (prompt, rate)


def test_xai_crosses_a_threshold_of_a_batch_when_it_is_reached():
    entry = {f"{I}_batches": "1", f"{I}_above_1k_tokens_batches": "5", O: "2"}

    assert batch(entry, "xai", prompt_tokens=1000)["text"] == (1000, 5)


def test_images_made_in_a_batch_have_a_rate_else_half_of_the_usual_else_that_of_text():
    own, usual = "output_cost_per_image_token_batches", "output_cost_per_image_token"
    used = {"completion_tokens": 10, "output_image_tokens": 4}

    rates = [batch({I: "2", O: "4", **more}, **used)["output_image"] for more in ({own: "7"}, {usual: "6"}, {})]

    assert rates == [(4, 7), (4, 3), (4, 2)]
    assert batch({I: "2", O: "4"}, completion_tokens=3, output_image_tokens=9)["output_image"] == (3, 2)


@pytest.mark.parametrize("provider", ["dashscope", "perplexity", "xai", "lemonade", "fireworks_ai"])
def test_a_batch_is_priced_alike_in_every_family(provider):
    assert batch({I: "2", O: "4"}, provider) == batch({I: "2", O: "4"})


@pytest.mark.parametrize(
    ("entry", "used"),
    [
        ({"tiered_pricing": [{"range": ["0", "9"], I: "1", O: "1"}]}, {}),
        ({O: "1"}, {}),
        ({I: "1"}, {}),
        ({"input_cost_per_audio_token": "1", O: "1"}, {}),
    ],
)
def test_a_batch_without_usable_rates_is_unpriced(entry, used):
    assert price(entry, **USED, **used).status == "unpriced"


def test_text_of_a_batch_with_a_rate_of_images_alone_is_listed():
    found = price({I: "2", "output_cost_per_image_token": "6"}, **{**USED, "output_image_tokens": 2})

    assert lines(found)["output_image"] == (2, 3)
    assert found.unrated == ("output",)


def test_an_empty_batch_costs_nothing():
    assert price({}, batch=True).total == 0
