from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta, timezone

import pytest
from django.test import override_settings

from auditing.context import audit_context
from auditing.models import AuditLog
from controlplane.core.ids import now, uuid7
from tenants import tokens
from tenants.errors import InvalidKey, KeyOperationError
from tenants.models import APIKey, APIKeySecret
from tests.factories import AppFactory, BranchFactory, OperatorFactory, UserFactory, issue
from tests.races import together

DAY = timedelta(days=1)


def code_of(call, *args, **kwargs):
    with pytest.raises(KeyOperationError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_a_key_comes_with_one_secret_and_the_token_once(acme_app):
    issued = issue(
        acme_app, name="  ci  ", environment="test", scopes=["a", "b", "a"], tags=["x"], metadata={"n": 1}, by="ada"
    )

    key = APIKey.objects.get()
    assert key == issued.key
    assert (key.name, key.environment, key.scopes, key.tags, key.metadata) == (
        "ci",
        "test",
        ["a", "b"],
        ["x"],
        {"n": 1},
    )
    assert (key.created_by, key.rotation, key.state) == ("ada", 0, "active")
    [secret] = key.secrets.all()
    assert issued.token.startswith(f"cpk_test_{secret.kid}_")
    assert bytes(secret.digest) == tokens.sha256(issued.token)
    assert secret.prefix == issued.token[:21]


def test_an_id_given_beforehand_makes_no_second_key(acme_app):
    id = uuid7()
    assert issue(acme_app, id=id).key.pk == id

    with pytest.raises(Exception, match="cp_tenants_apikey_pkey"):
        issue(acme_app, id=id)


REFUSED = [
    ("wrong_tenant", lambda a, g: {"app": AppFactory(tenant=g)}),
    ("wrong_tenant", lambda a, g: {"user": UserFactory(tenant=g)}),
    ("wrong_tenant", lambda a, g: {"branch": BranchFactory(app=AppFactory(tenant=g))}),
    ("wrong_tenant", lambda a, g: {"branch": BranchFactory(app=AppFactory(tenant=a))}),
    ("operator", lambda a, g: {"user": OperatorFactory()}),
    ("naive_datetime", lambda a, g: {"expires_at": datetime(2030, 1, 1)}),  # noqa: DTZ001 - that is the point
    ("naive_datetime", lambda a, g: {"not_before": datetime(2030, 1, 1)}),  # noqa: DTZ001
    ("bad_expiry", lambda a, g: {"expires_at": now() - DAY}),
    ("bad_expiry", lambda a, g: {"not_before": now() + DAY, "expires_at": now() + DAY / 2}),
    ("bad_scope", lambda a, g: {"scopes": ["Chat"]}),
    ("bad_scope", lambda a, g: {"scopes": ["chat\n"]}),
    ("bad_scope", lambda a, g: {"scopes": [""]}),
    ("bad_scope", lambda a, g: {"scopes": ["s" * 65]}),
    ("bad_scope", lambda a, g: {"scopes": [f"s{n}" for n in range(65)]}),
    ("bad_environment", lambda a, g: {"environment": "prod"}),
    ("too_large", lambda a, g: {"name": "  "}),
    ("too_large", lambda a, g: {"name": "n" * 201}),
    ("too_large", lambda a, g: {"allowed_models": [f"m{n}" for n in range(1001)]}),
    ("too_large", lambda a, g: {"tags": [f"t{n}" for n in range(33)]}),
    ("too_large", lambda a, g: {"metadata": {"a": "é" * 4096}}),
    ("contains_token", lambda a, g: {"name": tokens.new_key("live").token}),
    ("contains_token", lambda a, g: {"metadata": {"a": [tokens.new_key("live").token]}}),
    ("contains_token", lambda a, g: {"tags": [tokens.new_key("live").token[:40]]}),
    ("too_large", lambda a, g: {"tags": ["x" * 65]}),
    ("too_large", lambda a, g: {"tags": [""]}),
    ("too_large", lambda a, g: {"allowed_models": ["openai/" + "x" * 259]}),
    ("bad_text", lambda a, g: {"name": "a\x00b"}),
    ("bad_text", lambda a, g: {"name": "\ud800"}),
    ("bad_text", lambda a, g: {"tags": ["\x00"]}),
    ("bad_text", lambda a, g: {"metadata": {"a": float("nan")}}),
    ("bad_expiry", lambda a, g: {"expires_at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))}),
    ("bad_expiry", lambda a, g: {"not_before": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}),
    ("contains_token", lambda a, g: {"allowed_models": ["x" + tokens.new_key("live").token]}),
]


@pytest.mark.parametrize(("code", "asked"), REFUSED, ids=[f"{code}-{n}" for n, (code, _) in enumerate(REFUSED)])
def test_a_key_that_may_not_be_is_refused_and_nothing_is_written(acme, acme_app, globex, code, asked):
    assert code_of(issue, acme_app, **{"tenant": acme, **asked(acme, globex)}) == code

    assert not APIKey.objects.exists()
    assert not APIKeySecret.objects.exists()


def test_metadata_of_just_8_kib_in_any_script_is_taken(acme_app):
    metadata = {"a": "é" * ((8192 - len('{"a": ""}')) // 2)}

    assert issue(acme_app, metadata=metadata).key.metadata == metadata


def test_a_refusal_does_not_repeat_the_token_it_found(acme_app):
    token = tokens.new_key("live").token

    with pytest.raises(KeyOperationError) as caught:
        issue(acme_app, name=token)

    assert token[22:] not in f"{caught.value} {caught.value!r}"


# --- rotation


def test_rotation_adds_a_secret_and_the_old_one_ends_after_the_grace(acme_app):
    first = issue(acme_app)
    begun = now()

    second = first.key.rotate(grace=timedelta(hours=1))

    old = APIKeySecret.objects.get(pk=first.secret.pk)
    assert begun + timedelta(hours=1) <= old.expires_at <= now() + timedelta(hours=1)
    assert second.secret.expires_at is None
    assert second.key.rotation == 1
    assert {APIKey.objects.verify(token).key_id for token in (first.token, second.token)} == {first.key.pk}


def test_without_grace_the_old_secret_ends_at_once(acme_app):
    first = issue(acme_app)
    second = first.key.rotate(grace=timedelta(0))

    with pytest.raises(InvalidKey, match="expired"):
        APIKey.objects.verify(first.token)
    assert APIKey.objects.verify(second.token)


def test_grace_only_shortens(acme_app):
    first = issue(acme_app, expires_at=now() + DAY)
    first.key.rotate(grace=timedelta(minutes=5))
    end = APIKeySecret.objects.get(pk=first.secret.pk).expires_at

    first.key.rotate(grace=timedelta(days=7))

    assert APIKeySecret.objects.get(pk=first.secret.pk).expires_at == end
    assert APIKey.objects.get().expires_at == first.key.expires_at


def test_a_revoked_secret_is_not_given_an_end(acme_app):
    first = issue(acme_app)
    first.secret.revoke("leaked")

    first.key.rotate()

    assert APIKeySecret.objects.get(pk=first.secret.pk).expires_at is None


@pytest.mark.parametrize("grace", [timedelta(days=7, microseconds=1), timedelta(microseconds=-1)])
def test_grace_has_its_bounds(acme_app, grace):
    assert code_of(issue(acme_app).key.rotate, grace=grace) == "bad_grace"
    assert APIKeySecret.objects.count() == 1


def test_what_is_over_is_not_rotated(acme_app):
    revoked, expired = issue(acme_app).key, issue(acme_app).key
    revoked.revoke("over")
    APIKey.objects.filter(pk=expired.pk).update(expires_at=now())

    assert code_of(revoked.rotate) == "revoked"
    assert code_of(expired.rotate) == "expired"
    assert APIKeySecret.objects.count() == 2


def test_a_stale_instance_does_not_rotate_again(acme_app):
    key = issue(acme_app).key
    stale = APIKey.objects.get(pk=key.pk)
    key.rotate()

    assert code_of(stale.rotate) == "already_rotated"
    assert APIKeySecret.objects.count() == 2


def test_five_secrets_live_at_most_and_without_grace_one_more_always_fits(acme_app):
    key = issue(acme_app).key
    for _ in range(4):
        key.rotate()

    assert code_of(key.rotate) == "too_many_live_secrets"
    assert APIKeySecret.objects.live().count() == 5
    assert APIKey.objects.get().rotation == 4
    key.rotate(grace=timedelta(0))
    assert APIKeySecret.objects.live().count() == 1


@override_settings(CONTROLPLANE={"API_KEY_MAX_SECRETS": 1, "API_KEY_MAX_GRACE": 60})
def test_an_installation_sets_its_own_bounds(acme_app):
    key = issue(acme_app).key

    assert code_of(key.rotate, grace=timedelta(seconds=61)) == "bad_grace"
    assert code_of(key.rotate, grace=timedelta(seconds=60)) == "too_many_live_secrets"


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_makes_a_secret(acme_app):
    key = issue(acme_app).key
    instances = [APIKey.objects.get(pk=key.pk) for _ in range(4)]

    outcomes = together(*(instance.rotate for instance in instances))

    lost = [outcome for outcome in outcomes if isinstance(outcome, KeyOperationError)]
    assert [error.code for error in lost] == ["already_rotated"] * 3
    assert APIKeySecret.objects.filter(key=key).count() == 2
    assert APIKey.objects.get().rotation == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_revocations_at_once_the_first_reason_stays(acme_app):
    key = issue(acme_app).key
    instances = {reason: APIKey.objects.get(pk=key.pk) for reason in ("one", "two")}

    together(*(lambda r=reason, i=instance: i.revoke(r) for reason, instance in instances.items()))

    stored = APIKey.objects.get(pk=key.pk)
    assert stored.revoke_reason in instances
    assert {instance.revoke_reason for instance in instances.values()} == {stored.revoke_reason}
    assert {instance.revoked_at for instance in instances.values()} == {stored.revoked_at}


# --- revocation, metadata, purge


def test_a_revocation_is_kept_with_its_first_time_and_reason(acme_app):
    key = issue(acme_app).key
    key.revoke("leaked", by="ada")
    first = (key.revoked_at, key.revoke_reason, key.revoked_by)

    key.revoke("again", by="bob")

    assert (key.revoked_at, key.revoke_reason, key.revoked_by) == first == (key.revoked_at, "leaked", "ada")
    assert key.state == "revoked"


@pytest.mark.parametrize(
    ("reason", "code"),
    [("", "reason_required"), ("  ", "reason_required"), ("token", "contains_token"), ("a\x00b", "bad_text")],
)
def test_a_revocation_says_why_and_not_by_the_token(acme_app, reason, code):
    issued = issue(acme_app)
    reason = issued.token if reason == "token" else reason

    assert code_of(issued.key.revoke, reason) == code
    assert code_of(issued.secret.revoke, reason) == code
    assert APIKey.objects.get().revoked_at is None


def test_metadata_changes_by_name_in_the_database(acme_app):
    key = issue(acme_app, metadata={"a": 1, "b": 2}).key
    stale = APIKey.objects.get(pk=key.pk)

    key.set_metadata("c", {"deep": [True, None, "x"]})
    stale.set_metadata("a", "new")
    stale.delete_metadata("b")
    stale.delete_metadata("never there")

    assert APIKey.objects.get().metadata == {"a": "new", "c": {"deep": [True, None, "x"]}}
    assert stale.metadata == {"a": "new", "c": {"deep": [True, None, "x"]}}


@pytest.mark.parametrize("name", ["it's", '"quoted"', "a,b", "{}", "%s", "ключ", ""])
def test_a_name_in_metadata_may_be_any_text(acme_app, name):
    key = issue(acme_app).key

    key.set_metadata(name, name)
    assert key.metadata == {name: name}
    key.delete_metadata(name)
    assert key.metadata == {}


def test_metadata_takes_no_token(acme_app):
    issued = issue(acme_app)

    assert code_of(issued.key.set_metadata, "note", [issued.token]) == "contains_token"
    assert code_of(issued.key.set_metadata, issued.token, 1) == "contains_token"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("a", float("nan"), "bad_text"),
        ("a", ["\x00"], "bad_text"),
        ("\x00", 1, "bad_text"),
        ("\ud800", 1, "bad_text"),
        ("a", object(), "bad_text"),
        ("a", "x" * 9000, "too_large"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_metadata_that_the_database_does_not_take_is_refused_and_nothing_is_lost(acme_app, name, value, code):
    key = issue(acme_app, metadata={"kept": 1}).key

    assert code_of(key.set_metadata, name, value) == code
    assert APIKey.objects.get().metadata == {"kept": 1}


def test_ended_secrets_are_purged_after_their_time_and_keys_stay(acme_app):
    old, recent, living, dead_key = (issue(acme_app) for _ in range(4))
    APIKeySecret.objects.filter(pk=old.secret.pk).update(expires_at=now() - 91 * DAY)
    APIKeySecret.objects.filter(pk=recent.secret.pk).update(revoked_at=now() - 89 * DAY)
    APIKey.objects.filter(pk=dead_key.key.pk).update(revoked_at=now() - 91 * DAY)

    assert APIKey.objects.purge_expired() == 2
    assert APIKey.objects.purge_expired() == 0

    assert set(APIKeySecret.objects.all()) == {recent.secret, living.secret}
    assert APIKey.objects.count() == 4
    with pytest.raises(InvalidKey) as caught:
        APIKey.objects.verify(old.token)
    assert caught.value.code == "unknown"


def test_a_purge_takes_any_number_by_the_thousand(acme_app):
    key = issue(acme_app).key
    ended = now() - 2 * DAY
    APIKeySecret.objects.bulk_create(
        APIKeySecret(tenant=key.tenant, key=key, kid=f"{n:012}", digest=tokens.sha256(str(n)), expires_at=ended)
        for n in range(1001)
    )

    assert APIKey.objects.purge_expired(older_than=DAY) == 1001
    assert APIKeySecret.objects.count() == 1


def test_a_kid_that_is_taken_is_drawn_anew(acme_app, monkeypatch):
    taken = issue(acme_app).secret.kid
    drawn = iter(taken + taken + "a" * 12)
    monkeypatch.setattr(secrets, "choice", lambda digits: next(drawn))

    assert issue(acme_app).secret.kid == "a" * 12


# --- what is told of keys


def test_states_for_people(acme_app):
    key = issue(acme_app).key
    assert key.state == "active"
    key.not_before = now() + DAY
    assert key.state == "not yet valid"
    key.expires_at = now() - DAY
    assert key.state == "expired"
    key.enabled = False
    assert key.state == "disabled"
    key.revoked_at = now()
    assert key.state == "revoked"


def test_live_and_expiring_keys(acme_app):
    at = now()
    forever, soon, disabled, revoked, expired = (issue(acme_app).key for _ in range(5))
    APIKey.objects.filter(pk=soon.pk).update(expires_at=at + DAY)
    APIKey.objects.filter(pk=expired.pk).update(expires_at=at)
    APIKey.objects.filter(pk=disabled.pk).update(enabled=False)
    revoked.revoke("over")

    assert set(APIKey.objects.live(at)) == {forever, soon}
    assert set(APIKey.objects.expiring(2 * DAY, at)) == {soon}
    assert set(APIKey.objects.for_app(acme_app)) == {forever, soon, disabled, revoked, expired}
    assert soon.is_valid() is True
    assert forever.is_expired() is False
    assert forever.allows_model("any") is True


def test_each_step_of_a_life_is_in_the_audit_log_and_no_secret_is(acme_app):
    with audit_context(actor="ops", reason="a new service"):
        issued = issue(acme_app)
    issued.key.rotate()
    issued.key.revoke("the service is gone")

    rows = list(AuditLog.objects.filter(resource_type__startswith="cp_tenants_apikey").order_by("id"))
    by_table = [(row.resource_type.removeprefix("cp_tenants_"), row.action) for row in rows]
    assert sorted(by_table) == sorted(
        [
            ("apikey", "create"), ("apikeysecret", "create"),
            ("apikeysecret", "update"), ("apikey", "update"), ("apikeysecret", "create"),
            ("apikey", "update"),
        ]
    )  # fmt: skip
    assert {row.api_key_id for row in rows} == {issued.key.pk}
    assert rows[0].reason == "a new service"
    assert rows[-1].reason == "the service is gone"
    told = json.dumps([[row.before, row.after, row.details, row.reason, row.resource_label] for row in rows])
    assert issued.token[22:] not in told
    assert tokens.sha256(issued.token).hex() not in told
    assert '"digest": "[redacted]"' in told


def test_no_dump_of_keys_holds_a_token_or_digest(acme_app):
    issued = issue(acme_app)

    dump = str(list(APIKey.objects.values())) + str(issued.key.__dict__)

    assert issued.token[22:] not in dump
    assert tokens.sha256(issued.token).hex() not in dump
