"""Put, delete and the rest: what they write, whom they tell, and what stays as it was when they fail."""

from __future__ import annotations

import io
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.context import audit_context
from storage_meta.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidMetadata,
    InvalidTag,
    KeyTooLong,
    MetadataTooLarge,
    NoSuchBucket,
    NoSuchKey,
    ObjectLocked,
    QuotaExceeded,
    StorageError,
    StorageUnavailable,
)
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageEvent, StorageObject, StorageVersion
from storage_meta.results import DeleteResult, PutResult
from tenants.scope import tenant_scope
from tests.factories import BucketFactory, StorageHookFactory, StorageQuotaFactory
from tests.races import together


def bytes_of(files, key, version_id=None):
    with files.get_object(key, version_id) as file:
        return b"".join(file)


def log(**which):
    return list(StorageAudit.objects.filter(**which).order_by("id"))


@contextmanager
def refusals():
    """What is refused as what it is: not as something that another try would mend."""
    try:
        yield
    except StorageError as refused:
        if isinstance(refused, StorageUnavailable):
            raise


# --- put


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body",
    [b"bytes", bytearray(b"bytes"), io.BytesIO(b"bytes"), ContentFile(b"bytes"), iter([b"by", b"", b"tes"])],
    ids=["bytes", "bytearray", "file", "django", "iterator"],
)
def test_a_body_is_measured(docs, body):
    put = docs.put_object("a.txt", body)

    assert (put.size, put.etag) == (5, "4b3a6218bb3e3a7303e8a171a60fcf92")
    assert put.checksum_sha256 == "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"
    assert bytes_of(docs, "a.txt") == b"bytes"
    assert put.object.storage_backend == "objects"
    assert not PendingBlob.objects.exists()


@pytest.mark.django_db
def test_a_long_body_gets_the_etag_of_its_parts(docs, acme):
    StorageHookFactory(tenant=acme)

    assert docs.put_object("short", b"ab", part_size=2).etag == "187ef4436122d1cc2f40dc2b92f0eba0"
    assert docs.put_object("long", b"abc", part_size=2).etag.endswith("-2")

    assert [event.event_type for event in StorageEvent.objects.order_by("id")] == [
        "s3:ObjectCreated:Put",
        "s3:ObjectCreated:CompleteMultipartUpload",
    ]


