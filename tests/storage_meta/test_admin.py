from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.test import RequestFactory
from django.urls import reverse

from controlplane.core.admin import ModelAdmin
from controlplane.menu import MENU
from storage_meta.admin.base import TenantScopedAdmin, narrowed, size_text, visible
from storage_meta.admin.finding import SALT
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageQuota, StorageUsage
from tests.admin_rows import Page
from tests.factories import (
    BucketFactory,
    StorageHookFactory,
    StorageObjectFactory,
    StorageQuotaFactory,
    StorageUsageFactory,
)
from tests.storage_meta.pages import address, asked_by, clerk, operator
from tests.test_admin_pages import GARBAGE

OURS = (Bucket, StorageObject, StorageAudit, StorageQuota, StorageUsage)


def keys(answer):
    return [row.object_key for row in answer.context["cl"].result_list]


@pytest.fixture
def acme_docs(acme):
    return BucketFactory(tenant=acme, name="docs")


# ---------------------------------------------------------------- whose rows


@pytest.mark.parametrize("model", OURS)
def test_staff_of_a_tenant_would_see_that_tenants_rows_alone(acme, globex, model):
    for tenant in (acme, globex):
        bucket = BucketFactory(tenant=tenant, name="docs")
        StorageObjectFactory(bucket=bucket)
        StorageQuotaFactory(tenant=tenant)
        StorageUsageFactory(tenant=tenant)
    modeladmin = admin.site._registry[model]

    assert isinstance(modeladmin, TenantScopedAdmin)
    rows = modeladmin.get_queryset(asked_by(acme))
    assert {row.tenant_id for row in rows} <= {acme.pk}
    assert model is StorageAudit or rows


def test_a_user_of_another_model_sees_nothing_unless_it_is_a_superuser(acme_docs):
    class Other:
        is_superuser = False

    request = RequestFactory().get("/")
    request.user = Other()
    assert not narrowed(request, Bucket.objects.all())

    request.user.is_superuser = True
    assert narrowed(request, Bucket.objects.all()).get() == acme_docs


def test_the_outsider_sees_no_page(acme_docs, outsider):
    answer = clerk().get(address("storageobject_browse"))

    assert answer.status_code == 403


# ---------------------------------------------------------------- buckets


def test_a_bucket_is_made_and_changed(acme):
    client = operator()
    form = Page(client.get(address("bucket_add"))).form()

    client.post(
        address("bucket_add"), form | {"tenant": "acme", "name": "docs", "versioning": "enabled", "expire_days": "30"}
    )

    bucket = Bucket.objects.get(tenant=acme, name="docs")
    assert (bucket.versioning, bucket.expire_days, bucket.audit_reads) == ("enabled", 30, "data")
    form = Page(client.get(address("bucket_change", bucket.pk))).form()
    client.post(address("bucket_change", bucket.pk), form | {"versioning": "suspended", "expire_days": ""})
    bucket.refresh_from_db()
    assert (bucket.versioning, bucket.expire_days) == ("suspended", None)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "Docs", "a-z, 0-9, dot and hyphen"),
        ("name", "ab", "3 to 63"),
        ("storage", "nowhere", "Choose one of"),
        ("expire_days", "0", "1 or more"),
        ("keep_versions", "-1", "1 or more"),
        ("noncurrent_days", "x", "whole number"),
        ("tenant", "nobody", "Nothing is called"),
    ],
)
def test_a_bucket_that_cannot_be_is_refused_with_a_sentence(acme, field, value, said):
    client = operator()
    form = Page(client.get(address("bucket_add"))).form() | {"tenant": "acme", "name": "docs"}

    answer = client.post(address("bucket_add"), form | {field: value})

    assert said in " ".join(answer.context["adminform"].form.errors[field])
    assert not Bucket.objects.exists()


