"""Copies and restores: rows on the same blob, which stays while one of them is left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from storage_meta.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidMetadata,
    KeyTooLong,
    MethodNotAllowed,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    ObjectLocked,
    StorageError,
)
from storage_meta.models import Bucket, StorageAudit, StorageEvent, StorageObject, StorageVersion
from storage_meta.results import PutResult
from tests.factories import StorageHookFactory
from tests.races import together


def bytes_of(files, key, version_id=None):
    with files.get_object(key, version_id) as file:
        return b"".join(file)


@pytest.mark.django_db
def test_a_copy_holds_what_its_source_holds_on_the_same_blob(docs):
    docs.put_object(
        "a.txt",
        b"bytes",
        content_type="text/plain",
        metadata={"a": 1},
        tags={"t": "1"},
        storage_class="COLD",
        comment="first",
    )

    copied = docs.copy_object("a.txt", "b/c.txt")

    source, copy = (StorageVersion.objects.get(object__object_key=key) for key in ("a.txt", "b/c.txt"))
    for name in ("size", "etag", "checksum_sha256", "content_type", "storage_class", "metadata", "tags", "blob_name"):
        assert getattr(copy, name) == getattr(source, name)
    assert (copied.version_id, copied.seq, copied.size, copied.etag) == (copy.version_id, 1, 5, source.etag)
    assert copy.comment == ""


@pytest.mark.django_db
def test_metadata_of_a_copy_may_be_another(docs):
    docs.put_object("a.txt", metadata={"a": 1})

    assert docs.copy_object("a.txt", "b.txt", metadata={"b": 2}).object.metadata == {"b": 2}
    assert docs.copy_object("a.txt", "c.txt", metadata={}).object.metadata == {}
    with pytest.raises(InvalidMetadata):
        docs.copy_object("a.txt", "d.txt", metadata={"n": float("nan")})


@pytest.mark.django_db
def test_a_copy_goes_to_another_bucket_by_its_rules(docs, plain):
    docs.put_object("a.txt", b"one")
    docs.put_object("a.txt", b"two")
    old = StorageVersion.objects.newest_first().last().version_id

    copied = docs.copy_object("a.txt", "a.txt", version_id=old, bucket="plain")

    assert copied.version_id == "null"
    assert copied.object.bucket.name == "plain"
    assert bytes_of(plain, "a.txt") == b"one"
    assert bytes_of(docs, "a.txt") == b"two"


@pytest.mark.django_db
def test_a_copy_outlives_its_source(docs, plain, django_capture_on_commit_callbacks):
    plain.put_object("a.txt", b"bytes")
    plain.copy_object("a.txt", "b.txt")

    with django_capture_on_commit_callbacks(execute=True):
        plain.delete_object("a.txt")

    assert bytes_of(plain, "b.txt") == b"bytes"


@pytest.mark.django_db
def test_a_key_is_copied_onto_itself(plain, django_capture_on_commit_callbacks):
    plain.put_object("a.txt", b"bytes", metadata={"a": 1})

    with django_capture_on_commit_callbacks(execute=True):
        plain.copy_object("a.txt", "a.txt", metadata={"a": 2})

    assert plain.head_object("a.txt").metadata == {"a": 2}
    assert bytes_of(plain, "a.txt") == b"bytes"


@pytest.mark.django_db
def test_what_cannot_be_copied_says_why(docs, plain):
    docs.put_object("a.txt")
    marker = docs.delete_object("deleted.txt")

    for error, arguments in (
        (NoSuchKey, ("never.txt", "b.txt")),
        (NoSuchKey, ("deleted.txt", "b.txt")),
        (KeyTooLong, ("a.txt", "b" * 1025)),
        (KeyTooLong, ("a" * 1025, "b.txt")),
        (InvalidArgument, ("", "b.txt")),
        (InvalidArgument, ("a.txt", "")),
    ):
        with pytest.raises(error):
            docs.copy_object(*arguments)
    with pytest.raises(MethodNotAllowed):
        docs.copy_object("deleted.txt", "b.txt", version_id=marker.version_id)
    with pytest.raises(NoSuchVersion):
        docs.copy_object("a.txt", "b.txt", version_id="unknown")
    with pytest.raises(NoSuchBucket):
        docs.copy_object("a.txt", "b.txt", bucket="nowhere")
    plain.put_object("held.txt")
    plain.put_object_legal_hold("held.txt", True)
    with pytest.raises(ObjectLocked):
        docs.copy_object("a.txt", "held.txt", bucket="plain")
    assert not StorageObject.objects.filter(object_key="b.txt").exists()


@pytest.mark.django_db
def test_a_copy_is_in_the_access_log_and_told_to_hooks(docs, plain, acme):
    StorageHookFactory(tenant=acme)
    docs.put_object("a.txt", size=3)

    docs.copy_object("a.txt", "b.txt", bucket="plain")

    row = StorageAudit.objects.get(action="s3:CopyObject")
    assert (row.bucket, row.object_key, row.version_id, row.size, row.record_type) == (
        "plain",
        "b.txt",
        "null",
        3,
        "CREATE",
    )
    event = StorageEvent.objects.get(event_type="s3:ObjectCreated:Copy")
    assert (event.payload["data"]["bucket"], event.object_key) == ("plain", "b.txt")


@pytest.mark.django_db
@pytest.mark.parametrize(("mode", "uri"), [("read", "s3://docs/a.txt"), ("write", "s3://plain/b.txt")])
def test_a_copy_reads_its_source_and_writes_its_target(docs, plain, acme, mode, uri):
    docs.put_object("a.txt")
    refusal = type("Refusal", (), {"__bool__": lambda self: False, "message": "No.", "reason": "no"})()
    effective = SimpleNamespace(
        tenant_id=acme.pk, decide_storage=lambda at, how: refusal if (how, at) == (mode, uri) else True
    )
    files = StorageObject.objects.for_tenant(acme, effective=effective).bucket("docs")

    with pytest.raises(AccessDenied):
        files.copy_object("a.txt", "b.txt", bucket="plain")

    assert not StorageObject.objects.filter(object_key="b.txt").exists()
    row = StorageAudit.objects.get(success=False)
    assert (row.action, row.bucket, row.error_code) == ("s3:CopyObject", "plain", "access_denied")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("versioning", ["unversioned", "enabled"])
def test_copies_across_each_other_and_puts_beside_them_never_wait_in_a_ring(plain, versioning):
    Bucket.objects.filter(name="plain").update(versioning=versioning)
    for key in "ab":
        plain.put_object(key, b"bytes of " + key.encode())

    def several(call):
        def run():
            return [call() for _ in range(5)]

        return run

    done = together(
        several(lambda: plain.copy_object("a", "b")),
        several(lambda: plain.copy_object("b", "a")),
        several(lambda: plain.copy_object("a", "a", metadata={"again": True})),
        several(lambda: plain.put_object("a", b"other bytes")),
        several(lambda: plain.put_object("b", b"other bytes")),
    )

    assert [one for one in done if isinstance(one, Exception)] == []
    for key in "ab":
        assert bytes_of(plain, key)


@pytest.mark.django_db(transaction=True)
def test_a_blob_is_there_for_whoever_copied_before_its_source_went(docs):
    put = docs.put_object("a.txt", b"bytes")

    def copy():
        return docs.copy_object("a.txt", "b.txt", version_id=put.version_id)

    def delete():
        return docs.delete_object("a.txt", put.version_id)

    copied, deleted = together(copy, delete)

    assert deleted.existed
    if isinstance(copied, PutResult):
        assert bytes_of(docs, "b.txt") == b"bytes"
    else:
        assert isinstance(copied, NoSuchVersion | NoSuchKey)


@pytest.mark.django_db
def test_a_restored_version_outlives_the_one_it_came_from(docs, django_capture_on_commit_callbacks):
    put = docs.put_object("a.txt", b"bytes")
    docs.put_object("a.txt", b"newer")
    restored = docs.restore_object("a.txt", put.version_id)

    with django_capture_on_commit_callbacks(execute=True):
        docs.delete_object("a.txt", put.version_id)

    assert bytes_of(docs, "a.txt", restored.version_id) == b"bytes"


@pytest.mark.django_db
def test_a_restore_is_in_the_access_log_and_told_to_hooks(docs, acme):
    StorageHookFactory(tenant=acme)
    docs.put_object("a.txt")
    docs.delete_object("a.txt")

    docs.restore_object("a.txt")
    docs.restore_object("a.txt")

    rows = StorageAudit.objects.filter(action="s3:RestoreObject").order_by("id")
    assert [(row.record_type, bool(row.sequencer)) for row in rows] == [("CREATE", True), ("CREATE", False)]
    assert StorageEvent.objects.filter(event_type="s3:ObjectRestore:Completed").count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("version_id", ["", 7, "\0", "\ud800", "x" * 1025, ["a"]])
def test_an_id_that_is_none_is_refused(docs, version_id):
    docs.put_object("a.txt")

    for call in (
        lambda: docs.head_object("a.txt", version_id),
        lambda: docs.delete_object("a.txt", version_id),
        lambda: docs.restore_object("a.txt", version_id),
        lambda: docs.copy_object("a.txt", "b.txt", version_id=version_id),
        lambda: docs.put_object_tagging("a.txt", {}, version_id),
        lambda: docs.put_object_legal_hold("a.txt", True, version_id),
        lambda: docs.put_object_retention("a.txt", None, version_id),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert isinstance(caught.value, InvalidArgument)
