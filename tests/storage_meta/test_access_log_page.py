from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from controlplane.core.ids import now
from storage_meta.admin.accesses import short_key
from tenants.models import Tenant
from tests.admin_rows import Page
from tests.factories import StorageAuditFactory
from tests.storage_meta.pages import address, clerk, operator


def log(client=None, **query):
    return (client or operator()).get(address("storageaudit_changelist"), query)


def rows(answer):
    """Those of tenants that are there: a refusal of another test is kept, as it is written on a connection of its own."""
    known = set(Tenant.objects.values_list("pk", flat=True))
    return [row for row in answer.context["cl"].result_list if row.tenant_id in known]


def keys(answer):
    return [row.object_key for row in rows(answer)]


@pytest.fixture
def accesses(acme, globex):
    of = {"tenant_id": acme.pk, "actor_name": "kim@acme.example", "actor_id": "7"}
    StorageAuditFactory(**of, object_key="a.txt", size=2048)
    StorageAuditFactory(
        **of, object_key="b.txt", action="s3:GetObject", record_type="READ", success=False, error_code="access_denied",
        error_message="No policy allows this.", request_id="req-1",
    )  # fmt: skip
    StorageAuditFactory(tenant_id=globex.pk, object_key="c.txt", bucket="data")
    StorageAuditFactory(tenant_id=acme.pk, object_key="old.txt", created_at=now() - timedelta(days=3))


def test_the_log_shows_the_last_day_newest_first(accesses):
    assert keys(log()) == ["c.txt", "b.txt", "a.txt"]
    assert keys(log(window="7d")) == ["c.txt", "b.txt", "a.txt", "old.txt"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"bucket": "data"}, ["c.txt"]),
        ({"object_key": "a.txt"}, ["a.txt"]),
        ({"action": "s3:GetObject"}, ["b.txt"]),
        ({"actor_id": "7"}, ["b.txt", "a.txt"]),
        ({"outcome": "failure"}, ["b.txt"]),
        ({"outcome": "success", "bucket": "docs"}, ["a.txt"]),
        ({"record_type__exact": "READ"}, ["b.txt"]),
        ({"request": "req-1"}, ["b.txt"]),
        ({"q": "a.txt"}, ["a.txt"]),
        ({"q": "req-1"}, ["b.txt"]),
        ({"q": str(uuid4())}, []),
    ],
)
def test_filters_and_search_choose_accesses(accesses, query, found):
    assert keys(log(**query)) == found


def test_a_tenant_is_chosen_by_its_filter(accesses, acme):
    assert keys(log(tenant=str(acme.pk))) == ["b.txt", "a.txt"]


def test_a_refusal_says_why(accesses):
    answer = log(outcome="failure")

    assert "access_denied: No policy allows this." in answer.content.decode()
    [row] = rows(answer)
    assert (
        "No policy allows this. (access_denied)"
        in operator().get(address("storageaudit_change", row.pk)).content.decode()
    )


def test_pages_go_on_where_the_one_before_ended(acme):
    for n in range(53):
        StorageAuditFactory(tenant_id=acme.pk, object_key=f"{n}")
    client = operator()

    first = log(client, tenant=str(acme.pk))
    second = client.get(address("storageaudit_changelist") + first.context["cl"].next_link)

    assert keys(first) + keys(second) == [f"{n}" for n in range(52, -1, -1)]


def test_the_log_takes_nothing_in(accesses):
    row = rows(log())[0]

    assert Page(log()).writing_inputs() == []
    assert operator().post(address("storageaudit_change", row.pk), {"object_key": "x"}).status_code == 403
    assert clerk("view_storageobject").get(address("storageaudit_changelist")).status_code == 403


def test_an_empty_log_offers_a_wider_window(acme):
    assert "Widen to 7 days" in log(tenant=str(acme.pk)).content.decode()


def test_a_long_key_keeps_its_end():
    shown = short_key("a" * 30 + "/" + "b" * 30 + "/the-end.txt")

    assert "the-end.txt</span>" in shown
    assert shown.count("…") == 1
