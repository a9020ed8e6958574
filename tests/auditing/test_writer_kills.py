"""Nothing that was acknowledged is lost, and nothing doubled, whoever is killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Condition, Thread

import psycopg
import pytest
from django.db import connection

from controlplane.devdb import processes, server
from controlplane.devdb.cluster import DATABASE, PORT, ROLE
from tests.auditing.test_writer_ends import ROOT, environment

pytestmark = pytest.mark.slow

CLIENTS, SERVERS, ROWS = 20, 10, 100


class Recorder:
    """tests/auditing/recorder.py, which tells of each row once that is acknowledged."""

    def __init__(self, folder, threads, **variables):
        code = (
            "import django; django.setup(); from tests.auditing import recorder; "
            f"recorder.spool_in({str(folder)!r}); recorder.durably({threads})"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environment(**variables), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._acknowledged, self._heard = [], Condition()
        self._listening = Thread(target=self._listen)
        self._listening.start()

    def hear(self, rows):
        """Wait until so many more rows are acknowledged."""
        with self._heard:
            enough = len(self._acknowledged) + rows
            assert self._heard.wait_for(lambda: len(self._acknowledged) >= enough, 120)

    def _listen(self):
        for line in self.process.stdout:
            with self._heard:
                self._acknowledged.append(line)
                self._heard.notify()

    def kill(self):
        """SIGKILL; the ids of the rows that it told of."""
        self.process.kill()
        self._listening.join()
        self.process.wait(30)
        self.process.stdout.close()
        return [line.strip() for line in self._acknowledged if line.endswith("\n")]


@pytest.mark.django_db(transaction=True)
def test_twenty_kills_of_a_process_under_load_lose_no_acknowledged_row_and_double_none(tmp_path):
    acknowledged = []
    for _ in range(CLIENTS):
        recorder = Recorder(tmp_path, 16)
        recorder.hear(ROWS)
        acknowledged += recorder.kill()

    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM cp_auditing_auditlog WHERE action = 'demo.sure'")
        stored = [id for (id,) in cursor.fetchall()]
    assert len(acknowledged) >= CLIENTS * ROWS
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(set(stored)) == len(stored)
    assert set(acknowledged) <= set(stored)


@pytest.fixture
def cluster():
    """A server of this test's own, with our tables."""
    folder = Path(tempfile.mkdtemp(prefix="cp-", dir="/tmp"))
    devdb = folder / ".devdb"
    server.ensure(devdb)
    url = f"postgresql://{ROLE}@/{DATABASE}?host={server.socket_dir(devdb)}&port={PORT}"
    done = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "-v0"], cwd=ROOT, env=environment(DATABASE_URL=url), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield devdb, url
    server.reset(devdb)
    shutil.rmtree(server.socket_dir(devdb), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def kill_server(devdb):
    """Kill every process of the server at once, as a crash of the machine does."""
    site = server.site_of(devdb)
    processes.kill(processes.inside(site.data, site.account), signal.SIGKILL)


@pytest.mark.django_db
def test_ten_kills_of_the_server_under_load_lose_no_acknowledged_row_and_double_none(cluster, tmp_path):
    devdb, url = cluster
    recorder = Recorder(tmp_path, 16, DATABASE_URL=url)
    recorder.hear(ROWS)
    for _ in range(SERVERS):
        kill_server(devdb)
        server.ensure(devdb)
        recorder.hear(ROWS)
    acknowledged = recorder.kill()

    with psycopg.connect(url) as looking:
        stored = [
            id for (id,) in looking.execute("SELECT id::text FROM cp_auditing_auditlog WHERE action = 'demo.sure'")
        ]
    assert len(acknowledged) >= SERVERS * ROWS
    assert len(set(stored)) == len(stored)
    assert set(acknowledged) <= set(stored)
