from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
import tracemalloc
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction

from controlplane.core import ids
from storage_meta import blobs
from storage_meta.errors import BlobMissing, ChecksumMismatch, InvalidArgument, NoSuchKey, StorageUnavailable
from storage_meta.models import PendingBlob, StorageVersion
from tests.races import behind, together
from tests.storage_meta.storages import Hangs, KeepsAll

MIB = 1024 * 1024
pytestmark = pytest.mark.django_db


md5 = partial(hashlib.md5, usedforsecurity=False)


def content(received):
    with blobs.open_blob(received.storage, received.blob_name) as file:
        return file.read()


def keep(received):
    with transaction.atomic(), connection.cursor() as cursor:
        blobs.kept(cursor, received)


def path_of(received):
    return Path(storages[received.storage].path(received.blob_name))


def files(tmp_path):
    return [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.fixture
def faulty(settings, tmp_path):
    """Makes the storage of one fault that of all buckets."""

    def choose(name):
        backend = {"BACKEND": f"tests.storage_meta.storages.{name}", "OPTIONS": {"location": str(tmp_path / name)}}
        settings.STORAGES = {**settings.STORAGES, "objects": backend}

    return choose


@pytest.fixture
def hanging(faulty, settings):
    """The storage of all buckets answers nothing while the test lasts."""
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STORAGE_TIMEOUT": 0.05}
    Hangs.let_go.clear()
    faulty("Hangs")
    yield
    Hangs.let_go.set()


# --- what is written


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 9 * MIB + 7])
def test_a_body_is_kept_byte_for_byte_and_measured(acme, size):
    body = os.urandom(size)

    received = blobs.receive(acme.pk, "", body)

    assert content(received) == body
    assert received.size == size
    assert received.etag == md5(body).hexdigest()
    assert received.checksum_sha256 == hashlib.sha256(body).hexdigest()
    assert received.storage == "objects"


@pytest.mark.parametrize(
    "give",
    [
        bytes,
        bytearray,
        memoryview,
        io.BytesIO,
        ContentFile,
        lambda body: SimpleUploadedFile("a.bin", body),
        lambda body: File(io.BytesIO(body)),
        lambda body: iter([body]),
        lambda body: [body[:1], b"", body[1:]],
        lambda body: (body[n : n + 7] for n in range(0, len(body), 7)),
        lambda body: (bytearray(body[n : n + 3 * MIB]) for n in range(0, len(body), 3 * MIB)),
    ],
)
def test_a_body_is_bytes_a_file_or_an_iterator(acme, give):
    body = os.urandom(MIB + 4321)

    assert content(blobs.receive(acme.pk, "", give(body))) == body


def test_a_view_with_gaps_is_a_body_too(acme):
    assert content(blobs.receive(acme.pk, "", memoryview(b"abcdef")[::2])) == b"ace"


def test_a_file_is_read_from_where_it_stands_but_a_django_file_from_its_beginning(acme):
    plain, of_django = io.BytesIO(b"abcdef"), ContentFile(b"abcdef")
    plain.read(3)
    of_django.read(3)

    assert content(blobs.receive(acme.pk, "", plain)) == b"def"
    assert content(blobs.receive(acme.pk, "", of_django)) == b"abcdef"


def test_a_pipe_that_cannot_be_rewound_is_a_body(acme):
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)

    with os.fdopen(reader, "rb") as file:
        assert content(blobs.receive(acme.pk, "", file)) == b"through a pipe"


def test_the_blob_is_named_after_tenant_day_and_its_own_id(acme):
    received = blobs.receive(acme.pk, "", b"x")

    tenant, year, month, day, own = received.blob_name.split("/")
    assert tenant == acme.pk.hex
    assert f"{ids.instant_of(ids.UUID(own)):%Y-%m-%d}" == f"{year}-{month}-{day}"


def test_a_local_blob_is_for_its_owner_alone(acme, settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "objects": {
            **settings.STORAGES["objects"],
            "OPTIONS": {"location": settings.STORAGES["objects"]["OPTIONS"]["location"]},
        },
    }

    received = blobs.receive(acme.pk, "", b"x")

    assert stat.S_IMODE(path_of(received).stat().st_mode) == 0o600


