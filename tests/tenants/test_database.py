from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from controlplane.core.ids import now, uuid7
from tenants.models import (
    APIKey,
    APIKeySecret,
    App,
    Branch,
    RefreshFamily,
    RefreshToken,
    SignInCount,
    Tenant,
    User,
    UserApp,
)  # fmt: skip
from tests.factories import (
    APIKeyFactory,
    APIKeySecretFactory,
    AppFactory,
    BranchFactory,
    OperatorFactory,
    RefreshFamilyFactory,
    RefreshTokenFactory,
    TenantFactory,
    UserAppFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db

NOW = now()


def refused(name):
    return pytest.raises(IntegrityError, match=rf"{name}\b")


def change(row, **values):
    with transaction.atomic():
        type(row)._base_manager.filter(pk=row.pk).update(**values)


# one way to break each rule of one column: model's factory, values, constraint
BROKEN = [
    (TenantFactory, {"status": "gone"}, "cp_tenants_tenant_status"),
    (TenantFactory, {"status": "deleted"}, "cp_tenants_tenant_deleted_has_a_time"),
    (TenantFactory, {"deleted_at": now()}, "cp_tenants_tenant_deleted_has_a_time"),
    (TenantFactory, {"slug": "Acme"}, "cp_tenants_tenant_slug_is_plain"),
    (TenantFactory, {"slug": "a"}, "cp_tenants_tenant_slug_is_plain"),
    (TenantFactory, {"slug": "-a"}, "cp_tenants_tenant_slug_is_plain"),
    (TenantFactory, {"slug": "a--b"}, "cp_tenants_tenant_slug_is_plain"),
    (TenantFactory, {"slug": "acme\n"}, "cp_tenants_tenant_slug_is_plain"),
    (TenantFactory, {"slug": "acmé"}, "cp_tenants_tenant_slug_is_plain"),
    (TenantFactory, {"domain": "Acme.example"}, "cp_tenants_tenant_domain_in_lower_case"),
    (TenantFactory, {"time_zone": "Mars/Phobos"}, "cp_tenants_tenant_time_zone_is_known"),
    (TenantFactory, {"time_zone": ""}, "cp_tenants_tenant_time_zone_is_known"),
    (TenantFactory, {"time_zone": "Moon5"}, "cp_tenants_tenant_time_zone_is_known"),
    (TenantFactory, {"settings": []}, "cp_tenants_tenant_settings_is_object"),
    (TenantFactory, {"metadata": "text"}, "cp_tenants_tenant_metadata_is_object"),
    (AppFactory, {"status": "gone"}, "cp_tenants_app_status"),
    (AppFactory, {"status": "deleted"}, "cp_tenants_app_deleted_has_a_time"),
    (AppFactory, {"slug": "A"}, "cp_tenants_app_slug_is_plain"),
    (AppFactory, {"config": [1]}, "cp_tenants_app_config_is_object"),
    (AppFactory, {"metadata": 1}, "cp_tenants_app_metadata_is_object"),
    (BranchFactory, {"status": "gone"}, "cp_tenants_branch_status"),
    (BranchFactory, {"deleted_at": now()}, "cp_tenants_branch_deleted_has_a_time"),
    (BranchFactory, {"address": "here"}, "cp_tenants_branch_address_is_object"),
    (BranchFactory, {"metadata": []}, "cp_tenants_branch_metadata_is_object"),
    (UserFactory, {"oidc_sub": "1"}, "cp_tenants_user_oidc_pair"),
    (UserFactory, {"oidc_issuer": "https://id.example"}, "cp_tenants_user_oidc_pair"),
    (UserFactory, {"email": "a/b@example.org"}, "cp_tenants_user_email_without_slash"),
    (UserFactory, {"username": "a/b"}, "cp_tenants_user_username_is_plain"),
    (UserFactory, {"username": "a@b"}, "cp_tenants_user_username_is_plain"),
    (UserFactory, {"role": "king"}, "cp_tenants_user_role"),
    (UserFactory, {"role": "operator"}, "cp_tenants_user_operator_has_no_tenant"),
    (OperatorFactory, {"role": "viewer"}, "cp_tenants_user_operator_has_no_tenant"),
    (UserFactory, {"is_staff": True}, "cp_tenants_user_staff_is_operator"),
    (UserFactory, {"is_superuser": True}, "cp_tenants_user_staff_is_operator"),
    (UserFactory, {"deleted_at": now()}, "cp_tenants_user_deleted_is_inactive"),
    (UserFactory, {"metadata": None}, "metadata"),
    (UserFactory, {"metadata": []}, "cp_tenants_user_metadata_is_object"),
    (UserAppFactory, {"role": "owner"}, "cp_tenants_userapp_role"),
    (UserAppFactory, {"status": "revoked"}, "cp_tenants_userapp_revoked_has_a_time"),
    (UserAppFactory, {"revoked_at": now()}, "cp_tenants_userapp_revoked_has_a_time"),
    (APIKeyFactory, {"name": ""}, "cp_tenants_apikey_has_a_name"),
    (APIKeyFactory, {"not_before": NOW, "expires_at": NOW}, "cp_tenants_apikey_begins_before_it_ends"),
    (APIKeyFactory, {"scopes": [f"s{n}" for n in range(65)]}, "cp_tenants_apikey_few_scopes"),
    *(
        (APIKeyFactory, {"scopes": scopes}, "cp_tenants_apikey_scopes_have_their_shape")
        for scopes in (["Chat"], [""], ["a", "b,c"], ["a b"], ["a\n"], ['"'], ["a}", "{b"], ["NULL"], ["é"], ["1a"], [None])
    ),
    (APIKeyFactory, {"allowed_models": ["m"] * 1001}, "cp_tenants_apikey_few_models"),
    (APIKeyFactory, {"tags": ["t"] * 33}, "cp_tenants_apikey_few_tags"),
    (APIKeyFactory, {"metadata": []}, "cp_tenants_apikey_metadata_is_object"),
    (APIKeyFactory, {"metadata": {"a": "x" * 8192}}, "cp_tenants_apikey_metadata_is_object"),
    (APIKeyFactory, {"environment": "test"}, "cp_tenants_apikey_identity"),
    (APIKeySecretFactory, {"digest": b"short"}, "cp_tenants_apikeysecret_digest_is_32_bytes"),
    (APIKeySecretFactory, {"kid": "x" * 12}, "cp_tenants_apikeysecret_identity"),
    (RefreshFamilyFactory, {"revoked_at": NOW}, "cp_tenants_refreshfamily_revoked_has_a_reason"),
    (RefreshFamilyFactory, {"revoked_reason": "all"}, "cp_tenants_refreshfamily_revoked_has_a_reason"),
    (RefreshFamilyFactory, {"revoked_at": NOW, "revoked_reason": "mood"}, "cp_tenants_refreshfamily_revoked_has_a_reason"),
    (RefreshFamilyFactory, {"absolute_expires_at": NOW}, "cp_tenants_refreshfamily_identity"),
    (RefreshFamilyFactory, {"created_at": NOW}, "cp_tenants_refreshfamily_identity"),
    (RefreshTokenFactory, {"digest": b"short"}, "cp_tenants_refreshtoken_digest_is_32_bytes"),
    (RefreshTokenFactory, {"generation": 2}, "cp_tenants_refreshtoken_identity"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("factory", "values", "name"), BROKEN, ids=[f"{name}-{n}" for n, (_, _, name) in enumerate(BROKEN)]
)
def test_a_row_that_breaks_a_rule_is_refused_by_name(factory, values, name):
    row = factory()

    with refused(name):
        change(row, **values)


@pytest.mark.parametrize("scopes", [[], ["a"], ["null", "chat.write:all-1_x"], ["s" * 64] * 64], ids=len)
def test_a_scope_of_its_shape_is_taken(scopes):
    key = APIKeyFactory()

    APIKey.objects.filter(pk=key.pk).update(scopes=scopes)

    key.refresh_from_db()
    assert key.scopes == scopes


def test_an_environment_is_live_or_test():
    key = APIKeyFactory.build(app=AppFactory(), environment="prod")
    key.tenant = key.app.tenant

    with refused("cp_tenants_apikey_environment"):
        key.save(force_insert=True)


def test_a_slug_is_taken_once_of_all_tenants_by_what_was_deleted_too():
    TenantFactory(slug="acme", status="deleted", deleted_at=now())

    with refused("cp_tenants_tenant_slug_key"):
        TenantFactory(slug="acme")


def test_a_domain_has_one_tenant_and_many_have_none():
    TenantFactory(domain="acme.example")
    TenantFactory()
    TenantFactory()

    with refused("cp_tenants_tenant_domain_once"):
        TenantFactory(domain="acme.example")


def test_slug_and_name_of_an_app_are_taken_once_in_a_tenant(acme, globex):
    AppFactory(tenant=acme, slug="chat", name="Chat")
    AppFactory(tenant=globex, slug="chat", name="Chat")

    with refused("cp_tenants_app_slug_once"), transaction.atomic():
        AppFactory(tenant=acme, slug="chat")
    with refused("cp_tenants_app_name_once"):
        AppFactory(tenant=acme, name="CHAT")


def test_a_code_is_taken_once_in_an_app(acme):
    branch = BranchFactory(app=AppFactory(tenant=acme))
    BranchFactory(app=AppFactory(tenant=acme), code=branch.code)

    with refused("cp_tenants_branch_code_once"):
        BranchFactory(app=branch.app, code=branch.code)


def test_an_email_and_a_user_name_are_taken_once_in_a_tenant_in_any_case(acme, globex):
    UserFactory(tenant=acme, email="ada@example.org", username="ada")
    UserFactory(tenant=globex, email="ada@example.org", username="ada")
    UserFactory(tenant=acme, username=None)

    with refused("cp_tenants_user_email_once"), transaction.atomic():
        UserFactory(tenant=acme, email="ADA@example.org")
    with refused("cp_tenants_user_username_once"):
        UserFactory(tenant=acme, username="Ada")


def test_operators_have_names_of_their_own_too():
    OperatorFactory(email="root@example.org", username="root")

    with refused("cp_tenants_user_email_once"), transaction.atomic():
        OperatorFactory(email="Root@example.org")
    with refused("cp_tenants_user_username_once"):
        OperatorFactory(username="ROOT")


def test_an_identity_of_an_issuer_is_one_user_of_all_tenants(acme, globex):
    UserFactory(tenant=acme, oidc_issuer="https://id.example", oidc_sub="1")
    UserFactory(tenant=acme, oidc_issuer="https://other.example", oidc_sub="1")

    with refused("cp_tenants_user_oidc_once"):
        UserFactory(tenant=globex, oidc_issuer="https://id.example", oidc_sub="1")


def test_an_access_is_one_row_for_a_user_and_an_app():
    access = UserAppFactory()

    with refused("cp_tenants_userapp_once"):
        UserAppFactory(app=access.app, user=access.user)


def test_a_kid_and_a_digest_are_once_of_all_tenants():
    secret = APIKeySecretFactory()

    with refused("cp_tenants_apikeysecret_kid_once"), transaction.atomic():
        APIKeySecretFactory(kid=secret.kid)
    with refused("cp_tenants_apikeysecret_digest_once"):
        APIKeySecretFactory(digest=secret.digest)


def test_a_refresh_token_is_once_of_all_tenants_and_one_of_a_family_is_unused():
    token = RefreshTokenFactory()

    with refused("cp_tenants_refreshtoken_digest_once"), transaction.atomic():
        RefreshTokenFactory(digest=token.digest)
    with refused("cp_tenants_refreshtoken_generation_once"), transaction.atomic():
        RefreshTokenFactory(family=token.family, used_at=now())
    with refused("cp_tenants_refreshtoken_one_unused"):
        RefreshTokenFactory(family=token.family, generation=2)


def test_a_family_begins_before_it_ends():
    with refused("cp_tenants_refreshfamily_begins_before_it_ends"):
        RefreshFamilyFactory(created_at=NOW, absolute_expires_at=NOW)


def test_whose_a_family_or_a_token_is_never_changes(acme, globex):
    family = RefreshFamilyFactory(user=UserFactory(tenant=acme))
    token = RefreshTokenFactory(family=family)

    for values in ({"tenant": globex}, {"user": UserFactory(tenant=acme)}):
        with refused("cp_tenants_refreshfamily_identity"):
            change(family, **values)
    for values in ({"tenant": globex}, {"family": RefreshFamilyFactory(user=family.user)}):
        with refused("cp_tenants_refreshtoken_identity"):
            change(token, **values)


@pytest.mark.parametrize("value", [None, "later"])
def test_an_ended_family_and_a_spent_token_stay_so(value):
    family = RefreshFamilyFactory(revoked_at=now(), revoked_reason="logout")
    token = RefreshTokenFactory(family=family, used_at=now())

    with refused("cp_tenants_refreshfamily_revocation_is_final"):
        change(family, revoked_at=value and now(), revoked_reason="all" if value else "")
    with refused("cp_tenants_refreshtoken_use_is_final"):
        change(token, used_at=value and now())


# what composite foreign keys stand on: an id twice would be a primary key twice first, so these are looked at
@pytest.mark.parametrize(
    ("table", "name", "columns"),
    [
        ("cp_tenants_app", "cp_tenants_app_tenant_id", "tenant_id, id"),
        ("cp_tenants_branch", "cp_tenants_branch_tenant_id", "tenant_id, id"),
        ("cp_tenants_branch", "cp_tenants_branch_tenant_app_id", "tenant_id, app_id, id"),
        ("cp_tenants_user", "cp_tenants_user_tenant_id", "tenant_id, id"),
        ("cp_tenants_apikey", "cp_tenants_apikey_tenant_id", "tenant_id, id"),
        ("cp_tenants_apikeysecret", "cp_tenants_apikeysecret_tenant_id", "tenant_id, id"),
        ("cp_tenants_apikey", "cp_tenants_apikey_tenant_app_id", "tenant_id, app_id, id"),
        ("cp_tenants_refreshfamily", "cp_tenants_refreshfamily_tenant_id", "tenant_id, id"),
    ],
)
def test_a_row_is_found_by_its_tenant_first(table, name, columns):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s",
            [table, name],
        )
        assert cursor.fetchone() == (f"UNIQUE ({columns})",)


CROSSING = [
    (Branch, lambda a, g: {"app": AppFactory(tenant=g)}, "cp_tenants_branch_app_of_tenant"),
    (UserApp, lambda a, g: {"app": AppFactory(tenant=g)}, "cp_tenants_userapp_app_of_tenant"),
    (UserApp, lambda a, g: {"user": UserFactory(tenant=g)}, "cp_tenants_userapp_user_of_tenant"),
    (UserApp, lambda a, g: {"user": OperatorFactory()}, "cp_tenants_userapp_user_of_tenant"),
    (APIKey, lambda a, g: {"app": AppFactory(tenant=g)}, "cp_tenants_apikey_app_of_tenant"),
    (APIKey, lambda a, g: {"user": UserFactory(tenant=g)}, "cp_tenants_apikey_user_of_tenant"),
    (APIKey, lambda a, g: {"user": OperatorFactory()}, "cp_tenants_apikey_user_of_tenant"),
    (
        APIKey,
        lambda a, g: {"branch": BranchFactory(app=AppFactory(tenant=g))},
        "cp_tenants_apikey_branch_of_app",
    ),
    (
        APIKey,
        lambda a, g: {"branch": BranchFactory(app=AppFactory(tenant=a))},
        "cp_tenants_apikey_branch_of_app",
    ),
    (
        APIKeySecret,
        lambda a, g: {"key": APIKeyFactory(app=AppFactory(tenant=g))},
        "cp_tenants_apikeysecret_key_of_tenant",
    ),
    (RefreshFamily, lambda a, g: {"user": UserFactory(tenant=g)}, "cp_tenants_refreshfamily_user_of_tenant"),
    (RefreshFamily, lambda a, g: {"user": OperatorFactory()}, "cp_tenants_refreshfamily_user_of_tenant"),
    (
        RefreshToken,
        lambda a, g: {"family": RefreshFamilyFactory(user=UserFactory(tenant=g))},
        "cp_tenants_refreshtoken_family_of_tenant",
    ),
]


@pytest.mark.parametrize(
    ("model", "reference", "name"), CROSSING, ids=[f"{name}-{n}" for n, (_, _, name) in enumerate(CROSSING)]
)
def test_a_reference_across_tenants_is_refused_on_insert(acme, globex, model, reference, name):
    factory = {
        Branch: BranchFactory,
        UserApp: UserAppFactory,
        APIKey: APIKeyFactory,
        APIKeySecret: APIKeySecretFactory,
        RefreshFamily: RefreshFamilyFactory,
        RefreshToken: RefreshTokenFactory,
    }[model]
    app = AppFactory(tenant=acme)
    valid = {
        Branch: lambda: {"tenant": acme},
        UserApp: lambda: {"tenant": acme, "app": app, "user": UserFactory(tenant=acme)},
        APIKey: lambda: {"tenant": acme, "app": app},
        APIKeySecret: lambda: {"tenant": acme},
        RefreshFamily: lambda: {"tenant": acme},
        RefreshToken: lambda: {"tenant": acme},
    }[model]()

    with refused(name):
        factory(**valid | reference(acme, globex))


def test_what_a_key_is_never_changes(acme, globex):
    key = APIKeyFactory(app=AppFactory(tenant=acme), user=UserFactory(tenant=acme))
    branch = BranchFactory(app=key.app)

    for values in (
        {"tenant": globex},
        {"app": AppFactory(tenant=acme)},
        {"user": UserFactory(tenant=acme)},
        {"user": None},
        {"branch": branch},
        {"environment": "test"},
    ):
        with refused("cp_tenants_apikey_identity"):
            change(key, **values)


@pytest.mark.parametrize("value", [None, "later"])
def test_a_revocation_is_final(value):
    key, secret = APIKeyFactory(revoked_at=now()), APIKeySecretFactory(revoked_at=now())

    with refused("cp_tenants_apikey_revocation_is_final"):
        change(key, revoked_at=value and now())
    with refused("cp_tenants_apikeysecret_revocation_is_final"):
        change(secret, revoked_at=value and now())


def test_a_secret_stays_with_its_key():
    secret = APIKeySecretFactory()

    with refused("cp_tenants_apikeysecret_identity"):
        change(secret, key=APIKeyFactory(app=secret.key.app))


def test_a_key_is_never_deleted():
    key = APIKeyFactory()

    with refused("cp_tenants_apikey_stays"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_tenants_apikey WHERE id = %s", [key.pk])


def test_rules_of_a_key_hold_under_replication_too(can_replicate):
    key = APIKeyFactory(revoked_at=now())

    with can_replicate() as cursor:
        with refused("cp_tenants_apikey_stays"), transaction.atomic():
            cursor.execute("DELETE FROM cp_tenants_apikey WHERE id = %s", [key.pk])
        with refused("cp_tenants_apikey_revocation_is_final"), transaction.atomic():
            cursor.execute("UPDATE cp_tenants_apikey SET revoked_at = NULL WHERE id = %s", [key.pk])


def test_forms_say_the_same_as_the_database(acme):
    for row, code in (
        (TenantFactory.build(slug="Acme"), "invalid_slug"),
        (TenantFactory.build(time_zone="Mars/Phobos"), "unknown_time_zone"),
        (AppFactory.build(tenant=acme, slug="A"), "invalid_slug"),
    ):
        with pytest.raises(ValidationError) as caught:
            row.full_clean()
        assert code in {error.code for errors in caught.value.error_dict.values() for error in errors}


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Asia/Kolkata"]
)
def test_zones_of_people_are_known(zone):
    tenant = TenantFactory(time_zone=zone)

    tenant.full_clean()


@pytest.mark.parametrize(
    "model", [Tenant, App, Branch, User, UserApp, APIKey, APIKeySecret, RefreshFamily, RefreshToken, SignInCount]
)
def test_every_table_and_column_says_what_it_is_for(model):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 "
            "AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL "
            "UNION ALL SELECT '' WHERE obj_description(to_regclass(%s), 'pg_class') IS NULL",
            [model._meta.db_table, model._meta.db_table],
        )
        assert cursor.fetchall() == []


def test_a_deactivation_leaves_its_moment_whatever_deactivated():
    user = UserFactory()

    User.objects.filter(pk=user.pk).update(display_name="x")
    assert User.objects.get(pk=user.pk).tokens_valid_after is None
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert User.objects.get(pk=user.pk).tokens_valid_after > user.created_at


def test_an_id_given_is_kept():
    id = uuid7()

    assert TenantFactory(id=id).pk == id
