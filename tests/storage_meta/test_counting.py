from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from controlplane.core import duties
from controlplane.core.ids import now
from storage_meta.models import StorageObject, StorageUsage, StorageVersion
from tenants.models import Tenant
from tests.factories import BucketFactory, StorageObjectFactory, StorageUsageFactory, StorageVersionFactory
from tests.races import together


def counted(tenant):
    usage = StorageUsage.objects.get(tenant=tenant)
    return usage.bytes, usage.objects_count, usage.versions


def test_every_tenant_is_counted_in_one_statement(acme, globex, django_assert_num_queries):
    head = StorageObjectFactory(bucket=BucketFactory(tenant=acme), size=3)
    StorageVersionFactory(object=head, size=40)
    gone = StorageObjectFactory(bucket=head.bucket, size=0)
    StorageVersionFactory(object=gone, is_delete_marker=True, size=0)
    StorageObject.objects.filter(pk=gone.pk).update(is_delete_marker=True)

    with django_assert_num_queries(1):
        tenants = StorageUsage.objects.refresh()

    assert tenants == Tenant.objects.count()
    versions = StorageVersion.objects.filter(tenant=acme)
    assert counted(acme) == (sum(version.size for version in versions), 1, versions.count())
    assert counted(globex) == (0, 0, 0)


def test_a_count_takes_the_place_of_an_older_one_and_never_of_a_younger(acme):
    StorageUsageFactory(tenant=acme, bytes=9, counted_at=now() - timedelta(hours=1))

    StorageUsage.objects.refresh()
    assert counted(acme)[0] == 0

    StorageUsage.objects.filter(tenant=acme).update(bytes=9, counted_at=now() + timedelta(hours=1))
    StorageUsage.objects.refresh()
    assert counted(acme)[0] == 9


@pytest.mark.django_db(transaction=True)
def test_two_counts_at_once_wait_for_each_other(acme, globex):
    assert together(*[StorageUsage.objects.refresh] * 4) == [2] * 4


def test_a_count_needs_no_search_path(acme):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path = ''")
        cursor.execute("SELECT public.cp_storage_count(), (public.cp_storage_used(%s)).bytes", [acme.pk])
        assert cursor.fetchone() == (1, 0)


def test_the_worker_counts_every_5_minutes(acme):
    [duty] = [duty for duty in duties.registered() if duty.name == "storage_usage"]

    assert duty.every_s == 300
    assert duty.run(now()) is None
    assert counted(acme) == (0, 0, 0)
