"""Limits against a plain model of them, and every metric in every window and mode."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, product

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from policies import limits
from policies.counting import Amounts
from policies.errors import PolicyError
from policies.models import LimitBucket, Reservation
from tests.policies.world import World

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 10, 12, 34, 56, tzinfo=UTC)
RATES = [*product(("requests", "input_tokens", "output_tokens", "total_tokens"), ("1s", "10s", "1m", "1h", "1d"))]
KINDS = [
    *(("rate_limit", metric, window) for metric, window in [*RATES, ("concurrent", "none")]),
    *(("budget", "cost", window) for window in ("hour", "day", "week", "month", "total")),
]
ONE = Amounts(input_tokens=1, output_tokens=0, total_tokens=1, cost=Decimal(1))
WORTH = {"output_tokens": Amounts(input_tokens=0, output_tokens=1, cost=Decimal(1))}


@pytest.mark.parametrize("mode", ["hard", "soft", "shadow"])
@pytest.mark.parametrize(("policy_type", "metric", "window"), KINDS)
def test_two_calls_fit_into_a_limit_of_two_and_the_third_is_the_modes_matter(acme, policy_type, metric, window, mode):
    entry = {"window": window, "mode": mode}
    entry |= {"limit": "2"} if policy_type == "budget" else {"metric": metric, "limit": 2}
    acme.policy(policy_type, {"limits": [entry]})
    effective, amounts = acme.effective(), WORTH.get(metric, ONE)

    held = [limits.reserve(effective, "openai/gpt-4o", amounts, name, at=AT) for name in "abc"]

    passes = mode != "hard"
    assert [bool(one) for one in held] == [True, True, passes]
    assert [len(held[2].warnings), len(held[2].shadowed)] == [mode == "soft", mode == "shadow"]
    assert [one.counter.metric for one in held[2].failing] == ([] if passes else [metric])
    assert limits.settle(held[0], amounts).changed
    [bucket] = LimitBucket.objects.all()
    assert (bucket.spent, bucket.reserved) == (0 if metric == "concurrent" else 1, 2 if passes else 1)
    assert limits.verify() == []


class Machine(RuleBasedStateMachine):
    """Two tenants, each with a budget of all and one of its user; the model is three numbers and a dict."""

    numbers = count()
    names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
    dollars = st.integers(0, 5)
    slugs = st.sampled_from(["acme", "globex"])

    def __init__(self):
        super().__init__()
        self.at = AT
        self.worlds, self.model, self.policies = {}, {}, {}
        for slug in ("acme", "globex"):
            world = self.worlds[slug] = World(f"{slug}-{next(self.numbers)}")
            self.policies[slug] = world.policy("budget", {"limits": [{"window": "total", "limit": "10"}]})
            world.policy("budget", {"limits": [{"window": "total", "limit": "6"}]}, user=world.user())
            self.model[slug] = {"limit": {"all": 10, "user": 6}, "calls": {}}

    def used(self, slug, owner):
        calls = [one for one in self.model[slug]["calls"].values() if owner == "all" or one["user"]]
        held = sum(one["amount"] for one in calls if one["state"] == "reserved")
        return sum(one["actual"] for one in calls if one["state"] == "settled"), held

    @rule(slug=slugs, name=names, amount=dollars, user=st.booleans())
    def reserve(self, slug, name, amount, user):
        world, model = self.worlds[slug], self.model[slug]
        effective = world.effective(user=world.user() if user else None)
        earlier = model["calls"].get(name)
        asked = (effective, "openai/gpt-4o", Amounts(cost=Decimal(amount)), name)
        if earlier is not None and (earlier["amount"], earlier["user"]) != (amount, user):
            with pytest.raises(PolicyError) as refused:
                limits.reserve(*asked, at=self.at)
            assert refused.value.code == "idempotency_conflict"
            return
        held = limits.reserve(*asked, at=self.at)
        if earlier is not None:
            assert (held.repeated, held.state) == (True, earlier["state"])
            return
        owners = ["all", "user"] if user else ["all"]
        assert bool(held) == all(sum(self.used(slug, one)) + amount <= model["limit"][one] for one in owners)
        if held:
            ends = self.at + timedelta(seconds=900)
            model["calls"][name] = {"amount": amount, "actual": 0, "user": user, "state": "reserved", "ends": ends}

    @rule(slug=slugs, name=names, amount=st.none() | dollars)
    def settle(self, slug, name, amount):
        actual = Amounts(cost=None if amount is None else Decimal(amount))
        ended = limits.settle_request(self.worlds[slug].tenant.pk, name, actual, at=self.at)
        self.ends(slug, name, ended, "settled", ("reserved", "expired"), amount)

    @rule(slug=slugs, name=names)
    def release(self, slug, name):
        ended = limits.release(self.worlds[slug].tenant.pk, name, at=self.at)
        self.ends(slug, name, ended, "released", ("reserved",))

    @rule(slug=slugs, name=names)
    def expire(self, slug, name):
        ended = limits.expire(self.worlds[slug].tenant.pk, name, at=self.at)
        call = self.model[slug]["calls"].get(name)
        over = call is not None and call["ends"] <= self.at
        self.ends(slug, name, ended, "expired", ("reserved",) if over else ())

    def ends(self, slug, name, ended, state, out_of, actual=0):
        call = self.model[slug]["calls"].get(name)
        if call is None:
            assert ended is None
            return
        assert ended.changed == (call["state"] in out_of)
        if ended.changed:
            call.update(state=state, actual=call["amount"] if actual is None else actual)
            assert ended.overrun == (call["actual"] > call["amount"])
            assert ended.estimated == (actual is None)
        assert ended.state == call["state"]

    @rule(seconds=st.integers(1, 600))
    def wait(self, seconds):
        self.at += timedelta(seconds=seconds)

    @rule()
    def sweep(self):
        limits.sweep(at=self.at)
        for model in self.model.values():
            for call in model["calls"].values():
                if call["state"] == "reserved" and call["ends"] <= self.at:
                    call["state"] = "expired"

    @precondition(lambda self: self.policies)
    @rule(slug=slugs, limit=st.integers(0, 20))
    def edit(self, slug, limit):
        policy = self.policies[slug]
        policy.config = {"limits": [{"window": "total", "limit": str(limit)}]}
        policy.save()
        self.model[slug]["limit"]["all"] = limit

    @invariant()
    def counters_are_those_of_the_model(self):
        for slug, world in self.worlds.items():
            found = {
                "user" if bucket.user_id else "all": (bucket.spent, bucket.reserved)
                for bucket in LimitBucket.objects.filter(tenant=world.tenant)
            }
            assert all(self.used(slug, owner) == stands for owner, stands in found.items())
            assert limits.verify(world.tenant.pk) == []
            calls = Reservation.objects.for_tenant(world.tenant).values_list("request_id", "state")
            assert dict(calls) == {name: call["state"] for name, call in self.model[slug]["calls"].items()}


@pytest.mark.slow
def test_whatever_happens_the_counters_are_those_of_a_plain_model(db):
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[*HealthCheck]),
    )
