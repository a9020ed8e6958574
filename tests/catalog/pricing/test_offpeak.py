"""Hours with rates of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from catalog.errors import BadRate, UsageError
from catalog.pricing import worst_case
from catalog.pricing.offpeak import read_off_peak
from tests.catalog.pricing.bills import CR, CW, CW_1H, REASONING, TUESDAY, I, O, lines, price


def is_open(block, *clock, day=0, zone=UTC):
    at = datetime(2026, 11, 16 + day, *clock, tzinfo=zone)  # day 0 is a Monday
    return read_off_peak(block).is_open(at)


@pytest.mark.parametrize(
    ("hours", "minutes_open"),
    [
        ("08:00-10:00", {"08:00", "09:59"}),
        ("22:00-02:00", {"22:00", "23:59", "00:00", "01:59"}),
        ("00:00-00:00", {"00:00", "01:59", "02:00", "08:00", "09:59", "10:00", "22:00", "23:59"}),
        ("22:00-00:00", {"22:00", "23:59"}),
        (["08:00-09:00", " 9:00 - 10:00 "], {"08:00", "09:59"}),
        ([], set()),
        (None, set()),
    ],
)
def test_hours_begin_in_and_end_out_and_pass_midnight(hours, minutes_open):
    tried = {"00:00", "01:59", "02:00", "08:00", "09:59", "10:00", "22:00", "23:59"}

    found = {text for text in tried if is_open({"hours_utc": hours}, *map(int, text.split(":")))}

    assert found == minutes_open


def test_hours_are_of_utc_wherever_the_call_was_made():
    east = timezone(timedelta(hours=8))

    assert is_open({"hours_utc": "08:00-10:00"}, 16, 30, zone=east)
    assert not is_open({"hours_utc": "08:00-10:00"}, 9, 0, zone=east)


@pytest.mark.parametrize("days", [[1, 7], ["1", "7"], ["mon", "Sunday"], [" MON ", "sun"], (1, "sun")])
def test_windows_hold_on_their_weekdays(days):
    block = {"windows": [{"hours_utc": "00:00-00:00", "weekdays": days}]}

    assert [is_open(block, 12, day=day) for day in range(7)] == [True, False, False, False, False, False, True]


def test_a_window_without_weekdays_holds_on_all():
    block = {"hours_utc": "01:00-02:00", "windows": [{"hours_utc": "08:00-10:00"}, {"weekdays": [1]}]}

    assert all(is_open(block, 8, day=day) and is_open(block, 1, day=day) for day in range(7))
    assert not is_open(block, 12)


def test_weekdays_are_those_of_the_named_calendar():
    block = {"weekday_timezone": "Asia/Shanghai", "windows": [{"hours_utc": "15:00-17:00", "weekdays": [2]}]}

    assert not is_open(block, 15, 59)
    assert is_open(block, 16)  # it is Tuesday in Shanghai
    assert is_open({**block, "weekday_timezone": ""}, 16, day=1)


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ("always", "off_peak_pricing"),
        ({"hours_utc": "8-10"}, "hours_utc"),
        ({"hours_utc": "08:00-24:00"}, "hours_utc"),
        ({"hours_utc": [8]}, "hours_utc"),
        ({"hours_utc": True}, "hours_utc"),
        ({"hours_utc": {"08:00-10:00": 1}}, "hours_utc"),
        ({"windows": ["08:00-10:00"]}, "windows"),
        ({"windows": True}, "windows"),
        ({"windows": {"hours_utc": "08:00-10:00"}}, "windows"),
        ({"windows": [{"hours_utc": "08:00-10:00", "weekdays": "mon"}]}, "weekdays"),
        ({"windows": [{"hours_utc": "08:00-10:00", "weekdays": [0]}]}, "weekdays"),
        ({"windows": [{"hours_utc": "08:00-10:00", "weekdays": [True]}]}, "weekdays"),
        ({"windows": [{"hours_utc": "08:00-10:00", "weekdays": ["mo"]}]}, "weekdays"),
        ({"weekday_timezone": "Mars/Olympus"}, "weekday_timezone"),
        ({"weekday_timezone": "/etc/passwd"}, "weekday_timezone"),
        ({"weekday_timezone": 8}, "weekday_timezone"),
        ({"hours_utc": "08:00-10:00", I: "x"}, I),
    ],
)
def test_hours_that_are_none_are_refused(block, named):
    with pytest.raises(BadRate, match=named):
        price({"off_peak_pricing": block})


OPEN, CLOSED = {"hours_utc": "00:00-01:00"}, {"hours_utc": "12:00-13:00"}
USED = {
    "prompt_tokens": 10, "cached_tokens": 1, "cache_write_tokens": 2, "cache_write_1h_tokens": 1, "completion_tokens": 5,
    "reasoning_tokens": 1, "at": TUESDAY,
}  # fmt: skip


def test_open_hours_replace_the_rates_they_state():
    entry = {I: "2", O: "3", CR: "1", CW: "4"}
    block = {I: "0.2", O: "0.3", CR: "0.1", CW: "0.4", REASONING: "0.5"}

    closed, opened = (lines(price({**entry, "off_peak_pricing": {**h, **block}}, **USED)) for h in (CLOSED, OPEN))

    assert {kind: rate for kind, (_, rate) in closed.items()} == {
        "text": 2, "cache_read": 1, "cache_write": 4, "cache_write_1h": 4, "output": 3, "reasoning": 3,
    }  # fmt: skip
    assert {kind: str(rate) for kind, (_, rate) in opened.items()} == {
        "text": "0.2", "cache_read": "0.1", "cache_write": "0.4", "cache_write_1h": "0.4", "output": "0.3",
        "reasoning": "0.5",
    }  # fmt: skip


def test_open_hours_leave_the_rates_they_do_not_state():
    entry = {I: "2", O: "3", CR: "1", CW_1H: "6", REASONING: "5", "off_peak_pricing": {**OPEN, O: "0.3"}}

    assert {kind: rate for kind, (_, rate) in lines(price(entry, **USED)).items()} == {
        "text": 2, "cache_read": 1, "cache_write": 2, "cache_write_1h": 6, "output": Decimal("0.3"), "reasoning": 5,
    }  # fmt: skip


def test_missing_cache_rates_are_the_input_rate_of_open_hours():
    entry = {I: "2", O: "3", "off_peak_pricing": {**OPEN, I: "0.2"}}
    found = lines(price(entry, **USED))

    assert found["cache_read"] == (1, Decimal("0.2"))
    assert found["cache_write"] == (1, Decimal("0.2"))


def test_open_hours_win_over_thresholds_and_rows():
    block = {"off_peak_pricing": {**OPEN, I: "0.2"}}
    threshold = {I: "2", f"{I}_above_1k_tokens": "4", **block}
    table = {"tiered_pricing": [{"range": ["0", "9"], I: "5"}], **block}

    for entry in (threshold, table):
        assert lines(price(entry, prompt_tokens=2000, at=TUESDAY))["text"] == (2000, Decimal("0.2"))


def test_missing_cache_rates_of_a_row_are_the_input_rate_of_the_row_in_open_hours_too():
    entry = {"tiered_pricing": [{"range": ["0", "9"], I: "5"}], O: "1", "off_peak_pricing": {**OPEN, I: "0.2"}}

    assert lines(price(entry, **USED))["cache_read"] == (1, 5)


@pytest.mark.parametrize("provider", ["openai", "dashscope", "perplexity", "xai"])
def test_a_price_that_depends_on_the_hour_needs_the_time(provider):
    with pytest.raises(UsageError) as refused:
        price({I: "2", "off_peak_pricing": {**OPEN, I: "1"}}, provider, prompt_tokens=1)

    assert refused.value.code == "missing_time"


def test_a_batch_knows_no_off_peak_hours():
    assert price({I: "2", "off_peak_pricing": {**OPEN, I: "0.2"}}, prompt_tokens=1, batch=True).total == 1


def test_the_worst_case_of_a_price_that_depends_on_the_hour_needs_the_time():
    from catalog.pricing import Rates

    rates = Rates.from_entry({I: "2", O: "1", "off_peak_pricing": {**OPEN, I: "1"}}, "openai")

    with pytest.raises(UsageError, match="at"):
        worst_case(rates, prompt_tokens=1, max_output_tokens=1)
    assert worst_case(rates, prompt_tokens=1, max_output_tokens=1, at=TUESDAY).total == 2
