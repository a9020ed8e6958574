from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import hypothesis
import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction
from psycopg import sql

from auditing.testing import flushable_logs
from auditing.writer import writer
from controlplane.core.caches import invalidation
from tests.factories import AppFactory, TenantFactory, UserFactory

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("untimed", deadline=None)  # no test is judged by how busy the machine is
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser):
    parser.addoption("--update-docs", action="store_true", help="write the pages of docs/ that are made from the code")
    parser.addoption("--update-query-counts", action="store_true", help="write tests/query_counts.json anew")
    parser.addoption("--update-pictures", action="store_true", help="write docs/pictures anew")


class Wheel:
    """The built wheel, installed with its dependencies in an environment that knows nothing of the checkout."""

    def __init__(self, folder):
        self.folder = folder
        tools = Path(sys.executable).parent
        self._run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist"))
        [self.file] = (folder / "dist").glob("*.whl")
        locked = ["export", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file"]
        self._run(tools / "uv", "-q", *locked, str(folder / "constraints.txt"))
        self._run(tools / "uv", "-q", "venv", "--python", sys.executable, str(folder / "venv"))
        self.bin = folder / "venv" / "bin"
        into = [
            "pip",
            "install",
            "--python",
            str(self.bin / "python"),
            "--constraints",
            str(folder / "constraints.txt"),
        ]
        self._run(tools / "uv", "-q", *into, str(self.file))

    def _run(self, *command):
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def run(self, *command, cwd=None, **variables):
        """Run a program of the environment, outside the checkout; returns the finished process."""
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), **variables}
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=cwd or self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return Wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def new_database(django_db_setup, django_db_blocker):
    """Make an empty database beside the test database, by the end of its name; all are dropped in the end.

    Returns the variables of libpq for it: PGDATABASE, PGHOST, PGPORT, PGUSER, PGPASSWORD.
    """
    made = []

    def execute(statement, name):
        with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def make(suffix):
        at = {"port": "", "password": "", **connection.get_connection_params()}
        name = f"{at['dbname'][: 62 - len(suffix)]}_{suffix}"
        execute("DROP DATABASE IF EXISTS {}", name)
        execute("CREATE DATABASE {}", name)
        made.append(name)
        return {
            "PGDATABASE": name,
            "PGHOST": at["host"],
            "PGPORT": str(at["port"]),
            "PGUSER": at["user"],
            "PGPASSWORD": at["password"],
        }

    yield make
    for name in made:
        execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


@pytest.fixture(scope="session")
def production():
    """Variables of a production that starts, over a database given by new_database or over one that is not there."""

    def variables(at=None):
        found = at or {"PGDATABASE": "none", "PGHOST": "127.0.0.1", "PGPORT": "1", "PGUSER": "none"}
        return {"DATABASE_URL": f"postgresql:///{found['PGDATABASE']}", "SECRET_KEY": "k9" * 32 + "abcdefgh", **found}

    return variables


@pytest.fixture(scope="session")
def wheel_database(wheel, new_database, production):
    """A database that the installed wheel has migrated; returns the variables of libpq for it."""
    at = new_database("wheel")
    done = wheel.run("controlplane", "migrate", "-v0", **production(at))
    assert done.returncode == 0, done.stderr
    return at


@pytest.fixture(scope="session", autouse=True)
def logs_can_be_flushed():
    """Content types and permissions outlive a flush here, so they are not made again after each of some thousand."""
    with flushable_logs(), mock.patch("django.core.management.commands.flush.emit_post_migrate_signal"):
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup):
    """The caches' threads and connections end before the test database is dropped."""
    yield
    invalidation.stop()


@pytest.fixture(autouse=True)
def caches_are_empty():
    invalidation.flush()


@pytest.fixture(autouse=True)
def writer_is_drained():
    """What a test has recorded beside its transaction is written before its tables are flushed."""
    yield
    writer.stop()


@pytest.fixture
def acme(db):
    return TenantFactory(slug="acme", name="Acme", time_zone="Europe/Berlin")


@pytest.fixture
def globex(db):
    return TenantFactory(slug="globex", name="Globex")


@pytest.fixture
def acme_app(acme):
    return AppFactory(tenant=acme, slug="chat", name="Chat")


@pytest.fixture
def globex_app(globex):
    return AppFactory(tenant=globex, slug="chat", name="Chat")


@pytest.fixture
def outsider(db):
    """A user of neither tenant, who must see nothing."""
    return UserFactory(tenant=TenantFactory(slug="elsewhere"), email="outsider@example.org")


@pytest.fixture
def can_replicate(db):
    """A cursor under session_replication_role = replica, which turns off all triggers but those ENABLE ALWAYS.

    Skips the test where the login may not set it.
    """

    @contextmanager
    def cursor():
        with transaction.atomic(), connection.cursor() as opened:
            try:
                with transaction.atomic():
                    opened.execute("SET LOCAL session_replication_role = replica")
            except ProgrammingError:
                pytest.skip("this login may not set session_replication_role")
            yield opened

    return cursor


@pytest.fixture
def other_connection(db):
    """A connection of its own to the test database, in autocommit: the other one in a race, or who pulls the plug."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as opened:
        yield opened
