from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest
from django.core.files.storage import storages

from storage_meta.errors import InvalidArgument, NoSuchBucket, StorageUnavailable
from storage_meta.importing import import_tree
from storage_meta.models import Bucket, PendingBlob, StorageObject, StorageQuota, StorageVersion
from tests.storage_meta.storages import Renames

pytestmark = pytest.mark.django_db


@pytest.fixture
def tree(tmp_path):
    """Ten files in folders."""
    top = tmp_path / "tree"
    for n in range(10):
        path = top / f"{n % 3}" / ("deep/er" if n % 2 else "") / f"{n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {n}")
    return top


def keys():
    return sorted(StorageObject.objects.live().values_list("object_key", flat=True))


def keys_of(tree, prefix=""):
    return sorted(prefix + path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())


def brought(files, tree, **options):
    return import_tree(files, tree, **{"workers": 1, **options})


def test_every_file_of_a_tree_is_stored_under_its_path(docs, tree):
    done = brought(docs, tree)

    assert (done.stored, done.skipped, done.failed) == (10, 0, [])
    assert done.size == sum(path.stat().st_size for path in tree.rglob("*.txt"))
    assert keys() == keys_of(tree)
    with docs.get_object("1/deep/er/7.txt") as stored:
        assert (stored.read(), stored.version.content_type) == (b"file 7", "text/plain")


def test_a_prefix_is_put_before_each_path_as_it_is(docs, tree):
    brought(docs, tree, prefix="2026/scan-")

    assert keys() == keys_of(tree, "2026/scan-")


def test_one_file_is_a_tree_of_one(docs, tree):
    assert brought(docs, tree / "0/0.txt").stored == 1
    assert keys() == ["0.txt"]


def test_what_is_there_is_skipped_and_what_changed_is_stored(docs, tree):
    brought(docs, tree)
    (tree / "0/0.txt").write_text("another")
    (tree / "2/2.txt").write_text("file X")  # of equal size
    (tree / "new").write_text("new")

    done = brought(docs, tree)

    assert (done.stored, done.skipped) == (3, 8)
    assert StorageVersion.objects.count() == 13


def test_what_was_deleted_is_stored_again(docs, tree):
    brought(docs, tree)
    docs.delete_object("0/0.txt")

    assert brought(docs, tree).stored == 1


def test_what_cannot_be_stored_is_listed_and_the_rest_goes_on(docs, tree, tmp_path):
    os.close(os.open(os.fsencode(tree) + b"/\xff\xfe.txt", os.O_CREAT))
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to("0/0.txt")
    (tree / "folder-link").symlink_to("0", target_is_directory=True)
    (tree / "broken").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tree)  # the path of a socket may not be long
        listener.bind("socket")
        os.chdir(tmp_path)

    done = brought(docs, tree)

    assert (done.stored, keys()) == (10, [key for key in keys_of(tree) if key not in ("link", "\udcff\udcfe.txt")])
    assert [name for name, _ in done.failed] == ["\\xff\\xfe.txt", "broken", "folder-link", "link", "pipe", "socket"]


def test_a_path_that_is_too_long_for_a_key_is_listed(docs, tree):
    deep = tree
    for _ in range(6):
        deep /= "d" * 200
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")

    done = brought(docs, tree)

    assert (done.stored, len(done.failed)) == (10, 1)
    assert "1,024" in done.failed[0][1]


def test_names_are_kept_byte_for_byte(docs, tmp_path):
    names = ["a b", "ü", "u\u0308", "%41", "-x", "tab\there", "line\nbreak", ".hidden", "{}", "a\\b"]
    (tmp_path / "tree").mkdir()
    for name in names:
        (tmp_path / "tree" / name).write_text(name)

    brought(docs, tmp_path / "tree")

    assert keys() == sorted(names)


def test_a_tree_may_be_deeper_than_calls_may_be_nested(docs, tmp_path):
    before = Path.cwd()
    (tmp_path / "tree").mkdir()
    os.chdir(tmp_path / "tree")
    try:
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    (tmp_path / "tree" / "file").write_text("x")

    try:
        assert brought(docs, tmp_path / "tree").stored == 1
    finally:  # nor may it be deeper for who cleans up after tests
        for depth in range(1200, 0, -1):
            os.rmdir(f"{tmp_path}/tree{'/d' * depth}")


def test_what_is_above_the_quota_is_listed(docs, tree, acme):
    StorageQuota.objects.create(tenant=acme, max_bytes=20)

    done = brought(docs, tree)

    assert (done.stored, len(done.failed)) == (3, 7)


@pytest.mark.parametrize("path", ["nowhere", "", "a\x00b"])
def test_a_path_that_is_not_there_is_refused(docs, tmp_path, path):
    with pytest.raises(InvalidArgument):
        brought(docs, tmp_path / path if path == "nowhere" else path)


@pytest.mark.parametrize("workers", [0, -1, 65])
def test_workers_are_few(docs, tree, workers):
    with pytest.raises(InvalidArgument, match="workers"):
        brought(docs, tree, workers=workers)


def test_a_bucket_that_is_not_there_is_refused(docs, tree):
    with pytest.raises(NoSuchBucket):
        brought(docs.bucket("attic"), tree)
    with pytest.raises(InvalidArgument):
        brought(type(docs).of(docs.tenant), tree)


def test_a_storage_that_fails_ends_the_import(docs, tree, settings, tmp_path):
    backend = f"{Renames.__module__}.{Renames.__name__}"
    fails = {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / "fails")}}
    settings.STORAGES = {**settings.STORAGES, "objects": fails}

    with pytest.raises(StorageUnavailable):
        brought(docs, tree)

    assert not StorageObject.objects.exists()


def test_how_far_it_is_is_told(docs, tree):
    told = []

    brought(docs, tree, progress=told.append)

    assert told == list(range(1, 11))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("workers", [2, 7])
def test_threads_store_each_file_once(docs, tmp_path, workers):
    top = tmp_path / "tree"
    for n in range(120):
        path = top / f"{n % 11}" / f"{n}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(n))
    told = []

    done = import_tree(docs, top, workers=workers, progress=told.append)

    assert (done.stored, StorageVersion.objects.count(), told) == (120, 120, list(range(1, 121)))
    sums = dict(StorageObject.objects.values_list("object_key", "checksum_sha256"))
    assert sums == {key: hashlib.sha256((top / key).read_bytes()).hexdigest() for key in keys_of(top)}
    assert not PendingBlob.objects.exists()
    assert import_tree(docs, top, workers=workers).skipped == 120


@pytest.mark.django_db(transaction=True)
def test_an_import_that_is_interrupted_goes_on_where_it_was(docs, tree):
    def interrupts(seen):
        if seen == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_tree(docs, tree, workers=2, progress=interrupts)
    before = StorageVersion.objects.count()
    done = import_tree(docs, tree, workers=2)

    assert 4 <= before < 10
    assert (done.stored, done.skipped) == (10 - before, before)
    assert keys() == keys_of(tree)


def test_a_handle_may_import_into_a_bucket_that_replaces(plain, tree, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        brought(plain, tree)
        (tree / "0/0.txt").write_text("another")
        brought(plain, tree)

    assert Bucket.objects.get().versioning == "unversioned"
    assert StorageVersion.objects.count() == 10
    assert sum(path.is_file() for path in Path(storages["objects"].location).rglob("*")) == 10