@pytest.mark.django_db
def test_without_a_body_the_caller_states_what_is_measured(docs):
    put = docs.put_object("a.txt", size=2**63 - 1, etag="0-7")

    assert (put.size, put.etag, put.checksum_sha256) == (2**63 - 1, "0-7", "")
    assert StorageVersion.objects.get().blob_name == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("key", "said", "error"),
    [
        ("", {}, InvalidArgument),
        ("a\0", {}, InvalidArgument),
        ("\ud800", {}, InvalidArgument),
        (7, {}, InvalidArgument),
        ("é" * 513, {}, KeyTooLong),
        ("a", {"size": -1}, InvalidArgument),
        ("a", {"size": 2**63}, InvalidArgument),
        ("a", {"size": True}, InvalidArgument),
        ("a", {"size": 1.5}, InvalidArgument),
        ("a", {"etag": "e" * 256}, InvalidArgument),
        ("a", {"etag": "\0"}, InvalidArgument),
        ("a", {"content_type": "t" * 256}, InvalidArgument),
        ("a", {"content_type": b"text"}, InvalidArgument),
        ("a", {"storage_class": "s" * 65}, InvalidArgument),
        ("a", {"comment": "c" * 4097}, InvalidArgument),
        ("a", {"comment": "\udfff"}, InvalidArgument),
        ("a", {"metadata": {"n": float("inf")}}, InvalidMetadata),
        ("a", {"metadata": {"n": "x" * 65_536}}, MetadataTooLarge),
        ("a", {"tags": {str(n): "" for n in range(11)}}, InvalidTag),
        ("a", {"part_size": 0}, InvalidArgument),
        ("a", {"body": b"", "part_size": -1}, InvalidArgument),
        ("a", {"body": b"", "part_size": "7"}, InvalidArgument),
        ("a", {"body": b"bytes", "size": 5}, InvalidArgument),
        ("a", {"body": b"bytes", "etag": "e"}, InvalidArgument),
        ("a", {"body": "text"}, InvalidArgument),
        ("a", {"body": 7}, InvalidArgument),
        ("a", {"body": io.StringIO("text")}, InvalidArgument),
        ("a", {"body": ["text"]}, InvalidArgument),
    ],
)
def test_an_argument_that_cannot_be_is_refused_before_a_byte_is_stored(docs, key, said, error):
    with pytest.raises(error):
        docs.put_object(key, **said)

    assert not StorageObject.objects.exists()
    assert not PendingBlob.objects.exists()
    [row] = log()
    assert (row.action, row.success, row.error_code) == ("s3:PutObject", False, error.code)


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=5)
    | st.text(st.characters(codec=None), max_size=300)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(st.characters(codec=None), max_size=5) | st.integers(), st.text(max_size=5), max_size=3)
)


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    key=st.text(st.characters(codec=None), min_size=1, max_size=1100) | anything,
    said=st.dictionaries(
        st.sampled_from(
            ["size", "etag", "content_type", "metadata", "tags", "storage_class", "part_size", "if_none_match", "if_match",
             "comment"]
        ),
        anything,
        max_size=4,
    ),
)  # fmt: skip
def test_whatever_is_put_is_put_or_refused_by_a_storage_error(docs, key, said):
    with refusals():
        put = docs.put_object(key, **said)
        head = docs.head_object(key)
        assert (head.object_key, head.etag, head.size) == (key, put.etag, put.size)
        assert head.metadata == put.object.metadata


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(key=anything, other=anything)
def test_whatever_is_asked_of_a_key_is_done_or_refused_by_a_storage_error(docs, key, other):
    for call in (
        lambda: docs.delete_object(key, other),
        lambda: docs.delete_objects(other),
        lambda: docs.restore_object(key, other),
        lambda: docs.copy_object(key, other),
        lambda: docs.copy_object("a", "b", bucket=other),
        lambda: docs.put_object_tagging(key, other),
        lambda: docs.put_object_legal_hold(key, other),
        lambda: docs.put_object_retention(key, other, reason=key),
        lambda: docs.record_version(key, other),
        lambda: docs.bulk_put(other),
        lambda: docs.head_object(key, other),
    ):
        with refusals():
            call()


@pytest.mark.django_db
def test_a_put_without_body_takes_few_statements(docs):
    docs.put_object("a.txt")

    with CaptureQueriesContext(
        connection,
    ) as asked:
        docs.put_object("a.txt", etag="e")

    # look, head and version, access log; quotas and hooks are asked where there are any
    assert len([one for one in asked if "SAVEPOINT" not in one["sql"]]) == 3


@pytest.mark.django_db
def test_an_unversioned_put_takes_one_statement_more_only_where_something_is_replaced(plain):
    def statements():
        with CaptureQueriesContext(connection) as asked:
            plain.put_object("a.txt")
        return len([one for one in asked if "SAVEPOINT" not in one["sql"]])

    assert (statements(), statements()) == (3, 4)


