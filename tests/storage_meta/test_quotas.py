from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection

from controlplane.core.ids import now, uuid7_at
from storage_meta import quotas
from storage_meta.errors import QuotaExceeded
from storage_meta.models import Bucket, StorageObject, StorageQuota, StorageUsage
from tenants.scope import tenant_scope
from tests.factories import (
    BucketFactory,
    StorageObjectFactory,
    StorageQuotaFactory,
    StorageUsageFactory,
    StorageVersionFactory,
)


@pytest.fixture
def bucket(acme):
    return BucketFactory(tenant=acme)


def test_without_a_quota_a_tenant_stores_what_it_likes(acme, bucket, django_assert_num_queries):
    StorageObjectFactory(bucket=bucket)

    with django_assert_num_queries(1):
        assert quotas.demand(acme.pk, size=2**62, objects=2**62) is False


def test_a_quota_is_exact_to_the_byte(acme, bucket):
    StorageObjectFactory(bucket=bucket, size=3)
    StorageQuotaFactory(tenant=acme, max_bytes=10)

    assert quotas.demand(acme.pk, size=7, objects=1) is False
    with pytest.raises(QuotaExceeded, match=r"3 of 10 bytes are used, and this needs 8") as refused:
        quotas.demand(acme.pk, size=8, objects=1)
    assert (refused.value.code, refused.value.http_status) == ("quota_exceeded", 507)


def test_a_quota_that_warns_marks_what_is_above_it(acme, bucket):
    StorageQuotaFactory(tenant=acme, max_bytes=10, on_excess=StorageQuota.OnExcess.WARN)

    assert quotas.demand(acme.pk, size=11, objects=1) is True


def test_objects_count_beside_bytes_and_markers_do_not(acme, bucket):
    StorageObjectFactory(bucket=bucket)
    gone = StorageObjectFactory(bucket=bucket)
    Bucket.objects.filter(pk=bucket.pk).update(versioning="enabled")
    StorageObject.objects.for_tenant(acme).bucket(bucket.name).delete_object(gone.object_key)
    StorageQuotaFactory(tenant=acme, max_bytes=None, max_objects=2)

    assert quotas.demand(acme.pk, size=5, objects=1) is False
    assert quotas.demand(acme.pk, size=5, objects=0) is False
    with pytest.raises(QuotaExceeded, match=r"there are 1 of 2 objects, and this adds 2"):
        quotas.demand(acme.pk, size=0, objects=2)


def test_a_call_that_adds_nothing_is_not_refused(acme, bucket):
    StorageObjectFactory(bucket=bucket, size=50)
    StorageQuotaFactory(tenant=acme, max_bytes=10, max_objects=0)

    assert quotas.demand(acme.pk, size=0, objects=0) is False


def test_what_came_since_the_count_is_added_and_5_seconds_before_it_too(acme, bucket):
    counted_at = now()
    head = StorageObjectFactory(bucket=bucket, size=0)
    for seconds, size in ((-6, 1), (-4.99, 10), (1, 100)):
        made = uuid7_at(counted_at + timedelta(seconds=seconds))
        StorageVersionFactory(object=head, id=made, size=size)
    StorageUsageFactory(tenant=acme, bytes=1000, objects_count=7, counted_at=counted_at)
    StorageQuotaFactory(tenant=acme, max_bytes=1110)

    with pytest.raises(QuotaExceeded, match=r"1,110 of 1,110 bytes"):
        quotas.demand(acme.pk, size=1, objects=0)


def test_what_others_store_does_not_count(acme, globex):
    StorageObjectFactory(bucket=BucketFactory(tenant=globex), size=100)
    StorageUsageFactory(tenant=globex, bytes=100)
    StorageQuotaFactory(tenant=acme, max_bytes=10)

    assert quotas.demand(acme.pk, size=10, objects=1) is False


def test_a_quota_holds_inside_the_scope_of_its_tenant(acme, bucket):
    StorageObjectFactory(bucket=bucket, size=3)
    StorageQuotaFactory(tenant=acme, max_bytes=10)

    with tenant_scope(acme), pytest.raises(QuotaExceeded):
        quotas.demand(acme.pk, size=8, objects=1)


def test_the_sum_of_what_came_since_reads_the_index_alone(acme, bucket, globex):
    head, theirs = StorageObjectFactory(bucket=bucket), StorageObjectFactory(bucket=BucketFactory(tenant=globex))
    middle = [StorageVersionFactory(object=head) for _ in range(40)][20]
    for _ in range(40):
        StorageVersionFactory(object=theirs)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cp_storage_meta_storageversion")
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(
            "EXPLAIN SELECT sum(size) FROM cp_storage_meta_storageversion WHERE tenant_id = %s AND id >= %s",
            [acme.pk, middle.pk],
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Index Only Scan using cp_storage_meta_storageversion_tenant_id" in plan
    assert "Index Cond: ((tenant_id" in plan


@pytest.mark.parametrize("field", ["max_bytes", "max_objects"])
def test_a_quota_is_not_negative(acme, field):
    quota = StorageQuotaFactory(tenant=acme)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storagequota_not_negative"):
        StorageQuota.objects.filter(pk=quota.pk).update(**{field: -1})


def test_a_quota_warns_or_refuses(acme):
    quota = StorageQuotaFactory(tenant=acme)

    with pytest.raises(IntegrityError, match="cp_storage_meta_storagequota_on_excess"):
        StorageQuota.objects.filter(pk=quota.pk).update(on_excess="ignore")


def test_a_tenant_has_one_quota_and_one_count(acme):
    StorageQuotaFactory(tenant=acme)
    StorageUsageFactory(tenant=acme)

    assert StorageQuota.objects.get().tenant == acme
    for model in (StorageUsage, StorageQuota):
        assert str(model.objects.select_related("tenant").get()) == acme.name
        assert str(model.objects.get()) == f"tenant {acme.pk}"
