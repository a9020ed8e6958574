"""Processes at once on one key, one tree, one folder: they share the database and the folder, and nothing else."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.core.ids import now, uuid7_at
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageObject, StorageVersion
from tests.storage_meta.processes import EACH, at_once, import_a_tree, put_one_key, reconcile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def blobs_there(settings):
    return [path for path in Path(settings.STORAGES["objects"]["OPTIONS"]["location"]).rglob("*") if path.is_file()]


def test_eight_processes_that_write_one_key_leave_dense_versions_and_one_head(acme, docs):
    outcomes = at_once(acme, put_one_key, 8)

    assert sorted(seq for one in outcomes for seq in one) == list(range(1, 8 * EACH + 1))
    assert all(one == sorted(one) for one in outcomes)
    head, top = StorageObject.objects.get(), StorageVersion.objects.newest_first().first()
    assert (head.current_version_id, head.next_seq, head.etag) == (top.id, 8 * EACH + 1, top.etag)
    assert len(set(StorageAudit.objects.values_list("sequencer", flat=True))) == 8 * EACH
    assert not PendingBlob.objects.exists()
    assert StorageObject.objects.reconcile(grace=timedelta(0), verify="sha256").clean


def test_eight_processes_that_replace_one_key_leave_one_version_and_one_blob(acme, docs, settings):
    Bucket.objects.all().delete()
    Bucket.objects.create(tenant=acme, name="docs")

    outcomes = at_once(acme, put_one_key, 8)

    assert sorted(seq for one in outcomes for seq in one) == list(range(1, 8 * EACH + 1))
    [version] = StorageVersion.objects.all()
    assert StorageObject.objects.get().current_version_id == version.id
    report = StorageObject.objects.reconcile(grace=timedelta(0), verify="sha256")
    assert (report.missing, report.mismatched, report.heads) == ([], [], [])
    assert len(blobs_there(settings)) == 1 + PendingBlob.objects.count()


@pytest.mark.parametrize("versioning", ["enabled", "unversioned"])
def test_two_importers_of_one_tree_at_once_leave_each_file_whole(acme, settings, tmp_path, versioning):
    Bucket.objects.create(tenant=acme, name="docs", versioning=versioning)
    top = tmp_path / "tree"
    for n in range(200):
        (top / f"{n % 7}").mkdir(parents=True, exist_ok=True)
        (top / f"{n % 7}" / f"{n}").write_bytes(os.urandom(n))

    outcomes = at_once(acme, import_a_tree, 2, top)

    assert [one.get("failed") for one in outcomes] == [[], []], outcomes
    assert all(one["stored"] + one["skipped"] == 200 for one in outcomes)
    docs = StorageObject.objects.for_tenant(acme).bucket("docs")
    assert len(docs.list_objects_v2().contents) == 200
    for path in (path for path in top.rglob("*") if path.is_file()):
        with docs.get_object(path.relative_to(top).as_posix()) as stored:
            assert stored.read() == path.read_bytes()
    stored = sum(one["stored"] for one in outcomes)
    assert StorageVersion.objects.count() == (stored if versioning == "enabled" else 200)
    report = StorageObject.objects.reconcile(grace=timedelta(0), verify="sha256")
    assert (report.missing, report.mismatched, report.heads) == ([], [], [])
    assert len(blobs_there(settings)) == StorageVersion.objects.count() + PendingBlob.objects.count()


def test_two_that_reconcile_beside_a_third_that_puts_remove_the_orphans_alone(acme, docs, settings):
    folder = Path(settings.STORAGES["objects"]["OPTIONS"]["location"])
    for n in range(50):
        docs.put_object(f"kept/{n}", b"kept")
    old = now() - timedelta(days=3)
    for _ in range(300):
        orphan = folder / acme.pk.hex / f"{old:%Y/%m/%d}" / uuid7_at(old).hex
        orphan.parent.mkdir(parents=True, exist_ok=True)
        orphan.write_bytes(b"orphan")

    put, *reports = sorted(at_once(acme, reconcile, 3, 3600), key=lambda one: not isinstance(one, list))

    assert put == [1] * EACH
    assert all((one["missing"], one["heads"]) == ([], []) for one in reports), reports
    found = {name for one in reports for name in one["orphans"]}
    assert len(found) == 300
    assert len(blobs_there(settings)) == 50 + EACH
    assert StorageObject.objects.reconcile(grace=timedelta(0), verify="sha256").clean
