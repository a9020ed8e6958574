from __future__ import annotations

import pytest

from storage_meta.admin.usage import rooms
from storage_meta.models import StorageQuota
from storage_meta.statistics import Statistics
from tests.factories import BucketFactory, StorageObjectFactory, StorageQuotaFactory, StorageUsageFactory
from tests.storage_meta.pages import address, clerk, operator


def overview(**query):
    return operator().get(address("storageusage_overview"), query)


@pytest.fixture
def bucket(acme):
    return BucketFactory(tenant=acme, name="docs")


def test_figures_are_those_of_the_statistics(bucket):
    StorageObjectFactory(bucket=bucket, size=1000, content_type="text/plain")
    StorageObjectFactory(bucket=bucket, size=3000, content_type="image/png", storage_class="COLD")
    StorageObjectFactory(bucket=bucket, is_delete_marker=True, size=0)

    answer = overview()
    found = answer.context["found"]

    assert (found.total_objects, found.total_size, found.delete_markers, found.total_versions) == (2, 4000, 1, 3)
    page = answer.content.decode()
    assert "image/png, 2.93 KiB" in page
    assert "COLD" in page
    assert "elsewhere" in page


def test_every_bar_of_a_type_leads_to_the_list_it_sums(bucket):
    StorageObjectFactory.create_batch(2, bucket=bucket, content_type="text/plain")
    StorageObjectFactory(bucket=bucket, content_type="image/png")

    page = overview().content.decode()

    url = f"{address('storageobject_changelist')}?tenant={bucket.tenant_id}&content_type=text%2Fplain"
    assert url.replace("&", "&amp;") in page
    assert len(operator().get(url).context["cl"].result_list) == 2


def test_buckets_are_summed_and_empty_ones_are_named(bucket, acme):
    BucketFactory(tenant=acme, name="empty")
    StorageObjectFactory(bucket=bucket)
    StorageObjectFactory(bucket=bucket)

    lines = overview().context["buckets"]

    assert [(line.name, line.share) for line in lines] == [("docs", 1.0), ("empty", 0.0)]


def test_the_beginning_is_of_the_first_tenant_and_another_is_chosen(bucket, globex):
    BucketFactory(tenant=globex, name="data")

    assert overview().context["tenant"].slug == "acme"
    assert overview(tenant="globex").context["tenant"].slug == "globex"
    assert "There is no such tenant" in overview(tenant="nobody").content.decode()


@pytest.mark.parametrize(
    ("used", "most", "above", "tone", "words"),
    [
        (0, 1024, "refuse", "", "1 KiB left"),
        (900, 1024, "refuse", "cp-warn", "124 B left"),
        (2048, 1024, "refuse", "cp-bad", "1 KiB above it"),
        (2048, 1024, "warn", "cp-warn", "1 KiB above it"),
        (0, 0, "refuse", "cp-bad", "0 B left"),
    ],
)
def test_a_quota_is_told_in_words_and_tone(used, most, above, tone, words):
    quota = StorageQuota(max_bytes=most, on_excess=above)

    [room] = rooms(Statistics(version_bytes=used), quota)

    assert words in room.words
    assert tone in room.words
    assert f"of {room.most}" in room.bar


def test_without_a_quota_there_is_no_bar():
    assert rooms(Statistics(), None) == []
    assert rooms(Statistics(), StorageQuota()) == []


def test_a_quota_stands_beside_what_is_used(bucket):
    StorageQuotaFactory(tenant=bucket.tenant, max_bytes=10_000, max_objects=10)
    StorageObjectFactory(bucket=bucket, size=4000)

    page = overview().content.decode()

    assert "Bytes of all versions: 3.91 KiB of 9.77 KiB" in page
    assert "Live objects: 1 of 10" in page
    assert "A put above it is refused." in page


def test_the_list_of_usage_shows_each_tenant_against_its_quota(acme, globex):
    StorageUsageFactory(tenant=acme, bytes=2048)
    StorageUsageFactory(tenant=globex, bytes=1)
    StorageQuotaFactory(tenant=acme, max_bytes=4096)

    page = operator().get(address("storageusage_changelist")).content.decode()

    assert "50 % of 4 KiB" in page
    assert "no quota" in page


def test_what_is_empty_says_why_with_one_step(acme):
    assert "Nobody stores anything yet." in overview().content.decode()
    BucketFactory(tenant=acme, name="docs")
    assert "Nothing live is stored." in overview().content.decode()


def test_usage_takes_its_permission_and_changes_nothing(bucket):
    url = address("storageusage_overview")

    assert clerk("view_storageobject").get(url).status_code == 403
    assert clerk("view_storageusage").get(url).status_code == 200
    assert operator().post(url).status_code == 403
