"""Duties are done once, on time and again after whatever ended them: with real processes and a real database."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from controlplane import worker
from controlplane.core import duties
from controlplane.core.duties import Duty
from controlplane.core.models import WorkerDuty
from controlplane.worker import STATEMENT_TIMEOUT_MS, Outcome, Worker, attempt, backoff_s, direct, due_in, each_once
from tests.races import together
from tests.worker_process import TABLE, WALKED

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def row(name="count", *, started=0, finished=0, failures=0):
    return WorkerDuty(name=name, started_at=at(started), finished_at=at(finished), failures=failures)


@pytest.fixture
def steps():
    """What the duties of other processes did, as [(duty, step)]; and `wait(duty, n)` until n of them are there."""
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
    yield Steps()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE steps")


class Steps:
    def __call__(self, duty=None):
        with connection.cursor() as cursor:
            cursor.execute("SELECT duty, step FROM steps WHERE duty = coalesce(%s, duty) ORDER BY id", [duty])
            return cursor.fetchall()

    def wait(self, process, duty, count):
        while len(self(duty)) < count:
            assert process.poll() is None, process.communicate()[1]


@pytest.fixture
def start():
    """Start a process that does the duties named; it is ended with the test."""
    started = []
    found = connection.get_connection_params()
    variables = {
        "DATABASE_URL": f"postgresql:///{found['dbname']}", "PGHOST": found["host"], "PGUSER": found["user"],
        "PGPORT": str(found.get("port") or ""), "CONTROLPLANE_ENV": "test", "DATABASE_DIRECT_URL": "",
    }  # fmt: skip

    def make(names, *command, **more):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker_process", *command], cwd=ROOT,
            env={**os.environ, **variables, "DUTIES": names, **more},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield make
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("stands", "due"),
    [
        (None, True),
        (row(started=-10, finished=-9), False),
        (row(started=-70, finished=-60), True),
        (row(started=-5, finished=-50), True),  # killed in the middle
        (WorkerDuty(name="count", started_at=NOON), True),  # at its first run
        (row(started=-3, finished=-3, failures=2), True),
        (row(started=-1, finished=-1, failures=2), False),
        (row(started=5, finished=5), True),  # a clock was set back
    ],
)
def test_a_duty_is_due_by_its_row(stands, due):
    found = due_in(Duty("count", 60, lambda now: None), stands, NOON, began=at(-3600))

    assert (found <= 0) is due


def test_a_duty_that_is_done_at_start_is_due_if_nobody_did_it_since():
    at_start, later = Duty("count", 60, lambda now: None), Duty("count", 60, lambda now: None, at_start=False)
    stands = row(started=-5, finished=-4)

    assert due_in(at_start, stands, NOON, began=at(-1)) <= 0
    assert due_in(at_start, stands, NOON, began=at(-4.5)) == 56
    assert due_in(later, stands, NOON, began=at(-1)) == 56


def test_the_back_off_doubles_from_a_second_to_a_minute():
    assert [backoff_s(n) for n in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]


def test_a_duty_gets_the_instant_and_leaves_a_row():
    seen = []

    found = attempt(Duty("count", 60, seen.append), began=NOON, clock=lambda: NOON)

    assert (found.outcome, found.wait_s, seen) == (Outcome.DONE, 60, [NOON])
    stands = WorkerDuty.objects.get()
    assert (stands.name, stands.started_at, stands.finished_at, stands.failures, stands.error) == (
        "count",
        NOON,
        NOON,
        0,
        "",
    )


def test_a_failure_is_logged_once_and_stands_without_secrets_until_it_is_done_again(caplog):
    def fail(now):
        raise ValueError("no way to postgresql://a:hunter22@db/x\nand more")

    with caplog.at_level(logging.INFO, logger="controlplane.worker"):
        for second in (0, 1, 3):
            found = attempt(Duty("count", 60, fail), began=NOON, clock=lambda second=second: at(second))
    stands = WorkerDuty.objects.get()

    assert (found.outcome, found.wait_s, stands.failures) == (Outcome.FAILED, 4, 3)
    assert stands.error == "ValueError: no way to postgresql://a:[redacted]@db/x"
    assert len(caplog.records) == 1

    with caplog.at_level(logging.INFO, logger="controlplane.worker"):
        attempt(Duty("count", 60, lambda now: None), began=NOON, clock=lambda: at(7))
    stands = WorkerDuty.objects.get()
    assert (stands.failures, stands.error, stands.finished_at) == (0, "", at(7))
    assert caplog.messages[1:] == ["the duty count is done again"]


def test_a_failure_leaves_no_transaction_and_no_lock_behind(other_connection):
    def fail(now):
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1/0")

    assert attempt(Duty("count", 60, fail), began=NOON).outcome is Outcome.FAILED

    locks = (
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' "
        "AND d.datname = current_database() AND classid::int8 = hashtext('cp_duty')::int8 & 4294967295"
    )
    assert other_connection.execute(locks).fetchone() == (0,)
    assert WorkerDuty.objects.count() == 1


def test_a_duty_that_another_process_does_is_left_to_it(other_connection):
    other_connection.execute("SELECT pg_advisory_lock(hashtext('cp_duty'), hashtext('count'))")
    seen = []

    assert attempt(Duty("count", 60, seen.append), began=NOON).outcome is Outcome.BUSY
    assert attempt(Duty("count", 60, seen.append, alone=False), began=NOON).outcome is Outcome.DONE
    assert len(seen) == 1


def test_two_workers_at_once_do_a_duty_once():
    seen = []
    duty = Duty("count", 3600, seen.append)
    began = worker.now()

    found = together(*[lambda: attempt(duty, began=began) for _ in range(4)])

    assert len(seen) == 1
    assert [each.outcome for each in found].count(Outcome.DONE) == 1
    assert {each.outcome for each in found} <= {Outcome.DONE, Outcome.BUSY, Outcome.NOT_DUE}


def test_what_is_left_is_done_in_turns():
    seen, left = [], {"a": 3, "b": 2}

    def take(name):
        def run(now):
            seen.append(name)
            left[name] -= 1
            return left[name] > 0

        return Duty(name, 60, run)

    found = each_once([take("a"), take("b")])

    assert seen == ["a", "b", "a", "b", "a"]
    assert {each.outcome for each in found.values()} == {Outcome.DONE}
    assert {name: each.outcome for name, each in each_once([take("a")]).items()} == {"a": Outcome.NOT_DUE}


@pytest.mark.parametrize("point", ["before", "within", "after"])
def test_a_duty_killed_between_two_steps_goes_on_where_it_was(start, steps, point):
    killed = start("walk", "run_maintenance", KILL_AT=point)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert WorkerDuty.objects.get().finished_at is None or point != "before"

    after = start("walk", "run_maintenance", "--json")
    out, err = after.communicate()

    assert (after.returncode, json.loads(out)) == (0, {"walk": {"outcome": "done", "error": ""}}), err
    assert steps() == [("walk", step) for step in range(1, WALKED + 1)]
    assert WorkerDuty.objects.get().finished_at is not None


def test_a_frequent_duty_is_on_time_beside_a_long_one_and_a_failing_one_and_the_worker_ends_when_told(start, steps):
    process = start("long,greedy,broken,often", "run_worker")
    steps.wait(process, "long", 1)
    steps.wait(process, "often", len(steps("often")) + 3)
    steps.wait(process, "broken", 3)  # twice to its end
    steps.wait(process, "greedy", 3)

    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 0
    assert worker.GRACE_S + worker.CANCELLED_S < 10
    assert steps("long") == [("long", 1)]
    assert "the duty long is cut short" in said
    assert said.count("the duty broken failed") == 1
    assert "hunter22" not in said
    found = {each.name: each for each in WorkerDuty.objects.all()}
    assert (found["long"].finished_at, found["long"].error) == (None, "")
    assert found["broken"].failures >= 2
    assert found["often"].failures == 0


def test_two_worker_processes_do_each_duty_once_and_one_takes_over(start, steps):
    one, other = start("seldom,often", "run_worker"), start("seldom,often", "run_worker")
    for process in (one, other):
        steps.wait(process, "often", 3)
    one.kill()
    one.communicate()
    steps.wait(other, "often", len(steps("often")) + 3)
    other.send_signal(signal.SIGINT)

    assert other.wait(60) == 0
    assert 1 <= len(steps("seldom")) <= 2  # each worker may have begun after the other was done


def test_a_worker_goes_on_when_the_database_is_back(start, steps, other_connection):
    process = start("often", "run_worker")
    steps.wait(process, "often", 2)
    name = connection.settings_dict["NAME"]
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid NOT IN (%s, %s)",
            [name, connection.connection.info.backend_pid, other_connection.info.backend_pid],
        )
        lines = iter(process.stderr.readline, "")
        assert next(line for line in lines if "the duty often" in line)
        cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    steps.wait(process, "often", len(steps("often")) + 2)

    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_worker_beside_a_server_ends_with_it(start, steps):
    process = start("often", "run_worker", "--beside", "1")

    assert process.wait(60) == 0


def test_a_worker_can_be_started_and_stopped_within_a_process():
    seen = []
    made = Worker([Duty("count", 0.001, seen.append)])
    made.start()
    while len(seen) < 3:
        pass

    assert made.stop()
    assert WorkerDuty.objects.get().failures == 0


@pytest.fixture
def one_duty(monkeypatch):
    monkeypatch.setattr(duties, "_duties", {})
    seen = []
    duties.register(Duty("count", 3600, seen.append))
    return seen


def test_maintenance_does_what_is_due_and_one_duty_when_it_is_asked_for(one_duty, capsys):
    call_command("run_maintenance")
    call_command("run_maintenance")
    assert len(one_duty) == 1
    call_command("run_maintenance", "--only", "count")

    assert len(one_duty) == 2
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("count")] == [
        "done", "not", "done",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "x", "count ", "日本", "a" * 500, "'; DROP TABLE x; --"])
def test_a_duty_that_there_is_not_is_refused_with_the_names_of_those_there_are(one_duty, name):
    with pytest.raises(CommandError, match="there are count") as refused:
        call_command("run_maintenance", "--only", name)

    assert refused.value.returncode == 2
    assert one_duty == []


def test_a_failure_in_maintenance_is_told_by_its_exit_code(one_duty, capsys):
    duties.register(Duty("broken", 60, lambda now: 1 / 0))

    with pytest.raises(CommandError, match="Not done: broken") as refused:
        call_command("run_maintenance", "--json")

    assert refused.value.returncode == 1
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == {"outcome": "failed", "error": "ZeroDivisionError: division by zero"}
    assert found["count"]["outcome"] == "done"


def test_a_worker_connects_past_the_pooler_with_long_limits_and_no_pool():
    settings = {
        "NAME": "x", "HOST": "pooler", "PORT": "6432", "USER": "u", "PASSWORD": "p", "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"pool": {"min_size": 5}, "connect_timeout": 2}, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False,
    }  # fmt: skip

    found = direct(settings, "postgresql://w:s@db:5432/x?sslmode=require")
    pooled = direct(settings, "")
    plain = direct(
        {**settings, "DISABLE_SERVER_SIDE_CURSORS": False, "OPTIONS": {"options": "-c statement_timeout=15000"}}, ""
    )

    assert (found["HOST"], found["PORT"], found["USER"], found["PASSWORD"]) == ("db", "5432", "w", "s")
    limit = f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
    assert found["OPTIONS"] == {"connect_timeout": 2, "sslmode": "require", "options": limit}
    assert found["DISABLE_SERVER_SIDE_CURSORS"] is False
    assert (pooled["HOST"], pooled["OPTIONS"], pooled["DISABLE_SERVER_SIDE_CURSORS"]) == (
        "pooler",
        {"connect_timeout": 2},
        True,
    )
    assert plain["OPTIONS"]["options"] == f"-c statement_timeout=15000 {limit}"


def test_the_duties_of_this_project_have_locks_of_their_own():
    names = [duty.name for duty in duties.registered()]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT hashtext(name)) FROM unnest(%s::text[]) name", [names])
        assert cursor.fetchone() == (len(names),)
    assert all(len(name) <= 64 for name in names)
