"""Many at once on one key, one bucket, one tree: no error that is none of the caller's, and one story afterwards."""

from __future__ import annotations

from functools import partial

import pytest

from storage_meta import buckets
from storage_meta.errors import BucketNotEmpty, NoSuchBucket, NoSuchKey, PreconditionFailed, StorageError
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageObject, StorageVersion
from tests.races import together

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS, EACH = 8, 10


def seqs(head):
    return list(StorageVersion.objects.filter(object=head).order_by("seq").values_list("seq", flat=True))


def errors(outcomes):
    return [one for one in outcomes if isinstance(one, Exception)]


def whole(files, key, version_id=None):
    with files.get_object(key, version_id) as stored:
        return b"".join(stored)


def test_eight_writers_of_one_key_leave_dense_versions_and_one_head(docs):
    def write(writer):
        return [docs.put_object("key", f"{writer}-{n}".encode()).seq for n in range(EACH)]

    outcomes = together(*(partial(write, writer) for writer in range(WRITERS)))

    assert errors(outcomes) == []
    assert sorted(seq for one in outcomes for seq in one) == list(range(1, WRITERS * EACH + 1))
    assert all(one == sorted(one) for one in outcomes)
    head = StorageObject.objects.get()
    top = StorageVersion.objects.newest_first().first()
    assert (head.current_version_id, head.next_seq, head.etag) == (top.id, WRITERS * EACH + 1, top.etag)
    assert seqs(head) == list(range(1, WRITERS * EACH + 1))
    assert not PendingBlob.objects.exists()
    assert StorageAudit.objects.for_tenant(docs.tenant).filter(action="s3:PutObject", success=True).count() == 80
    sequencers = StorageAudit.objects.order_by("version_id").values_list("sequencer", flat=True)
    assert len(set(sequencers)) == WRITERS * EACH
    assert whole(docs, "key") == whole(docs, "key", top.version_id)


def test_eight_writers_of_an_unversioned_key_leave_one_version_and_one_blob(plain):
    def write(writer):
        for n in range(EACH):
            plain.put_object("key", f"{writer}-{n}".encode())

    outcomes = together(*(partial(write, writer) for writer in range(WRITERS)))

    assert errors(outcomes) == []
    [version] = StorageVersion.objects.all()
    assert StorageObject.objects.get().current_version_id == version.id
    assert whole(plain, "key").decode().partition("-")[0].isdecimal()
    report = StorageObject.objects.reconcile()
    assert (report.missing, report.mismatched, report.heads) == ([], [], [])


def test_of_eight_that_want_the_key_to_be_new_one_wins(docs):
    outcomes = together(*(partial(docs.put_object, "key", bytes([n]), if_none_match="*") for n in range(WRITERS)))

    lost = errors(outcomes)
    assert len(lost) == WRITERS - 1
    assert all(isinstance(one, PreconditionFailed) for one in lost), lost
    [won] = [one for one in outcomes if one not in lost]
    assert docs.head_object("key").etag == won.etag
    assert StorageVersion.objects.count() == 1


def test_of_eight_that_replace_what_they_read_one_wins(docs):
    seen = docs.put_object("key", b"seen").etag

    outcomes = together(*(partial(docs.put_object, "key", bytes([n]), if_match=seen) for n in range(WRITERS)))

    lost = errors(outcomes)
    assert len(lost) == WRITERS - 1
    assert all(isinstance(one, PreconditionFailed) for one in lost), lost
    assert StorageVersion.objects.count() == 2


def test_puts_and_deletes_of_one_versioned_key_are_each_a_version(docs):
    def put():
        for n in range(EACH):
            docs.put_object("key", bytes([n]))

    def delete():
        for _ in range(EACH):
            docs.delete_object("key")

    outcomes = together(put, delete, put, delete)

    assert errors(outcomes) == []
    head = StorageObject.objects.get()
    assert seqs(head) == list(range(1, 4 * EACH + 1))
    top = StorageVersion.objects.newest_first().first()
    assert (head.current_version_id, head.is_delete_marker) == (top.id, top.is_delete_marker)


