from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing import adjusting
from auditing.adjusting import CODES, Adjustment
from auditing.context import audit_context
from auditing.errors import (
    AdjustmentRefused,
    AppendOnly,
    ConflictingDuplicate,
    InvalidRow,
    ReasonRequired,
    UnknownRequest,
)
from auditing.lifecycle import Reported
from auditing.models import AuditLog, InferenceRequest
from controlplane.core.ids import instant_of, milliseconds, now, uuid7
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import BranchFactory, InferenceRequestFactory, UserFactory
from tests.races import together

pytestmark = pytest.mark.django_db
requests = InferenceRequest.objects
BEGIN = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)


def fact_of(tenant, **values):
    return InferenceRequestFactory(
        **{"tenant_id": tenant.pk, "created_at": BEGIN, "cost": Decimal(1), "time_zone": tenant.time_zone, **values}
    )


def unpriced_of(tenant, **values):
    return fact_of(tenant, **{"cost": None, "pricing_status": "unpriced", **values})


def lost_of(tenant, **values):
    nothing = {"status": "lost", "prompt_tokens": None, "completion_tokens": None, "latency_ms": None}
    return fact_of(tenant, **{**nothing, **values})


def adjust(fact, **asked):
    return requests.adjust(fact.pk, **{"reason_code": "manual", "reason": "ticket 7", **asked})


def metrics(tenant):
    return requests.metrics(tenant, BEGIN, BEGIN + DAY)


def test_an_adjustment_is_a_signed_row_beside_the_original_which_stays(acme, acme_app):
    branch, user, price, key = BranchFactory(app=acme_app), UserFactory(tenant=acme), uuid7(), uuid7()
    fact = fact_of(
        acme, app_id=acme_app.pk, branch_id=branch.pk, user_id=user.pk, api_key_id=key, requested_model="gpt-4o",
        stream=True, source="import",
    )  # fmt: skip
    before = requests.filter(pk=fact.pk).values().get()

    row = adjust(
        fact, cost=Decimal("-0.25"), prompt_tokens=-10, reasoning_tokens=3, price_id=price, breakdown={"input": "-0.25"}
    )

    assert requests.filter(pk=fact.pk).values().get() == before
    assert (row.adjusts, row.pricing_status, row.reason_code, row.reason) == (
        fact.pk,
        "adjustment",
        "manual",
        "ticket 7",
    )
    assert (row.cost, row.prompt_tokens, row.completion_tokens, row.reasoning_tokens) == (
        Decimal("-0.25"),
        -10,
        None,
        3,
    )
    assert (row.price_id, row.cost_breakdown) == (price, {"input": "-0.25"})
    copied = (
        "tenant_id",
        "app_id",
        "branch_id",
        "user_id",
        "api_key_id",
        "provider",
        "model",
        "requested_model",
        "stream",
    )
    for name in (*copied, "status", "source"):
        assert getattr(row, name) == before[name]
    assert row.request_id != fact.request_id


def test_it_is_booked_at_the_instant_of_its_original(acme):
    fact = fact_of(acme, created_at=BEGIN + timedelta(microseconds=1_234_567))

    row = adjust(fact)

    assert (row.created_at, row.booked_at, row.time_zone) == (fact.created_at, None, "Europe/Berlin")
    assert row.local_date == fact.local_date
    assert milliseconds(instant_of(row.pk)) == milliseconds(instant_of(fact.pk))
    assert row.metadata["adjusted_at"] > BEGIN.isoformat()


def test_a_request_booked_elsewhere_takes_its_adjustments_with_it(acme):
    later = BEGIN + 2 * DAY
    fact = fact_of(acme, booked_at=later, local_date=later.date())

    row = adjust(fact)

    assert (row.booked_at, row.local_date) == (later, later.date())


@pytest.mark.parametrize("code", CODES)
def test_every_code_adjusts_what_it_is_for(acme, code):
    make = {"priced": unpriced_of, "late_completion": lost_of}.get(code, fact_of)

    row = adjust(make(acme), reason_code=code, cost=Decimal("0.5"))

    assert (row.reason_code, row.cost) == (code, Decimal("0.5"))


def test_the_same_id_code_and_key_is_one_row(acme):
    fact = fact_of(acme)

    first = adjust(fact, cost=Decimal(-1), reason_code="credit", key="a")

    assert adjust(fact, cost=Decimal(-1), reason_code="credit", key="a", reason="again").pk == first.pk
    others = [adjust(fact, cost=-1, reason_code="credit", key="b"), adjust(fact, cost=-1, key="a"), adjust(fact)]
    assert len({first.pk, *(row.pk for row in others)}) == 4
    assert requests.filter(adjusts=fact.pk).count() == 4


