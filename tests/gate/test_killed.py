"""A gateway that is killed anywhere: what it held is given back, no request is lost, and what was acknowledged is on record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection

from auditing.lifecycle import Reported
from auditing.models import InferenceRequest, InFlightRequest
from controlplane.core.ids import now
from policies import limits
from policies.models import LimitBucket, Reservation
from tests.gate.cast import budget, counters, facts, rate, reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent
WORST = Decimal("0.006")


class Gateway:
    """tests/gate/caller.py on the test database."""

    def __init__(self, *call):
        at = {"port": "", "password": "", **connection.get_connection_params()}
        environment = {
            **os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"postgresql:///{at['dbname']}", "PGHOST": at["host"], "PGPORT": str(at["port"]),
            "PGUSER": at["user"], "PGPASSWORD": at["password"], "DB_LOCK_TIMEOUT": "60000",
        }  # fmt: skip
        name, *arguments = call
        code = f"import django; django.setup(); from tests.gate import caller; caller.{name}(*{arguments!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hears(self, word):
        assert self.process.stdout.readline() == f"{word}\n"

    def goes_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        """SIGKILL; returns what it had said."""
        self.process.send_signal(signal.SIGKILL)
        said = self.process.stdout.read().split()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        return said


@pytest.fixture
def gateway():
    running = []

    def start(*call):
        running.append(Gateway(*call))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            each.kill()


def activity(condition):
    """How many other sessions of the test database are so. On a connection outside a transaction, which would freeze it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            f"AND backend_type = 'client backend' AND {condition}"
        )
        return cursor.fetchone()[0]


def until_somebody_waits():
    while not activity("wait_event_type = 'Lock'"):
        pass


def until_nobody_works():
    """The server ends what a killed client had asked for by itself."""
    while activity("state <> 'idle'"):
        pass


def swept():
    """What is left after the sweep of tomorrow: nothing is held, and the counters are those of the reservations."""
    limits.sweep(at=now() + timedelta(days=1))
    assert limits.verify() == []
    assert {row.reserved for row in LimitBucket.objects.all()} <= {0}


def test_killed_while_it_calls_the_provider_the_request_stays_in_flight(issued, token, price, gateway):
    budget(issued, 10)
    killed = gateway("once", token, "r-1")
    killed.hears("begins")
    killed.goes_on()
    killed.hears("held")

    killed.kill()

    assert reservations() == [("r-1", "reserved")]
    assert counters() == {"cost": (0, WORST)}
    flying = InFlightRequest.objects.get()
    assert (flying.request_id, flying.estimated_cost, facts()) == ("r-1", WORST, [])

    swept()
    assert reservations() == [("r-1", "expired")]
    assert InferenceRequest.objects.status(issued.key.tenant, "r-1") == "pending"

    # The provider's bill names it: it is recorded and charged, however late.
    InferenceRequest.objects.complete(flying.pk, usage=Reported(prompt_tokens=100, completion_tokens=10))
    limits.settle_request(
        issued.key.tenant_id, "r-1", limits.Amounts(input_tokens=100, output_tokens=10, cost=facts()[0].cost)
    )
    assert counters() == {"cost": (facts()[0].cost, 0)}


@pytest.mark.parametrize("table", ["cp_policies_limitbucket", "cp_auditing_inflightrequest"])
def test_killed_while_it_reserves_both_are_written_or_neither(issued, token, price, gateway, other_connection, table):
    budget(issued, 10)
    rate(issued, "requests", 10)
    killed = gateway("once", token, "r-1")
    killed.hears("begins")
    with other_connection.transaction():
        other_connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        killed.goes_on()
        until_somebody_waits()
        killed.kill()
    until_nobody_works()

    held, flying = reservations(), InFlightRequest.objects.count()

    assert (held, flying) in [([], 0), ([("r-1", "reserved")], 1)]
    assert limits.verify() == []
    swept()


@pytest.mark.parametrize(
    "table", ["cp_policies_reservation", "cp_auditing_inflightrequest", "cp_auditing_inferencerequest"]
)
def test_killed_while_it_settles_it_is_settled_and_recorded_or_neither(
    issued, token, price, gateway, other_connection, table
):
    budget(issued, 10)
    killed = gateway("once", token, "r-1")
    killed.hears("begins")
    killed.goes_on()
    killed.hears("held")
    with other_connection.transaction():
        other_connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        killed.goes_on()
        until_somebody_waits()
        killed.kill()
    until_nobody_works()

    [(_, state)] = reservations()

    assert (state, len(facts()), InFlightRequest.objects.count()) in [("settled", 1, 0), ("reserved", 0, 1)]
    assert counters()["cost"] in [(WORST, 0), (0, WORST)]
    swept()


def test_killed_after_its_end_nothing_is_left_to_do(issued, token, price, gateway):
    budget(issued, 10)
    killed = gateway("once", token, "r-1")
    for word in ("begins", "held"):
        killed.hears(word)
        killed.goes_on()
    killed.hears("ended")

    killed.kill()

    assert reservations() == [("r-1", "settled")]
    assert counters() == {"cost": (facts()[0].cost, 0)} == {"cost": (WORST, 0)}
    swept()


def test_killed_under_load_what_was_acknowledged_is_on_record_and_the_rest_is_in_flight(issued, token, price, gateway):
    budget(issued, 1000)
    rate(issued, "requests", 10**6)
    said = []
    for name in ("a", "b"):
        killed = gateway("endlessly", token, name)
        said += [killed.process.stdout.readline().strip() for _ in range(20)]
        said += killed.kill()
    until_nobody_works()

    recorded = {fact.request_id for fact in facts()}
    settled = {id for id, state in reservations() if state == "settled"}
    held = {id for id, state in reservations() if state == "reserved"}
    assert len(said) >= 40
    assert set(said) <= recorded
    assert settled == recorded
    assert held == set(InFlightRequest.objects.values_list("request_id", flat=True))
    assert counters()["cost"] == (sum(fact.cost for fact in facts()), WORST * len(held))
    swept()
    assert Reservation.objects.open().count() == 0
    assert InFlightRequest.objects.count() == len(held)
