from __future__ import annotations

import pytest

from storage_meta.admin.browsing import Asked
from storage_meta.models import Bucket, StorageAudit
from tests.factories import BucketFactory, StorageObjectFactory, StorageVersionFactory
from tests.storage_meta.pages import address, asked_by, clerk, operator


@pytest.fixture
def bucket(acme):
    return BucketFactory(tenant=acme, name="docs")


@pytest.fixture
def tree(bucket):
    for key in ("readme.txt", "a/one.txt", "a/b/two.txt", "a//three.txt", "c.txt"):
        StorageObjectFactory(bucket=bucket, object_key=key)
    return bucket


def browse(client=None, **query):
    return (client or operator()).get(address("storageobject_browse"), query)


def names(answer):
    return [entry.name for entry in answer.context["listed"].entries]


def test_a_bucket_is_a_tree_by_the_slash(tree):
    assert names(browse(bucket="docs")) == ["a/", "c.txt", "readme.txt"]
    assert names(browse(bucket="docs", prefix="a/")) == ["(no name)/", "b/", "one.txt"]


def test_folders_and_crumbs_lead_to_one_another(tree):
    client = operator()
    top = browse(client, bucket="docs")

    folder = client.get(address("storageobject_browse") + top.context["listed"].entries[0].url)
    assert [crumb.name for crumb in folder.context["crumbs"]] == ["docs", "a"]
    back = client.get(address("storageobject_browse") + folder.context["crumbs"][0].url)
    assert names(back) == names(top)


def test_a_key_that_is_the_prefix_is_content(bucket):
    StorageObjectFactory(bucket=bucket, object_key="a/")

    assert names(browse(bucket="docs", prefix="a/")) == ["(this very key)"]


def test_a_prefix_that_is_no_folder_is_a_beginning(tree):
    answer = browse(bucket="docs", prefix="rea")

    assert names(answer) == ["dme.txt"]
    assert [crumb.name for crumb in answer.context["crumbs"]] == ["docs", "rea…"]


def test_pages_go_on_by_token(bucket):
    StorageObjectFactory.create_batch(103, bucket=bucket)
    client = operator()

    first = browse(client, bucket="docs", prefix="reports/")
    second = client.get(address("storageobject_browse") + first.context["listed"].next)

    assert (len(names(first)), len(names(second))) == (100, 3)
    assert not set(names(first)) & set(names(second))
    assert second.context["listed"].next == ""
    assert names(client.get(address("storageobject_browse") + second.context["first"])) == names(first)


@pytest.mark.parametrize("query", [{"token": "x"}, {"versions": "1", "key": "x", "version": "y"}])
def test_a_damaged_place_shows_the_first_page(tree, query):
    answer = browse(bucket="docs", **query)

    assert answer.status_code == 200
    assert names(answer)


def test_versions_are_shown_when_they_are_asked_for(bucket):
    row = StorageObjectFactory(bucket=bucket, object_key="a/one.txt")
    StorageVersionFactory(object=row, is_delete_marker=True, size=0)
    client = operator()

    assert names(browse(client, bucket="docs")) == []
    answer = browse(client, bucket="docs", versions="1")
    assert [(entry.name, entry.note, entry.type) for entry in answer.context["listed"].entries] == [
        ("a/one.txt", "delete marker", "2"),
        ("a/one.txt", "old", "1"),
    ]


def test_versions_go_on_by_key_and_version(bucket):
    row = StorageObjectFactory(bucket=bucket, object_key="a.txt")
    for _ in range(104):
        StorageVersionFactory(object=row)
    client = operator()

    first = browse(client, bucket="docs", versions="1")
    second = client.get(address("storageobject_browse") + first.context["listed"].next)

    assert [entry.type for entry in first.context["listed"].entries][:2] == ["105", "104"]
    assert [entry.type for entry in second.context["listed"].entries] == ["5", "4", "3", "2", "1"]


def test_nothing_is_listed_of_another_tenants_bucket(tree, globex):
    answer = browse(bucket="docs", tenant="globex")

    assert names(answer) == []
    assert "There is no such bucket" in answer.content.decode()


def test_staff_of_a_tenant_would_be_offered_that_tenant_alone(tree, globex):
    BucketFactory(tenant=globex, name="docs")
    from_acme = asked_by(tree.tenant, f"{address('storageobject_browse')}?tenant=globex&bucket=docs")

    asked = Asked(from_acme)
    assert [tenant.slug for tenant in asked.offered] == ["acme"]
    assert (asked.tenant, asked.bucket) == (None, None)


def test_a_list_is_recorded_where_its_bucket_says_so(tree):
    Bucket.objects.filter(pk=tree.pk).update(audit_reads="all")

    browse(bucket="docs", prefix="a/")

    row = StorageAudit.objects.get()
    assert (row.action, row.object_key, row.actor_name) == ("s3:ListBucket", "a/", "operator@example.com")


def test_names_are_shown_and_links_are_made_of_what_is_stored(bucket):
    key = "a&b/<script>\n%41 ü.txt"
    StorageObjectFactory(bucket=bucket, object_key=key)

    top = browse(bucket="docs")
    answer = operator().get(address("storageobject_browse") + top.context["listed"].entries[0].url)

    assert names(answer) == ["<script>\u240a%41 ü.txt"]
    assert "<script>\u240a" not in answer.content.decode()


def test_what_is_empty_says_why_with_one_step(acme):
    nothing = browse().content.decode()
    BucketFactory(tenant=acme, name="docs")
    bucket, folder = browse(bucket="docs").content.decode(), browse(bucket="docs", prefix="x/").content.decode()

    assert "There are no buckets yet." in nothing
    assert "Add bucket" in nothing
    assert "storage_put --tenant acme --bucket docs" in bucket
    assert "Nothing live begins with" in folder
    assert "To the top of the bucket" in folder


def test_who_may_not_read_contents_is_offered_no_download(tree):
    names_alone = browse(clerk("view_storageobject"), bucket="docs").content.decode()
    contents_too = browse(clerk("view_storageobject", "view_storageversion"), bucket="docs").content.decode()

    assert "/download/" not in names_alone
    assert "/download/" in contents_too


def test_the_browser_changes_nothing(tree):
    assert operator().post(address("storageobject_browse"), {"bucket": "docs"}).status_code == 403
