"""The rules of tokens: counts, base rates, thresholds, caches, modalities, output."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.catalog.pricing.bills import CR, CW, CW_1H, CW_12H, EXPLICIT, REASONING, TUESDAY, I, O, lines, price

TEXT = {I: "2", O: "3"}
AUDIO, IMAGE, VIDEO = (f"input_cost_per_{kind}_token" for kind in ("audio", "image", "video"))
CACHED_AUDIO = "cache_read_input_audio_token_cost"


def at(prompt, **entry):
    """The rate of fresh text for a prompt of this size."""
    return lines(price({I: "2", **entry}, prompt_tokens=prompt))["text"][1]


# counts


def test_cached_and_written_tokens_are_part_of_the_prompt():
    found = price(
        {**TEXT, CR: "0.5", CW: "4"}, prompt_tokens=10, cached_tokens=6, cache_write_tokens=3, completion_tokens=1
    )

    assert lines(found) == {"text": (1, 2), "cache_read": (6, Decimal("0.5")), "cache_write": (3, 4), "output": (1, 3)}
    assert (found.input, found.output, found.total) == (17, 3, 20)


def test_counts_never_go_below_zero():
    assert lines(price({**TEXT, CR: "1"}, prompt_tokens=10, cached_tokens=15)) == {"cache_read": (15, 1)}


def test_cached_tokens_are_taken_off_the_kind_they_are_of():
    found = price(
        {I: "1", AUDIO: "10", IMAGE: "100", CR: "0", CACHED_AUDIO: "5"},
        prompt_tokens=100, cached_tokens=30, cached_text_tokens=5, cached_audio_tokens=15, cached_image_tokens=10,
        text_tokens=20, audio_tokens=50, image_tokens=30,
    )  # fmt: skip

    assert lines(found) == {
        "text": (15, 1), "cache_read": (15, 0), "cache_read_audio": (15, 5), "audio": (35, 10), "image": (20, 100),
    }  # fmt: skip


def test_no_more_tokens_are_taken_off_than_were_cached():
    found = price(
        {I: "1", AUDIO: "10", IMAGE: "100", CR: "0"},
        prompt_tokens=90, cached_tokens=10, cached_audio_tokens=8, cached_text_tokens=8, cached_image_tokens=8,
        text_tokens=20, audio_tokens=30, image_tokens=30,
    )  # fmt: skip

    assert lines(found) == {
        "text": (18, 1), "cache_read": (2, 0), "cache_read_audio": (8, 0), "audio": (22, 10), "image": (30, 100),
    }  # fmt: skip


def test_counts_that_overlap_share_what_the_cache_left_of_the_prompt():
    found = price(
        {I: "1", AUDIO: "10", IMAGE: "100", VIDEO: "1000", CR: "0"},
        prompt_tokens=100, cached_tokens=40, text_tokens=100, audio_tokens=30, image_tokens=20, video_tokens=20,
    )  # fmt: skip

    assert lines(found) == {"cache_read": (40, 0), "audio": (30, 10), "image": (20, 100), "video": (10, 1000)}


@pytest.mark.parametrize("kind", ["audio", "image", "video"])
def test_counts_of_every_kind_may_overlap_with_the_cache(kind):
    entry = {I: "1", f"input_cost_per_{kind}_token": "10", CR: "0"}
    found = price(entry, prompt_tokens=10, cached_tokens=4, cache_write_tokens=2, **{f"{kind}_tokens": 5})

    assert lines(found) == {"cache_read": (4, 0), kind: (4, 10), "cache_write": (2, 1)}


def test_text_gets_what_the_other_kinds_leave():
    found = price({I: "1", AUDIO: "10", CR: "0"}, prompt_tokens=100, cached_tokens=40, text_tokens=100, audio_tokens=25)

    assert lines(found) == {"text": (35, 1), "cache_read": (40, 0), "audio": (25, 10)}


def test_counts_that_are_not_cached_are_taken_as_reported():
    assert lines(price({I: "1", AUDIO: "10"}, prompt_tokens=10, text_tokens=10, audio_tokens=5)) == {
        "text": (10, 1), "audio": (5, 10),
    }  # fmt: skip


def test_text_that_nobody_counted_is_the_rest_of_the_prompt():
    found = price({I: "1"}, prompt_tokens=10, audio_tokens=2, image_tokens=3, video_tokens=4)

    assert lines(found)["text"] == (1, 1)


def test_with_images_counted_text_is_what_was_reported():
    assert lines(price({I: "1", "input_cost_per_image": "7"}, prompt_tokens=10, images=1)) == {"images": (1, 7)}


# base and thresholds


def test_output_without_rate_costs_as_image_tokens_do():
    entry = {I: "1", "output_cost_per_image_token": "9"}

    assert lines(price(entry, completion_tokens=2)) == {"output": (2, 9)}
    assert lines(price({**entry, O: "0"}, completion_tokens=2)) == {"output": (2, 9)}
    assert lines(price({**entry, O: "1"}, completion_tokens=2)) == {"output": (2, 1)}


@pytest.mark.parametrize("size", ["32k", "32000"])
def test_a_threshold_is_crossed_above_it(size):
    above = {f"{I}_above_{size}_tokens": "4"}

    assert (at(32000, **above), at(32001, **above)) == (2, 4)


def test_xai_crosses_a_threshold_when_it_is_reached():
    entry = {**TEXT, f"{I}_above_32k_tokens": "4"}

    assert [lines(price(entry, "xai", prompt_tokens=p))["text"][1] for p in (31999, 32000)] == [2, 4]


def test_the_highest_threshold_crossed_reprices_the_whole_call():
    entry = {
        **TEXT, CR: "0.5", CW: "2.5",
        f"{I}_above_128k_tokens": "4", f"{O}_above_128k_tokens": "6", f"{CR}_above_128k_tokens": "1",
        f"{CW}_above_128k_tokens": "5", f"{I}_above_256k_tokens": "8",
    }  # fmt: skip
    used = {"cached_tokens": 1, "cache_write_tokens": 1, "completion_tokens": 1}

    between, above = (lines(price(entry, prompt_tokens=prompt, **used)) for prompt in (200_000, 300_000))

    assert between == {"text": (199_998, 4), "cache_read": (1, 1), "cache_write": (1, 5), "output": (1, 6)}
    assert above == {"text": (299_998, 8), "cache_read": (1, 1), "cache_write": (1, 5), "output": (1, 6)}


def test_thresholds_are_ordered_by_size_not_by_name():
    assert at(150_000, **{f"{I}_above_90k_tokens": "4", f"{I}_above_100k_tokens": "5"}) == 5


def test_a_threshold_has_rates_of_the_service_tier_where_stated():
    entry = {I: "2", f"{I}_priority": "3", f"{I}_above_1k_tokens": "4", f"{I}_above_1k_tokens_priority": "6",
             f"{I}_above_2k_tokens_priority": "7"}  # fmt: skip

    assert [price(entry, prompt_tokens=p, text_tokens=1).total for p in (1, 1001, 2001)] == [2, 4, 4]
    tiered = [price(entry, prompt_tokens=p, text_tokens=1, service_tier="priority").total for p in (1, 1001, 2001)]
    assert tiered == [3, 6, 7]
    assert price(entry, prompt_tokens=2001, text_tokens=1, service_tier="flex").total == 4


# cache


def test_missing_cache_rates_are_the_input_rate_that_holds():
    entry = {I: "2", f"{I}_above_1k_tokens": "4"}
    found = price(entry, prompt_tokens=2000, cached_tokens=1, cache_write_tokens=1)

    assert lines(found) == {"text": (1998, 4), "cache_read": (1, 4), "cache_write": (1, 4)}


@pytest.mark.parametrize(("tier", "read"), [("", "1"), ("priority", "1")])
def test_fireworks_reads_its_cache_at_half_where_it_states_no_rate(tier, read):
    found = price({I: "2", f"{I}_priority": "6"}, "fireworks_ai", prompt_tokens=5, cached_tokens=4, service_tier=tier)

    assert lines(found)["cache_read"] == (4, Decimal(read))


def test_fireworks_reads_its_cache_at_the_stated_rate():
    entry = {I: "2", CR: "0.1", f"{I}_above_1k_tokens": "4"}

    assert lines(price(entry, "fireworks_ai", prompt_tokens=5000, cached_tokens=4))["cache_read"] == (4, Decimal("0.1"))
    assert price({CR: "1"}, "fireworks_ai", prompt_tokens=5, cached_tokens=5).total == 5
    assert price({O: "1"}, "fireworks_ai", prompt_tokens=5, cached_tokens=5).status == "unpriced"


def test_half_of_input_is_for_models_of_fireworks_alone():
    found = price({I: "2"}, "fireworks_ai", source_provider="fireworks_ai-x", prompt_tokens=5, cached_tokens=5)

    assert lines(found) == {"cache_read": (5, 2)}


def test_fireworks_reads_at_half_of_the_off_peak_rate_in_off_peak_hours():
    used = {"prompt_tokens": 1, "cached_tokens": 1, "at": TUESDAY}
    all_day = {"hours_utc": "00:00-00:00"}

    with_input = price({I: "2", "off_peak_pricing": {**all_day, I: "1"}}, "fireworks_ai", **used)
    without = price({I: "2", "off_peak_pricing": {**all_day, O: "1"}}, "fireworks_ai", **used)
    stated = price({I: "2", "off_peak_pricing": {**all_day, CR: "0.3"}}, "fireworks_ai", **used)

    assert [found.total for found in (with_input, without, stated)] == [Decimal("0.5"), 1, Decimal("0.3")]


def written(entry, prompt=100, **used):
    found = price({I: "1", CW: "2", **entry}, prompt_tokens=prompt, **used)
    return {kind: line for kind, line in lines(found).items() if kind != "text"}


def test_writes_cost_by_their_time_to_live_and_the_rest_as_short_ones():
    used = {
        "cache_write_5m_tokens": 1,
        "cache_write_30m_tokens": 2,
        "cache_write_1h_tokens": 4,
        "cache_write_12h_tokens": 8,
    }

    assert written({CW_1H: "3", CW_12H: "5"}, cache_write_tokens=20, **used) == {
        "cache_write": (8, 2), "cache_write_1h": (4, 3), "cache_write_12h": (8, 5),
    }  # fmt: skip


def test_writes_by_time_to_live_cost_even_where_their_sum_was_not_reported():
    assert written({CW_1H: "3"}, cache_write_5m_tokens=2, cache_write_1h_tokens=4) == {
        "cache_write": (2, 2), "cache_write_1h": (4, 3),
    }  # fmt: skip


def test_long_writes_without_rate_cost_as_writes():
    used = {"cache_write_tokens": 3, "cache_write_1h_tokens": 1, "cache_write_12h_tokens": 2}

    assert written({}, **used) == {"cache_write_1h": (1, 2), "cache_write_12h": (2, 2)}


def test_long_writes_move_to_the_rate_above_a_threshold_only_if_it_is_stated_for_the_tier():
    entry = {CW_1H: "3", f"{CW_1H}_priority": "6", f"{CW_1H}_above_1k_tokens": "4", CW_12H: "5",
             f"{CW_12H}_above_1k_tokens_priority": "9"}  # fmt: skip
    used = {"cache_write_tokens": 2, "cache_write_1h_tokens": 1, "cache_write_12h_tokens": 1}

    below = written(entry, 1000, **used)
    above = written(entry, 1001, **used)
    priority = written(entry, 1001, service_tier="priority", **used)

    assert below == {"cache_write_1h": (1, 3), "cache_write_12h": (1, 5)}
    assert above == {"cache_write_1h": (1, 4), "cache_write_12h": (1, 5)}
    assert priority == {"cache_write_1h": (1, 6), "cache_write_12h": (1, 9)}


@pytest.mark.parametrize("name", [CW_1H, CW_12H])
def test_long_writes_of_a_tier_without_any_rate_of_its_own_stay_below_the_threshold(name):
    entry = {name: "3", f"{name}_above_1k_tokens": "4", f"{I}_above_1k_tokens": "2"}
    used = {"cache_write_1h_tokens": 1} if name == CW_1H else {"cache_write_12h_tokens": 1}
    (kind,) = (count.removesuffix("_tokens") for count in used)

    tiers = [written(entry, 1001, service_tier=tier, **used)[kind] for tier in ("", "auto", "priority", "flex")]

    assert tiers == [(1, 4), (1, 4), (1, 3), (1, 3)]


def test_a_rate_of_long_writes_alone_makes_a_threshold():
    assert written({CW_1H: "3", f"{CW_1H}_above_1k_tokens": "4"}, 1001, cache_write_1h_tokens=1)["cache_write_1h"] == (
        1,
        4,
    )


def explicit(entry, provider="openai", **used):
    call = {"prompt_tokens": 2, "cached_tokens": 2, "cache_type": "ephemeral", "at": TUESDAY, **used}
    return lines(price({I: "2", **entry}, provider, **call))["cache_read"][1]


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
def test_an_explicit_cache_is_read_at_its_own_rate(provider):
    assert explicit({CR: "1", EXPLICIT: "0.2"}, provider) == Decimal("0.2")
    assert explicit({CR: "1", EXPLICIT: "0.2"}, provider, cache_type="") == 1
    assert explicit({CR: "1"}, provider) == 1


def test_an_explicit_cache_has_rates_of_the_service_tier():
    entry = {CR: "1", EXPLICIT: "0.2", f"{EXPLICIT}_priority": "0.4"}

    assert explicit(entry, service_tier="priority") == Decimal("0.4")


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
def test_an_explicit_cache_is_read_at_the_rate_of_the_row(provider):
    row = {"range": ["0", "100"], I: "3"}

    def read(row, **entry):
        return explicit({"tiered_pricing": [row], **entry}, provider)

    assert read({**row, EXPLICIT: "0.3", CR: "1"}) == Decimal("0.3")
    assert read({**row, CR: "1"}, **{EXPLICIT: "0.2"}) == 1
    assert read(row, **{EXPLICIT: "0.2"}) == 3
    assert read(row, **{CR: "1"}) == 3


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
def test_an_explicit_cache_is_read_at_the_rate_of_open_off_peak_hours(provider):
    def read(block, **entry):
        return explicit({"off_peak_pricing": {"hours_utc": "00:00-00:00", **block}, **entry}, provider)

    assert read({EXPLICIT: "0.1", CR: "0.7"}, **{EXPLICIT: "0.2"}) == Decimal("0.1")
    assert read({CR: "0.7"}, **{EXPLICIT: "0.2"}) == Decimal("0.7")
    assert read({O: "1"}, **{EXPLICIT: "0.2"}) == Decimal("0.2")
    assert read({EXPLICIT: "0.1"}) == Decimal("0.1")


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
@pytest.mark.parametrize(("entry", "rate"), [({CR: "1"}, 1), ({}, 2)])
def test_an_explicit_rate_of_closed_hours_leaves_the_rates_of_any_cache(provider, entry, rate):
    block = {"hours_utc": "10:00-11:00", EXPLICIT: "0.1"}

    assert explicit({"off_peak_pricing": block, **entry}, provider) == rate


# modalities and other counts


def test_audio_image_and_video_tokens_have_rates_or_cost_as_text():
    used = {"prompt_tokens": 9, "audio_tokens": 1, "image_tokens": 2, "video_tokens": 3}

    own = lines(price({I: "1", AUDIO: "10", IMAGE: "20", VIDEO: "30"}, **used))
    none = lines(price({I: "1"}, **used))

    assert own == {"text": (3, 1), "audio": (1, 10), "image": (2, 20), "video": (3, 30)}
    assert none == {"text": (3, 1), "audio": (1, 1), "image": (2, 1), "video": (3, 1)}


def test_modalities_have_rates_of_the_service_tier_where_stated():
    entry = {I: "1", f"{I}_flex": "0.5", f"{AUDIO}_flex": "5", AUDIO: "10", IMAGE: "20"}
    found = price(entry, prompt_tokens=6, audio_tokens=1, image_tokens=2, video_tokens=3, service_tier="flex")

    assert lines(found) == {"audio": (1, 5), "image": (2, 20), "video": (3, Decimal("0.5"))}


def test_cached_audio_has_its_rate_of_the_service_tier_or_costs_as_cached_text():
    entry = {I: "1", CR: "0.5", CACHED_AUDIO: "7", f"{CACHED_AUDIO}_priority": "8"}
    used = {"prompt_tokens": 5, "cached_tokens": 3, "cached_audio_tokens": 2}

    assert lines(price(entry, **used))["cache_read_audio"] == (2, 7)
    assert lines(price(entry, service_tier="priority", **used))["cache_read_audio"] == (2, 8)
    assert lines(price({I: "1", CR: "0.5"}, **used))["cache_read_audio"] == (2, Decimal("0.5"))


def test_cached_audio_alone_has_no_line_of_cached_text():
    assert lines(price({I: "1"}, prompt_tokens=2, cached_tokens=2, cached_audio_tokens=2)) == {
        "cache_read_audio": (2, 1)
    }


def test_characters_replace_text_where_they_have_a_rate():
    used = {"prompt_tokens": 10, "characters": 40}

    assert lines(price({I: "1", "input_cost_per_character": "0.1"}, **used)) == {"characters": (40, Decimal("0.1"))}
    without = price({I: "1"}, **used)
    assert (lines(without), without.unrated) == ({"text": (10, 1)}, ("characters",))


@pytest.mark.parametrize(
    ("tokens", "counted", "field"),
    [
        ({"audio_tokens": 4}, {"audio_seconds": Decimal("1.5")}, "input_cost_per_audio_per_second"),
        ({"video_tokens": 4}, {"video_seconds": Decimal("1.5")}, "input_cost_per_video_per_second"),
        ({"image_tokens": 4}, {"images": 2}, "input_cost_per_image"),
    ],
)
def test_what_is_counted_in_units_with_a_rate_is_not_charged_in_tokens_again(tokens, counted, field):
    (kind,) = counted
    (token_kind,) = (name.removesuffix("_tokens") for name in tokens)
    used = {"prompt_tokens": 4, **tokens, **counted}

    assert lines(price({I: "1", field: "7"}, **used)) == {kind: (counted[kind], 7)}
    without = price({I: "1"}, **used)
    assert (lines(without), without.unrated) == ({token_kind: (4, 1)}, (kind,))


def test_queries_of_a_model_of_tokens_are_charged():
    assert lines(price({I: "1", "input_cost_per_query": "5"}, prompt_tokens=1, queries=2)) == {
        "text": (1, 1), "queries": (2, 5),
    }  # fmt: skip


# output


def test_reasoning_is_part_of_the_output():
    entry = {O: "3", REASONING: "5"}

    assert lines(price(entry, completion_tokens=10, reasoning_tokens=4)) == {"output": (6, 3), "reasoning": (4, 5)}


def test_output_of_other_kinds_has_rates_or_costs_as_output():
    used = {"completion_tokens": 10, "output_audio_tokens": 1, "output_image_tokens": 2, "output_video_tokens": 3}
    names = {
        f"output_cost_per_{kind}_token": rate for kind, rate in (("audio", "10"), ("image", "20"), ("video", "30"))
    }

    own, none = lines(price({O: "3", **names}, **used)), lines(price({O: "3"}, **used))

    assert own == {"output": (4, 3), "output_audio": (1, 10), "output_image": (2, 20), "output_video": (3, 30)}
    assert none == {"output": (4, 3), "output_audio": (1, 3), "output_image": (2, 3), "output_video": (3, 3)}


def test_reasoning_that_was_counted_in_the_text_too_is_taken_off_it():
    entry = {O: "3", REASONING: "5"}

    nested = price(entry, completion_tokens=10, output_text_tokens=10, reasoning_tokens=4)
    apart = price(entry, completion_tokens=10, output_text_tokens=6, reasoning_tokens=4)
    partly = price(entry, completion_tokens=10, output_text_tokens=8, reasoning_tokens=4)

    assert lines(nested) == lines(apart) == lines(partly) == {"output": (6, 3), "reasoning": (4, 5)}


@pytest.mark.parametrize("kind", ["audio", "image", "video"])
def test_other_kinds_of_output_show_that_reasoning_was_counted_twice(kind):
    entry = {O: "3", REASONING: "5"}
    found = price(entry, completion_tokens=10, output_text_tokens=7, reasoning_tokens=2, **{f"output_{kind}_tokens": 3})

    assert lines(found) == {"output": (5, 3), "reasoning": (2, 5), f"output_{kind}": (3, 3)}


def test_text_that_is_all_reasoning_leaves_the_rest_of_the_output():
    found = price({O: "3", REASONING: "5"}, completion_tokens=5, output_text_tokens=3, reasoning_tokens=5)

    assert lines(found) == {"reasoning": (5, 5)}


@pytest.mark.parametrize(
    ("tier", "rate"),
    [("", 5), ("priority", 6), ("flex", 1), ("balanced", 5)],
)
def test_the_reasoning_rate_of_a_service_tier_is_its_own_else_its_output_rate_else_the_plain_one(tier, rate):
    entry = {O: "3", REASONING: "5", f"{REASONING}_priority": "6", f"{O}_priority": "4", f"{O}_flex": "1",
             f"{I}_balanced": "1"}  # fmt: skip

    assert lines(price(entry, completion_tokens=1, reasoning_tokens=1, service_tier=tier)) == {"reasoning": (1, rate)}


def test_reasoning_without_rate_costs_as_output_that_holds():
    entry = {I: "1", O: "3", f"{O}_above_1k_tokens": "4"}

    assert lines(price(entry, prompt_tokens=1001, completion_tokens=1, reasoning_tokens=1))["reasoning"] == (1, 4)


# tier tables

TABLE = [
    {"range": ["32", "64"], I: "3", O: "30", CR: "0.3", CW: "3.5", CW_1H: "3.6"},
    {"range": ["0", "32"], I: "2"},
]


@pytest.mark.parametrize(("prompt", "rate"), [(1, 2), (32, 2), (33, 3), (64, 3), (65, 3), (9999, 3)])
def test_a_row_of_a_tier_table_prices_the_whole_prompt(prompt, rate):
    assert lines(price({"tiered_pricing": TABLE}, prompt_tokens=prompt)) == {"text": (prompt, rate)}


def test_a_row_has_its_own_rates_else_its_input_rate_else_the_output_rate_of_the_price():
    entry = {"tiered_pricing": TABLE, I: "90", O: "9", CR: "80", CW: "70", CW_1H: "60", f"{I}_above_1_tokens": "50"}
    used = {"cached_tokens": 1, "cache_write_tokens": 3, "cache_write_1h_tokens": 1, "cache_write_12h_tokens": 1}

    low = lines(price(entry, prompt_tokens=10, completion_tokens=1, **used))
    high = lines(price(entry, prompt_tokens=40, completion_tokens=1, **used))

    assert low == {
        "text": (6, 2), "cache_read": (1, 2), "cache_write": (1, 2), "cache_write_1h": (1, 2), "cache_write_12h": (1, 2),
        "output": (1, 9),
    }  # fmt: skip
    assert high == {
        "text": (36, 3), "cache_read": (1, Decimal("0.3")), "cache_write": (1, Decimal("3.5")),
        "cache_write_1h": (1, Decimal("3.6")), "cache_write_12h": (1, Decimal("3.5")), "output": (1, 30),
    }  # fmt: skip


def test_without_a_prompt_a_tier_table_does_not_hold():
    assert lines(price({"tiered_pricing": TABLE, O: "9"}, completion_tokens=1)) == {"output": (1, 9)}


def test_a_row_without_input_rate_leaves_the_rest_of_the_price():
    entry = {"tiered_pricing": [{"range": ["0", "10"], O: "4"}, {"range": ["10", "20"], I: "5"}], I: "1"}

    assert [lines(price(entry, prompt_tokens=prompt))["text"][1] for prompt in (5, 15)] == [1, 5]


def test_reasoning_in_a_row_has_its_rate_else_the_output_rate_of_the_row_else_of_the_price():
    def rate(**row):
        entry = {"tiered_pricing": [{"range": ["0", "9"], I: "1", **row}], O: "3", REASONING: "5"}
        return lines(price(entry, prompt_tokens=1, completion_tokens=1, reasoning_tokens=1))["reasoning"][1]

    assert (rate(**{REASONING: "7", O: "6"}), rate(**{O: "6"}), rate()) == (7, 6, 5)


def test_a_row_without_range_is_no_row():
    assert lines(price({"tiered_pricing": [{I: "9"}], I: "1"}, prompt_tokens=5)) == {"text": (5, 1)}


def test_modalities_of_a_tier_table_have_the_rates_of_the_price():
    entry = {"tiered_pricing": TABLE, AUDIO: "7", f"{AUDIO}_flex": "6"}

    assert lines(price(entry, prompt_tokens=5, audio_tokens=5)) == {"audio": (5, 7)}
    assert lines(price(entry, prompt_tokens=5, audio_tokens=5, service_tier="flex")) == {"audio": (5, 6)}
    assert lines(price(entry, prompt_tokens=5, image_tokens=5)) == {"image": (5, 2)}


def test_the_line_of_a_row_names_its_place():
    found = price({"tiered_pricing": TABLE}, prompt_tokens=40)

    assert found.lines[0].field == f"tiered_pricing[0].{I}"


@pytest.mark.parametrize(
    "table",
    ["text", [5], [{"range": "0-5"}], [{"range": ["0"]}], [{"range": ["0", "x"]}], [{"range": ["0", "9"], I: "x"}]],
)
def test_a_tier_table_that_is_none_is_refused(table):
    from catalog.errors import BadRate

    with pytest.raises(BadRate, match="tiered_pricing"):
        price({"tiered_pricing": table})
