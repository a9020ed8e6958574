"""A bucket that becomes versioned while something happens in it: before or after, never by the rule that is no more."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from controlplane.core import ids
from storage_meta import retention
from storage_meta.errors import NoSuchBucket
from storage_meta.models import Bucket, StorageObject, StorageVersion
from tests.races import behind, together

pytestmark = pytest.mark.django_db(transaction=True)


def become(versioning):
    Bucket.objects.filter(name="plain").update(versioning=versioning)


@pytest.fixture
def key(plain):
    plain.put_object("key", b"before")
    return plain


def versions_of(key):
    return list(StorageVersion.objects.filter(object__object_key=key).newest_first())


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.put_object("key", b"after"),
        lambda plain: plain.put_object("key", size=1),
        lambda plain: plain.copy_object("key", "key"),
        lambda plain: plain.restore_object("key", "null"),
        lambda plain: plain.record_version("key", "elsewhere"),
        lambda plain: plain.bulk_put([{"key": "key", "size": 1}]),
        lambda plain: plain.delete_object("key"),
        lambda plain: plain.delete_objects(["key"]),
    ],
    ids=["put", "record", "copy", "restore", "record_version", "bulk", "delete", "delete_many"],
)
def test_what_waits_for_a_bucket_to_become_versioned_keeps_what_was_there(key, other_connection, change):
    outcome = behind(partial(become, "enabled"), partial(change, key), other_connection)

    assert not isinstance(outcome, Exception), outcome
    new, old = versions_of("key")
    assert (new.null_version, old.null_version) == (False, True)
    with key.get_object("key", "null") as stored:
        assert stored.read() == b"before"


def test_who_changes_the_versioning_waits_for_a_put_that_has_begun(key, other_connection):
    seen = []

    behind(
        partial(key.put_object, "key", b"after"),
        partial(become, "enabled"),
        other_connection,
        last=lambda: seen.append(Bucket.objects.get().versioning),
    )

    assert seen == ["unversioned"]
    assert Bucket.objects.get().versioning == "enabled"
    assert [version.null_version for version in versions_of("key")] == [True]


def test_a_condition_in_a_bucket_that_is_removed_says_that_it_is_gone(plain, other_connection):
    outcome = behind(
        Bucket.objects.get(name="plain").delete,
        partial(plain.put_object, "key", b"x", if_none_match="*"),
        other_connection,
    )

    assert isinstance(outcome, NoSuchBucket)


def test_a_lifecycle_that_is_switched_off_while_it_runs_stops(docs, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 1)
    Bucket.objects.update(expire_days=1)
    for n in range(3):
        docs.put_object(f"{n}", b"x")

    steps = retention.steps(ids.now() + timedelta(days=2))
    assert next(steps)[:2] == ("expired", 1)
    Bucket.objects.update(expire_days=None)

    assert list(steps) == []
    assert StorageObject.objects.live().count() == 2


def test_writers_and_who_changes_the_versioning_do_not_lock_each_other_up(key):
    def write(n):
        for _ in range(10):
            key.put_object(f"key-{n}", b"x")
            key.delete_object(f"key-{n}")

    def change():
        for versioning in ("enabled", "suspended") * 5:
            become(versioning)

    outcomes = together(*(partial(write, n) for n in range(3)), change)

    assert [one for one in outcomes if one is not None] == []
    report = StorageObject.objects.reconcile()
    assert (report.missing, report.heads) == ([], [])
