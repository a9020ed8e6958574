from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from controlplane.core import duties
from controlplane.core.ids import now, uuid7_at
from storage_meta import retention
from storage_meta.errors import NoSuchKey
from storage_meta.models import (
    Bucket,
    HookExecution,
    PendingBlob,
    StorageAudit,
    StorageEvent,
    StorageObject,
    StorageVersion,
)
from tests.factories import (
    HookExecutionFactory,
    StorageEventFactory,
    StorageHookFactory,
    StorageObjectFactory,
    StorageVersionFactory,
)
from tests.races import together

DAY = timedelta(days=1)
NOTHING = {"expired": 0, "noncurrent": 0, "markers": 0, "executions": 0, "events": 0}


@pytest.fixture
def bucket(acme):
    """Acme's bucket with these rules; its objects are rows alone."""

    def make(versioning="enabled", **rules):
        return Bucket.objects.create(tenant=acme, name="docs", versioning=versioning, **rules)

    return make


def aged(bucket, *days, key="a"):
    """A head with a version of each age, oldest first."""
    made = StorageObjectFactory(bucket=bucket, object_key=key, last_modified=now() - days[-1] * DAY)
    for ago in days[1:]:
        StorageVersionFactory(object=made, created_at=now() - ago * DAY)
    return made


def marked(head):
    """The same with a marker on top."""
    docs = StorageObject.objects.for_tenant(head.tenant).bucket(head.bucket.name)
    docs.delete_object(head.object_key)
    head.refresh_from_db()
    return head


def went(**counts):
    return NOTHING | counts


def seqs(head):
    return list(StorageVersion.objects.filter(object_id=head.pk).order_by("seq").values_list("seq", flat=True))


def test_an_object_whose_time_is_over_gets_a_marker(bucket):
    docs = bucket(expire_days=30)
    old, young = aged(docs, 31, key="old"), aged(docs, 29, key="young")

    assert retention.apply(now(), dry_run=True) == went(expired=1)
    assert retention.apply(now()) == went(expired=1)

    old.refresh_from_db()
    young.refresh_from_db()
    assert (old.is_delete_marker, seqs(old)) == (True, [1, 2])
    assert young.is_delete_marker is False
    assert retention.apply(now()) == NOTHING


def test_without_versioning_an_expired_object_goes_for_good_with_its_blob(plain):
    plain.put_object("a", b"one")
    plain.put_object("b", b"two")
    Bucket.objects.update(expire_days=1)

    assert retention.apply(now() + 2 * DAY) == went(expired=2)

    with pytest.raises(NoSuchKey):
        plain.head_object("a")
    assert not StorageObject.objects.exists()


def test_a_suspended_bucket_gets_its_null_version_replaced(docs):
    docs.put_object("a", b"one")
    Bucket.objects.update(versioning="suspended", expire_days=1)
    docs.put_object("a", b"two")

    assert retention.apply(now() + 2 * DAY) == went(expired=1)

    versions = StorageVersion.objects.order_by("seq")
    assert [(one.null_version, one.is_delete_marker) for one in versions] == [(False, False), (True, True)]


def test_what_is_held_does_not_expire_but_where_a_marker_takes_nothing(docs, plain):
    for files in (docs, plain):
        files.put_object("held", b"x")
        files.put_object("free", b"x")
        files.put_object_legal_hold("held", True)
    Bucket.objects.update(expire_days=1)

    assert retention.apply(now() + 2 * DAY) == went(expired=3)

    assert plain.head_object("held").size == 1
    assert StorageVersion.objects.filter(legal_hold=True).count() == 2


def test_old_versions_go_once_a_newer_one_was_there_long_enough(bucket):
    docs = bucket(noncurrent_days=10)
    head = aged(docs, 40, 30, 9.9, 1)  # noncurrent since 30, 9.9 and 1 days

    assert retention.apply(now(), dry_run=True) == went(noncurrent=1)
    assert retention.apply(now()) == went(noncurrent=1)

    assert seqs(head) == [2, 3, 4]


