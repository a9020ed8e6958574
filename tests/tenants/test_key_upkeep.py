"""Peppers that change, last uses, leaked tokens."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import override_settings

from auditing.models import AuditLog
from controlplane.core.caches import invalidation
from controlplane.core.ids import now, uuid7
from tenants import lastuse, leaks, rehashing, tokens, verification
from tenants.checks import check_peppers, check_versions
from tenants.errors import InvalidKey, KeyOperationError
from tenants.models import APIKey, APIKeySecret, APIKeySecretUse, RefreshToken
from tenants.scope import tenant_scope
from tests.factories import AppFactory, UserFactory, issue

pytestmark = pytest.mark.django_db

MAY, JUNE = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
ONE, TWO = "11" * 32, "22" * 32


def peppers(writes=-1, **listed):
    listed = {int(name[1:]): value for name, value in listed.items()}
    return override_settings(CONTROLPLANE={"API_KEY_PEPPERS": listed, "API_KEY_PEPPER_WRITES": writes})


def run(*arguments):
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


# ---------------------------------------------------------------- peppers


def test_digests_get_a_pepper_without_their_callers(acme_app):
    issued = issue(acme_app)

    with peppers(_0="", _1=ONE):
        assert APIKey.objects.verify(issued.token).key_id == issued.key.pk
        assert run("keys_rehash", "--status") == "Live secrets: 1 of version 0; refresh tokens: none."
        assert (
            run("keys_rehash")
            == "Gave 1 digests the newest pepper. Live secrets: 1 of version 1; refresh tokens: none."
        )
        assert run("keys_rehash").startswith("Gave 0 digests")
    with peppers(_1=ONE):
        assert APIKey.objects.verify(issued.token).key_id == issued.key.pk
    with pytest.raises(InvalidKey, match="unknown"):
        APIKey.objects.verify(issued.token)


def opens(token, **listed):
    """Whether a process with these peppers takes the token."""
    verification.cache.clear()
    with peppers(**listed):
        try:
            return APIKey.objects.verify(token) is not None
        except InvalidKey:
            return False


@pytest.mark.parametrize(("old", "before"), [({"_1": ONE}, 1), ({}, 0)], ids=["another pepper", "the first pepper"])
def test_a_new_pepper_comes_in_two_steps_while_old_and_new_processes_run_side_by_side(acme_app, old, before):
    known = {"_2": TWO, **(old or {"_0": ""})}
    with peppers(**old):
        early = issue(acme_app)
    with peppers(**known, writes=before):
        first, session = issue(acme_app), RefreshToken.objects.issue(UserFactory(tenant=acme_app.tenant))
        opened = opens(early.token, **known, writes=before)
        rehashing.change_over(lambda *_: pytest.fail("nobody writes the new one yet"))
        with pytest.raises(KeyOperationError, match="There is no pepper") if before == 0 else nullcontext():
            APIKeySecret.objects.rehash()
    with peppers(**known):
        second = issue(acme_app)

    assert opened
    assert (first.secret.hash_version, session.refresh.hash_version, second.secret.hash_version) == (before, before, 2)
    assert opens(first.token, **old), "made in the first step, read by who is before it"
    assert opens(second.token, **known, writes=before), "made in the second step, read by who is in the first"
    assert not opens(second.token, **old)
    verification.cache.clear()
    with peppers(**known, writes=before):  # whoever is in the first step takes nothing back
        rehashing.forget()
        APIKey.objects.verify(second.token)
        rehashing.change_over(lambda *_: pytest.fail("a newer pepper stays"))


def test_a_pepper_that_writes_has_to_be_listed():
    with peppers(_1=ONE, writes=2):
        [error] = check_peppers(None)
    with peppers(_1=ONE, writes=1):
        assert list(check_peppers(None)) == []

    assert error.id == "cp_tenants.E001"
    assert "API_KEY_PEPPER_WRITES is 2" in error.msg


def test_more_than_a_thousand_digests_are_done_in_batches(acme_app):
    key = issue(acme_app).key
    APIKeySecret.objects.bulk_create(
        APIKeySecret(tenant=key.tenant, key=key, kid=f"{n:012}", digest=n.to_bytes(32, "big")) for n in range(1500)
    )

    with peppers(_1=ONE):
        assert APIKeySecret.objects.rehash() == 1501
        assert APIKeySecret.objects.versions() == {1: 1501}


def test_without_a_pepper_there_is_nothing_to_give():
    for listed in ({}, {"_0": ""}):
        with peppers(**listed), pytest.raises(KeyOperationError) as refused:
            APIKeySecret.objects.rehash()
        assert refused.value.code == "no_pepper"


def test_live_secrets_of_a_pepper_that_is_not_listed_are_told(acme_app):
    key = issue(acme_app).key

    with peppers(_1=ONE):
        [error] = check_versions(None, ["default"])
        assert (error.id, "1 live secrets" in error.msg) == ("cp_tenants.E001", True)
        key.revoke("gone")
        assert list(check_versions(None, ["default"])) == []
    assert list(check_versions(None, None)) == []


@pytest.mark.parametrize("pepper", ["", "11" * 31, "zz" * 32, "1" * 65])
def test_a_pepper_that_is_short_or_no_hex_is_told_without_showing_it(pepper):
    with peppers(_1=pepper):
        [error] = check_peppers(None)
    assert error.id == "cp_tenants.E001"
    assert not pepper or pepper not in error.msg + error.hint
    with peppers(_0="", _1=ONE):
        assert list(check_peppers(None)) == []


def versions(*issued):
    return [APIKeySecret.objects.get(pk=one.secret.pk).hash_version for one in issued]


def change_over():
    with connection.cursor() as cursor:
        rehashing.change_over(cursor.execute)


def test_a_key_that_is_used_under_an_old_pepper_gets_the_newest_later(acme_app):
    with peppers(_1=ONE):
        used, idle = issue(acme_app), issue(acme_app)
    with peppers(_1=ONE, _2=TWO):
        APIKey.objects.verify(used.token)
        assert versions(used, idle) == [1, 1]
        change_over()
        assert versions(used, idle) == [2, 1]
        assert APIKeySecret.objects.versions() == {1: 1, 2: 1}
    entry = AuditLog.objects.for_resource("cp_tenants_apikeysecret", used.secret.pk).latest("id")
    assert (entry.actor_type, entry.actor_id, entry.reason) == ("system", "pepper", "used under an older pepper")
    invalidation.flush()
    with peppers(_2=TWO):
        assert APIKey.objects.verify(used.token).key_id == used.key.pk
        with pytest.raises(InvalidKey, match="unknown"):
            APIKey.objects.verify(idle.token)


def test_a_use_under_the_newest_pepper_and_a_look_at_a_leaked_token_change_nothing(acme_app, django_assert_num_queries):
    with peppers(_1=ONE):
        leaked = issue(acme_app)
    with peppers(_1=ONE, _2=TWO):
        APIKey.objects.verify(issue(acme_app).token)
        assert leaks.inspect(leaked.token).live
        with django_assert_num_queries(0):
            change_over()


def test_a_digest_that_changed_meanwhile_stays(acme_app):
    secret = issue(acme_app).secret
    rehashing.note(secret.pk, 1, 2, b"2" * 32)
    rehashing.note(uuid7(), 1, 2, b"3" * 32)

    change_over()

    assert bytes(APIKeySecret.objects.get().digest) == bytes(secret.digest)


def test_a_digest_that_another_secret_has_stops_no_others(acme_app):
    first, twin, other = (issue(acme_app) for _ in range(3))
    rehashing.note(first.secret.pk, 0, 2, bytes(twin.secret.digest))
    rehashing.note(other.secret.pk, 0, 2, b"2" * 32)

    change_over()

    assert versions(first, twin, other) == [0, 0, 2]


def test_a_change_of_pepper_that_failed_is_tried_again(acme_app):
    issued = issue(acme_app)
    rehashing.note(issued.secret.pk, 0, 2, b"2" * 32)

    def broken(statement, params):
        raise DatabaseError("away")

    with pytest.raises(DatabaseError):
        rehashing.change_over(broken)
    change_over()

    assert versions(issued) == [2]


def test_many_change_over_in_batches_that_empty_no_cache(acme_app):
    key = issue(acme_app).key
    secrets = APIKeySecret.objects.bulk_create(
        APIKeySecret(tenant=key.tenant, key=key, kid=f"{n:012}", digest=n.to_bytes(32, "big")) for n in range(1100)
    )
    for n, secret in enumerate(secrets, 2000):
        rehashing.note(secret.pk, 0, 2, n.to_bytes(32, "big"))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_core_invalidation")

    change_over()

    assert APIKeySecret.objects.filter(hash_version=2).count() == 1100
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cp_core_invalidation WHERE kind = 'all'")
        assert cursor.fetchone() == (0,)


def test_a_fourth_pepper_opens_nothing(acme_app):
    with peppers(_1=ONE):
        issued = issue(acme_app)
    with peppers(_1=ONE, _2=TWO, _3="33" * 32, _4="44" * 32):
        with pytest.raises(InvalidKey, match="unknown"):
            APIKey.objects.verify(issued.token)
        with pytest.raises(APIKey.DoesNotExist):
            APIKey.objects.get_by_hash(tokens.sha256(issued.token))


# ---------------------------------------------------------------- last use


@pytest.fixture(autouse=True)
def nothing_noted():
    for module in (lastuse, rehashing):
        module.forget()
    yield
    for module in (lastuse, rehashing):
        module.forget()


def test_a_use_is_written_down_later_in_one_statement(acme_app, django_assert_num_queries):
    issued, other = issue(acme_app), issue(acme_app)
    for token in (issued.token, issued.token, other.token):
        APIKey.objects.verify(token)
    assert issued.key.last_used_at is None

    with django_assert_num_queries(1):
        assert APIKey.objects.flush_last_used() == 2
    with django_assert_num_queries(0):
        assert APIKey.objects.flush_last_used() == 0

    assert abs(issued.key.last_used_at - now()) < timedelta(minutes=1)
    assert APIKeySecret.objects.get(key=issued.key).last_used_at == issued.key.last_used_at


def test_what_was_used_is_left_for_later_inside_the_scope_of_a_tenant(acme_app, globex):
    issued = issue(acme_app)
    APIKey.objects.verify(issued.token)

    with tenant_scope(globex):
        assert APIKey.objects.flush_last_used() == 0
        assert APIKey.objects.count() == 0  # the transaction goes on

    assert APIKey.objects.flush_last_used() == 1
    assert issued.key.last_used_at is not None


def test_a_refused_token_leaves_no_use(acme_app):
    issued = issue(acme_app, environment="test")

    with pytest.raises(InvalidKey):
        APIKey.objects.verify(issued.token, environment="live")

    assert APIKey.objects.flush_last_used() == 0


def test_the_newest_use_stays_whichever_process_writes_last(acme_app):
    secret = issue(acme_app).secret
    for at in (JUNE, MAY):
        lastuse.note(secret.pk, at)
        lastuse.flush()

    assert APIKeySecretUse.objects.get().last_used_at == JUNE


def test_a_secret_that_was_purged_meanwhile_fails_nobody(acme_app):
    secret = issue(acme_app).secret
    lastuse.note(uuid7(), MAY)
    lastuse.note(secret.pk, MAY)

    assert lastuse.flush() == 2
    assert [use.secret_id for use in APIKeySecretUse.objects.all()] == [secret.pk]


def test_what_could_not_be_written_is_kept_for_the_next_time(acme_app):
    secret = issue(acme_app).secret
    lastuse.note(secret.pk, MAY)

    def broken(statement, params):
        lastuse.note(secret.pk, JUNE)
        raise DatabaseError("away")

    with pytest.raises(DatabaseError):
        lastuse.write(broken)

    lastuse.flush()
    assert APIKeySecretUse.objects.get().last_used_at == JUNE


def test_a_purged_secret_takes_its_use_along(acme_app):
    key = issue(acme_app).key
    old = key.secrets.get()
    lastuse.note(old.pk, MAY)
    lastuse.flush()
    APIKeySecret.objects.filter(pk=old.pk).update(expires_at=MAY)

    assert APIKey.objects.purge_expired() == 1
    assert APIKeySecretUse.objects.count() == 0


def test_a_use_is_of_the_tenant_of_its_secret(acme_app):
    secret, stranger = issue(acme_app).secret, AppFactory().tenant

    with pytest.raises(IntegrityError, match="cp_tenants_apikeysecretuse_secret_of_tenant"), transaction.atomic():
        APIKeySecretUse.objects.create(secret=secret, tenant=stranger, last_used_at=MAY)


def test_unused_keys_are_those_without_a_use_since_then(acme_app):
    used, old, never = (issue(acme_app) for _ in range(3))
    lastuse.note(used.secret.pk, JUNE)
    lastuse.note(old.secret.pk, MAY)
    lastuse.flush()

    assert set(APIKey.objects.unused(since=JUNE)) == {old.key, never.key}
    assert {key.pk: key.used_at for key in APIKey.objects.with_last_use()} == {
        used.key.pk: JUNE, old.key.pk: MAY, never.key.pk: None,
    }  # fmt: skip


# ---------------------------------------------------------------- leaked tokens


def test_a_leaked_token_is_told_without_being_shown_or_used(acme_app, capsys):
    issued = issue(acme_app, name="Checkout")

    with pytest.raises(CommandError) as refused:
        call_command("keys_check", issued.token, "nonsense")

    told = capsys.readouterr().out
    assert refused.value.returncode == 1
    assert issued.token[:21] in told
    assert "Checkout" in told
    assert acme_app.tenant.slug in told
    assert issued.token[22:] not in told + str(refused.value)
    assert APIKey.objects.flush_last_used() == 0


def test_tokens_come_from_stdin_a_line_each(acme_app, monkeypatch):
    issued = issue(acme_app)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{issued.token}\n{tokens.new_key('live').token}\n\nx\n"))
    out = StringIO()

    with pytest.raises(CommandError, match="1 of 3"):
        call_command("keys_check", "-", "--json", stdout=out)

    told = json.loads(out.getvalue())
    assert [row["state"] for row in told["tokens"]] == ["active", "unknown", "malformed"]


def test_a_line_that_is_no_utf_8_hides_no_token_after_it(acme_app, monkeypatch):
    lines = b"\xff\xfe\n" + issue(acme_app).token.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    out = StringIO()

    with pytest.raises(CommandError, match="1 of 2"):
        call_command("keys_check", "-", "--json", stdout=out)

    assert [row["state"] for row in json.loads(out.getvalue())["tokens"]] == ["malformed", "active"]


def test_live_ones_are_revoked_when_told_and_the_rest_of_the_key_goes_on(acme_app):
    issued = issue(acme_app)
    renewed = issued.key.rotate()

    with pytest.raises(CommandError, match=r"1 of 1 tokens open a key or a session\. 1 of them revoked\."):
        run("keys_check", issued.token, "--revoke", "--reason", "in a public repository")

    with pytest.raises(InvalidKey, match="revoked"):
        APIKey.objects.verify(issued.token)
    assert APIKey.objects.verify(renewed.token).key_id == issued.key.pk
    assert run("keys_check", issued.token).endswith("-")
    entry = AuditLog.objects.filter(resource_type="cp_tenants_apikeysecret", action="update").latest("id")
    assert (entry.actor_type, entry.reason) == ("command", "in a public repository")


def test_revoking_needs_a_reason(acme_app):
    issued = issue(acme_app)

    with pytest.raises(CommandError, match="Say why"):
        run("keys_check", issued.token, "--revoke")

    assert APIKey.objects.verify(issued.token)


def test_a_paused_key_counts_as_live_and_an_ended_one_does_not(acme_app):
    paused, ended = issue(acme_app), issue(acme_app)
    APIKey.objects.filter(pk=paused.key.pk).update(enabled=False)
    ended.key.revoke("gone")

    assert [leaks.inspect(one.token).live for one in (paused, ended)] == [True, False]


def test_a_leaked_refresh_token_is_told_without_being_shown_or_spent(acme_app, capsys):
    user = UserFactory(tenant=acme_app.tenant)
    issued = RefreshToken.objects.issue(user, client="portal")

    with pytest.raises(CommandError, match="1 of 2 tokens open a key or a session"):
        call_command("keys_check", issued.token, tokens.new_refresh(), "--json")

    out = capsys.readouterr().out
    told, unknown = json.loads(out)["tokens"]
    assert (told["token"], told["state"], told["tenant"], told["user"]) == ("cpr_…", "active", "acme", user.email)
    assert told["last_used_at"] is not None
    assert (unknown["state"], unknown["tenant"]) == ("unknown", None)
    assert issued.token[4:12] not in out
    assert RefreshToken.objects.rotate(issued.token).refresh.generation == 2


def test_a_live_session_is_ended_when_told_and_a_spent_token_is_not_live(acme_app):
    user = UserFactory(tenant=acme_app.tenant)
    issued, other = (RefreshToken.objects.issue(user) for _ in range(2))
    renewed = RefreshToken.objects.rotate(issued.token)
    assert [leaks.inspect(one.token).state for one in (issued, renewed)] == ["used", "active"]

    assert " used " in run("keys_check", issued.token, "--revoke", "--reason", "in a log")
    with pytest.raises(CommandError, match="Say why"):
        run("keys_check", renewed.token, "--revoke")
    with pytest.raises(CommandError, match=r"2 of 2 tokens .* 1 of them revoked"):
        run("keys_check", renewed.token, renewed.token, "--revoke", "--reason", "in a log")

    assert [leaks.inspect(one.token).state for one in (renewed, other)] == ["revoked", "active"]
    entry = AuditLog.objects.for_resource("cp_tenants_refreshfamily", renewed.family.pk).latest("id")
    assert (entry.actor_type, entry.reason) == ("command", "in a log")


def test_a_session_of_a_suspended_tenant_counts_as_live(acme_app):
    token = RefreshToken.objects.issue(UserFactory(tenant=acme_app.tenant)).token
    acme_app.tenant.suspend("unpaid")

    found = leaks.inspect(token)

    assert (found.state, found.live) == ("tenant_disabled", True)


@pytest.mark.parametrize("text", ["", "x", "cpk_live_0123456789ab_", "sk-" + "a" * 40, "\x00" * 30])
def test_a_hint_never_shows_more_than_the_public_part(text):
    assert len(leaks.hint(text)) <= 21
