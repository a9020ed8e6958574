from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from django.db import transaction

from controlplane.core.ids import now
from storage_meta import statistics
from storage_meta.errors import InvalidArgument, NoSuchBucket, StorageError
from storage_meta.models import HookExecution, StorageAudit, StorageObject, StorageVersion
from storage_meta.statistics import Count, Group, Statistics
from tenants.scope import tenant_scope
from tests.factories import (
    BucketFactory,
    HookExecutionFactory,
    StorageAuditFactory,
    StorageObjectFactory,
    StorageVersionFactory,
)


@pytest.fixture
def files(acme):
    return StorageObject.objects.for_tenant(acme)


def stored(tenant, seed):
    """Two buckets of a tenant with some of everything."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    rooms = [BucketFactory(tenant=tenant, name=name) for name in ("docs", "plain")]
    for n in range(30):
        head = StorageObjectFactory(
            bucket=chance.choice(rooms),
            object_key=f"{seed}/{n}",
            size=chance.randrange(2**40),
            content_type=chance.choice(["", "text/plain", "image/png"]),
            storage_backend=chance.choice(["objects", "elsewhere"]),
            storage_class=chance.choice(["STANDARD", "GLACIER"]),
        )
        for _ in range(chance.randrange(3)):
            marker = chance.random() < 0.4
            StorageVersionFactory(object=head, size=0 if marker else chance.randrange(2**40), is_delete_marker=marker)
    for hours in (1, 23, 25, 400):
        at = now() - timedelta(hours=hours)
        for room in chance.choices(rooms, k=3):
            StorageAuditFactory(tenant_id=tenant.pk, bucket=room.name, created_at=at) if hours < 48 else None
            HookExecutionFactory(tenant=tenant, payload={"data": {"bucket": room.name}}, created_at=at)
    HookExecutionFactory(tenant=tenant, payload=None)


def by_hand(tenant, bucket=None):
    """The same figures from all rows, counted here."""
    heads = [one for one in StorageObject.objects.filter(tenant=tenant) if bucket in (None, one.bucket.name)]
    versions = [one for one in StorageVersion.objects.filter(tenant=tenant) if bucket in (None, one.bucket.name)]
    live = [one for one in heads if not one.is_delete_marker]
    objects, size = Counter(), Counter()
    for one in live:
        group = (one.storage_backend, one.storage_class, one.content_type)
        objects[group] += 1
        size[group] += one.size
    day = now() - timedelta(hours=24)
    audits = StorageAudit.objects.for_tenant(tenant).filter(created_at__gte=day)
    hooks = HookExecution.objects.filter(tenant=tenant, created_at__gte=day)
    return Statistics(
        groups=[Group(*group, objects[group], size[group]) for group in sorted(objects, key=lambda g: -size[g])],
        total_objects=len(live),
        total_size=sum(one.size for one in live),
        delete_markers=len(heads) - len(live),
        total_versions=len(versions),
        version_bytes=sum(one.size for one in versions),
        recent_audits_24h=sum(bucket in (None, one.bucket) for one in audits),
        recent_hooks_24h=sum(bucket in (None, ((one.payload or {}).get("data") or {}).get("bucket")) for one in hooks),
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_figures_are_those_of_a_count_by_hand(acme, globex, files, seed):
    stored(acme, seed)
    stored(globex, seed + 10)

    assert files.statistics() == by_hand(acme)
    assert files.bucket("docs").statistics() == by_hand(acme, "docs")
    assert files.bucket("plain").statistics() == by_hand(acme, "plain")
    assert files.statistics().delete_markers > 0


def test_figures_are_the_same_inside_a_tenants_scope(acme, globex, files):
    stored(acme, 3)
    stored(globex, 13)
    outside = files.statistics()

    with tenant_scope(acme):
        assert files.statistics() == outside
        assert StorageObject.objects.for_tenant(globex).statistics() == Statistics()


def test_figures_are_of_one_statement(acme, files, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert files.statistics() == Statistics()


def test_there_are_none_of_an_unknown_bucket(files):
    with pytest.raises(NoSuchBucket):
        files.bucket("no-such").statistics()


def test_live_objects_by_bucket(acme, globex):
    docs, plain, empty = (BucketFactory(tenant=acme, name=name) for name in ("docs", "plain", "empty"))
    theirs = BucketFactory(tenant=globex, name="docs")
    StorageObjectFactory(bucket=docs, size=5)
    StorageObjectFactory(bucket=docs, size=5)
    StorageObjectFactory(bucket=plain, size=0, is_delete_marker=True)
    StorageObjectFactory(bucket=theirs, size=2**62)
    StorageObjectFactory(bucket=theirs, size=2**62)

    assert statistics.of_buckets(acme.pk) == {docs.pk: (2, 10)}
    assert statistics.of_buckets() == {docs.pk: (2, 10), theirs.pk: (2, 2**63)}
    assert empty.pk not in statistics.of_buckets()


def test_a_count_ends_at_its_cap(acme, files):
    docs, plain = (BucketFactory(tenant=acme, name=name) for name in ("docs", "plain"))
    StorageObjectFactory.create_batch(3, bucket=docs)
    StorageObjectFactory(bucket=plain, object_key="note")
    StorageObjectFactory(bucket=plain, is_delete_marker=True, size=0)

    assert files.count() == Count(4, capped=False)
    assert files.count(cap=4) == Count(4, capped=False)
    assert files.count(cap=3) == Count(3, capped=True)
    assert files.count("reports") == Count(3, capped=False)
    assert files.count("reports", cap=2) == Count(2, capped=True)
    assert files.bucket("plain").count("note or reports") == Count(1, capped=False)
    assert files.count("") == files.count("☃") == files.count("nothing") == Count(0, capped=False)


@pytest.mark.parametrize("cap", [0, -1, 10**9, True, "5", None, 1.5])
def test_a_cap_that_is_none_is_refused(files, cap):
    with pytest.raises(InvalidArgument, match="cap"):
        files.count("a", cap=cap)


@pytest.mark.parametrize("query", ["-a", 7, b"a"])
def test_what_no_search_takes_is_not_counted(files, query):
    with transaction.atomic(), pytest.raises(StorageError):
        files.count(query)
    assert files.count() == Count(0, capped=False)
