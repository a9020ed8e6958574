from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from auditing.models import AuditLog, InferenceRequest
from controlplane.core.caches import invalidation
from controlplane.core.ids import now
from policies import limits
from policies.counting import Amounts
from policies.errors import PolicyError
from policies.models import LimitAlert, LimitBucket, Reservation
from policies.rebooking import rebook
from tests.factories import InferenceRequestFactory, LimitAlertFactory, LimitBucketFactory

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 10, 12, 34, 56, tzinfo=UTC)
CALL = Amounts(input_tokens=900, output_tokens=100, cost=Decimal("0.5"))


@pytest.fixture
def budget(acme):
    return acme.policy("budget", {"limits": [{"window": "month", "limit": "5.00"}]})


def hold(world, name="r1", at=AT):
    return limits.reserve(world.effective(), "openai/gpt-4o", CALL, name, at=at)


def states(world):
    return dict(Reservation.objects.for_tenant(world.tenant).values_list("request_id", "state"))


def run(capsys, command, *arguments):
    """What a command wrote, and its exit code."""
    code = 0
    try:
        call_command(command, *arguments)
    except SystemExit as left:
        code = left.code
    except CommandError as error:
        return str(error), error.returncode
    return capsys.readouterr().out, code


def test_a_sweep_gives_back_what_is_stale_and_nothing_else(acme, budget):
    for name, at in (("a", AT), ("b", AT), ("c", AT + timedelta(seconds=1))):
        hold(acme, name, at)
    limits.settle_request(acme.tenant.pk, "b", CALL)

    swept = limits.sweep(at=AT + timedelta(seconds=900))

    assert (swept.expired, swept.removed) == (1, 0)
    assert states(acme) == {"a": "expired", "b": "settled", "c": "reserved"}
    assert LimitBucket.objects.values_list("spent", "reserved").get() == (Decimal("0.5"), Decimal("0.5"))


@pytest.mark.parametrize(
    ("window", "width", "kept"),
    [("1s", 1, 2), ("10s", 10, 20), ("1m", 60, 120), ("1h", 3_600, 7_200), ("1d", 86_400, 172_800)],
)
def test_rate_counters_go_two_windows_after_their_end(window, width, kept):
    ends = AT + timedelta(seconds=width)
    old = {"kind": "rate", "metric": "requests", "window": window, "starts_at": AT, "ends_at": ends}
    gone = LimitBucketFactory(**old)
    LimitAlertFactory(bucket=gone)
    held = LimitBucketFactory(**old, reserved=1)
    budget = LimitBucketFactory(window="hour", starts_at=AT, ends_at=ends)
    gauge = LimitBucketFactory(kind="rate", metric="concurrent", window="none")

    assert limits.sweep(at=ends + timedelta(seconds=kept - 1)).removed == 0
    assert limits.sweep(at=ends + timedelta(seconds=kept)).removed == 1

    assert set(LimitBucket.objects.all()) == {held, budget, gauge}
    assert not LimitAlert.objects.exists()


def test_a_call_whose_counter_is_gone_ends_all_the_same(acme):
    acme.policy("rate_limit", {"limits": [{"metric": "requests", "window": "1s", "limit": 5}]})
    held = hold(acme)
    limits.expire(acme.tenant.pk, "r1", at=AT + timedelta(hours=1))
    assert limits.sweep(at=AT + timedelta(hours=1)).removed == 1

    ended = limits.settle(held, CALL)

    assert (ended.changed, ended.state, ended.spent) == (True, "settled", {})
    assert hold(acme, "r2")


@pytest.mark.django_db(transaction=True)
def test_every_process_sweeps_as_a_duty(acme, budget):
    hold(acme)
    hold(acme, "fresh", now())

    invalidation.duties.run("limits")

    assert states(acme) == {"r1": "expired", "fresh": "reserved"}


def test_a_reservation_is_released_by_hand_with_a_reason(acme, budget):
    hold(acme)

    Reservation.objects.get().release("stuck since noon")

    assert states(acme) == {"r1": "released"}
    event = AuditLog.objects.get(action="reservation.released")
    assert (event.reason, event.request_id, event.model) == ("stuck since noon", "r1", "openai/gpt-4o")
    assert [*event.details["held"].values()] == ["0.5"]


def test_a_release_needs_a_reason_and_something_to_release(acme, budget):
    hold(acme)
    held = Reservation.objects.get()

    with pytest.raises(PolicyError) as unsaid:
        held.release(" ")
    held.release("stuck")
    with pytest.raises(PolicyError) as again:
        held.release("stuck")

    assert (unsaid.value.code, again.value.code) == ("reason_required", "reservation_ended")
    assert AuditLog.objects.filter(action="reservation.released").count() == 1


def test_several_are_released_at_once(acme, budget):
    for name in "abc":
        hold(acme, name)
    limits.settle_request(acme.tenant.pk, "b", CALL)

    assert Reservation.objects.for_tenant(acme.tenant).release("an outage") == 2
    assert states(acme) == {"a": "released", "b": "settled", "c": "released"}


