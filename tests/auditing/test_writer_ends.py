from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from auditing import events
from auditing.models import AuditLog
from auditing.writer import Lifespan, Writer, writer
from tests.relay import Relay

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(**variables):
    at = {"port": "", "password": "", **connection.get_connection_params()}
    return {
        **os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT),
        "DATABASE_URL": f"postgresql:///{at['dbname']}", "PGHOST": at["host"], "PGPORT": str(at["port"]),
        "PGUSER": at["user"], "PGPASSWORD": at["password"], **variables,
    }  # fmt: skip


@pytest.fixture
def process(tmp_path):
    """Starts a function of tests/auditing/recorder.py in a process of its own, whose spool is in tmp_path."""
    started = []

    def start(name, *arguments, **variables):
        code = (
            "import django; django.setup(); from tests.auditing import recorder; "
            f"recorder.spool_in({str(tmp_path)!r}); recorder.{name}(*{arguments!r})"
        )
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, env=environment(**variables), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for each in started:
        if each.poll() is None:
            each.kill()
        each.wait(30)
        each.stdout.close()


def recorded():
    return AuditLog.objects.filter(action__startswith="demo.").count()


@pytest.mark.parametrize("status", [0, 3])
def test_the_end_of_a_process_writes_what_waits_and_keeps_its_status(process, status):
    assert process("leave", 3000, status).wait(60) == status

    assert recorded() == 3000


def test_sigterm_writes_what_waits_and_ends_by_the_same_signal(process):
    staying = process("stay", 3000)
    assert staying.stdout.readline() == "recorded\n"
    staying.terminate()

    assert staying.wait(60) == -signal.SIGTERM
    assert recorded() == 3000


def test_the_programs_own_handler_of_sigterm_is_left_alone(process):
    staying = process("stay", 3000, 7)
    assert staying.stdout.readline() == "recorded\n"
    staying.terminate()

    assert staying.wait(60) == 7
    assert recorded() == 3000


def test_sigterm_in_the_middle_of_rows_loses_none_that_was_taken(process):
    busy = process("busy")
    said = [busy.stdout.readline() for _ in range(200)]
    busy.terminate()
    said += busy.stdout.readlines()

    assert busy.wait(60) == -signal.SIGTERM
    spool_of_another(busy)
    ids = {line.strip() for line in said if line.endswith("\n")}
    assert ids <= {str(id) for id in AuditLog.objects.filter(action="demo.busy").values_list("pk", flat=True)}


def spool_of_another(ended):
    """Deliver what an ended process left in the spool."""
    folder = Path(str(ended.args[2]).split("spool_in('")[1].split("'")[0]) / "spool"
    one = Writer(lambda: folder)
    one.put(events.event("other.done"), durable=True, timeout=30)
    assert one.drain(30)
    one.stop()


def test_where_the_database_is_away_the_end_leaves_the_rows_to_the_next_process(process, tmp_path, tmp_path_factory):
    relay = Relay(tmp_path_factory.mktemp("r"))
    relay.cut()
    gone = process("leave", 500, 0, DATABASE_URL=relay.url)

    assert gone.wait(60) == 0
    assert recorded() == 0

    assert process("leave", 1, 0).wait(60) == 0
    spool_of_another(gone)
    assert recorded() == 501
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_child_of_a_fork_begins_with_nothing_and_the_parent_goes_on(process):
    forked = process("fork")

    assert forked.wait(60) == 0
    assert forked.stdout.read() == "forked\n"
    assert recorded() == 201
    assert AuditLog.objects.filter(action__startswith="demo.child").count() == 50


def test_a_child_of_multiprocessing_writes_what_waits_at_its_end(process):
    parent = process("child_of_multiprocessing", "fork")

    assert parent.wait(60) == 0
    assert parent.stdout.read() == "0\n"
    assert recorded() == 40


def test_two_processes_write_side_by_side(process):
    both = [process("leave", 2000, 0), process("leave", 2000, 0)]

    assert [each.wait(60) for each in both] == [0, 0]
    assert recorded() == 4000


def test_a_gunicorn_worker_writes_what_waits_when_it_is_stopped(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (tmp_path / "site_of_test.py").write_text(
        "import django\ndjango.setup()\nfrom tests.auditing import recorder\n"
        "def application(environ, start_response):\n"
        "    recorder.record(2000)\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"
    )
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "site_of_test:application",
        "--bind",
        f"127.0.0.1:{port}",
        "--worker-class",
    ]
    path = f"{ROOT}:{tmp_path}"
    server = subprocess.Popen(
        [*command, "gthread", "--threads", "4", "--workers", "1", "--no-control-socket"],
        cwd=ROOT, env=environment(PYTHONPATH=path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert b"ok" in ask(server, port)
    finally:
        server.terminate()
        assert server.wait(60) == 0

    assert recorded() == 2000


def ask(server, port):
    while server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
                asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: asking.recv(4096), b""))
        except ConnectionRefusedError:
            continue
    raise AssertionError("gunicorn has ended")


def test_the_lifespan_of_an_asgi_server_ends_with_everything_written():
    said, sent = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]), []

    async def receive():
        return next(said)

    async def send(message):
        sent.append(message["type"])

    async def application(scope, receive, send):
        sent.append(scope["type"])

    for n in range(1000):
        AuditLog.objects.record_async(f"demo.n{n}")
    lifespan = Lifespan(application, writer)
    asyncio.run(lifespan({"type": "http"}, receive, send))
    asyncio.run(lifespan({"type": "lifespan"}, receive, send))

    assert sent == ["http", "lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert recorded() == 1000


def test_a_row_after_the_end_goes_to_the_spool_and_without_one_is_refused(tmp_path):
    one = Writer(lambda: tmp_path / "spool")
    one.put(events.event("demo.first"))
    one.close()
    one.put(events.event("demo.after"))

    found = one.stats()
    assert (found.committed, found.spooled, found.accepted) == (1, 1, 2)
    one.stop()
