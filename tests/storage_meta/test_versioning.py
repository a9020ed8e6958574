"""The rules of a versioned, an unversioned and a suspended bucket, row by row."""

from __future__ import annotations

import pytest

from storage_meta.errors import MethodNotAllowed, NoSuchBucket, NoSuchKey, NoSuchVersion
from storage_meta.models import Bucket, StorageObject, StorageVersion


@pytest.fixture
def suspended(docs):
    """Acme's bucket docs with one version of a.txt, since then suspended."""
    docs.put_object("a.txt", size=1, etag="first")
    Bucket.objects.filter(name="docs").update(versioning="suspended")
    return docs


def seqs(key="a.txt"):
    """Of all versions of a key, newest first: seq, id, whether it is a marker."""
    found = StorageVersion.objects.filter(object__object_key=key).newest_first()
    return [(version.seq, "null" if version.null_version else "ours", version.is_delete_marker) for version in found]


pytestmark = pytest.mark.django_db


# --- enabled


def test_a_put_adds_a_version(docs):
    first, second = docs.put_object("a.txt", size=1, etag="e1"), docs.put_object("a.txt", size=2, etag="e2")

    assert (first.seq, second.seq) == (1, 2)
    assert first.version_id != second.version_id
    assert len(second.version_id) == 32
    assert docs.head_object("a.txt").etag == "e2"
    assert docs.head_object("a.txt", first.version_id).etag == "e1"
    assert first.object.pk == second.object.pk
    assert second.object.change_seq > first.object.change_seq


def test_which_version_is_the_latest_is_a_property_and_an_annotation(docs):
    docs.put_object("a.txt", size=1, etag="e1")
    docs.put_object("a.txt", size=2, etag="e2")

    found = StorageVersion.objects.with_latest().select_related("object").newest_first()
    assert [(one.seq, one.latest, one.is_latest) for one in found] == [(2, True, True), (1, False, False)]
    docs.delete_object("a.txt", found[0].version_id)
    [left] = StorageVersion.objects.with_latest()
    assert (left.latest, left.is_latest) == (True, True)


def test_a_head_holds_what_its_version_holds(docs):
    put = docs.put_object(
        "a.txt",
        size=7,
        etag='"quoted"',
        content_type="text/plain",
        metadata={"owner": "ann", "pages": [1, 2.5, None, "é"]},
        tags={"team": "blue"},
        storage_class="COLD",
        comment="as agreed",
    )

    head, version = StorageObject.objects.get(), StorageVersion.objects.get()
    for row in (head, version, put.object):
        assert (row.size, row.etag, row.content_type, row.storage_class) == (7, "quoted", "text/plain", "COLD")
        assert row.metadata == {"owner": "ann", "pages": [1, 2.5, None, "é"]}
        assert row.tags == {"team": "blue"}
    assert head.current_version_id == version.pk == put.object.current_version_id
    assert (head.next_seq, head.change_seq) == (2, put.object.change_seq)
    assert (head.last_modified, head.created_at) == (put.object.last_modified, put.object.created_at)
    assert version.created_at == head.last_modified
    assert version.comment == "as agreed"
    assert version.version_id == put.version_id
    assert version.is_latest


def test_a_delete_without_id_adds_a_marker(docs):
    docs.put_object("a.txt", size=1)

    deleted = docs.delete_object("a.txt")

    assert (deleted.delete_marker, deleted.existed) == (True, True)
    assert seqs() == [(2, "ours", True), (1, "ours", False)]
    head = StorageObject.objects.get()
    assert head.is_delete_marker
    assert (head.size, head.metadata) == (0, {})
    assert head.current_version_id.hex == deleted.version_id


def test_a_delete_adds_a_marker_on_a_marker_too(docs):
    docs.put_object("a.txt")
    docs.delete_object("a.txt")

    again = docs.delete_object("a.txt")

    assert (again.delete_marker, again.existed) == (True, False)
    assert [seq for seq, _, marker in seqs() if marker] == [3, 2]


def test_a_delete_adds_a_marker_for_an_unknown_key_too(docs):
    deleted = docs.delete_object("never.txt")

    assert (deleted.delete_marker, deleted.existed) == (True, False)
    assert seqs("never.txt") == [(1, "ours", True)]


def test_a_delete_by_id_removes_just_that_version(docs):
    ids = [docs.put_object("a.txt", etag=f"e{n}").version_id for n in range(3)]

    deleted = docs.delete_object("a.txt", ids[1])

    assert (deleted.delete_marker, deleted.version_id, deleted.existed) == (False, ids[1], True)
    assert [seq for seq, *_ in seqs()] == [3, 1]
    assert docs.head_object("a.txt").etag == "e2"


