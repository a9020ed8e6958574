"""Serving over HTTP: the socket, and gunicorn's command line, shared by the commands `serve` and `up`.

gunicorn replaces this process, so its workers start from a clean one (no connection, thread or pool is inherited by
fork), and a signal meant for the command reaches it. The socket is opened before, so that a port that is taken is one
sentence and not a log of retries.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NoReturn

from controlplane.env import Env

MAX_REQUESTS = (
    10_000  # a worker is replaced after so many, give or take the jitter, so that a leak cannot grow for ever
)
MAX_REQUESTS_JITTER = 1_000
GRACEFUL_S = 30
BACKLOG = 2048


class ServingError(Exception):
    """It cannot be served; the text is one sentence for people. code is stable."""

    code = "serving_error"


class ServeExtraMissing(ServingError):
    code = "serve_extra_missing"

    def __init__(self) -> None:
        super().__init__("gunicorn is not installed: install llm-controlplane[serve].")


class PortTaken(ServingError):
    code = "port_taken"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"PORT {port} is already in use on {host}: set PORT to a free one.")


class PortUnusable(ServingError):
    code = "port_unusable"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"BIND {host} with PORT {port} cannot be used ({reason}): set them to what this machine has.")


class NoFreePort(ServingError):
    code = "no_free_port"

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(f"The ports {ports[0]} to {ports[-1]} are all in use: set PORT to a free one.")


@dataclass(frozen=True)
class Workers:
    """processes, threads in each; timeout_s: a worker that is silent for so long is replaced; graceful_s: time to
    finish."""

    processes: int
    threads: int
    timeout_s: int
    graceful_s: int = GRACEFUL_S


def workers(env: Env, graceful_s: int = GRACEFUL_S) -> Workers:
    return Workers(
        processes=env.int("WEB_CONCURRENCY", default=2),
        threads=env.int("WEB_THREADS", default=8),
        timeout_s=env.int("WEB_TIMEOUT", default=30),
        graceful_s=graceful_s,
    )


def require_gunicorn() -> None:
    """Raises ServeExtraMissing."""
    if find_spec("gunicorn") is None:
        raise ServeExtraMissing


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on an IP address. Raises PortTaken, PortUnusable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not 0 < port < 65536:
        raise PortUnusable(host, port, "a port is a number from 1 to 65535")
    if _answers(family, host, port):
        raise PortTaken(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a port just left is refused for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from None
        raise PortUnusable(host, port, (error.strerror or str(error)).lower()) from None
    return listener


def _answers(family: socket.AddressFamily, host: str, port: int) -> bool:
    """Whether somebody serves there: macOS lets us bind an address that another process serves by a wildcard."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            return probe.connect_ex((host, port)) == 0
        except OSError:  # no address at all; bind() will say so
            return False


def listen_on_first_free(host: str, ports: Sequence[int]) -> socket.socket:
    """Raises NoFreePort, PortUnusable."""
    for port in ports:
        try:
            return listen(host, port)
        except PortTaken:
            continue
    raise NoFreePort(ports)


def become_gunicorn(application: str, listener: socket.socket, settings: Workers, env: Env) -> NoReturn:
    """Replace this process by gunicorn, serving application ("module:name") on the socket.

    The native connection pool is on, unless DB_POOL says otherwise: it is for threads that serve, not for commands.
    """
    if "DB_POOL" not in env:
        os.environ["DB_POOL"] = "1"
    listener.set_inheritable(True)
    command = [
        *(sys.executable, "-m", "gunicorn", application),
        *("--bind", f"fd://{listener.fileno()}"),
        *("--worker-class", "gthread"),
        *("--workers", str(settings.processes), "--threads", str(settings.threads)),
        *("--timeout", str(settings.timeout_s), "--graceful-timeout", str(settings.graceful_s)),
        *("--max-requests", str(MAX_REQUESTS), "--max-requests-jitter", str(MAX_REQUESTS_JITTER)),
        *("--log-level", "warning"),
        "--no-control-socket",  # it would be made in the home directory, for a tool we do not use
    ]
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 (no shell; our own interpreter)