@pytest.mark.django_db
def test_a_put_is_in_the_access_log_and_told_to_hooks(docs, acme):
    StorageHookFactory(tenant=acme)
    with audit_context(actor="importer", request_id="r-1"):
        put = docs.put_object("a.txt", size=5, etag="e", content_type="text/plain")

    [row] = log()
    assert (row.action, row.record_type, row.bucket, row.object_key) == ("s3:PutObject", "CREATE", "docs", "a.txt")
    assert (row.version_id, row.sequencer, row.size, row.etag) == (put.version_id, put.object.sequencer, 5, put.etag)
    assert (row.success, row.actor_type, row.actor_id, row.request_id) == (True, "system", "importer", "r-1")
    assert StorageVersion.objects.get().created_by == "importer"
    event = StorageEvent.objects.get()
    assert (event.event_type, event.object_key, event.version_id, event.sequencer) == (
        "s3:ObjectCreated:Put", "a.txt", put.version_id, put.object.sequencer,
    )  # fmt: skip
    assert event.payload["data"] | {"tenant": ""} == {
        "tenant": "", "bucket": "docs", "object_key": "a.txt", "version_id": put.version_id,
        "sequencer": put.object.sequencer, "size": 5, "etag": put.etag, "content_type": "text/plain",
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_put_that_is_rolled_back_leaves_nothing_but_a_note(docs):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        docs.put_object("a.txt", b"bytes")
        1 / 0  # noqa: B018

    assert not StorageObject.objects.exists()
    assert not log()
    assert [note.reason for note in PendingBlob.objects.all()] == ["upload"]


@pytest.mark.django_db(transaction=True)
def test_a_put_that_fails_in_the_end_leaves_no_blob(docs, plain, settings):
    plain.put_object("a.txt", b"bytes")
    plain.put_object_legal_hold("a.txt", True)

    with pytest.raises(ObjectLocked):
        plain.put_object("a.txt", b"other")

    assert bytes_of(plain, "a.txt") == b"bytes"
    assert not PendingBlob.objects.exists()
    assert [row.error_code for row in log(success=False)] == ["object_locked"]


@pytest.mark.django_db
def test_a_body_that_breaks_off_is_no_put(docs):
    def body():
        yield b"some"
        raise OSError("gone")

    with pytest.raises(InvalidArgument, match="broke off"):
        docs.put_object("a.txt", body())

    assert not StorageObject.objects.exists()
    assert not PendingBlob.objects.exists()


@pytest.mark.django_db
def test_a_bucket_that_is_not_named_or_not_there_is_told(docs, acme):
    files = StorageObject.objects.for_tenant(acme)

    with pytest.raises(InvalidArgument, match="one bucket"):
        files.put_object("a.txt")
    for name in ("nowhere", "", 7, "DOCS", "\0"):
        with pytest.raises(NoSuchBucket):
            files.bucket(name).put_object("a.txt")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("mode", "call"),
    [
        ("write", lambda files: files.put_object("a.txt", b"bytes")),
        ("write", lambda files: files.bulk_put([{"key": "a.txt"}])),
        ("write", lambda files: files.record_version("a.txt", "one")),
        ("write", lambda files: files.restore_object("a.txt")),
        ("write", lambda files: files.put_object_tagging("a.txt", {})),
        ("write", lambda files: files.put_object_legal_hold("a.txt", True)),
        ("write", lambda files: files.put_object_retention("a.txt", None)),
        ("delete", lambda files: files.delete_object("a.txt")),
        ("delete", lambda files: files.delete_object("a.txt", "null")),
        ("delete", lambda files: files.delete_objects(["b.txt", "a.txt"])),
        ("read", lambda files: files.head_object("a.txt")),
    ],
)
def test_policies_are_asked_first(docs, acme, mode, call):
    asked = []
    refusal = type("Refusal", (), {"__bool__": lambda self: False, "message": "No.", "reason": "no"})()

    def decide(uri, how):
        asked.append((uri, how))
        return refusal if uri.endswith("/a.txt") else True

    docs.put_object("a.txt")
    files = StorageObject.objects.for_tenant(acme, effective=SimpleNamespace(tenant_id=acme.pk, decide_storage=decide))

    with pytest.raises(AccessDenied) as caught:
        call(files.bucket("docs"))

    assert caught.value.decision is refusal
    assert asked[-1] == ("s3://docs/a.txt", mode)
    assert StorageVersion.objects.count() == 1
    assert not PendingBlob.objects.exists()
    [row] = log(success=False)
    assert row.error_code == "access_denied"


@pytest.mark.django_db
def test_a_quota_is_asked_before_a_byte_is_read_where_the_size_is_known(docs, acme):
    StorageQuotaFactory(tenant=acme, max_bytes=4)

    for body in (b"bytes", iter([b"by", b"tes"]), ContentFile(b"bytes")):
        with pytest.raises(QuotaExceeded):
            docs.put_object("a.txt", body)
    with pytest.raises(QuotaExceeded):
        docs.put_object("a.txt", size=5)
    assert not PendingBlob.objects.exists()

    docs.put_object("a.txt", b"byte")


@pytest.mark.django_db
def test_above_a_quota_that_warns_a_put_is_marked(docs, acme):
    StorageQuotaFactory(tenant=acme, max_bytes=4, on_excess="warn")

    assert not docs.put_object("a.txt", b"byte").over_quota
    assert docs.put_object("b.txt", b"byte").over_quota
    assert docs.copy_object("a.txt", "c.txt").over_quota


