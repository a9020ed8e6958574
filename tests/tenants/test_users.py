from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, connections, transaction

from auditing.models import AuditLog
from tenants.errors import InvalidKey, TenantsError
from tenants.models import APIKey, RefreshToken, Role, User, UserApp
from tenants.scope import tenant_scope
from tests.factories import AppFactory, OperatorFactory, TenantFactory, UserAppFactory, UserFactory, issue
from tests.races import together


def code_of(call, *args, **kwargs):
    with pytest.raises(TenantsError) as caught:
        call(*args, **kwargs)
    return caught.value.code


# --- making and finding


def test_a_user_of_a_tenant_is_a_viewer_without_rights_in_the_admin(acme):
    user = User.objects.create_user("Ada@Example.ORG", "correct horse", tenant=acme)

    assert (user.tenant, user.role, user.is_staff, user.is_superuser) == (acme, "viewer", False, False)
    assert user.check_password("correct horse")
    assert "correct horse" not in user.password


@pytest.mark.django_db
def test_a_user_without_tenant_is_an_operator():
    assert User.objects.create_user("ops@example.org").role == "operator"
    assert User.objects.create_superuser("root@example.org").is_superuser


def test_without_a_password_nobody_signs_in_by_one(acme):
    assert not User.objects.create_user("ada@example.org", tenant=acme).has_usable_password()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"email": ""}, "email"),
        ({"email": "no address"}, "email"),
        ({"email": "a/b@example.org"}, "email"),
        ({"email": "a@example.org", "username": "a@b"}, "username"),
        ({"email": "a@example.org", "role": "king"}, "role"),
        ({"email": "a@example.org", "metadata": [1]}, "metadata"),
        ({"email": "taken@example.org"}, "__all__"),
        ({"email": "TAKEN@example.org"}, "__all__"),
        ({"email": "a@example.org", "is_staff": True}, "__all__"),
    ],
)
def test_a_user_that_may_not_be_is_refused_by_field(acme, fields, field):
    UserFactory(tenant=acme, email="taken@example.org")

    with pytest.raises(ValidationError) as caught:
        User.objects.create_user(tenant=acme, **fields)

    assert field in caught.value.message_dict


def test_an_email_is_found_in_any_case_in_its_tenant_only(acme, globex):
    ada = UserFactory(tenant=acme, email="ada@example.org")
    UserFactory(tenant=globex, email="ada@example.org")
    root = OperatorFactory(email="Ada@example.org")

    assert User.objects.get_by_email("ADA@EXAMPLE.ORG", tenant=acme) == ada
    assert User.objects.get_by_email("ada@example.org") == root
    with pytest.raises(User.DoesNotExist):
        User.objects.get_by_email("bob@example.org", tenant=acme)


def test_a_subject_is_found_by_the_exact_pair(acme):
    ada = UserFactory(tenant=acme, oidc_issuer="https://id.example", oidc_sub="Abc")

    assert User.objects.get_by_sub("Abc", "https://id.example") == ada
    for sub, issuer in (("abc", "https://id.example"), ("Abc", "https://id.example/"), ("Abc", ""), ("", "")):
        with pytest.raises(User.DoesNotExist):
            User.objects.get_by_sub(sub, issuer)


def test_search_finds_by_beginning_and_by_likeness_in_the_tenant(acme, globex):
    ada = UserFactory(tenant=acme, email="ada@example.org", username="ada", display_name="Ada Lovelace")
    bob = UserFactory(tenant=acme, email="bob@example.org", display_name="Bob")
    UserFactory(tenant=globex, email="ada2@example.org", display_name="Ada Lovelace")

    assert User.objects.search("ada", tenant=acme).first() == ada
    assert User.objects.search("Ada Lovelase", tenant=acme).first() == ada
    assert list(User.objects.search("bob", tenant=acme)) == [bob]
    assert list(User.objects.search("%", tenant=acme)) == []
    assert User.objects.search("ada").count() == 2


def test_users_are_counted_by_role_and_status(acme):
    UserFactory(tenant=acme, role="admin")
    UserFactory(tenant=acme)
    UserFactory(tenant=acme, is_active=False)
    UserFactory(tenant=acme).delete("left")

    assert User.objects.for_tenant(acme).count_by("role") == {"admin": 1, "viewer": 3}
    assert User.objects.for_tenant(acme).count_by("status") == {"active": 2, "inactive": 1, "deleted": 1}
    with pytest.raises(ValueError, match="role or status"):
        User.objects.count_by("email")


