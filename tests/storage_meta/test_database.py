"""What the database itself holds true of buckets, heads and versions, by whatever way they are written."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.db.models import F

from controlplane.core.ids import now, uuid7
from storage_meta.models import Bucket, PendingBlob, StorageObject, StorageVersion
from storage_meta.models.objects import CONTENT
from tests.factories import (
    BucketFactory,
    PendingBlobFactory,
    StorageObjectFactory,
    StorageQuotaFactory,
    StorageUsageFactory,
    StorageVersionFactory,
    TenantFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def bucket(acme):
    return BucketFactory(tenant=acme)


@pytest.fixture
def head(bucket):
    return StorageObjectFactory(bucket=bucket)


@pytest.fixture
def version(head):
    return StorageVersion.objects.get(object=head)


def checked_now():
    """Rules that wait for the end of the transaction, for two rows that point at each other, are checked here."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def remove(model, **which):
    """As in psql: Django's own DELETE refuses these before the database is asked."""
    model.objects.filter(**which)._raw_delete("default")


@contextmanager
def refused(name):
    """By the rule of this name, which a trigger does not write into its message."""
    with pytest.raises(IntegrityError) as caught:
        yield
    assert caught.value.__cause__.diag.constraint_name == name


# --- buckets


@pytest.mark.parametrize("name", ["ab", "a" * 64, "Docs", "-ab", "ab-", ".ab", "a_b", "a b", "ä-b", "a/b", ""])
def test_a_bucket_has_a_plain_name(bucket, name):
    with (
        pytest.raises(IntegrityError, match="cp_storage_meta_bucket_name_is_plain")
        if len(name) < 64
        else pytest.raises(Exception, match="too long")
    ):
        Bucket.objects.filter(pk=bucket.pk).update(name=name)


def test_a_name_is_one_bucket_of_a_tenant(bucket, globex):
    BucketFactory(tenant=globex, name=bucket.name)

    with pytest.raises(IntegrityError, match="cp_storage_meta_bucket_name_once"):
        BucketFactory(tenant=bucket.tenant, name=bucket.name)


def test_versioning_is_one_of_three(bucket):
    with pytest.raises(IntegrityError, match="cp_storage_meta_bucket_versioning"):
        Bucket.objects.filter(pk=bucket.pk).update(versioning="perhaps")


@pytest.mark.parametrize("versioning", ["enabled", "suspended"])
def test_a_bucket_that_was_versioned_never_becomes_unversioned(bucket, versioning):
    Bucket.objects.filter(pk=bucket.pk).update(versioning=versioning)

    with refused("cp_storage_meta_bucket_stays_versioned"):
        Bucket.objects.filter(pk=bucket.pk).update(versioning="unversioned")


def test_a_bucket_may_be_suspended_and_enabled_again(bucket):
    for versioning in ("suspended", "enabled", "enabled"):
        Bucket.objects.filter(pk=bucket.pk).update(versioning=versioning)
        bucket.refresh_from_db()
        assert bucket.versioning == versioning


def test_reads_are_recorded_in_one_of_three_ways(bucket):
    with pytest.raises(IntegrityError, match="cp_storage_meta_bucket_audit_reads"):
        Bucket.objects.filter(pk=bucket.pk).update(audit_reads="some")


@pytest.mark.parametrize(
    "field", ["expire_days", "noncurrent_days", "keep_versions", "audit_days", "default_retain_days"]
)
def test_a_rule_of_a_bucket_is_for_a_day_at_least(bucket, field):
    with pytest.raises(IntegrityError, match="cp_storage_meta_bucket_a_day_at_least"):
        Bucket.objects.filter(pk=bucket.pk).update(**{field: 0})


