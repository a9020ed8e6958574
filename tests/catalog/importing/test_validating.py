from __future__ import annotations

import json

import pytest

from catalog.importing import parse
from catalog.importing.validating import ERRORS, WARNINGS
from tests.catalog.importing.files import chat, dump

KEY = "gpt-test"


def issues(value, key=KEY):
    """(code, field) of what is wrong with one entry, beside a good one."""
    parsed = parse(dump({"good": chat(), key: value}), "p.json")
    assert "good" in parsed.entries
    assert {issue.key for issue in parsed.issues} <= {key}
    return [(issue.code, issue.field) for issue in parsed.issues]


def harmless(text):
    """Whether text does no harm in the database and on a terminal."""
    return text.encode("utf-8", "replace").decode() == text and text.isprintable()


def tiers(*rows, **other):
    return chat(tiered_pricing=list(rows), **other)


def tier(start, end, **rates):
    return {"range": [start, end], "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, **rates}


def off_peak(**block):
    return chat(off_peak_pricing={"input_cost_per_token": 1e-07, **block})


BLOCKED = [
    ("text", "not_an_object", ""),
    (None, "not_an_object", ""),
    ([chat()], "not_an_object", ""),
    (chat(litellm_provider=None), "missing_provider", "litellm_provider"),
    (chat(litellm_provider=5), "missing_provider", "litellm_provider"),
    (chat(litellm_provider=""), "missing_provider", "litellm_provider"),
    (chat(litellm_provider="Open AI"), "missing_provider", "litellm_provider"),
    (chat(litellm_provider="o" * 65), "missing_provider", "litellm_provider"),
    (chat(input_cost_per_token="2.5e-06"), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token="cheap"), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token=True), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token=[1]), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token={"a": 1}), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token=float("nan")), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token=float("inf")), "bad_rate", "input_cost_per_token"),
    (chat(input_cost_per_token=float("-inf")), "bad_rate", "input_cost_per_token"),
    (chat(output_cost_per_image=1e10), "bad_rate", "output_cost_per_image"),
    (chat(made_up_cost="see page"), "bad_rate", "made_up_cost"),
    (chat(made_up_cost=True), "bad_rate", "made_up_cost"),
    (tiers(tier(0, 10, input_cost_per_token="cheap")), "bad_rate", "tiered_pricing[0].input_cost_per_token"),
    (tiers(tier(0, 10, output_cost_per_token=[1e-06])), "bad_rate", "tiered_pricing[0].output_cost_per_token"),
    (off_peak(hours_utc="22:00-06:00", output_cost_per_token="cheap"), "bad_rate", "off_peak_pricing.output_cost_per_token"),
    (chat(search_context_cost_per_query=[0.01]), "bad_rate", "search_context_cost_per_query"),
    (chat(web_search_billing_unit=5), "bad_rate", "web_search_billing_unit"),
    (chat(web_search_billing_unit="5"), "bad_rate", "web_search_billing_unit"),
    (chat(search_context_cost_per_query=0.01), "bad_rate", "search_context_cost_per_query"),
    (
        chat(search_context_cost_per_query={"search_context_size_low": "low"}),
        "bad_rate", "search_context_cost_per_query.search_context_size_low",
    ),
    (chat(provider_specific_entry={"fast": "6"}), "bad_rate", "provider_specific_entry.fast"),
    (chat(provider_specific_entry={"fast": True}), "bad_rate", "provider_specific_entry.fast"),
    (tiers(tier(0, 1000, input_cost_per_token="1e-6")), "bad_rate", "tiered_pricing[0].input_cost_per_token"),
    (chat(input_cost_per_token=-1e-06), "negative_rate", "input_cost_per_token"),
    (chat(regional_endpoint_uplift_multiplier=-1), "negative_rate", "regional_endpoint_uplift_multiplier"),
    (off_peak(hours_utc="00:00-06:00", output_cost_per_token=-1), "negative_rate", "off_peak_pricing.output_cost_per_token"),
    (chat(input_cost_per_token=1e-31), "too_many_places", "input_cost_per_token"),
    (chat(tiered_pricing=[]), "bad_tier_table", "tiered_pricing"),
    (chat(tiered_pricing=["a"]), "bad_tier_table", "tiered_pricing"),
    (tiers(tier(0, 1000), {"input_cost_per_token": 1e-06}), "bad_tier_table", "tiered_pricing[1]"),
    (tiers(tier(1000, 0)), "bad_tier_table", "tiered_pricing[0]"),
    (tiers(tier(0, True)), "bad_tier_table", "tiered_pricing[0]"),
    (tiers({"range": [0], "input_cost_per_token": 1e-06}), "bad_tier_table", "tiered_pricing[0]"),
    (tiers(tier(1000, 2000)), "bad_tier_table", "tiered_pricing"),
    (tiers(tier(0, 1000), tier(2000, 3000)), "bad_tier_table", "tiered_pricing"),
    (tiers(tier(0, 2000), tier(1000, 3000)), "bad_tier_table", "tiered_pricing"),
    (tiers(tier(0, 1000), tier(1000, 2000), tier(0, 1000)), "bad_tier_table", "tiered_pricing"),
    (chat(off_peak_pricing={"input_cost_per_token": 1e-07}), "bad_window", "off_peak_pricing"),
    (off_peak(hours_utc="9-17"), "bad_window", "off_peak_pricing.hours_utc"),
    (off_peak(hours_utc="24:00-25:00"), "bad_window", "off_peak_pricing.hours_utc"),
    (off_peak(hours_utc=[]), "bad_window", "off_peak_pricing.hours_utc"),
    (off_peak(windows="always"), "bad_window", "off_peak_pricing.windows"),
    (off_peak(windows=[{"weekdays": [1]}]), "bad_window", "off_peak_pricing.windows[0].hours_utc"),
    (off_peak(windows=[{"hours_utc": "00:00-00:00", "weekdays": [8]}]), "bad_window", "off_peak_pricing.windows[0].weekdays"),
    (off_peak(hours_utc="00:00-06:00", weekday_timezone="Mars/Base"), "bad_window", "off_peak_pricing.weekday_timezone"),
    (chat(mode="m" * 65), "name_too_long", "mode"),
    (chat(description="a\x00b"), "bad_value", "description"),
    (chat(description={"deep": ["\ud800"]}), "bad_value", "description"),
    (chat(max_tokens=float("nan")), "bad_value", "max_tokens"),
    (chat(**{"\x1b[2Jname": "a\x00b"}), "bad_value", "\\x1b[2Jname"),
    (chat(notes="n" * 70_000), "too_large", ""),
    (chat(**{f"supports_{n}_{'x' * 60}": True for n in range(1000)}), "too_large", ""),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code", "field"), BLOCKED)
