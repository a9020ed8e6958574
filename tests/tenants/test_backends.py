from __future__ import annotations

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import MD5PasswordHasher
from django.test import override_settings

from tenants.backends import TenantBackend
from tenants.models import Role
from tenants.roles import PERMISSIONS
from tests.factories import OperatorFactory, UserFactory

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def our_backend(db):
    with override_settings(AUTHENTICATION_BACKENDS=["tenants.backends.TenantBackend"]):
        yield


@pytest.fixture
def ada(acme):
    return UserFactory(tenant=acme, email="ada@example.org", username="ada")


@pytest.mark.parametrize("name", ["ada@example.org", "ADA@Example.org", "acme/ada", "acme/ADA", "acme/ada@example.org"])
def test_a_user_signs_in_by_email_or_by_tenant_and_name(ada, name):
    assert authenticate(username=name, password=PASSWORD) == ada


@pytest.mark.parametrize(
    "name",
    ["ada", "globex/ada", "ACME/ada", "acme/", "/ada", "acme//ada", "acme/ada/", "", " ada@example.org", "nobody@example.org",
     "ada@example.org\x00", "acme/ada\x00", "%", "acme/%"],
)  # fmt: skip
def test_a_name_that_is_not_quite_it_signs_nobody_in(ada, globex, name):
    assert authenticate(username=name, password=PASSWORD) is None


def test_a_bare_name_is_an_operators(ada):
    root = OperatorFactory(username="ada")

    assert authenticate(username="ada", password=PASSWORD) == root


def test_an_email_of_two_tenants_signs_nobody_in_but_with_the_tenant_it_does(ada, globex):
    other = UserFactory(tenant=globex, email="ada@example.org")

    assert authenticate(username="ada@example.org", password=PASSWORD) is None
    assert authenticate(username="globex/ada@example.org", password=PASSWORD) == other


def test_no_tenant_locks_an_operator_out_by_taking_its_email(acme, globex):
    root = OperatorFactory(email="root@example.org")
    UserFactory(tenant=acme, email="root@example.org")
    UserFactory(tenant=globex, email="root@example.org", username="x")

    assert authenticate(username="root@example.org", password=PASSWORD) == root


@pytest.mark.parametrize("password", ["", "wrong", "correct horse ", "Correct horse", None, "x" * 1025, "é" * 513])
def test_a_wrong_password_signs_nobody_in(ada, password):
    assert authenticate(username="ada@example.org", password=password) is None


def test_a_password_of_1024_bytes_is_taken(ada):
    ada.set_password("é" * 512)
    ada.save()

    assert authenticate(username="ada@example.org", password="é" * 512) == ada


def test_who_is_deactivated_or_whose_tenant_is_suspended_stays_out_and_sessions_end(ada, acme):
    backend = TenantBackend()
    assert backend.get_user(ada.pk) == ada

    acme.suspend("unpaid")
    assert authenticate(username="ada@example.org", password=PASSWORD) is None
    assert backend.get_user(ada.pk) is None
    acme.resume()
    assert backend.get_user(ada.pk) == ada
    ada.deactivate("left")
    assert authenticate(username="ada@example.org", password=PASSWORD) is None
    assert backend.get_user(ada.pk) is None


class CountingHasher(MD5PasswordHasher):
    algorithm = "counting"
    hashed = 0

    def encode(self, password, salt):
        type(self).hashed += 1
        return super().encode(password, salt)


@pytest.mark.parametrize(
    "name", ["ada@example.org", "nobody@example.org", "acme/ada", "acme/nobody", "nowhere/ada", "nobody", "gone@example.org",
             "two@example.org", "unusable@example.org"]
)  # fmt: skip
def test_every_failure_costs_exactly_one_hash(acme, globex, name):
    with override_settings(PASSWORD_HASHERS=[f"{__name__}.CountingHasher"]):
        UserFactory(tenant=acme, email="ada@example.org", username="ada")
        UserFactory(tenant=acme, email="gone@example.org", is_active=False)
        UserFactory(tenant=acme, email="two@example.org")
        UserFactory(tenant=globex, email="two@example.org")
        UserFactory(tenant=acme, email="unusable@example.org", password="!")
        CountingHasher.hashed = 0

        assert authenticate(username=name, password="wrong") is None

        assert CountingHasher.hashed == 1


def test_credentials_of_another_backend_are_not_ours(ada):
    assert authenticate(token="x") is None
    assert authenticate(email="ada@example.org", password=PASSWORD) == ada


@pytest.mark.parametrize("role", [role for role in Role.values if role != "operator"])
def test_permissions_come_from_the_role_alone(acme, role):
    user = UserFactory(tenant=acme, role=role)

    assert user.get_all_permissions() == PERMISSIONS[role]
    assert all(user.has_perm(permission) for permission in PERMISSIONS[role])
    assert not user.has_perm("cp_tenants.delete_tenant")
    assert not user.has_perm("cp_auditing.change_auditlog")


def test_a_deactivated_user_may_nothing(acme):
    user = UserFactory(tenant=acme, role=Role.ADMIN, is_active=False)

    assert user.get_all_permissions() == set()
    assert not user.has_perm("cp_tenants.view_app")


def test_roles_differ_in_what_matters():
    assert "cp_tenants.issue_apikey" in PERMISSIONS["developer"]
    assert "cp_tenants.issue_apikey" not in PERMISSIONS["auditor"]
    assert "cp_auditing.view_auditlog" in PERMISSIONS["auditor"]
    assert "cp_auditing.view_auditlog" not in PERMISSIONS["viewer"] | PERMISSIONS["billing"] | PERMISSIONS["developer"]
    assert set(PERMISSIONS) == set(Role.values)


def test_an_operator_has_its_groups_and_a_superuser_everything():
    assert OperatorFactory(is_superuser=False).get_all_permissions() == set()
    assert OperatorFactory().has_perm("cp_tenants.delete_tenant")


def test_the_form_says_one_thing_to_every_failure(client, acme):
    UserFactory(tenant=acme, email="ada@acme.example")
    url = "/admin/login/"

    pages = [
        client.post(url, {"username": name, "password": "wrong-wrong-1"}).content.decode()
        for name in ("ada@acme.example", "nobody@acme.example", "acme/nobody")
    ]

    assert all("or organisation/user name" in page for page in pages)
    assert "E-mail or user name" in client.get(url).content.decode()
