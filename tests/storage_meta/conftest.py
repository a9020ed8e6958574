from __future__ import annotations

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from controlplane.core import partitions
from controlplane.core.ids import now
from storage_meta import cleaning
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageObject


@pytest.fixture(autouse=True)
def objects_lie_in_a_folder_of_the_test(settings, tmp_path):
    """Whatever a test stores, no other test and no developer finds it."""
    objects = {**settings.STORAGES["objects"]}
    objects["OPTIONS"] = {**objects.get("OPTIONS", {}), "location": str(tmp_path / "objects")}
    settings.STORAGES = {**settings.STORAGES, "objects": objects}


@pytest.fixture(autouse=True)
def nothing_is_left_beside_the_transaction(request):
    """What is committed beside a test's transaction, as a refusal within another one is, outlives the test: here it goes."""
    if request.node.get_closest_marker("django_db") is None and "db" not in request.fixturenames:
        return
    request.getfixturevalue("db")
    if not (StorageAudit.objects.exists() or PendingBlob.objects.exists()):
        return
    with psycopg.connect(**connection.get_connection_params()) as beside:
        beside.execute("SELECT set_config('cp.retention_before', '9000-01-01T00:00:00Z', true)")
        beside.execute("DELETE FROM cp_storage_meta_storageaudit")
        beside.execute("DELETE FROM cp_storage_meta_pendingblob")


@pytest.fixture
def docs(acme):
    """Acme's bucket docs, versioned, as a handle that is trusted."""
    Bucket.objects.create(tenant=acme, name="docs", versioning=Bucket.Versioning.ENABLED)
    return StorageObject.objects.for_tenant(acme).bucket("docs")


@pytest.fixture
def plain(acme):
    """Acme's bucket plain, unversioned."""
    Bucket.objects.create(tenant=acme, name="plain")
    return StorageObject.objects.for_tenant(acme).bucket("plain")


@pytest.fixture
def past_months_are_removed(request, db):
    """Months of the access log that a test commits are gone after it, so that no other test meets them."""
    yield
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        return
    present = partitions.month_of(now())
    with connection.cursor() as cursor:
        for month in partitions.existing_months(cleaning.LOG):
            if month < present:
                names = {
                    "log": sql.Identifier(cleaning.LOG.table),
                    "month": sql.Identifier(f"{cleaning.LOG.table}_{month:%Y%m}"),
                }
                cursor.execute(sql.SQL("ALTER TABLE {log} DETACH PARTITION {month}").format(**names))
                cursor.execute(sql.SQL("DROP TABLE {month}").format(**names))
