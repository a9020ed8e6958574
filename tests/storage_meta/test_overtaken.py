"""What another does between two steps of a call, which no lock keeps out."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db import connection, transaction

from controlplane.core import ids
from storage_meta import blobs, retention
from storage_meta.errors import NoSuchKey, NoSuchVersion, StorageUnavailable
from storage_meta.models import Bucket, PendingBlob, StorageObject, StorageVersion
from tests.races import behind
from tests.storage_meta.storages import Overtaken

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = timedelta(0)


@pytest.fixture
def overtaken(settings, tmp_path):
    settings.STORAGES = {
        **settings.STORAGES,
        "objects": {
            "BACKEND": "tests.storage_meta.storages.Overtaken",
            "OPTIONS": {"location": str(tmp_path / "objects"), "allow_overwrite": False},
        },
    }
    yield Overtaken.meanwhile
    Overtaken.meanwhile.clear()


def lies(name):
    return Path(storages["objects"].path(name)).exists()


def a_day_passes(received):
    PendingBlob.objects.filter(blob_name=received.blob_name).update(started_at=ids.now() - timedelta(hours=25))


def test_a_put_whose_blob_was_taken_for_an_orphan_is_refused(acme):
    received = blobs.receive(acme.pk, "", b"x")
    a_day_passes(received)

    assert StorageObject.objects.reconcile(grace=AT_ONCE, delete=True).removed == 1

    assert not lies(received.blob_name)
    with pytest.raises(StorageUnavailable), transaction.atomic(), connection.cursor() as cursor:
        blobs.kept(cursor, received)


def test_no_orphan_is_what_a_put_is_about_to_commit_however_old(docs, other_connection):
    def body():
        yield b"bytes"
        PendingBlob.objects.update(started_at=ids.now() - timedelta(hours=25))

    report = behind(
        lambda: docs.put_object("key", body()),
        partial(StorageObject.objects.reconcile, grace=AT_ONCE, delete=True),
        other_connection,
    )

    assert (report.orphans, report.missing) == ([], [])
    with docs.get_object("key") as stored:
        assert stored.read() == b"bytes"


def test_what_was_replaced_before_it_was_opened_is_read_as_it_is_now(plain, overtaken):
    plain.put_object("key", b"before")
    overtaken.append(partial(plain.put_object, "key", b"after"))

    with plain.get_object("key") as stored:
        assert stored.read() == b"after"


def test_what_was_removed_before_it_was_opened_is_not_there(docs, plain, overtaken):
    plain.put_object("key", b"bytes")
    overtaken.append(partial(plain.delete_object, "key"))
    with pytest.raises(NoSuchKey):
        plain.get_object("key")

    version = docs.put_object("key", b"bytes").version_id
    overtaken.append(partial(docs.delete_object, "key", version))
    with pytest.raises(NoSuchVersion):
        docs.get_object("key", version)


def test_a_version_that_is_removed_past_its_head_is_restored_whole_or_not_at_all(docs, other_connection):
    version = docs.put_object("key", b"before").version_id
    docs.put_object("key", b"after")

    refused = behind(
        StorageVersion.objects.filter(seq=1).delete, partial(docs.restore_object, "key", version), other_connection
    )

    assert isinstance(refused, NoSuchVersion), refused
    blobs.work_off(ids.now() + timedelta(minutes=1))
    assert StorageObject.objects.reconcile().missing == []


def test_a_lifecycle_that_removes_shared_blobs_crosswise_with_a_delete_tries_again(docs, other_connection):
    Bucket.objects.update(noncurrent_days=1)
    one, other = docs.put_object("one", b"1").version_id, docs.put_object("other", b"2").version_id
    docs.copy_object("other", "first")
    docs.copy_object("one", "second")
    for key in ("first", "second"):
        docs.put_object(key, b"newer")

    gone = behind(
        partial(docs.delete_object, "one", one),
        partial(retention.apply, ids.now() + timedelta(days=2)),
        other_connection,
        last=partial(docs.delete_object, "other", other),
    )

    assert gone["noncurrent"] == 2
    assert StorageObject.objects.reconcile().missing == []


def test_bytes_of_a_put_that_the_caller_rolls_back_are_known_until_they_go(docs, plain):
    plain.put_object("key", b"before")
    with pytest.raises(RuntimeError), transaction.atomic():
        docs.put_object("key", b"bytes")
        plain.put_object("key", b"after")
        plain.delete_object("key")
        raise RuntimeError

    assert StorageObject.objects.count() == 1
    assert set(PendingBlob.objects.values_list("reason", flat=True)) == {"upload"}
    assert StorageObject.objects.reconcile(grace=AT_ONCE).orphans == []
    names = list(PendingBlob.objects.values_list("blob_name", flat=True))
    assert [lies(name) for name in names] == [True, True]
    blobs.work_off(ids.now() + timedelta(hours=25))
    assert not PendingBlob.objects.exists()
    assert [lies(name) for name in names] == [False, False]
    with plain.get_object("key") as stored:
        assert stored.read() == b"before"


def test_bytes_of_a_put_whose_commit_is_refused_go_at_once(docs):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END$$"
        )
        cursor.execute(
            "CREATE CONSTRAINT TRIGGER refuse_commit AFTER INSERT ON cp_storage_meta_storageversion "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_commit()"
        )
        try:
            with pytest.raises(StorageUnavailable):
                docs.put_object("key", b"bytes")
        finally:
            cursor.execute("DROP FUNCTION refuse_commit() CASCADE")

    assert not PendingBlob.objects.exists()
    report = StorageObject.objects.reconcile(grace=AT_ONCE)
    assert (report.blobs, report.orphans) == (0, [])