# Django's own for a number that is not negative: cp_storage_meta_bucket_a_day_at_least refuses first, so these are looked at
@pytest.mark.parametrize(
    "name",
    [
        "cp_storage_meta_bucket_audit_days_check",
        "cp_storage_meta_bucket_default_retain_days_check",
        "cp_storage_meta_bucket_expire_days_check",
        "cp_storage_meta_bucket_keep_versions_check",
        "cp_storage_meta_bucket_noncurrent_days_check",
    ],
)
def test_days_and_versions_are_not_negative(name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", [name])
        assert cursor.fetchone()[0].endswith(">= 0))")


@pytest.mark.parametrize(
    ("factory", "rule"),
    [
        (StorageQuotaFactory, "cp_storage_meta_storagequota_tenant_id_key"),
        (StorageUsageFactory, "cp_storage_meta_storageusage_tenant_id_key"),
    ],
)
def test_a_tenant_has_one_quota_and_one_count(acme, factory, rule):
    factory(tenant=acme)

    with refused(rule):
        factory(tenant=acme)


# an id twice would be a primary key twice first, so these are looked at
@pytest.mark.parametrize(
    ("table", "name", "columns"),
    [
        ("cp_storage_meta_bucket", "cp_storage_meta_bucket_tenant_id", "(tenant_id, id)"),
        ("cp_storage_meta_storageobject", "cp_storage_meta_storageobject_tenant_id", "(tenant_id, id)"),
        (
            "cp_storage_meta_storageversion",
            "cp_storage_meta_storageversion_tenant_id",
            "(tenant_id, id) INCLUDE (size)",
        ),
    ],
)
def test_a_row_is_found_by_its_tenant_first(table, name, columns):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexname = %s AND indexdef LIKE 'CREATE UNIQUE %%'",
            [table, name],
        )
        assert cursor.fetchone()[0].endswith(columns)


# --- heads


def test_a_key_of_a_bucket_has_one_head(head):
    with pytest.raises(IntegrityError, match="cp_storage_meta_storageobject_key_once"):
        StorageObjectFactory(bucket=head.bucket, object_key=head.object_key)


@pytest.mark.parametrize("key", ["", "a" * 1025, "é" * 513])
def test_a_key_has_1_to_1024_bytes(bucket, key):
    with pytest.raises(IntegrityError, match="cp_storage_meta_storageobject_key_length"):
        StorageObjectFactory(bucket=bucket, object_key=key)


def test_a_head_lies_in_a_bucket_of_its_tenant(head, globex):
    with pytest.raises(IntegrityError, match="cp_storage_meta_storageobject_bucket_of_tenant"):
        StorageObjectFactory(tenant=globex, bucket=head.bucket)


def test_a_head_points_at_a_version_of_its_tenant(head, globex):
    other = StorageObjectFactory(bucket__tenant=globex)

    checked_now()

    with refused("cp_storage_meta_storageobject_version_of_tenant"):
        StorageObject.objects.filter(pk=head.pk).update(current_version=other.current_version_id, next_seq=9)


@pytest.mark.parametrize("field", ["id", "object_key", "bucket", "tenant"])
def test_a_head_stays_under_its_key(head, field):
    other = {
        "id": uuid7(),
        "object_key": "moved",
        "bucket": BucketFactory(tenant=head.tenant),
        "tenant": TenantFactory(),
    }

    with refused("cp_storage_meta_storageobject_stays"):
        StorageObject.objects.filter(pk=head.pk).update(**{field: other[field]})


def test_a_head_saved_as_it_is_is_no_change(head):
    head.save()


def test_a_head_points_at_its_newest_version(head):
    old = head.current_version_id
    StorageVersionFactory(object=head)
    checked_now()

    with refused("cp_storage_meta_storageobject_points_at_newest"):
        StorageObject.objects.filter(pk=head.pk).update(current_version=old)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": 2},  # above the one that the head points at
        {"seq": 1, "elsewhere": True},  # of another key than the head's
    ],
)
def test_a_version_does_not_come_past_its_head(head, wrong):
    other = StorageObjectFactory(bucket=head.bucket)
    checked_now()
    row = {name: getattr(head, name) for name in CONTENT} | {"tenant": head.tenant, "bucket": head.bucket}

    with refused("cp_storage_meta_storageobject_points_at_newest"):
        if "elsewhere" in wrong:
            StorageObject.objects.filter(pk=other.pk).update(current_version=head.current_version_id, next_seq=1)
        else:
            StorageVersion.objects.create(object=head, seq=wrong["seq"], **row)


