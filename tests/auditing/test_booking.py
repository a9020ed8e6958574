"""When a request counts: at its own instant, or now where that month is closed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from auditing.booking import GRACE, over
from auditing.ingest import LOG
from auditing.lifecycle import Reported
from auditing.models import AuditSeal, InferenceRequest, UsageDay, UsageSummary
from controlplane.core import partitions
from controlplane.core.ids import now
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import (
    AuditSealFactory,
    InferenceRequestFactory,
    InFlightRequestFactory,
    TenantFactory,
    UsageDayFactory,
    UsageSummaryFactory,
)

pytestmark = pytest.mark.django_db
requests = InferenceRequest.objects
BERLIN = ZoneInfo("Europe/Berlin")
MARCH = date(2026, 3, 1)


def shut(tenant, month=MARCH, kind="close", seq=1):
    return AuditSealFactory(kind=kind, log="usagesummary", tenant_id=tenant.pk, month=month, seq=seq)


def row(tenant, request_id="r-1", at=datetime(2026, 3, 10, tzinfo=UTC), **fields):
    return {
        "request_id": request_id, "created_at": at, "tenant_id": tenant.pk, "provider": "openai", "model": "openai/gpt-4o",
        "prompt_tokens": 100, "completion_tokens": 20, "cost": Decimal("0.01"), **fields,
    }  # fmt: skip


def fact_of(tenant, at=datetime(2026, 3, 10, tzinfo=UTC), **values):
    partitions.ensure(LOG, now(), months=[partitions.month_of(at)])
    zone = values.pop("time_zone", "Europe/Berlin")
    local = at.astimezone(ZoneInfo(zone)).date()
    given = {"tenant_id": tenant.pk, "created_at": at, "time_zone": zone, "local_date": local, "cost": Decimal(1)}
    return InferenceRequestFactory(**given | values)


def is_closed(tenant, month=MARCH):
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_month_closed(%s, %s)", [tenant.pk, month])
        return cursor.fetchone()[0]


# --- closed by the last seal


def test_a_month_is_closed_by_its_last_seal(acme, globex):
    assert not is_closed(acme)

    shut(acme)
    assert is_closed(acme)
    assert not is_closed(acme, date(2026, 2, 1))
    assert not is_closed(globex)

    shut(acme, kind="reopen", seq=2)
    assert not is_closed(acme)
    shut(acme, seq=3)
    assert is_closed(acme)


def test_seals_of_other_logs_close_nothing(acme):
    AuditSealFactory(kind="rows", log="inferencerequest", tenant_id=acme.pk, month=MARCH)
    AuditSealFactory(kind="close", log="auditlog", tenant_id=acme.pk, month=MARCH)

    assert not is_closed(acme)


def test_a_tenant_sees_its_own_closed_months_alone(acme, globex):
    shut(acme)

    with tenant_scope(acme):
        assert is_closed(acme)
    with tenant_scope(globex):
        assert not is_closed(acme)


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.sampled_from(["Pacific/Kiritimati", "Etc/GMT+12", "UTC"]))
def test_who_may_close_a_month_is_a_day_behind_who_looks(day, zone):
    first = day.replace(day=1)
    end = datetime.combine(partitions.next_month(first), datetime.min.time(), ZoneInfo(zone)).astimezone(UTC)

    assert over(day, end + GRACE - timedelta(days=1))
    assert not over(day, datetime.combine(day, datetime.max.time(), ZoneInfo(zone)).astimezone(UTC))


# --- the sums of a closed month


@pytest.mark.parametrize("factory", [UsageSummaryFactory, UsageDayFactory])
def test_sums_of_a_closed_month_refuse_every_change(acme, globex, factory):
    period = {"month": MARCH} if factory is UsageSummaryFactory else {"day": date(2026, 3, 31)}
    kept, other = factory(tenant_id=acme.pk, **period), factory(tenant_id=globex.pk, **period)
    shut(acme)
    mine = type(kept).objects.filter(pk=kept.pk)
    moved = {"month": date(2026, 4, 1)} if factory is UsageSummaryFactory else {"day": date(2026, 4, 1)}

    for change in (
        lambda: mine.update(requests=2),
        lambda: mine.update(tenant_id=globex.pk),
        lambda: mine.update(**moved),
        lambda: mine.delete(),
        lambda: factory(tenant_id=acme.pk, **period),
        lambda: type(kept).objects.filter(pk=other.pk).update(tenant_id=acme.pk),
    ):
        with pytest.raises(IntegrityError, match=r"2026-03 of tenant .* is closed") as caught, transaction.atomic():
            change()
        assert caught.value.__cause__.sqlstate == "23001"
        assert caught.value.__cause__.diag.constraint_name == "cp_auditing_closed_month"

    assert type(kept).objects.filter(pk=other.pk).update(requests=2) == 1
    shut(acme, kind="reopen", seq=2)
    assert mine.update(requests=2) == 1


@pytest.mark.parametrize("model", [UsageSummary, UsageDay])
def test_tables_with_closed_months_refuse_truncate(acme, model):
    shut(acme)

    with pytest.raises(IntegrityError, match="closed months"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {model._meta.db_table}")


def test_the_guard_holds_where_other_triggers_sleep(acme, can_replicate):
    UsageSummaryFactory(tenant_id=acme.pk, month=MARCH)
    shut(acme)

    with pytest.raises(IntegrityError, match="closed"), can_replicate() as cursor:
        cursor.execute("UPDATE cp_auditing_usagesummary SET requests = 2")


# --- late rows


def test_a_late_row_counts_at_its_own_instant_while_its_month_is_open(acme):
    assert requests.ingest([row(acme)], historical=True).inserted == 1

    fact = requests.order_by("id").get()
    assert (fact.booked_at, fact.local_date, fact.time_zone) == (None, date(2026, 3, 10), "Europe/Berlin")


def test_a_late_row_of_a_closed_month_counts_now(acme):
    shut(acme)
    before = now()

    assert requests.ingest([row(acme)], historical=True).inserted == 1

    fact = requests.order_by("id").get()
    assert fact.created_at == datetime(2026, 3, 10, tzinfo=UTC)
    assert before <= fact.booked_at <= now()
    assert (fact.local_date, fact.time_zone) == (fact.booked_at.astimezone(BERLIN).date(), "Europe/Berlin")


def test_it_is_known_when_it_comes_again(acme):
    requests.ingest([row(acme)], historical=True)
    shut(acme)

    result = requests.ingest([row(acme), row(acme, "r-2")], historical=True)

    assert (result.inserted, result.duplicates) == (1, 1)
    assert [fact.booked_at is None for fact in requests.order_by("request_id")] == [True, False]


def test_the_month_of_a_row_is_that_of_its_tenants_zone(acme):
    """23:30 UTC on 28 February is March in Berlin; 22:30 UTC on 31 March is April."""
    shut(acme)
    rows = [
        row(acme, "last of February", datetime(2026, 2, 28, 22, 30, tzinfo=UTC)),
        row(acme, "first of March", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        row(acme, "last of March", datetime(2026, 3, 31, 21, 30, tzinfo=UTC)),
        row(acme, "first of April", datetime(2026, 3, 31, 22, 30, tzinfo=UTC)),
    ]

    requests.ingest(rows, historical=True)

    booked = set(requests.exclude(booked_at=None).values_list("request_id", flat=True))
    assert booked == {"first of March", "last of March"}


def test_only_the_tenant_that_closed_its_month_books_now(acme, globex):
    shut(acme)

    requests.ingest([row(acme), row(globex, "r-2"), row(acme, "r-3", now() - timedelta(hours=1))], historical=True)

    assert list(requests.exclude(booked_at=None).values_list("tenant_id", flat=True)) == [acme.pk]


def test_a_batch_looks_once_however_many_months_it_is_of(acme, globex):
    partitions.ensure(
        LOG,
        now(),
        months=[date(year, month, 1) for year in (2024, 2025) for month in range(1, 13)],
    )
    shut(acme)
    many = [
        row(tenant, f"{tenant.slug}-{day}", datetime(2024, 1, 15, tzinfo=UTC) + timedelta(days=day))
        for tenant in (acme, globex)
        for day in range(600)
    ]

    with CaptureQueriesContext(
        connection,
    ) as queries:
        requests.ingest(many, historical=True)

    assert sum("cp_month_hold" in query["sql"] for query in queries) == 1


def test_rows_of_this_month_are_not_looked_at(acme):
    with CaptureQueriesContext(connection) as queries:
        requests.ingest([row(acme, at=now() - timedelta(minutes=1))])

    assert not [query for query in queries if "cp_month_hold" in query["sql"]]


# --- adjustments


def adjust(fact, **asked):
    return requests.adjust(fact.pk, **{"reason_code": "manual", "reason": "ticket 7", "cost": Decimal("-0.5"), **asked})


def test_an_adjustment_of_a_closed_month_counts_now_in_todays_zone(acme):
    fact = fact_of(acme)
    shut(acme)
    Tenant.objects.filter(pk=acme.pk).update(time_zone="Asia/Kolkata")

    adjusted = adjust(fact)

    assert adjusted.created_at == fact.created_at
    assert abs(adjusted.booked_at - now()) < timedelta(minutes=1)
    assert adjusted.time_zone == "Asia/Kolkata"
    assert adjusted.local_date == adjusted.booked_at.astimezone(ZoneInfo("Asia/Kolkata")).date()


def test_an_adjustment_of_a_reopened_month_counts_in_it(acme):
    fact = fact_of(acme)
    shut(acme)
    shut(acme, kind="reopen", seq=2)

    adjusted = adjust(fact)

    assert (adjusted.booked_at, adjusted.local_date, adjusted.time_zone) == (None, fact.local_date, fact.time_zone)


def test_what_was_booked_in_another_month_follows_the_month_of_its_booking(acme):
    """A call of February that came when February was closed, and was booked in March, which is closed now too."""
    at, booked = datetime(2026, 2, 10, tzinfo=UTC), datetime(2026, 3, 10, tzinfo=UTC)
    fact = fact_of(acme, at, booked_at=booked, local_date=booked.date())
    shut(acme, date(2026, 2, 1))

    first = adjust(fact, key="while March is open")
    shut(acme, seq=2)
    second = adjust(fact, key="when it is closed")

    assert (first.booked_at, first.local_date) == (booked, booked.date())
    assert second.local_date > booked.date()


def test_a_late_end_of_a_lost_call_of_a_closed_month_counts_now(acme):
    nothing = {"prompt_tokens": None, "completion_tokens": None, "latency_ms": None}
    lost = fact_of(acme, status="lost", cost=None, pricing_status="unpriced", **nothing)
    shut(acme)

    requests.complete(lost.pk, usage=Reported(prompt_tokens=5, completion_tokens=1))

    late = requests.get(adjusts=lost.pk, reason_code="late_completion")
    assert (late.created_at, late.booked_at is None) == (lost.created_at, False)


def test_adjusting_this_month_looks_nowhere_else(acme):
    fact = fact_of(acme, now() - timedelta(minutes=1))

    with CaptureQueriesContext(connection) as queries:
        adjust(fact)

    assert not [query for query in queries if "cp_month_hold" in query["sql"]]


def test_a_call_in_flight_ends_where_it_began(acme):
    """Its month cannot be closed before it has ended."""
    partitions.ensure(LOG, now(), months=[MARCH])
    flight = InFlightRequestFactory(
        tenant_id=acme.pk, created_at=datetime(2026, 3, 31, 22, 30, tzinfo=UTC), time_zone="Europe/Berlin"
    )

    fact = requests.complete(flight.pk, usage=Reported(prompt_tokens=5))

    assert (fact.booked_at, fact.local_date) == (None, date(2026, 4, 1))


def test_a_tenant_whose_zone_is_far_off_books_on_its_own_date():
    far = TenantFactory(time_zone="Pacific/Kiritimati")
    shut(far)

    requests.ingest([row(far)], historical=True)

    fact = requests.order_by("id").get()
    assert fact.local_date == fact.booked_at.astimezone(ZoneInfo("Pacific/Kiritimati")).date()
    assert AuditSeal.objects.for_tenant(far).count() == 1