@pytest.mark.parametrize("other", [{"cost": Decimal(-2)}, {"prompt_tokens": 1}, {"cached_tokens": 0}])
def test_the_same_key_with_other_figures_is_refused(acme, other):
    fact = fact_of(acme)
    first = adjust(fact, cost=Decimal(-1))

    with pytest.raises(ConflictingDuplicate, match="another key") as caught:
        adjust(fact, **{"cost": Decimal(-1), **other})

    assert caught.value.id == first.pk
    assert requests.get(adjusts=fact.pk) == first


def test_an_adjustment_is_not_adjusted(acme):
    row = adjust(fact_of(acme))

    with pytest.raises(AdjustmentRefused) as caught:
        adjust(row)

    assert (caught.value.code, caught.value.http_status, caught.value.id) == ("adjusts_adjustment", 409, row.pk)


def test_a_request_of_another_tenant_is_not_there(acme, globex):
    fact = fact_of(acme)

    with pytest.raises(UnknownRequest):
        adjust(fact, tenant=globex)
    with tenant_scope(globex), pytest.raises(UnknownRequest):
        adjust(fact)
    with tenant_scope(acme):
        assert adjust(fact, tenant=acme, cost=-1).tenant_id == acme.pk
    assert requests.filter(adjusts=fact.pk).count() == 1


def test_what_is_not_in_the_log_is_not_adjusted(acme):
    flying = requests.start(tenant=acme, provider="openai", model="openai/gpt-4o")

    for id in (uuid7(), flying, UUID(int=0), UUID(int=2**128 - 1)):
        with pytest.raises(UnknownRequest):
            requests.adjust(id, reason_code="manual", reason="ticket 7")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"reason_code": "gift"}, "reason code"), ({"reason_code": ""}, "reason code"), ({"cost": 0.5}, "cost"),
        ({"cost": Decimal("NaN")}, "cost"), ({"cost": Decimal("Infinity")}, "cost"), ({"cost": True}, "cost"),
        ({"cost": "1"}, "cost"), ({"cost": -(Decimal(10) ** 12) - 1}, "cost"), ({"cost": Decimal(10) ** 12}, "cost"),
        ({"cost": Decimal("999999999999.9999999999999")}, "cost"), ({"prompt_tokens": 1.0}, "prompt_tokens"),
        ({"prompt_tokens": True}, "prompt_tokens"), ({"prompt_tokens": 2**31}, "prompt_tokens"),
        ({"prompt_tokens": -101}, "prompt_tokens"), ({"cached_tokens": -1}, "cached_tokens"),
        ({"key": "x" * 201}, "key"), ({"key": "a\x00"}, "key"), ({"breakdown": {"a": "x" * 512}}, "breakdown"),
    ],
)  # fmt: skip
def test_what_cannot_be_booked_is_refused_and_nothing_is_written(acme, asked, said):
    fact = fact_of(acme)

    with pytest.raises(InvalidRow, match=said):
        adjust(fact, **asked)

    assert not requests.filter(adjusts=fact.pk).exists()


@pytest.mark.parametrize("reason", ["", "  \n", "\t"])
def test_an_adjustment_says_why(acme, reason):
    with pytest.raises(ReasonRequired) as caught:
        adjust(fact_of(acme), reason=reason)

    assert caught.value.code == "reason_required"


def test_a_reason_is_cleaned_of_what_may_not_be_kept(acme):
    row = adjust(fact_of(acme), reason="a\x00 Bearer abcdefghijklmnop")

    assert row.reason == "a� Bearer [redacted]"


def test_no_more_tokens_are_taken_off_than_there_are(acme):
    fact = fact_of(acme, prompt_tokens=100)
    adjust(fact, prompt_tokens=-60, key="1")

    with pytest.raises(InvalidRow, match="would be -1"):
        adjust(fact, prompt_tokens=-41, key="2")

    assert adjust(fact, prompt_tokens=-40, key="2").prompt_tokens == -40


def test_money_is_rounded_half_to_even_to_12_places(acme):
    row = adjust(fact_of(acme), cost=Decimal("-0.0000000000025"))

    assert row.cost == Decimal("-0.000000000002")
    assert adjust(requests.get(pk=row.adjusts), cost=Decimal("-0.0000000000025")).pk == row.pk