# --- delete


@pytest.mark.django_db
def test_deletes_are_in_the_access_log_and_told_to_hooks(docs, plain, acme):
    put = docs.put_object("a.txt", size=3, etag="e")
    plain.put_object("b.txt", size=4)
    StorageHookFactory(tenant=acme, event_types=["s3:ObjectRemoved:*"])

    marker = docs.delete_object("a.txt")
    docs.delete_object("a.txt", marker.version_id)
    docs.delete_object("a.txt", put.version_id)
    plain.delete_object("b.txt")
    plain.delete_object("b.txt")
    docs.delete_object("a.txt", "unknown")

    told = [
        (row.action, row.object_key, row.version_id, row.size, row.is_delete_marker)
        for row in log(record_type="DELETE")
    ]
    assert told == [
        ("s3:DeleteObject", "a.txt", marker.version_id, 0, True),
        ("s3:DeleteObjectVersion", "a.txt", marker.version_id, 0, True),
        ("s3:DeleteObjectVersion", "a.txt", put.version_id, 3, False),
        ("s3:DeleteObject", "b.txt", "null", 4, False),
        ("s3:DeleteObject", "b.txt", "", 0, False),
        ("s3:DeleteObjectVersion", "a.txt", "unknown", 0, False),
    ]
    sequencers = [row.sequencer for row in log(object_key="a.txt") if row.sequencer]
    assert sequencers == sorted(set(sequencers))
    assert [(event.event_type, event.object_key) for event in StorageEvent.objects.order_by("id")] == [
        ("s3:ObjectRemoved:DeleteMarkerCreated", "a.txt"),
        ("s3:ObjectRemoved:Delete", "a.txt"),
        ("s3:ObjectRemoved:Delete", "a.txt"),
        ("s3:ObjectRemoved:Delete", "b.txt"),
    ]


@pytest.mark.django_db
def test_an_unknown_id_need_not_be_removed(docs):
    docs.put_object("a.txt")

    for key, version_id in (("a.txt", "unknown"), ("a.txt", "null"), ("never.txt", "0" * 32)):
        assert docs.delete_object(key, version_id) == DeleteResult(False, None, False)


@pytest.mark.django_db(transaction=True)
def test_a_blob_goes_with_its_last_version(docs, plain, settings):
    plain.put_object("a.txt", b"bytes")
    blob = StorageVersion.objects.get()

    plain.put_object("a.txt", b"other")
    plain.delete_object("a.txt")

    assert not PendingBlob.objects.exists()
    assert not storages["objects"].exists(blob.blob_name)


@pytest.mark.django_db
def test_many_keys_are_deleted_in_the_order_given(docs, plain):
    for key in ("b", "a", "c"):
        plain.put_object(key)

    done = plain.delete_objects(["c", "missing", "a", "c"])

    assert [(one.existed, one.version_id) for one in done] == [
        (True, "null"),
        (False, None),
        (True, "null"),
        (False, None),
    ]
    assert [head.object_key for head in StorageObject.objects.all()] == ["b"]
    assert docs.delete_objects([]) == []
    assert [one.delete_marker for one in docs.delete_objects(["x", "x"])] == [True, True]


@pytest.mark.django_db
def test_of_many_keys_all_are_deleted_or_none(plain):
    plain.put_object("a")
    plain.put_object("b")
    plain.put_object_legal_hold("b", True)

    with pytest.raises(ObjectLocked):
        plain.delete_objects(["a", "b"])
    with pytest.raises(InvalidArgument):
        plain.delete_objects(["a", ""])
    with pytest.raises(InvalidArgument, match="1,000"):
        plain.delete_objects([str(n) for n in range(1001)])
    with pytest.raises(InvalidArgument):
        plain.delete_objects("a")

    assert StorageObject.objects.count() == 2


# --- inside a tenant's scope


