"""Many objects at once, and versions that were made elsewhere."""

from __future__ import annotations

import pytest
from django.db import connection

from auditing.testing import empty
from storage_meta.errors import (
    InvalidArgument,
    InvalidMetadata,
    KeyTooLong,
    MethodNotAllowed,
    ObjectLocked,
    QuotaExceeded,
)
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageEvent, StorageObject, StorageVersion
from tests.factories import StorageHookFactory, StorageQuotaFactory

pytestmark = pytest.mark.django_db


def versions_of(key):
    return list(StorageVersion.objects.filter(object__object_key=key).newest_first())


def test_many_objects_are_put_at_once(docs):
    rows = [
        {
            "key": f"k/{n}",
            "size": n,
            "etag": f"e{n}",
            "content_type": "text/plain",
            "metadata": {"n": n, "é": "\t\\N"},
            "tags": {"t": str(n)},
            "storage_backend": "tape",
            "comment": "a\tb\nc",
        }
        for n in range(50)
    ]

    assert docs.bulk_put(iter(rows)) == 50

    head = docs.head_object("k/7")
    assert (head.size, head.etag, head.content_type, head.metadata, head.tags) == (
        7, "e7", "text/plain", {"n": 7, "é": "\t\\N"}, {"t": "7"},
    )  # fmt: skip
    [version] = versions_of("k/7")
    assert (version.seq, version.storage_backend, version.comment, version.blob_name) == (1, "tape", "a\tb\nc", "")
    assert head.current_version_id == version.pk
    assert (head.next_seq, head.last_modified) == (2, version.created_at)
    assert docs.put_object("k/7").seq == 2


def test_a_bulk_put_of_nothing_is_nothing(docs):
    assert docs.bulk_put([]) == 0


def test_rows_of_one_key_are_put_in_their_order(docs):
    docs.put_object("a.txt", etag="before")

    docs.bulk_put([{"key": "a.txt", "etag": f"e{n}"} for n in range(3)] + [{"key": "b.txt"}])

    assert [(version.seq, version.etag) for version in versions_of("a.txt")] == [
        (4, "e2"), (3, "e1"), (2, "e0"), (1, "before"),
    ]  # fmt: skip
    assert docs.head_object("a.txt").etag == "e2"
    rows = StorageAudit.objects.filter(object_key="a.txt").order_by("id")
    sequencers = [row.sequencer for row in rows]
    assert sequencers == sorted(set(sequencers))
    assert sequencers[-1] == docs.head_object("a.txt").sequencer


def test_rows_of_one_key_replace_each_other_where_nothing_is_versioned(plain):
    plain.put_object("a.txt", b"bytes")

    plain.bulk_put([{"key": "a.txt", "etag": f"e{n}"} for n in range(3)])

    [version] = versions_of("a.txt")
    assert (version.seq, version.etag, version.version_id) == (4, "e2", "null")
    assert PendingBlob.objects.filter(reason="delete").count() == 1


def test_a_held_version_is_not_replaced_by_many(plain):
    plain.put_object("a.txt", etag="held")
    plain.put_object_legal_hold("a.txt", True)

    with pytest.raises(ObjectLocked):
        plain.bulk_put([{"key": "a.txt"}, {"key": "b.txt"}])

    assert plain.head_object("a.txt").etag == "held"
    assert not StorageObject.objects.filter(object_key="b.txt").exists()


def test_a_marker_is_covered_by_many(docs):
    docs.delete_object("a.txt")

    docs.bulk_put([{"key": "a.txt", "etag": "e"}])

    assert docs.head_object("a.txt").etag == "e"


