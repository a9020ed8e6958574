from __future__ import annotations

import os
from datetime import timedelta

import boto3
import pytest
from django.core.files.storage import storages
from moto.server import ThreadedMotoServer

from controlplane.core import ids
from storage_meta import blobs
from storage_meta.errors import BlobMissing, ChecksumMismatch, InvalidRange, StorageUnavailable
from storage_meta.importing import import_tree
from storage_meta.models import PendingBlob, StorageObject, StorageVersion

MIB = 1024 * 1024
pytestmark = pytest.mark.django_db

OURS = "storage_meta.s3.S3Files"
ours_and_theirs = pytest.mark.parametrize("bucket", [OURS, "storages.backends.s3.S3Storage"], indirect=True)
"""By our backend, and by that of django-storages as it is."""


@pytest.fixture(scope="module")
def endpoint():
    """An S3 of our own on the loopback interface."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(request, endpoint, settings):
    """A bucket there, which is the storage of all buckets here, by our backend or the one that the test names."""
    access = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    resource = boto3.resource("s3", aws_access_key_id="id", aws_secret_access_key="secret", **access)
    made = resource.create_bucket(Bucket=f"b{ids.uuid7().hex}")
    options = {**access, "bucket_name": made.name, "access_key": "id", "secret_key": "secret", "location": "cp/objects"}
    settings.STORAGES = {
        **settings.STORAGES,
        "objects": {"BACKEND": getattr(request, "param", OURS), "OPTIONS": options},
    }
    return made


def names(bucket):
    return sorted(found.key.removeprefix("cp/objects/") for found in bucket.objects.all())


def name_of(put):
    return StorageVersion.objects.get(pk=put.object.current_version_id).blob_name


@ours_and_theirs
def test_what_was_put_is_read_whole_and_in_part(docs, bucket):
    for size in (0, 1, 5 * MIB, 6 * MIB):
        body = os.urandom(size)
        put = docs.put_object("a", iter([body]))
        assert docs.get_object("a").read() == body
        assert name_of(put) in names(bucket)

    assert docs.get_object("a", range=f"bytes={MIB}-{3 * MIB}").read() == body[MIB : 3 * MIB + 1]
    assert docs.get_object("a", range="bytes=-5").read() == body[-5:]
    with pytest.raises(InvalidRange):
        docs.get_object("a", range=f"bytes={6 * MIB}-")


def test_a_body_that_breaks_off_leaves_nothing(docs, bucket):
    def breaking():
        yield b"x" * 12 * MIB
        raise ConnectionResetError

    with pytest.raises(Exception, match="broke off"):
        docs.put_object("a", breaking())

    assert names(bucket) == []
    assert not PendingBlob.objects.exists()


def test_a_removed_version_takes_its_blob_along(plain, bucket, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        plain.put_object("a", b"1")
        plain.put_object("a", b"2")
        plain.put_object("b", b"3")
        plain.delete_object("b")

    assert [bucket.Object(f"cp/objects/{name}").get()["Body"].read() for name in names(bucket)] == [b"2"]
    assert not PendingBlob.objects.exists()


def test_a_missing_and_a_changed_blob_are_told(docs, bucket):
    missing, changed = docs.put_object("a", b"x"), docs.put_object("b", b"x")
    bucket.Object(f"cp/objects/{name_of(missing)}").delete()
    bucket.Object(f"cp/objects/{name_of(changed)}").put(Body=b"y")

    with pytest.raises(BlobMissing):
        docs.get_object("a").read()
    with pytest.raises(ChecksumMismatch):
        docs.get_object("b").read()


@ours_and_theirs
def test_what_was_done_behind_its_back_is_found_exactly(docs, acme, bucket):
    puts = [docs.put_object(f"{n}", f"{n}".encode()) for n in range(6)]
    two_days_ago = ids.now() - timedelta(days=2)
    orphan = f"{acme.pk.hex}/{two_days_ago:%Y/%m/%d}/{ids.uuid7_at(two_days_ago).hex}"
    bucket.Object(f"cp/objects/{orphan}").put(Body=b"x")
    bucket.Object("elsewhere/of/others").put(Body=b"x")
    bucket.Object(f"cp/objects/{name_of(puts[1])}").delete()
    bucket.Object(f"cp/objects/{name_of(puts[2])}").put(Body=b"x")

    report = StorageObject.objects.reconcile(verify="sha256", delete=True)

    assert (report.orphans, report.missing, report.mismatched, report.heads) == (
        [orphan],
        [name_of(puts[1])],
        [name_of(puts[2])],
        [],
    )
    assert orphan not in names(bucket)
    assert StorageObject.objects.reconcile(verify="size").orphans == []


def test_a_tree_is_imported(docs, bucket, tmp_path):
    for n in range(5):
        path = tmp_path / f"tree/{n % 2}/{n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{n}")

    done = import_tree(docs, tmp_path / "tree", workers=1)

    assert (done.stored, len(names(bucket))) == (5, 5)
    assert docs.get_object("1/3.txt").read() == b"3"


@ours_and_theirs
def test_an_endpoint_that_is_away_is_unavailable(docs, bucket, settings):
    put = docs.put_object("a", b"x")
    away = {**settings.STORAGES["objects"]}
    away["OPTIONS"] = {**away["OPTIONS"], "endpoint_url": "http://127.0.0.1:9", "client_config": once()}
    settings.STORAGES = {**settings.STORAGES, "objects": away}

    with pytest.raises(StorageUnavailable):
        docs.put_object("b", b"x")
    with pytest.raises(StorageUnavailable):
        docs.get_object("a")
    with pytest.raises(StorageUnavailable):
        StorageObject.objects.reconcile()
    assert blobs.work_off(ids.now() + timedelta(days=2)) is False

    assert PendingBlob.objects.get().blob_name != name_of(put)


def test_a_bucket_that_is_not_there_is_unavailable(docs, bucket):
    bucket.delete()

    with pytest.raises(StorageUnavailable):
        docs.put_object("a", b"x")


def once():
    """Of botocore: no second try, so that the test need not wait for it."""
    from botocore.config import Config

    return Config(retries={"total_max_attempts": 1}, connect_timeout=1)


def test_an_object_is_read_as_a_stream(docs, bucket):
    docs.put_object("a", os.urandom(6 * MIB))
    name = StorageVersion.objects.get().blob_name

    with storages["objects"].open(name) as file:
        file.seek(6 * MIB - 4)
        assert len(file.read(2)) == 2
        assert file.size == 6 * MIB
        assert file.tell() == 6 * MIB - 2
        assert (len(file.read()), file.read(1)) == (2, b"")