def test_the_newest_version_left_is_current_when_the_current_one_goes(docs):
    first = docs.put_object("a.txt", etag="e1", size=5, metadata={"n": 1}, tags={"t": "1"})
    second = docs.put_object("a.txt", etag="e2")

    docs.delete_object("a.txt", second.version_id)

    head = docs.head_object("a.txt")
    assert (head.etag, head.size, head.metadata, head.tags) == ("e1", 5, {"n": 1}, {"t": "1"})
    assert head.current_version_id.hex == first.version_id
    assert head.last_modified == first.object.last_modified
    assert docs.put_object("a.txt").seq == 3


def test_the_marker_removed_by_its_id_uncovers_the_version_below(docs):
    docs.put_object("a.txt", etag="e1")
    marker = docs.delete_object("a.txt")

    removed = docs.delete_object("a.txt", marker.version_id)

    assert (removed.delete_marker, removed.existed) == (True, True)
    assert docs.head_object("a.txt").etag == "e1"


def test_the_head_goes_with_the_last_version(docs):
    put = docs.put_object("a.txt")

    docs.delete_object("a.txt", put.version_id)

    assert not StorageObject.objects.exists()
    with pytest.raises(NoSuchKey) as caught:
        docs.head_object("a.txt")
    assert not caught.value.delete_marker


def test_the_sequencer_rises_with_each_change_also_after_the_key_was_gone(docs):
    rows = []
    first = docs.put_object("a.txt")
    rows.append(first.object.sequencer)
    docs.put_object_tagging("a.txt", {"a": "b"})
    rows.append(docs.head_object("a.txt").sequencer)
    docs.delete_object("a.txt", first.version_id)
    rows.append(docs.put_object("a.txt").object.sequencer)

    assert rows == sorted(set(rows))
    assert all(len(row) == 16 for row in rows)
    assert docs.put_object("a.txt").seq == 2


# --- unversioned


def test_a_put_replaces_where_nothing_is_versioned(plain):
    plain.put_object("a.txt", etag="e1", size=1)
    second = plain.put_object("a.txt", etag="e2", size=2)

    assert second.version_id == "null"
    assert seqs() == [(2, "null", False)]
    assert plain.head_object("a.txt").etag == plain.head_object("a.txt", "null").etag == "e2"


def test_a_delete_removes_where_nothing_is_versioned(plain):
    plain.put_object("a.txt")

    deleted = plain.delete_object("a.txt")

    assert (deleted.delete_marker, deleted.version_id, deleted.existed) == (False, "null", True)
    assert not StorageObject.objects.exists()
    assert not StorageVersion.objects.exists()


def test_a_missing_key_can_be_deleted(plain):
    deleted = plain.delete_object("never.txt")

    assert (deleted.delete_marker, deleted.version_id, deleted.existed) == (False, None, False)


def test_many_puts_in_one_transaction_replace_each_other(plain):
    for n in range(4):
        assert plain.put_object("a.txt", etag=f"e{n}").seq == n + 1

    assert seqs() == [(4, "null", False)]


# --- suspended


def test_a_put_in_a_suspended_bucket_replaces_the_null_version_alone(suspended):
    suspended.put_object("a.txt", etag="e2")
    third = suspended.put_object("a.txt", etag="e3")

    assert third.version_id == "null"
    assert seqs() == [(3, "null", False), (1, "ours", False)]
    assert suspended.head_object("a.txt").etag == "e3"


def test_a_delete_in_a_suspended_bucket_puts_a_null_marker_in_the_place_of_the_null_version(suspended):
    suspended.put_object("a.txt")

    deleted = suspended.delete_object("a.txt")

    assert (deleted.delete_marker, deleted.version_id, deleted.existed) == (True, "null", True)
    assert seqs() == [(3, "null", True), (1, "ours", False)]
    assert suspended.delete_object("a.txt").version_id == "null"
    assert seqs() == [(4, "null", True), (1, "ours", False)]


def test_the_null_marker_goes_by_its_id(suspended):
    suspended.delete_object("a.txt")

    suspended.delete_object("a.txt", "null")

    assert suspended.head_object("a.txt").etag == "first"


def test_versions_from_before_stay_when_a_bucket_is_versioned(plain):
    plain.put_object("a.txt", etag="old")
    Bucket.objects.filter(name="plain").update(versioning="enabled")

    put = plain.put_object("a.txt", etag="new")

    assert len(put.version_id) == 32
    assert seqs() == [(2, "ours", False), (1, "null", False)]
    assert plain.head_object("a.txt", "null").etag == "old"


# --- reads


def test_a_read_without_id_finds_no_key_under_a_marker(docs):
    docs.put_object("a.txt")
    docs.delete_object("a.txt")

    with pytest.raises(NoSuchKey) as caught:
        docs.head_object("a.txt")

    assert caught.value.delete_marker
    assert caught.value.code == "no_such_key"


