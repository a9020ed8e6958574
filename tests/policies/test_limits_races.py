"""Limits under load: threads and processes at once, and what dies in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, transaction

from auditing.models import AuditLog
from controlplane.core.ids import now
from policies import limits
from policies.counting import Amounts
from policies.errors import PolicyError
from policies.models import LimitAlert, LimitBucket, Reservation
from policies.settling import correcting
from tests.policies.world import World
from tests.races import behind, together

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
AT = now()
# Of processes, which sweep by the clock: in a suite that has run for longer than a reservation lasts they would give some back.
AHEAD = AT + timedelta(days=1)
"""Now, or the sweep that every process does by itself would find these reservations stale."""
DOLLAR = Amounts(cost=Decimal(1))


def budget(limit, window="total", **entry):
    return {"limits": [{"window": window, "limit": limit, **entry}]}


def hold(effective, name, amounts=DOLLAR, at=AT):
    return limits.reserve(effective, "openai/gpt-4o", amounts, name, at=at)


def used():
    """What each counter stands at, by owner."""
    return {bucket.owner: bucket.spent + bucket.reserved for bucket in LimitBucket.objects.all()}


def test_eight_at_once_in_a_new_window_share_what_there_is(acme):
    acme.policy("budget", budget("3.00", "hour"))
    acme.policy("budget", budget("9.00", "month"))
    effective = acme.effective()

    granted = together(*(lambda name=name: bool(hold(effective, name)) for name in "abcdefgh"))

    assert sorted(granted) == [False] * 5 + [True] * 3
    assert {*LimitBucket.objects.values_list("reserved", flat=True)} == {3}
    assert limits.verify() == []


def test_one_request_id_asked_by_eight_at_once_is_held_once(acme):
    acme.policy("budget", budget("3.00"))
    effective = acme.effective()

    held = together(*(lambda: hold(effective, "same") for _ in range(8)))

    assert len({one.id for one in held}) == 1
    assert all(held)
    assert sorted(one.repeated for one in held) == [False] + [True] * 7
    assert LimitBucket.objects.get().reserved == 1


def test_a_reservation_settled_released_and_expired_at_once_ends_once(acme):
    acme.policy("budget", budget("30.00"))
    effective = acme.effective()
    for number in range(10):
        held = hold(effective, f"r{number}")

        ends = together(
            lambda held=held: limits.settle(held, DOLLAR),
            lambda held=held: limits.settle(held, DOLLAR),
            lambda name=f"r{number}": limits.release(acme.tenant.pk, name),
            lambda name=f"r{number}": limits.release(acme.tenant.pk, name),
        )

        assert sum(end.changed for end in ends) == 1
        assert len({end.state for end in ends}) == 1
    assert limits.verify() == []


@pytest.mark.parametrize("time", range(5))
def test_eight_who_pass_a_threshold_at_once_tell_it_once(acme, time):
    acme.policy("budget", budget("8.00", alert_at=[0.5, 1]))
    acme.policy("budget", budget("0.50", mode="soft"), user=acme.user())
    effective = acme.effective(user=acme.user())

    held = together(*(lambda name=name: hold(effective, name) for name in "abcdefgh"))
    ends = together(*(lambda one=one: limits.settle(one, DOLLAR) for one in held))

    assert [one.changed for one in ends] == [True] * 8
    assert {*LimitAlert.objects.values_list("threshold", flat=True)} == {"alert:4", "alert:8", "soft:0.5"}
    assert AuditLog.objects.filter(action="limit.alert").count() == 2
    assert AuditLog.objects.filter(action="limit.soft").count() == 1


def test_what_eight_threads_do_at_random_leaves_the_counters_right(acme):
    for config, scope in ((budget("40.00"), {}), (budget("25.00", "month"), {"user": acme.user()})):
        acme.policy("budget", config, **scope)
    acme.policy("rate_limit", {"limits": [{"metric": "concurrent", "window": "none", "limit": 12}]})
    sets = [acme.effective(), acme.effective(user=acme.user())]
    tenant = acme.tenant.pk

    def work(seed):
        dice = random.Random(seed)  # noqa: S311 - a seed, so that a failure comes again
        for _ in range(60):
            name = f"r{dice.randrange(40)}"
            do = dice.choice(["reserve", "reserve", "settle", "release", "expire", "sweep", "correct"])
            if do == "reserve":  # the same name is always asked alike
                hold(sets[int(name[1:]) % 2], name, at=AT + timedelta(seconds=int(name[1:])))
            elif do == "settle":
                limits.settle_request(tenant, name, Amounts(cost=dice.choice([None, Decimal(0), Decimal(2)])))
            elif do == "release":
                limits.release(tenant, name)
            elif do == "expire":
                limits.expire(tenant, name, at=AT + timedelta(seconds=910))
            elif do == "correct":
                correcting(tenant, name, Amounts(cost=Decimal(3))).send("default")
            else:
                limits.sweep(at=AT + timedelta(seconds=905))

    errors = together(*(lambda seed=seed: work(seed) for seed in range(8)))

    assert errors == [None] * 8
    assert limits.verify() == []
    assert Reservation.objects.exclude(state="reserved").exists()


@pytest.mark.parametrize("known", [Decimal("0.25"), Decimal(3)])
def test_a_correction_that_began_before_the_settle_was_committed_counts_on_it(acme, other_connection, known):
    """Its snapshot still holds the open reservation, and the counter without the charge that it lowers."""
    acme.policy("budget", budget("30.00"))
    tenant = acme.tenant.pk
    hold(acme.effective(), "r1")

    corrected = behind(
        lambda: limits.settle_request(tenant, "r1", Amounts()),
        lambda: correcting(tenant, "r1", Amounts(cost=known)).send("default"),
        other_connection,
    )

    assert (corrected.changed, corrected.actuals) == (True, (known,))
    assert used() == {"organization": known}
    assert limits.verify() == []


def test_counters_are_removed_under_the_hands_of_those_who_still_count_on_them(acme):
    acme.policy("rate_limit", {"limits": [{"metric": "requests", "window": "1s", "limit": 1, "mode": "soft"}]})
    acme.policy("budget", budget("900.00"))
    effective = acme.effective()

    def held(name, at):
        while True:
            try:
                return hold(effective, name, at=at)
            except PolicyError as error:  # removed again and again: nothing is held, and it may be asked again
                if error.code != "limits_unavailable":
                    raise

    def count(seed):
        for number in range(40):
            limits.settle(held(f"r{seed}-{number}", AT + timedelta(seconds=number % 3)), DOLLAR)

    def remove():
        for _ in range(60):
            limits.sweep(at=AT + timedelta(seconds=30))

    outcomes = together(*(lambda seed=seed: count(seed) for seed in range(6)), remove, remove)

    assert outcomes == [None] * 8
    assert limits.verify() == []
    assert LimitBucket.objects.values_list("spent", "reserved").get(kind="budget") == (240, 0)
    assert limits.sweep(at=AT + timedelta(seconds=30)).removed <= 3


@pytest.mark.parametrize("steps", range(6))
def test_who_dies_between_two_statements_leaves_nothing_wrong(acme, steps):
    acme.policy("budget", budget("3.00", "month", alert_at=[0.1]))
    effective, tenant, kept = acme.effective(), acme.tenant.pk, {}

    def reserve():
        kept["answer"] = limits.reserving(asked).send("default")

    asked = limits.ask(effective, "openai/gpt-4o", DOLLAR, "r1", at=AT)
    statements = [
        lambda: limits.open_windows("default", asked),
        reserve,
        lambda: kept.update(held=limits.conclude(asked, kept["answer"])),
        lambda: kept.update(ended=limits.settling(tenant, "r1", DOLLAR, AT).send("default")),
        lambda: limits.tell_spent(tenant, kept["held"].levels, kept["ended"]),
    ]
    for statement in statements[:steps]:
        statement()

    limits.sweep(at=AT + timedelta(hours=1))

    assert limits.verify() == []
    assert not Reservation.objects.open().exists()
    assert used() in ({}, {"organization": 1 if steps > 3 else 0})
    assert hold(effective, "r2")
    assert LimitAlert.objects.count() == (steps > 3)  # the next one tells what the dead one did not


def test_a_connection_that_is_lost_in_the_middle_holds_nothing(acme, other_connection):
    acme.policy("budget", budget("3.00"))
    effective = acme.effective()

    with pytest.raises(DatabaseError), transaction.atomic():
        assert hold(effective, "r1")
        other_connection.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        hold(effective, "r2")
    connection.close()

    assert used() == {"organization": 0}
    assert not Reservation.objects.exists()


def test_a_window_opened_inside_a_transaction_outlives_it(acme):
    acme.policy("budget", budget("3.00"))
    before = limits.tally["reservation_in_transaction"]

    with transaction.atomic():
        assert hold(acme.effective(), "r1")
        transaction.set_rollback(True)

    assert used() == {"organization": 0}
    assert not Reservation.objects.exists()
    assert limits.tally["reservation_in_transaction"] == before + 1


def test_a_tenant_that_the_same_transaction_made_can_be_limited():
    with transaction.atomic():
        world = World("initech")
        world.policy("budget", budget("3.00"))
        assert hold(world.effective(), "r1")

    assert used() == {"organization": 1}


class Spender:
    """tests/policies/spender.py in a process of its own, on the test database."""

    def __init__(self, world, number, attempts):
        at = {"port": "", "password": "", **connection.get_connection_params()}
        environment = {
            **os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"postgresql:///{at['dbname']}", "PGHOST": at["host"], "PGPORT": str(at["port"]),
            "PGUSER": at["user"], "PGPASSWORD": at["password"],
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import django; django.setup(); from tests.policies.spender import spend; spend()"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.asked = {
            "tenant": str(world.tenant.pk), "app": str(world.app().pk), "user": str(world.user(f"u{number % 4}").pk),
            "name": f"p{number}", "attempts": attempts, "at": AHEAD.isoformat(), "settled": 2,
        }  # fmt: skip

    def begin(self):
        self.process.stdin.write(json.dumps(self.asked) + "\n")
        self.process.stdin.flush()

    def kill_in_the_middle(self):
        self.process.stdout.readline()
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def granted(self):
        said = self.process.communicate()[0]
        assert self.process.returncode == 0
        return int(said.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_of_3200_attempts_by_eight_processes_on_a_budget_of_1000_exactly_1000_are_granted(acme, killed):
    acme.policy("budget", budget("1000.00"))
    acme.policy("budget", budget("5000.00", "month"), app=acme.app())
    acme.policy("budget", budget("5000.00", per="user"))
    spenders = [Spender(acme, number, 400) for number in range(8)]

    for spender in spenders:
        spender.begin()
    if killed:
        spenders.pop(0).kill_in_the_middle()
    granted = sum(spender.granted() for spender in spenders)

    assert Reservation.objects.count() == 1000
    assert granted <= 1000
    assert granted == 1000 or killed
    assert {len(reservation.bucket_ids) for reservation in Reservation.objects.all()} == {3}
    levels = used()
    assert levels.pop("organization") == levels.pop(f"app:{acme.app().pk}") == sum(levels.values()) == 1000
    assert limits.verify() == []

    settled = Reservation.objects.filter(state="settled").count()
    assert limits.sweep(at=AHEAD + timedelta(hours=1)).expired == 1000 - settled
    levels = used()
    assert levels.pop("organization") == levels.pop(f"app:{acme.app().pk}") == sum(levels.values()) == settled
    assert limits.verify() == []
