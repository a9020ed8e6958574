from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db.models import QuerySet

from auditing.models import AuditLog
from controlplane.core.ids import now
from policies import limits
from policies.counting import Amounts
from policies.errors import PolicyError
from policies.models import LimitAlert, LimitBucket, Policy, Reservation

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 10, 12, 34, 56, tzinfo=UTC)
CALL = Amounts(input_tokens=900, output_tokens=100, cost=Decimal("0.5"))


def budget(limit="1.00", **entry):
    return {"limits": [{"window": "month", "limit": limit, **entry}]}


def rate(limit=2, **entry):
    return {"limits": [{"metric": "requests", "window": "1m", "limit": limit, **entry}]}


def hold(world, name="r1", amounts=CALL, at=AT, model="openai/gpt-4o", **asked):
    return limits.reserve(world.effective(**asked), model, amounts, name, at=at)


def counted(world, metric="cost"):
    """spent and reserved of the one counter of a metric."""
    [bucket] = LimitBucket.objects.filter(tenant=world.tenant, metric=metric)
    return bucket.spent, bucket.reserved


def test_nothing_is_held_where_nothing_is_limited(acme):
    held = hold(acme)

    assert held
    assert held.id is None
    assert limits.settle(held, CALL) is None
    assert not Reservation.objects.exists()


GARBAGE = ["", "x" * 201, "a\x00b", "\ud800", None, 5, b"r", [], uuid4()]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_no_request_id_is_refused_by_every_door(acme, garbage):
    acme.policy("budget", budget())
    held = hold(acme)
    doors = [
        lambda: hold(acme, garbage),
        lambda: limits.release(acme.tenant.pk, garbage),
        lambda: limits.expire(acme.tenant.pk, garbage),
        lambda: limits.settle_request(acme.tenant.pk, garbage, CALL),
    ]

    for door in doors:
        with pytest.raises(PolicyError) as caught:
            door()
        assert caught.value.code == "request_id_invalid"
    assert limits.release(acme.tenant.pk, held.asked.request_id).changed


@pytest.mark.parametrize(
    "ttl", [5, timedelta(0), timedelta(-1), timedelta.max, timedelta(days=1, microseconds=1), "1h"]
)
def test_what_is_no_time_to_live_is_refused(acme, ttl):
    acme.policy("budget", budget())

    with pytest.raises(PolicyError) as caught:
        limits.reserve(acme.effective(), "openai/gpt-4o", CALL, "r1", ttl=ttl)

    assert caught.value.code == "ttl_invalid"


def test_a_reservation_holds_the_upper_bound_on_every_counter(acme):
    acme.policy("budget", budget())
    acme.policy("rate_limit", rate(), user=acme.user())

    held = hold(acme, user=acme.user())

    assert held
    assert held.state == "reserved"
    assert counted(acme) == (0, Decimal("0.5"))
    assert counted(acme, "requests") == (0, 1)
    stored = Reservation.objects.get()
    assert (stored.pk, stored.request_id, stored.user_id, stored.model) == (
        held.id,
        "r1",
        acme.user().pk,
        "openai/gpt-4o",
    )
    assert stored.expires_at - stored.reserved_at == timedelta(seconds=900)


def test_if_one_counter_refuses_none_is_touched_and_all_that_refuse_are_named(acme):
    acme.policy("budget", budget("0.40"))
    acme.policy("budget", budget("0.30"), user=acme.user())
    acme.policy("rate_limit", rate(0))
    acme.policy("rate_limit", rate(5), user=acme.user())

    held = hold(acme, user=acme.user())

    assert not held
    assert [(one.counter.metric, one.counter.hard, one.left) for one in held.failing] == [
        ("cost", Decimal("0.40"), Decimal("0.40")),
        ("cost", Decimal("0.30"), Decimal("0.30")),
        ("requests", Decimal(0), Decimal(0)),
    ]
    assert not LimitBucket.objects.with_held().exists()
    assert not Reservation.objects.exists()


