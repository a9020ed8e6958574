"""People who use an embedded database in processes of their own: who runs the tests, and, for root, a normal user."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django
import pytest

from controlplane.devdb import server
from controlplane.devdb.errors import DevdbError

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SITE_PACKAGES = Path(django.__file__).resolve().parent.parent
TMP = Path("/tmp")  # noqa: S108 - pytest's own folders are too long for a socket, and closed to other users
IS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")

RUN_SQL = """
import json, sys, django
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute(sys.argv[1])
    print(json.dumps(cursor.fetchall() if cursor.description else [], default=str))
"""


def pytest_collection_modifyitems(items):
    """Real servers that are killed, starved and raced for: drills, every one of them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True)
class Person:
    """Somebody who runs commands. identity: options of subprocess that make a process his.

    bytecode: a folder of his for compiled modules: hundreds of processes compile them once.
    """

    uid: int
    python: str
    bytecode: Path
    identity: dict[str, Any] = field(default_factory=dict)

    def start(self, folder: Path, *arguments: str, path: str = "", **options: Any) -> subprocess.Popen[str]:
        """A Python process with DEVDB_DIR = folder; path: a folder to look for modules in first."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, [path, str(CHECKOUT), str(SITE_PACKAGES)])),
            "PYTHONPYCACHEPREFIX": str(self.bytecode),
            "DJANGO_SETTINGS_MODULE": "tests.devdb.settings",
            "DEVDB_DIR": str(folder),
            "PGPORT": "1",  # somebody's habit, which must not matter
        }
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
        return subprocess.Popen(
            [self.python, *arguments], env=environment, cwd="/", text=True, **self.identity, **options
        )

    def run(self, folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        process = self.start(folder, *arguments, **options)
        out, err = process.communicate(timeout=150)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def manage(self, folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(folder, "-m", "django", *arguments, **options)

    def sql(self, folder: Path, statement: str, **options: Any) -> list[list[Any]]:
        result = self.run(folder, "-c", RUN_SQL, statement, **options)
        assert result.returncode == 0, result.stderr
        rows: list[list[Any]] = json.loads(result.stdout)
        return rows

    def start_sql(self, folder: Path, statement: str) -> subprocess.Popen[str]:
        return self.start(folder, "-c", RUN_SQL, statement)

    def make_folder(self) -> Path:
        return make_folder(self.uid)


def make_folder(uid: int) -> Path:
    """A new folder of this user with a space in its short path, where everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="devdb of us ", dir=TMP))
    folder.chmod(0o755)
    os.chown(folder, uid, -1)
    return folder


@contextmanager
def bytecode_of(uid: int) -> Iterator[Path]:
    folder = make_folder(uid)
    yield folder
    shutil.rmtree(folder)


def normal_user(bytecode: Path) -> Person:
    """nobody, with an interpreter that he can execute. Skips the test when there is none."""
    identity: dict[str, Any] = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        person = Person(NOBODY.pw_uid, python, bytecode, identity)
        try:
            tried = person.run(TMP, "-c", "import psycopg, controlplane.devdb.server")
        except OSError:
            continue
        if tried.returncode == 0:
            return person
    pytest.skip(f"user nobody cannot execute {version}, or cannot read {CHECKOUT}")


@pytest.fixture(scope="session")
def me() -> Iterator[Person]:
    with bytecode_of(os.geteuid()) as bytecode:
        yield Person(os.geteuid(), sys.executable, bytecode)


@pytest.fixture(scope="session")
def nobody() -> Iterator[Person]:
    if not IS_ROOT:
        pytest.skip("only root can run a process as another user")
    with bytecode_of(NOBODY.pw_uid) as bytecode:
        yield normal_user(bytecode)


@pytest.fixture(scope="module", params=["me", "nobody"])
def person(request: pytest.FixtureRequest) -> Person:
    found: Person = request.getfixturevalue(request.param)
    return found


def tear_down(folder: Path) -> None:
    """Stop the server and remove what a test has left, wherever its data lies."""
    devdb = folder / ".devdb"
    try:
        server.reset(devdb)
    except DevdbError:  # a folder that a test has spoiled
        server.stop(devdb)
    shutil.rmtree(server.socket_dir(devdb), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh(person: Person) -> Iterator[Path]:
    """DEVDB_DIR of a checkout that was never used."""
    folder = person.make_folder()
    yield folder / ".devdb"
    tear_down(folder)


@pytest.fixture(scope="module")
def running(person: Person) -> Iterator[Path]:
    """DEVDB_DIR with a server and one table `kept` of one row; tests may kill the server, the row must stay."""
    folder = person.make_folder()
    devdb = folder / ".devdb"
    person.sql(devdb, "CREATE TABLE kept AS SELECT 'still here' AS text")
    yield devdb
    tear_down(folder)