# --- the last owner


@pytest.fixture
def owner(acme):
    return UserFactory(tenant=acme, role=Role.OWNER)


@pytest.mark.parametrize(
    "change",
    [
        lambda user: User.objects.filter(pk=user.pk).update(role="admin"),
        lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
        lambda user: User.objects.update(role="viewer"),
        lambda user: User.objects.filter(pk=user.pk).delete(),
        lambda user: User.objects.filter(pk=user.pk).update(tenant=TenantFactory()),
        lambda user: User.objects.filter(pk=user.pk).update(tenant=None, role="operator"),
        lambda user: User.objects.bulk_update([User(pk=user.pk, role="billing")], ["role"]),
    ],
    ids=["demoted", "deactivated", "all demoted", "deleted", "moved", "made operator", "in bulk"],
)
def test_the_last_owner_stays_whoever_changes_what(owner, change):
    with pytest.raises(IntegrityError, match="cp_tenants_user_last_owner"), transaction.atomic():
        change(owner)


def test_the_last_owner_stays_by_methods_too_with_a_name_for_it(owner):
    assert code_of(owner.deactivate, "left") == "last_owner"
    assert code_of(owner.delete, "left") == "last_owner"

    owner.refresh_from_db()
    assert owner.is_active


def test_one_of_two_owners_may_go(owner, acme):
    second = UserFactory(tenant=acme, role=Role.OWNER)

    owner.deactivate("left")

    assert code_of(second.deactivate, "left too") == "last_owner"


def test_an_inactive_owner_and_one_of_another_tenant_do_not_count(owner, acme, globex):
    UserFactory(tenant=acme, role=Role.OWNER, is_active=False)
    UserFactory(tenant=globex, role=Role.OWNER)

    assert code_of(owner.deactivate, "left") == "last_owner"


def test_both_owners_in_one_statement_stay(owner, acme):
    UserFactory(tenant=acme, role=Role.OWNER)

    with pytest.raises(IntegrityError, match="cp_tenants_user_last_owner"), transaction.atomic():
        User.objects.filter(tenant=acme).update(is_active=False)


def test_a_tenant_without_owners_may_change(acme):
    admin = UserFactory(tenant=acme, role=Role.ADMIN)

    admin.deactivate("left")


def test_an_owner_is_kept_inside_a_scope_too(owner, acme):
    with pytest.raises(IntegrityError, match="cp_tenants_user_last_owner"), tenant_scope(acme):
        User.objects.update(role="viewer")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_of_two_owners_that_go_at_once_one_stays(acme, isolation):
    owners = [UserFactory(tenant=acme, role=Role.OWNER) for _ in range(2)]

    def leave(user):
        with transaction.atomic(), connections["default"].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL " + isolation)
            cursor.execute("SELECT count(*) FROM cp_tenants_user")  # takes the snapshot
            ready.append(user.pk)
            while len(ready) < 2:
                cursor.execute("SELECT pg_sleep(0.001)")
            User.objects.filter(pk=user.pk).update(is_active=False)

    ready = []
    outcomes = together(*(lambda u=user: leave(u) for user in owners))

    assert len([outcome for outcome in outcomes if outcome is not None]) == 1
    assert User.objects.filter(tenant=acme, is_active=True).count() == 1


# --- leaving and coming back


def test_a_user_leaves_and_comes_back_with_reasons(acme):
    user = UserFactory(tenant=acme)

    user.deactivate("left")
    assert not user.is_active
    assert user.tokens_valid_after is not None
    user.activate("came back")
    assert user.is_active
    user.delete("left for good")
    assert user.deleted_at is not None

    log = AuditLog.objects.for_object(user).with_action("update").order_by("id")
    assert [row.reason for row in log] == ["left", "came back", "left for good"]
    assert User.objects.filter(pk=user.pk).exists()


@pytest.mark.parametrize("operation", ["deactivate", "activate", "delete"])
def test_without_a_reason_nothing_happens(acme, operation):
    user = UserFactory(tenant=acme)

    assert code_of(getattr(user, operation), "  ") == "reason_required"


# --- access to apps


