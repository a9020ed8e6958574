from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from standardwebhooks import Webhook

from auditing.models import AuditLog
from controlplane.core.duties import registered
from controlplane.core.ids import now
from storage_meta import delivering, outbox, signing
from storage_meta.errors import InvalidArgument
from storage_meta.models import HookExecution, StorageEvent, StorageHook
from storage_meta.sending import Answer, Client
from tests.factories import StorageEventFactory, StorageHookFactory
from tests.races import behind, together
from tests.storage_meta.receiver import certificate, loopback, receiving
from tests.storage_meta.test_outbox import change, put

T = datetime(2026, 11, 1, 12, tzinfo=UTC)


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
    return StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret())


def deliver(at=None, limit=100, client=None):
    return StorageEvent.objects.deliver_due(limit=limit, now=at, client=client or Client(loopback))


def event_of(hook, at=T, **fields):
    return StorageEventFactory(hook=hook, next_attempt_at=at, **fields)


def ids(receiver):
    return [got.headers["webhook-id"] for got in receiver.got]


# ---------------------------------------------------------------- one event


def test_an_event_is_sent_signed_and_written_down(hook, receiver, acme):
    event = event_of(hook, payload={"type": "s3:ObjectCreated:Put", "data": {"object_key": "a/é.txt"}})

    assert deliver() == 1

    [got] = receiver.got
    assert json.loads(got.body) == event.payload
    assert "é".encode() in got.body
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["webhook-id"] == str(event.pk)
    assert Webhook(hook.secrets).verify(got.body, got.headers) == event.payload
    event.refresh_from_db()
    assert (event.state, event.attempts, event.leased_until) == ("done", 1, None)
    done = HookExecution.objects.get(event=event)
    assert (done.tenant_id, done.hook_name, done.attempt, done.success) == (acme.pk, hook.name, 1, True)
    assert (done.status_code, done.response, done.error_message) == (200, "thanks", "")
    assert (done.event_type, done.object_key, done.payload) == (event.event_type, event.object_key, event.payload)
    assert done.execution_time > timedelta(0)
    assert deliver() == 0


def test_what_the_outbox_wrote_is_sent(acme, hook, receiver, docs):
    put(acme, "s3:ObjectCreated:Put", change(docs.the_bucket(), "a"), change(docs.the_bucket(), "b"))

    assert deliver() == 2

    assert sorted(json.loads(got.body)["data"]["object_key"] for got in receiver.got) == ["a", "b"]


def test_after_a_rotation_both_secrets_verify_and_a_forged_body_does_not(hook, receiver):
    first = hook.secrets
    second = hook.rotate_secret()
    event_of(hook)
    deliver()
    third = hook.rotate_secret()
    event_of(hook)
    deliver()

    old, new = receiver.got
    verified = [
        [_verifies(secret, got) for secret in (first, second, third, signing.new_secret())] for got in (old, new)
    ]
    assert verified == [[True, True, False, False], [False, True, True, False]]
    old.body += b" "
    assert not _verifies(first, old)


def _verifies(secret, got):
    try:
        Webhook(secret).verify(got.body, got.headers)
    except Exception:
        return False
    return True


def test_under_tls_the_event_arrives_too(acme):
    server, client = certificate()
    with receiving(server) as receiver:
        hook = StorageHookFactory(tenant=acme, url=receiver.url("https"), secrets=signing.new_secret())
        event_of(hook)

        assert deliver(client=Client(loopback, client)) == 1

        assert _verifies(hook.secrets, receiver.got[0])


def test_nothing_is_sent_unsigned(acme, receiver):
    event = event_of(StorageHookFactory(tenant=acme, url=receiver.url(), secrets=""))

    assert deliver() == 1

    assert receiver.got == []
    assert "Rotate its secret" in HookExecution.objects.get(event=event).error_message