def test_a_call_that_reaches_the_limit_exactly_is_the_last(acme):
    acme.policy("budget", budget("1.00"))

    assert [bool(hold(acme, name)) for name in ("a", "b", "c")] == [True, True, False]


def test_settle_gives_back_what_was_held_and_charges_what_was_used(acme):
    acme.policy("budget", budget())
    held = hold(acme)

    ended = limits.settle(held, Amounts(input_tokens=900, output_tokens=10, cost=Decimal("0.123456789012")))

    assert (ended.changed, ended.state, ended.overrun, ended.estimated) == (True, "settled", False, False)
    assert ended.actuals == (Decimal("0.123456789012"),)
    assert counted(acme) == (Decimal("0.123456789012"), 0)


def test_settled_twice_it_is_charged_once_and_says_the_same(acme):
    acme.policy("budget", budget())
    held = hold(acme)

    first = limits.settle(held, Amounts(cost=Decimal("0.2")))
    second = limits.settle(held, Amounts(cost=Decimal("0.4")))

    assert first.changed
    assert not second.changed
    assert (second.state, second.actuals, second.spent) == ("settled", first.actuals, first.spent)
    assert counted(acme) == (Decimal("0.2"), 0)


def test_what_was_used_past_what_was_held_is_charged_in_full_and_flagged(acme):
    acme.policy("budget", budget())

    ended = limits.settle(hold(acme), Amounts(cost=Decimal("7")))

    assert ended.overrun
    assert counted(acme) == (7, 0)


def test_what_is_not_known_is_charged_as_it_was_held_and_flagged(acme):
    acme.policy("budget", budget())

    ended = limits.settle(hold(acme), Amounts(input_tokens=1, output_tokens=1))

    assert ended.estimated
    assert counted(acme) == (Decimal("0.5"), 0)
    assert Reservation.objects.get().estimated


def test_a_released_call_costs_nothing_and_stays_released(acme):
    acme.policy("budget", budget())
    held = hold(acme)

    assert limits.release(acme.tenant.pk, "r1").state == "released"
    assert not limits.release(acme.tenant.pk, "r1").changed
    assert limits.settle(held, CALL).state == "released"
    assert counted(acme) == (0, 0)


def test_an_expired_call_gives_back_and_is_charged_all_the_same_when_it_ends(acme):
    acme.policy("budget", budget())
    held = hold(acme)

    assert not limits.expire(acme.tenant.pk, "r1", at=AT + timedelta(seconds=899)).changed
    assert limits.expire(acme.tenant.pk, "r1", at=AT + timedelta(seconds=900)).state == "expired"
    assert counted(acme) == (0, 0)
    assert limits.settle(held, Amounts(cost=Decimal("0.3"))).changed
    assert counted(acme) == (Decimal("0.3"), 0)


def test_calls_at_a_time_are_a_gauge(acme):
    acme.policy("rate_limit", rate(1, metric="concurrent", window="none"))
    first = hold(acme, "a")

    assert not hold(acme, "b")
    limits.settle(first, CALL)
    assert counted(acme, "concurrent") == (0, 0)
    assert hold(acme, "c")


def test_the_same_request_asked_alike_is_held_once(acme):
    acme.policy("budget", budget("0.50"))
    first = hold(acme)

    again = hold(acme)

    assert again
    assert (again.id, again.repeated, again.state) == (first.id, True, "reserved")
    assert counted(acme) == (0, Decimal("0.5"))
    limits.settle(first, Amounts(cost=Decimal("0.1")))
    late = hold(acme)
    assert not late
    assert (late.id, late.repeated, late.state, late.failing) == (first.id, True, "settled", ())


