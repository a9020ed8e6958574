from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import override_settings

from controlplane.core.ids import now
from tenants import tokens, verification
from tenants.errors import AuthUnavailable, InvalidKey, TenantsError
from tenants.models import APIKey, APIKeySecret, Status
from tenants.scope import tenant_scope
from tests.factories import APIKeySecretFactory, BranchFactory, UserFactory, issue

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def issued(acme_app):
    user = UserFactory(tenant=acme_app.tenant)
    branch = BranchFactory(app=acme_app)
    return issue(acme_app, user=user, branch=branch, scopes=["chat"], allowed_models=["openai/gpt-4o"])


def code_of(token, **asked):
    with pytest.raises(InvalidKey) as caught:
        APIKey.objects.verify(token, **asked)
    return caught.value.code


def test_a_token_opens_its_key(issued):
    verified = APIKey.objects.verify(issued.token, environment="live", scope="chat", model="openai/gpt-4o")

    key = issued.key
    assert verified.key_id == key.pk
    assert verified.secret_id == issued.secret.pk
    assert verified.kid == issued.secret.kid
    assert (verified.tenant_id, verified.app_id) == (key.tenant_id, key.app_id)
    assert (verified.branch_id, verified.user_id) == (key.branch_id, key.user_id)
    assert verified.environment == "live"
    assert verified.scopes == {"chat"}
    assert verified.allowed_models == {"openai/gpt-4o"}
    assert verified.allows_model("openai/gpt-4o")
    assert not verified.allows_model("openai/gpt-4")
    assert verified.has_scope("chat")
    assert verified.audit_actor == ("api_key", str(key.pk), f"cpk_live_{verified.kid}", "")


def test_a_key_of_an_app_alone_needs_no_branch_and_no_user(acme_app):
    verified = APIKey.objects.verify(issue(acme_app).token, model="anything")

    assert (verified.branch_id, verified.user_id, verified.allowed_models) == (None, None, None)


# The order of keys.md: each step breaks one thing more, from the last check to the first; the earliest wins.
STEPS = [
    ("model_not_allowed", 403, lambda key: None),
    ("insufficient_scope", 403, lambda key: None),
    ("wrong_environment", 403, lambda key: None),
    ("user_disabled", 403, lambda key: type(key.user).objects.filter(pk=key.user_id).update(is_active=False)),
    ("branch_disabled", 403, lambda key: key.branch.suspend("x")),
    ("app_disabled", 403, lambda key: key.app.suspend("x")),
    ("tenant_disabled", 403, lambda key: key.tenant.suspend("x")),
    ("expired", 401, lambda key: APIKey.objects.filter(pk=key.pk).update(expires_at=now() - SECOND)),
    (
        "not_yet_valid",
        401,
        lambda key: (
            APIKey.objects.filter(pk=key.pk).update(
                not_before=now() + timedelta(days=1), expires_at=now() + timedelta(days=2)
            )
            and APIKeySecret.objects.update(expires_at=now() - SECOND)
        ),
    ),
    ("disabled", 401, lambda key: APIKey.objects.filter(pk=key.pk).update(enabled=False)),
    ("revoked", 401, lambda key: key.revoke("x")),
]


def test_of_all_that_is_wrong_the_first_in_order_is_told(issued):
    asked = {"model": "other/model"}
    seen = []
    for code, _, spoil in STEPS:
        if code == "insufficient_scope":
            asked["scope"] = "admin"
        if code == "wrong_environment":
            asked["environment"] = "test"
        spoil(issued.key)
        with pytest.raises(InvalidKey) as caught:
            APIKey.objects.verify(issued.token, **asked)
        seen.append((caught.value.code, caught.value.http_status))
        assert caught.value.key_id == issued.key.pk
        assert caught.value.kid == issued.secret.kid
        assert caught.value.public_code == code

    assert seen == [(code, status) for code, status, _ in STEPS]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "token",
    [
        "",
        "cpk_live_x",
        None,
        7,
        b"bytes",
        "Bearer abc",
        pytest.param(tokens.new_key("live").token[:-1] + "!", id="cut"),
    ],
)
def test_noise_is_malformed_without_a_query(django_assert_num_queries, token):
    with django_assert_num_queries(0):
        assert code_of(token) == "malformed"


