"""The page and the command of the caches: what every process counts, and emptying them for a reason."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from auditing.models import AuditLog
from controlplane.core.caches import Invalidation, RecordCache, invalidation
from controlplane.core.models import Process
from tenants.models import User
from tests.admin_rows import Page
from tests.core.test_invalidation import execute, log

CACHES = reverse("controlplane:caches")


@pytest.fixture(autouse=True)
def alone(db):
    """No row of the test process's own caches, which may have written one."""
    invalidation.stop()
    execute("DELETE FROM cp_core_process")


@pytest.fixture
def operator(db):
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


@pytest.fixture
def process(db):
    """A process with two caches, as it writes itself down."""
    own = Invalidation()
    names = RecordCache("names", size=10, ttl=9, loader=lambda key, ask: key, kinds={"app"}, invalidation=own)
    RecordCache("idle", size=20, ttl=9, loader=lambda key, ask: key, kinds={"app"}, invalidation=own)
    own.start = lambda: None
    own.poll()
    for key in ("a", "a", "a", "b"):
        names.get(key)
    own.stop()
    caches = {cache.name: cache.stats() for cache in own._caches}
    return Process.objects.create(
        process=own._heart.process, host="web-1", pid=4711, started_at=own._heart.started_at,
        seen_at=own._heart.started_at, lease_age_ms=320, caches=caches,
    )  # fmt: skip


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("caches", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_page_shows_each_cache_of_each_process(operator, process):
    answer = operator.get(CACHES)

    assert Page(answer).faults == []
    for text in ("names", "idle", "web-1:4711", "0.3 s", "2 of 10", "50.0 %"):
        assert text in answer.text


def test_a_process_that_is_not_seen_any_more_is_told(operator, process):
    assert "silent" not in operator.get(CACHES).text

    execute("UPDATE cp_core_process SET seen_at = now() - interval '61 s'")

    assert "silent" in operator.get(CACHES).text


def test_without_a_process_the_page_says_when_there_is_one(operator):
    answer = operator.get(CACHES)

    assert Page(answer).faults == []
    assert "No process has used a cache" in answer.text


def test_emptying_them_leaves_a_row_for_every_process_and_one_in_the_audit_log(operator):
    answer = operator.post(CACHES, {"cp_reason": "restored a backup"}, follow=True)

    assert "Every process empties its caches now." in answer.text
    assert log() == [("all", None, None)]
    event = AuditLog.objects.get(action="caches.flushed")
    assert (event.reason, event.actor_label) == ("restored a backup", "operator@example.com")


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_without_a_reason_nothing_is_emptied(operator, reason):
    answer = operator.post(CACHES, {"cp_reason": reason})

    assert answer.status_code == 422
    assert "Say why" in answer.text
    assert log() == []
    with pytest.raises(CommandError, match="Say why"):
        run("--flush", "--reason", reason)


def test_who_may_not_sees_no_page_and_no_button(db, process):
    clerk = User.objects.create_user("clerk@example.com", is_staff=True)
    client = Client()
    client.force_login(clerk)

    assert client.get(CACHES).status_code == 403
    assert client.post(CACHES, {"cp_reason": "x"}).status_code == 403
    assert CACHES not in Page(client.get(reverse("controlplane:dashboard"))).links()
    assert log() == []


def test_who_may_look_may_not_empty(db, process):
    from django.contrib.auth.models import Permission

    clerk = User.objects.create_user("clerk@example.com", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_process"))
    client = Client()
    client.force_login(clerk)

    answer = client.get(CACHES)
    assert (answer.status_code, "Empty them" in answer.text) == (200, False)
    assert client.post(CACHES, {"cp_reason": "x"}).status_code == 403
    assert log() == []


def test_the_command_shows_a_table_or_one_object(process):
    table, _ = run()
    [told] = json.loads(run("--json")[0])["processes"]

    assert [line.split()[0] for line in table.splitlines()] == ["process", "web-1:4711", "web-1:4711"]
    assert "50.0 %" in table
    assert (told["host"], told["pid"], told["lease_age_ms"], told["silent"]) == ("web-1", 4711, 320, False)
    assert told["caches"] == process.caches


def test_the_command_says_when_there_is_none(db):
    out, err = run()

    assert (out, err) == ("", "No process has used a cache within the last ten minutes.\n")
    assert json.loads(run("--json")[0]) == {"processes": []}


def test_the_command_empties_them(db):
    assert run("--flush", "--reason", "drill") == ("Every process empties its caches now.\n", "")

    assert log() == [("all", None, None)]
    event = AuditLog.objects.get(action="caches.flushed")
    assert (event.reason, event.actor_type, event.actor_id) == ("drill", "command", "caches")


def test_the_page_takes_as_many_statements_for_many_processes_as_for_one(operator, process, django_assert_num_queries):
    operator.get(CACHES)
    with django_assert_num_queries(3) as few:
        operator.get(CACHES)
    for number in range(50):
        Process.objects.create(
            process=f"00000000-0000-0000-0000-{number:012}", host="web-2", pid=number, started_at=process.started_at,
            seen_at=process.seen_at, caches=process.caches,
        )  # fmt: skip

    with django_assert_num_queries(len(few)):
        operator.get(CACHES)
