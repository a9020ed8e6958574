"""What a page of a list touches: descents of the index, and pages of the database. No clock."""

from __future__ import annotations

from contextlib import nullcontext
from unittest.mock import patch

import pytest
from django.db import connection, transaction

from storage_meta import listing
from storage_meta.models import Bucket, StorageObject
from tenants.scope import tenant_scope
from tests.factories import TenantFactory
from tests.storage_meta.many import analyze, fill

pytestmark = pytest.mark.django_db

HEADS, VERSIONS = "cp_storage_meta_storageobject", "cp_storage_meta_storageversion"


@pytest.fixture(scope="module")
def crowd(django_db_setup, django_db_blocker):
    """A tenant's bucket of 10,000 objects in 200 groups of 50, and one of 10,000 markers before others; a neighbour."""
    with django_db_blocker.unblock(), transaction.atomic():
        tenant = TenantFactory(slug="crowd")
        large = Bucket.objects.create(tenant=tenant, name="large")
        deleted = Bucket.objects.create(tenant=tenant, name="deleted")
        fill(large, 10_000, "%s/%s.txt", groups=200)
        fill(deleted, 10_000, "a/%s/%s.txt", groups=200, markers=True)
        fill(deleted, 2_000, "b/%s/%s.txt", groups=20)
        fill(
            Bucket.objects.create(tenant=TenantFactory(slug="neighbour"), name="large"), 5_000, "%s/%s.txt", groups=200
        )
        analyze()
        yield tenant
        transaction.set_rollback(True)


@pytest.fixture(params=["trusted", "scoped", "generic plan"])
def files(request, crowd):
    """The crowd's handle, as different callers and servers have it."""
    with connection.cursor() as cursor:
        if request.param == "generic plan":
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    with tenant_scope(crowd) if request.param == "scoped" else nullcontext():
        yield StorageObject.objects.for_tenant(crowd)


@pytest.fixture
def touched():
    """Lists something; returns its page, buffers, and how often which index was descended."""

    def measure(listed, *args, **asked):
        seen = {}

        def explained(statement, parameters):
            with connection.cursor() as cursor:
                before = scans(cursor)
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
                [[[found]]] = cursor.fetchall()
                seen["buffers"] = found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]
                seen["scans"] = {
                    name: count - before[name] for name, count in scans(cursor).items() if count > before[name]
                }
            return rows(statement, parameters)

        rows = listing._rows
        rows(*WARM)
        with patch.object(listing, "_rows", explained):
            page = listed(*args, **asked)
        return page, seen["buffers"], seen["scans"]

    return measure


def scans(cursor):
    """Scans in this transaction, by index; under the table's name those that used none."""
    cursor.execute(
        "SELECT relname, pg_stat_get_xact_numscans(oid) FROM pg_class WHERE oid = ANY (%s::regclass[]) OR oid IN "
        "(SELECT indexrelid FROM pg_index WHERE indrelid = ANY (%s::regclass[]))",
        [[HEADS, VERSIONS]] * 2,
    )
    return dict(cursor.fetchall())


WARM = ("SELECT * FROM cp_storage_list(gen_random_uuid(), gen_random_uuid(), '', 'b', 0, '/', '0', 1)", [])


def test_a_page_of_common_prefixes_descends_once_for_each(files, touched):
    page, buffers, scanned = touched(files.bucket("large").list_objects_v2, delimiter="/", max_keys=150)

    assert len(page.common_prefixes) == page.key_count == 150
    assert scanned == {"storageobject_listing_idx": 151}
    assert buffers <= 8 * 151


def test_a_page_of_keys_is_one_scan(files, touched):
    page, buffers, scanned = touched(files.bucket("large").list_objects_v2, max_keys=1000)

    assert len(page.contents) == 1000
    assert scanned == {"storageobject_listing_idx": 1}
    assert buffers <= 2 * 1001


def test_a_leaf_is_two_scans(files, touched):
    page, buffers, scanned = touched(files.bucket("large").list_objects_v2, "00007/", "/")

    assert len(page.contents) == page.key_count == 50
    assert scanned == {"storageobject_listing_idx": 2}
    assert buffers <= 8 * 50


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_a_deep_page_costs_what_the_first_does(files, touched, delimiter):
    bucket = files.bucket("large")
    _, first, _ = touched(bucket.list_objects_v2, delimiter=delimiter, max_keys=100)

    page, deep, scanned = touched(bucket.list_objects_v2, delimiter=delimiter, max_keys=100, start_after="00100")

    assert page.key_count == 100
    assert set(scanned) == {"storageobject_listing_idx"}
    assert deep <= 1.2 * first


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_a_page_behind_markers_costs_what_it_does_without_them(files, touched, delimiter):
    bucket = files.bucket("deleted")
    _, without, _ = touched(bucket.list_objects_v2, "b/", delimiter)

    page, behind, scanned = touched(bucket.list_objects_v2, "", delimiter)

    assert page.key_count == (1 if delimiter else 1000)
    assert set(scanned) == {"storageobject_listing_idx"}
    assert behind <= max(2 * without, 20)


def test_a_page_of_versions_descends_once_for_each_key(files, touched):
    page, buffers, scanned = touched(files.bucket("large").list_object_versions, key_marker="00100/", max_keys=100)

    assert len(page.versions) == 100
    assert scanned == {"cp_storage_meta_storageobject_key_once": 1, "cp_storage_meta_storageversion_seq_once": 101}
    assert buffers <= 8 * 101