@pytest.mark.parametrize("other", [{"amounts": Amounts(cost=Decimal("0.1"))}, {"model": "openai/o3"}])
def test_the_same_request_id_for_another_request_is_refused(acme, other):
    acme.policy("budget", budget())
    hold(acme)

    with pytest.raises(PolicyError) as refused:
        hold(acme, **other)

    assert (refused.value.code, refused.value.http_status) == ("idempotency_conflict", 409)
    assert counted(acme) == (0, Decimal("0.5"))


def test_an_edited_limit_keeps_its_count_and_settle_charges_where_it_was_held(acme):
    policy = acme.policy("budget", budget())
    held = hold(acme)
    policy.config = budget("0.60")
    policy.save()

    assert not hold(acme, "r2")
    assert LimitBucket.objects.get().last_limit == Decimal("0.60")
    policy.config = budget(window="week")
    policy.save()
    limits.settle(held, CALL)

    assert counted(acme) == (Decimal("0.5"), 0)


def test_settle_charges_the_window_of_the_reserve(acme):
    acme.policy("rate_limit", rate())
    held = hold(acme)

    limits.settle(held, CALL, at=AT + timedelta(minutes=5))
    hold(acme, "r2", at=AT + timedelta(minutes=5))

    assert [*LimitBucket.objects.order_by("label").values_list("spent", "reserved")] == [(1, 0), (0, 1)]


def test_a_soft_limit_warns_and_is_recorded_once_in_its_window(acme):
    acme.policy("budget", budget("0.60", mode="soft"))

    first, second, third = (hold(acme, name) for name in ("a", "b", "c"))

    assert first
    assert third
    assert first.warnings == ()
    [(level, passed)] = second.warnings
    assert (passed.limit, level.reserved) == (Decimal("0.60"), Decimal("0.5"))
    assert AuditLog.objects.filter(action="limit.soft").count() == 1
    assert LimitAlert.objects.get().threshold == "soft:0.6"
    hold(acme, "d", at=AT + timedelta(days=31))
    hold(acme, "e", at=AT + timedelta(days=31))
    assert AuditLog.objects.filter(action="limit.soft").count() == 2


def test_a_shadow_limit_is_counted_and_changes_nothing(acme):
    acme.policy("budget", budget("0.10", mode="shadow"))

    held = hold(acme)

    assert held
    assert len(held.shadowed) == 1
    assert counted(acme) == (0, Decimal("0.5"))
    assert not LimitAlert.objects.exists()


def test_a_share_of_a_budget_is_told_once_when_it_is_spent(acme):
    acme.policy("budget", budget("1.00", alert_at=[0.4, 0.8]))
    first, second = hold(acme, "a"), hold(acme, "b")

    assert not LimitAlert.objects.exists()  # held is not spent
    limits.settle(first, Amounts(cost=Decimal("0.4")))
    limits.settle(second, Amounts(cost=Decimal("0.1")))

    [event] = AuditLog.objects.filter(action="limit.alert")
    assert event.tenant_id == acme.tenant.pk
    assert event.details["used"] == "0.4"
    assert LimitAlert.objects.get().threshold == "alert:0.4"


def test_what_a_settle_could_not_tell_the_next_reserve_tells(acme):
    acme.policy("budget", budget("1.00", alert_at=[0.5]))
    hold(acme)
    limits.settle_request(acme.tenant.pk, "r1", CALL)

    hold(acme, "r2")

    assert AuditLog.objects.filter(action="limit.alert").count() == 1


