"""The border between tenants, call by call: what is another's is not there, in any spelling, and nothing is written across."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection

from controlplane.core.ids import now
from storage_meta import buckets
from storage_meta.errors import (
    AccessDenied,
    InvalidArgument,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    StorageError,
    TenantRequired,
)
from storage_meta.models import Bucket, StorageAudit, StorageEvent, StorageHook, StorageObject, StorageVersion
from tenants.models import Tenant
from tenants.scope import tenant_scope

pytestmark = pytest.mark.django_db

FAR = datetime(2999, 1, 1, tzinfo=UTC)
SECRET = b"globex alone"

ABOUT_A_KEY = {
    "put_object": lambda files, key, id: files.put_object(key, b"mine"),
    "bulk_put": lambda files, key, id: files.bulk_put([{"key": key, "size": 1}]),
    "record_version": lambda files, key, id: files.record_version(key, "elsewhere", size=1),
    "record_object": lambda files, key, id: files.record_object(key, 1, "text/plain", "0" * 32),
    "head_object": lambda files, key, id: files.head_object(key, id),
    "get_object": lambda files, key, id: whole(files, key, id),
    "delete_object": lambda files, key, id: files.delete_object(key, id),
    "delete_objects": lambda files, key, id: files.delete_objects([key]),
    "restore_object": lambda files, key, id: files.restore_object(key, id),
    "copy_object": lambda files, key, id: files.copy_object(key, "taken", version_id=id),
    "put_object_tagging": lambda files, key, id: files.put_object_tagging(key, {"a": "b"}, id),
    "put_object_legal_hold": lambda files, key, id: files.put_object_legal_hold(key, True, id, reason="a test"),
    "put_object_retention": lambda files, key, id: files.put_object_retention(key, FAR, id),
    "upload_document": lambda files, key, id: files.upload_document(__file__, key),
    "download_document": lambda files, key, id: files.download_document(key, version_id=id),
    "list_objects_v2": lambda files, key, id: files.list_objects_v2(prefix=key).contents,
    "list_object_versions": lambda files, key, id: files.list_object_versions(prefix=key).versions,
    "list_versions": lambda files, key, id: files.list_versions(key),
    "get_version_history": lambda files, key, id: files.get_version_history(key),
}
OF_ALL = {
    "search_objects": lambda files, key, id: files.search_objects("secret").objects,
    "search_by_prefix": lambda files, key, id: files.search_objects(None, prefix="secret").objects,
    "search_by_metadata": lambda files, key, id: files.search_objects(None, metadata={"of": "globex"}).objects,
    "search_documents": lambda files, key, id: files.search_documents("secret"),
    "list_objects": lambda files, key, id: files.list_objects(),
    "get_object_metadata": lambda files, key, id: files.bucket("docs").get_object_metadata(key),
    "count": lambda files, key, id: files.count("secret").number,
    "statistics": lambda files, key, id: files.statistics().total_objects,
    "get_statistics": lambda files, key, id: files.get_statistics().version_bytes,
    "get_audit_logs": lambda files, key, id: files.get_audit_logs(object_key=key).rows,
    "get_audit_trail": lambda files, key, id: files.get_audit_trail(object_key=key),
    "get_hook_statistics": lambda files, key, id: files.get_hook_statistics(),
    "cleanup_old_audits": lambda files, key, id: files.cleanup_old_audits(days=0, dry_run=True),
}


def whole(files, key, version_id=None):
    with files.get_object(key, version_id) as stored:
        return b"".join(stored)


@pytest.fixture
def theirs(globex):
    """Globex's bucket, with an object of two versions that a hook is told of."""
    bucket = Bucket.objects.create(tenant=globex, name="docs", versioning="enabled")
    StorageHook.objects.create(
        tenant=globex,
        name="hook",
        bucket=bucket,
        url="https://example.com/",
        event_types=["s3:*"],
        secrets="whsec_eA==",
    )
    files = StorageObject.objects.for_tenant(globex).bucket("docs")
    files.put_object("secret.txt", SECRET, metadata={"of": "globex"})
    files.put_object("secret.txt", SECRET + b" 2", metadata={"of": "globex"})
    return files


@pytest.fixture
def ours(acme):
    return StorageObject.objects.for_tenant(acme)


def id_of(files):
    return files.list_object_versions().versions[-1].version_id


def state(tenant):
    """All that a tenant has, and what is in its log."""
    return [
        *StorageObject.objects.filter(tenant=tenant).order_by("id").values(),
        *StorageVersion.objects.filter(tenant=tenant).order_by("id").values(),
        *StorageEvent.objects.filter(tenant=tenant).order_by("id").values(),
        *StorageAudit.objects.for_tenant(tenant).order_by("id").values(),
    ]


@contextmanager
def untouched(tenant):
    before = state(tenant)
    yield
    assert state(tenant) == before


@pytest.mark.parametrize("name", ABOUT_A_KEY)
def test_the_bucket_of_another_tenant_is_not_there(ours, theirs, name):
    with untouched(theirs.tenant), pytest.raises(NoSuchBucket):
        ABOUT_A_KEY[name](ours.bucket("docs"), "secret.txt", id_of(theirs))


@pytest.mark.parametrize("name", [*ABOUT_A_KEY, *OF_ALL])
def test_with_the_key_and_version_of_another_tenant_nothing_of_it_comes(acme, ours, theirs, name):
    Bucket.objects.create(tenant=acme, name="docs", versioning="enabled")
    call = {**ABOUT_A_KEY, **OF_ALL}[name]

    with untouched(theirs.tenant):
        found = None
        with suppress(NoSuchKey, NoSuchVersion):
            found = call(ours.bucket("docs") if name in ABOUT_A_KEY else ours, "secret.txt", id_of(theirs))

    assert name not in OF_ALL or not found
    assert SECRET not in repr(found).encode()
    mine = StorageVersion.objects.filter(tenant=acme).exclude(blob_name="")
    assert not set(mine.values_list("blob_name", flat=True)) & set(
        StorageVersion.objects.exclude(tenant=acme).values_list("blob_name", flat=True)
    )