def test_a_secret_that_no_key_reads_is_the_trouble_of_its_hook_alone(acme, receiver):
    lost = StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_storage_meta_storagehook SET secrets = 'gAAAA' WHERE id = %s", [lost.pk])
    good = event_of(StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret()))
    bad = event_of(lost)

    assert deliver() == 2

    assert HookExecution.objects.get(event=good).success
    assert "Rotate its secret" in HookExecution.objects.get(event=bad).error_message
    lost.rotate_secret()
    bad.refresh_from_db()
    deliver(bad.next_attempt_at)
    assert StorageEvent.objects.get(pk=bad.pk).state == "done"


def test_a_refusal_of_the_guard_is_an_attempt_like_others(hook, receiver, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STORAGE_HOOK_NETWORKS": ()}
    event = event_of(hook)

    deliver()

    tried = HookExecution.objects.get(event=event)
    assert (tried.success, tried.status_code) == (False, None)
    assert "not on the public internet" in tried.error_message
    assert receiver.got == []


# ---------------------------------------------------------------- again


def test_an_event_that_fails_is_tried_eight_times_and_then_dead(hook, receiver):
    receiver.answer = lambda got: (500, {}, b"no")
    event, at, waits = event_of(hook), T, []

    while event.state == "pending":
        assert deliver(at) == 1
        event.refresh_from_db()
        waits.append((event.next_attempt_at - at).total_seconds())
        assert deliver(event.next_attempt_at - timedelta(milliseconds=1)) == 0
        at = event.next_attempt_at

    for seconds, planned in zip(waits, [5, 300, 1800, 7200, 18000, 36000, 36000, 0], strict=True):
        assert planned * 0.8 <= seconds <= planned * 1.2
    assert (event.state, event.attempts) == ("dead", 8)
    assert set(ids(receiver)) == {str(event.pk)}
    assert list(event.executions.order_by("attempt").values_list("attempt", flat=True)) == list(range(1, 9))
    assert deliver(at + timedelta(days=30)) == 0


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_wait_lies_within_a_fifth(chance):
    step = delivering.step_after(1, Answer(500, "no"), chance)

    assert step.wait_s == pytest.approx(5 * (0.8 + 0.4 * chance))


@pytest.mark.parametrize(("asked", "waits"), [(120, 120), (0, 5), (3600, 3600), (86_400, 86_400), (10**8, 86_400)])
def test_what_the_answer_asks_for_is_done_within_a_day(hook, receiver, asked, waits):
    receiver.answer = lambda got: (429, {"Retry-After": str(asked)}, b"")
    event = event_of(hook)

    deliver(T)

    event.refresh_from_db()
    assert event.next_attempt_at == T + timedelta(seconds=waits)


def test_retry_after_of_a_success_changes_nothing():
    assert delivering.step_after(1, Answer(200, retry_after_s=60.0), 0.5) == delivering.Step("done")


def test_an_endpoint_that_is_gone_disables_its_hook(hook, receiver, acme):
    receiver.answer = lambda got: (410, {}, b"")
    event = event_of(hook)

    deliver(T)

    hook.refresh_from_db()
    event.refresh_from_db()
    assert (hook.enabled, hook.disabled_reason) == (False, "It answered 410 Gone at 2026-11-01T12:00:00Z.")
    assert event.state == "dead"
    entry = AuditLog.objects.filter(resource_id=str(hook.pk)).latest("id")
    assert (entry.actor_type, entry.actor_label, entry.reason) == ("system", "hook worker", hook.disabled_reason)
    assert put(acme, "s3:ObjectCreated:Put") == 0


def test_events_of_a_disabled_hook_wait_until_it_is_enabled(hook, receiver):
    event_of(hook)
    hook.disable("moving")

    assert deliver() == 0
    hook.enable()
    assert deliver() == 1


def test_a_tenant_that_is_deleted_tells_nobody(hook, receiver, acme):
    event_of(hook)
    type(acme).objects.filter(pk=acme.pk).update(deleted_at=T, status="deleted")

    assert deliver() == 0
    assert receiver.got == []


def test_every_change_of_what_is_stored_reaches_the_hook(hook, receiver, docs, plain):
    docs.put_object("a.txt", b"one", tags={"k": "v"})
    docs.put_object_tagging("a.txt", {"k": "w"})
    docs.copy_object("a.txt", "b.txt")
    with docs.get_object("a.txt") as stored:
        assert b"".join(stored) == b"one"
    docs.delete_object("a.txt")
    docs.restore_object("a.txt")
    docs.delete_object("a.txt", docs.head_object("a.txt").current_version.version_id)
    plain.put_object("c.txt", b"parts", part_size=2)
    plain.delete_object("c.txt")

    while deliver():
        pass

    told = [Webhook(hook.secrets).verify(got.body, got.headers) for got in receiver.got]
    assert sorted(event["type"] for event in told) == [
        "s3:ObjectAccessed:Get",
        "s3:ObjectCreated:CompleteMultipartUpload",
        "s3:ObjectCreated:Copy",
        "s3:ObjectCreated:Put",
        "s3:ObjectRemoved:Delete",
        "s3:ObjectRemoved:Delete",
        "s3:ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRestore:Completed",
        "s3:ObjectTagging:Put",
    ]
    of_a = [event["data"] for event in told if event["data"]["object_key"] == "a.txt"]
    assert all(data["bucket"] == "docs" and len(data["sequencer"]) == 16 for data in of_a)


def test_the_dead_are_sent_again_by_hand_once_each_time(hook, receiver):
    event = event_of(hook, state="dead", attempts=8)
    receiver.answer = lambda got: (500, {}, b"")

    assert StorageEvent.objects.dead().resend(T) == 1
    assert deliver(T) == 1
    event.refresh_from_db()
    assert (event.state, event.attempts) == ("dead", 9)

    receiver.answer = lambda got: (200, {}, b"")
    StorageEvent.objects.filter(pk=event.pk).resend(T)
    deliver(T)
    event.refresh_from_db()
    assert (event.state, event.attempts) == ("done", 10)


def test_what_is_done_is_sent_again_and_what_a_worker_has_is_not(hook, receiver):
    done = event_of(hook, state="done", attempts=1)
    event_of(hook, leased_until=T + timedelta(seconds=9))
    disabled = event_of(StorageHookFactory(tenant=hook.tenant, enabled=False), state="dead")

    assert StorageEvent.objects.resend(T) == 1

    done.refresh_from_db()
    disabled.refresh_from_db()
    assert (done.state, disabled.state) == ("pending", "dead")


# ---------------------------------------------------------------- many at once


def test_at_most_four_events_of_a_hook_are_under_way(hook, receiver, acme, globex):
    for _ in range(10):
        event_of(hook)
    other = StorageHookFactory(tenant=globex, url=receiver.url(), secrets=signing.new_secret())
    event_of(other)

    first = delivering.claim(100, T)
    second = delivering.claim(100, T + timedelta(seconds=1))
    after = delivering.claim(100, T + timedelta(seconds=60))

    assert sorted(event.hook_id for event in first) == sorted([hook.pk] * 4 + [other.pk])
    assert second == []
    assert len(after) == 5  # the leases have ended


def test_those_with_the_least_under_way_come_first(hook, acme):
    for n in range(10):
        event_of(hook, T - timedelta(hours=10 - n))
    quiet = StorageHookFactory(tenant=acme)
    event_of(quiet)

    assert [event.hook_id for event in delivering.claim(2, T)].count(hook.pk) in (1, 2)
    assert [event.hook_id for event in delivering.claim(1, T)] == [quiet.pk]


def test_no_more_are_claimed_than_there_is_room_for(hook, acme):
    for _ in range(3):
        event_of(hook)

    assert len(delivering.claim(2, T)) == 2
    assert delivering.claim(0, T) == []


def test_a_slow_endpoint_delays_no_other_hook(hook, receiver, globex):
    with receiving() as slow:
        slow.open.clear()
        asleep = StorageHookFactory(tenant=globex, url=slow.url(), secrets=signing.new_secret())
        for _ in range(10):
            event_of(asleep, T - timedelta(days=1))
        for _ in range(30):
            event_of(hook)
        courier = delivering.Courier(Client(loopback), clock=lambda: T)

        while len(receiver.got) < 30:
            courier.send_due()
            courier.write_answers(5)

        assert len(slow.got) <= 4
        while courier.under_way > 4:
            courier.write_answers(5)
        assert StorageEvent.objects.filter(hook=hook, state="done").count() == 30
        assert StorageEvent.objects.filter(hook=asleep, attempts=0).count() == 10
        slow.open.set()
        while courier.send_due() or courier.under_way:
            courier.write_answers(5)
        assert StorageEvent.objects.filter(hook=asleep, state="done").count() == 10


def test_no_more_than_asked_for_are_tried(hook, receiver):
    for _ in range(6):
        event_of(hook)

    assert deliver(limit=5) == 5
    assert deliver(limit=5) == 1


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"limit": "7"}, {"limit": True}, {"limit": None}])
def test_a_limit_that_is_none_is_refused(db, wrong):
    with pytest.raises(InvalidArgument, match="limit"):
        StorageEvent.objects.deliver_due(**wrong)