@pytest.mark.django_db
def test_a_token_nobody_issued_is_unknown():
    assert code_of(tokens.new_key("live").token) == "unknown"


@pytest.mark.django_db
def test_malformed_and_unknown_look_alike_to_the_bearer():
    refusals = []
    for token in ("x", tokens.new_key("live").token):
        with pytest.raises(InvalidKey) as caught:
            APIKey.objects.verify(token)
        refusals.append(caught.value)

    malformed, unknown = refusals
    assert malformed.public_code == unknown.public_code == "invalid_api_key"
    assert (malformed.http_status, unknown.http_status) == (401, 401)
    assert (malformed.key_id, unknown.kid) == (None, "")


def test_one_statement_is_asked(issued, django_assert_num_queries):
    with django_assert_num_queries(1):
        APIKey.objects.verify(issued.token)


def test_it_works_in_the_scope_of_the_key_and_finds_nothing_in_another(issued, globex):
    with tenant_scope(issued.key.tenant):
        assert APIKey.objects.verify(issued.token).key_id == issued.key.pk
    with tenant_scope(globex):
        assert code_of(issued.token) == "unknown"


@pytest.mark.parametrize("row", ["tenant", "app", "branch"])
@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.DELETED])
def test_what_is_suspended_or_deleted_above_closes_the_key_and_resuming_opens_it(issued, row, status):
    above = getattr(issued.key, row)

    above.suspend("audit") if status == Status.SUSPENDED else above.delete("gone")
    assert code_of(issued.token) == f"{row}_disabled"
    above.resume() if status == Status.SUSPENDED else above.restore("back")

    assert APIKey.objects.verify(issued.token)


@pytest.mark.parametrize(
    ("key_end", "secret_end", "expired"),
    [
        (SECOND, None, False),
        (None, SECOND, False),
        (SECOND, timedelta(0), True),
        (timedelta(0), SECOND, True),
        (timedelta(0), None, True),
        (-SECOND, -SECOND, True),
        (None, None, False),
    ],
)
def test_the_earlier_end_of_key_and_secret_counts_and_belongs_no_more(acme_app, key_end, secret_end, expired):
    secret = APIKeySecretFactory(key__app=acme_app, token=(token := tokens.new_key("live").token))
    APIKey.objects.filter(pk=secret.key_id).update(expires_at=None if key_end is None else AT + key_end)
    APIKeySecret.objects.filter(pk=secret.pk).update(expires_at=None if secret_end is None else AT + secret_end)

    if expired:
        with pytest.raises(InvalidKey, match="expired"):
            verification.verify(token, at=AT)
    else:
        assert verification.verify(token, at=AT).key_id == secret.key_id


def test_a_key_begins_at_its_very_instant(acme_app):
    issued = issue(acme_app)
    APIKey.objects.update(not_before=AT)

    with pytest.raises(InvalidKey) as caught:
        verification.verify(issued.token, at=AT - timedelta(microseconds=1))

    assert caught.value.code == "not_yet_valid"
    assert verification.verify(issued.token, at=AT).not_before == AT


def test_a_scope_is_the_whole_word_and_implies_none(acme_app):
    issued = issue(acme_app, scopes=["chat.read", "a"])

    for scope in ("chat", "chat.read.all", "chat.*", "CHAT.READ", ""):
        assert code_of(issued.token, scope=scope) == "insufficient_scope"
    assert APIKey.objects.verify(issued.token, scope="chat.read")


def test_an_empty_list_of_models_is_no_model_and_none_is_any(acme_app):
    none, any_ = issue(acme_app, allowed_models=[]), issue(acme_app, allowed_models=None)

    assert code_of(none.token, model="openai/gpt-4o") == "model_not_allowed"
    assert APIKey.objects.verify(none.token)
    assert APIKey.objects.verify(any_.token, model="openai/gpt-4o")