def test_what_two_tenants_have_in_common_is_each_ones_own(acme, ours, theirs):
    Bucket.objects.create(tenant=acme, name="docs", versioning="enabled")
    docs = ours.bucket("docs")

    docs.put_object("secret.txt", b"ours")
    docs.delete_object("secret.txt")

    assert whole(theirs, "secret.txt") == SECRET + b" 2"
    assert ours.statistics().total_objects == 0
    assert theirs.statistics().total_versions == 2


def test_a_copy_does_not_reach_into_another_tenants_bucket(acme, ours, theirs):
    Bucket.objects.create(tenant=acme, name="mine")
    mine = ours.bucket("mine")
    mine.put_object("a", b"a")

    with untouched(theirs.tenant), pytest.raises(NoSuchBucket):
        mine.copy_object("a", "b", bucket="docs")


@pytest.mark.parametrize("place", ["tenant", "bucket"])
def test_a_token_of_another_list_goes_on_nowhere(acme, ours, theirs, place):
    other = theirs
    Bucket.objects.create(tenant=acme, name="docs", versioning="enabled")
    Bucket.objects.create(tenant=acme, name="mail", versioning="enabled")
    for n in range(3):
        theirs.put_object(f"secret-{n}", b"x")
        for name in ("docs", "mail"):
            ours.bucket(name).put_object(f"secret-{n}", b"x")
    if place == "bucket":
        other = ours.bucket("mail")
    listed = other.list_objects_v2(max_keys=1).next_continuation_token
    found = other.search_objects("secret", limit=1).next_continuation_token
    docs = ours.bucket("docs")

    for call in (
        partial(docs.list_objects_v2, max_keys=1, continuation_token=listed),
        partial(docs.search_objects, "secret", limit=1, continuation_token=found),
    ):
        with pytest.raises(InvalidArgument):
            call()


@pytest.mark.django_db(transaction=True)
def test_inside_another_tenants_scope_nothing_is_seen_and_nothing_is_written(acme, theirs):
    """A forgotten filter, the worst case: the handle is globex's, the scope is acme's."""
    id, key = id_of(theirs), "secret.txt"
    before = [*StorageVersion.objects.order_by("id").values(), *StorageObject.objects.order_by("id").values()]

    for name, call in {**ABOUT_A_KEY, **OF_ALL}.items():
        files, found = theirs if name in ABOUT_A_KEY else StorageObject.objects.for_tenant(theirs.tenant), None
        with suppress(StorageError), tenant_scope(acme):
            found = call(files, key, id)

        assert not found, name
        after = [*StorageVersion.objects.order_by("id").values(), *StorageObject.objects.order_by("id").values()]
        assert after == before, name


@pytest.mark.django_db(transaction=True)
def test_inside_another_tenants_scope_no_attempt_of_a_hook_is_written_down(acme, theirs):
    told = {"hook_name": "indexer", "event_type": "s3:Seen", "object_key": "a", "success": True}

    with tenant_scope(acme), pytest.raises(AccessDenied):
        theirs.log_hook_execution(**told)
    with tenant_scope(theirs.tenant):
        assert theirs.log_hook_execution(**told).tenant_id == theirs.tenant_id


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [*ABOUT_A_KEY, *OF_ALL])
def test_inside_its_own_scope_a_tenant_does_all_it_does_outside(theirs, name):
    call, id = {**ABOUT_A_KEY, **OF_ALL}[name], id_of(theirs)
    theirs.put_object_legal_hold("secret.txt", False, id, reason="a test")
    if name == "cleanup_old_audits":
        pytest.skip("the log's rows go by its owner alone")
    files = theirs if name in ABOUT_A_KEY else StorageObject.objects.for_tenant(theirs.tenant)

    with tenant_scope(theirs.tenant):
        outside = call(files, "secret.txt", id)

    assert outside is not None


@pytest.mark.django_db(transaction=True)
def test_a_put_inside_the_own_scope_is_there_afterwards(theirs):
    with tenant_scope(theirs.tenant):
        done = theirs.put_object("new.txt", b"new")
        assert whole(theirs, "new.txt") == b"new"

    assert theirs.head_object("new.txt").etag == done.etag
    assert whole(theirs, "new.txt") == b"new"


@pytest.mark.parametrize(
    "tenant", [None, "acme", 7, AnonymousUser(), object(), [], Tenant(slug="unsaved", name="Unsaved")]
)
def test_without_a_tenant_there_is_no_handle(db, tenant):
    with pytest.raises(TenantRequired):
        StorageObject.objects.for_tenant(tenant)


def test_a_handle_of_a_tenant_that_is_gone_finds_nothing_and_writes_nothing(db):
    tenant = Tenant.objects.create(slug="brief", name="Brief")
    files = StorageObject.objects.for_tenant(tenant)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_tenants_tenant WHERE id = %s", [tenant.pk])

    assert files.search_objects(None, modified_before=now()).objects == []
    with pytest.raises(NoSuchBucket):
        files.bucket("docs").put_object("a", b"a")


def test_a_bucket_of_another_tenant_cannot_be_removed(ours, theirs):
    with untouched(theirs.tenant), pytest.raises(NoSuchBucket):
        buckets.remove(ours.bucket("docs"))
