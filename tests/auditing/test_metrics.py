from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.errors import InvalidWindow
from auditing.models import InferenceRequest, InFlightRequest
from controlplane.core.ids import now, uuid7, uuid7_at
from tests.factories import InferenceRequestFactory, InFlightRequestFactory

pytestmark = pytest.mark.django_db
requests = InferenceRequest.objects
BEGIN = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def test_nothing_is_zero_and_what_is_unknown_is_none(acme):
    m = requests.metrics(acme, BEGIN, BEGIN + DAY)

    assert (m.total_requests, m.completed_requests, m.failed_requests, m.total_tokens, m.in_flight) == (0, 0, 0, 0, 0)
    assert (m.total_cost, m.estimated_cost) == (0, 0)
    assert isinstance(m.total_cost, Decimal)
    assert (m.average_latency_ms, m.p50, m.p95, m.p99) == (None, None, None, None)


@pytest.mark.parametrize("call", [requests.metrics, requests.totals])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (BEGIN, BEGIN),
        (BEGIN + DAY, BEGIN),
        (BEGIN.replace(tzinfo=None), BEGIN + DAY),
        (BEGIN, (BEGIN + DAY).replace(tzinfo=None)),
    ],
    ids=["empty", "reversed", "naive start", "naive end"],
)
def test_a_window_that_is_none_is_refused(acme, call, start, end):
    with pytest.raises(InvalidWindow):
        call(acme, start, end)


def test_totals_are_by_something_known(acme):
    for by in ((), ("colour",), ("model", "cost; DROP TABLE x")):
        with pytest.raises(InvalidWindow) as caught:
            requests.totals(acme, BEGIN, BEGIN + DAY, by=by)
        assert caught.value.code == "unknown_group"


@pytest.mark.parametrize("latency", [0, 1, 2, 3, 4, 5, 8, 9, 1023, 1024, 1025, 2**30, 2**30 + 1, 2**31 - 1])
def test_a_percentile_is_the_next_power_of_two(acme, latency):
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN, latency_ms=latency)

    bound = 1
    while bound < latency:
        bound *= 2

    assert requests.metrics(acme, BEGIN, BEGIN + DAY).p50 == bound


def test_what_is_in_flight_counts_and_what_adjusts_does_not(acme):
    InFlightRequestFactory(tenant_id=acme.pk, created_at=BEGIN)
    fact = InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN, cost=Decimal(1))
    InferenceRequestFactory(
        tenant_id=acme.pk, created_at=BEGIN, adjusts=fact.pk, pricing_status="adjustment", reason="x", reason_code="credit",
        cost=Decimal("-0.25"), prompt_tokens=-10, completion_tokens=None, latency_ms=None,
    )  # fmt: skip

    m = requests.metrics(acme, BEGIN, BEGIN + DAY)

    assert (m.total_requests, m.completed_requests, m.in_flight) == (2, 1, 1)
    assert (m.total_cost, m.total_tokens) == (Decimal("0.75"), 110)


def test_an_unpriced_call_is_counted_and_in_no_cost(acme):
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN, cost=None, pricing_status="unpriced")

    m = requests.metrics(acme, BEGIN, BEGIN + DAY)

    assert (m.unpriced, m.total_cost, m.total_requests) == (1, 0, 1)


# --- against a plain count

TENANTS = [UUID(int=n + 1) for n in range(2)]
MODELS = ["openai/gpt-4o", "anthropic/claude"]
maybe = st.none() | st.integers(0, 2_000_000)
facts = st.fixed_dictionaries(
    {
        "tenant_id": st.sampled_from(TENANTS),
        "model": st.sampled_from(MODELS),
        "app_id": st.sampled_from([None, UUID(int=7)]),
        "status": st.sampled_from(["completed", "failed", "cancelled", "lost"]),
        "created_at": st.integers(0, 3 * 3600 * 1_000_000).map(lambda us: BEGIN + timedelta(microseconds=us)),
        "prompt_tokens": maybe,
        "completion_tokens": maybe,
        "cost": st.none() | st.decimals(0, 100, places=12),
        "latency_ms": maybe,
        "estimated": st.booleans(),
        "zone": st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]),
    }
)
flights = st.tuples(st.sampled_from(TENANTS), st.integers(0, 3 * 3600).map(lambda s: BEGIN + timedelta(seconds=s)))
windows = st.tuples(st.integers(0, 3600 * 1_000_000), st.integers(1, 2 * 3600 * 1_000_000))


def stored(n, fact):
    cost = fact["cost"]
    pricing = "unpriced" if cost is None else "estimated" if fact["estimated"] else "priced"
    return InferenceRequest(
        id=uuid7_at(fact["created_at"]), request_id=f"r{n}", provider=fact["model"].split("/")[0], pricing_status=pricing,
        time_zone=fact["zone"], local_date=fact["created_at"].astimezone(ZoneInfo(fact["zone"])).date(), source="gate",
        **{name: value for name, value in fact.items() if name not in ("estimated", "zone")},
    )  # fmt: skip


def bound_of(latency):
    bound = 1
    while bound < latency:
        bound *= 2
    return bound


def nearest_rank(values, share):
    """The smallest value with at least that share of the values at or below it: what percentile_disc says."""
    rank = -(-len(values) * share.numerator // share.denominator)
    return sorted(values)[int(rank) - 1] if values else None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(facts, max_size=20), st.lists(flights, max_size=4), windows)
