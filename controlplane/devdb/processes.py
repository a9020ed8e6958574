"""Which PostgreSQL processes are alive in a data directory.

A pid in `postmaster.pid` proves nothing: the file outlives a killed server, and the number may by now be somebody's
editor (pg_ctl would call that "running"). A server's processes have the data directory as their working directory, so
that is asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from .account import Account

PROC = Path("/proc")
LSOF = Path("/usr/sbin/lsof")  # part of macOS, which has no /proc

# The shell runs as the server's own account: root in a container may not be allowed to look at other users' processes.
_INSIDE = 'folder=$1; shift; for pid; do [ "/proc/$pid/cwd" -ef "$folder" ] && echo "$pid"; done; :'


def inside(data: Path, account: Account) -> list[int]:
    """Pids of the PostgreSQL processes whose working directory is the data directory, the oldest first."""
    if (PROC / "self" / "cwd").exists():
        candidates = [pid for pid in _proc_pids() if _proc_command(pid) == "postgres"]
        if not candidates:
            return []
        found = account.run("/bin/sh", "-c", _INSIDE, "sh", data, *map(str, candidates)).stdout.split()
    else:
        found = _lsof(data)
    return sorted(int(pid) for pid in found)


def serving(socket_folder: Path) -> list[int]:
    """Pids of the servers that were started with this socket, wherever their data is; none where there is no /proc."""
    if not PROC.is_dir():
        return []
    return [int(pid) for pid in _proc_pids() if _proc_command(pid) == "postgres" and serves(int(pid), socket_folder)]


def _proc_pids() -> list[str]:
    return [entry.name for entry in PROC.iterdir() if entry.name.isdigit()]


def _proc_command(pid: str) -> str:
    try:
        return (PROC / pid / "comm").read_text().strip()
    except OSError:  # it has just ended
        return ""


def _lsof(data: Path) -> list[str]:
    """Output of -F: a line `p<pid>` per process, then `n<working directory>`."""
    result = subprocess.run(  # noqa: S603
        [LSOF, "-w", "-a", "-c", "postgres", "-d", "cwd", "-F", "pn"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found, pid = [], ""
    for line in result.stdout.splitlines():
        if line.startswith("p"):
            pid = line[1:]
        elif line == f"n{os.path.realpath(data)}":
            found.append(pid)
    return found


def is_postmaster(pid: int) -> bool:
    """Whether it is a server's first process: its children call themselves `postgres: checkpointer` and the like."""
    title = _title(pid)
    return bool(title) and not title.startswith(b"postgres: ")


def serves(pid: int, socket_folder: Path) -> bool:
    """Whether it is a server that was started with this socket: its command line names the folder."""
    return is_postmaster(pid) and f'unix_socket_directories="{socket_folder}"'.encode() in _title(pid)


def _title(pid: int) -> bytes:
    """The process's command line, its words separated by NUL or spaces; empty when it has ended."""
    if not PROC.is_dir():
        command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout  # noqa: S603
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not, though signals still reach it; some containers never bury theirs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not PROC.is_dir() or (PROC / str(pid)).is_dir()


def first_line_pid(lock_file: Path) -> int | None:
    """The pid in a lock file of PostgreSQL (postmaster.pid, .s.PGSQL.5432.lock); None when there is none to read."""
    try:
        line = lock_file.read_bytes().split(b"\n", 1)[0].strip()
    except OSError:
        return None
    return int(line) if line.isdigit() and len(line) < 10 else None


def kill(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