def test_a_name_is_once_in_a_tenant(acme_docs, globex):
    client = operator()
    form = Page(client.get(address("bucket_add"))).form() | {"name": "docs"}

    refused = client.post(address("bucket_add"), form | {"tenant": "acme"})
    made = client.post(address("bucket_add"), form | {"tenant": "globex"})

    assert refused.context["adminform"].form.errors == {"name": ["Another bucket of this tenant has this name."]}
    assert made.status_code == 302


def test_what_was_versioned_is_never_unversioned_again(acme_docs):
    client = operator()
    url = address("bucket_change", acme_docs.pk)

    answer = client.post(url, Page(client.get(url)).form() | {"versioning": "unversioned"})

    assert "suspend it instead" in answer.content.decode()
    acme_docs.refresh_from_db()
    assert acme_docs.versioning == "enabled"


def delete_bucket(client, bucket, **more):
    posted = {"action": "delete", "_selected_action": bucket.pk, **more}
    return client.post(address("bucket_changelist"), posted, follow=True)


def test_an_empty_bucket_goes_after_a_page_that_says_what_ends(acme_docs):
    client = operator()

    asked = delete_bucket(client, acme_docs).content.decode()
    assert "It is empty" in asked
    assert Bucket.objects.exists()

    delete_bucket(client, acme_docs, cp_reason="not used")
    assert not Bucket.objects.exists()


def test_a_bucket_that_holds_something_stays_and_says_what(acme_docs):
    StorageObjectFactory.create_batch(2, bucket=acme_docs)
    StorageObjectFactory(bucket=acme_docs, is_delete_marker=True, size=0)
    StorageHookFactory(tenant=acme_docs.tenant, bucket=acme_docs)
    client = operator()

    asked = delete_bucket(client, acme_docs).content.decode()
    answer = delete_bucket(client, acme_docs, cp_reason="not used")

    assert "2 live objects, 1 deleted key with its old versions, 1 hook of it alone" in asked
    assert answer.status_code == 422
    assert "Delete them first" in answer.content.decode()
    assert Bucket.objects.exists()


def test_a_bucket_is_not_deleted_without_the_permission(acme_docs):
    client = clerk("view_bucket", "change_bucket")

    answer = client.post(address("bucket_changelist"), {"action": "delete", "_selected_action": acme_docs.pk})

    assert answer.status_code == 403
    assert "Delete" not in client.get(address("bucket_change", acme_docs.pk)).content.decode()


# ---------------------------------------------------------------- the list of objects


def test_objects_are_listed_newest_first_a_page_at_a_time(acme_docs):
    made = [row.object_key for row in StorageObjectFactory.create_batch(53, bucket=acme_docs)]
    client = operator()

    first = client.get(address("storageobject_changelist"))
    second = client.get(address("storageobject_changelist") + first.context["cl"].next_link)

    assert keys(first) == made[:2:-1]
    assert keys(second) == made[2::-1]
    back = client.get(address("storageobject_changelist") + second.context["cl"].previous_link)
    assert keys(back) == keys(first)


def test_a_place_in_the_list_that_is_damaged_shows_the_first_page(acme_docs):
    StorageObjectFactory(bucket=acme_docs)

    answer = operator().get(address("storageobject_changelist", after=f"{SALT}x"))

    assert len(keys(answer)) == 1
    assert "first page" in answer.content.decode()


def test_a_list_is_of_one_tenant_the_first_that_has_buckets(acme_docs, globex):
    StorageObjectFactory(bucket=acme_docs, object_key="acme.txt")
    StorageObjectFactory(bucket=BucketFactory(tenant=globex, name="docs"), object_key="globex.txt")
    client = operator()

    assert keys(client.get(address("storageobject_changelist"))) == ["acme.txt"]
    assert keys(client.get(address("storageobject_changelist", tenant=globex.pk))) == ["globex.txt"]
    assert keys(client.get(address("storageobject_changelist", tenant="globex"))) == ["globex.txt"]