def test_metrics_are_what_a_plain_count_says(given_facts, given_flights, window):
    start = BEGIN + timedelta(microseconds=window[0])
    end = start + timedelta(microseconds=window[1])
    rows = [stored(n, fact) for n, fact in enumerate(given_facts)]
    with transaction.atomic():
        InferenceRequest.objects.bulk_create(rows)
        InFlightRequest.objects.bulk_create(
            InFlightRequestFactory.build(tenant_id=tenant, created_at=at) for tenant, at in given_flights
        )
        for tenant in TENANTS:
            mine = [row for row in rows if row.tenant_id == tenant and start <= row.created_at < end]
            flying = [at for owner, at in given_flights if owner == tenant and start <= at < end]
            check_metrics(requests.metrics(tenant, start, end), mine, flying)
            for by in (("model",), ("app", "model"), ("day",), ("hour",), ("month", "provider"), ("tenant",)):
                check_totals(requests.totals(tenant, start, end, by=by), mine, by)
        everybody = [row for row in rows if start <= row.created_at < end]
        check_totals(requests.totals(None, start, end, by=("tenant",)), everybody, ("tenant",))
        transaction.set_rollback(True)


def check_metrics(m, rows, flying):
    done = [row for row in rows if row.status == "completed"]
    latencies = [row.latency_ms for row in done if row.latency_ms is not None]

    assert m.total_requests == len(rows) + len(flying)
    assert m.in_flight == len(flying)
    assert m.completed_requests == len(done)
    for status, count in (("failed", m.failed_requests), ("cancelled", m.cancelled), ("lost", m.lost)):
        assert count == sum(row.status == status for row in rows)
    assert m.total_tokens == sum((row.prompt_tokens or 0) + (row.completion_tokens or 0) for row in rows)
    assert m.total_cost == sum((row.cost or 0 for row in rows), Decimal(0))
    assert m.unpriced == sum(row.cost is None for row in rows)
    assert m.estimated_cost == sum((row.cost for row in rows if row.pricing_status == "estimated"), Decimal(0))
    average = sum(latencies) / len(latencies) if latencies else None
    assert m.average_latency_ms == (None if average is None else pytest.approx(average))
    bounds = [bound_of(latency) for latency in latencies]
    for share, found in ((Fraction(1, 2), m.p50), (Fraction(19, 20), m.p95), (Fraction(99, 100), m.p99)):
        assert found == nearest_rank(bounds, share)


KEYS = {
    "model": lambda row: row.model,
    "provider": lambda row: row.provider,
    "app": lambda row: row.app_id,
    "tenant": lambda row: row.tenant_id,
    "day": lambda row: row.local_date,
    "month": lambda row: row.local_date.replace(day=1),
    "hour": lambda row: row.created_at.replace(minute=0, second=0, microsecond=0),
}


def check_totals(found, rows, by):
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(KEYS[name](row) for name in by)].append(row)

    assert {total.key for total in found} == set(groups)
    assert len(found) == len(groups)
    for total in found:
        mine = groups[total.key]
        assert total.requests == len(mine)
        assert total.completed == sum(row.status == "completed" for row in mine)
        assert total.failed == sum(row.status == "failed" for row in mine)
        assert total.tokens == sum((row.prompt_tokens or 0) + (row.completion_tokens or 0) for row in mine)
        assert total.cost == sum((row.cost or 0 for row in mine), Decimal(0))
        assert total.unpriced == sum(row.cost is None for row in mine)
    if {"day", "month", "hour"} & set(by):
        times = [total.key[0] for total in found]
        assert times == sorted(times)
    else:
        counts = [total.requests for total in found]
        assert counts == sorted(counts, reverse=True)


def test_a_day_is_the_tenants_and_a_window_is_utc(acme):
    late = BEGIN + DAY - timedelta(minutes=30)  # in India it is tomorrow
    InferenceRequestFactory(
        tenant_id=acme.pk,
        created_at=late,
        time_zone="Asia/Kolkata",
        local_date=late.astimezone(ZoneInfo("Asia/Kolkata")).date(),
    )

    [total] = requests.totals(acme, BEGIN, BEGIN + DAY, by=("day",))

    assert total.key == ((BEGIN + DAY).date(),)


def test_a_window_of_another_zone_is_the_same_window(acme):
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN)
    kolkata = ZoneInfo("Asia/Kolkata")

    assert requests.metrics(acme, BEGIN.astimezone(kolkata), (BEGIN + HOUR).astimezone(kolkata)).total_requests == 1
    assert requests.metrics(acme, (BEGIN - HOUR).astimezone(UTC), BEGIN).total_requests == 0


def test_sums_beyond_32_bits_are_exact(acme):
    InferenceRequest.objects.bulk_create(
        InferenceRequestFactory.build(
            tenant_id=acme.pk, created_at=BEGIN, prompt_tokens=2**31 - 1, cost=Decimal("999999999999")
        )
        for _ in range(4)
    )

    m = requests.metrics(acme, BEGIN, BEGIN + DAY)

    assert m.total_tokens == 4 * (2**31 - 1 + 20)
    assert m.total_cost == 4 * Decimal("999999999999")


def test_a_tenant_is_given_as_row_or_id(acme):
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN)

    for tenant in (acme, acme.pk, str(acme.pk)):
        assert requests.metrics(tenant, BEGIN, BEGIN + DAY).total_requests == 1
    assert requests.metrics(uuid7(), BEGIN, BEGIN + DAY).total_requests == 0


def test_the_window_may_begin_before_any_partition(acme):
    assert (
        requests.metrics(acme, datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)).total_requests == 0
    )