def test_an_adjustment_is_an_event_with_actor_and_reason_written_once(acme):
    fact = fact_of(acme)

    with audit_context(actor="billing"):
        row = adjust(fact, reason_code="credit", cost=-1, key="k")
        adjust(fact, reason_code="credit", cost=-1, key="k")

    event = AuditLog.objects.with_action("request.adjusted").get()
    assert (event.tenant_id, event.actor_id, event.reason) == (acme.pk, "billing", "ticket 7")
    assert (event.resource_type, event.resource_id) == ("cp_auditing_inferencerequest", str(fact.pk))
    assert event.resource_label == fact.request_id
    assert event.details == {"adjustment": str(row.pk), "reason_code": "credit", "key": "k", "cost": "-1.000000000000"}


def test_an_adjustment_rolls_back_with_its_caller(acme):
    fact = fact_of(acme)

    with pytest.raises(RuntimeError), transaction.atomic():
        adjust(fact)
        raise RuntimeError

    assert not requests.filter(adjusts=fact.pk).exists()
    assert not AuditLog.objects.with_action("request.adjusted").exists()


def test_an_adjustment_never_changes_either(acme):
    row = adjust(fact_of(acme))

    with pytest.raises(AppendOnly):
        row.save()
    with pytest.raises(AppendOnly):
        row.delete()


def test_its_request_id_cannot_be_taken_before_it(acme):
    """Two databases that adjust the same request alike give the row the same id, and another request id."""
    fact = fact_of(acme)
    with transaction.atomic():
        first = adjust(fact, cost=-1)
        transaction.set_rollback(True)

    second = adjust(fact, cost=-1)

    assert second.pk == first.pk
    assert second.request_id != first.request_id


# --- what sums make of them


def test_sums_count_adjustments_and_requests_do_not(acme):
    fact = fact_of(acme, cost=Decimal(1))
    adjust(fact, reason_code="credit", cost=Decimal("-0.25"), prompt_tokens=-10)

    m = metrics(acme)
    [total] = requests.totals(acme, BEGIN, BEGIN + DAY)

    assert (m.total_requests, m.completed_requests, m.total_cost, m.total_tokens) == (1, 1, Decimal("0.75"), 110)
    assert (total.requests, total.completed, total.cost, total.tokens) == (1, 1, Decimal("0.75"), 110)


def test_an_adjustment_counts_in_the_window_of_its_original_alone(acme):
    adjust(fact_of(acme, created_at=BEGIN + DAY - timedelta(microseconds=1)), cost=Decimal("0.5"))

    assert requests.metrics(acme, BEGIN, BEGIN + DAY).total_cost == Decimal("1.5")
    assert requests.metrics(acme, BEGIN + DAY, BEGIN + 400 * DAY).total_cost == 0


def test_a_price_clears_the_unpriced_once(acme):
    fact = unpriced_of(acme)
    other = unpriced_of(acme)
    assert metrics(acme).unpriced == 2

    row = adjust(fact, reason_code="priced", cost=0)

    assert (metrics(acme).unpriced, list(requests.unpriced())) == (1, [other])
    assert adjust(fact, reason_code="priced", cost=0) == row
    with pytest.raises(AdjustmentRefused) as caught:
        adjust(fact, reason_code="priced", key="again")
    assert caught.value.code == "not_unpriced"
    adjust(fact, reason_code="repriced", cost=Decimal("0.5"))
    assert (metrics(acme).unpriced, metrics(acme).total_cost) == (1, Decimal("0.5"))


def test_what_has_a_price_is_repriced_not_priced(acme):
    with pytest.raises(AdjustmentRefused, match="repriced"):
        adjust(fact_of(acme), reason_code="priced")


def test_a_credit_leaves_an_unpriced_request_unpriced(acme):
    adjust(unpriced_of(acme), reason_code="credit", cost=-1)

    assert (metrics(acme).unpriced, metrics(acme).total_cost) == (1, -1)


# --- calls that were given up for lost, and ended after all


@dataclass
class Cost:
    total: Decimal | None
    status: str = "priced"
    price_id: UUID | None = None
    breakdown: dict | None = None


USAGE = Reported(prompt_tokens=100, completion_tokens=20)
HALF = Cost(Decimal("0.5"), breakdown={"input": "0.5"})