def test_what_was_put_at_once_is_in_the_access_log_and_told_to_hooks(docs, acme):
    StorageHookFactory(tenant=acme, event_types=["s3:ObjectCreated:*"])

    docs.bulk_put([{"key": "a.txt", "size": 5, "etag": "e"}, {"key": "b.txt"}])

    row = StorageAudit.objects.get(object_key="a.txt")
    version = versions_of("a.txt")[0]
    assert (row.action, row.record_type, row.bucket, row.size, row.etag, row.version_id, row.success) == (
        "s3:PutObject", "CREATE", "docs", 5, "e", version.version_id, True,
    )  # fmt: skip
    assert row.sequencer == docs.head_object("a.txt").sequencer
    event = StorageEvent.objects.get(object_key="a.txt")
    assert (event.event_type, event.version_id, event.sequencer) == (
        "s3:ObjectCreated:Put",
        row.version_id,
        row.sequencer,
    )
    assert event.payload["data"]["size"] == 5


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({}, InvalidArgument),
        ({"key": ""}, InvalidArgument),
        ({"key": "a" * 1025}, KeyTooLong),
        ({"key": "a", "size": -1}, InvalidArgument),
        ({"key": "a", "size": 2**63}, InvalidArgument),
        ({"key": "a", "size": "7"}, InvalidArgument),
        ({"key": "a", "metadata": {"n": float("nan")}}, InvalidMetadata),
        ({"key": "a", "body": b"bytes"}, InvalidArgument),
        ({"key": "a", "blob_name": "../etc"}, InvalidArgument),
        ({"key": "a", 7: "b"}, InvalidArgument),
        ({"key": "a", "version_id": "x" * 1025}, InvalidArgument),
        (7, InvalidArgument),
        (None, InvalidArgument),
    ],
)
def test_a_row_that_cannot_be_is_told_by_its_number(docs, row, error):
    with pytest.raises(error, match=r"^Row 2: "):
        docs.bulk_put([{"key": "good"}, row])

    assert not StorageObject.objects.exists()
    assert StorageAudit.objects.filter(success=False).count() == 1


@pytest.mark.parametrize("rows", [7, None, "rows", {"key": "a"}])
def test_rows_that_are_none_are_refused(docs, rows):
    with pytest.raises(InvalidArgument):
        docs.bulk_put(rows)


def test_a_quota_counts_all_of_a_batch(docs, acme):
    StorageQuotaFactory(tenant=acme, max_bytes=100, max_objects=None)

    with pytest.raises(QuotaExceeded):
        docs.bulk_put([{"key": f"k/{n}", "size": 30} for n in range(4)])

    assert docs.bulk_put([{"key": f"k/{n}", "size": 30} for n in range(3)]) == 3


def test_new_objects_alone_count_against_a_quota_of_objects(docs, acme):
    docs.put_object("k/0")
    StorageQuotaFactory(tenant=acme, max_bytes=None, max_objects=2)

    docs.bulk_put([{"key": "k/0"}, {"key": "k/1"}, {"key": "k/1"}])

    with pytest.raises(QuotaExceeded):
        docs.bulk_put([{"key": "k/2"}])
    docs.put_object("k/1")
    with pytest.raises(QuotaExceeded):
        docs.put_object("k/2")


# --- versions made elsewhere


def test_a_version_made_elsewhere_becomes_current_under_its_id_there(docs):
    docs.put_object("a.txt", etag="ours")

    recorded = docs.record_version("a.txt", "elsewhere/1", etag="theirs", size=9, metadata={"a": 1}, tags={"t": "1"})

    assert (recorded.seq, recorded.external_id, recorded.size) == (2, "elsewhere/1", 9)
    assert docs.head_object("a.txt").etag == "theirs"
    assert docs.head_object("a.txt", "elsewhere/1") == recorded
    assert docs.head_object("a.txt", recorded.version_id) == recorded
    assert recorded.is_latest


def test_older_versions_made_elsewhere_lie_below_those_that_are_there(docs):
    docs.put_object("a.txt", etag="ours")

    for n in (3, 2, 1):
        recorded = docs.record_version("a.txt", f"old-{n}", etag=f"o{n}", is_latest=False)
        assert not recorded.is_latest

    assert [(version.seq, version.etag) for version in versions_of("a.txt")] == [
        (1, "ours"), (0, "o3"), (-1, "o2"), (-2, "o1"),
    ]  # fmt: skip
    assert docs.head_object("a.txt").etag == "ours"
    assert docs.put_object("a.txt").seq == 2


def test_the_first_version_of_a_key_is_its_latest_whatever_is_said(docs):
    recorded = docs.record_version("a.txt", "first", is_latest=False)

    assert recorded.seq == 1
    assert recorded.is_latest


