from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from threading import Barrier, Thread

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from auditing.models import InferenceRequest
from controlplane.core import partitions
from controlplane.core.ids import now, uuid7_at
from controlplane.core.partitions import (
    Attach,
    Create,
    Finish,
    PartitionBusy,
    PartitionedLog,
    PartitionMissing,
    State,
    ensure,
    existing_months,
    plan,
    states,
)
from tests.factories import AuditLogFactory, InferenceRequestFactory

AT = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
REQUESTS = PartitionedLog("cp_auditing_inferencerequest", ("request_id", "tenant_id"))
AUDIT = PartitionedLog("cp_auditing_auditlog")
MONTHS = st.dates(date(2020, 1, 1), date(2027, 2, 1)).map(lambda day: day.replace(day=1))


def created(*months):
    return [Create(month) for month in months]


def test_the_plan_is_this_month_and_those_ahead():
    assert plan([], AT) == created(date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1), date(2027, 2, 1))


def test_the_plan_leaves_out_what_exists():
    assert plan([date(2026, 12, 1)], AT, ahead=1) == created(date(2026, 11, 1))


def test_a_month_asked_for_is_made_too():
    existing = {step.month: State.ATTACHED for step in plan([], AT)}

    assert plan(existing, AT, months=[date(2023, 11, 1)]) == created(date(2023, 11, 1))


def test_a_month_whose_table_is_there_is_attached_where_it_is_wanted():
    loose = {date(2026, 11, 1): State.LOOSE, date(2021, 5, 1): State.LOOSE}

    assert plan(loose, AT, ahead=0) == [Attach(date(2026, 11, 1))]


def test_an_interrupted_detaching_is_finished_and_undone_where_the_month_is_wanted():
    detaching = {date(2021, 5, 1): State.DETACHING, date(2026, 11, 1): State.DETACHING}

    assert plan(detaching, AT, ahead=0) == [
        Finish(date(2021, 5, 1)), Finish(date(2026, 11, 1)), Attach(date(2026, 11, 1)),
    ]  # fmt: skip


def test_a_month_that_is_being_removed_is_left_alone():
    assert plan({date(2021, 5, 1): State.RETIRING, date(2026, 11, 1): State.ATTACHED}, AT, ahead=0) == []


def test_a_month_that_is_being_removed_is_refused_where_it_is_asked_for():
    with pytest.raises(PartitionMissing, match="audit_retention apply"):
        plan({date(2021, 5, 1): State.RETIRING}, AT, months=[date(2021, 5, 1)])


@pytest.mark.parametrize("month", [date(2019, 12, 1), date(2027, 3, 1)])
def test_a_month_out_of_reach_is_refused(month):
    with pytest.raises(PartitionMissing, match=f"{month:%Y-%m}"):
        plan([], AT, months=[month])


def test_the_month_of_an_instant_is_that_of_utc():
    east = datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))

    assert partitions.month_of(east) == date(2026, 11, 1)


STANDING = st.dictionaries(MONTHS, st.sampled_from([State.ATTACHED, State.LOOSE, State.DETACHING]))


@given(STANDING, st.sets(MONTHS), st.integers(0, 3))
def test_a_plan_carried_out_leaves_nothing_to_plan(existing, months, ahead):
    months = {month for month in months if month <= date(2026, 11, 1)}

    steps = plan(existing, AT, ahead, months)

    after = dict(existing)
    for step in steps:
        after[step.month] = State.LOOSE if isinstance(step, Finish) else State.ATTACHED
    assert [step.month for step in steps] == sorted(step.month for step in steps)
    assert plan(after, AT, ahead, months) == []
    assert {month for month, state in existing.items() if state is State.ATTACHED}.isdisjoint(
        step.month for step in steps
    )


@pytest.mark.django_db
@pytest.mark.parametrize("log", [AUDIT, REQUESTS], ids=lambda log: log.table)
def test_installation_makes_this_month_and_three_ahead(log):
    assert plan(states(log), now()) == []
    assert log in partitions.registered()


@pytest.mark.django_db
def test_a_month_is_made_once():
    month = date(2021, 5, 1)

    assert ensure(REQUESTS, now(), months=[month]) == [month]
    assert ensure(REQUESTS, now(), months=[month]) == []


@pytest.mark.django_db
def test_a_half_made_month_is_finished():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE cp_auditing_inferencerequest_202106 (LIKE cp_auditing_inferencerequest INCLUDING ALL)"
        )

    assert ensure(REQUESTS, now(), months=[date(2021, 6, 1)]) == [date(2021, 6, 1)]

    InferenceRequestFactory(created_at=datetime(2021, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC))
    assert guards("cp_auditing_inferencerequest_202106") == {"cp_append_only": "A", "cp_no_truncate": "A"}


def guards(table):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname LIKE 'cp_%%'",
            [table],
        )
        return dict(cursor.fetchall())


