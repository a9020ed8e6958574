from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.errors import PolicyError
from policies.periods import Schedule, Window, known_time_zone, next_change

MINUTE = timedelta(minutes=1)

# (zone, an instant within a day of a clock change): whole hours, a half hour (Lord Howe), zones of half hours (Adelaide, and
# St. John's, where the clock changed a minute after midnight) and a quarter (Kathmandu, no change), a change at midnight
# (Beirut), two hours (Troll), and a whole day skipped (Apia, 30 December 2011).
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Australia/Adelaide", datetime(2026, 4, 4, 16, 30, tzinfo=UTC)),
    ("Australia/Adelaide", datetime(2026, 10, 3, 16, 30, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 3, 14, 3, 31, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2022, 3, 26, 22, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
]

clocks = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 29, 30, 31, 59]))
days = st.sets(st.integers(0, 6), min_size=1).map(frozenset)


def schedule(zone: str, days: str, start: str, end: str) -> Schedule:
    return Schedule.parse({"tz": zone, "days": days.split(), "start": start, "end": end})


def test_a_schedule_is_half_open():
    office = schedule("UTC", "tue", "09:00", "17:00")

    assert office.holds(datetime(2026, 3, 10, 9, tzinfo=UTC))
    assert office.holds(datetime(2026, 3, 10, 16, 59, 59, 999999, tzinfo=UTC))
    assert not office.holds(datetime(2026, 3, 10, 17, tzinfo=UTC))
    assert not office.holds(datetime(2026, 3, 11, 9, tzinfo=UTC))


def test_a_night_belongs_to_the_day_it_starts_on():
    night = schedule("Europe/Berlin", "fri", "22:00", "06:00")

    assert night.holds(datetime(2026, 3, 14, 0, tzinfo=UTC))
    assert not night.holds(datetime(2026, 3, 13, 0, tzinfo=UTC))


def test_equal_bounds_mean_the_whole_day():
    monday = schedule("UTC", "mon", "09:00", "09:00")

    assert monday.holds(datetime(2026, 3, 9, 0, tzinfo=UTC))
    assert monday.holds(datetime(2026, 3, 9, 23, 59, 59, tzinfo=UTC))
    assert not monday.holds(datetime(2026, 3, 10, 0, tzinfo=UTC))


def test_a_time_skipped_in_spring_never_comes_and_one_repeated_in_autumn_holds_twice():
    small_hours = schedule("Europe/Berlin", "sun", "02:15", "02:45")
    night_of = {
        month: [datetime(2026, *day, 0, tzinfo=UTC) + k * MINUTE for k in range(240)]
        for month, day in {"spring": (3, 29), "autumn": (10, 25)}.items()
    }

    assert not any(small_hours.holds(at) for at in night_of["spring"])
    assert sum(small_hours.holds(at) for at in night_of["autumn"]) == 60


def test_validity_is_half_open_and_the_first_reason_is_given():
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    window = Window(noon, noon + MINUTE, schedule("UTC", "mon", "00:00", "00:00"))

    assert Window(noon, None).why_not(noon) == ""
    assert window.why_not(noon) == "out_of_schedule"
    assert window.why_not(noon - MINUTE) == "not_yet_valid"
    assert window.why_not(noon + MINUTE) == "expired"


def test_an_unknown_zone_is_refused():
    assert not known_time_zone("Europe/Atlantis")
    assert not known_time_zone("europe/berlin")
    assert not known_time_zone("localtime")
    with pytest.raises(PolicyError) as caught:
        schedule("Europe/Atlantis", "mon", "09:00", "17:00")
    assert caught.value.code == "unknown_time_zone"


def test_without_windows_nothing_changes_for_a_day():
    at = datetime(2026, 3, 10, 12, tzinfo=UTC)

    assert next_change([], at) == at + timedelta(days=1)
    assert next_change([Window(at - MINUTE, at + MINUTE)], at) == at + MINUTE


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CHANGES), st.integers(-1500, 300), days, clocks, clocks)
def test_the_next_change_is_the_one_that_a_walk_by_minutes_finds(change, offset, on, start, end):
    zone, instant = change
    at = instant + offset * MINUTE
    window = Window(schedule=Schedule(ZoneInfo(zone), on, start, end))

    walk = (at + k * MINUTE for k in range(1, 24 * 60))
    expected = next((t for t in walk if window.why_not(t) != window.why_not(at)), at + timedelta(days=1))

    assert next_change([window], at) == expected