def test_the_id_of_a_marker_is_not_read(docs):
    marker = docs.delete_object("a.txt")

    with pytest.raises(MethodNotAllowed) as caught:
        docs.head_object("a.txt", marker.version_id)

    assert caught.value.code == "method_not_allowed"


@pytest.mark.parametrize("version_id", ["null", "0" * 32, "elsewhere-7", "é", "x" * 1024])
def test_an_unknown_id_is_no_version(docs, version_id):
    docs.put_object("a.txt")

    for key in ("a.txt", "never.txt"):
        with pytest.raises(NoSuchVersion) as caught:
            docs.head_object(key, version_id)
    assert caught.value.code == "no_such_version"


def test_the_id_of_a_version_of_another_key_is_unknown(docs):
    other = docs.put_object("b.txt").version_id
    docs.put_object("a.txt")

    with pytest.raises(NoSuchVersion):
        docs.head_object("a.txt", other)


def test_a_version_whose_id_is_null_answers_to_no_other(plain):
    plain.put_object("a.txt")
    version = StorageVersion.objects.get()

    assert plain.head_object("a.txt", "null") == version
    with pytest.raises(NoSuchVersion):
        plain.head_object("a.txt", version.pk.hex)


def test_what_another_tenant_or_bucket_has_is_not_found(docs, plain, globex):
    docs.put_object("a.txt")

    with pytest.raises(NoSuchKey):
        plain.head_object("a.txt")
    with pytest.raises(NoSuchBucket):
        StorageObject.objects.for_tenant(globex).bucket("docs").head_object("a.txt")
    with pytest.raises(NoSuchBucket) as caught:
        StorageObject.objects.for_tenant(globex).bucket("docs").put_object("a.txt")
    assert caught.value.code == "no_such_bucket"


# --- restore


def test_a_restore_by_id_is_a_new_version(docs):
    first = docs.put_object("a.txt", etag="e1", size=3, metadata={"n": 1}, tags={"t": "1"}, content_type="text/plain")
    docs.put_object("a.txt", etag="e2")

    restored = docs.restore_object("a.txt", first.version_id)

    assert restored.seq == 3
    assert restored.version_id not in (first.version_id, "null")
    head = docs.head_object("a.txt")
    assert (head.etag, head.size, head.metadata, head.tags, head.content_type) == (
        "e1", 3, {"n": 1}, {"t": "1"}, "text/plain",
    )  # fmt: skip


def test_a_restore_by_id_lies_on_the_same_blob(docs, plain):
    first = docs.put_object("a.txt", b"one")
    docs.put_object("a.txt", b"two")

    docs.restore_object("a.txt", first.version_id)

    names = [version.blob_name for version in StorageVersion.objects.filter(bucket__name="docs").newest_first()]
    assert names[0] == names[2] != names[1]


def test_a_restore_without_id_takes_the_markers_away(docs):
    put = docs.put_object("a.txt", etag="e1")
    docs.delete_object("a.txt")
    docs.delete_object("a.txt")

    restored = docs.restore_object("a.txt")

    assert (restored.version_id, restored.seq, restored.etag) == (put.version_id, 1, "e1")
    assert seqs() == [(1, "ours", False)]
    assert restored.object.change_seq > put.object.change_seq
    assert docs.put_object("a.txt").seq == 4


def test_a_restore_without_id_of_a_live_key_changes_nothing(docs):
    put = docs.put_object("a.txt")

    restored = docs.restore_object("a.txt")

    assert (restored.version_id, restored.object.change_seq) == (put.version_id, put.object.change_seq)


def test_what_cannot_be_restored_says_why(docs):
    marker = docs.delete_object("deleted.txt")

    with pytest.raises(NoSuchKey) as caught:
        docs.restore_object("deleted.txt")
    assert caught.value.delete_marker
    with pytest.raises(NoSuchKey):
        docs.restore_object("never.txt")
    with pytest.raises(MethodNotAllowed):
        docs.restore_object("deleted.txt", marker.version_id)
    with pytest.raises(NoSuchVersion):
        docs.restore_object("deleted.txt", "0" * 32)
    with pytest.raises(NoSuchVersion):
        docs.restore_object("never.txt", "0" * 32)


def test_the_null_version_can_be_restored_onto_itself(plain):
    plain.put_object("a.txt", b"one")
    blob = StorageVersion.objects.get().blob_name

    plain.restore_object("a.txt", "null")

    [version] = StorageVersion.objects.all()
    assert (version.seq, version.blob_name) == (2, blob)


def test_a_restore_in_a_suspended_bucket_is_its_null_version(suspended):
    old = StorageVersion.objects.get().version_id
    suspended.put_object("a.txt", etag="null")

    restored = suspended.restore_object("a.txt", old)

    assert restored.version_id == "null"
    assert seqs() == [(3, "null", False), (1, "ours", False)]
    assert suspended.head_object("a.txt").etag == "first"