@pytest.mark.parametrize("wrong", ["2026-11-01", 7, datetime(2026, 11, 1)])  # noqa: DTZ001
def test_a_present_that_is_no_instant_is_refused(db, wrong):
    with pytest.raises(InvalidArgument, match="now"):
        StorageEvent.objects.deliver_due(now=wrong)


def test_an_attempt_that_came_too_late_is_not_written(hook, receiver):
    event = event_of(hook)
    [late] = delivering.claim(1, T)
    [again] = delivering.claim(1, T + timedelta(seconds=60))

    delivering.finish([(again, T, Answer(200))], T)
    delivering.finish([(late, T, Answer(500, "no"))], T)

    event.refresh_from_db()
    assert (event.state, event.attempts) == ("done", 1)
    assert HookExecution.objects.filter(event=event).count() == 1


def test_a_hook_that_is_removed_while_it_is_told_takes_its_events_along(hook):
    event_of(hook)
    [claimed] = delivering.claim(1, T)
    hook.delete()

    delivering.finish([(claimed, T, Answer(200))], T)

    assert not StorageEvent.objects.exists()
    assert not HookExecution.objects.exists()


def test_the_duty_sends_and_says_whether_to_come_again(hook, receiver):
    event_of(hook, now())
    courier = delivering.Courier(Client(loopback))

    assert courier.run(now()) is False

    assert len(receiver.got) == 1
    [duty] = [duty for duty in registered() if duty.name == "storage_hooks"]
    assert (duty.every_s, duty.alone) == (1, False)


