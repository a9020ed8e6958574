from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from controlplane.core.ids import now
from storage_meta import signing
from storage_meta.errors import NoSuchEvent
from storage_meta.models import HookExecution, StorageEvent
from tests.conftest import ROOT
from tests.factories import StorageEventFactory, StorageHookFactory
from tests.races import together
from tests.storage_meta.receiver import receiving


@pytest.fixture(autouse=True)
def here(settings):
    """This machine may be told: its network, plain http and every port."""
    settings.CONTROLPLANE = {
        **settings.CONTROLPLANE,
        "STORAGE_HOOK_NETWORKS": ("127.0.0.0/8",),
        "STORAGE_HOOK_HTTP": True,
        "STORAGE_HOOK_PORTS": range(65536),
    }


@pytest.fixture
def receiver():
    with receiving() as opened:
        yield opened


@pytest.fixture
def hook(acme, receiver):
    return StorageHookFactory(tenant=acme, url=receiver.url(host="127.0.0.1"), secrets=signing.new_secret())


def run(capsys, *arguments):
    call_command("storage_hooks", *arguments)
    return capsys.readouterr().out


def refused(*arguments):
    with pytest.raises(CommandError) as error:
        call_command("storage_hooks", *arguments)
    return error.value


def test_what_is_due_is_sent_once(hook, receiver, capsys):
    StorageEventFactory.create_batch(3, hook=hook)

    assert json.loads(run(capsys, "--once", "--json")) == {"sent": 3}
    assert run(capsys, "--once").startswith("Sent: 0.")

    assert len(receiver.got) == 3
    assert StorageEvent.objects.filter(state="done").count() == 3


def test_no_more_than_the_limit_are_sent(hook, receiver, capsys):
    StorageEventFactory.create_batch(5, hook=hook)

    assert json.loads(run(capsys, "--once", "--limit", "2", "--json")) == {"sent": 2}


def test_a_failure_of_an_endpoint_is_none_of_the_command(hook, receiver, capsys):
    receiver.answer = lambda got: (500, {}, b"")
    event = StorageEventFactory(hook=hook)

    assert run(capsys, "--once").startswith("Sent: 1.")

    event.refresh_from_db()
    assert (event.state, event.attempts) == ("pending", 1)


def test_dead_events_are_sent_again(hook, receiver, capsys):
    first, second = StorageEventFactory.create_batch(2, hook=hook, state="dead", attempts=8)

    assert run(capsys, "--retry", str(first.pk), str(second.pk), "--tenant", "acme") == "To be sent again: 2.\n"
    run(capsys, "--once")

    assert StorageEvent.objects.filter(state="done", attempts=9).count() == 2


def test_another_tenants_event_is_not_there(hook, globex, capsys):
    ours = StorageEventFactory(hook=hook, state="dead")
    theirs = StorageEventFactory(hook=StorageHookFactory(tenant=globex), state="dead")

    error = refused("--retry", str(ours.pk), str(theirs.pk), "--tenant", "acme")

    assert error.returncode == 2
    assert "There is no event" in str(error)
    assert isinstance(error.__cause__, NoSuchEvent)
    assert error.__cause__.code == "no_such_event"
    assert StorageEvent.objects.filter(state="dead").count() == 2


def test_what_cannot_be_sent_now_is_refused(hook, capsys):
    leased = StorageEventFactory(hook=hook, leased_until=now().replace(year=2099))
    disabled = StorageEventFactory(hook=StorageHookFactory(tenant=hook.tenant, enabled=False), state="dead")

    for event in (leased, disabled):
        assert refused("--retry", str(event.pk), "--tenant", "acme").returncode == 1
    disabled.refresh_from_db()
    assert disabled.state == "dead"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--once", "--watch"],
        ["--once", "--retry", str(uuid4())],
        ["--retry"],
        ["--retry", "x", "--tenant", "acme"],
        ["--retry", "\udcff", "--tenant", "acme"],
        ["--retry", str(uuid4())],
        ["--retry", str(uuid4()), "--tenant", "nobody"],
        ["--retry", str(uuid4()), "--tenant", "acme"],
        ["--retry", str(uuid4()), "--tenant", ""],
        ["--once", "--limit", "0"],
        ["--once", "--limit", "-1"],
        ["--once", "--limit", "٣"],
        ["--once", "--limit", "x"],
        ["--twice"],
    ],
)
def test_what_it_cannot_do_it_says(acme, arguments):
    assert str(refused(*arguments))


@pytest.mark.django_db(transaction=True)
def test_twice_at_once_each_event_is_sent_once(hook, receiver):
    StorageEventFactory.create_batch(20, hook=hook)

    while StorageEvent.objects.filter(state="pending").exists():
        together(*[lambda: call_command("storage_hooks", "--once", "--json", stdout=open(os.devnull, "w"))] * 2)  # noqa: SIM115

    assert len(receiver.got) == 20
    assert HookExecution.objects.count() == 20


_WATCH = """
import sys, django
django.setup()
from django.conf import settings
from django.core.management import call_command
settings.CONTROLPLANE.update(
    STORAGE_HOOK_NETWORKS=("127.0.0.0/8",), STORAGE_HOOK_HTTP=True, STORAGE_HOOK_PORTS=range(65536)
)
call_command("storage_hooks", "--watch", "--json")
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_watches_until_it_is_told_to_stop_and_finishes_what_is_under_way(hook, receiver, number):
    event = StorageEventFactory(hook=hook)
    receiver.open.clear()
    at = connection.get_connection_params()
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql:///{at['dbname']}",
        "PGHOST": at["host"],
        "PGPORT": str(at.get("port") or 5432),
        "PGUSER": at["user"],
        "PGPASSWORD": at.get("password") or "",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    command = [sys.executable, "-c", _WATCH]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        while not receiver.got and watching.poll() is None:
            pass
        watching.send_signal(number)
        receiver.open.set()
        out, _ = watching.communicate(timeout=60)

    assert watching.returncode == 0
    assert json.loads(out) == {"sent": 1}
    event.refresh_from_db()
    assert (event.state, event.attempts) == ("done", 1)