def test_an_older_version_may_come_below_the_others(head):
    row = {name: getattr(head, name) for name in CONTENT} | {"tenant": head.tenant, "bucket": head.bucket}
    StorageVersion.objects.create(object=head, seq=0, **row)

    checked_now()


def test_a_head_is_live_as_its_version_is(head):
    row = {name: getattr(head, name) for name in CONTENT} | {"tenant": head.tenant, "bucket": head.bucket, "size": 0}
    marker = StorageVersion.objects.create(object=head, seq=2, is_delete_marker=True, **row)
    StorageObject.objects.filter(pk=head.pk).update(current_version=marker, next_seq=3)

    with refused("cp_storage_meta_storageobject_points_at_newest"):
        checked_now()


# --- both


@pytest.mark.parametrize("model", [StorageObject, StorageVersion])
@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"size": -1}, "size_not_negative"),
        ({"metadata": []}, "metadata_is_object"),
        ({"metadata": {"a": "x" * 65_536}}, "metadata_is_object"),
        ({"tags": "text"}, "tags_is_object"),
        ({"tags": {"a": "x" * 8192}}, "tags_is_object"),
    ],
)
def test_content_is_what_can_be_stored(head, model, wrong, rule):
    """cp_storage_meta_storageobject_size_not_negative, cp_storage_meta_storageversion_size_not_negative,
    cp_storage_meta_storageobject_metadata_is_object, cp_storage_meta_storageversion_metadata_is_object,
    cp_storage_meta_storageobject_tags_is_object, cp_storage_meta_storageversion_tags_is_object."""
    row = {name: getattr(head, name) for name in CONTENT} | wrong | {"tenant": head.tenant, "bucket": head.bucket}

    with pytest.raises(IntegrityError, match=f"{model._meta.db_table}_{rule}"):
        if model is StorageObject:
            StorageObject.objects.filter(pk=head.pk).update(**wrong)
        else:
            StorageVersion.objects.create(object=head, seq=2, **row)


# --- versions


def test_a_seq_is_one_version(head):
    row = {name: getattr(head, name) for name in CONTENT} | {"tenant": head.tenant, "bucket": head.bucket}

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_seq_once"):
        StorageVersion.objects.create(object=head, seq=1, **row)


def test_an_id_elsewhere_is_one_version_of_a_key(head):
    StorageVersionFactory(object=head, external_id="one")

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_external_id_once"):
        StorageVersionFactory(object=head, external_id="one")


def test_a_key_has_one_null_version(head):
    StorageVersionFactory(object=head, null_version=True)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_null_once"):
        StorageVersionFactory(object=head, null_version=True)


def test_a_version_is_of_a_head_of_its_tenant(head, globex):
    row = {name: getattr(head, name) for name in CONTENT} | {"bucket": BucketFactory(tenant=globex)}
    StorageVersion.objects.create(object=head, tenant=globex, seq=0, **row)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_object_of_tenant"):
        checked_now()


def test_a_version_lies_in_a_bucket_of_its_tenant(head, globex):
    row = {name: getattr(head, name) for name in CONTENT} | {"tenant": head.tenant}

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_bucket_of_tenant"):
        StorageVersion.objects.create(object=head, bucket=BucketFactory(tenant=globex), seq=0, **row)


@pytest.mark.parametrize("wrong", [{"size": 3}, {"size": 0, "blob_name": "a/b"}])
def test_a_marker_is_empty(head, wrong):
    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_marker_is_empty"):
        StorageVersionFactory(object=head, is_delete_marker=True, **wrong)


