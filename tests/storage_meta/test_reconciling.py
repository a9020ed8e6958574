from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, transaction

from controlplane.core import ids
from storage_meta import blobs
from storage_meta.errors import InvalidArgument, StorageUnavailable
from storage_meta.models import Bucket, PendingBlob, StorageObject, StorageVersion
from tests.factories import BucketFactory, StorageObjectFactory
from tests.races import together

pytestmark = pytest.mark.django_db

NOTHING = {"orphans": [], "missing": [], "mismatched": [], "heads": []}
AT_ONCE = timedelta(0)


def reconcile(**options):
    return StorageObject.objects.reconcile(**options)


def findings(report):
    return {kind: getattr(report, kind) for kind in NOTHING}


def name_of(put):
    return StorageVersion.objects.get(pk=put.object.current_version_id).blob_name


def path_of(name):
    return Path(storages["objects"].path(name))


def orphan(tenant, age, alias="objects"):
    """Bytes of a tenant that are so old by their name, and known to nobody."""
    own = ids.uuid7_at(ids.now() - age)
    name = f"{tenant.pk.hex}/{ids.now() - age:%Y/%m/%d}/{own.hex}"
    assert storages[alias].save(name, ContentFile(b"x")) == name
    return name


def test_what_is_in_order_is_no_finding(docs):
    for n in range(5):
        docs.put_object(f"{n}", b"x" * n)
    docs.copy_object("1", "copy")
    docs.delete_object("2")
    docs.put_object("elsewhere", size=3, etag="abc")

    for verify in (None, "size", "sha256"):
        report = reconcile(grace=AT_ONCE, verify=verify)
        assert findings(report) == NOTHING
        assert (report.blobs, report.versions, report.clean) == (5, 5, True)


def test_where_nothing_was_ever_stored_nothing_is_found():
    assert findings(reconcile()) == NOTHING


def test_what_was_done_behind_its_back_is_found_exactly(docs, acme):
    puts = [docs.put_object(f"{n:02}", f"{n}".encode()) for n in range(20)]
    old = [orphan(acme, timedelta(days=age)) for age in (2, 30, 400)]
    names = [name_of(put) for put in puts]
    for name in (names[3], names[7], names[19]):
        path_of(name).unlink()
    path_of(names[4]).write_bytes(b"longer than before")
    path_of(names[5]).write_bytes(b"6")

    report = reconcile(verify="sha256")

    assert findings(report) == {
        "orphans": sorted(old),
        "missing": sorted([names[3], names[7], names[19]]),
        "mismatched": sorted([names[4], names[5]]),
        "heads": [],
    }
    assert not report.clean
    assert findings(reconcile(verify="size"))["mismatched"] == [names[4]]
    assert findings(reconcile())["mismatched"] == []


def test_rows_that_are_gone_leave_orphans(docs):
    names = [name_of(docs.put_object(f"{n}", b"x")) for n in range(3)]
    with transaction.atomic(), connection.cursor() as cursor:  # as a restored backup of the database has it
        cursor.execute("DELETE FROM cp_storage_meta_storageversion")
        cursor.execute("DELETE FROM cp_storage_meta_storageobject")
        cursor.execute("DELETE FROM cp_storage_meta_pendingblob")

    assert reconcile(grace=AT_ONCE).orphans == sorted(names)


def test_orphans_are_removed_on_demand_alone_and_once(docs, acme):
    kept = name_of(docs.put_object("a", b"x"))
    lost = name_of(docs.put_object("b", b"x"))
    path_of(lost).unlink()
    old = orphan(acme, timedelta(days=2))

    assert (reconcile().orphans, path_of(old).exists()) == ([old], True)
    first, second = reconcile(delete=True), reconcile(delete=True)

    assert (first.orphans, first.removed, first.missing) == ([old], 1, [lost])
    assert (second.orphans, second.removed, second.missing) == ([], 0, [lost])
    assert (path_of(old).exists(), path_of(kept).exists()) == (False, True)
    assert StorageVersion.objects.count() == 2


def test_what_was_put_in_order_leaves_nothing_to_see_to(acme):
    orphan(acme, timedelta(days=2))

    assert not reconcile().clean
    assert reconcile(delete=True).clean
    assert reconcile().clean


def test_young_bytes_are_no_orphans(acme):
    names = {age: orphan(acme, timedelta(hours=age)) for age in (1, 23, 25, 49)}

    assert reconcile().orphans == sorted([names[25], names[49]])
    assert reconcile(grace=timedelta(days=2)).orphans == [names[49]]
    assert len(reconcile(grace=AT_ONCE).orphans) == 4


def test_an_upload_that_is_not_finished_is_no_orphan_whatever_the_grace(acme):
    received = blobs.receive(acme.pk, "", b"x")

    report = reconcile(grace=AT_ONCE, delete=True)

    assert report.orphans == []
    assert path_of(received.blob_name).exists()


def test_a_note_older_than_a_day_protects_nothing(acme):
    received = blobs.receive(acme.pk, "", b"x")

    later = ids.now() + timedelta(hours=25)

    assert reconcile(now=later).orphans == [received.blob_name]


def test_a_tenant_is_compared_alone(docs, acme, globex):
    lost = name_of(docs.put_object("a", b"x"))
    path_of(lost).unlink()
    ours, theirs = orphan(acme, timedelta(days=2)), orphan(globex, timedelta(days=2))

    assert findings(reconcile(tenant=acme)) == {**NOTHING, "orphans": [ours], "missing": [lost]}
    assert findings(reconcile(tenant=globex)) == {**NOTHING, "orphans": [theirs]}
    assert reconcile(tenant=globex, delete=True).removed == 1
    assert path_of(ours).exists()


