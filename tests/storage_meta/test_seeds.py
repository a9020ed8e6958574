"""The names and arguments that older code calls, on our handle."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from controlplane.core.ids import now
from storage_meta.errors import InvalidArgument, NoBlob, NoSuchKey, StorageError
from storage_meta.handle import Files
from storage_meta.models import Bucket, StorageObject, StorageVersion

pytestmark = pytest.mark.django_db

SEED = {
    "record_object": "object_key size content_type etag version_id storage_backend storage_class metadata",
    "get_object_metadata": "object_key",
    "list_objects": "prefix storage_backend limit offset",
    "list_versions": "object_key limit",
    "get_statistics": "",
    "upload_document": "file_path object_key metadata user_id user_name",
    "download_document": "object_key output_path version_id user_id user_name",
    "search_documents": "search_query prefix metadata_filters limit",
    "get_version_history": "object_key",
    "search_objects": "query",
    "delete_object": "key version_id",
    "record_version": "object_key version_id",
    "log_audit": "action object_key user_id username version_id ip_address user_agent success error_message metadata",
    "get_audit_logs": "object_key user_id action start_date end_date limit",
    "get_hook_statistics": "hours",
    "cleanup_old_audits": "days",
    "get_audit_trail": "object_key user_id limit",
}


@pytest.mark.parametrize("name", SEED)
def test_the_arguments_have_the_order_and_the_names_that_callers_know(name):
    parameters = list(inspect.signature(getattr(Files, name)).parameters)

    assert parameters[: len(SEED[name].split()) + 1] == ["self", *SEED[name].split()]


def test_what_is_recorded_is_a_version_with_the_id_that_it_has_elsewhere(docs):
    row = docs.record_object("a.pdf", 1024, "application/pdf", "e" * 32, "v-1", "s3", "GLACIER", {"author": "Kim"})

    assert (row.object_key, row.size, row.storage_backend, row.storage_class) == ("a.pdf", 1024, "s3", "GLACIER")
    assert (row.etag, row.metadata, row.content_type) == ("e" * 32, {"author": "Kim"}, "application/pdf")
    assert [one.external_id for one in docs.list_versions("a.pdf")] == ["v-1"]
    assert docs.head_object("a.pdf", "v-1").size == 1024
    with pytest.raises(NoBlob):
        docs.download_document("a.pdf")


def test_without_an_id_every_record_is_a_version_of_ours(docs):
    docs.record_object("a.pdf", 1, "", "e" * 32)
    docs.record_object("a.pdf", 2, "", "f" * 32)

    assert [one.size for one in docs.get_version_history("a.pdf")] == [2, 1]


def test_a_known_id_gets_what_was_said_of_it_now(docs):
    docs.record_object("a.pdf", 1, "", "e" * 32, "v-1")
    docs.record_version("a.pdf", "v-1", size=1, etag="e" * 32, comment="seen", tags={"state": "seen"})

    [version] = docs.list_versions("a.pdf")
    assert (version.comment, version.tags, version.is_latest) == ("seen", {"state": "seen"}, True)


def test_an_older_version_is_recorded_below_the_others(docs):
    docs.record_object("a.pdf", 2, "", "e" * 32, "v-2")
    docs.record_version("a.pdf", "v-1", size=1, etag="f" * 32, is_latest=False, created_by="kim")

    assert [(one.external_id, one.is_latest) for one in docs.list_versions("a.pdf")] == [("v-2", True), ("v-1", False)]
    assert docs.head_object("a.pdf").size == 2


def test_metadata_of_what_is_not_there_is_none(docs):
    docs.put_object("gone", b"x")
    docs.delete_object("gone")

    assert docs.get_object_metadata("nothing") is None
    assert docs.get_object_metadata("gone") is None
    with pytest.raises(StorageError):
        docs.get_object_metadata("a\x00")


def test_objects_are_listed_newest_first_with_a_literal_prefix(docs):
    for key in ("a_b", "axb", "a%b", "z"):
        docs.record_object(key, 1, "", "e" * 32, None, "s3" if key == "axb" else "local")

    assert [one.object_key for one in docs.list_objects()] == ["z", "a%b", "axb", "a_b"]
    assert [one.object_key for one in docs.list_objects(prefix="a_")] == ["a_b"]
    assert [one.object_key for one in docs.list_objects(prefix="a%")] == ["a%b"]
    assert [one.object_key for one in docs.list_objects(storage_backend="s3")] == ["axb"]
    assert [one.object_key for one in docs.list_objects(limit=2, offset=1)] == ["a%b", "axb"]


@pytest.mark.parametrize(
    "options", [{"limit": 1001}, {"limit": -1}, {"offset": 10_001}, {"offset": -1}, {"limit": True}, {"limit": "9"}]
)
def test_a_list_goes_neither_further_nor_deeper_than_it_should(docs, options):
    with pytest.raises(InvalidArgument):
        docs.list_objects(**options)


def test_over_all_buckets_what_is_in_each_is_listed(acme, docs, plain):
    docs.put_object("a", b"a")
    plain.put_object("b", b"b")

    assert [one.object_key for one in StorageObject.objects.for_tenant(acme).list_objects()] == ["b", "a"]


def test_versions_of_one_key_are_not_those_of_keys_that_begin_so(docs):
    for key in ("a", "ab", "a", "a/b"):
        docs.put_object(key, key.encode())

    assert [one.seq for one in docs.list_versions("a")] == [2, 1]
    assert [one.seq for one in docs.list_versions("a", limit=1)] == [2]
    assert docs.list_versions("nothing") == []


def test_a_document_goes_up_and_down_and_is_on_record_with_who_did_it(docs, tmp_path):
    path = tmp_path / "report.txt"
    path.write_bytes(b"figures")

    row = docs.upload_document(path, "reports/1.txt", {"author": "Kim"}, "user123", "john@example.com")
    read = docs.download_document("reports/1.txt", user_id="user456", user_name="jane@example.com")
    docs.download_document("reports/1.txt", tmp_path / "got.txt")

    assert (row.size, row.content_type, row.metadata) == (7, "text/plain", {"author": "Kim"})
    assert read == (tmp_path / "got.txt").read_bytes() == b"figures"
    trail = docs.get_audit_trail(object_key="reports/1.txt")
    assert [(one.action, one.actor_id, one.actor_name) for one in trail[1:]] == [
        ("s3:GetObject", "user456", "jane@example.com"),
        ("s3:PutObject", "user123", "john@example.com"),
    ]
    assert [one.action for one in docs.get_audit_trail(user_id="user456")] == ["s3:GetObject"]
    [version] = StorageVersion.objects.all()
    assert version.comment == f"Uploaded from {path}"
    assert docs.get_statistics().total_size == 7
    assert [
        one.object_key for one in docs.search_documents("figures | reports", metadata_filters={"author": "Kim"})
    ] == ["reports/1.txt"]
    assert [one.object_key for one in docs.search_documents(prefix="reports/")] == ["reports/1.txt"]


def test_what_was_done_elsewhere_is_written_down_under_the_seeds_names(docs):
    docs.log_audit("DOWNLOAD", "a", "u1", "kim", "v-1", "203.0.113.9", "curl", False, "too slow", {"size": 1})

    [row] = docs.get_audit_logs("a", "u1", "DOWNLOAD", now() - timedelta(hours=1), now() + timedelta(hours=1), 10).rows
    assert (row.actor_id, row.actor_name, row.version_id, row.source_ip) == ("u1", "kim", "v-1", "203.0.113.9")
    assert (row.success, row.error_message, row.metadata) == (False, "too slow", {"size": 1})


def test_a_file_that_cannot_be_read_or_written_is_said_so_and_nothing_is_left(docs, tmp_path):
    docs.put_object("a", b"a")

    for path in (tmp_path / "none", tmp_path, "a\x00b", "\udcff", None, 7):
        with pytest.raises(InvalidArgument):
            docs.upload_document(path, "b")
    for path in (tmp_path / "none" / "b", tmp_path, "a\x00b", 7):
        with pytest.raises(InvalidArgument):
            docs.download_document("a", path)
    with pytest.raises(NoSuchKey):
        docs.download_document("b", tmp_path / "b")
    assert [one.name for one in tmp_path.iterdir() if one.name != "objects"] == []
    assert Bucket.objects.count() == 1