def test_the_counters_of_a_tenant_are_listed(acme, globex, budget, capsys):
    hold(acme)

    listed, code = run(capsys, "limit_list", "--tenant", "acme", "--at", "2026-03-10T13:00Z", "--json")
    [row] = json.loads(listed)["rows"]

    assert code == 0
    assert (row["owner"], row["limit"], row["spent"], row["reserved"], row["left"]) == (
        "organization",
        "5",
        "0",
        "0.5",
        "4.5",
    )
    assert (row["resets_at"], row["zone"], row["mode"]) == ("2026-04-01T00:00:00Z", "UTC", "hard")
    globex.policy("budget", budget.config)
    assert json.loads(run(capsys, "limit_list", "--tenant", "globex", "--all", "--json")[0])["rows"] == []
    assert "organization" in run(capsys, "limit_list", "--tenant", "acme", "--all", "--kind", "budget", "--held")[0]


def test_the_reservations_of_a_tenant_are_listed_and_released(acme, budget, capsys):
    hold(acme)

    listed = json.loads(run(capsys, "reservation_list", "--tenant", "acme", "--stale", "--json")[0])["rows"]
    released = run(capsys, "reservation_release", "r1", "--tenant", "acme", "--reason", "stuck")
    again = run(capsys, "reservation_release", "r1", "--tenant", "acme", "--reason", "stuck")
    nothing = run(capsys, "reservation_release", "r2", "--tenant", "acme", "--reason", "stuck")

    assert [(row["request_id"], row["state"], row["amounts"]) for row in listed] == [("r1", "reserved", ["0.5"])]
    assert (released[1], again[1], nothing[1]) == (0, 1, 2)
    assert "has ended already" in again[0]
    assert json.loads(run(capsys, "reservation_list", "--tenant", "acme", "--json")[0])["rows"] == []
    assert AuditLog.objects.get(action="reservation.released").actor_id == "reservation_release"


@pytest.mark.parametrize("command", ["limit_list", "reservation_list", "limits_verify"])
def test_a_command_about_a_tenant_that_is_not_there_could_not_run(db, capsys, command):
    assert run(capsys, command, "--tenant", "nobody")[1] == 2


def test_counters_that_are_right_are_said_to_be(acme, budget, capsys):
    held = hold(acme)
    limits.settle(held, Amounts(cost=Decimal("0.123")))
    hold(acme, "r2")

    assert run(capsys, "limits_verify") == ("1 counters, 0 of them not what their reservations say.\n", 0)


def test_a_counter_that_somebody_changed_is_named_with_the_difference(acme, globex, budget, capsys):
    held = hold(acme)
    limits.settle(held, CALL)
    LimitBucket.objects.update(spent=Decimal("0.75"))

    said, code = run(capsys, "limits_verify", "--tenant", "acme")

    assert code == 1
    assert "spent 0.75, reservations say 0.5 (difference 0.25)" in said
    assert json.loads(run(capsys, "limits_verify", "--json")[0])["differences"][0]["told_spent"] == "0.500000000000"
    globex.policy("budget", budget.config)
    assert run(capsys, "limits_verify", "--tenant", "globex")[1] == 0


def test_a_sweep_by_hand_says_what_it_did(acme, budget, capsys):
    hold(acme)

    assert run(capsys, "limits_sweep")[0] == "Gave back 1 reservations, and removed 0 counters.\n"
    assert json.loads(run(capsys, "limits_sweep", "--json")[0]) == {"expired": 0, "removed": 0}


@pytest.fixture
def unpriced(acme, budget):
    """A call that was charged the half dollar it held, because it had no price; the fact of it."""
    acme.policy("rate_limit", {"limits": [{"metric": "output_tokens", "window": "1d", "limit": 5_000}]})
    held = hold(acme, at=now())
    limits.settle(held, Amounts(input_tokens=900, output_tokens=40))
    return InferenceRequestFactory(
        tenant_id=acme.tenant.pk, request_id="r1", prompt_tokens=900, completion_tokens=40,
        cost=None, pricing_status="unpriced",
    )  # fmt: skip


def spent(world):
    return dict(LimitBucket.objects.filter(tenant=world.tenant).values_list("metric", "spent"))


def test_a_price_that_comes_later_is_booked_as_the_difference(acme, unpriced, capsys):
    assert (rebook().looked, rebook().corrected) == (1, 0)  # nothing is known yet

    InferenceRequest.objects.adjust(unpriced.pk, reason_code="priced", reason="a price at last", cost=Decimal("0.2"))
    said = run(capsys, "limits_rebook", "--tenant", "acme", "--json")[0]

    assert json.loads(said) == {"looked": 1, "corrected": 1}
    assert spent(acme) == {"cost": Decimal("0.2"), "output_tokens": 40}
    assert not Reservation.objects.get().estimated
    assert limits.verify() == []
    assert run(capsys, "limits_rebook")[0] == "Looked at 0 reservations that are estimated, and corrected 0.\n"
    assert spent(acme) == {"cost": Decimal("0.2"), "output_tokens": 40}


def test_what_costs_more_than_it_held_is_an_overrun_also_later(acme, unpriced):
    InferenceRequest.objects.adjust(unpriced.pk, reason_code="priced", reason="dear", cost=Decimal("0.9"))

    rebook(acme.tenant.pk)

    assert Reservation.objects.get().overrun
    assert spent(acme)["cost"] == Decimal("0.9")


def test_another_tenants_price_changes_nothing_here(acme, globex, unpriced):
    InferenceRequestFactory(tenant_id=globex.tenant.pk, request_id="r1", cost=Decimal("0.9"))

    assert rebook(globex.tenant.pk).looked == 0
    assert rebook().corrected == 0
    assert spent(acme)["cost"] == Decimal("0.5")