def test_another_tenants_ids_reach_nothing(acme, globex):
    for world in (acme, globex):
        world.policy("budget", budget())
    hold(acme)
    [bucket], there = LimitBucket.objects.filter(tenant=acme.tenant), globex.tenant.pk

    assert limits.settle_request(there, "r1", CALL) is None
    assert limits.release(there, "r1") is None
    assert limits.expire(there, "r1", at=AT + timedelta(days=1)) is None
    assert not LimitBucket.objects.current(globex.tenant, AT).exists()
    assert not Reservation.objects.for_tenant(there).exists()
    assert limits.verify(there) == []
    for given in ({"app": globex.app()}, {"user": globex.user()}, {"key": globex.key()}):
        with pytest.raises(PolicyError, match="another tenant"):
            hold(acme, "r2", **given)

    assert hold(globex)  # the same request id, in a tenant of its own
    assert counted(acme) == (0, Decimal("0.5"))
    assert Reservation.objects.of_bucket(bucket).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_warm_call_is_two_statements_and_a_new_window_one_more(acme, django_assert_num_queries):
    acme.policy("budget", budget(alert_at=[0.9]))
    acme.policy("rate_limit", rate(10))
    acme.policy("rate_limit", rate(10), user=acme.user())
    effective, model = acme.effective(user=acme.user()), "openai/gpt-4o"

    with django_assert_num_queries(2):
        limits.reserve(effective, model, CALL, "first", at=now())
    with django_assert_num_queries(1):
        held = limits.reserve(effective, model, Amounts(cost=Decimal("0.1")), "second", at=now())
    with django_assert_num_queries(1):
        limits.settle(held, CALL)
    with django_assert_num_queries(1):
        limits.reserve(effective, model, Amounts(cost=Decimal(9)), "refused", at=now())


def test_the_timeout_of_the_routing_policies_lengthens_a_hold(acme):
    acme.policy("budget", budget())
    acme.policy("routing", {"timeout_ms": 600_000})

    hold(acme)

    stored = Reservation.objects.get()
    assert stored.expires_at - stored.reserved_at == timedelta(minutes=20)


def test_a_counter_says_what_is_left_of_whom_and_until_when(acme):
    acme.policy("budget", budget(), user=acme.user())
    hold(acme, user=acme.user())

    [bucket] = LimitBucket.objects.current(acme.tenant, AT).for_owner(user=acme.user().pk)

    assert (bucket.left, bucket.last_mode) == (Decimal("0.5"), "hard")
    assert bucket.resets_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert bucket.owner == f"user:{acme.user().pk}"
    assert not LimitBucket.objects.current(acme.tenant, AT + timedelta(days=40)).exists()
    assert not LimitBucket.objects.for_owner().exists()


def test_a_temporary_raise_is_a_nearer_policy_that_ends_and_keeps_the_count(acme):
    acme.policy("budget", budget("1.00", per="user"), overridable=["limits"])
    until = AT + timedelta(hours=1)
    acme.policy("budget", budget("2.00", per="user"), user=acme.user(), valid_until=until)

    def calls(at, name, user="ada"):
        effective = acme.effective(user=acme.user(user), at=at)
        asked = [limits.reserve(effective, "openai/gpt-4o", CALL, f"{name}{n}", at=at) for n in range(5)]
        return [bool(held) for held in asked], asked[-1].failing[0].counter.hard

    assert calls(until - timedelta(seconds=1), "raised") == ([True] * 4 + [False], 2)
    assert calls(until, "after") == ([False] * 5, 1)
    assert calls(AT, "other", "eve") == ([True] * 2 + [False] * 3, 1)
    assert LimitBucket.objects.get(user_id=acme.user().pk).reserved == 2


def test_an_opened_limit_is_raised_for_one_user_alone(acme):
    acme.policy("rate_limit", rate(1, per="user"), overridable=["limits"])
    Policy.objects.create(
        tenant=acme.tenant, policy_type="rate_limit", config=rate(3, per="user"), user=acme.user("vip")
    )

    assert [bool(hold(acme, f"v{n}", user=acme.user("vip"))) for n in range(4)] == [True, True, True, False]
    assert [bool(hold(acme, f"o{n}", user=acme.user("other"))) for n in range(2)] == [True, False]


def test_limits_that_cannot_be_read_refuse_all(acme):
    policy = acme.policy("budget", budget())
    QuerySet(Policy).filter(pk=policy.pk).update(config={"limits": "none"})

    with pytest.raises(PolicyError) as refused:
        hold(acme)

    assert refused.value.code == "policy_invalid"