def test_bytes_of_a_tenant_without_any_row_are_found(acme):
    """Erasure takes rows first."""
    name = orphan(type(acme)(pk=ids.uuid7()), timedelta(days=2))

    assert reconcile().orphans == [name]


def test_files_that_are_not_named_as_ours_are_none_of_our_business(acme):
    storage = storages["objects"]
    day = f"{acme.pk.hex}/2020/01/01"
    foreign = [
        "readme.txt",
        f"{acme.pk.hex}/notes",
        f"{acme.pk.hex}/2020/x/01/a",
        f"{day}/not-an-id",
        f"{day}/{'g' * 32}",
    ]
    for name in (*foreign, f"{day}/{'f' * 32}"):  # the last is of a year that no clock shows
        storage.save(name, ContentFile(b"x"))

    assert findings(reconcile(grace=AT_ONCE, delete=True)) == NOTHING


def test_all_storages_that_buckets_or_versions_name_are_compared(docs, acme, settings, tmp_path):
    shed = {**settings.STORAGES["objects"], "OPTIONS": {"location": str(tmp_path / "shed")}}
    settings.STORAGES = {**settings.STORAGES, "shed": shed}
    Bucket.objects.filter(name="docs").update(storage="shed")
    name = name_of(docs.put_object("a", b"x"))
    Bucket.objects.filter(name="docs").update(storage="")
    here, there = orphan(acme, timedelta(days=3)), orphan(acme, timedelta(days=2), "shed")

    report = reconcile()
    assert findings(report) == {**NOTHING, "orphans": [here, there]}
    assert report.blobs == 3

    os.rename(storages["shed"].path(name), tmp_path / "taken")
    storages["objects"].save(name, ContentFile(b"x"))
    assert findings(reconcile(grace=AT_ONCE)) == {**NOTHING, "orphans": sorted([here, there, name]), "missing": [name]}


def test_heads_unlike_their_version_are_found(docs):
    heads = {key: docs.put_object(key, b"x", metadata={"n": 1}).object for key in "abc"}
    StorageObject.objects.filter(object_key="b").update(size=2)
    StorageObject.objects.filter(object_key="c").update(metadata={"n": 2})

    assert reconcile().heads == sorted(str(heads[key].pk) for key in "bc")


def test_thousands_are_compared_in_pages(acme):
    bucket = BucketFactory(tenant=acme)
    day = f"{acme.pk.hex}/2026/01/02"
    begin = datetime(2026, 1, 2, tzinfo=UTC)
    names = [f"{day}/{ids.uuid7_at(begin + timedelta(milliseconds=n)).hex}" for n in range(2500)]
    for n, name in enumerate(names):
        if n % 10:
            path = path_of(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    head = StorageObjectFactory(bucket=bucket, tenant=acme, storage_backend="objects", size=0)
    StorageVersion.objects.bulk_create(
        StorageVersion(
            tenant=acme, object=head, bucket=bucket, seq=-n, size=0, storage_backend="objects", blob_name=name
        )
        for n, name in enumerate(names, 1)
        if n % 7
    )
    seen = []

    report = reconcile(progress=seen.append)

    known = {name for n, name in enumerate(names, 1) if n % 7}
    there = {name for n, name in enumerate(names) if n % 10}
    assert report.orphans == sorted(there - known)
    assert report.missing == sorted(known - there)
    assert (report.blobs, report.versions) == (len(there), len(known))
    assert seen == sorted(seen)
    assert seen[-1] == max(len(there), len(known))


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "md5"},
        {"verify": ""},
        {"verify": []},
        {"grace": timedelta(-1)},
        {"grace": 7},
        {"grace": timedelta.max},
        {"tenant": "acme"},
        {"now": "today"},
        {"now": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"now": datetime.min.replace(tzinfo=UTC)},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options):
    with pytest.raises(InvalidArgument):
        reconcile(**options)


def test_a_storage_that_is_not_configured_any_more_is_told(docs):
    docs.put_object("a", b"x")
    PendingBlob.objects.create(
        tenant_id=docs.tenant_id, storage_backend="attic", blob_name="x", reason="delete", started_at=ids.now()
    )

    with pytest.raises(StorageUnavailable, match="'attic'"):
        reconcile()


@pytest.mark.django_db(transaction=True)
def test_it_is_safe_beside_puts_and_deletes(docs, plain):
    stop = Event()

    def works(files, letter):
        for n in range(15):
            files.put_object(f"{letter}{n % 3}", b"x" * n)
            if n % 4 == 3:
                files.delete_object(f"{letter}{n % 3}")
        stop.set()

    def compares():
        found = []
        while not stop.is_set() or not found:
            found.append(reconcile(grace=AT_ONCE, delete=True, verify="sha256"))
        return found

    *workers, reports = together(
        lambda: works(docs, "a"), lambda: works(plain, "a"), lambda: works(plain, "b"), compares
    )

    assert workers == [None] * 3
    assert [findings(report) for report in reports] == [NOTHING] * len(reports)
    assert findings(reconcile(grace=AT_ONCE, verify="sha256")) == NOTHING
    assert reconcile(grace=AT_ONCE).blobs == StorageVersion.objects.exclude(blob_name="").count()