def test_the_late_end_of_a_lost_call_is_an_adjustment(acme):
    fact = lost_of(acme, pricing_status="estimated", cost=Decimal(2))
    assert (metrics(acme).lost, metrics(acme).completed_requests, metrics(acme).estimated_cost) == (1, 0, 2)

    returned = requests.complete(fact.pk, usage=USAGE, cost=HALF, latency_ms=700)

    assert returned == requests.get(pk=fact.pk)
    assert returned.status == "lost"
    m = metrics(acme)
    assert (m.total_requests, m.lost, m.completed_requests, m.total_tokens) == (1, 0, 1, 120)
    assert (m.total_cost, m.estimated_cost, m.average_latency_ms, m.p50) == (Decimal("0.5"), 0, 700, 1024)
    row = requests.get(adjusts=fact.pk)
    assert (row.reason_code, row.status, row.cost) == ("late_completion", "completed", Decimal("-1.5"))


def test_the_late_end_of_an_unpriced_lost_call_prices_it(acme):
    fact = lost_of(acme, pricing_status="unpriced", cost=None)

    requests.complete(fact.pk, usage=USAGE, cost=HALF)

    m = metrics(acme)
    assert (m.lost, m.completed_requests, m.unpriced, m.total_cost) == (0, 1, 0, Decimal("0.5"))
    priced = requests.get(adjusts=fact.pk, reason_code="priced")
    assert (priced.cost, priced.cost_breakdown) == (Decimal("0.5"), {"input": "0.5"})


def test_an_end_without_a_price_leaves_what_was_estimated_or_unknown(acme):
    estimated = lost_of(acme, pricing_status="estimated", cost=Decimal(2))
    unpriced = lost_of(acme, pricing_status="unpriced", cost=None)

    for fact in (estimated, unpriced):
        requests.complete(fact.pk, usage=USAGE, cost=Cost(None))

    m = metrics(acme)
    assert (m.lost, m.completed_requests, m.unpriced, m.total_cost, m.estimated_cost) == (0, 2, 1, 2, 2)


def test_a_lost_call_that_failed_late_costs_nothing(acme):
    fact = lost_of(acme, pricing_status="estimated", cost=Decimal(2))

    requests.fail(fact.pk, error="boom")

    m = metrics(acme)
    assert (m.lost, m.failed_requests, m.total_cost, m.estimated_cost) == (0, 1, 0, 0)
    row = requests.get(adjusts=fact.pk)
    assert (row.error, row.error_code) == ("boom", "provider_error")


def test_the_same_late_end_again_changes_nothing_and_another_is_refused(acme):
    fact = lost_of(acme, pricing_status="unpriced", cost=None)
    requests.complete(fact.pk, usage=USAGE, cost=HALF)

    requests.complete(fact.pk, usage=USAGE, cost=HALF)

    for other in (
        lambda: requests.complete(fact.pk, usage=USAGE, cost=Cost(Decimal("0.6"))),
        lambda: requests.complete(fact.pk, usage=USAGE),
        lambda: requests.complete(fact.pk, usage=Reported(prompt_tokens=1), cost=HALF),
        lambda: requests.cancel(fact.pk, usage=USAGE, cost=HALF),
    ):
        with pytest.raises(ConflictingDuplicate):
            other()
    assert requests.filter(adjusts=fact.pk).count() == 2


def test_a_lost_call_of_which_something_was_known_adds_up_to_its_end(acme):
    fact = lost_of(acme, prompt_tokens=70, cost=Decimal(0))

    requests.complete(fact.pk, usage=USAGE, cost=HALF)

    assert (metrics(acme).total_tokens, metrics(acme).total_cost) == (120, Decimal("0.5"))


def test_only_what_is_lost_ends_late_and_once(acme):
    with pytest.raises(AdjustmentRefused) as caught:
        adjust(fact_of(acme), reason_code="late_completion")
    assert caught.value.code == "not_lost"
    lost = lost_of(acme)
    adjust(lost, reason_code="late_completion", key="a")
    with pytest.raises(AdjustmentRefused):
        adjust(lost, reason_code="late_completion", key="b")
    assert (metrics(acme).lost, metrics(acme).completed_requests) == (0, 2)


# --- by the thousand