def test_many_tags_leave_room_for_the_columns_after_them(acme_docs):
    StorageObjectFactory(bucket=acme_docs, tags={"list": "autumn", "a-very-long-name": "with a value that goes on"})

    page = operator().get(address("storageobject_changelist")).content.decode()

    assert ">list=autumn, a-very-long-na…<" in page
    assert 'title="list=autumn, a-very-long-name=with a value that goes on"' in page


def test_what_is_counted_or_bounded_is_called_by_its_tenant(acme):
    for name, row in (
        ("storageusage", StorageUsageFactory(tenant=acme)),
        ("storagequota", StorageQuotaFactory(tenant=acme)),
    ):
        assert str(operator().get(address(f"{name}_change", row.pk)).context["subtitle"]) == str(acme)


def test_a_name_is_not_asked_for_a_row_that_is_only_named(acme, django_assert_num_queries):
    for row in (StorageUsageFactory(tenant=acme), StorageQuotaFactory(tenant=acme)):
        alone = type(row).objects.get(pk=row.pk)

        with django_assert_num_queries(0):
            assert str(alone) == f"tenant {acme.pk}"


@pytest.mark.parametrize(
    ("typed", "bytes_"),
    [
        ("", None),
        ("0", 0),
        ("1024", 1024),
        ("1,048,576", 1024**2),
        ("500 MiB", 500 * 1024**2),
        ("1.5gib", 3 * 1024**3 // 2),
        ("10 GB", 10 * 1000**3),
        ("9223372036854775807 b", 2**63 - 1),
    ],
)
def test_a_quota_is_typed_with_its_unit(acme, typed, bytes_):
    client = operator()
    form = Page(client.get(address("storagequota_add"))).form()

    client.post(address("storagequota_add"), form | {"tenant": "acme", "max_bytes": typed, "max_objects": "10"})

    quota = StorageQuota.objects.get(tenant=acme)
    assert (quota.max_bytes, quota.max_objects, quota.on_excess) == (bytes_, 10, "refuse")


@pytest.mark.parametrize("stored", [0, 1, 1000, 1024, 100 * 1024**2, 2**50 + 1, 2**63 - 1])
def test_a_quota_that_is_saved_unchanged_stays_to_the_byte(acme, stored):
    quota = StorageQuotaFactory(tenant=acme, max_bytes=stored)
    client, url = operator(), address("storagequota_change", quota.pk)

    answer = client.post(url, Page(client.get(url)).form())

    assert answer.status_code == 302
    quota.refresh_from_db()
    assert quota.max_bytes == stored


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("max_bytes", "much", "'much' is no size. Write a number with its unit, as 10 GiB."),
        ("max_bytes", "-1", "'-1' is no size. Write a number with its unit, as 10 GiB."),
        ("max_bytes", "1,5 GiB", "'1,5 GiB' is no size. Write a number with its unit, as 10 GiB."),
        ("max_bytes", "9" * 50, f"'{'9' * 40}' is no size. Write a number with its unit, as 10 GiB."),
        ("max_bytes", "8192 PiB", "More than 8,191 PiB cannot be counted. Leave it empty for no limit."),
        ("max_objects", "-1", "A quota is 0 or more; leave it empty for no limit."),
        ("tenant", "globex", "This tenant has a quota already. Change that one."),
    ],
)
def test_a_quota_that_cannot_be_is_refused_beside_its_field(acme, globex, field, typed, said):
    StorageQuotaFactory(tenant=globex)
    client = operator()
    form = Page(client.get(address("storagequota_add"))).form() | {"tenant": "acme"}

    answer = client.post(address("storagequota_add"), form | {field: typed})

    assert answer.context["adminform"].form.errors == {field: [said]}
    assert f'value="{typed}"' in answer.content.decode()


@pytest.mark.parametrize("label", [entry.label for entry in MENU if entry.group == "Storage"])
def test_a_page_is_called_as_the_menu_calls_it(db, label):
    [entry] = [each for each in MENU if (each.group, each.label) == ("Storage", label)]

    [heading] = re.findall(r"<h1[^>]*>(.*?)</h1>", operator().get(reverse(entry.url_name)).content.decode())

    assert label.lower() in heading.lower()


