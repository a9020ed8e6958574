"""What the database refuses of counters and reservations, whoever writes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DataError, IntegrityError, connection
from django.db.utils import ProgrammingError

from controlplane.core.ids import now
from policies.models import LimitBucket, Reservation
from tenants.scope import tenant_scope
from tests.factories import LimitAlertFactory, LimitBucketFactory, ReservationFactory, TenantFactory

pytestmark = pytest.mark.django_db


def refused(name):
    return pytest.raises(IntegrityError, match=f'"?{name}"?')


def change(row, **columns):
    type(row).objects.filter(pk=row.pk).update(**columns)


def test_a_counter_is_there_once():
    first = LimitBucketFactory()

    with refused("cp_policies_limitbucket_key_once"):
        LimitBucketFactory(tenant=first.tenant, key=first.key)


def test_an_id_of_a_counter_is_there_once_in_its_tenant():
    first = LimitBucketFactory()

    with refused("cp_policies_limitbucket_tenant_id|cp_policies_limitbucket_pkey"):
        LimitBucketFactory(tenant=first.tenant, pk=first.pk)


@pytest.mark.parametrize(
    ("kind", "metric"), [("budget", "requests"), ("rate", "cost"), ("rate", "calls"), ("", "cost")]
)
def test_a_kind_counts_its_own_metrics(kind, metric):
    with refused("cp_policies_limitbucket_metric_of_kind"):
        LimitBucketFactory(kind=kind, metric=metric)


@pytest.mark.parametrize("column", ["spent", "reserved"])
def test_no_counter_is_below_zero_or_no_number(column):
    rules = {
        "spent": "cp_policies_limitbucket_spent_is_a_number",
        "reserved": "cp_policies_limitbucket_reserved_is_a_number",
    }

    with refused(rules[column]):
        LimitBucketFactory(**{column: Decimal("-0.000000000001")})


@pytest.mark.parametrize("column", ["spent", "reserved"])
def test_a_counter_is_not_nan(column):
    bucket = LimitBucketFactory()

    with refused(f"cp_policies_limitbucket_{column}_is_a_number"), connection.cursor() as cursor:
        cursor.execute(f"UPDATE cp_policies_limitbucket SET {column} = 'NaN' WHERE id = %s", [bucket.pk])


@pytest.mark.parametrize(("start", "end"), [(0, 0), (1, 0), (0, None), (None, 0)])
def test_a_window_ends_after_it_begins_or_has_no_bounds(start, end):
    at = now()
    bounds = [None if days is None else at + timedelta(days=days) for days in (start, end)]

    with refused("cp_policies_limitbucket_ends_after_start"):
        LimitBucketFactory(starts_at=bounds[0], ends_at=bounds[1])


def test_a_threshold_is_told_once():
    first = LimitAlertFactory()

    with refused("cp_policies_limitalert_once"):
        LimitAlertFactory(bucket=first.bucket, threshold=first.threshold)


def test_an_alert_is_of_its_counters_tenant():
    with refused("cp_policies_limitalert_bucket_of_tenant"):
        LimitAlertFactory(tenant=TenantFactory())


def test_a_request_id_is_reserved_once_in_its_tenant():
    first = ReservationFactory()
    ReservationFactory(request_id=first.request_id)

    with refused("cp_policies_reservation_request_once"):
        ReservationFactory(tenant=first.tenant, request_id=first.request_id)


def test_a_reservation_has_a_known_state():
    with refused("cp_policies_reservation_state_known"):
        ReservationFactory(state="lost", ended_at=now())


@pytest.mark.parametrize("columns", [{"ended_at": now()}, {"state": "released"}])
def test_an_open_reservation_has_no_end_and_any_other_has_one(columns):
    with refused("cp_policies_reservation_ended_with_state"):
        change(ReservationFactory(), **columns)


@pytest.mark.parametrize("columns", [{"actuals": []}, {"state": "settled", "ended_at": now()}])
def test_a_settled_reservation_says_what_was_spent_and_no_other(columns):
    with refused("cp_policies_reservation_actuals_with_state"):
        change(ReservationFactory(), **columns)


@pytest.mark.parametrize("columns", [{"amounts": [1]}, {"state": "settled", "ended_at": now(), "actuals": [1]}])
def test_there_is_one_amount_for_each_counter(columns):
    with refused("cp_policies_reservation_amount_of_each"):
        change(ReservationFactory(), **columns)


def test_a_request_id_has_200_characters_at_most():
    with pytest.raises(DataError):
        ReservationFactory(request_id="x" * 201)


def test_a_tenant_reads_its_own_counters_and_writes_none():
    mine, theirs = LimitBucketFactory(), LimitBucketFactory()
    ReservationFactory(tenant=mine.tenant)
    ReservationFactory(tenant=theirs.tenant)

    with tenant_scope(mine.tenant):
        assert LimitBucket.objects.get() == mine
        assert Reservation.objects.count() == 1
    with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(mine.tenant):
        LimitBucket.objects.update(spent=0)


def test_no_index_holds_a_counter_and_its_pages_have_room():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_index i, pg_attribute a WHERE i.indrelid = 'cp_policies_limitbucket'::regclass "
            "AND a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
            "AND a.attname IN ('spent', 'reserved', 'last_limit', 'last_mode')"
        )
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'cp_policies_limitbucket'")
        assert cursor.fetchone() == (["fillfactor=50"],)
