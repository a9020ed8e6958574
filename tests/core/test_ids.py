from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from threading import Thread
from uuid import RFC_4122

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core import ids
from controlplane.core.ids import NIL, instant_of, iso, lower_bound, milliseconds, number_of, uuid7, uuid7_at, uuid7_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = st.integers(1_577_836_800_000_000, 4_102_444_800_000_000).map(lambda us: EPOCH + timedelta(microseconds=us))


def test_ids_of_one_process_rise():
    made = [uuid7() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_of_several_threads_differ():
    made = [[] for _ in range(4)]
    threads = [Thread(target=lambda own=own: own.extend(uuid7() for _ in range(5_000))) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set().union(*made)) == 20_000


@given(YEARS)
def test_an_id_is_version_7_of_its_instant_to_the_millisecond(at):
    id = uuid7_at(at)

    assert (id.version, id.variant) == (7, "specified in RFC 4122")
    assert instant_of(id) == at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_the_last_moment_of_a_month_is_rounded_down_into_it():
    at = datetime(2026, 1, 31, 23, 59, 59, 999_600, tzinfo=UTC)

    assert instant_of(uuid7_at(at)).month == 1


def test_an_instant_of_another_zone_is_the_same_instant():
    utc = datetime(2026, 6, 1, 12, tzinfo=UTC)

    assert milliseconds(utc) == milliseconds(utc.astimezone(timezone(timedelta(hours=-7))))


def test_a_naive_instant_has_no_id():
    with pytest.raises(TypeError):
        uuid7_at(datetime(2026, 6, 1))  # noqa: DTZ001 - that is the point


@given(YEARS, st.binary(max_size=40))
def test_the_same_seed_at_the_same_instant_is_the_same_id(at, seed):
    assert uuid7_of(at, seed) == uuid7_of(at, seed)
    assert uuid7_of(at, seed) != uuid7_of(at, seed + b"x")


@given(YEARS)
def test_the_lower_bound_stands_before_every_id_of_its_millisecond(at):
    bound = lower_bound(at)

    assert bound < uuid7_at(at)
    assert bound > uuid7_at(at - timedelta(milliseconds=1))


def test_no_id_is_of_before_1970():
    assert lower_bound(datetime(1, 1, 1, tzinfo=UTC)) == lower_bound(datetime(1970, 1, 1, tzinfo=UTC)) == NIL


def test_nil_stands_for_the_platform():
    assert ids.PLATFORM == NIL
    assert str(NIL) == "00000000-0000-0000-0000-000000000000"


@pytest.mark.django_db
def test_sql_makes_the_same_ids_as_python():
    random.seed(7)
    instants = [
        datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=random.randrange(10**16))  # noqa: S311
        for _ in range(9_990)
    ]
    borders = [datetime(2026, month, 1, tzinfo=UTC) - timedelta(microseconds=1) for month in range(1, 11)]
    seeds = [random.randbytes(n % 50) for n in range(10_000)]  # noqa: S311
    rows = list(zip(instants + borders, seeds, strict=True))

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT cp_uuid7_of(at, seed), cp_uuid7_ms(at) FROM unnest(%s::timestamptz[], %s::bytea[]) "
            "WITH ORDINALITY AS given(at, seed, n) ORDER BY n",
            [[at for at, _ in rows], [seed for _, seed in rows]],
        )
        made = cursor.fetchall()

    assert made == [(uuid7_of(at, seed), milliseconds(at)) for at, seed in rows]


@pytest.mark.django_db
def test_a_new_id_of_sql_is_of_its_instant():
    at = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_uuid7(%s) FROM generate_series(1, 1000)", [at])
        made = [row[0] for row in cursor.fetchall()]

    assert {(id.version, id.variant, milliseconds(instant_of(id))) for id in made} == {
        (7, "specified in RFC 4122", milliseconds(at))
    }
    assert len(set(made)) == 1000


def test_ids_of_one_millisecond_keep_the_order_of_their_microseconds(db):
    instants = [datetime(2026, 6, 1, 12, 0, 0, 345_000 + n, tzinfo=UTC) for n in range(1000)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT cp_uuid7(at) FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS t(at, n) ORDER BY n", [instants]
        )
        made_in_sql = [row[0] for row in cursor.fetchall()]
    made_in_python = [uuid7_at(at) for at in instants]

    for made in (made_in_sql, made_in_python):
        assert made == sorted(made)
        assert {id.version for id in made} == {7}
        assert {id.variant for id in made} == {RFC_4122}
        assert len({id.int & ((1 << 62) - 1) for id in made}) == 1000
    assert [id.int >> 64 for id in made_in_sql] == [id.int >> 64 for id in made_in_python]


@given(YEARS, st.binary())
def test_the_number_of_an_id_is_that_of_the_id(at, seed):
    assert number_of(at, seed) == uuid7_of(at, seed).int


def test_an_instant_is_told_in_utc_whatever_zone_it_is_in():
    berlin = datetime(2026, 11, 21, 14, 41, 7, tzinfo=timezone(timedelta(hours=1)))

    assert iso(berlin) == iso(berlin.astimezone(UTC)) == "2026-11-21T13:41:07Z"
