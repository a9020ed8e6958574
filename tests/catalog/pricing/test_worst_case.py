"""What a call may cost at most."""

from __future__ import annotations

from decimal import Decimal

import pytest

from catalog.errors import UsageError
from catalog.pricing import Rates, worst_case
from tests.catalog.pricing.bills import CR, CW, CW_1H, EXPLICIT, REASONING, I, O, lines


def worst(entry, provider="openai", *, prompt=10, output=5, mode="chat", **used):
    return lines(
        worst_case(Rates.from_entry(entry, provider, mode=mode), prompt_tokens=prompt, max_output_tokens=output, **used)
    )


@pytest.mark.parametrize("dear", [I, CW, CW_1H, CR, EXPLICIT])
def test_all_input_is_at_the_dearest_rate_it_may_have(dear):
    entry = {I: "2", CR: "1", CW: "2.5", O: "3", dear: "4"}

    assert worst(entry) == {"text": (10, 4), "output": (5, 3)}


def test_output_is_at_the_dearer_of_text_and_reasoning():
    assert worst({I: "2", O: "3", REASONING: "7"}) == {"text": (10, 2), "output": (5, 7)}
    assert worst({I: "2", O: "3", REASONING: "1"}) == {"text": (10, 2), "output": (5, 3)}


def test_several_answers_cost_as_often():
    assert worst({I: "2", O: "3"}, n=4) == {"text": (10, 2), "output": (20, 3)}


def test_a_long_prompt_is_at_the_rates_above_the_threshold():
    entry = {I: "2", O: "3", f"{I}_above_1k_tokens": "4", f"{O}_above_1k_tokens": "6"}

    assert worst(entry, prompt=1000) == {"text": (1000, 2), "output": (5, 3)}
    assert worst(entry, prompt=1001) == {"text": (1001, 4), "output": (5, 6)}


def test_a_threshold_that_makes_calls_cheaper_makes_no_worst_case_cheaper():
    entry = {I: "2", O: "3", f"{I}_above_1k_tokens": "1"}

    assert worst(entry, prompt=1001) == {"text": (1001, 2), "output": (5, 3)}


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
def test_rows_that_a_smaller_prompt_would_have_count_too(provider):
    table = [{"range": ["0", "100"], I: "5", O: "1"}, {"range": ["100", "200"], I: "4", O: "2"}]

    assert worst({"tiered_pricing": table}, provider, prompt=150) == {"text": (150, 5), "output": (5, 2)}
    assert worst({"tiered_pricing": table}, provider, prompt=50) == {"text": (50, 5), "output": (5, 1)}


def test_a_row_without_input_rate_leaves_the_rates_of_the_price():
    table = [{"range": ["0", "100"], O: "1"}, {"range": ["100", "200"], I: "4", O: "2"}]

    assert worst({"tiered_pricing": table, I: "9", O: "1"}, prompt=150) == {"text": (150, 9), "output": (5, 2)}


def test_a_batch_has_the_worst_case_of_its_rates():
    own = {f"{I}_batches": "1", f"{CW}_batches": "3", f"{O}_batches": "2", f"{I}_above_5_tokens_batches": "4"}

    assert worst({I: "9", **own}, batch=True) == {"text": (10, 4), "output": (5, 2)}
    assert worst({I: "2", CW: "4", O: "3"}, batch=True) == {"text": (10, 2), "output": (5, Decimal("1.5"))}


def test_kinds_and_tools_that_are_asked_for_count():
    entry = {I: "2", O: "3", "input_cost_per_audio_token": "7", "output_cost_per_audio_token": "9"}

    assert worst(entry, audio_tokens=4, output_audio_tokens=5, file_searches=2) == {
        "text": (6, 2), "audio": (4, 7), "output_audio": (5, 9), "file_searches": (2, Decimal("0.0025")),
    }  # fmt: skip


@pytest.mark.parametrize(("provider", "output"), [("perplexity", 7), ("xai", 7)])
def test_families_have_the_worst_case_of_their_rules(provider, output):
    entry = {I: "2", O: "3", REASONING: "7"}

    assert worst(entry, provider) == {"text": (10, 2), "output": (5, output)}


def test_other_kinds_cost_what_they_cost():
    assert worst({I: "2", O: "3", CW: "4"}, mode="image_generation", output=6) == {
        "text": (10, 4),
        "output_image": (6, 3),
    }
    assert worst({"input_cost_per_query": "2"}, mode="rerank", queries=3) == {"queries": (3, 2)}


def test_without_rates_the_worst_case_is_unknown():
    assert worst_case(Rates.from_entry({}, "openai"), prompt_tokens=1, max_output_tokens=1).total is None


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"prompt_tokens": -1, "max_output_tokens": 1}, "negative_count"),
        ({"prompt_tokens": 1, "max_output_tokens": -1, "n": -1}, "negative_count"),
        ({"prompt_tokens": 1, "max_output_tokens": 1.5}, "wrong_type"),
        ({"prompt_tokens": 1, "max_output_tokens": 1, "n": True}, "wrong_type"),
    ],
)
def test_counts_that_cannot_be_are_refused(asked, code):
    with pytest.raises(UsageError) as refused:
        worst_case(Rates.flat("1", "1"), **asked)

    assert refused.value.code == code