OTHER = {
    "id": uuid7(),
    "seq": F("seq") - 1,
    "null_version": True,
    "external_id": "other",
    "is_delete_marker": True,
    "blob_name": "other",
    "created_by": "other",
    "created_at": F("created_at") - timedelta(days=1),
    "size": 7,
    "content_type": "text/html",
    "etag": "other",
    "checksum_sha256": "0" * 64,
    "storage_backend": "other",
    "storage_class": "COLD",
    "metadata": {"other": 1},
    "tenant": None,
    "object": None,
    "bucket": None,
}
MAY_CHANGE = {"tags", "comment", "legal_hold", "retain_until"}


@pytest.mark.parametrize("field", sorted(OTHER))
def test_a_version_never_changes(version, field):
    others = {
        "tenant": lambda: TenantFactory(),
        "object": lambda: StorageObjectFactory(bucket=version.bucket),
        "bucket": lambda: BucketFactory(tenant=version.tenant),
    }
    value = others[field]() if field in others else OTHER[field]

    with refused("cp_storage_meta_storageversion_unchangeable"):
        StorageVersion.objects.filter(pk=version.pk).update(**{field: value})


def test_every_column_of_a_version_may_change_or_may_not():
    assert {field.name for field in StorageVersion._meta.concrete_fields} == {*OTHER, *MAY_CHANGE}


def test_tags_comment_hold_and_retention_of_a_version_change(version):
    StorageVersion.objects.filter(pk=version.pk).update(
        tags={"a": "b"}, comment="seen", legal_hold=True, retain_until=now() + timedelta(days=1)
    )
    version.refresh_from_db()
    version.save()


@pytest.mark.parametrize("held", [{"legal_hold": True}, {"retain_until": now() + timedelta(days=9)}])
def test_a_held_version_does_not_go_by_whatever_way(head, version, held):
    StorageVersion.objects.filter(pk=version.pk).update(**held)

    with refused("cp_storage_meta_storageversion_held"):
        remove(StorageVersion)


def test_a_version_goes_when_its_time_is_over(head, version):
    StorageVersion.objects.filter(pk=version.pk).update(retain_until=now() - timedelta(seconds=1))

    remove(StorageVersion)
    remove(StorageObject)

    checked_now()
    assert not StorageVersion.objects.exists()


def test_a_head_does_not_go_without_its_versions(head):
    remove(StorageObject, pk=head.pk)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageversion_object_of_tenant"):
        checked_now()


def test_a_current_version_does_not_go_without_its_head(version):
    remove(StorageVersion, pk=version.pk)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storageobject_version_of_tenant"):
        checked_now()


def test_blobs_of_versions_that_go_are_queued(bucket):
    for n in range(3):
        StorageVersionFactory(
            object=StorageObjectFactory(bucket=bucket), blob_name=f"b/{n // 2}", storage_backend="objects"
        )

    remove(StorageVersion)
    remove(StorageObject)

    assert list(
        PendingBlob.objects.order_by("blob_name").values_list("tenant_id", "storage_backend", "blob_name", "reason")
    ) == [(bucket.tenant_id, "objects", "b/0", "delete"), (bucket.tenant_id, "objects", "b/1", "delete")]


def test_a_note_that_is_there_is_renewed_when_another_version_of_the_blob_goes(head):
    StorageVersionFactory(object=head, blob_name="b/0")
    long_ago = now() - timedelta(days=2)
    PendingBlobFactory(blob_name="b/0", reason="delete", started_at=long_ago)

    remove(StorageVersion)
    remove(StorageObject)

    assert PendingBlob.objects.get().started_at > long_ago + timedelta(days=1)


# --- blobs


def test_a_blob_is_noted_once():
    note = PendingBlobFactory()

    with pytest.raises(IntegrityError, match="cp_storage_meta_pendingblob_blob_once"):
        PendingBlobFactory(blob_name=note.blob_name)


def test_a_blob_is_noted_for_one_of_two_reasons():
    note = PendingBlobFactory()

    with pytest.raises(IntegrityError, match="cp_storage_meta_pendingblob_reason"):
        PendingBlob.objects.filter(pk=note.pk).update(reason="fun")
