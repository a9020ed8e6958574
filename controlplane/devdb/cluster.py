"""The folder DEVDB_DIR and the PostgreSQL data in it: made whole or not at all, and recognized again.

DEVDB_DIR holds `pg18` (the data), `s` (the socket), `postgres.log` and `lock`; whatever else is there is not ours to
touch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .account import MAJOR, SHARED, Account, choose, server_binaries, shared_folder
from .errors import (
    DiskFull,
    FolderUnusable,
    NoDataDirectory,
    StartFailed,
    UnsafeSocketFolder,
    WrongVersion,
    folder_errors,
)

PORT = 5432  # only part of the socket's name: the server does not listen on TCP
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_LIMIT = 100  # bytes; the kernel's limit is 104 on macOS and 108 on Linux, with the final NUL
TMP = Path("/tmp")  # noqa: S108 (owner and mode of what is in it are checked)
SUPERUSER = "postgres"
ROLE = DATABASE = "controlplane"
MARKER = "controlplane-devdb"

# The superuser exists, as PostgreSQL needs one, but nobody can log in as it. Everybody else needs no password: the
# socket's folder is private to the account that runs the server.
PG_HBA = f"""\
local all {SUPERUSER} reject
local replication all reject
local all all trust
"""

# One statement per line: single-user mode ends a statement there.
ROLE_AND_DATABASE = f"""\
CREATE ROLE {ROLE} LOGIN NOSUPERUSER CREATEDB CREATEROLE NOREPLICATION NOBYPASSRLS
CREATE DATABASE {DATABASE} OWNER {ROLE}
"""


@dataclass(frozen=True)
class Site:
    """One DEVDB_DIR with the account that runs its server."""

    folder: Path
    account: Account

    @property
    def place(self) -> Path:
        """Where the data is looked for; a link, when the server's account cannot reach DEVDB_DIR."""
        return data_dir(self.folder)

    @property
    def data(self) -> Path:
        """Where the data is."""
        return Path(os.path.realpath(self.place))

    @property
    def socket_folder(self) -> Path:
        return Path(socket_dir(self.folder))

    @property
    def real_socket_folder(self) -> Path:
        """The same for the server's account, which may not follow our links."""
        return Path(os.path.realpath(self.socket_folder))

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def is_new(self) -> bool:
        return not any(self.data.iterdir()) if self.data.is_dir() else not self.data.exists()


def site_of(folder: str | Path) -> Site:
    """Raises ForeignFolder, NoAccount, FolderUnusable."""
    folder = Path(os.path.realpath(folder))
    return Site(folder, choose(data_dir(folder)))


def data_dir(folder: Path) -> Path:
    return folder / f"pg{MAJOR}"


def socket_dir(folder: str | Path) -> str:
    """Folder of the server's socket, the HOST of the database: a function of DEVDB_DIR alone, known before any start.

    Inside DEVDB_DIR where the path is short enough for a socket, else in /tmp under a hash of the path. A comma or
    quote in it would need quoting that libpq does not have.
    """
    real = os.path.realpath(folder)
    near = os.path.join(real, "s")
    if len(os.fsencode(os.path.join(near, SOCKET_NAME))) <= SOCKET_PATH_LIMIT and not {",", '"'} & set(near):
        return near
    return str(TMP / f"controlplane-devdb-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}")


def is_private(folder: Path, account: Account) -> bool:
    """Whether it is a folder of the account with mode 0700: in /tmp somebody else may have made it."""
    try:
        found = os.stat(folder, follow_symlinks=folder.parent != TMP)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and not found.st_mode & 0o077


def settle(site: Site) -> None:
    """Make the folders for data and socket, where the account can reach them. The caller holds the lock.

    For root the account is another user. A DEVDB_DIR that it reaches is opened for traversal alone (0711). One that it
    does not, under /root, gets links to a new folder in SHARED instead: parents that are not ours keep their
    permissions.
    Raises UnsafeSocketFolder, FolderUnusable, DiskFull.
    """
    with folder_errors(site.folder):
        if not site.account.is_me:
            if not site.data.exists():
                _choose_home(site)
            if not site.account.reaches(site.folder if site.is_new and not site.place.is_symlink() else site.data):
                raise FolderUnusable(site.data, f"the server runs as {site.account.name}, who cannot enter it")
        for abandoned in site.data.parent.glob(f"{site.data.name}.new-*"):  # of starts that were killed
            shutil.rmtree(abandoned, ignore_errors=True)
        _make_private(site.socket_folder, site.account)