def test_what_is_due_is_found_without_reading_what_waits_for_others(hook, acme):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO cp_storage_meta_storageevent (id, tenant_id, hook_id, event_type, object_key, version_id, sequencer, "
            "payload, state, attempts, next_attempt_at) SELECT cp_uuid7(now()), tenant_id, id, 's3:ObjectCreated:Put', 'k' || n, "
            "'', '', '{}', CASE WHEN n %% 2 = 0 THEN 'done' ELSE 'pending' END, 0, %s::timestamptz + n * interval '1 second' "
            "FROM cp_storage_meta_storagehook, generate_series(1, 20000) n",
            [T],
        )
        cursor.execute("ANALYZE cp_storage_meta_storageevent")
        quiet = StorageHookFactory(tenant=acme)
        event_of(quiet)
        at = T + timedelta(hours=3)
        known = {"now": at, "until": at + delivering.LEASE, "at_once": 4, "room": 100}
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + delivering._HOOKS, known)
        [[plan]] = cursor.fetchall()

    plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    assert "storageevent_due_idx" in json.dumps(plan)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100


# ---------------------------------------------------------------- several workers


@pytest.mark.django_db(transaction=True)
def test_workers_that_look_at_once_send_each_event_once(acme, receiver):
    hooks = [StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret()) for _ in range(5)]
    for hook in hooks:
        for _ in range(12):
            event_of(hook, now())

    tried = together(*[deliver] * 4)
    while done := deliver():
        tried.append(done)

    assert sum(tried) == 60, tried
    assert len(set(ids(receiver))) == len(receiver.got) == 60
    assert StorageEvent.objects.filter(state="done", attempts=1).count() == 60