def test_access_is_granted_changed_revoked_and_granted_anew(acme_app):
    user = UserFactory(tenant=acme_app.tenant)

    first = acme_app.grant(user, "developer", by="ops")
    assert (first.role, first.status, first.granted_by) == ("developer", "active", "ops")
    assert acme_app.grant(user, "admin").pk == first.pk
    assert acme_app.revoke(user, "moved", by="ops") is True
    assert acme_app.revoke(user) is False
    revoked = UserApp.objects.get()
    assert (revoked.status, revoked.revoked_by, revoked.reason) == ("revoked", "ops", "moved")
    again = acme_app.grant(user)

    assert (again.pk, again.role, again.status, again.revoked_at, again.reason) == (
        first.pk,
        "viewer",
        "active",
        None,
        "",
    )


def test_access_is_asked_from_both_ends(acme, acme_app):
    ada, bob = UserFactory(tenant=acme), UserFactory(tenant=acme)
    other = AppFactory(tenant=acme)
    acme_app.grant(ada)
    acme_app.grant(bob)
    other.grant(ada)
    acme_app.revoke(bob)

    assert set(User.objects.with_access_to(acme_app)) == {ada}
    assert set(ada.apps()) == {acme_app, other}
    assert set(bob.apps()) == set()


def test_access_stays_in_the_tenant(acme_app, globex):
    assert code_of(acme_app.grant, UserFactory(tenant=globex)) == "wrong_tenant"
    assert code_of(acme_app.grant, OperatorFactory()) == "operator"
    assert code_of(acme_app.grant, UserFactory(tenant=acme_app.tenant), "owner") == "unknown_role"
    assert not UserApp.objects.exists()


def test_an_unchanged_grant_leaves_no_trace(acme_app):
    access = UserAppFactory(app=acme_app)
    before = AuditLog.objects.for_object(access).order_by("id").last()

    acme_app.grant(access.user)

    assert AuditLog.objects.for_object(access).order_by("id").last() == before


@pytest.mark.django_db(transaction=True)
def test_two_grants_at_once_are_one_access(acme_app):
    user = UserFactory(tenant=acme_app.tenant)

    outcomes = together(*(lambda: acme_app.grant(user) for _ in range(3)))

    assert {outcome.pk for outcome in outcomes} == {UserApp.objects.get().pk}


def test_passwords_are_never_shown(acme):
    user = UserFactory(tenant=acme, password="correct horse")

    assert "correct horse" not in repr(user) + str(vars(user))
    created = AuditLog.objects.for_object(user).with_action("create").get()
    assert created.after["password"] == "[redacted]"


def test_a_changed_password_shows_as_changed_and_nothing_more(acme):
    user = UserFactory(tenant=acme)
    user.set_password("new one")
    user.save()

    row = AuditLog.objects.for_object(user).with_action("update").get()

    assert (row.before, row.after) == ({"password": "[redacted]"}, {"password": "[redacted]"})


def test_the_connection_is_back_to_itself_after_a_refusal(owner):
    with pytest.raises(TenantsError):
        owner.deactivate("left")

    assert not connection.needs_rollback


def test_the_preview_of_a_deactivation_counts_what_ends_and_what_has_been_seen(acme_app, globex_app):
    ada = UserFactory(tenant=acme_app.tenant)
    acme_app.grant(ada)
    own = issue(acme_app, user=ada, by_id=ada.pk).key
    issue(acme_app, user=ada).key.revoke("over")
    issue(acme_app, by_id=ada.pk)
    issue(acme_app, user=UserFactory(tenant=ada.tenant), by_id=ada.pk)  # another person's: not hers to lose
    issue(globex_app)
    RefreshToken.objects.issue(ada)
    RefreshToken.objects.revoke(RefreshToken.objects.issue(ada).token)

    preview = ada.deactivation_preview()
    assert (preview.keys, preview.families, preview.accesses, preview.seen_keys) == (1, 1, 1, 1)
    assert (
        str(preview) == "1 live keys, 1 sessions, 1 app accesses; 1 keys that they issued for apps go on, rotate them"
    )

    ada.deactivate("left")
    assert RefreshToken.objects.count_active(ada) == 0
    with pytest.raises(InvalidKey, match="deactivated"):
        APIKey.objects.verify(own.rotate().token)
    assert str(UserFactory().deactivation_preview()) == "0 live keys, 0 sessions, 0 app accesses"


def test_the_preview_of_an_operators_deactivation_counts_keys_of_every_tenant(acme_app, globex_app):
    root = OperatorFactory()
    for app in (acme_app, globex_app):
        issue(app, by_id=root.pk)

    assert root.deactivation_preview().seen_keys == 2
    assert User.objects.filter(pk__in=[root.pk, UserFactory().pk]).deactivation_preview().seen_keys == 2
