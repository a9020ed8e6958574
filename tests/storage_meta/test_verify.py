"""storage_verify: all of it works here, what does not is told, and nothing is left behind."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from auditing.models import AuditLog
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageEvent, StorageObject, StorageVersion
from storage_meta.verifying import OPERATIONS, verify
from tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)


def test_all_of_it_works_here_and_nothing_is_left_behind(settings, acme):
    before = AuditLog.objects.count()
    out = StringIO()

    call_command("storage_verify", "--json", stdout=out, stderr=StringIO())

    found = json.loads(out.getvalue())
    assert [one for one in found if not one["passed"]] == []
    names = [one["name"] for one in found]
    assert names == [
        "extensions",
        "locale",
        "partitions",
        "bucket",
        "hook",
        *OPERATIONS,
        "deferred constraints",
        "blobs removed",
    ]
    assert list(Tenant.objects.all()) == [acme]
    assert AuditLog.objects.count() == before
    for model in (Bucket, StorageObject, StorageVersion, StorageAudit, StorageEvent, PendingBlob):
        assert not model.objects.exists()
    folder = Path(settings.STORAGES["objects"]["OPTIONS"]["location"])
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_what_does_not_work_is_told_and_the_rest_goes_on():
    out = StringIO()

    with pytest.raises(CommandError) as caught:
        call_command("storage_verify", "--storage", "nowhere", stdout=out, stderr=StringIO())

    assert caught.value.returncode == 1
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("ok ")
    assert any(line.startswith("FAILED  bucket: ") and "nowhere" in line for line in lines)
    assert not Tenant.objects.exists()


def test_a_missing_month_of_the_access_log_is_found(acme):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'cp_storage_meta_storageaudit'::regclass "
            "ORDER BY 1 DESC LIMIT 1"
        )
        last = cursor.fetchone()[0]
        cursor.execute(f"ALTER TABLE cp_storage_meta_storageaudit DETACH PARTITION {last}")
    try:
        [found] = [one for one in verify() if one.name == "partitions"]
    finally:
        call_command("audit_partitions", stdout=StringIO(), stderr=StringIO())

    assert "has no partition" in found.said