def test_usage_is_counted_in_tenants(acme, globex):
    client, url = operator(), address("storageusage_changelist")
    assert "No tenants yet." in client.get(url).content.decode()

    StorageUsageFactory(tenant=acme)
    assert "1 tenant\n" in client.get(url).content.decode()
    StorageUsageFactory(tenant=globex)
    assert "2 tenants\n" in client.get(url).content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("bucket=docs", ["b/huge.bin", "a/two.txt", "a/one.txt"]),
        ("bucket=other", ["c.txt"]),
        ("bucket=none", []),
        ("prefix=a/", ["a/two.txt", "a/one.txt"]),
        ("prefix=%25", []),
        ("content_type=text/plain", ["c.txt", "a/two.txt", "a/one.txt"]),
        ("size=huge", ["b/huge.bin"]),
        ("size=small&prefix=a/t", ["a/two.txt"]),
        ("state=deleted", ["gone.txt"]),
        ("state=any&prefix=g", ["gone.txt"]),
        ("window=2020-01-01..2020-02-01", []),
    ],
)
def test_filters_choose_objects(acme_docs, query, found):
    StorageObjectFactory(bucket=acme_docs, object_key="a/one.txt")
    StorageObjectFactory(bucket=acme_docs, object_key="a/two.txt")
    StorageObjectFactory(bucket=acme_docs, object_key="b/huge.bin", size=10**9, content_type="application/x")
    StorageObjectFactory(bucket=acme_docs, object_key="gone.txt", is_delete_marker=True, size=0)
    StorageObjectFactory(bucket=BucketFactory(tenant=acme_docs.tenant, name="other"), object_key="c.txt")

    assert keys(operator().get(f"{address('storageobject_changelist')}?{query}")) == found


def test_words_are_found_and_marked_where_they_stand(acme_docs):
    StorageObjectFactory(bucket=acme_docs, object_key="invoice-7.pdf", metadata={"author": "Fenn & Söhne"})
    StorageObjectFactory(bucket=acme_docs, object_key="other.txt")
    client = operator()

    by_key = client.get(address("storageobject_changelist", q="invoice"))
    by_value = client.get(address("storageobject_changelist", q="söhne"))

    assert keys(by_key) == keys(by_value) == ["invoice-7.pdf"]
    assert "<mark>invoice</mark>-7.pdf" in by_key.content.decode()
    assert "author:" in by_value.content.decode()
    assert "Fenn &amp; <mark>Söhne</mark>" in by_value.content.decode()


def test_words_are_searched_within_the_filters_and_paged(acme_docs):
    for n in range(53):
        StorageObjectFactory(bucket=acme_docs, object_key=f"a/report-{n:02}.txt")
    StorageObjectFactory(bucket=acme_docs, object_key="b/report.txt")
    client, url = operator(), address("storageobject_changelist")

    first = client.get(url, {"q": "report", "prefix": "a/", "window": "24h"})
    second = client.get(url + first.context["cl"].next_link)

    assert len(keys(first)) == 50
    assert len(keys(second)) == 3
    assert set(keys(first) + keys(second)) == {f"a/report-{n:02}.txt" for n in range(53)}
    assert first.context["cl"].previous_link is None
    damaged = client.get(url, {"q": "report", "after": "2020..x~y"}, follow=True)
    assert damaged.status_code == 200
    assert len(keys(damaged)) == 50


@pytest.mark.django_db(
    transaction=True
)  # what is refused inside a request's transaction is recorded on a second connection
def test_what_only_excludes_is_told_and_not_searched(acme_docs):
    answer = operator().get(address("storageobject_changelist", q="-report"))

    assert answer.status_code == 200
    assert keys(answer) == []
    assert answer.context["messages"]


