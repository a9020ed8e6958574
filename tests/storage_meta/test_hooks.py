from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from auditing.models import AuditLog
from controlplane.core.ids import now, uuid7
from storage_meta.errors import InvalidArgument, StorageError, TenantRequired
from storage_meta.models import HookExecution, StorageEvent, StorageHook, StorageObject
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import BucketFactory, HookExecutionFactory, StorageEventFactory, StorageHookFactory
from tests.races import together

PUBLIC = "https://8.8.8.8/hook"


def public(host, port):
    return ["8.8.8.8"]


def register(tenant, name="indexer", url=PUBLIC, **options):
    return StorageHook.objects.register(tenant=tenant, name=name, url=url, **options)


# ---------------------------------------------------------------- registering


def test_a_hook_is_made_with_a_secret_that_is_told_once(acme):
    bucket = BucketFactory(tenant=acme)

    hook, secret = register(acme, event_types=("s3:ObjectCreated:*",), bucket=bucket, prefix="in/", suffix=".pdf")

    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    stored = StorageHook.objects.get(pk=hook.pk)
    assert stored.secrets == secret
    assert (stored.name, stored.url, stored.event_types) == ("indexer", PUBLIC, ["s3:ObjectCreated:*"])
    assert (stored.bucket, stored.prefix, stored.suffix, stored.enabled) == (bucket, "in/", ".pdf", True)


def test_a_rotation_keeps_the_secret_before_and_no_older_one(acme):
    hook, first = register(acme)

    second = hook.rotate_secret()
    third = StorageHook.objects.get(pk=hook.pk).rotate_secret()

    assert len({first, second, third}) == 3
    assert StorageHook.objects.get(pk=hook.pk).secrets.split() == [third, second]


def test_what_is_listed_does_not_read_secrets(acme):
    register(acme)

    assert "secrets" not in StorageHook.objects.get().__dict__
    assert "secrets" in StorageHook.objects.get().get_deferred_fields()


def test_neither_dump_nor_audit_log_holds_a_secret(acme):
    hook, first = register(acme)
    second = hook.rotate_secret()

    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM cp_storage_meta_storagehook")
        [stored] = cursor.fetchone()
        cursor.execute("SELECT has_column_privilege('cp_reader', 'cp_storage_meta_storagehook', 'secrets', 'SELECT')")
        assert cursor.fetchone() == (False,)
    entries = [str(vars(entry)) for entry in AuditLog.objects.filter(resource_id=str(hook.pk))]
    assert len(entries) == 2
    for secret in (first, second):
        hidden = secret.removeprefix("whsec_")
        assert hidden not in stored
        assert all(hidden not in entry for entry in entries)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"url": ""}, "url"),
        ({"url": None}, "url"),
        ({"url": "https://127.0.0.1/"}, "not on the public internet"),
        ({"url": "https://[::1]/"}, "not on the public internet"),
        ({"url": "https://169.254.169.254/latest"}, "not on the public internet"),
        ({"url": "http://8.8.8.8/"}, "not https"),
        ({"url": "https://8.8.8.8:22/"}, "port 22"),
        ({"url": "https://u:p@8.8.8.8/"}, "user or password"),
        ({"url": "https://8.8.8.8/\0"}, "url"),
        ({"url": PUBLIC + "x" * 2000}, "url"),
        ({"event_types": ()}, "event_types"),
        ({"event_types": "s3:*"}, "event_types"),
        ({"event_types": None}, "event_types"),
        ({"event_types": ["s3:ObjectCreate:*"]}, "no type of event"),
        ({"event_types": ["s3:objectcreated:*"]}, "no type of event"),
        ({"event_types": ["s3:*", "*:Put"]}, "no type of event"),
        ({"event_types": [""]}, "event_types"),
        ({"event_types": [7]}, "event_types"),
        ({"event_types": ["s3:\0*"]}, "event_types"),
        ({"event_types": ["s3:*"] * 21}, "event_types"),
        ({"prefix": "x" * 1025}, "prefix"),
        ({"prefix": "a\0"}, "prefix"),
        ({"prefix": None}, "prefix"),
        ({"suffix": "\udfff"}, "suffix"),
        ({"suffix": 7}, "suffix"),
        ({"bucket": "docs"}, "bucket"),
    ],
)
def test_what_no_hook_can_be_is_refused_by_name(acme, options, why):
    with pytest.raises(InvalidArgument, match=why):
        register(acme, **options)

    assert not StorageHook.objects.exists()


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.lists(st.text()), st.text(), st.text())
def test_no_text_is_more_than_refused(acme, name, event_types, prefix, suffix):
    with transaction.atomic():
        try:
            hook, _ = register(acme, name, f"https://8.8.8.8/{suffix}", event_types=event_types or ["*"], prefix=prefix)
        except StorageError:
            pass
        else:
            hook.refresh_from_db()
            assert (hook.name, hook.prefix) == (name, prefix)
        transaction.set_rollback(True)


