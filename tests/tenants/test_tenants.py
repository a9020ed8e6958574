from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import ProtectedError

from auditing.directory import directory
from auditing.models import AuditLog
from controlplane.core.ids import uuid7
from tenants.directory import TenantDirectory
from tenants.errors import TenantsError
from tenants.models import App, Branch, Tenant
from tests.factories import AppFactory, BranchFactory, TenantFactory, UserFactory, issue
from tests.races import together


def code_of(call, *args):
    with pytest.raises(TenantsError) as caught:
        call(*args)
    return caught.value.code


ROWS = [
    lambda acme: acme,
    lambda acme: AppFactory(tenant=acme),
    lambda acme: BranchFactory(app=AppFactory(tenant=acme)),
]


@pytest.mark.parametrize("make", ROWS, ids=["tenant", "app", "branch"])
def test_a_life_with_reasons(acme, make):
    row = make(acme)

    row.suspend("unpaid")
    assert (row.status, row.active) == ("suspended", False)
    row.resume("paid")
    assert row.active
    row.delete("closed")
    assert row.deleted_at is not None
    row.restore("opened again")
    assert (row.status, row.deleted_at) == ("active", None)

    log = AuditLog.objects.for_object(row).with_action("update").order_by("id")
    assert [change.reason for change in log] == ["unpaid", "paid", "closed", "opened again"]
    assert [change.after["status"] for change in log] == ["suspended", "active", "deleted", "active"]


@pytest.mark.parametrize("make", ROWS, ids=["tenant", "app", "branch"])
def test_a_step_that_is_not_possible_is_refused_by_name(acme, make):
    row = make(acme)
    assert code_of(row.resume) == "not_suspended"
    assert code_of(row.restore, "x") == "not_deleted"
    row.suspend("x")
    assert code_of(row.suspend, "again") == "already_suspended"
    row.delete("x")
    assert code_of(row.suspend, "x") == "not_active"
    assert code_of(row.delete, "x") == "not_active"
    assert code_of(row.resume) == "not_suspended"

    for step in (row.suspend, row.delete, row.restore):
        assert code_of(step, " ") == "reason_required"


def test_what_is_told_of_a_suspension_ends_with_it(acme):
    acme.suspend("unpaid")
    assert acme.suspended_reason == "unpaid"
    assert acme.suspended_at is not None

    acme.resume()

    assert (acme.suspended_at, acme.suspended_reason) == (None, "")


def test_a_suspension_touches_nothing_below(acme, acme_app):
    acme.suspend("unpaid")

    acme_app.refresh_from_db()
    assert acme_app.active


def test_deleted_rows_are_hidden_not_gone(acme, globex, acme_app):
    acme.delete("closed")

    assert list(Tenant.objects.active()) == list(Tenant.objects.present()) == [globex]
    assert list(Tenant.objects.deleted()) == [acme]
    assert Tenant.objects.get_by_slug("acme") == acme
    assert App.objects.filter(tenant=acme).exists()


def test_a_tenant_with_rows_cannot_be_removed_by_the_orm(acme, acme_app):
    with pytest.raises(ProtectedError):
        Tenant.objects.filter(pk=acme.pk).delete()


@pytest.mark.django_db(transaction=True)
def test_of_two_suspensions_at_once_one_is_told(acme):
    outcomes = together(*(lambda n=n: Tenant.objects.get(pk=acme.pk).suspend(f"reason {n}") for n in range(3)))

    refused = [outcome.code for outcome in outcomes if outcome is not None]
    assert len(refused) == 2
    assert set(refused) <= {"already_suspended", "not_active"}
    assert AuditLog.objects.for_object(acme).with_action("update").order_by("id").count() == 1


def test_a_tenant_is_found_by_slug_and_by_domain_in_any_case(acme):
    Tenant.objects.filter(pk=acme.pk).update(domain="acme.example")
    TenantFactory()

    assert Tenant.objects.get_by_slug("acme") == acme
    assert Tenant.objects.get_by_domain("ACME.example") == acme
    for absent in ("", "globex.example"):
        with pytest.raises(Tenant.DoesNotExist):
            Tenant.objects.get_by_domain(absent)


