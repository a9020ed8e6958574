from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from auditing.models import AuditLog
from controlplane.core import ids
from storage_meta import blobs, cleaning
from storage_meta.errors import NoSuchKey
from storage_meta.models import PendingBlob, StorageAudit, StorageObject, StorageVersion
from tests.conftest import ROOT
from tests.storage_meta.killed import LONG_AGO, NEW, OLD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

LATER = timedelta(hours=25)
NAMED = "killed puts"
"""What the server calls the connections of the killed; those of this process live on."""


@pytest.fixture
def killed_at(docs, plain, settings):
    """Kills processes that make a change at each of its steps; the names of the steps."""

    def run(change):
        location = settings.STORAGES["objects"]["OPTIONS"]["location"]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.storage_meta.killed", location),
                *(settings.DATABASES["default"]["NAME"], str(docs.tenant_id), change),
            ],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PGAPPNAME": NAMED},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        the_killed_are_gone()
        return done.stdout.splitlines()

    return run


def the_killed_are_gone():
    """Wait until the server has noticed, and undone what they had not committed."""
    theirs = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    with connection.cursor() as cursor:
        cursor.execute(theirs, [NAMED])
        while cursor.fetchone()[0]:
            cursor.execute(f"{theirs} AND pg_sleep(0.01) IS NOT NULL", [NAMED])


def content(files, key):
    try:
        with files.get_object(key) as stored:
            return stored.read()
    except NoSuchKey:
        return None


def blobs_there(settings):
    return sum(path.is_file() for path in Path(settings.STORAGES["objects"]["OPTIONS"]["location"]).rglob("*"))


def no_row_is_without_its_blob():
    report = StorageObject.objects.reconcile(grace=timedelta(0), verify="sha256")
    assert (report.missing, report.mismatched, report.heads) == ([], [], [])
    assert report.orphans == []  # notes know of all


def nothing_is_left_after_the_grace(settings):
    """Whoever comes first, the worker or reconciling: what one leaves the other removes."""
    report = StorageObject.objects.reconcile(now=ids.now() + LATER, delete=True)
    assert len(report.orphans) == report.removed
    while blobs.work_off(ids.now() + LATER):
        pass
    assert not PendingBlob.objects.exists()
    assert blobs_there(settings) == len(set(StorageVersion.objects.exclude(blob_name="").values_list("blob_name")))
    assert StorageObject.objects.reconcile(now=ids.now() + LATER, verify="sha256").clean


def test_a_put_that_is_killed_at_any_step_is_there_whole_or_not_at_all(killed_at, docs, settings):
    steps = killed_at("put")

    there = [content(docs, f"put/{number}") for number in range(1, len(steps) + 2)]
    committed = there.index(NEW)
    assert there == [None] * committed + [NEW] * (len(there) - committed)
    assert {"before save", "after piece 0", "after piece 1", "after save"} <= set(steps)
    assert {"INSERT", "DELETE", "WITH"} & {step.split()[1] for step in steps}
    assert any("cp_storage_meta_pendingblob" in step for step in steps[:committed])
    assert "before save" in steps[:committed]
    puts = StorageAudit.objects.filter(action="s3:PutObject", success=True)
    assert puts.count() == StorageVersion.objects.count() == len(there) - committed
    no_row_is_without_its_blob()
    nothing_is_left_after_the_grace(settings)


def test_a_put_that_replaces_leaves_the_old_or_the_new(killed_at, plain, settings):
    steps = killed_at("replace")

    there = [content(plain, f"replace/{number}") for number in range(1, len(steps) + 2)]
    committed = there.index(NEW)
    assert there == [OLD] * committed + [NEW] * (len(there) - committed)
    assert {"before delete of the blob", "after delete of the blob"} <= set(steps[committed:])
    no_row_is_without_its_blob()
    nothing_is_left_after_the_grace(settings)
    assert StorageVersion.objects.count() == len(there)


def test_a_delete_that_is_killed_leaves_all_or_nothing(killed_at, plain, settings):
    steps = killed_at("delete")

    there = [content(plain, f"delete/{number}") for number in range(1, len(steps) + 2)]
    committed = there.index(None)
    assert there == [OLD] * committed + [None] * (len(there) - committed)
    assert {"before delete of the blob", "after delete of the blob"} <= set(steps[committed:])
    no_row_is_without_its_blob()
    nothing_is_left_after_the_grace(settings)
    assert blobs_there(settings) == committed


def test_a_blob_that_a_copy_holds_stays_whenever_its_first_version_goes(killed_at, docs, settings):
    steps = killed_at("remove_copied")

    no_row_is_without_its_blob()
    nothing_is_left_after_the_grace(settings)
    copies = [content(docs, f"remove_copied/{number}/copy") for number in range(1, len(steps) + 2)]
    assert copies == [OLD] * (len(steps) + 1)


@pytest.mark.parametrize("how", ["clean", "drop"])
def test_a_clean_up_that_is_killed_at_any_step_has_recorded_what_went(killed_at, docs, past_months_are_removed, how):
    steps = killed_at(how)

    old = StorageAudit.objects.filter(created_at__lt=LONG_AGO + timedelta(days=365))
    recorded = [event.details["rows"] for event in AuditLog.objects.filter(action="storage.log_cleaned")]
    assert {step.split()[1] for step in steps} >= ({"WITH"} if how == "clean" else {"ALTER", "DROP"})
    assert old.count() + sum(recorded) == StorageObject.objects.filter(bucket__name="plain").count()
    cleaning.clean(ids.now(), days=365)
    assert not old.exists()