def test_the_folders_of_the_projects_own_storage_are_for_their_owner_alone(acme):
    received = blobs.receive(acme.pk, "", b"x")

    assert {stat.S_IMODE(folder.stat().st_mode) for folder in list(path_of(received).parents)[:5]} == {0o700}


def test_a_local_blob_is_flushed_with_the_folders_that_lead_to_it(acme, monkeypatch):
    flushed, fsync = [], os.fsync

    def noted(descriptor):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    first, second = (path_of(blobs.receive(acme.pk, "", b"x")) for _ in range(2))

    assert flushed[:2] == [first, first.parent]
    assert set(flushed[2:7]) == set(list(first.parents)[1:6])  # up to the folder that holds the storage's own
    assert flushed[7:] == [second, second.parent]


# --- the etag


@pytest.mark.parametrize("part_size", [1, 5, 7, 8])
def test_the_etag_of_a_body_in_parts_is_that_of_a_multipart_upload(acme, part_size):
    body = b"twelve bytes"
    parts = [md5(body[n : n + part_size]).digest() for n in range(0, len(body), part_size)]

    received = blobs.receive(acme.pk, "", body, part_size=part_size)

    assert received.etag == f"{md5(b''.join(parts)).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize("part_size", [12, 13, 10**12])
def test_a_body_that_fits_into_one_part_has_a_plain_etag(acme, part_size):
    received = blobs.receive(acme.pk, "", b"twelve bytes", part_size=part_size)

    assert received.etag == md5(b"twelve bytes").hexdigest()


def test_parts_may_be_longer_or_shorter_than_what_is_read_at_a_time(acme):
    body = os.urandom(3 * MIB + 5)
    for part_size in (MIB, MIB + 1, 2 * MIB - 1, 1000):
        parts = [md5(body[n : n + part_size]).digest() for n in range(0, len(body), part_size)]

        etag = blobs.receive(acme.pk, "", body, part_size=part_size).etag

        assert etag == f"{md5(b''.join(parts)).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize("part_size", [0, -1, 1.5, "5", True])
def test_a_part_size_is_a_positive_number(acme, part_size):
    with pytest.raises(InvalidArgument, match="part_size"):
        blobs.receive(acme.pk, "", b"x", part_size=part_size)

    assert not PendingBlob.objects.exists()


# --- wrong bodies


def closed():
    file = io.BytesIO(b"x")
    file.close()
    return file


def breaking():
    yield b"x" * MIB * 3
    raise ConnectionResetError("the caller is gone")


@pytest.mark.parametrize(
    "body",
    [
        "text",
        7,
        {"a": b"b"},
        Path("README.md"),
        object(),
        closed(),
        closed,
        io.StringIO("text"),
        io.StringIO(""),
        ["text"],
        [b"x", None],
        [b"x", "text"],
        [1, 2],
        breaking(),
        tempfile.SpooledTemporaryFile(mode="w"),  # noqa: SIM115
    ],
    ids=lambda body: type(body).__name__,
)
def test_a_wrong_body_is_refused_and_leaves_nothing(acme, body, tmp_path):
    with pytest.raises(InvalidArgument):
        blobs.receive(acme.pk, "", body)

    assert not PendingBlob.objects.exists()
    assert files(tmp_path) == []


def test_an_error_of_ours_passes_through_a_body(acme):
    def other_blob():
        yield b"x"
        raise ChecksumMismatch(message="The source is broken.")

    with pytest.raises(ChecksumMismatch):
        blobs.receive(acme.pk, "", other_blob())


def test_a_put_that_is_interrupted_leaves_nothing(acme, tmp_path):
    def interrupted():
        yield b"x" * 3 * MIB
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blobs.receive(acme.pk, "", interrupted())

    assert not PendingBlob.objects.exists()
    assert files(tmp_path) == []


# --- storages that fail


@pytest.mark.parametrize("fault", ["Renames", "BreaksOff", "LeavesTheRest"])
def test_a_storage_that_fails_is_unavailable_and_nothing_is_left(acme, faulty, fault, tmp_path):
    faulty(fault)

    with pytest.raises(StorageUnavailable, match="objects"):
        blobs.receive(acme.pk, "", os.urandom(12 * MIB))

    assert not PendingBlob.objects.exists()
    assert files(tmp_path) == []