def test_an_address_and_an_id_are_looked_up_of_whichever_tenant(acme_docs, globex):
    row = StorageObjectFactory(bucket=BucketFactory(tenant=globex, name="data"), object_key="x/y.txt")
    client = operator()

    assert keys(client.get(address("storageobject_changelist"), {"q": str(row.pk)})) == ["x/y.txt"]
    by_address = client.get(address("storageobject_changelist"), {"q": "s3://data/x/y.txt"})
    assert keys(by_address) == ["x/y.txt"]


def test_an_empty_list_says_why_with_one_step(acme):
    empty = operator().get(address("storageobject_changelist")).content.decode()
    filtered = operator().get(address("storageobject_changelist", prefix="x")).content.decode()

    assert "storage_put" in empty
    assert "Clear search and filters" in filtered


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (5 * 1024**3, "5 GiB"),
        (10**18, "888 PiB"),
        (None, "–"),
    ],
)
def test_bytes_are_shown_as_people_read_them(size, text):
    assert size_text(size) == text


def test_a_key_is_shown_with_nothing_that_deceives():
    assert visible("a\x00b\n\x7f\u202etxt.exe") == "a\u2400b\u240a\u2421\ufffdtxt.exe"


def test_every_page_of_storage_is_made_on_the_ground_floor():
    assert all(isinstance(admin.site._registry[model], ModelAdmin) for model in OURS)


# ---------------------------------------------------------------- whatever is asked

ASKED = {
    "storageobject_browse": ("tenant", "bucket", "prefix", "token", "key", "version", "versions"),
    "storageusage_overview": ("tenant",),
    "storageobject_changelist": ("bucket", "prefix", "content_type", "size", "state", "from", "to", "after"),
    "storageaudit_changelist": ("bucket", "object_key", "action", "actor_id", "outcome", "request", "from"),
}
TYPED = [*GARBAGE, "../..", "s3://", "9" * 40, "\ud7ff\ue000", "a/\x01\x7f/b", "0001-01-01", "9999-12-31"]


@pytest.mark.parametrize("page", ASKED)
def test_a_page_answers_whatever_is_asked(acme_docs, page):
    StorageObjectFactory(bucket=acme_docs)
    client = operator()

    for name in ASKED[page]:
        for text in TYPED:
            query = {"bucket": "docs", "versions": "1" if name == "key" else "", name: text}
            answer = client.get(address(page), query, follow=True)
            assert (name, text, answer.status_code) == (name, text, 200)
            assert (name, text, Page(answer).faults) == (name, text, [])


def test_an_object_s_pages_answer_whatever_is_asked(acme_docs):
    row = StorageObjectFactory(bucket=acme_docs)
    client = operator()

    for text in TYPED:
        for page, query in (
            ("change", {"before": text}),
            ("change", {"user": text}),
            ("compare", {"a": text, "b": "1"}),
            ("restore", {"version": text}),
            ("lock", {"version": text}),
            ("download", {"version": text}),
        ):
            answer = client.get(address(f"storageobject_{page}", row.pk), query, follow=True)
            assert (page, text, answer.status_code) == (page, text, 200)


@pytest.mark.parametrize(
    ("page", "typed"),
    [
        ("tags", {"tags": "a\x00=b"}),
        ("tags", {"tags": "a=b", "reason": "\x00"}),
        ("tags", {"tags": "a" * 300 + "=b"}),
        ("tags", {"tags": "a=b", "reason": "x" * 5000}),
        pytest.param("lock", {"retain_until": "0001-01-01T00:00"}, marks=pytest.mark.django_db(transaction=True)),
        ("lock", {"retain_until": "x"}),
        ("lock", {"retain_until": "99999-01-01T00:00"}),
    ],
)
def test_a_change_refuses_what_cannot_be_with_a_sentence(acme_docs, page, typed):
    row = StorageObjectFactory(bucket=acme_docs)
    version = row.current_version

    answer = operator().post(address(f"storageobject_{page}", row.pk), {"reason": "because", **typed})

    assert answer.status_code == 422
    assert Page(answer).faults == []
    row.refresh_from_db()
    version.refresh_from_db()
    assert (row.tags, version.retain_until) == ({}, None)