def test_many_are_written_at_once_and_each_once(acme):
    facts = [fact_of(acme, created_at=BEGIN + timedelta(seconds=n)) for n in range(50)]
    given = [
        Adjustment(adjusts=fact.pk, reason_code="repriced", reason="new price", cost=Decimal(n))
        for n, fact in enumerate(facts)
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        adjusting.lock(cursor, [acme.pk])
        assert adjusting.insert(cursor, given[:40]) == 40
        assert adjusting.insert(cursor, given) == 10
        assert adjusting.insert(cursor, []) == 0
        found = adjusting.booked(cursor, [fact.pk for fact in facts])

    assert {id: (b.count, b.cost) for id, b in found.items()} == {fact.pk: (1, n) for n, fact in enumerate(facts)}
    assert metrics(acme).total_cost == 50 + sum(range(50))


def test_what_is_booked_is_without_credits_and_with_all_counts(acme):
    fact, other = unpriced_of(acme), fact_of(acme)
    adjust(fact, reason_code="priced", cost=Decimal("0.3"), completion_tokens=5)
    adjust(fact, reason_code="repriced", cost=Decimal("-0.1"), prompt_tokens=-1, completion_tokens=1)
    adjust(fact, reason_code="credit", cost=Decimal("-0.2"))

    with connection.cursor() as cursor:
        found = adjusting.booked(cursor, [fact.pk, other.pk])
        assert adjusting.booked(cursor, []) == {}

    assert list(found) == [fact.pk]
    b = found[fact.pk]
    assert (b.count, b.cost, b.priced, b.late) == (3, Decimal("0.2"), True, False)
    assert (b.prompt_tokens, b.completion_tokens, b.cached_tokens) == (-1, 6, None)


# --- at once


@pytest.mark.django_db(transaction=True)
def test_of_the_same_adjustments_at_once_one_is_written_and_all_get_it(acme):
    fact = fact_of(acme)

    outcomes = together(*(lambda: adjust(fact, cost=-1, reason_code="credit", key="k") for _ in range(6)))

    assert {outcome.pk for outcome in outcomes} == {requests.get(adjusts=fact.pk).pk}
    assert AuditLog.objects.with_action("request.adjusted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_first_prices_at_once_one_is_refused(acme):
    fact = unpriced_of(acme)

    outcomes = together(*(lambda n=n: adjust(fact, reason_code="priced", cost=1, key=f"price {n}") for n in range(6)))

    assert sum(isinstance(outcome, InferenceRequest) for outcome in outcomes) == 1
    assert {outcome.code for outcome in outcomes if isinstance(outcome, Exception)} == {"not_unpriced"}
    assert metrics(acme).unpriced == 0


@pytest.mark.django_db(transaction=True)
def test_tokens_taken_off_at_once_never_go_below_nothing(acme):
    fact = fact_of(acme, prompt_tokens=100)

    together(*(lambda n=n: adjust(fact, prompt_tokens=-40, key=f"{n}") for n in range(5)))

    assert metrics(acme).total_tokens == 100 - 2 * 40 + 20


@pytest.mark.django_db(transaction=True)
def test_of_two_late_ends_at_once_one_is_written(acme):
    fact = lost_of(acme, pricing_status="unpriced", cost=None)

    together(*(lambda: requests.complete(fact.pk, usage=USAGE, cost=HALF) for _ in range(5)))

    assert sorted(requests.filter(adjusts=fact.pk).values_list("reason_code", flat=True)) == [
        "late_completion",
        "priced",
    ]
    assert metrics(acme).total_cost == Decimal("0.5")


# --- against plain arithmetic

steps = st.lists(
    st.tuples(
        st.sampled_from(["repriced", "invoice", "credit", "manual", "priced"]), st.decimals(-10, 10, places=14),
        st.integers(-30, 200), st.sampled_from("abc"),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.booleans())
def test_sums_are_those_of_the_original_and_what_was_accepted(acme, given_steps, unpriced):
    with transaction.atomic():
        tenant = Tenant(pk=uuid7(), slug="x", time_zone="UTC")
        fact = unpriced_of(tenant) if unpriced else fact_of(tenant)
        cost, tokens, cleared, seen = fact.cost or Decimal(0), 100, False, set()
        for code, amount, count, key in given_steps:
            try:
                row = adjust(fact, reason_code=code, cost=amount, prompt_tokens=count, key=key)
            except (ConflictingDuplicate, AdjustmentRefused, InvalidRow):
                continue
            if row.pk not in seen:
                seen.add(row.pk)
                cost, tokens, cleared = cost + row.cost, tokens + count, cleared or code == "priced"

        m = metrics(tenant)
        assert (m.total_requests, m.total_cost, m.total_tokens) == (1, cost, tokens + 20)
        assert m.unpriced == (unpriced and not cleared)
        transaction.set_rollback(True)