def test_an_error_blocks_its_entry_alone_and_names_the_field(value, code, field):
    parsed = parse(dump({"good": chat(), KEY: value}), "p.json")
    errors = [issue for issue in parsed.issues if issue.severity == "error"]

    assert (code, field) in [(issue.code, issue.field) for issue in errors]
    assert set(parsed.entries) == {"good"}
    assert parsed.blocked == {KEY}
    assert json.loads("{" + errors[0].entry + "}").keys() == {KEY}


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("", chat(), "missing_name"),
        ("openai/", chat(), "missing_name"),
        ("k" * 201, chat(), "name_too_long"),
        ("a\x00b", chat(), "bad_value"),
        ("half\ud800", chat(), "bad_value"),
        ("\x1b[2Jclear", chat(), "bad_value"),
    ],
)
def test_a_key_that_cannot_be_one_is_an_error(key, value, code):
    parsed = parse(dump({"good": chat(), key: value}), "p.json")

    assert [issue.code for issue in parsed.issues] == [code]
    assert all(harmless(text) for issue in parsed.issues for text in (issue.key, issue.field, issue.value))


def test_a_number_that_nothing_can_hold_is_an_error():
    text = """{"good": {"litellm_provider": "x"}, "m": {"litellm_provider": "x", "weight": 1e99999},
        "n": {"litellm_provider": "x", "input_cost_per_token": 1e9999999999999999999}}"""

    parsed = parse(text.encode(), "p.json")

    assert [(issue.key, issue.code) for issue in parsed.issues if issue.severity == "error"] == [
        ("m", "bad_value"), ("n", "bad_value"), ("n", "bad_rate"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", ["1e999999999", "1e99999999999999999999"])
def test_a_number_that_nothing_can_hold_in_a_table_is_shown_as_it_is_written(number):
    table = f'"tiered_pricing": [{{"range": [0, {number}]}}, {{}}]'
    parsed = parse(f'{{"m": {{"litellm_provider": "openai", {table}}}}}'.encode(), "p.json")

    assert "bad_value" in {issue.code for issue in parsed.issues}
    assert max(len(issue.value) for issue in parsed.issues) < 100


@pytest.mark.parametrize("levels", [51, 300, 600])
@pytest.mark.parametrize("name", ["m", "sample_spec"])
def test_an_entry_that_is_nested_too_deeply_is_an_error(levels, name):
    nested = '{"a":' * (levels - 1) + "[]" + "}" * (levels - 1)
    parsed = parse(f'{{"good": {dump(chat()).decode()}, "{name}": {{"about": {nested}}}}}'.encode(), "p.json")

    assert list(parsed.entries) == ["good"]
    assert [issue.code for issue in parsed.issues] == ["bad_value"]


def test_an_entry_of_fifty_levels_is_taken():
    nested = '{"a":' * 48 + "[]" + "}" * 48
    parsed = parse(f'{{"m": {{"litellm_provider": "openai", "about": {nested}}}}}'.encode(), "p.json")

    assert list(parsed.entries) == ["m"]


def test_a_number_of_thousands_of_digits_is_an_error_and_a_text_of_them_is_none():
    long = "1." + "0" * 5000
    text = f'{{"m": {{"litellm_provider": "x", "weight": {long}}}, "n": {{"litellm_provider": "x", "note": "{long}"}}}}'

    parsed = parse(text.encode(), "p.json")

    assert [(issue.key, issue.code, issue.field) for issue in parsed.issues] == [("m", "bad_value", "weight")]
    assert parsed.entries["n"].columns["extra"] == {"note": long}


def test_a_file_that_repeats_a_name_among_very_many_is_read_in_no_time():
    fields = ", ".join(f'"f{n}": 1' for n in range(100_000))

    parsed = parse(f'{{"m": {{"litellm_provider": "x", {fields}, "f7": 2}}}}'.encode(), "p.json")

    assert ("duplicate_key", "f7") in [(issue.code, issue.field) for issue in parsed.issues]


def test_a_key_that_is_there_twice_is_taken_from_neither_and_both_lines_are_named():
    text = b'{\n"a": {"litellm_provider": "x"},\n"b": {"litellm_provider": "x"},\n"a": {"litellm_provider": "y"}\n}'

    parsed = parse(text, "p.json")

    assert [(issue.key, issue.code, issue.line) for issue in parsed.issues] == [
        ("a", "duplicate_key", 2), ("a", "duplicate_key", 4),
    ]  # fmt: skip
    assert set(parsed.entries) == {"b"}


def test_a_field_that_is_there_twice_is_named_with_its_line():
    text = b'{\n"a": {\n"litellm_provider": "x",\n"mode": "chat",\n"mode": "chat"}, "b": {"litellm_provider": "x"}}'

    [issue] = parse(text, "p.json").issues

    assert (issue.key, issue.code, issue.field, issue.line) == ("a", "duplicate_key", "mode", 5)


def test_a_field_within_a_table_that_is_there_twice_is_seen():
    text = b'{"a": {"litellm_provider": "x", "provider_specific_entry": {"us": 1.1, "us": 1.2}}, "b": {"litellm_provider": "x"}}'

    assert [(issue.code, issue.field) for issue in parse(text, "p.json").issues] == [("duplicate_key", "us")]


def test_keys_that_differ_in_case_alone_are_taken_from_neither():
    parsed = parse(dump({"GPT": chat(), "gpt": chat(), "other": chat()}), "p.json")

    assert [(issue.key, issue.code) for issue in parsed.issues] == [("GPT", "key_collision"), ("gpt", "key_collision")]
    assert set(parsed.entries) == {"other"}


WARNED = [
    (chat(mode="telepathy"), "unknown_mode", "mode"),
    (chat(input_cost_per_request=0.005), "unknown_price_field", "input_cost_per_request"),
    (chat(input_dbu_cost_per_token=1e-06), "unknown_price_field", "input_dbu_cost_per_token"),
    (chat(new_cost_table={"a": 1, "by": "size"}), "unknown_price_field", "new_cost_table"),
    (chat(deprecation_date="soon"), "bad_deprecation_date", "deprecation_date"),
    (chat(deprecation_date="2027-02-30"), "bad_deprecation_date", "deprecation_date"),
    (chat(deprecation_date="20270203"), "bad_deprecation_date", "deprecation_date"),
    (chat(deprecation_date=20270203), "bad_deprecation_date", "deprecation_date"),
    (tiers({"range": [0, 9], "input_cost_per_token": 0}, output_cost_per_token=None), "tier_without_output", "tiered_pricing"),
    (chat(input_cost_per_token=2.5), "suspicious_unit", "input_cost_per_token"),
    (tiers(tier(0, 1000, input_cost_per_token=0.5)), "suspicious_unit", "tiered_pricing[0].input_cost_per_token"),
    (chat(max_tokens="many"), "wrong_type", "max_tokens"),
    (chat(max_tokens="8192"), "wrong_type", "max_tokens"),
    (chat(max_tokens=8192.5), "wrong_type", "max_tokens"),
    (chat(max_tokens=-1), "wrong_type", "max_tokens"),
    (chat(max_tokens=10**19), "wrong_type", "max_tokens"),
    (chat(output_vector_size=2**31), "wrong_type", "output_vector_size"),
    (chat(supports_vision="yes"), "wrong_type", "supports_vision"),
    (chat(supported_endpoints="/v1/chat"), "wrong_type", "supported_endpoints"),
    (chat(supported_modalities=["text", 5]), "wrong_type", "supported_modalities"),
    (chat(supported_modalities=["m" * 33]), "wrong_type", "supported_modalities"),
    (chat(source="the price page"), "wrong_type", "source"),
    (chat(source="javascript:alert(1)"), "wrong_type", "source"),
    (chat(mode=5), "wrong_type", "mode"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code", "field"), WARNED)
def test_a_warning_is_told_and_the_entry_taken_with_all_it_says(value, code, field):
    parsed = parse(dump({KEY: value}), "p.json")

    assert [(issue.code, issue.severity, issue.field) for issue in parsed.issues] == [(code, "warning", field)]
    assert KEY in parsed.entries


@pytest.mark.parametrize(
    "value",
    [
        chat(),
        {"litellm_provider": "openai"},
        chat(input_cost_per_token=0, output_cost_per_token=0.0),
        chat(input_cost_per_token=1e-30),
        chat(cache_read_input_token_cost=None, supports_vision=None),
        tiers(tier(0, 1000), tier(1000, 2000.0)),
        tiers({"range": [0, 9], "input_cost_per_token": 1e-06}, mode="embedding", output_cost_per_token=None),
        chat(
            mode="search",
            tiered_pricing=[
                {"max_results_range": [0, 25], "input_cost_per_query": 0.005},
                {"max_results_range": [26, 100], "input_cost_per_query": 0.025},
            ],
        ),
        off_peak(hours_utc="16:30-00:30"),
        off_peak(
            windows=[{"hours_utc": ["00:00-01:00", "04:00-06:00"], "weekdays": [1, "Tuesday", "wed"]}],
            weekday_timezone="Asia/Shanghai",
        ),
        chat(provider_specific_entry={"us": 1.1, "schema": "titan_v2", "frames": {"16:9": "864x496"}}),
        chat(web_search_billing_unit="per_query", google_maps_grounding_cost_per_query=0.014),
        chat(output_cost_per_image_1024=0.1, output_cost_per_second_1080p=0.2),
    ],
)
def test_an_entry_in_order_has_no_issue(value):
    assert issues(value) == []


def test_null_in_a_price_field_is_no_rate_and_no_error():
    text = b'{"m": {"litellm_provider": "x", "input_cost_per_token": null, "tiered_pricing": null, "off_peak_pricing": null}}'

    parsed = parse(text, "p.json")

    assert parsed.issues == ()
    assert parsed.entries["m"].rates == {"input_cost_per_token": None, "tiered_pricing": None, "off_peak_pricing": None}


def test_an_issue_names_the_line_of_its_field():
    parsed = parse(dump({"good": chat(), KEY: chat(input_cost_per_token=-1)}), "p.json")

    [issue] = parsed.issues

    assert (
        dump({"good": chat(), KEY: chat(input_cost_per_token=-1)})
        .splitlines()[issue.line - 1]
        .strip()
        .startswith(b'"input_cost_per_token": -1')
    )
    assert str(issue).startswith(f"line {issue.line}: negative_rate: gpt-test: input_cost_per_token is -1")


def test_every_code_is_tried():
    told = {code for _, code, _ in BLOCKED + WARNED} | {"missing_name", "duplicate_key", "key_collision"}

    assert set(ERRORS) | set(WARNINGS) == told | {"alias_taken", "unknown_model"}  # these two need the database
