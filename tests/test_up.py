"""`up` and `serve`, run as a person does: processes on an embedded database of their own, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from controlplane import running
from controlplane.devdb import server
from controlplane.management.commands import run_worker, up
from controlplane.serving import (
    NoFreePort,
    PortTaken,
    PortUnusable,
    ServeExtraMissing,
    ServingError,
    listen,
    listen_on_first_free,
)
from controlplane.worker import CANCELLED_S

from .devdb.conftest import make_folder, tear_down

CHECKOUT = Path(__file__).resolve().parent.parent
SET_BY_US = {"DATABASE_URL", "DEVDB_DIR", "PORT", "BIND", "CONTROLPLANE_ENV", "DJANGO_SETTINGS_MODULE", "SECRET_KEY"}
LAST_LINE = "Ctrl-C stops serving"

WITHOUT_GUNICORN = """
import sys
sys.modules["gunicorn"] = None
sys.argv = ["manage.py", *sys.argv[1:]]
from controlplane.__main__ import main
sys.exit(main("development"))
"""

# The worker notes its duties when it comes to it, which may be after `up` has said that it serves.
COUNTS = """
from django.apps import apps
models = [model for model in apps.get_models() if model.__name__ != "WorkerDuty"]
print({model._meta.label: model._base_manager.count() for model in models})
"""


@dataclass(frozen=True)
class Checkout:
    """A DEVDB_DIR, and the commands of the project with it."""

    devdb: Path

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name not in SET_BY_US}
        environment |= {"DEVDB_DIR": str(self.devdb), "CONTROLPLANE_ENV": "development", **variables}
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **variables)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def manage(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("manage.py", *arguments, **variables)

    def up(self, **variables: str) -> tuple[subprocess.Popen[str], str]:
        """An `up` that serves, and what it has said."""
        process = self.start("manage.py", "up", **variables)
        return process, read_until(process, LAST_LINE)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    said = ""
    assert process.stdout is not None
    while text not in said:
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"it ended early, saying {said}{process.communicate()[1]}")
        said += line
    return said


def address(said: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+/\S*", said)
    assert found, said
    return found[0]


def get(url: str) -> http.client.HTTPResponse:
    answer: http.client.HTTPResponse = urllib.request.urlopen(url)  # noqa: S310 - our own http:// address
    return answer


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The workers that an `up` has started beside itself."""
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "run_worker"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    folder = make_folder(os.geteuid())
    yield Checkout(folder / ".devdb")
    tear_down(folder)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Checkout, str, subprocess.Popen[str]]]:
    """A checkout that was new and is up now, what `up` said, and its process."""
    folder = make_folder(os.geteuid())
    checkout = Checkout(folder / ".devdb")
    process, said = checkout.up()
    yield checkout, said, process
    end(process, signal.SIGTERM)
    tear_down(folder)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_the_printed_user_signs_in_at_the_printed_address(served: tuple[Checkout, str, subprocess.Popen[str]]):
    checkout, said, _ = served
    user, password = re.search(r"User (\S+), password (\S+)", said).groups()  # type: ignore[union-attr]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    login = browser.open(address(said))
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', login.read().decode())
    assert token
    form = {"username": user, "password": password, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    home = browser.open(login.geturl(), data=urllib.parse.urlencode(form).encode())

    assert urllib.parse.urlparse(home.geturl()).path == "/admin/"
    assert (checkout.devdb / "admin-password").read_text() == password
    assert (checkout.devdb / "admin-password").stat().st_mode & 0o777 == 0o600


def test_static_files_are_served(served: tuple[Checkout, str, subprocess.Popen[str]]):
    _, said, _ = served
    page = get(address(said)).read().decode()
    [first, *_] = re.findall(r'href="(/static/[^"]+\.css)"', page)

    answer = get(urllib.parse.urljoin(address(said), first))

    assert answer.headers["Content-Type"].startswith("text/css")


def test_a_second_up_shows_the_first_and_changes_nothing(served: tuple[Checkout, str, subprocess.Popen[str]]):
    checkout, said, process = served
    before = checkout.manage("shell", "-v0", "-c", COUNTS).stdout
    postmaster = server.status(checkout.devdb).pid

    second = checkout.manage("up")

    assert second.returncode == 0, second.stderr
    assert address(second.stdout) == address(said)
    assert "Already running" in second.stdout
    assert len(workers_of(process)) == 1
    assert before.startswith("{")
    assert checkout.manage("shell", "-v0", "-c", COUNTS).stdout == before
    assert server.status(checkout.devdb).pid == postmaster


def test_the_page_is_back_after_the_database_was_killed(served: tuple[Checkout, str, subprocess.Popen[str]]):
    checkout, said, _ = served
    pid = server.status(checkout.devdb).pid
    assert pid is not None

    os.kill(pid, signal.SIGKILL)

    assert checkout.manage("shell", "-v0", "-c", COUNTS).returncode == 0
    assert get(address(said)).status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_the_database_up(checkout: Checkout, number: signal.Signals, free_port: int):
    process, said = checkout.up(PORT=str(free_port))
    assert f":{free_port}/" in address(said)
    assert get(address(said)).status == 200
    assert len(workers_of(process)) == 1

    assert end(process, number) == 0  # its output ends when the worker has too
    assert max(up.GRACEFUL_S, run_worker.LOOK_S + run_worker.BESIDE_S + CANCELLED_S) < 5

    assert server.status(checkout.devdb).state == "running"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port))


