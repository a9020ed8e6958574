"""The one `up` of a checkout: who is first, and how the next finds it.

The first holds an exclusive lock on `up.lock` for as long as it serves, so whether one runs is never guessed from a
pid. Where it serves stands in `up.json`, with a token; only the process that wrote the file answers to the token.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.core.wsgi import get_wsgi_application
from django.urls import reverse

TOKEN_VARIABLE = "UP_TOKEN"  # noqa: S105 (a name)
TOKEN_PATH = "/.controlplane-up/"  # noqa: S105 (a path)
ANSWER_S = 5


@dataclass(frozen=True)
class Running:
    """An `up` that serves on 127.0.0.1."""

    port: int
    token: str

    @property
    def url(self) -> str:
        """Address of the admin's first page."""
        return f"http://127.0.0.1:{self.port}{reverse('admin:index')}"

    def answers(self) -> bool:
        """Whether the server on that port is the one that wrote the file, asked over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", TOKEN_PATH + self.token)
            return connection.getresponse().status == http.HTTPStatus.NO_CONTENT
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def claim(folder: Path) -> bool:
    """Become the `up` of this folder, until this process and what it turns into end; False when another one is."""
    descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    os.set_inheritable(descriptor, True)  # gunicorn takes the place of this process
    return True


def announce(folder: Path, port: int) -> Running:
    """Write where this process is about to serve, and leave the token for `application`."""
    running = Running(port, secrets.token_urlsafe(32))
    fresh = folder / "up.json.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(asdict(running), file)
    fresh.replace(folder / "up.json")
    os.environ[TOKEN_VARIABLE] = running.token
    return running


def find(folder: Path) -> Running | None:
    """The `up` that serves from this folder; None when there is none, or it does not answer yet."""
    try:
        said = json.loads((folder / "up.json").read_text())
        running = Running(int(said["port"]), str(said["token"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return running if running.answers() else None


def application() -> WSGIApplication:
    """The project's application, which also answers to the token of this process, before any middleware."""
    project = get_wsgi_application()
    path = TOKEN_PATH + os.environ[TOKEN_VARIABLE]

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == path:
            start_response("204 No Content", [])
            return []
        return project(environ, start_response)

    return answer
