from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db import connection, transaction

from auditing.context import Actor
from storage_meta import reading
from storage_meta.errors import (
    AccessDenied,
    BlobMissing,
    ChecksumMismatch,
    InvalidArgument,
    InvalidRange,
    KeyTooLong,
    MethodNotAllowed,
    NoBlob,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    StorageUnavailable,
)
from storage_meta.models import Bucket, StorageAudit, StorageEvent, StorageVersion
from tests.factories import StorageHookFactory
from tests.storage_meta.storages import Hangs

MIB = 1024 * 1024
pytestmark = pytest.mark.django_db


def reads():
    return list(StorageAudit.objects.filter(action="s3:GetObject").order_by("id"))


def blob_of(put):
    version = StorageVersion.objects.get(pk=put.object.current_version_id)
    return Path(storages[version.storage_backend].path(version.blob_name))


def audit_reads(docs, choice):
    Bucket.objects.filter(name=docs.bucket_name).update(audit_reads=choice)


# --- what is read


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 5])
def test_what_was_put_is_read_in_pieces(docs, size):
    body = os.urandom(size)
    docs.put_object("a", body)

    with docs.get_object("a") as stored:
        pieces = list(stored)

    assert b"".join(pieces) == body
    assert max(map(len, pieces), default=0) <= MIB
    assert (stored.size, stored.total, stored.first, stored.partial) == (size, size, 0, False)


def test_a_version_is_read_by_its_id(docs):
    first = docs.put_object("a", b"old")
    docs.put_object("a", b"new")

    assert docs.get_object("a", first.version_id).read() == b"old"
    assert docs.get_object("a").read() == b"new"


def test_a_stored_file_knows_its_rows(docs):
    put = docs.put_object("a/b.txt", b"text", content_type="text/plain")

    with docs.get_object("a/b.txt") as stored:
        assert (stored.key, stored.version.version_id) == ("a/b.txt", put.version_id)
        assert (stored.version.content_type, stored.version.etag) == ("text/plain", put.etag)
        assert stored.object == put.object


def test_a_stored_file_is_a_body(docs):
    docs.put_object("a", b"x" * (2 * MIB + 1))

    with docs.get_object("a") as stored:
        copied = docs.put_object("b", iter(stored))

    assert copied.size == 2 * MIB + 1


# --- ranges


@pytest.mark.parametrize(
    ("range", "expected", "place"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=0-9", b"0123456789", "bytes 0-9/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-100", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-100", b"0123456789", "bytes 0-9/10"),
        (f"bytes=7-{'9' * 5000}", b"789", "bytes 7-9/10"),
        (f"bytes={'0' * 20}7-", b"789", "bytes 7-9/10"),
        (f"bytes=-{'0' * 20}3", b"789", "bytes 7-9/10"),
    ],
)
def test_a_range_is_a_part_as_http_names_it(docs, range, expected, place):
    docs.put_object("a", b"0123456789")

    with docs.get_object("a", range=range) as stored:
        assert stored.read() == expected

    assert stored.content_range == place


def test_a_range_may_begin_deep_within_and_span_pieces(docs):
    body = os.urandom(4 * MIB)
    docs.put_object("a", body)

    with docs.get_object("a", range=f"bytes={MIB + 17}-{3 * MIB + 4}") as stored:
        assert stored.read() == body[MIB + 17 : 3 * MIB + 5]