def test_a_name_that_resolves_inside_is_refused_when_it_is_saved(acme):
    with pytest.raises(InvalidArgument, match="not on the public internet"):
        register(acme, url="https://hooks.example.org/", resolve=lambda host, port: ["8.8.8.8", "10.0.0.1"])

    hook, _ = register(acme, url="https://hooks.example.org/", resolve=public)
    hook.resolve = lambda host, port: ["fd00::1"]
    with pytest.raises(ValidationError, match="not on the public internet"):
        hook.full_clean()


@pytest.mark.parametrize("tenant", [None, "acme", 7, uuid7(), Tenant(slug="acme")])
def test_a_hook_has_a_stored_tenant(db, tenant):
    with pytest.raises(TenantRequired):
        register(tenant)


def test_a_hook_is_not_of_another_tenants_bucket(acme, globex):
    theirs = BucketFactory(tenant=globex)

    with pytest.raises(InvalidArgument, match="another tenant"):
        register(acme, bucket=theirs)
    with pytest.raises(IntegrityError, match="cp_storage_meta_storagehook_bucket_of_tenant"), transaction.atomic():
        StorageHookFactory(tenant=acme, bucket=theirs)


def test_a_name_is_taken_once_per_tenant(acme, globex):
    register(acme)
    register(globex)

    with pytest.raises(InvalidArgument, match="Another hook of this tenant has this name"):
        register(acme)
    with pytest.raises(IntegrityError, match="cp_storage_meta_storagehook_name_once"), transaction.atomic():
        StorageHookFactory(tenant=acme, name="indexer")


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_a_name_at_once_one_is_refused(acme):
    made = together(*[lambda: register(acme)] * 4)

    assert sum(isinstance(each, tuple) for each in made) == 1
    assert sum(isinstance(each, InvalidArgument) for each in made) == 3


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_none_is_lost(acme):
    hook, _ = register(acme)

    made = together(*[lambda: StorageHook.objects.get(pk=hook.pk).rotate_secret()] * 2)

    assert set(StorageHook.objects.get().secrets.split()) == set(made)


# ---------------------------------------------------------------- the database


def test_within_a_tenants_scope_others_hooks_and_events_do_not_exist(acme, globex):
    StorageEventFactory(hook=StorageHookFactory(tenant=acme))
    StorageEventFactory(hook=StorageHookFactory(tenant=globex))
    HookExecutionFactory(tenant=globex)

    with tenant_scope(acme):
        assert [hook.tenant_id for hook in StorageHook.objects.all()] == [acme.pk]
        assert [event.tenant_id for event in StorageEvent.objects.all()] == [acme.pk]
        assert not HookExecution.objects.exists()
        assert StorageHook.objects.filter(tenant=globex).update(enabled=False) == 0
        register(acme, name="made within")


def test_a_row_stays_within_its_tenant(acme, globex):
    theirs = StorageHookFactory(tenant=globex)
    event = StorageEventFactory(hook=theirs)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageevent_hook_of_tenant"), transaction.atomic():
        StorageEventFactory(tenant=acme, hook=theirs)
    with pytest.raises(IntegrityError, match="cp_storage_meta_hookexecution_event_of_tenant"), transaction.atomic():
        HookExecutionFactory(tenant=acme, event=event)


def test_a_state_is_one_of_three(acme):
    event = StorageEventFactory(hook__tenant=acme)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageevent_state"), transaction.atomic():
        StorageEvent.objects.filter(pk=event.pk).update(state="lost")


def test_an_attempt_is_written_once(acme):
    event = StorageEventFactory(hook__tenant=acme)
    HookExecutionFactory(tenant=acme, event=event)

    with pytest.raises(IntegrityError, match="cp_storage_meta_hookexecution_attempt_once"), transaction.atomic():
        HookExecutionFactory(tenant=acme, event=event)


def test_ids_are_taken_once_per_tenant(acme):
    hook, event = StorageHookFactory(tenant=acme), StorageEventFactory(hook__tenant=acme)

    for row, rule in (
        (hook, "cp_storage_meta_storagehook_tenant_id"),
        (event, "cp_storage_meta_storageevent_tenant_id"),
    ):
        with connection.cursor() as cursor:
            cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = %s", [rule])
            assert cursor.fetchone()[0].endswith("(tenant_id, id)")
        assert type(row).objects.filter(pk=row.pk).count() == 1


@pytest.mark.parametrize(
    "change", [{"event_type": "s3:ObjectTagging:Put"}, {"payload": {"a": 1}}, {"object_key": "b"}, {"id": uuid7()}]
)
def test_what_an_event_says_does_not_change(acme, change):
    event = StorageEventFactory(hook__tenant=acme)

    with pytest.raises(IntegrityError, match="What an event says does not change") as refused, transaction.atomic():
        StorageEvent.objects.filter(pk=event.pk).update(**change)
    assert refused.value.__cause__.diag.constraint_name == "cp_storage_meta_storageevent_as_it_was"
    StorageEvent.objects.filter(pk=event.pk).update(state="done", attempts=1, leased_until=now())