def test_a_storage_that_hangs_is_unavailable_and_the_note_stays_for_the_worker(acme, hanging):
    for size in (1, 12 * MIB):
        with pytest.raises(StorageUnavailable, match="does not answer"):
            blobs.receive(acme.pk, "", bytes(size))

    assert set(PendingBlob.objects.values_list("reason", flat=True)) == {"upload"}
    assert PendingBlob.objects.count() == 2


def test_reading_from_a_storage_that_hangs_is_unavailable(hanging):
    with pytest.raises(StorageUnavailable, match="does not answer"):
        blobs.open_blob("objects", "a/2026/01/01/b")


def test_an_alias_that_is_not_configured_is_unavailable(acme):
    with pytest.raises(StorageUnavailable, match="'attic'"):
        blobs.receive(acme.pk, "attic", b"x")

    assert not PendingBlob.objects.exists()


def test_a_blob_that_is_gone_is_told(acme):
    received = blobs.receive(acme.pk, "", b"x")
    path_of(received).unlink()

    with pytest.raises(BlobMissing):
        blobs.open_blob(received.storage, received.blob_name)


# --- notes


def test_an_upload_is_noted_until_its_row_is_there(acme):
    received = blobs.receive(acme.pk, "", b"x")
    noted = PendingBlob.objects.get()

    keep(received)

    assert (noted.tenant_id, noted.storage_backend) == (acme.pk, "objects")
    assert (noted.blob_name, noted.reason) == (received.blob_name, "upload")
    assert not PendingBlob.objects.exists()
    assert content(received) == b"x"


def test_a_put_fails_once_its_note_is_gone(acme):
    received = blobs.receive(acme.pk, "", b"x")
    keep(received)

    with pytest.raises(StorageUnavailable, match="longer than a day"):
        keep(received)


def test_what_was_dropped_is_gone_with_its_note(acme):
    received = blobs.receive(acme.pk, "", b"x")

    blobs.dropped(received)

    assert not path_of(received).exists()
    assert not PendingBlob.objects.exists()


def test_what_was_kept_although_the_answer_was_lost_is_not_dropped(acme):
    received = blobs.receive(acme.pk, "", b"x")
    keep(received)

    blobs.dropped(received)

    assert content(received) == b"x"


@pytest.mark.django_db(transaction=True)
def test_the_note_outlives_a_rollback_of_the_caller(acme):
    with transaction.atomic():
        received = blobs.receive(acme.pk, "", b"x")
        keep(received)
        transaction.set_rollback(True)

    assert PendingBlob.objects.get().blob_name == received.blob_name


# --- the worker


def later(**of):
    return ids.now() + timedelta(**of)


def test_an_upload_that_nobody_finished_is_removed_after_a_day(acme):
    received = blobs.receive(acme.pk, "", b"x")

    assert blobs.work_off(later(hours=23)) is False
    assert content(received) == b"x"
    assert blobs.work_off(later(hours=25)) is False
    assert not path_of(received).exists()
    assert not PendingBlob.objects.exists()


def test_a_put_that_comes_after_its_upload_was_given_up_is_refused(acme):
    received = blobs.receive(acme.pk, "", b"x")
    blobs.work_off(later(hours=25))

    with pytest.raises(StorageUnavailable):
        keep(received)


def removals(acme, number):
    found = [blobs.receive(acme.pk, "", b"x") for _ in range(number)]
    PendingBlob.objects.update(reason="delete")
    return found


def test_the_worker_removes_a_limited_number_at_a_time_and_says_that_there_are_more(acme, tmp_path):
    removals(acme, 5)

    more = [blobs.work_off(later(seconds=1), limit=2) for _ in range(3)]

    assert more == [True, True, False]
    assert files(tmp_path) == []


def test_a_blob_that_is_gone_already_is_no_failure(acme):
    [received] = removals(acme, 1)
    path_of(received).unlink()

    blobs.work_off(later(seconds=1))

    assert not PendingBlob.objects.exists()


def test_blobs_that_cannot_be_removed_do_not_keep_the_others(acme, faulty):
    faulty("KeepsAll")
    found = removals(acme, 5)
    KeepsAll.kept = {received.blob_name for received in found[:2]}

    assert blobs.work_off(later(seconds=1)) is False

    assert set(PendingBlob.objects.values_list("blob_name", flat=True)) == KeepsAll.kept


