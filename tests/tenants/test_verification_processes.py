"""A key that is stopped in one process is refused by another one, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from controlplane.core.ids import now
from tenants.models import APIKey, App, Tenant, User
from tests.factories import OperatorFactory, UserFactory, issue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent
PROMISED = 5.0
"""Seconds after its commit that a stop is obeyed, whatever is lost."""
ROOM = 1.0
NOTICED, LOOKED = 1.0, 1.5
"""Seconds after which a stop is obeyed by a process that is notified, and by one that only looks once a second."""


class Verifier:
    """tests/tenants/verifier.py in a process of its own, on the test database."""

    def __init__(self, at, **variables):
        environment = {
            **os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"postgresql:///{at['PGDATABASE']}", **at, **variables,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import django; django.setup(); from tests.tenants.verifier import serve; serve()"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def send(self, **asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, **asked):
        self.send(**asked)
        return self.answer()

    def hammer(self, token):
        """Begin to verify the token again and again; returns when it is cached there."""
        assert self.ask(do="hammer", token=token) == {"ready": True}

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


def database():
    at = {"port": "", "password": "", **connection.get_connection_params()}
    return {
        "PGDATABASE": at["dbname"], "PGHOST": at["host"], "PGPORT": str(at["port"]), "PGUSER": at["user"],
        "PGPASSWORD": at["password"],
    }  # fmt: skip


@pytest.fixture
def started():
    """Start another process; all are ended before the tables are emptied."""
    running = []

    def start(at=None, **variables):
        running.append(Verifier(at or database(), **variables))
        return running[-1]

    yield start
    for verifier in running:
        verifier.end()


@pytest.fixture
def issued(acme_app):
    return issue(acme_app, user=UserFactory(tenant=acme_app.tenant))


def raw(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


STOPS = {
    "save": (lambda made: saved(made.key, enabled=False), "disabled"),
    "revoke": (lambda made: made.key.revoke("x"), "revoked"),
    "revoke the secret": (lambda made: made.secret.revoke("x"), "revoked"),
    "rotate": (lambda made: made.key.rotate(grace=timedelta(0)), "expired"),
    "update": (lambda made: APIKey.objects.filter(pk=made.key.pk).update(revoked_at=now()), "revoked"),
    "raw SQL": (
        lambda made: raw("UPDATE cp_tenants_apikeysecret SET expires_at = now() WHERE id = %s", made.secret.pk),
        "expired",
    ),
    "the admin": (lambda made: by_admin(made.key), "revoked"),
    "suspend the tenant": (lambda made: made.key.tenant.suspend("x"), "tenant_disabled"),
    "update the tenant": (
        lambda made: Tenant.objects.filter(pk=made.key.tenant_id).update(status="suspended"), "tenant_disabled",
    ),
    "suspend the app": (lambda made: made.key.app.suspend("x"), "app_disabled"),
    "update the app": (lambda made: App.objects.filter(pk=made.key.app_id).update(status="suspended"), "app_disabled"),
    "deactivate the user": (lambda made: made.key.user.deactivate("x"), "user_disabled"),
    "update the user": (lambda made: User.objects.filter(pk=made.key.user_id).update(is_active=False), "user_disabled"),
}  # fmt: skip


def by_admin(key):
    client = Client()
    client.force_login(OperatorFactory())
    sent = {"action": "revoke", "_selected_action": [str(key.pk)], "cp_reason": "seen in a notebook"}
    assert client.post(reverse("admin:cp_tenants_apikey_changelist"), sent).status_code == 302


def saved(row, **values):
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def test_whatever_stops_a_key_another_process_refuses_it(acme_app, started):
    verifier, late = started(), {}
    for name, (stop, code) in STOPS.items():
        made = issue(acme_app, user=UserFactory(tenant=acme_app.tenant))
        verifier.hammer(made.token)

        stop(made)
        stopped = time.monotonic()

        answer = verifier.answer()
        assert answer["code"] == code, name
        late[name] = answer["at"] - stopped
        Tenant.objects.update(status="active")
        App.objects.update(status="active")

    assert max(late.values()) < NOTICED, late


def test_without_notifications_a_stop_is_noticed_by_looking(issued, started):
    verifier = started(CP_CACHE_LISTEN="0")
    verifier.hammer(issued.token)

    APIKey.objects.filter(pk=issued.key.pk).update(enabled=False)
    stopped = time.monotonic()

    answer = verifier.answer()
    assert answer["code"] == "disabled"
    assert answer["last"] - stopped < LOOKED


class Proxy:
    """Stands between a process and the database's server, and can be cut."""

    def __init__(self, folder, at):
        self._at, self._pairs, self._open = at, [], True
        self.address = {**at, "PGHOST": str(folder), "PGPORT": "5432"}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / ".s.PGSQL.5432"))
        self._listening.listen(64)
        Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """End every connection and take no other one."""
        self._open = False
        self._listening.close()
        for pair in self._pairs:
            for end in pair:
                self._shut(end)

    def freeze(self):
        """Keep every connection, and pass on nothing any more, as a network that drops packets."""
        self._open = False

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if not self._open:
                self._pairs.append((client,))
                continue
            server = self._server()
            self._pairs.append((client, server))
            for one, other in ((client, server), (server, client)):
                Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _server(self):
        port = self._at["PGPORT"] or "5432"
        if self._at["PGHOST"].startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._at['PGHOST']}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((self._at["PGHOST"], int(port)))

    def _pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(65_536):
                if self._open:
                    other.sendall(data)
        if self._open:
            self._shut(other)

    @staticmethod
    def _shut(end):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(tmp_path_factory):
    found = Proxy(tmp_path_factory.mktemp("p"), database())
    yield found
    found.cut()