def test_an_attempt_does_not_change_and_may_be_removed(acme):
    row = HookExecutionFactory(tenant=acme)

    with pytest.raises(IntegrityError, match="does not change") as refused, transaction.atomic():
        HookExecution.objects.filter(pk=row.pk).update(success=False)
    assert refused.value.__cause__.diag.constraint_name == "cp_storage_meta_hookexecution_as_it_was"
    row.delete()


def test_with_a_hook_go_its_events_and_their_attempts_and_no_others(acme):
    hook, other = StorageHookFactory(tenant=acme), StorageHookFactory(tenant=acme)
    for each in (hook, other):
        for _ in range(3):
            HookExecutionFactory(tenant=acme, event=StorageEventFactory(hook=each))

    hook.remove()

    assert list(StorageHook.objects.all()) == [other]
    assert {event.hook_id for event in StorageEvent.objects.all()} == {other.pk}
    assert HookExecution.objects.count() == 3


# ---------------------------------------------------------------- the log


@pytest.fixture
def files(acme):
    return StorageObject.objects.for_tenant(acme)


FIELDS = {"hook_name": "indexer", "event_type": "s3:ObjectCreated:Put", "object_key": "a.txt", "success": True}


def test_who_tells_hooks_himself_writes_it_down(files, acme):
    row = files.log_hook_execution(
        **FIELDS, execution_time=1.5, response="é" * 4000, payload={"a": [1]}, status_code=200, error_message=None
    )

    row.refresh_from_db()
    assert (row.tenant_id, row.event_id, row.attempt, row.success) == (acme.pk, None, 1, True)
    assert (row.execution_time, row.status_code, row.error_message) == (timedelta(seconds=1.5), 200, "")
    assert row.response == "é" * 2048
    assert row.payload == {"a": [1]}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"hook_name": ""}, "hook_name"),
        ({"hook_name": "a\0"}, "hook_name"),
        ({"hook_name": "x" * 201}, "hook_name"),
        ({"event_type": None}, "event_type"),
        ({"event_type": "x" * 65}, "event_type"),
        ({"object_key": ""}, "key"),
        ({"object_key": "\ud800"}, "key"),
        ({"success": 1}, "success"),
        ({"execution_time": -1}, "execution_time"),
        ({"execution_time": float("nan")}, "execution_time"),
        ({"execution_time": "1"}, "execution_time"),
        ({"execution_time": 10**9}, "execution_time"),
        ({"error_message": "a\0"}, "error_message"),
        ({"response": "a\0"}, "response"),
        ({"payload": {"a": float("nan")}}, "payload"),
        ({"payload": {"a": "\0"}}, "payload"),
        ({"payload": {"a": "\ud800"}}, "payload"),
        ({"payload": object()}, "payload"),
        ({"payload": "x" * 70_000}, "payload"),
        ({"status_code": 10**12}, "status_code"),
        ({"status_code": True}, "status_code"),
        ({"attempt": 0}, "attempt"),
        ({"created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001
        ({"created_at": "2026"}, "created_at"),
        ({"created_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}, "created_at"),
        ({"created_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))}, "created_at"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(files, wrong, why):
    with pytest.raises(StorageError, match=why):
        files.log_hook_execution(**FIELDS | wrong)

    assert not HookExecution.objects.exists()


def test_statistics_count_by_hook_and_within_the_hours(files, globex):
    for success, seconds in ((True, 1), (True, 3), (False, 2)):
        files.log_hook_execution(**FIELDS | {"success": success}, execution_time=seconds)
    files.log_hook_execution(**FIELDS | {"hook_name": "archiver"})
    files.log_hook_execution(**FIELDS | {"hook_name": "old"}, created_at=now() - timedelta(hours=25))
    StorageObject.objects.for_tenant(globex).log_hook_execution(**FIELDS)

    archiver, indexer = files.get_hook_statistics()
    assert (archiver.hook_name, archiver.total, archiver.failed) == ("archiver", 1, 0)
    assert (indexer.total, indexer.succeeded, indexer.failed, indexer.average_ms) == (3, 2, 1, 2000.0)
    assert [each.hook_name for each in files.get_hook_statistics(hours=26)] == ["archiver", "indexer", "old"]


@pytest.mark.parametrize("hours", [0, -1, 10**9, "24", 1.5, True, None])
def test_hours_that_are_none_are_refused(files, hours):
    with pytest.raises(InvalidArgument, match="hours"):
        files.get_hook_statistics(hours=hours)


def test_without_attempts_there_are_no_statistics(files):
    assert files.get_hook_statistics() == []
    assert files.bucket("docs").get_hook_statistics() == []


def test_dead_events_are_those_that_are_not_tried_any_more(acme):
    hook = StorageHookFactory(tenant=acme)
    StorageEventFactory(hook=hook)
    dead = StorageEventFactory(hook=hook, state="dead", next_attempt_at=datetime(2026, 1, 1, tzinfo=UTC))

    assert list(StorageEvent.objects.for_tenant(acme).dead()) == [dead]