def test_a_storage_that_is_away_is_left_alone_for_the_run(acme, hanging, settings):
    PendingBlob.objects.bulk_create(
        PendingBlob(tenant_id=acme.pk, storage_backend=alias, blob_name=f"{n}", reason="delete", started_at=ids.now())
        for n, alias in enumerate(["objects"] * 6 + ["attic"] * 2)
    )

    assert blobs.work_off(later(seconds=1), limit=6) is False

    assert PendingBlob.objects.count() == 8


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_remove_each_blob_without_error(acme, tmp_path):
    removals(acme, 20)

    outcomes = together(*[lambda: blobs.work_off(later(seconds=1))] * 3)

    assert outcomes == [False] * 3
    assert not PendingBlob.objects.exists()
    assert files(tmp_path) == []


# --- blobs whose versions go


def names():
    return set(StorageVersion.objects.exclude(blob_name="").values_list("blob_name", flat=True))


def there():
    storage = storages["objects"]
    return {str(path.relative_to(storage.location)) for path in files(Path(storage.location))}


def test_a_blob_goes_after_its_version_at_once(plain, django_capture_on_commit_callbacks):
    plain.put_object("a", b"1")
    with django_capture_on_commit_callbacks() as callbacks:
        plain.put_object("a", b"2")
        plain.delete_object("b")
    assert len(there()) == 2

    for callback in callbacks:
        callback()

    assert there() == names()
    assert not PendingBlob.objects.exists()


def test_a_blob_stays_while_any_version_refers_to_it(docs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        first = docs.put_object("a", b"x")
        copy = docs.copy_object("a", "b")
        docs.delete_object("a", first.version_id)
    assert there() == names()
    assert len(there()) == 1
    assert not PendingBlob.objects.exists()

    with django_capture_on_commit_callbacks(execute=True):
        docs.delete_object("b", copy.version_id)
    assert there() == set()


def test_rows_that_go_in_psql_do_not_strand_their_blobs(docs):
    docs.put_object("a", b"x")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_storage_meta_storageversion")
        cursor.execute("DELETE FROM cp_storage_meta_storageobject")

    blobs.work_off(later(seconds=1))

    assert there() == set()
    assert not PendingBlob.objects.exists()


def test_a_storage_that_is_away_does_not_keep_a_delete(plain, faulty, django_capture_on_commit_callbacks):
    faulty("KeepsAll")
    plain.put_object("a", b"x")
    KeepsAll.kept = names()

    with django_capture_on_commit_callbacks(execute=True):
        plain.delete_object("a")

    assert PendingBlob.objects.get().blob_name in KeepsAll.kept
    KeepsAll.kept = set()
    blobs.work_off(later(minutes=2))
    assert not PendingBlob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_copies_and_deletes_at_once_never_lose_a_blob_that_is_needed(docs, plain):
    def copies():
        for n in range(10):
            with suppress(NoSuchKey):
                plain.copy_object("a", f"b{n}")

    def replaces():
        for n in range(10):
            plain.put_object("a", bytes([n]))

    def deletes():
        for n in range(10):
            plain.delete_object("a" if n % 3 else f"b{n}")

    def works_off():
        for _ in range(10):
            blobs.work_off(later(seconds=1))

    outcomes = together(copies, replaces, deletes, works_off, works_off)
    blobs.work_off(later(seconds=1))

    assert outcomes == [None] * 5
    assert there() == names()
    assert not PendingBlob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_put_and_the_worker_that_gives_it_up_never_both_win(acme, other_connection):
    received = blobs.receive(acme.pk, "", b"x")

    worker = behind(lambda: keep(received), lambda: blobs.work_off(later(hours=25)), other_connection)

    assert worker is False
    assert content(received) == b"x"
    assert not PendingBlob.objects.exists()


# --- what it takes


def test_no_more_of_a_long_body_is_held_than_eight_mebibytes(acme):
    body = (bytes(MIB) for _ in range(96))
    tracemalloc.start()

    blobs.receive(acme.pk, "", body)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * MIB


def test_no_more_of_a_long_download_is_held_than_eight_mebibytes(docs):
    docs.put_object("a", (bytes(MIB) for _ in range(96)))
    tracemalloc.start()

    with docs.get_object("a") as stored:
        assert sum(map(len, stored)) == 96 * MIB

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * MIB
