from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.errors import PolicyError
from policies.periods import window
from policies.windows import KINDS

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Asia/Beirut",  # at midnight
    "America/St_Johns",  # a minute past midnight, until 2011
    "America/Havana",  # 01:00 becomes 00:00
    "Pacific/Apia",  # 30 December 2011 never was
    "Asia/Kathmandu",  # never, and a quarter of an hour off
]
MICROSECOND = timedelta(microseconds=1)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("UTC", utc(2026, 4, 1)),
        ("Europe/Berlin", utc(2026, 3, 31, 22)),
        ("America/New_York", utc(2026, 4, 1, 4)),
        ("Australia/Lord_Howe", utc(2026, 3, 31, 13)),
        ("Asia/Kathmandu", utc(2026, 3, 31, 18, 15)),
        ("Pacific/Apia", utc(2026, 3, 31, 11)),
    ],
)
def test_a_month_begins_at_local_midnight_of_its_first_day(zone, start):
    before, after = window("month", zone, start - MICROSECOND), window("month", zone, start)

    assert (before.label, before.end) == ("2026-03-01", start)
    assert (after.label, after.start) == ("2026-04-01", start)


def test_up_to_an_hour_the_grid_is_that_of_utc():
    at = utc(2026, 3, 10, 12, 34, 56, 7)

    assert window("1s", "Asia/Kathmandu", at).label == "2026-03-10T12:34:56Z"
    assert window("10s", "Asia/Kathmandu", at).label == "2026-03-10T12:34:50Z"
    assert window("1m", "Asia/Kathmandu", at).label == "2026-03-10T12:34:00Z"
    assert window("1h", "Asia/Kathmandu", at) == window("hour", "UTC", at)
    assert window("1h", "Asia/Kathmandu", at).end == utc(2026, 3, 10, 13)


def test_a_day_of_a_clock_change_is_an_hour_shorter_or_longer():
    spring, autumn = (window("day", "Europe/Berlin", at) for at in (utc(2026, 3, 29, 12), utc(2026, 10, 25, 12)))

    assert spring.end - spring.start == timedelta(hours=23)
    assert autumn.end - autumn.start == timedelta(hours=25)


def test_a_day_whose_midnight_is_skipped_begins_at_its_first_instant():
    found = window("day", "Asia/Beirut", utc(2022, 3, 27, 12))  # 00:00 became 01:00

    assert (found.label, found.start) == ("2022-03-27", utc(2022, 3, 26, 22))


def test_of_two_midnights_the_earlier_begins_the_day():
    havana = window("day", "America/Havana", utc(2026, 11, 1, 12))
    newfoundland = window("day", "America/St_Johns", utc(2010, 11, 7, 2, 45))  # 23:15 again, after 00:00 was

    assert havana.start == utc(2026, 11, 1, 4)
    assert (newfoundland.label, newfoundland.start) == ("2010-11-07", utc(2010, 11, 7, 2, 30))


def test_a_day_that_never_was_takes_no_time():
    before, after = (window("day", "Pacific/Apia", utc(2011, 12, 30, hour)) for hour in (9, 10))

    assert before.end == after.start == utc(2011, 12, 30, 10)
    assert (before.label, after.label) == ("2011-12-29", "2011-12-31")


def test_a_week_and_a_month_begin_on_their_anchor():
    at = utc(2026, 3, 10, 12)  # a Tuesday

    assert window("week", "UTC", at).label == "2026-03-09"
    assert window("week", "UTC", at, anchor=3).label == "2026-03-04"
    assert window("month", "UTC", at, anchor=10).label == "2026-03-10"
    assert window("month", "UTC", at, anchor=28).label == "2026-02-28"
    assert window("month", "UTC", utc(2026, 1, 5), anchor=15).label == "2025-12-15"


@pytest.mark.parametrize("kind", ["none", "total"])
def test_a_window_without_bounds_holds_always(kind):
    found = window(kind, "UTC", utc(2026, 3, 10))

    assert (found.start, found.end, found.label) == (None, None, "")


def test_a_zone_or_kind_that_is_not_known_is_said_so():
    with pytest.raises(PolicyError) as refused:
        window("day", "Mars/Olympus", utc(2026, 3, 10))
    with pytest.raises(ValueError, match="no window fortnight"):
        window("fortnight", "UTC", utc(2026, 3, 10))

    assert refused.value.code == "unknown_time_zone"


instants = st.integers(0, 25 * 365 * 86_400).map(lambda seconds: utc(2005, 1, 1) + timedelta(seconds=seconds))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([kind for kind in KINDS if kind not in ("none", "total")]), st.sampled_from(ZONES), instants,
       st.integers(1, 28))  # fmt: skip
@example("day", "America/St_Johns", utc(2010, 11, 7, 2, 45), 1)
@example("day", "Pacific/Apia", utc(2011, 12, 30, 10), 1)
@example("week", "Pacific/Apia", utc(2011, 12, 30, 10), 5)
def test_windows_tile_time(kind, zone, at, anchor):
    anchor = anchor % 7 + 1 if kind == "week" else anchor

    found = window(kind, zone, at, anchor)
    before = window(kind, zone, found.start - MICROSECOND, anchor)
    after = window(kind, zone, found.end, anchor)

    assert found.start <= at < found.end
    assert before.end == found.start
    assert after.start == found.end
    assert before.label < found.label < after.label
    assert window(kind, zone, found.start, anchor) == window(kind, zone, found.end - MICROSECOND, anchor) == found


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), instants)
def test_a_window_begins_on_the_date_of_its_label_unless_that_never_was(zone, at):
    found = window("day", zone, at)

    assert found.start.astimezone(ZoneInfo(zone)).date().isoformat() == found.label