@pytest.mark.parametrize("range", ["bytes=10-", "bytes=10-11", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_a_range_behind_the_last_byte_is_refused(docs, range):
    docs.put_object("a", b"0123456789")

    with pytest.raises(InvalidRange, match="10"):
        docs.get_object("a", range=range)


def test_nothing_has_no_range(docs):
    docs.put_object("a", b"")
    for range in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(InvalidRange):
            docs.get_object("a", range=range)


@pytest.mark.parametrize(
    "range",
    ["", "bytes", "bytes=", "bytes=-", "0-1", "bytes=5-4", "bytes=0-1,3-4", "bytes=a-b", "bytes=١-٢", 7, b"bytes=0-1"],
)
def test_what_is_no_range_is_refused(docs, range):
    docs.put_object("a", b"0123456789")

    with pytest.raises(InvalidArgument, match="range"):
        docs.get_object("a", range=range)


# --- what cannot be read


def test_what_is_not_there_is_told_apart(docs):
    docs.put_object("deleted", b"x")
    marker = docs.delete_object("deleted")
    docs.put_object("elsewhere", size=3, etag="abc")

    with pytest.raises(NoSuchKey) as missing:
        docs.get_object("never")
    with pytest.raises(NoSuchKey) as deleted:
        docs.get_object("deleted")
    with pytest.raises(MethodNotAllowed):
        docs.get_object("deleted", marker.version_id)
    with pytest.raises(NoSuchVersion):
        docs.get_object("deleted", "0" * 32)
    with pytest.raises(NoBlob):
        docs.get_object("elsewhere")
    with pytest.raises(NoSuchBucket):
        docs.bucket("attic").get_object("never")

    assert (missing.value.delete_marker, deleted.value.delete_marker) == (False, True)


@pytest.mark.parametrize(
    ("key", "error"),
    [("", InvalidArgument), ("a\x00", InvalidArgument), ("x" * 1025, KeyTooLong), (7, InvalidArgument)],
)
def test_a_wrong_key_is_refused(docs, key, error):
    with pytest.raises(error):
        docs.get_object(key)


def test_nobody_reads_what_another_tenant_stored(docs, globex):
    docs.put_object("a", b"x")
    Bucket.objects.create(tenant=globex, name="docs")

    with pytest.raises(NoSuchKey):
        type(docs).of(globex).bucket("docs").get_object("a")


class Refuses:
    """Policies that allow nothing."""

    class Decision:
        message = "No policy allows this."

        def __bool__(self):
            return False

    def __init__(self, tenant_id):
        self.tenant_id = tenant_id

    def decide_storage(self, uri, mode):
        return self.Decision()


def test_what_policies_refuse_is_not_read(docs, acme):
    docs.put_object("a", b"x")

    with pytest.raises(AccessDenied):
        type(docs).of(acme, effective=Refuses(acme.pk)).bucket("docs").get_object("a")


def test_a_blob_that_is_gone_is_told(docs):
    blob_of(docs.put_object("a", b"x")).unlink()

    with pytest.raises(BlobMissing):
        docs.get_object("a")


@pytest.mark.parametrize("range", [None, f"bytes=0-{3 * MIB - 1}"])
def test_of_a_blob_that_was_changed_the_end_is_never_given(docs, range):
    path = blob_of(docs.put_object("a", b"x" * 3 * MIB))
    path.write_bytes(b"x" * (3 * MIB - 1) + b"y")

    taken = []
    with pytest.raises(ChecksumMismatch, match="SHA-256"), docs.get_object("a", range=range) as stored:
        taken.extend(stored)

    assert sum(map(len, taken)) == 2 * MIB


def test_a_blob_that_became_shorter_is_told(docs):
    path = blob_of(docs.put_object("a", b"x" * 10))
    path.write_bytes(b"x" * 5)

    with pytest.raises(ChecksumMismatch, match="5 of 10"), docs.get_object("a") as stored:
        stored.read()


def test_reading_from_a_storage_that_hangs_is_unavailable(docs, settings, tmp_path):
    docs.put_object("a", b"x")
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STORAGE_TIMEOUT": 0.05}
    location = settings.STORAGES["objects"]["OPTIONS"]["location"]
    hanging = {"BACKEND": "tests.storage_meta.storages.Hangs", "OPTIONS": {"location": location}}
    settings.STORAGES = {**settings.STORAGES, "objects": hanging}
    Hangs.let_go.clear()

    try:
        with pytest.raises(StorageUnavailable):
            docs.get_object("a")
    finally:
        Hangs.let_go.set()


# --- what is recorded


def test_a_download_is_one_row_with_what_was_taken(docs):
    put = docs.put_object("a", b"x" * 10)

    with docs.get_object("a") as stored:
        stored.read()
    stored.close()

    [row] = reads()
    assert (row.object_key, row.version_id, row.bucket) == ("a", put.version_id, "docs")
    assert (row.size, row.bytes_sent, row.etag) == (10, 10, put.etag)
    assert (row.success, row.record_type, row.error_code) == (True, "READ", "")
    assert row.sequencer == put.object.sequencer


def test_a_range_is_recorded_with_what_was_taken(docs):
    docs.put_object("a", b"x" * 10)

    docs.get_object("a", range="bytes=-4").read()

    [row] = reads()
    assert (row.size, row.bytes_sent, row.success) == (10, 4, True)


def test_a_download_that_is_broken_off_is_no_success(docs):
    docs.put_object("a", b"x" * 3 * MIB)

    with docs.get_object("a") as stored:
        next(iter(stored))
    with pytest.raises(ConnectionResetError), docs.get_object("a") as stored:
        raise ConnectionResetError

    first, second = reads()
    assert (first.success, first.bytes_sent) == (False, MIB)
    assert (second.success, second.bytes_sent) == (False, 0)
    assert "Broken off" in first.error_message


def test_a_failure_while_reading_is_recorded_once(docs):
    blob_of(docs.put_object("a", b"x")).write_bytes(b"y")

    with pytest.raises(ChecksumMismatch), docs.get_object("a") as stored:
        stored.read()

    [row] = reads()
    assert (row.success, row.error_code, row.bytes_sent) == (False, "checksum_mismatch", 0)


def test_a_failure_before_reading_is_recorded_once(docs):
    with pytest.raises(NoSuchKey):
        docs.get_object("never")

    [row] = reads()
    assert (row.success, row.error_code, row.object_key) == (False, "no_such_key", "never")


def test_a_bucket_without_recorded_reads_has_no_row_but_of_failures(docs):
    blob = blob_of(docs.put_object("a", b"x"))
    audit_reads(docs, Bucket.AuditReads.NONE)

    docs.get_object("a").read()
    docs.get_object("a").close()
    assert reads() == []

    blob.write_bytes(b"y")
    with pytest.raises(ChecksumMismatch):
        docs.get_object("a").read()
    assert [row.error_code for row in reads()] == ["checksum_mismatch"]


@pytest.mark.parametrize("choice", Bucket.AuditReads.values)
def test_a_hook_is_told_of_a_whole_download(docs, acme, choice):
    StorageHookFactory(tenant=acme, event_types=["s3:ObjectAccessed:Get"])
    docs.put_object("a", b"x", content_type="text/plain")
    audit_reads(docs, choice)

    docs.get_object("a").close()
    docs.get_object("a").read()

    event = StorageEvent.objects.get()
    assert (event.event_type, event.object_key) == ("s3:ObjectAccessed:Get", "a")
    assert event.payload["data"]["content_type"] == "text/plain"


def test_a_download_names_who_took_it(acme, docs):
    docs.put_object("a", b"x")

    type(docs).of(acme, actor=Actor("user", "7", "ann")).bucket("docs").get_object("a").read()

    assert reads()[0].actor_name == "ann"


@pytest.mark.django_db(transaction=True)
def test_the_row_of_a_download_outlives_a_rollback_of_the_caller(docs):
    docs.put_object("a", b"x")

    with transaction.atomic():
        docs.get_object("a").read()
        transaction.set_rollback(True)

    assert [row.bytes_sent for row in reads()] == [1]


def test_a_download_costs_few_statements(docs, django_assert_max_num_queries):
    docs.put_object("a", b"x")

    with django_assert_max_num_queries(6, connection=connection):
        docs.get_object("a").read()


# --- the pure rules


def test_a_range_is_placed_within_the_size():
    for size in range(1, 6):
        for first in range(6):
            for last in range(first, 7):
                wanted = reading.parsed(f"bytes={first}-{last}")
                if first >= size:
                    with pytest.raises(InvalidRange):
                        reading.placed(wanted, size)
                else:
                    begin, length = reading.placed(wanted, size)
                    assert list(range(size))[first : last + 1] == list(range(begin, begin + length))
