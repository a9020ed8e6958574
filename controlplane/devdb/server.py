"""The server process: started when somebody asks for it, found again by everybody, stopped only on request.

One server per DEVDB_DIR, which is the folder every function here takes. Who starts it holds an exclusive lock, so many
processes at once make one server; whether it runs is believed of `pg_isready` alone. Nobody is counted: the server
outlives its users until `manage.py devdb stop`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .account import MAJOR, client, current, server_binaries
from .cluster import (
    DATABASE,
    PORT,
    ROLE,
    SOCKET_NAME,
    Site,
    create,
    failure,
    is_private,
    remove,
    settle,
    site_of,
    socket_dir,
    verify,
)
from .errors import StartTimedOut, StopTimedOut, folder_errors
from .processes import alive, first_line_pid, inside, is_postmaster, kill, serves, serving

__all__ = ["DATABASE", "PORT", "ROLE", "Status", "client", "ensure", "reset", "socket_dir", "status", "stop"]

START_SECONDS = 120.0  # recovery of a big crash may take its time
STOP_SECONDS = 60.0
ORPHAN_SECONDS = 10.0  # a killed postmaster's children notice within milliseconds, unless they are stuck
PAUSE_SECONDS = 0.05
LOG_BYTES = 10_000_000

# Room for parallel tests and many partitions; the rest is PostgreSQL's own default.
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "150",
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# A server that loses power has lost everything, and until then does its work in a third of the time.
VOLATILE = {"fsync": "off", "full_page_writes": "off"}

# The shell leaves at once, so the server is nobody's child: a killed child would stay as a zombie of ours, which
# PostgreSQL takes for a running server.
_LAUNCH = '"$@" </dev/null >&2 & echo $!'


@dataclass(frozen=True)
class Status:
    """state: running, starting (or stopping), stopped, none (no data yet). pid: None unless a server is alive."""

    state: str
    pid: int | None
    version: int
    user: str
    data: str
    socket: str
    log: str


def ensure(folder: str | Path, seconds: float = START_SECONDS, *, durable: bool = True) -> None:
    """Return when the server of this folder accepts connections, starting it (and making its data) if it does not.

    durable: what is committed survives a loss of power; a server that runs already is left as it is. Raises DevdbError in one
    of its kinds; what was in the folder is then as it was.
    """
    site = site_of(folder)
    if _ready(site):
        return
    deadline = time.monotonic() + seconds
    with _locked(site, deadline, seconds):
        site = site_of(folder)  # who held the lock may have made the data, and so have set the account
        while not _ready(site):
            if pids := inside(site.data, site.account):
                _wait_for_others(site, pids, deadline, seconds)
            else:
                _start(site, deadline, seconds, {} if durable else VOLATILE)


def stop(folder: str | Path, seconds: float = STOP_SECONDS) -> bool:
    """Stop the server; whether there was one. Open connections are cut, their transactions rolled back."""
    site = site_of(folder)
    if not site.data.is_dir():
        return False
    deadline = time.monotonic() + seconds
    with _locked(site, deadline, seconds):
        return _stop(site, deadline, seconds)


def reset(folder: str | Path, seconds: float = STOP_SECONDS) -> bool:
    """Stop the server and delete its data; whether there was any. Refuses data that this project did not make."""
    site = site_of(folder)
    if site.is_new:
        return False
    verify(site)
    deadline = time.monotonic() + seconds
    with _locked(site, deadline, seconds):
        _stop(site, deadline, seconds)
        remove(site)
    return True


def status(folder: str | Path) -> Status:
    """What is so, without changing anything. Raises ForeignFolder, NoDataDirectory, WrongVersion."""
    site = site_of(folder)
    pids: list[int] = []
    state = "none"
    if not site.is_new:
        verify(site)
        pids = inside(site.data, site.account)
        state = "running" if _ready(site) else "starting" if pids else "stopped"
    return Status(
        state=state,
        pid=_postmaster(pids),
        version=MAJOR,
        user=site.account.name,
        data=str(site.data),
        socket=str(site.socket_folder),
        log=str(site.log),
    )


def _ready(site: Site) -> bool:
    """Whether the server of this folder accepts connections.

    A server whose data directory was deleted still answers on a socket in /tmp; its working directory gives it away.
    When its process cannot be seen at all (another container), pg_isready is believed.
    """
    if not is_private(site.socket_folder, site.account):
        return False
    command = (client("pg_isready"), "-q", "-t", "2", "-h", site.socket_folder, "-p", PORT, "-U", ROLE, "-d", DATABASE)
    if current().run(*map(str, command)).returncode != 0:
        return False
    return _stranger(site) is None


def _stranger(site: Site) -> int | None:
    """Pid of a server that holds our socket but lives elsewhere; the pid in the lock file alone may be anybody's."""
    pid = first_line_pid(site.socket_folder / f"{SOCKET_NAME}.lock")
    if pid is None or not serves(pid, site.real_socket_folder) or pid in inside(site.data, site.account):
        return None
    return pid


