from __future__ import annotations

import pytest
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import IntegrityError, connection, models, transaction

from controlplane.core.constraints import TenantForeignKey, json_object
from tenants.models import Branch, Tenant, UserApp
from tests.factories import AppFactory, BranchFactory, UserAppFactory, UserFactory

OF_APP = TenantForeignKey(fields=("tenant", "app"), to="cp_tenants.App", name="cp_tenants_branch_app_of_tenant")


@pytest.mark.django_db
def test_a_row_that_points_into_another_tenant_is_refused(acme_app, globex_app):
    branch = BranchFactory(app=acme_app)

    with pytest.raises(IntegrityError, match="cp_tenants_branch_app_of_tenant"), transaction.atomic():
        Branch.objects.filter(pk=branch.pk).update(app=globex_app)
    with pytest.raises(IntegrityError, match="cp_tenants_branch_app_of_tenant"), transaction.atomic():
        Branch.objects.bulk_create([Branch(tenant=acme_app.tenant, app=globex_app, code="x", name="x")])


@pytest.mark.django_db
def test_a_row_that_is_pointed_at_cannot_leave_its_tenant(acme_app, globex):
    BranchFactory(app=acme_app)

    with pytest.raises(IntegrityError, match="cp_tenants_branch_app_of_tenant"), transaction.atomic():
        type(acme_app).objects.filter(pk=acme_app.pk).update(tenant=globex, slug="moved", name="Moved")


@pytest.mark.django_db
def test_a_row_that_is_pointed_at_cannot_go(acme_app):
    BranchFactory(app=acme_app)

    with (
        pytest.raises(IntegrityError, match="cp_tenants_branch_app_of_tenant"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM cp_tenants_app WHERE id = %s", [acme_app.pk])


@pytest.mark.django_db
def test_a_form_says_so_at_the_field_before_the_database_does(acme_app, globex_app):
    branch = BranchFactory(app=acme_app)
    branch.app = globex_app

    with pytest.raises(ValidationError) as caught:
        branch.full_clean()

    assert caught.value.error_dict["app"][0].code == "wrong_tenant"


@pytest.mark.django_db
def test_a_form_that_does_not_show_a_field_is_not_checked_for_it(acme_app, globex_app):
    branch = BranchFactory(app=acme_app)
    branch.app = globex_app

    OF_APP.validate(Branch, branch, exclude={"app"})
    with pytest.raises(ValidationError):
        OF_APP.validate(Branch, branch, exclude={"name"})


@pytest.mark.django_db
def test_an_empty_reference_is_not_checked(acme_app):
    OF_APP.validate(Branch, Branch(tenant=acme_app.tenant, app=None))


@pytest.mark.django_db
def test_both_ends_of_an_access_are_of_its_tenant(acme_app, globex):
    access = UserAppFactory(app=acme_app)

    with pytest.raises(IntegrityError, match="cp_tenants_userapp_user_of_tenant"), transaction.atomic():
        UserApp.objects.filter(pk=access.pk).update(user=UserFactory(tenant=globex))
    with pytest.raises(IntegrityError, match="cp_tenants_userapp_app_of_tenant"), transaction.atomic():
        UserApp.objects.filter(pk=access.pk).update(app=AppFactory(tenant=globex))


@pytest.mark.django_db
def test_it_is_checked_at_once_and_can_be_deferred(acme_app, globex_app):
    branch = BranchFactory(app=acme_app)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS cp_tenants_branch_app_of_tenant DEFERRED")
        Branch.objects.filter(pk=branch.pk).update(app=globex_app)
        Branch.objects.filter(pk=branch.pk).update(app=acme_app)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_it_survives_being_written_into_a_migration():
    path, args, kwargs = OF_APP.deconstruct()

    again = TenantForeignKey(*args, **kwargs)

    assert path == "controlplane.core.constraints.TenantForeignKey"
    assert again == OF_APP
    assert hash(again) == hash(OF_APP)
    assert again != TenantForeignKey(fields=("tenant", "app"), to="cp_tenants.App", name="another")


def test_it_names_as_many_fields_on_both_sides():
    with pytest.raises(ValueError, match="differ in number"):
        TenantForeignKey(fields=("tenant",), to="cp_tenants.App", name="x")


def test_it_needs_columns_not_relations_from_elsewhere():
    wrong = TenantForeignKey(fields=("tenant", "keys"), to="cp_tenants.App", name="x")

    with pytest.raises(FieldDoesNotExist, match="keys"):
        wrong.validate(Branch, Branch())


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["[]", '"text"', "1", "null", '{"a": "' + "x" * 65_536 + '"}'])
def test_a_json_column_holds_an_object_of_64_kib_at_most(acme, value):
    with (
        pytest.raises(IntegrityError, match="cp_tenants_tenant_metadata_is_object"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("UPDATE cp_tenants_tenant SET metadata = %s::jsonb WHERE id = %s", [value, acme.pk])


@pytest.mark.django_db
def test_a_json_object_just_within_its_size_is_taken(acme):
    Tenant.objects.filter(pk=acme.pk).update(metadata={"a": "x" * (65_536 - len('{"a": ""}'))})


def test_the_words_of_a_json_rule_name_field_and_size():
    rule = json_object("metadata", "x", 8192)

    assert isinstance(rule, models.CheckConstraint)
    assert rule.violation_error_message == "metadata is a JSON object of at most 8 KiB."