@pytest.mark.django_db(transaction=True)
def test_everything_works_inside_a_tenants_scope(docs, plain, acme):
    StorageHookFactory(tenant=acme)
    with tenant_scope(acme):
        first = docs.put_object("a.txt", b"one")
        docs.put_object("a.txt", b"two", if_match=first.etag)
        docs.put_object_tagging("a.txt", {"t": "1"})
        docs.put_object_legal_hold("a.txt", True)
        docs.put_object_legal_hold("a.txt", False)
        docs.delete_object("a.txt")
        docs.restore_object("a.txt")
        docs.restore_object("a.txt", first.version_id)
        docs.copy_object("a.txt", "b.txt", bucket="plain")
        plain.put_object("b.txt", b"three")
        plain.delete_object("b.txt")
        docs.record_version("a.txt", "elsewhere", is_latest=False)
        assert docs.bulk_put([{"key": "c.txt"}, {"key": "c.txt"}]) == 2
        assert plain.bulk_put([{"key": "c.txt"}, {"key": "c.txt"}]) == 2
        docs.delete_object("a.txt", first.version_id)
        assert bytes_of(docs, "a.txt") == b"one"

    assert StorageVersion.objects.filter(object__object_key="a.txt").count() == 3


@pytest.mark.django_db(transaction=True)
def test_another_tenants_bucket_is_not_there_inside_a_scope(docs, acme, globex):
    BucketFactory(tenant=globex, name="docs")
    docs.put_object("a.txt")

    with tenant_scope(globex):
        theirs = StorageObject.objects.for_tenant(globex).bucket("docs")
        with pytest.raises(NoSuchKey):
            theirs.head_object("a.txt")
        with pytest.raises(NoSuchBucket):
            docs.head_object("a.txt")
        with pytest.raises(NoSuchBucket):
            docs.put_object("a.txt")
        theirs.put_object("a.txt", etag="theirs")

    assert docs.head_object("a.txt").etag == ""


# --- at once


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("versioning", ["enabled", "suspended", "unversioned"])
def test_writers_of_one_key_leave_dense_versions_and_one_head(docs, plain, versioning):
    files = plain if versioning == "unversioned" else docs
    Bucket.objects.filter(name=files.bucket_name).update(versioning=versioning)

    done = together(*(lambda: [files.put_object("a.txt").seq for _ in range(10)] for _ in range(8)))

    assert sorted(seq for seqs in done for seq in seqs) == list(range(1, 81))
    head = StorageObject.objects.get()
    assert head.next_seq == 81
    assert StorageVersion.objects.newest_first().first().pk == head.current_version_id
    assert StorageVersion.objects.count() == (80 if versioning == "enabled" else 1)
    sequencers = [row.sequencer for row in log()]
    assert len(set(sequencers)) == 80


@pytest.mark.django_db(transaction=True)
def test_puts_and_deletes_of_one_key_at_once_leave_it_there_or_not_and_rise(plain):
    def work():
        return [call for _ in range(8) for call in (plain.put_object("a.txt"), plain.delete_object("a.txt"))]

    done = together(*(work for _ in range(6)))

    assert [one for one in done if isinstance(one, Exception)] == []
    assert StorageObject.objects.count() == StorageVersion.objects.count() <= 1
    sequencers = [row.sequencer for row in log() if row.sequencer]
    assert len(sequencers) == len(set(sequencers))


@pytest.mark.django_db(transaction=True)
def test_many_at_once_and_single_ones_never_wait_in_a_ring(docs):
    keys = [f"k{n}" for n in range(30)]

    done = together(
        lambda: docs.bulk_put([{"key": key} for key in keys]),
        lambda: docs.bulk_put([{"key": key} for key in reversed(keys)]),
        lambda: docs.delete_objects(keys[::-1]),
        lambda: docs.delete_objects(keys),
        lambda: [docs.put_object(key) for key in keys],
    )

    assert [one for one in done if isinstance(one, Exception)] == []
    assert {head.next_seq for head in StorageObject.objects.all()} == {6}


@pytest.mark.django_db(transaction=True)
def test_a_bucket_removed_meanwhile_is_no_bucket(docs, acme):
    with transaction.atomic():
        put = docs.put_object("a.txt")
    assert isinstance(put, PutResult)
    docs.delete_object("a.txt", put.version_id)

    bucket = docs.the_bucket()
    Bucket.objects.filter(pk=bucket.pk).delete()

    with pytest.raises(NoSuchBucket):
        docs.put_object("a.txt")