def test_apps_and_branches_are_asked_by_what_they_belong_to(acme, acme_app, globex_app):
    web = AppFactory(tenant=acme, app_type="web")
    branch = BranchFactory(app=acme_app)
    BranchFactory(app=web)

    assert set(App.objects.for_tenant(acme)) == {acme_app, web}
    assert list(App.objects.for_tenant(acme).of_type("web").active()) == [web]
    assert list(Branch.objects.for_app(acme_app)) == [branch]


@pytest.mark.parametrize(
    "address",
    [
        {"street": "x"},
        {"lines": "Main Street"},
        {"lines": [1]},
        {"country": "de"},
        {"country": "DEU"},
        {"country": 49},
        ["Main Street 1"],
    ],
)
def test_an_address_has_its_shape(acme_app, address):
    branch = BranchFactory.build(app=acme_app, tenant=acme_app.tenant, address=address)

    with pytest.raises(ValidationError) as caught:
        branch.full_clean()

    assert "address" in caught.value.message_dict


def test_a_whole_address_is_taken(acme_app):
    address = {"lines": ["Main Street 1"], "city": "Berlin", "region": "BE", "postal_code": "10115", "country": "DE"}

    BranchFactory(app=acme_app, address=address).full_clean()


def test_the_database_url_is_not_in_the_audit_log(acme):
    Tenant.objects.filter(pk=acme.pk).update(db_dsn="postgresql://acme:hunter2@db/acme", name="Acme 2")

    row = AuditLog.objects.for_object(acme).with_action("update").get()

    assert row.after == {"name": "Acme 2", "db_dsn": "[redacted]"}
    assert row.tenant_id == acme.pk


# --- what auditing asks


def test_the_directory_knows_tenants_deleted_ones_too(acme, globex):
    globex.delete("closed")

    told = directory().tenants([acme.pk, globex.pk, uuid7()])

    assert isinstance(directory(), TenantDirectory)
    assert {id: (facts.name, facts.time_zone) for id, facts in told.items()} == {
        acme.pk: ("Acme", "Europe/Berlin"),
        globex.pk: ("Globex", "UTC"),
    }


def test_the_directory_finds_by_slug_and_id_within_a_tenant(acme, acme_app, globex):
    find = TenantDirectory().find

    assert find("tenant", "acme") == find("tenant", str(acme.pk)) == acme.pk
    assert find("tenant", "nowhere") is None
    assert find("app", "chat", acme.pk) == find("app", str(acme_app.pk), acme.pk) == acme_app.pk
    assert find("app", "chat", globex.pk) is None
    assert find("app", str(acme_app.pk), globex.pk) is None


def test_a_slug_that_looks_like_an_id_is_found_too(db):
    slug = "0123456789abcdef" * 2
    tenant = TenantFactory(slug=slug)

    assert TenantDirectory().find("tenant", slug) == tenant.pk


def test_the_directory_names_ids_of_every_kind(acme, acme_app):
    branch, user, key = BranchFactory(app=acme_app), UserFactory(tenant=acme), issue(acme_app, name="ci").key
    names = TenantDirectory().names

    assert names("tenant", [acme.pk, uuid7()]) == {acme.pk: "Acme"}
    assert names("app", [acme_app.pk]) == {acme_app.pk: "Chat"}
    assert names("branch", [branch.pk]) == {branch.pk: branch.name}
    assert names("user", [user.pk]) == {user.pk: user.email}
    assert names("api_key", [key.pk]) == {key.pk: "ci"}


def test_psql_sets_the_time_of_change_too(acme):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_tenants_tenant SET name = 'By hand' WHERE id = %s RETURNING updated_at", [acme.pk])
        [changed] = cursor.fetchone()

    assert changed > acme.created_at