def _strangers(site: Site) -> list[int]:
    """The same, and servers without a lock file here: of a folder that was deleted and made again.

    Such a server knows its socket by the path alone, and would take ours along when it ends.
    """
    holder = _stranger(site)
    ours = inside(site.data, site.account)
    others = [pid for pid in serving(site.real_socket_folder) if pid not in ours]
    return others if holder is None else sorted({holder, *others})


@contextmanager
def _locked(site: Site, deadline: float, seconds: float) -> Iterator[None]:
    with folder_errors(site.folder):
        site.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _open(site, site.folder / "lock")
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StartTimedOut(seconds, site.log) from None
                time.sleep(PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _open(site: Site, path: Path) -> int:
    """Open one of our files for appending; root leaves it to the owner of the folder, who would be locked out else."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        owner = site.folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _start(site: Site, deadline: float, seconds: float, more: dict[str, str]) -> None:
    """Launch the server and wait for it. Nothing of this process stays open in it: its output goes to the log."""
    binaries = server_binaries(site.account)
    settle(site)
    if site.is_new:
        create(site)
    verify(site)
    _clear_stale_locks(site, deadline, seconds)
    settings = SETTINGS | more | {"unix_socket_directories": f'"{site.real_socket_folder}"'}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with _log(site) as log:
        begin = os.fstat(log).st_size
        command: list[str | Path] = [binaries / "postgres", "-D", site.data, *options]
        pid = int(site.account.run("/bin/sh", "-c", _LAUNCH, "sh", *command, stderr=log).stdout)
        while not _ready(site):
            if not alive(pid):
                raise failure(site, os.pread(log, LOG_BYTES, begin).decode(errors="replace"))
            _pause(site, deadline, seconds)


def _wait_for_others(site: Site, pids: list[int], deadline: float, seconds: float) -> None:
    """Wait until the processes in the data directory serve or are gone.

    They are a server that starts, recovers or stops, or what a killed postmaster left behind; the latter would corrupt
    the data if a second server ran beside them, so they are ended before one starts. So is a server whose socket was deleted.
    """
    patience = min(deadline, time.monotonic() + ORPHAN_SECONDS)
    while pids and not _ready(site):
        if time.monotonic() > patience:
            postmaster = _postmaster(pids)
            if postmaster is None:
                kill(pids, signal.SIGKILL)
            elif not (site.socket_folder / SOCKET_NAME).exists():
                kill([postmaster], signal.SIGINT)  # nobody can reach it any more, and nobody ever will
        _pause(site, deadline, seconds)
        pids = inside(site.data, site.account)


def _pause(site: Site, deadline: float, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise StartTimedOut(seconds, site.log)
    time.sleep(PAUSE_SECONDS)


def _clear_stale_locks(site: Site, deadline: float, seconds: float) -> None:
    """Remove the lock files of a dead server, which PostgreSQL would believe when they are cut short or name another
    process.

    Called with our lock held and nobody in the data directory. A stranger on the socket is a server of ours whose data
    directory was deleted or moved away: the socket's folder is private.
    """
    strangers = _strangers(site)
    if strangers:
        kill(strangers, signal.SIGQUIT)
        while any(map(alive, strangers)):  # each takes its socket along, which must not be ours by then
            _pause(site, deadline, seconds)
    lock = site.socket_folder / f"{SOCKET_NAME}.lock"
    for stale in (site.data / "postmaster.pid", lock, lock.with_suffix("")):
        stale.unlink(missing_ok=True)


def _stop(site: Site, deadline: float, seconds: float) -> bool:
    pids = inside(site.data, site.account)
    postmaster = _postmaster(pids)
    if postmaster is None:
        return False
    kill([postmaster], signal.SIGINT)  # "fast" shutdown
    while inside(site.data, site.account):
        if time.monotonic() > deadline:
            raise StopTimedOut(seconds, postmaster)
        time.sleep(PAUSE_SECONDS)
    return True


def _postmaster(pids: list[int]) -> int | None:
    return next((pid for pid in pids if is_postmaster(pid)), None)


@contextmanager
def _log(site: Site) -> Iterator[int]:
    """The log, open for appending; a long one is put aside, and the one before it dropped."""
    with folder_errors(site.folder):
        if site.log.is_file() and site.log.stat().st_size > LOG_BYTES:
            site.log.replace(site.log.with_suffix(".log.1"))
        descriptor = _open(site, site.log)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