def test_a_later_up_is_quiet_and_does_not_bring_back_what_was_deleted(checkout: Checkout, free_port: int):
    end(checkout.up(PORT=str(free_port))[0], signal.SIGTERM)
    changed = "from tenants.models import User; u = User.objects.get(username='admin'); u.set_password('x'); u.save()"
    assert checkout.manage("shell", "-v0", "-c", changed).returncode == 0
    before = checkout.manage("shell", "-v0", "-c", COUNTS).stdout

    process, said = checkout.up(PORT=str(free_port))
    end(process, signal.SIGTERM)

    assert "Tables: up to date" in said
    assert "Demo data" not in said
    assert "password " + (checkout.devdb / "admin-password").read_text() not in said
    assert "manage.py changepassword admin" in said
    assert checkout.manage("shell", "-v0", "-c", COUNTS).stdout == before


def test_two_ups_at_once_on_a_new_checkout_serve_once(checkout: Checkout):
    one, other = checkout.start("manage.py", "up"), checkout.start("manage.py", "up")
    assert one.stdout is not None
    first_line = one.stdout.readline()
    serving, shown = (other, one) if "Another" in first_line or "Already" in first_line else (one, other)
    said = read_until(serving, LAST_LINE)
    out, err = shown.communicate(timeout=300)
    end(serving, signal.SIGTERM)

    assert shown.returncode == 0, err
    assert address(out) == address(said)


def test_a_port_that_is_asked_for_and_taken_is_refused_before_anything_starts(checkout: Checkout, taken_port: int):
    result = checkout.manage("up", PORT=str(taken_port))

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"CommandError: PORT {taken_port} is already in use on 127.0.0.1: set PORT to a free one.\n"
    assert not (checkout.devdb / "pg18").exists()


@pytest.mark.parametrize("command", ["up", "serve"])
def test_the_missing_extra_is_named(checkout: Checkout, command: str):
    result = checkout.run("-c", WITHOUT_GUNICORN, command)

    assert result.returncode == 2
    assert result.stderr == "CommandError: gunicorn is not installed: install llm-controlplane[serve].\n"


def test_a_folder_with_other_things_in_it_stops_up_with_a_sentence(checkout: Checkout):
    (checkout.devdb / "pg18").mkdir(parents=True)
    (checkout.devdb / "pg18" / "letters.txt").write_text("mine")

    result = checkout.manage("up")

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "this project did not make its content" in result.stderr
    assert (checkout.devdb / "pg18" / "letters.txt").read_text() == "mine"


def test_serve_takes_bind_and_port_and_ends_in_peace(
    served: tuple[Checkout, str, subprocess.Popen[str]], free_port: int
):
    checkout, _, _ = served
    process = checkout.start("manage.py", "serve", BIND="127.0.0.1", PORT=str(free_port), WEB_CONCURRENCY="1")
    said = read_until(process, "Serving")

    connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=60)
    connection.request("GET", "/admin/login/")
    status = connection.getresponse().status
    connection.close()

    assert said == f"Serving on http://127.0.0.1:{free_port}/\n"
    assert status == 200
    assert end(process, signal.SIGTERM) == 0


def test_serve_refuses_a_port_that_is_taken(checkout: Checkout, taken_port: int):
    result = checkout.manage("serve", PORT=str(taken_port))

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"CommandError: PORT {taken_port} is already in use on 127.0.0.1: set PORT to a free one.\n"


def test_the_first_free_port_is_taken(taken_port: int, free_port: int):
    with listen_on_first_free("127.0.0.1", [taken_port, free_port]) as listener:
        assert listener.getsockname()[1] == free_port
        with pytest.raises(NoFreePort, match="are all in use: set PORT"):
            listen_on_first_free("127.0.0.1", [taken_port, free_port])


def test_a_port_just_left_can_be_used_again(free_port: int):
    with listen("127.0.0.1", free_port), socket.create_connection(("127.0.0.1", free_port)):
        pass

    with listen("127.0.0.1", free_port) as again:
        assert again.getsockname() == ("127.0.0.1", free_port)


def test_a_port_that_a_wildcard_holds_is_taken():
    with socket.create_server(("0.0.0.0", 0)) as listener, pytest.raises(PortTaken):  # noqa: S104 - no data behind it
        listen("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 70000), ("192.0.2.1", 8000), ("x y", 8000)])
def test_an_address_that_this_machine_has_not_is_refused(host: str, port: int):
    with pytest.raises(PortUnusable, match="set them to what this machine has"):
        listen(host, port)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"port": 1}', '{"port": "x", "token": "y"}'])
def test_a_broken_note_is_no_running_up(tmp_path: Path, content: str):
    (tmp_path / "up.json").write_text(content)

    assert running.find(tmp_path) is None


def test_somebody_else_on_the_noted_port_is_no_running_up(
    served: tuple[Checkout, str, subprocess.Popen[str]], tmp_path: Path
):
    _, said, _ = served
    port = urllib.parse.urlparse(address(said)).port
    (tmp_path / "up.json").write_text(json.dumps({"port": port, "token": "of another checkout"}))

    assert running.find(tmp_path) is None


def test_every_error_of_serving_has_a_code_of_its_own():
    kinds = ServingError.__subclasses__()

    assert ServeExtraMissing in kinds
    assert len({kind.code for kind in kinds} | {ServingError.code}) == len(kinds) + 1