@pytest.mark.parametrize(("keep", "left"), [(None, [5]), (1, [4, 5]), (2, [3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_so_many_noncurrent_versions_are_kept_whatever_their_age(bucket, keep, left):
    docs = bucket(noncurrent_days=10, keep_versions=keep)
    head = aged(docs, 90, 80, 70, 60, 50)

    retention.apply(now())

    assert seqs(head) == left


def test_without_days_no_version_goes(bucket):
    head = aged(bucket(keep_versions=1), 90, 80, 70, 60)

    assert retention.apply(now()) == NOTHING
    assert seqs(head) == [1, 2, 3, 4]


def test_held_versions_stay_among_those_that_go(bucket):
    docs = bucket(noncurrent_days=10)
    head = aged(docs, 90, 80, 70, 60)
    StorageVersion.objects.filter(object=head, seq=1).update(legal_hold=True)
    StorageVersion.objects.filter(object=head, seq=2).update(retain_until=now() + DAY)

    assert retention.apply(now()) == went(noncurrent=1)
    assert seqs(head) == [1, 2, 4]

    StorageVersion.objects.update(legal_hold=False, retain_until=now() - DAY)
    assert retention.apply(now()) == went(noncurrent=2)


def test_a_marker_with_nothing_beneath_it_goes_and_its_key_with_it(bucket):
    docs = bucket(noncurrent_days=10)
    head = marked(aged(docs, 90, key="gone"))
    other = marked(aged(docs, 5, key="kept"))

    assert retention.apply(now()) == NOTHING
    later = now() + 11 * DAY
    assert retention.apply(later, dry_run=True) == went(noncurrent=2)
    assert retention.apply(later) == went(noncurrent=2, markers=2)

    assert not StorageObject.objects.filter(pk__in=[head.pk, other.pk]).exists()


def test_a_bucket_without_rules_is_left_alone(bucket):
    head = marked(aged(bucket(), 4000, 3000))
    StorageVersion.objects.filter(object=head, is_delete_marker=False).delete()

    assert retention.apply(now()) == NOTHING


def test_what_goes_is_in_the_access_log_and_told_to_hooks(docs, acme):
    docs.put_object("a", b"one")
    first = docs.put_object("a", b"two")
    StorageHookFactory(tenant=acme, event_types=["s3:LifecycleExpiration:*"])
    Bucket.objects.update(noncurrent_days=1)

    retention.apply(now() + 2 * DAY)

    row = StorageAudit.objects.get(action="s3:LifecycleExpiration")
    assert (row.record_type, row.bucket, row.object_key, row.size) == ("DELETE", "docs", "a", 3)
    assert (row.actor_type, row.actor_id, row.success) == ("system", "lifecycle", True)
    assert row.version_id != first.version_id
    event = StorageEvent.objects.get()
    assert (event.event_type, event.object_key, event.sequencer) == (
        "s3:LifecycleExpiration:Delete",
        "a",
        row.sequencer,
    )


def test_blobs_of_what_went_are_queued(docs):
    docs.put_object("a", b"one")
    docs.put_object("a", b"two")
    Bucket.objects.update(noncurrent_days=1)

    retention.apply(now() + 2 * DAY)

    assert PendingBlob.objects.filter(reason="delete").count() == 1


def test_only_the_tenant_and_the_bucket_asked_for(acme, globex, bucket):
    mine = aged(bucket(expire_days=1), 9)
    theirs = aged(Bucket.objects.create(tenant=globex, name="docs", versioning="enabled", expire_days=1), 9)
    other = aged(Bucket.objects.create(tenant=acme, name="other", versioning="enabled", expire_days=1), 9)

    assert retention.apply(now(), tenant_id=acme.pk, bucket="docs")["expired"] == 1
    assert retention.apply(now(), tenant_id=acme.pk)["expired"] == 1
    assert retention.apply(now())["expired"] == 1
    assert all(
        StorageObject.objects.filter(pk__in=[mine.pk, theirs.pk, other.pk]).values_list("is_delete_marker", flat=True)
    )


def test_days_beyond_the_calendar_are_never(bucket):
    aged(bucket(expire_days=2**31 - 1, noncurrent_days=2**31 - 1), 9, 8)

    assert retention.apply(now()) == NOTHING


def test_done_events_and_attempts_go_after_30_days(acme):
    hook = StorageHookFactory(tenant=acme)
    old, young = now() - 31 * DAY, now() - 29 * DAY
    kept = []
    for at, state in ((old, "done"), (old, "pending"), (old, "dead"), (young, "done")):
        event = StorageEventFactory(hook=hook, state=state, id=uuid7_at(at), created_at=at)
        HookExecutionFactory(tenant=acme, event=event, id=uuid7_at(at), created_at=at)
        kept += [event.pk] if (at, state) != (old, "done") else []
    late = StorageEventFactory(hook=hook, state="done", id=uuid7_at(old), created_at=old)
    HookExecutionFactory(tenant=acme, event=late, id=uuid7_at(young))

    # in a dry run the event still has its attempt
    assert retention.apply(now(), dry_run=True) == went(executions=3)
    assert retention.apply(now()) == went(executions=3, events=1)
    assert set(StorageEvent.objects.values_list("pk", flat=True)) == {*kept, late.pk}
    assert HookExecution.objects.count() == 2


def test_the_worker_runs_it_every_hour_a_part_at_a_time(bucket, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "BATCHES", 2)
    docs = bucket(expire_days=1)
    for n in range(5):
        aged(docs, 9, key=f"k{n}")
    [duty] = [duty for duty in duties.registered() if duty.name == "storage_lifecycle"]

    assert duty.every_s == 3600
    assert duty.run(now()) is True
    assert StorageObject.objects.live().count() == 1
    assert duty.run(now()) is False
    assert StorageObject.objects.live().count() == 0


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_everything_once(docs, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 3)
    for n in range(12):
        docs.put_object(f"k{n}", b"x")
        docs.put_object(f"k{n}", b"y")
    Bucket.objects.update(expire_days=1, noncurrent_days=1)

    found = together(*[lambda: retention.apply(now() + 2 * DAY)] * 3)

    # two days on, what expires now is noncurrent for as long as its markers are there
    assert sum(found, Counter()) == {"expired": 12, "noncurrent": 24, "markers": 12}
    assert StorageAudit.objects.filter(action="s3:LifecycleExpiration").count() == 48
    assert not StorageObject.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_key_that_somebody_changes_is_left_to_the_next_run(docs, other_connection):
    docs.put_object("busy", b"x")
    docs.put_object("idle", b"x")
    Bucket.objects.update(expire_days=1)
    with other_connection.transaction():
        other_connection.execute("SELECT FROM cp_storage_meta_storageobject WHERE object_key = 'busy' FOR UPDATE")
        assert retention.apply(now() + 2 * DAY)["expired"] == 1

    assert retention.apply(now() + 2 * DAY)["expired"] == 1


@pytest.mark.django_db(transaction=True)
def test_what_was_done_before_an_interruption_is_done(docs, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 1)
    for n in range(3):
        docs.put_object(f"k{n}", b"x")
    Bucket.objects.update(expire_days=1)

    steps = retention.steps(now() + 2 * DAY)
    next(steps)
    steps.close()

    assert StorageObject.objects.live().count() == 2
    assert retention.apply(now() + 2 * DAY)["expired"] == 2