@pytest.mark.django_db(transaction=True)
def test_workers_together_have_four_of_a_hook_under_way(acme):
    hook = StorageHookFactory(tenant=acme)
    for _ in range(40):
        event_of(hook)

    claimed = together(*[lambda: delivering.claim(100, T)] * 6)

    assert sum(map(len, claimed)) == 4


@pytest.mark.django_db(transaction=True)
def test_http_is_spoken_outside_any_transaction(acme, receiver, other_connection):
    event = event_of(StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret()))
    seen = []

    def answer(got):
        with other_connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND state LIKE 'idle in transaction%'"
            )
            seen.append(cursor.fetchone()[0])
            cursor.execute(
                "SELECT leased_until FROM cp_storage_meta_storageevent WHERE id = %s FOR UPDATE NOWAIT", [event.pk]
            )
            seen.append(cursor.fetchone()[0])
        return 200, {}, b""

    receiver.answer = answer
    deliver(T)

    assert seen == [0, T + timedelta(seconds=60)]


_KILLED = """
import django
django.setup()
from django.conf import settings
settings.CONTROLPLANE.update(
    STORAGE_HOOK_NETWORKS=("127.0.0.0/8",), STORAGE_HOOK_HTTP=True, STORAGE_HOOK_PORTS=range(65536)
)
from storage_meta.models import StorageEvent
from storage_meta.sending import Client
StorageEvent.objects.deliver_due(client=Client(lambda host, port: ["127.0.0.1"]))
"""


@pytest.mark.django_db(transaction=True)
def test_an_event_of_a_worker_that_was_killed_is_sent_again_under_the_same_id(acme, receiver):
    hook = StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret())
    event = event_of(hook)
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
    with subprocess.Popen([sys.executable, "-c", _KILLED], env=environment) as worker:
        while not receiver.got and worker.poll() is None:
            pass
        worker.send_signal(signal.SIGKILL)
    receiver.open.set()

    event.refresh_from_db()
    assert (event.state, event.attempts) == ("pending", 0)
    assert deliver() == 0  # its lease has not ended
    assert deliver(event.leased_until) == 1
    assert ids(receiver) == [str(event.pk)] * 2
    event.refresh_from_db()
    assert (event.state, event.attempts) == ("done", 1)


@pytest.mark.django_db(transaction=True)
def test_a_hook_may_be_removed_while_what_it_was_told_is_written(acme, receiver, other_connection):
    hook = StorageHookFactory(tenant=acme, url=receiver.url(), secrets=signing.new_secret())
    event_of(hook)
    [claimed] = delivering.claim(1, T)

    ended = behind(lambda: delivering.finish([(claimed, T, Answer(200))], T), hook.remove, other_connection)

    assert ended is None
    assert not StorageHook.objects.exists()
    assert not HookExecution.objects.exists()


# ---------------------------------------------------------------- what must not be seen


def test_the_secret_stands_nowhere_but_encrypted(hook, acme):
    secret = hook.secrets.removeprefix("whsec_")
    event_of(hook)
    deliver()
    rotated = hook.rotate_secret().removeprefix("whsec_")

    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname LIKE 'cp\\_%' AND relkind IN ('r', 'p')")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM \"{table}\" t")
            [text] = cursor.fetchone()
            assert secret not in text, table
            assert rotated not in text, table


def test_every_type_of_event_can_be_asked_for_by_name():
    assert all(each in outbox.patterns_of(each) for each in outbox.EVENT_TYPES)
    assert StorageHook._meta.get_field("event_types").base_field.max_length >= max(map(len, outbox.EVENT_TYPES))