def test_of_a_version_that_is_known_tags_and_comment_are_set_and_nothing_else(docs):
    docs.record_version("a.txt", "one", etag="e1", size=4, comment="first", tags={"a": "1"})

    again = docs.record_version("a.txt", "one", etag="other", size=5, tags={"b": "2"})

    assert (again.etag, again.size, again.comment, again.tags) == ("e1", 4, "first", {"b": "2"})
    assert docs.head_object("a.txt").tags == {"b": "2"}
    assert docs.record_version("a.txt", again.version_id, comment="second").comment == "second"
    assert len(versions_of("a.txt")) == 1
    docs.put_object("a.txt", tags={"newer": "yes"})
    docs.record_version("a.txt", "one", tags={})
    assert docs.head_object("a.txt").tags == {"newer": "yes"}


def test_the_null_version_is_known_as_null(plain):
    plain.put_object("a.txt", etag="e")

    assert plain.record_version("a.txt", "null", comment="seen").comment == "seen"
    with pytest.raises(InvalidArgument, match="null"):
        plain.record_version("b.txt", "null")


def test_an_unversioned_bucket_takes_the_newest_version_made_elsewhere_alone(plain):
    plain.record_version("a.txt", "one")
    plain.record_version("a.txt", "two")

    [version] = versions_of("a.txt")
    assert (version.external_id, version.version_id) == ("two", "null")
    assert plain.head_object("a.txt", "two") == version
    with pytest.raises(InvalidArgument, match="one version"):
        plain.record_version("a.txt", "older", is_latest=False)


def test_an_id_of_ours_goes_before_one_made_elsewhere(docs):
    ours = docs.put_object("a.txt", etag="ours")
    docs.bulk_put([{"key": "a.txt", "etag": "same id elsewhere", "version_id": ours.version_id}])
    docs.record_version("a.txt", "0" * 32, etag="elsewhere")

    assert docs.head_object("a.txt", ours.version_id).etag == "ours"
    assert docs.head_object("a.txt", "0" * 32).etag == "elsewhere"


def test_an_id_elsewhere_is_of_one_version_of_a_key(docs):
    docs.bulk_put([{"key": "a.txt", "version_id": "one"}, {"key": "b.txt", "version_id": "one"}])

    with pytest.raises(InvalidArgument, match="version_id"):
        docs.bulk_put([{"key": "a.txt", "version_id": "one"}])


def test_a_row_of_many_whose_id_elsewhere_is_null_has_none(docs):
    docs.bulk_put([{"key": "a.txt", "version_id": "null"}, {"key": "a.txt", "version_id": "null"}])

    assert [version.external_id for version in versions_of("a.txt")] == ["", ""]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"is_latest": 1}, InvalidArgument),
        ({"size": -1}, InvalidArgument),
        ({"blob_name": "x"}, InvalidArgument),
        ({"comment": 7}, InvalidArgument),
        ({"metadata": []}, InvalidMetadata),
    ],
)
def test_a_version_made_elsewhere_is_checked(docs, said, error):
    with pytest.raises(error):
        docs.record_version("a.txt", "one", **said)
    for version_id in ("", None, 7, "\0", "x" * 1025):
        with pytest.raises(InvalidArgument):
            docs.record_version("a.txt", version_id)


def test_the_id_elsewhere_of_a_marker_holds_nothing(docs):
    docs.put_object("a.txt")
    docs.delete_object("a.txt")
    StorageVersion.objects.filter(is_delete_marker=True).update(comment="a marker")

    with pytest.raises(MethodNotAllowed):
        docs.head_object("a.txt", versions_of("a.txt")[0].version_id)


def test_a_default_retention_holds_for_many_and_for_versions_made_elsewhere(docs):
    Bucket.objects.filter(name="docs").update(default_retain_days=2_147_483_647)

    docs.bulk_put([{"key": "a.txt"}])
    docs.record_version("a.txt", "old", is_latest=False)

    assert all(version.retain_until.year > 4000 for version in versions_of("a.txt"))


@pytest.mark.django_db(transaction=True)
def test_the_first_batch_of_all_leaves_statistics_by_which_it_is_checked(docs):
    heads, versions = StorageObject._meta.db_table, StorageVersion._meta.db_table
    docs.put_object("one")
    empty(heads, versions)

    docs.bulk_put({"key": f"k/{n:04}"} for n in range(200))

    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, reltuples FROM pg_class WHERE relname = ANY (%s)", [[heads, versions]])
        assert dict(cursor.fetchall()) == {heads: 200, versions: 200}