def _choose_home(site: Site) -> None:
    site.place.unlink(missing_ok=True)  # a link to a folder that is gone
    if site.folder.stat().st_uid == os.geteuid():
        site.folder.chmod(site.folder.stat().st_mode & 0o777 | 0o011)
    if site.account.reaches(site.folder):
        return
    home = Path(tempfile.mkdtemp(prefix="data-", dir=shared_folder()))
    home.chmod(0o711)
    (home / "s").mkdir(mode=0o700)
    (home / "data").mkdir(mode=0o700)
    site.account.give(home / "s")
    site.account.give(home / "data")
    site.place.symlink_to(home / "data")
    if site.socket_folder.parent == site.folder:
        site.socket_folder.unlink(missing_ok=True)
        site.socket_folder.symlink_to(home / "s")


def _make_private(folder: Path, account: Account) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Root hands over what it has just made, or had made before it was interrupted.
    if not account.is_me and folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
        account.give(folder)
    if not is_private(folder, account):
        raise UnsafeSocketFolder(folder, account.name)


def create(site: Site) -> None:
    """Make the data directory with role and database beside its place, then move it there.

    Raises StartFailed, DiskFull, FolderUnusable and what server_binaries raises; the place is then as it was.
    """
    binaries = server_binaries(site.account)
    data = site.data
    with folder_errors(site.folder):
        # A name of its own: the initdb of a start that was killed may still be writing in the folder it was given.
        fresh = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
        try:
            site.account.give(fresh)
            _step(site, binaries / "initdb", *INITDB_OPTIONS, "-D", fresh)
            (fresh / "pg_hba.conf").write_text(PG_HBA)
            (fresh / MARKER).write_text("Data of the embedded database: `manage.py devdb status | stop | reset`.\n")
            site.account.give(fresh / MARKER)
            single = ("--single", "-D", fresh, "-c", "exit_on_error=on", "postgres")
            _step(site, binaries / "postgres", *single, input=ROLE_AND_DATABASE)
            if data.is_dir():
                data.rmdir()
            fresh.rename(data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


# Built without ICU: the built-in provider sorts by code point, the same everywhere, and knows upper and lower case.
INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--auth=reject",
)


def _step(site: Site, program: Path, *arguments: str | Path, **options: str) -> None:
    result = site.account.run(program, *arguments, **options)
    if result.returncode != 0:
        raise failure(site, result.stdout + result.stderr)


def failure(site: Site, output: str) -> DiskFull | StartFailed:
    """The error for what a program of PostgreSQL printed: its last complaint is the reason."""
    if "No space left on device" in output:
        return DiskFull(site.folder)
    complaints = [
        line
        for line in output.splitlines()
        if any(word in line for word in ("FATAL:", "PANIC:", "error:", "could not"))
    ]
    reason = (complaints or output.splitlines() or ["no reason given"])[-1].strip()
    return StartFailed(reason, site.log)


def verify(site: Site) -> None:
    """Refuse a folder that is not data of ours, or of another major version. Raises NoDataDirectory, WrongVersion."""
    with folder_errors(site.folder):
        try:
            version = (site.data / "PG_VERSION").read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            raise NoDataDirectory(site.data) from None
        if version != str(MAJOR):
            raise WrongVersion(site.data, version, MAJOR)
        if not (site.data / MARKER).is_file() or not (site.data / "global" / "pg_control").is_file():
            raise NoDataDirectory(site.data)


def remove(site: Site) -> None:
    """Delete the data of a stopped server, and the folder in SHARED that may hold it. Raises what verify raises."""
    verify(site)
    with folder_errors(site.folder):
        if site.place.is_symlink() and site.data.parent.parent == SHARED:
            home = site.data.parent
            for link in (site.place, site.socket_folder):
                if link.is_symlink():
                    link.unlink()
            shutil.rmtree(home)
        else:
            shutil.rmtree(site.data)
