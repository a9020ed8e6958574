"""A database that goes away while a call runs: what its caller sees, and what is recorded in the end."""

from __future__ import annotations

from decimal import Decimal
from threading import Thread

import pytest
from django.db import OperationalError, connection, transaction

from auditing.errors import AuditUnavailable
from auditing.lifecycle import Reported
from auditing.models import InFlightRequest
from controlplane import gate
from controlplane.core.caches import invalidation
from controlplane.gate import ending
from tests.gate.cast import budget, counters, facts, refused
from tests.gate.test_gate import end_this_connection

pytestmark = pytest.mark.django_db(transaction=True)
USED = Reported(prompt_tokens=100, completion_tokens=10)
COST = Decimal("0.00028")


class ProviderDown(Exception):
    pass


@pytest.fixture
def away(monkeypatch):
    """away(): no new connection is made from now on, and this one has ended; back() undoes it."""

    class Away:
        def __enter__(self):
            end_this_connection()
            self.settings = monkeypatch.context()
            elsewhere = self.settings.__enter__()
            elsewhere.setitem(connection.settings_dict, "HOST", "127.0.0.1")
            elsewhere.setitem(connection.settings_dict, "PORT", "1")

        def __exit__(self, *raised):
            self.settings.__exit__(None, None, None)
            connection.close()

    return Away


@pytest.fixture(autouse=True)
def no_pauses_and_no_help(monkeypatch):
    monkeypatch.setattr(ending, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.delitem(invalidation.duties._known, "ends of calls")  # in these tests it is done by hand


def test_a_connection_that_ended_meanwhile_is_replaced(issued, token, price):
    budget(issued, 10)

    with gate.call(token, model="gpt-4o") as call:
        end_this_connection()
        call.usage(prompt_tokens=100, completion_tokens=10)

    assert [fact.cost for fact in facts()] == [COST]
    assert counters() == {"cost": (COST, 0)}


def test_what_cannot_be_recorded_is_said_kept_and_recorded_later(issued, token, price, away):
    budget(issued, 10)
    with pytest.raises(AuditUnavailable) as caught, gate.call(token, model="gpt-4o", request_id="r-1") as call:
        call.usage(prompt_tokens=100, completion_tokens=10)
        outage = away()
        outage.__enter__()
    outage.__exit__()

    assert caught.value.http_status == 503
    assert (gate.counts()["end_kept"], InFlightRequest.objects.count()) == (1, 1)

    with gate.call(token, model="gpt-4o", request_id="r-2") as call:
        call.usage(prompt_tokens=100, completion_tokens=10)

    assert {fact.request_id: fact.cost for fact in facts()} == {"r-1": COST, "r-2": COST}
    assert counters() == {"cost": (2 * COST, 0)}
    assert gate.catch_up() == 0


def test_what_waits_stays_while_the_database_is_away(issued, token, away):
    grant = gate.authorize(token, model="gpt-4o")

    with away():
        with pytest.raises(AuditUnavailable):
            grant.settle(USED)
        assert gate.catch_up() == 1

    assert gate.catch_up() == 0
    assert [fact.status for fact in facts()] == ["completed"]


def test_what_waits_is_written_in_the_background_too(issued, token, away):
    grant = gate.authorize(token, model="gpt-4o")
    with away(), pytest.raises(AuditUnavailable):
        grant.settle(USED)

    thread = Thread(target=ending.duty)  # as the caches' second thread does
    thread.start()
    thread.join()

    assert [fact.status for fact in facts()] == ["completed"]
    ending.duty()
    assert gate.catch_up() == 0


def test_settled_again_by_its_caller_it_is_recorded_once(issued, token, price, away):
    budget(issued, 10)
    grant = gate.authorize(token, model="gpt-4o")
    with away(), pytest.raises(AuditUnavailable):
        grant.settle(USED)

    grant.settle(USED)

    assert gate.catch_up() == 0
    assert [fact.cost for fact in facts()] == [COST]
    assert counters() == {"cost": (COST, 0)}


def test_what_ended_otherwise_meanwhile_stays(issued, token, away, caplog):
    grant = gate.authorize(token, model="gpt-4o")
    with away(), pytest.raises(AuditUnavailable):
        grant.settle(USED)
    grant.release()

    assert gate.catch_up() == 0
    assert [fact.status for fact in facts()] == ["cancelled"]
    assert "was not recorded" in caplog.text


def test_what_the_body_raised_goes_on_without_a_database(issued, token, away, caplog):
    outage = away()
    with pytest.raises(ProviderDown), gate.call(token, model="gpt-4o"):
        outage.__enter__()
        raise ProviderDown
    outage.__exit__()

    assert "was not recorded" in caplog.text
    assert gate.catch_up() == 0
    assert [fact.status for fact in facts()] == ["failed"]


def test_inside_a_transaction_it_is_the_transactions_matter(issued, token):
    with pytest.raises(OperationalError), transaction.atomic(), gate.call(token, model="gpt-4o"):
        end_this_connection()

    connection.close()
    assert gate.counts().get("end_kept", 0) == 0
    assert not InFlightRequest.objects.exists()


def test_what_waits_is_bounded(issued, token, away, monkeypatch, caplog):
    monkeypatch.setattr(ending, "MOST_KEPT", 2)
    grants = [gate.authorize(token, model="gpt-4o") for _ in range(3)]

    with away():
        for grant in grants:
            with pytest.raises(AuditUnavailable):
                grant.settle(USED)

    assert "this one is given up" in caplog.text
    assert gate.catch_up() == 0
    assert len(facts()) == 2


def test_a_connection_that_ended_before_is_replaced_and_holds_once(issued, token, price):
    budget(issued, 10)
    gate.authorize(token, model="gpt-4o").settle(USED)
    end_this_connection()

    assert gate.authorize(token, model="gpt-4o", request_id="r-2")
    assert counters()["cost"][1] == Decimal("0.006")


@pytest.fixture
def only_reads():
    """only_reads(True): the server refuses to write from now on, as after a failover; False: no longer."""

    def switch(on):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('default_transaction_read_only', %s, false)", ["on" if on else "off"])

    yield switch
    connection.close()


def test_an_end_that_a_server_which_only_reads_refuses_is_kept(issued, token, price, only_reads):
    budget(issued, 10)
    with pytest.raises(AuditUnavailable), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=100, completion_tokens=10)
        only_reads(True)
    only_reads(False)

    assert gate.catch_up() == 0
    assert [fact.cost for fact in facts()] == [COST]
    assert counters() == {"cost": (COST, 0)}


@pytest.mark.parametrize("limited", [False, True])
def test_a_server_that_only_reads_lets_nobody_pass(issued, token, price, only_reads, limited):
    if limited:
        budget(issued, 10)
    only_reads(True)

    assert refused(token).code == "limits_unavailable"
    assert refused(token, "unheard-of").code == "model_unknown"  # which is noted nowhere
