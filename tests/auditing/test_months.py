"""Months of usage: always the sum of their requests, and once closed never another one."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing import merkle, months, rollups, sealing
from auditing.errors import (
    InvalidMonth,
    InvalidRow,
    MonthClosed,
    MonthNotClosable,
    MonthNotClosed,
    MonthRetired,
    ReasonRequired,
)
from auditing.ingest import LOG
from auditing.lifecycle import Reported
from auditing.models import AuditLog, AuditSeal, InferenceRequest, UsageDay, UsageSummary
from auditing.summaries import Counts
from auditing.verifying import verify
from controlplane.core import partitions
from controlplane.core.ids import now, uuid7
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import (
    InferenceRequestFactory,
    InFlightRequestFactory,
    RetentionRecordFactory,
    TenantFactory,
    UsageDayFactory,
    UsageSummaryFactory,
)
from tests.races import behind, others_have_ended, together

pytestmark = pytest.mark.django_db(transaction=True)
requests, summaries = InferenceRequest.objects, UsageSummary.objects
MARCH = date(2026, 3, 1)
INSIDE = datetime(2026, 3, 10, 12, tzinfo=UTC)
FIGURES = ("requests", "completed", "failed", "prompt_tokens", "completion_tokens", "cost", "unpriced")


@pytest.fixture(autouse=True)
def months_are_there(transactional_db):
    partitions.ensure(
        LOG,
        now(),
        months=[
            date(2024, 2, 1),
            date(2024, 3, 1),
            date(2025, 12, 1),
            date(2026, 1, 1),
            date(2026, 2, 1),
            MARCH,
            date(2026, 4, 1),
        ],
    )


def fact_of(tenant, at=INSIDE, **values):
    zone = values.pop("time_zone", tenant.time_zone)
    local = at.astimezone(ZoneInfo(zone)).date()
    given = {"tenant_id": tenant.pk, "created_at": at, "time_zone": zone, "local_date": local, "cost": Decimal("0.1")}
    return InferenceRequestFactory(**given | values)


def rolled_up():
    others_have_ended()
    while rollups.run(now()):
        pass


def row(tenant, request_id, at=INSIDE, **fields):
    return {
        "request_id": request_id, "created_at": at, "tenant_id": tenant.pk, "provider": "openai", "model": "openai/gpt-4o",
        "prompt_tokens": 100, "completion_tokens": 20, "cost": Decimal("0.01"), **fields,
    }  # fmt: skip


def ingest(*rows):
    return requests.ingest(rows, historical=True)


def close(tenant, month=MARCH, **asked):
    return months.close(tenant, month.year, month.month, **{"by": "tests", "reason": "all is in"} | asked)


def reopen(tenant, month=MARCH, **asked):
    return months.reopen(tenant, month.year, month.month, **{"by": "tests", "reason": "an invoice came"} | asked)


def figures(counts):
    return tuple(getattr(counts, name) for name in FIGURES)


def by_hand(tenant, first):
    """The same figures from the requests, by plain Python."""
    facts = [fact for fact in requests.for_tenant(tenant) if fact.local_date.replace(day=1) == first]
    own = [fact for fact in facts if fact.adjusts is None]
    ended = [fact for fact in facts if fact.adjusts is None or fact.reason_code == "late_completion"]
    return (
        len(own),
        sum(fact.status == "completed" for fact in ended),
        sum(fact.status == "failed" for fact in ended),
        sum(fact.prompt_tokens or 0 for fact in facts),
        sum(fact.completion_tokens or 0 for fact in facts),
        sum((fact.cost or Decimal(0) for fact in facts), Decimal(0)),
        sum(fact.pricing_status == "unpriced" for fact in facts) - sum(fact.reason_code == "priced" for fact in facts),
    )


# --- the sum of the requests


def test_a_month_is_the_sum_of_its_requests_at_any_instant(acme, globex):
    fact_of(acme)
    fact_of(globex, cost=Decimal(7))
    assert figures(summaries.monthly(acme, 2026, 3).totals) == by_hand(acme, MARCH)

    rolled_up()
    assert figures(summaries.monthly(acme, 2026, 3).totals) == by_hand(acme, MARCH)

    fact_of(acme, cost=Decimal("0.000000000001"))
    found = summaries.monthly(acme, 2026, 3)
    assert figures(found.totals) == by_hand(acme, MARCH) == (2, 2, 0, 200, 40, Decimal("0.100000000001"), 0)
    assert (found.month, found.closed_at, found.reconciled_at) == (MARCH, None, None)


def test_its_rows_are_by_app_branch_key_user_and_model_the_dearest_first(acme):
    app, branch, key, user = (uuid7() for _ in range(4))
    fact_of(acme, cost=Decimal(1))
    fact_of(acme, cost=Decimal(3), app_id=app, branch_id=branch, api_key_id=key, user_id=user)
    rolled_up()
    fact_of(acme, cost=Decimal(4), app_id=app, branch_id=branch, api_key_id=key, user_id=user)
    fact_of(acme, cost=Decimal(2), app_id=app, branch_id=branch, api_key_id=key, user_id=user, model="openai/o9")

    rows = summaries.monthly(acme, 2026, 3).rows

    assert [(one.app_id, one.branch_id, one.api_key_id, one.user_id, one.model, one.counts.cost) for one in rows] == [
        (app, branch, key, user, "openai/gpt-4o", 7),
        (app, branch, key, user, "openai/o9", 2),
        (None, None, None, None, "openai/gpt-4o", 1),
    ]


def test_a_month_without_requests_is_nothing(acme):
    found = summaries.monthly(acme, 2026, 3)

    assert (found.totals, found.rows) == (Counts(), [])
    assert not found.totals


@pytest.mark.parametrize("month", [(2026, 0), (2026, 13), (0, 1), (2019, 12), (99999, 1), (2026, True), ("2026", 3)])
def test_what_is_no_month_is_refused(acme, month):
    for call in (
        lambda: summaries.monthly(acme, *month),
        lambda: summaries.refresh(acme, *month),
        lambda: months.close(acme, *month, by="tests"),
        lambda: months.reopen(acme, *month, by="tests", reason="x"),
    ):
        with pytest.raises(InvalidMonth) as caught:
            call()
        assert caught.value.code == "invalid_month"


@pytest.mark.parametrize(
    ("zone", "at", "month"),
    [
        ("Europe/Berlin", datetime(2026, 2, 28, 22, 59, 59, tzinfo=UTC), (2026, 2)),
        ("Europe/Berlin", datetime(2026, 2, 28, 23, 0, tzinfo=UTC), (2026, 3)),
        ("Europe/Berlin", datetime(2026, 3, 31, 21, 59, 59, 999999, tzinfo=UTC), (2026, 3)),  # summer time by then
        ("Europe/Berlin", datetime(2026, 3, 31, 22, 0, tzinfo=UTC), (2026, 4)),
        ("Pacific/Kiritimati", datetime(2026, 2, 28, 10, 0, tzinfo=UTC), (2026, 3)),
        ("Etc/GMT+12", datetime(2026, 3, 1, 11, 59, tzinfo=UTC), (2026, 2)),
        ("Asia/Kolkata", datetime(2025, 12, 31, 18, 30, tzinfo=UTC), (2026, 1)),
        ("America/New_York", datetime(2026, 1, 1, 4, 59, tzinfo=UTC), (2025, 12)),
        ("UTC", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), (2024, 2)),
        ("Asia/Tokyo", datetime(2024, 2, 29, 15, 0, tzinfo=UTC), (2024, 3)),
    ],
)
def test_a_request_is_in_the_month_of_its_tenants_zone_and_in_no_other(acme, zone, at, month):
    Tenant.objects.filter(pk=acme.pk).update(time_zone=zone)
    ingest(row(acme, "border", at))
    first = date(*month, 1)

    for step in (lambda: None, rolled_up):
        step()
        assert [(found.month, found.totals.requests) for found in summaries.months(acme)] == [(first, 1)]
        assert summaries.monthly(acme, *month).totals.requests == 1
    assert not summaries.refresh(acme, *month)
    assert close(acme, first).n == 1


def test_months_are_listed_the_newest_first_with_those_that_are_closed(acme, globex):
    fact_of(acme, datetime(2026, 2, 10, tzinfo=UTC), cost=Decimal(2))
    fact_of(acme)
    fact_of(globex, datetime(2026, 1, 10, tzinfo=UTC))
    rolled_up()
    fact_of(acme)
    close(acme, date(2026, 2, 1))
    close(acme, date(2025, 12, 1))

    found = summaries.months(acme)

    assert [(one.month, one.totals.requests, one.closed_at is None) for one in found] == [
        (MARCH, 2, True), (date(2026, 2, 1), 1, False), (date(2025, 12, 1), 0, False),
    ]  # fmt: skip


def test_a_tenant_in_its_scope_sees_its_own_months(acme, globex):
    fact_of(acme)
    rolled_up()
    fact_of(acme)

    with tenant_scope(acme):
        assert summaries.monthly(acme, 2026, 3).totals.requests == 2
        assert [one.month for one in summaries.months(acme)] == [MARCH]
    with tenant_scope(globex):
        assert summaries.monthly(acme, 2026, 3).totals.requests == 0
        assert summaries.months(acme) == []


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("ingest"), st.sampled_from([0, 1]), st.integers(0, 70 * 24 * 60), st.decimals(0, 9, places=12)
        ),
        st.tuples(st.just("again"), st.integers(0, 20)),
        st.tuples(st.just("adjust"), st.integers(0, 20), st.decimals(-1, 9, places=12)),
        st.tuples(st.just("roll")),
        st.tuples(st.just("close"), st.sampled_from([0, 1]), st.sampled_from([1, 2, 3])),
        st.tuples(st.just("reopen"), st.sampled_from([0, 1]), st.sampled_from([1, 2, 3])),
        st.tuples(st.just("refresh"), st.sampled_from([0, 1]), st.sampled_from([1, 2, 3])),
    ),
    max_size=14,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_summing_summaries_is_summing_requests_to_the_last_digit(acme, globex, taken):
    """Whatever is written, adjusted, rolled up, closed and reopened in between; a closed month stays as it was closed."""
    tenants, written, closed = [acme, globex], [], {}
    tag = uuid7().hex
    for what, *given_ in taken:
        if what == "ingest":
            place, minutes, cost = given_
            one = row(
                tenants[place],
                f"{tag}-{len(written)}",
                datetime(2026, 1, 20, tzinfo=UTC) + timedelta(minutes=minutes),
                cost=cost,
            )
            ingest(one)
            written.append(one)
        elif what == "again" and written:
            assert ingest(written[given_[0] % len(written)]).duplicates == 1
        elif what == "adjust" and written:
            one = written[given_[0] % len(written)]
            fact = requests.get(tenant_id=one["tenant_id"], request_id=one["request_id"])
            requests.adjust(fact.pk, reason_code="credit", reason="r", cost=given_[1], key=uuid7().hex)
        elif what == "roll":
            rolled_up()
        elif what in ("close", "reopen", "refresh"):
            tenant, first = tenants[given_[0]], date(2026, given_[1], 1)
            try:
                if what == "close":
                    rolled_up()
                    close(tenant, first)
                    closed[tenant.pk, first] = figures(summaries.monthly(tenant, first.year, first.month).totals)
                elif what == "reopen":
                    reopen(tenant, first)
                    del closed[tenant.pk, first]
                else:
                    assert not summaries.refresh(tenant, first.year, first.month)
            except (MonthClosed, MonthNotClosed):
                assert ((tenant.pk, first) in closed) == (what != "reopen")

    for tenant in tenants:
        for found in summaries.months(tenant):
            assert figures(found.totals) == by_hand(tenant, found.month)
        total = sum((found.totals.cost for found in summaries.months(tenant)), Decimal(0))
        assert total == sum((fact.cost or 0 for fact in requests.for_tenant(tenant)), Decimal(0))
        for (owner, first), then in closed.items():
            if owner == tenant.pk:
                assert figures(summaries.monthly(tenant, first.year, first.month).totals) == then
    for owner, first in closed:
        reopen(owner, first)


# --- refresh


def test_a_refresh_says_by_how_much_it_mended_the_sums(acme, globex):
    fact_of(acme)
    fact_of(globex)
    rolled_up()
    summaries.filter(tenant_id=acme.pk).update(requests=5, cost=Decimal(9))
    summaries.filter(tenant_id=globex.pk).update(requests=5)
    fact_of(acme)  # not rolled up: the roll-up will add it

    difference = summaries.refresh(acme, 2026, 3)

    assert (difference.requests, difference.cost, difference.completed) == (-4, Decimal("-8.9"), 0)
    assert figures(summaries.monthly(acme, 2026, 3).totals) == by_hand(acme, MARCH)
    rolled_up()
    assert figures(summaries.monthly(acme, 2026, 3).totals) == by_hand(acme, MARCH)
    assert summaries.get(tenant_id=globex.pk).requests == 5
    assert not summaries.refresh(acme, 2026, 3)


def test_a_refresh_makes_what_is_missing_and_removes_what_is_of_nothing(acme):
    fact_of(acme)
    rolled_up()
    kept = summaries.values().get()
    summaries.all().delete()
    UsageSummaryFactory(tenant_id=acme.pk, month=MARCH, model="made/up", requests=3)

    assert summaries.refresh(acme, 2026, 3).requests == -2
    assert summaries.values().get() == kept


def test_what_was_booked_in_a_month_is_in_its_refresh(acme):
    fact_of(acme, datetime(2026, 1, 20, tzinfo=UTC), booked_at=INSIDE, local_date=INSIDE.date())
    rolled_up()

    assert not summaries.refresh(acme, 2026, 3)
    assert summaries.monthly(acme, 2026, 3).totals.requests == 1


def test_a_closed_month_is_not_refreshed(acme):
    fact_of(acme)
    rolled_up()
    close(acme)

    with pytest.raises(MonthClosed) as caught:
        summaries.refresh(acme, 2026, 3)
    assert (caught.value.code, caught.value.http_status) == ("month_closed", 409)


def test_a_month_whose_requests_are_gone_is_neither_refreshed_nor_reopened(acme):
    close(acme)
    RetentionRecordFactory(kind="retired", log="inferencerequest", tenant_id=acme.pk, month=MARCH)

    with pytest.raises(MonthRetired) as caught:
        reopen(acme)
    assert caught.value.code == "month_retired"
    with pytest.raises(MonthRetired):
        summaries.refresh(acme, 2026, 4)  # its first hours may lie in March
    assert months.closed(acme, MARCH)


# --- closing


def test_closing_seals_the_sums_of_a_month(acme, globex):
    for n in range(5):
        fact_of(acme, model=f"m-{n}", provider="p")
    fact_of(globex)
    rolled_up()

    seal = close(acme)

    stored = AuditSeal.objects.get(log="usagesummary")
    assert (stored.kind, stored.tenant_id, stored.month, stored.seq, stored.n) == ("close", acme.pk, MARCH, 1, 5)
    ids = sorted(summaries.filter(tenant_id=acme.pk).values_list("pk", flat=True))
    assert (stored.id_from, stored.id_to) == (ids[0], ids[-1])
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_leaf(s) FROM cp_auditing_usagesummary s WHERE tenant_id = %s ORDER BY id", [acme.pk])
        leaves = [bytes(leaf) for (leaf,) in cursor.fetchall()]
    assert bytes(stored.root) == seal.root == merkle.root(leaves)
    found = summaries.monthly(acme, 2026, 3)
    assert found.closed_at == found.reconciled_at == seal.sealed_at
    event = AuditLog.objects.get(action="month.closed")
    assert (event.tenant_id, event.reason, event.resource_id, event.details["root"]) == (
        acme.pk,
        "all is in",
        "2026-03",
        seal.root.hex(),
    )
    assert (event.details["cost"], event.details["requests"], event.details["rows"]) == ("0.500000000000", 5, 5)
    assert not months.closed(globex, MARCH)


def test_a_closed_month_stays_and_what_is_late_is_in_this_month(acme):
    fact = fact_of(acme)
    rolled_up()
    close(acme)
    before = summaries.monthly(acme, 2026, 3)

    ingest(row(acme, "late"))
    requests.adjust(fact.pk, reason_code="credit", reason="r", cost=Decimal("-0.1"))
    rolled_up()

    assert summaries.monthly(acme, 2026, 3) == before
    today = now().astimezone(ZoneInfo("Europe/Berlin"))
    this = summaries.monthly(acme, today.year, today.month).totals
    assert (this.requests, this.adjustments, this.cost) == (1, 1, Decimal("-0.09"))


def test_reopened_changed_and_closed_again(acme):
    fact = fact_of(acme)
    rolled_up()
    first = close(acme)

    again = reopen(acme)
    requests.adjust(fact.pk, reason_code="invoice", reason="r", cost=Decimal(1))
    ingest(row(acme, "late"))
    rolled_up()
    second = close(acme)

    assert [seal.kind for seal in AuditSeal.objects.for_tenant(acme).filter(log="usagesummary").order_by("seq")] == [
        "close", "reopen", "close",
    ]  # fmt: skip
    assert (first.root, second.root == first.root, second.prev) == (again.root, False, again.hash)
    assert summaries.monthly(acme, 2026, 3).totals.cost == Decimal("1.11")
    event = AuditLog.objects.get(action="month.reopened")
    assert (event.reason, event.tenant_id) == ("an invoice came", acme.pk)


def test_a_reopened_month_was_reconciled_when_it_was_closed(acme):
    seal = close(acme)
    reopen(acme)

    found = summaries.monthly(acme, 2026, 3)

    assert (found.closed_at, found.reconciled_at) == (None, seal.sealed_at)


def test_a_closed_month_is_verified_and_one_that_was_altered_is_found(acme):
    fact_of(acme)
    rolled_up()
    close(acme)
    sealing.seal(now(), force=True)
    assert not [found for found in verify(tenant=acme).findings if found.log == "usagesummary"]

    with connection.cursor() as cursor:  # who may alter tables
        for guard in ("cp_closed_month_moved", "cp_closed_month_change"):
            cursor.execute(f"ALTER TABLE cp_auditing_usagesummary DISABLE TRIGGER {guard}")
        try:
            summaries.update(cost=9)
        finally:
            for guard in ("cp_closed_month_moved", "cp_closed_month_change"):
                cursor.execute(f"ALTER TABLE cp_auditing_usagesummary ENABLE ALWAYS TRIGGER {guard}")

    [found] = [found for found in verify(tenant=acme).findings if found.log == "usagesummary"]
    assert (found.kind, found.month) == ("month_altered", MARCH)


def test_an_empty_month_can_be_closed(acme):
    seal = close(acme)

    assert (seal.n, seal.root) == (0, merkle.root([]))
    ingest(row(acme, "late"))
    assert requests.order_by("id").get().booked_at is not None


def test_reopening_needs_a_reason_and_a_closed_month(acme):
    with pytest.raises(MonthNotClosed) as caught:
        reopen(acme)
    assert (caught.value.code, caught.value.http_status) == ("month_not_closed", 409)
    close(acme)
    for reason in ("", "  ", "\n"):
        with pytest.raises(ReasonRequired):
            reopen(acme, reason=reason)
    assert months.closed(acme, MARCH)


def test_a_month_is_closed_once(acme):
    close(acme)

    with pytest.raises(MonthClosed):
        close(acme)
    assert AuditSeal.objects.filter(log="usagesummary").count() == 1


def test_a_tenant_that_is_not_there_closes_nothing(acme):
    with pytest.raises(InvalidRow, match="No tenant"):
        months.close(UUID(int=7), 2026, 3, by="tests")


# --- what stands in the way


def reasons(tenant, month=MARCH, **asked):
    with pytest.raises(MonthNotClosable) as caught:
        close(tenant, month, **asked)
    assert (caught.value.code, caught.value.http_status) == ("month_not_closable", 409)
    assert all(reason in str(caught.value) for reason in caught.value.reasons)
    assert not months.closed(tenant, month)
    return caught.value.reasons


def test_a_month_is_over_for_three_days_in_its_zone(acme, monkeypatch):
    end = datetime(2026, 4, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    monkeypatch.setattr(months, "now", lambda: end + timedelta(days=3) - timedelta(microseconds=1))
    assert reasons(acme) == ("It is over at 2026-03-31 22:00 UTC and can be closed from 2026-04-03 22:00 UTC on.",)

    monkeypatch.setattr(months, "now", lambda: end + timedelta(days=3))
    assert close(acme).kind == "close"


def test_this_month_and_those_to_come_are_not_over(acme):
    today = now().date()
    assert "over at" in reasons(acme, today.replace(day=1))[0]
    assert "over at" in reasons(acme, date(today.year + 1, 1, 1))[0]


def test_what_is_in_flight_keeps_its_month_open_and_no_other(acme, globex):
    last = datetime(2026, 3, 31, 21, 59, tzinfo=UTC)  # 23:59 in Berlin
    InFlightRequestFactory(tenant_id=acme.pk, created_at=last, time_zone="Europe/Berlin")
    InFlightRequestFactory(tenant_id=acme.pk, created_at=last + timedelta(minutes=1), time_zone="Europe/Berlin")

    assert "in flight that began in it: 1." in reasons(acme)[0]
    assert close(globex).kind == "close"
    assert close(acme, date(2026, 2, 1)).kind == "close"


def test_what_is_not_rolled_up_keeps_its_month_open(acme, globex):
    fact_of(acme)
    fact_of(globex)

    said = reasons(acme)

    assert any("not rolled up yet: 1" in reason for reason in said)
    rolled_up()
    assert close(acme).n == 1


@pytest.mark.parametrize("model", [UsageSummary, UsageDay])
def test_sums_that_differ_keep_their_month_open(acme, model):
    fact_of(acme)
    rolled_up()
    model.objects.update(cost=Decimal(5))

    assert "usage_reconcile" in reasons(acme)[0]


def test_requests_without_a_cost_keep_their_month_open_unless_accepted(acme):
    fact_of(acme, cost=None, pricing_status="unpriced")
    priced = fact_of(acme, cost=None, pricing_status="unpriced")
    requests.adjust(priced.pk, reason_code="priced", reason="r", cost=Decimal(1))
    rolled_up()

    assert reasons(acme) == ("Requests without a cost: 1. Price them, or close it with --accept-unpriced.",)
    assert close(acme, accept_unpriced=True).n == 1
    assert AuditLog.objects.get(action="month.closed").details["unpriced"] == 1


def test_all_that_stands_in_the_way_is_said_at_once(acme):
    fact_of(acme, cost=None, pricing_status="unpriced")
    rolled_up()
    UsageDay.objects.update(requests=9)
    InFlightRequestFactory(tenant_id=acme.pk, created_at=INSIDE, time_zone="Europe/Berlin")

    assert len(reasons(acme)) == 3


def test_a_writer_that_began_before_anybody_looked_keeps_the_month_open(acme, other_connection, monkeypatch):
    other_connection.execute("BEGIN")
    other_connection.execute("SELECT pg_current_xact_id()")
    ahead = now() + timedelta(days=62)
    monkeypatch.setattr(months, "now", lambda: ahead)
    today = now().date().replace(day=1)

    assert any("has been open since" in reason for reason in reasons(acme, today))
    other_connection.execute("ROLLBACK")
    assert not any("has been open since" in reason for reason in _reasons_or_none(acme, today))


def _reasons_or_none(tenant, month):
    try:
        close(tenant, month)
    except MonthNotClosable as error:
        return error.reasons
    return ()


# --- at once


def test_closing_twice_at_once_is_closing_once(acme):
    fact_of(acme)
    rolled_up()

    outcomes = together(*[lambda: close(acme)] * 4)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["MonthClosed"] * 3 + ["Seal"]
    assert AuditSeal.objects.filter(log="usagesummary").count() == 1
    assert AuditLog.objects.filter(action="month.closed").count() == 1


def test_who_writes_into_a_month_is_in_it_before_it_closes(acme, other_connection):
    def first():
        with connection.cursor():
            ingest(row(acme, "in time"))

    outcome = behind(first, lambda: close(acme), other_connection)

    assert isinstance(outcome, MonthNotClosable)
    assert any("not rolled up" in reason for reason in outcome.reasons)
    rolled_up()
    assert (close(acme).n, requests.order_by("id").get().booked_at) == (1, None)


def test_who_comes_while_a_month_closes_is_booked_now(acme, other_connection):
    outcome = behind(lambda: close(acme), lambda: ingest(row(acme, "late")), other_connection)

    assert outcome.inserted == 1
    assert requests.order_by("id").get().booked_at is not None
    assert summaries.monthly(acme, 2026, 3).totals == Counts()


def test_who_adjusts_while_a_month_closes_is_booked_now(acme, other_connection):
    fact = fact_of(acme)
    rolled_up()

    outcome = behind(
        lambda: close(acme),
        lambda: requests.adjust(fact.pk, reason_code="credit", reason="r", cost=Decimal(-1)),
        other_connection,
    )

    assert outcome.booked_at is not None


def test_a_call_that_ends_while_its_month_is_about_to_close_is_in_it(acme, other_connection):
    flight = InFlightRequestFactory(tenant_id=acme.pk, created_at=INSIDE, time_zone="Europe/Berlin")

    with transaction.atomic():
        requests.complete(flight.pk, usage=Reported(prompt_tokens=5))
        [before] = together(lambda: close(acme))  # it sees the call in flight
    after = together(lambda: close(acme))[0]  # it sees the fact, which no roll-up has read

    assert "in flight" in str(before)
    assert "not rolled up" in str(after)
    rolled_up()
    assert close(acme, accept_unpriced=True).n == 1


def test_rows_that_arrive_while_months_close_are_in_a_month_that_is_open(acme, globex):
    """Writers of two tenants, the roll-up and who closes, all at once: no closed month changes, and no row is lost."""

    def writes(tenant, part):
        for n in range(12):
            assert ingest(row(tenant, f"{part}-{n}", INSIDE + timedelta(hours=n))).inserted == 1

    def closes(tenant):
        for _ in range(12):
            try:
                return close(tenant)
            except MonthNotClosable:
                rollups.run(now())
        return None

    outcomes = together(
        lambda: writes(acme, "a"),
        lambda: writes(acme, "b"),
        lambda: writes(globex, "c"),
        lambda: closes(acme),
        lambda: closes(globex),
    )
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    for tenant in (acme, globex):
        if months.closed(tenant, MARCH):
            then = AuditLog.objects.get(action="month.closed", tenant_id=tenant.pk).details["requests"]
            assert summaries.monthly(tenant, 2026, 3).totals.requests == then
    rolled_up()
    for tenant, count in ((acme, 24), (globex, 12)):
        assert sum(found.totals.requests for found in summaries.months(tenant)) == count
        for found in summaries.months(tenant):
            assert figures(found.totals) == by_hand(tenant, found.month)


def test_a_roll_up_waits_for_who_closes_and_changes_nothing_of_it(acme, globex, other_connection):
    fact_of(acme)
    rolled_up()
    fact_of(globex)

    behind(lambda: close(acme), lambda: rollups.run(now()), other_connection)

    assert (summaries.monthly(acme, 2026, 3).totals.requests, summaries.monthly(globex, 2026, 3).totals.requests) == (
        1,
        1,
    )


def test_a_row_put_into_a_closed_month_by_hand_does_not_change_it(acme, globex):
    """Past all that books: the roll-up leaves it out and goes on with the others."""
    fact_of(acme)
    rolled_up()
    close(acme)
    before = summaries.monthly(acme, 2026, 3)
    fact_of(acme, cost=Decimal(50))
    fact_of(globex)
    assert summaries.monthly(acme, 2026, 3) == before
    assert summaries.months(acme)[0].totals == before.totals

    rolled_up()

    assert summaries.monthly(acme, 2026, 3) == before
    assert summaries.monthly(globex, 2026, 3).totals.requests == 1


def test_who_holds_a_month_for_long_is_named(acme, other_connection, monkeypatch):
    monkeypatch.setattr(months, "_WAIT", "50ms")
    other_connection.execute("BEGIN")
    other_connection.execute("SELECT cp_month_hold(%s, %s)", [acme.pk, MARCH])

    assert "try again" in reasons(acme)[0]
    other_connection.execute("ROLLBACK")
    assert close(acme).kind == "close"


def test_closing_that_is_killed_between_any_two_statements_closes_nothing(acme, other_connection):
    fact_of(acme)
    rolled_up()

    def killed_at(number):
        count = 0

        def kill(execute, *call):
            nonlocal count
            count += 1
            if count == number:
                other_connection.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
            return execute(*call)

        try:
            with connection.execute_wrapper(kill):
                close(acme)
        except DatabaseError:
            return True
        finally:
            connection.close()
        return False

    number = 1
    while killed_at(number):
        assert not months.closed(acme, MARCH)
        assert not AuditLog.objects.filter(action="month.closed").exists()
        number += 1

    assert number > 10
    assert months.closed(acme, MARCH)


# --- the command


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("usage_month", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def failed(*arguments):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


def test_the_command_shows_closes_and_reopens(acme):
    fact_of(acme)
    rolled_up()

    assert "2026-03  open" in run("list", "acme")[0]
    out, err = run("show", "acme", "2026-03")
    assert "openai/gpt-4o" in out
    assert err == "2026-03 is open: 1 requests, 0.100000000000 US dollars."
    assert run("close", "acme", "2026-03", "--reason", "done")[0].startswith("Closed 2026-03: 1 sums are sealed under ")
    assert "closed at" in run("show", "acme", "2026-03")[1]
    assert run("reopen", "acme", "2026-03", "--reason", "invoice")[0].startswith("Reopened 2026-03.")
    assert [event.actor_id for event in AuditLog.objects.with_action("month.*")] == ["usage_month"] * 2


def test_the_command_writes_json(acme):
    fact_of(acme)
    rolled_up()

    shown = json.loads(run("show", "acme", "2026-03", "--json")[0])
    assert (shown["state"], shown["cost"], shown["rows"][0]["requests"]) == ("open", "0.100000000000", 1)
    closed = json.loads(run("close", "acme", "2026-03", "--json")[0])
    assert (closed["seq"], closed["rows"]) == (1, 1)
    assert json.loads(run("list", "acme", "--json")[0])["rows"][0]["state"] == "closed"
    assert json.loads(run("reopen", "acme", "2026-03", "--reason", "x", "--json")[0])["seq"] == 2


@pytest.mark.parametrize(
    ("arguments", "codes", "word"),
    [
        (["close", "nobody", "2026-03"], {2}, "no tenant"),
        (["close", "acme", "2026-13"], {1, 2}, "no month"),
        (["close", "acme", "March"], {1, 2}, "no month"),
        (["close", "acme", "2019-12"], {1}, "no month"),
        (["show", "acme", "0001-01"], {1}, "no month"),
        (["reopen", "acme", "2026-03"], {1, 2}, "--reason"),
        (["reopen", "acme", "2026-03", "--reason", " "], {1}, "Say why"),
        (["reopen", "acme", "2026-03", "--reason", "x"], {1}, "is open"),
        (["close", "acme", "2999-01"], {1}, "can be closed from"),
    ],
)
def test_the_command_refuses_garbage_in_a_sentence(acme, arguments, codes, word):
    code, said = failed(*arguments)

    assert word in said
    assert code in codes


def test_no_sum_of_an_open_month_moves_into_a_closed_one(acme, globex):
    fact_of(acme)
    rolled_up()
    close(acme)
    month = UsageSummaryFactory(tenant_id=globex.pk, month=now().date().replace(day=1))
    day = UsageDayFactory(tenant_id=globex.pk, day=now().date())

    for model, row, moved in (
        (UsageSummary, month, {"tenant_id": acme.pk, "month": MARCH}),
        (UsageDay, day, {"tenant_id": acme.pk, "day": INSIDE.date()}),
    ):
        with pytest.raises(IntegrityError, match="is closed"):
            model.objects.filter(pk=row.pk).update(**moved)


def test_the_database_names_the_rule_of_closed_months(acme):
    fact_of(acme)
    rolled_up()
    close(acme)

    with pytest.raises(IntegrityError) as caught:
        summaries.update(cost=0)
    assert caught.value.__cause__.diag.constraint_name == "cp_auditing_closed_month"


def test_a_tenant_that_moves_keeps_its_months(acme):
    """Its zone changes between two calls: each stays in the month of its booking."""
    border = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)  # April in Berlin, March in New York
    ingest(row(acme, "before", border))
    Tenant.objects.filter(pk=acme.pk).update(time_zone="America/New_York")
    ingest(row(acme, "after", border))
    rolled_up()

    assert [(found.month, found.totals.requests) for found in summaries.months(acme)] == [
        (date(2026, 4, 1), 1),
        (MARCH, 1),
    ]
    assert close(acme).n == 1
    assert not summaries.refresh(acme, 2026, 4)
    assert close(acme, date(2026, 4, 1)).n == 1


def test_a_tenant_of_the_farthest_zone_closes_its_month():
    far = TenantFactory(slug="far", time_zone="Etc/GMT+12")
    ingest(row(far, "r", datetime(2026, 4, 1, 11, 59, tzinfo=UTC)))
    rolled_up()

    assert close(far).n == 1
