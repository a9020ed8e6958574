from __future__ import annotations

import os
import signal
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from django.db import OperationalError, connection

from controlplane.core.caches import CacheUnavailable, Invalidation, RecordCache, flush_everywhere, invalidation
from controlplane.core.caches.connections import OwnConnection
from controlplane.core.caches.duties import Duties
from controlplane.core.caches.processes import Sweeper
from controlplane.core.models import Process
from tests.core.test_invalidation import execute, log, until

ACME = UUID(int=1)


@pytest.fixture
def own(transactional_db):
    invalidation.stop()  # the project's own: it would write a row, too
    execute("TRUNCATE cp_core_process")
    found = Invalidation()
    yield found
    found.stop()
    execute("TRUNCATE cp_core_process")


def test_a_process_writes_down_what_its_caches_count(own):
    cache = RecordCache("names", size=10, ttl=9, loader=lambda key, ask: key, kinds={"app"}, invalidation=own)
    own.poll()
    cache.get("a")
    cache.get("a")
    own.duties.run("heartbeat")

    [process] = Process.objects.seen()

    assert (process.pid, process.silent) == (os.getpid(), False)
    assert process.caches == {"names": cache.stats()}
    assert process.caches["names"]["hits"] == 1
    assert 0 <= process.lease_age_ms < 60_000
    assert process.age < timedelta(minutes=1)


def test_a_process_has_one_row_and_a_forked_one_its_own(own):
    own.duties.run("heartbeat")
    own.duties.run("heartbeat")
    own.stop()
    own.begin()
    own.duties.run("heartbeat")

    assert Process.objects.seen().count() == 2
    assert Process.objects.seen()[0].lease_age_ms is None


def test_a_process_that_is_not_seen_is_silent_and_then_gone(own):
    own.duties.run("heartbeat")
    execute("UPDATE cp_core_process SET seen_at = now() - interval '61 s'")
    assert [process.silent for process in Process.objects.seen()] == [True]

    execute("UPDATE cp_core_process SET seen_at = now() - interval '10 min 1 s'")
    assert not Process.objects.seen()
    own.stop()
    own.begin()
    own.duties.run("heartbeat")

    assert execute("SELECT count(*) FROM cp_core_process") == [(1,)]


def test_emptying_the_caches_of_every_process_is_one_row(own, monkeypatch):
    monkeypatch.setattr(own, "start", lambda: None)
    cache = RecordCache("names", size=10, ttl=9, loader=lambda key, ask: key, kinds={"app"}, invalidation=own)
    own.poll()
    cache.get("a")

    flush_everywhere()
    own.poll()

    assert cache.stats()["size"] == 0


@pytest.mark.django_db
def test_a_flush_is_noted_as_a_change_of_everything():
    flush_everywhere()

    assert log() == [("all", None, None)]


@pytest.fixture
def sweeper(transactional_db):
    yield Sweeper(kept_s=900)
    execute("DELETE FROM cp_core_invalidation WHERE kind LIKE %s", "swept%")


def xmin():
    return execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")[0][0]


def kinds():
    return {kind for (kind,) in execute("SELECT kind FROM cp_core_invalidation WHERE kind LIKE %s", "swept%")}


def after(kind):
    """The xmin of a look for which the transaction of this row had ended, and nothing later."""
    return execute("SELECT (xid::text::bigint + 1)::text FROM cp_core_invalidation WHERE kind = %s", kind)[0][0]


def test_rows_are_purged_once_everybody_has_read_them(sweeper, other_connection):
    execute("INSERT INTO cp_core_invalidation (kind) VALUES ('swept 1')")
    sweeper.sweep(other_connection, 0, after("swept 1"))
    execute("INSERT INTO cp_core_invalidation (kind) VALUES ('swept 2')")
    sweeper.sweep(other_connection, 60, after("swept 2"))

    sweeper.sweep(other_connection, 899, after("swept 2"))
    assert kinds() == {"swept 1", "swept 2"}
    sweeper.sweep(other_connection, 901, after("swept 2"))
    assert kinds() == {"swept 2"}
    sweeper.sweep(other_connection, 961, after("swept 2"))
    assert kinds() == set()


def test_a_row_of_a_transaction_that_was_open_is_never_purged_by_its_age(sweeper, other_connection):
    with psycopg.connect(**connection.get_connection_params()) as late:
        late.execute("INSERT INTO cp_core_invalidation (kind, at) VALUES ('swept late', now() - interval '1 day')")
        sweeper.sweep(other_connection, 0, xmin())
        late.commit()
    sweeper.sweep(other_connection, 901, xmin())

    assert kinds() == {"swept late"}


def test_a_duty_that_fails_is_told_and_the_next_one_is_done(transactional_db, caplog):
    duties = Duties(clock=lambda: 0.0)
    done = []
    duties.add("broken", 1, lambda connection: connection.execute("SELECT 1 / 0"))
    duties.add("whole", 1, lambda connection: done.append(connection.execute("SELECT 1").fetchone()))

    for name in ("broken", "whole", "broken"):
        duties.run(name)
    duties.stop()

    assert done == [(1,)]
    assert [record.getMessage() for record in caplog.records] == ["the duty broken was not done: division by zero"]


def test_the_second_thread_does_duties_when_they_are_due_and_ends(transactional_db):
    now, done = [0.0], []
    duties = Duties(clock=lambda: now[0])
    duties.add("often", 10, lambda connection: done.append("often"))
    duties.add("rarely", 100, lambda connection: done.append("rarely"))
    duties.start()
    try:
        for minute in range(1, 4):
            now[0] = 10.0 * minute
            until(lambda count=minute: done == ["often"] * count)
    finally:
        duties.stop()

    assert duties._thread is None


@pytest.mark.slow
def test_a_load_that_takes_longer_than_a_second_is_cancelled_and_told(own, other_connection):
    cache = RecordCache(
        "slow", size=10, ttl=9, loader=lambda key, ask: ask("SELECT pg_sleep(60)", []), kinds={"app"}, invalidation=own
    )

    with pytest.raises(CacheUnavailable) as caught:
        cache.get("a")

    assert isinstance(caught.value.__cause__, OperationalError)
    assert "canceling statement" in str(caught.value.__cause__)
    assert execute("SELECT 1") == [(1,)]
    assert cache.stats()["load_errors"] == 1


def test_a_connection_whose_statement_a_signal_interrupted_is_replaced(transactional_db):
    def stop(*args):
        raise KeyError("time limit")

    own, before = OwnConnection(9), signal.signal(signal.SIGALRM, stop)
    try:
        own.ask("SELECT 1", [])
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyError, match="time limit"):
            own.ask("SELECT pg_sleep(5)", [])

        assert own.ask("SELECT 2", []) == [(2,)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        own.close()