def test_puts_and_deletes_of_one_unversioned_key_leave_it_or_leave_it_not(plain):
    def put():
        for n in range(EACH):
            plain.put_object("key", bytes([n]))

    def delete():
        for _ in range(EACH):
            plain.delete_object("key")

    outcomes = together(put, delete, put, delete)

    assert errors(outcomes) == []
    heads, versions = StorageObject.objects.count(), StorageVersion.objects.count()
    assert heads == versions <= 1
    report = StorageObject.objects.reconcile()
    assert (report.missing, report.heads) == ([], [])


def test_a_version_that_all_remove_is_removed_once(docs):
    kept = docs.put_object("key", b"kept")
    gone = docs.put_object("key", b"gone").version_id

    outcomes = together(*(partial(docs.delete_object, "key", gone) for _ in range(WRITERS)))

    removed = [one for one in outcomes if getattr(one, "existed", False)]
    assert len(removed) == 1
    assert all(isinstance(one, StorageError) for one in errors(outcomes)), outcomes
    assert docs.head_object("key").etag == kept.etag


def test_copies_of_what_is_being_removed_have_its_bytes_or_fail(docs):
    source = docs.put_object("key", b"bytes").version_id

    def copy(n):
        return docs.copy_object("key", f"copy-{n}", version_id=source)

    outcomes = together(*(partial(copy, n) for n in range(6)), partial(docs.delete_object, "key", source))

    assert all(isinstance(one, StorageError) for one in errors(outcomes)), outcomes
    made = [one.object_key for one in docs.list_objects_v2().contents]
    assert all(whole(docs, key) == b"bytes" for key in made)
    assert StorageObject.objects.reconcile().missing == []


def test_restoring_and_deleting_at_once_end_in_one_of_both(docs):
    docs.put_object("key", b"bytes")
    docs.delete_object("key")

    outcomes = together(*([partial(docs.restore_object, "key"), partial(docs.delete_object, "key")] * 4))

    assert all(isinstance(one, NoSuchKey) for one in errors(outcomes)), outcomes
    head = StorageObject.objects.get()
    top = StorageVersion.objects.newest_first().first()
    assert (head.current_version_id, head.is_delete_marker) == (top.id, top.is_delete_marker)


def test_a_bucket_is_removed_or_takes_a_put_never_both(acme):
    for n in range(5):
        Bucket.objects.create(tenant=acme, name=f"bucket-{n}")
        files = StorageObject.objects.for_tenant(acme).bucket(f"bucket-{n}")

        removed, put = together(partial(buckets.remove, files), partial(files.put_object, "key", b"bytes"))

        if isinstance(removed, BucketNotEmpty):
            assert whole(files, "key") == b"bytes"
        else:
            assert isinstance(put, NoSuchBucket), (removed, put)
            assert not Bucket.objects.filter(name=f"bucket-{n}").exists()
    assert StorageObject.objects.reconcile().missing == []


def test_two_that_make_one_bucket_make_one(acme):
    def make():
        bucket = Bucket(tenant=acme, name="docs")
        bucket.full_clean()
        bucket.save(force_insert=True)

    together(make, make, make)

    assert Bucket.objects.filter(tenant=acme).count() == 1


def test_bulk_and_single_puts_of_the_same_keys_do_not_lock_each_other_up(docs):
    forth = [{"key": f"key-{n}", "size": n, "etag": "0" * 32} for n in range(20)]

    def single():
        for n in reversed(range(20)):
            docs.put_object(f"key-{n}", b"bytes")

    outcomes = together(
        partial(docs.bulk_put, forth), partial(docs.bulk_put, forth[::-1]), single, partial(docs.bulk_put, forth * 2)
    )

    assert errors(outcomes) == []
    assert all(seqs(head) == [1, 2, 3, 4, 5] for head in StorageObject.objects.all())


def test_many_keys_deleted_crosswise_at_once_do_not_lock_each_other_up(docs):
    keys = [f"key-{n}" for n in range(20)]
    docs.bulk_put([{"key": key, "size": 1, "etag": "0" * 32} for key in keys])

    outcomes = together(partial(docs.delete_objects, keys), partial(docs.delete_objects, keys[::-1]))

    assert errors(outcomes) == []
    assert docs.list_objects_v2().contents == []