@pytest.mark.django_db
def test_a_month_is_detached_and_attached_again_with_its_guards():
    month = date(2021, 7, 1)
    ensure(REQUESTS, now(), months=[month])
    row = InferenceRequestFactory(created_at=datetime(2021, 7, 15, tzinfo=UTC))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_inferencerequest DETACH PARTITION cp_auditing_inferencerequest_202107")

    assert ensure(REQUESTS, now(), months=[month]) == [month]

    assert InferenceRequest.objects.filter(pk=row.pk).exists()
    assert guards("cp_auditing_inferencerequest_202107") == {"cp_append_only": "A", "cp_no_truncate": "A"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "at",
    [
        datetime(2021, 8, 1, tzinfo=UTC),
        datetime(2021, 8, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
def test_a_month_takes_its_first_and_last_microsecond(at):
    ensure(REQUESTS, now(), months=[date(2021, 8, 1)])

    row = InferenceRequestFactory(created_at=at)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cp_auditing_inferencerequest_202108 WHERE id = %s", [row.pk])
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db
def test_a_row_whose_id_and_time_are_of_different_months_is_refused():
    ensure(REQUESTS, now(), months=[date(2021, 8, 1), date(2021, 9, 1)])
    august = datetime(2021, 8, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    with pytest.raises(IntegrityError, match="cp_auditing_inferencerequest_202109_month"):
        InferenceRequestFactory(created_at=august, id=uuid7_at(august + timedelta(milliseconds=1)))


@pytest.mark.django_db
def test_a_row_of_no_month_is_refused():
    with pytest.raises(IntegrityError, match="no partition"):
        AuditLogFactory(created_at=datetime(2020, 3, 1, tzinfo=UTC))


@pytest.mark.django_db
def test_the_same_request_id_is_once_in_a_month():
    ensure(REQUESTS, now(), months=[date(2021, 8, 1)])
    first = InferenceRequestFactory(created_at=datetime(2021, 8, 2, tzinfo=UTC))

    with pytest.raises(IntegrityError, match="cp_auditing_inferencerequest_202108_once"):
        InferenceRequestFactory(
            created_at=datetime(2021, 8, 20, tzinfo=UTC), tenant_id=first.tenant_id, request_id=first.request_id
        )


@pytest.mark.django_db
def test_a_date_filter_reads_only_its_month():
    ensure(REQUESTS, now(), months=[date(2021, 8, 1), date(2021, 9, 1)])
    window = InferenceRequest.objects.between(datetime(2021, 8, 3, tzinfo=UTC), datetime(2021, 8, 4, tzinfo=UTC))

    plan_text = window.explain()

    assert "cp_auditing_inferencerequest_202108" in plan_text
    assert "202109" not in plan_text


@pytest.mark.django_db(transaction=True)
def test_a_month_made_twice_at_once_is_made_once():
    month = date(2022, 3, 1)
    barrier, made, failed = Barrier(4), [], []

    def make():
        try:
            connection.ensure_connection()
            barrier.wait()
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT cp_partition_add('cp_auditing_inferencerequest', %s, '{request_id, tenant_id}')", [month]
                )
                made.append(cursor.fetchone()[0])
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert sorted(made) == ["created", "exists", "exists", "exists"]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_inferencerequest DETACH PARTITION cp_auditing_inferencerequest_202203")
        cursor.execute("DROP TABLE cp_auditing_inferencerequest_202203")


@pytest.fixture
def interrupted(transactional_db, other_connection):
    """A month whose detaching was interrupted: it waited for a reader, and its connection ended."""
    month, other = date(2022, 4, 1), other_connection
    ensure(REQUESTS, now(), months=[month])
    with psycopg.connect(**connection.get_connection_params()) as reader:
        reader.execute("SELECT count(*) FROM cp_auditing_inferencerequest")
        other.execute("SET lock_timeout = 1")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(
                "ALTER TABLE cp_auditing_inferencerequest DETACH PARTITION cp_auditing_inferencerequest_202204 CONCURRENTLY"
            )
    yield month
    other.execute("SET lock_timeout = 0")
    if states(REQUESTS).get(month) is State.ATTACHED:
        other.execute("ALTER TABLE cp_auditing_inferencerequest DETACH PARTITION cp_auditing_inferencerequest_202204")
    other.execute("DROP TABLE cp_auditing_inferencerequest_202204")


def test_an_interrupted_detaching_is_seen_and_finished(interrupted):
    assert states(REQUESTS)[interrupted] is State.DETACHING
    assert interrupted not in existing_months(REQUESTS)

    assert ensure(REQUESTS, now()) == []

    assert states(REQUESTS)[interrupted] is State.LOOSE


def test_an_interrupted_detaching_of_a_month_that_is_asked_for_is_undone(interrupted):
    assert ensure(REQUESTS, now(), months=[interrupted]) == [interrupted]

    assert InferenceRequestFactory(created_at=datetime(2022, 4, 2, tzinfo=UTC)).pk
    assert guards("cp_auditing_inferencerequest_202204") == {"cp_append_only": "A", "cp_no_truncate": "A"}


@pytest.mark.slow
def test_a_log_that_somebody_holds_is_busy_and_nothing_is_left_half_made(transactional_db, other_connection):
    month = date(2022, 5, 1)
    with other_connection.transaction():
        other_connection.execute("LOCK TABLE cp_auditing_inferencerequest IN SHARE UPDATE EXCLUSIVE MODE")

        with pytest.raises(PartitionBusy, match="End it, then try again"):
            ensure(REQUESTS, now(), months=[month])

    assert month not in states(REQUESTS)


@pytest.mark.django_db
def test_a_month_without_its_unique_index_is_named():
    assert partitions.without_local_index(REQUESTS) == []
    ensure(REQUESTS, now(), months=[date(2021, 11, 1)])
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX cp_auditing_inferencerequest_202111_once")

    assert partitions.without_local_index(REQUESTS) == [date(2021, 11, 1)]