def test_a_process_that_lost_the_database_refuses_everybody_when_its_lease_ends(issued, started, proxy):
    verifier = started(proxy.address)
    verifier.hammer(issued.token)

    proxy.cut()
    APIKey.objects.filter(pk=issued.key.pk).update(enabled=False)
    stopped = time.monotonic()

    answer = verifier.answer()
    assert (answer["code"], answer["status"]) == ("auth_unavailable", 503)
    assert answer["last"] - stopped < PROMISED + ROOM
    assert verifier.ask(do="verify", token=issued.token)["code"] == "auth_unavailable"


def test_a_process_whose_network_is_silent_lets_nobody_in_after_its_lease(issued, started, proxy):
    verifier = started(proxy.address)
    verifier.hammer(issued.token)

    proxy.freeze()
    APIKey.objects.filter(pk=issued.key.pk).update(enabled=False)
    stopped = time.monotonic()
    answers = []
    reader = Thread(target=lambda: answers.append(verifier.answer()), daemon=True)
    reader.start()
    reader.join(PROMISED + 3)
    proxy.cut()  # what waits for an answer that never comes is let go
    reader.join(30)

    [answer] = answers
    assert answer["code"] == "auth_unavailable"
    assert answer["last"] - stopped < PROMISED + ROOM


def test_a_process_that_finds_the_database_again_forgets_what_it_knew(issued, started, other_connection):
    verifier = started()
    verifier.hammer(issued.token)

    raw(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'controlplane caches'"
    )
    APIKey.objects.filter(pk=issued.key.pk).update(enabled=False)

    assert verifier.answer()["code"] == "disabled"


def test_a_fork_after_the_warm_up_begins_clean_and_its_parent_goes_on(issued, started):
    verifier = started()
    while verifier.ask(do="stats")["size"] == 0:
        assert verifier.ask(do="verify", token=issued.token)["code"] == "ok"

    told = verifier.ask(do="fork", token=issued.token)

    child = told["child"]
    assert child["code"] == "ok"
    assert (child["stats"]["size"], child["stats"]["hits"], child["lease"], child["after"]) == (0, 0, 0, 1)
    assert told["parent"]["code"] == "ok"
    assert told["after"]["hits"] == told["before"]["hits"] + 1
    verifier.hammer(issued.token)
    issued.key.revoke("x")
    assert verifier.answer()["code"] == "revoked"