def test_a_model_is_the_whole_name_without_wildcards(acme_app):
    issued = issue(acme_app, allowed_models=["openai/*", "openai/gpt-4o"])

    for model in ("openai/gpt-4", "OPENAI/GPT-4O", "openai/gpt-4o-mini", "gpt-4o"):
        assert code_of(issued.token, model=model) == "model_not_allowed"


def test_a_revoked_secret_closes_and_its_sibling_goes_on(acme_app):
    first = issue(acme_app)
    second = first.key.rotate()
    first.secret.revoke("leaked")

    assert code_of(first.token) == "revoked"
    assert APIKey.objects.verify(second.token).key_id == first.key.pk


OLD, NEW = "11" * 32, "22" * 32


def peppered(**peppers):
    return override_settings(
        CONTROLPLANE={"API_KEY_PEPPERS": {int(name[1:]): value for name, value in peppers.items()}}
    )


def test_a_pepper_guards_the_digest_and_its_successor_still_reads_it(acme_app):
    with peppered(v1=OLD):
        issued = issue(acme_app)
        assert issued.secret.hash_version == 1
        assert bytes(issued.secret.digest) != tokens.sha256(issued.token)
        assert APIKey.objects.verify(issued.token)
        assert APIKey.objects.get_by_hash(tokens.sha256(issued.token)) == issued.key
    with peppered(v1=OLD, v2=NEW):
        assert APIKey.objects.verify(issued.token)
        assert issue(acme_app).secret.hash_version == 2
    with peppered(v2=NEW):
        assert code_of(issued.token) == "unknown"


def test_a_planted_plain_digest_opens_nothing_where_a_pepper_is_set(acme_app):
    token = tokens.new_key("live").token
    secret = APIKeySecretFactory(key__app=acme_app, token=token, hash_version=1)

    with peppered(v1=OLD):
        assert code_of(token) == "unknown"
    with peppered(v0="", v1=OLD):
        assert code_of(token) == "unknown"  # it says version 1, and is not
        APIKeySecret.objects.filter(pk=secret.pk).update(hash_version=0)
        assert APIKey.objects.verify(token)


def test_no_word_of_the_token_gets_out(issued, caplog):
    issued.key.revoke("leaked")
    secret_part = issued.token[22:]

    for token, asked in ((issued.token, {}), (tokens.new_key("live").token, {}), (issued.token + "x", {})):
        with pytest.raises(InvalidKey) as caught:
            APIKey.objects.verify(token, **asked)
        told = " ".join(
            [
                str(caught.value),
                repr(caught.value),
                caught.value.message,
                str(vars(caught.value)),
                caught.value.public_code,
            ]
        )
        assert token[22:] not in told
        assert secret_part not in "".join(traceback.format_exception_only(caught.value))
    assert (
        secret_part
        not in f"{issued!r} {issued} {issued.key!r} {issued.secret!r} {issued.secret} {issued.secret.prefix}"
    )
    assert secret_part not in caplog.text


def test_every_refusal_has_words_and_none_is_the_code_itself():
    for code in ("malformed", "unknown", *(code for code, _, _ in STEPS), "auth_unavailable"):
        assert InvalidKey(code).message != code


def test_no_answer_is_not_a_wrong_key():
    refusal = AuthUnavailable()

    assert isinstance(refusal, InvalidKey)
    assert isinstance(refusal, TenantsError)
    assert (refusal.code, refusal.http_status, refusal.retry_after, refusal.public_code) == (
        "auth_unavailable", 503, 1, "auth_unavailable",
    )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_the_server_closed_is_replaced(acme_app, other_connection):
    issued = issue(acme_app)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    other_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    assert APIKey.objects.verify(issued.token).key_id == issued.key.pk


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_answer_is_told_apart_from_a_wrong_key(acme_app, other_connection):
    issued = issue(acme_app)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '100ms'")
    other_connection.execute("BEGIN")
    other_connection.execute("LOCK TABLE cp_tenants_apikeysecret IN ACCESS EXCLUSIVE MODE")
    try:
        with pytest.raises(AuthUnavailable):
            APIKey.objects.verify(issued.token)
    finally:
        other_connection.execute("ROLLBACK")
        connection.close()

    assert APIKey.objects.verify(issued.token)
