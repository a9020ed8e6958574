"""What the cache before the verification may and may not do. Rows are committed here: nothing else is kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from threading import Barrier, Event, Thread

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, OperationalError, connection, connections, transaction

from controlplane.core.caches import MISSING, invalidation
from controlplane.core.ids import now
from tenants import tokens, verification
from tenants.errors import AuthUnavailable, InvalidKey
from tenants.models import APIKey, APIKeySecret, App, Branch, Tenant, User
from tenants.scope import tenant_scope
from tests.factories import BranchFactory, UserFactory, issue

pytestmark = pytest.mark.django_db(transaction=True)

cache = APIKey.objects.cache


@pytest.fixture
def issued(acme_app):
    """A key with everything that may be suspended, not cached; the caches' lease is fresh, and all they were told is done."""
    user, branch = UserFactory(tenant=acme_app.tenant), BranchFactory(app=acme_app)
    found = issue(acme_app, user=user, branch=branch)
    invalidation.poll()
    return found


@pytest.fixture
def warm(issued):
    """The key, cached."""
    APIKey.objects.verify(issued.token)
    assert is_cached(issued.token)
    return issued


def is_cached(token):
    return cache.cached(tokens.sha256(token)) is not MISSING


def code_of(token, **asked):
    with pytest.raises(InvalidKey) as caught:
        APIKey.objects.verify(token, **asked)
    return caught.value.code


def counted(**changes):
    """What the counts changed by since they were taken, as `counted(**cache.stats())`."""
    stats = cache.stats()
    return {name: stats[name] - before for name, before in changes.items() if stats[name] != before}


def test_a_hit_asks_nothing_and_answers_with_the_record_itself(warm, django_assert_num_queries):
    before = cache.stats()

    with django_assert_num_queries(0):
        first = APIKey.objects.verify(warm.token)
        assert APIKey.objects.verify(warm.token) is first

    assert counted(**before) == {"hits": 2}


def test_a_miss_is_one_statement(issued, django_assert_num_queries):
    with django_assert_num_queries(1):
        APIKey.objects.verify(issued.token)


def test_an_unknown_token_is_asked_for_once_and_noise_never(issued, django_assert_num_queries):
    token = tokens.new_key("live").token
    with django_assert_num_queries(1):
        assert code_of(token) == "unknown"
    before = cache.stats()

    with django_assert_num_queries(0):
        assert code_of(token) == "unknown"
        assert code_of(token[:-1] + ("0" if token[-1] != "0" else "1")) == "malformed"
        assert code_of("\ud800") == "malformed"
        assert code_of("x" * 100_000) == "malformed"

    assert counted(**before) == {"negative_hits": 1}


@pytest.mark.parametrize("spoil", ["revoke", "disable", "expire", "suspend"])
def test_a_dead_key_is_cached_too_so_hammering_it_asks_nothing(issued, spoil, django_assert_num_queries):
    key = APIKey.objects.filter(pk=issued.key.pk)
    {
        "revoke": lambda: issued.key.revoke("leaked"),
        "disable": lambda: key.update(enabled=False),
        "expire": lambda: key.update(expires_at=now()),
        "suspend": lambda: issued.key.app.suspend("audit"),
    }[spoil]()
    invalidation.poll()
    first = code_of(issued.token)

    with django_assert_num_queries(0):
        assert [code_of(issued.token) for _ in range(3)] == [first] * 3


def test_every_check_is_made_on_every_hit(acme_app, django_assert_num_queries):
    end = now() + timedelta(days=1)
    issued = issue(acme_app, scopes=["chat"], allowed_models=["openai/gpt-4o"], expires_at=end)
    invalidation.poll()
    APIKey.objects.verify(issued.token)

    with django_assert_num_queries(0):
        assert code_of(issued.token, environment="test") == "wrong_environment"
        assert code_of(issued.token, scope="admin") == "insufficient_scope"
        assert code_of(issued.token, model="openai/gpt-4") == "model_not_allowed"
        assert APIKey.objects.verify(issued.token, environment="live", scope="chat", model="openai/gpt-4o")
        assert verification.verify(issued.token, at=end - timedelta(microseconds=1))
        with pytest.raises(InvalidKey, match="expired"):
            verification.verify(issued.token, at=end)


STOPS = {
    "the key is revoked": (lambda made: made.key.revoke("x"), "revoked"),
    "the secret is revoked": (lambda made: made.secret.revoke("x"), "revoked"),
    "the key is saved disabled": (lambda made: saved(made.key, enabled=False), "disabled"),
    "the key is saved with an end": (lambda made: saved(made.key, expires_at=now() - timedelta(seconds=1)), "expired"),
    "the key is rotated without grace": (lambda made: made.key.rotate(grace=timedelta(0)), "expired"),
    "the tenant is suspended": (lambda made: made.key.tenant.suspend("x"), "tenant_disabled"),
    "the app is deleted": (lambda made: made.key.app.delete("x"), "app_disabled"),
    "the branch is suspended": (lambda made: made.key.branch.suspend("x"), "branch_disabled"),
    "the user is deactivated": (lambda made: made.key.user.deactivate("x"), "user_disabled"),
    "the user is saved inactive": (lambda made: saved(made.key.user, is_active=False), "user_disabled"),
}


def saved(row, **values):
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


@pytest.mark.parametrize("stop", STOPS)
def test_the_process_that_stops_a_key_refuses_it_at_its_commit(warm, stop):
    change, code = STOPS[stop]

    with transaction.atomic():
        change(warm)

    assert code_of(warm.token) == code


def test_a_key_that_is_opened_again_opens_at_once(warm):
    warm.key.app.suspend("audit")
    assert code_of(warm.token) == "app_disabled"

    warm.key.app.resume()

    assert APIKey.objects.verify(warm.token)


def test_a_stop_that_was_rolled_back_leaves_the_key_open(warm):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        warm.key.revoke("x")
        raise ZeroDivisionError

    assert APIKey.objects.verify(warm.token)


PAST_THE_MODELS = {
    "key": lambda made: APIKey.objects.filter(pk=made.key.pk).update(revoked_at=now(), revoke_reason="x"),
    "secret": lambda made: APIKeySecret.objects.filter(pk=made.secret.pk).update(revoked_at=now()),
    "purged secret": lambda made: APIKeySecret.objects.filter(pk=made.secret.pk).delete(),
    "scopes": lambda made: APIKey.objects.filter(pk=made.key.pk).update(scopes=[]),
    "tenant": lambda made: Tenant.objects.filter(pk=made.key.tenant_id).update(status="suspended"),
    "app": lambda made: App.objects.filter(pk=made.key.app_id).update(status="suspended"),
    "branch": lambda made: Branch.objects.filter(pk=made.key.branch_id).update(status="suspended"),
    "user": lambda made: User.objects.filter(pk=made.key.user_id).update(is_active=False),
}


@pytest.mark.parametrize("row", PAST_THE_MODELS)
def test_a_change_past_the_models_is_noticed_by_the_next_look(acme_app, row):
    user, branch = UserFactory(tenant=acme_app.tenant), BranchFactory(app=acme_app)
    made = issue(acme_app, user=user, branch=branch, scopes=["chat"])
    invalidation.poll()
    APIKey.objects.verify(made.token, scope="chat")
    before = cache.stats()

    PAST_THE_MODELS[row](made)
    invalidation.poll()

    assert code_of(made.token, scope="chat")
    assert counted(**before).get("invalidated") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda made: APIKey.objects.filter(pk=made.key.pk).update(name="new", metadata={"a": 1}, tags=["b"]),
        lambda made: made.key.set_metadata("a", 1),
        lambda made: Tenant.objects.filter(pk=made.key.tenant_id).update(name="New"),
        lambda made: User.objects.filter(pk=made.key.user_id).update(last_login=now()),
        lambda made: APIKey.objects.flush_last_used(),
    ],
)
def test_what_a_verification_does_not_read_evicts_nothing(warm, change):
    change(warm)
    invalidation.poll()

    assert is_cached(warm.token)


def test_another_key_stays_when_one_is_stopped(warm, acme_app):
    other = issue(acme_app)
    invalidation.poll()
    APIKey.objects.verify(warm.token)
    APIKey.objects.verify(other.token)

    APIKey.objects.filter(pk=other.key.pk).update(enabled=False)
    invalidation.poll()

    assert is_cached(warm.token)
    assert not is_cached(other.token)


def test_a_token_that_was_unknown_opens_as_soon_as_it_is_imported(warm):
    token = tokens.new_key("live").token
    assert code_of(token) == "unknown"

    warm.key.import_secret(sha256=tokens.sha256(token))

    assert APIKey.objects.verify(token).key_id == warm.key.pk


def test_a_token_that_was_unknown_opens_when_somebody_else_brought_it(warm):
    token = tokens.new_key("live").token
    assert code_of(token) == "unknown"

    secret = APIKeySecret(
        tenant=warm.key.tenant, key=warm.key, kid=tokens.new_kid(), digest=tokens.sha256(token), origin="import"
    )
    APIKeySecret.objects.bulk_create([secret])
    invalidation.poll()

    assert APIKey.objects.verify(token).key_id == warm.key.pk


def test_a_flood_of_unknown_keys_evicts_nothing_good(warm):
    before = cache.stats()
    for _ in range(300):
        assert code_of(tokens.new_key("live").token) == "unknown"

    assert is_cached(warm.token)
    assert counted(**before)["negative_size"] == 300
    assert cache.stats()["negative_capacity"] == 10_000


def test_a_hit_is_served_in_a_transaction_and_in_any_scope(warm, globex, django_assert_num_queries):
    with transaction.atomic(), django_assert_num_queries(0):
        APIKey.objects.verify(warm.token)
    with tenant_scope(globex), django_assert_num_queries(0):
        APIKey.objects.verify(warm.token)


def test_a_miss_in_the_scope_of_another_tenant_sees_what_is_committed(issued, globex):
    with tenant_scope(globex):
        assert APIKey.objects.verify(issued.token).key_id == issued.key.pk
    assert is_cached(issued.token)


def test_an_old_snapshot_poisons_nobody(issued):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM cp_tenants_apikey")
        elsewhere(lambda: APIKey.objects.filter(pk=issued.key.pk).update(enabled=False))

        assert code_of(issued.token) == "disabled"

    assert code_of(issued.token) == "disabled"


def test_a_snapshot_of_a_transaction_that_django_does_not_know_of_poisons_nobody(issued):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            cursor.execute("SELECT count(*) FROM cp_tenants_apikey")
            elsewhere(lambda: APIKey.objects.filter(pk=issued.key.pk).update(enabled=False))
            invalidation.poll()

            assert code_of(issued.token) == "disabled"
        finally:
            cursor.execute("ROLLBACK")

    assert code_of(issued.token) == "disabled"


def elsewhere(call):
    """Do something on a connection of its own."""

    def run():
        try:
            call()
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()


def test_a_key_that_was_issued_in_a_transaction_opens_in_it_and_is_not_kept(issued, acme_app):
    with transaction.atomic():
        mine = issue(acme_app)
        assert APIKey.objects.verify(mine.token).key_id == mine.key.pk
        assert not is_cached(mine.token)
        transaction.set_rollback(True)

    assert code_of(mine.token) == "unknown"


def test_sixty_four_threads_on_one_cold_key_are_one_statement(issued, monkeypatch):
    barrier, begun, outcomes = Barrier(64), Event(), []
    loader, asked = cache.loader, []

    def load(key, ask):
        asked.append(key)
        begun.wait(30)
        return loader(key, ask)

    monkeypatch.setattr(cache, "loader", load)
    before = cache.stats()

    def verify():
        barrier.wait()
        outcomes.append(APIKey.objects.verify(issued.token).key_id)
        connection.close()

    threads = [Thread(target=verify) for _ in range(64)]
    for thread in threads:
        thread.start()
    pause = Event()
    while counted(**before).get("waits") != 63:
        pause.wait(0.01)
    begun.set()
    for thread in threads:
        thread.join()

    assert outcomes == [issued.key.pk] * 64
    assert len(asked) == 1
    assert counted(**before) == {"misses": 64, "loads": 1, "waits": 63, "size": 1}


def test_without_a_lease_the_database_is_asked_and_without_both_nobody_is_let_in(warm, monkeypatch):
    invalidation.stop()
    monkeypatch.setattr(invalidation, "fresh_until", 0.0)
    monkeypatch.setattr(invalidation, "start", lambda: None)
    assert APIKey.objects.verify(warm.token)

    def away(key, ask):
        raise OperationalError("away")

    monkeypatch.setattr(cache, "loader", away)
    with pytest.raises(AuthUnavailable) as caught:
        APIKey.objects.verify(warm.token)

    assert (caught.value.code, caught.value.http_status, caught.value.retry_after) == ("auth_unavailable", 503, 1)


def test_while_the_lease_lasts_a_known_key_opens_without_the_database(warm, monkeypatch):
    def away(key, ask):
        raise OperationalError("away")

    monkeypatch.setattr(cache, "loader", away)

    assert APIKey.objects.verify(warm.token)
    assert code_of(tokens.new_key("live").token) == "auth_unavailable"


def test_asynchronous_callers_get_the_same_answers(issued):
    async def all_of_them():
        missed = await APIKey.objects.averify(issued.token)
        hit = await APIKey.objects.averify(issued.token, environment="live")
        with pytest.raises(InvalidKey, match="unknown"):
            await APIKey.objects.averify(tokens.new_key("live").token)
        with pytest.raises(InvalidKey, match="no API key"):
            await APIKey.objects.averify("x")
        with pytest.raises(InvalidKey, match="environment"):
            await APIKey.objects.averify(issued.token, environment="test")
        await sync_to_async(connections.close_all)()
        return missed, hit

    missed, hit = asyncio.run(all_of_them())

    assert missed is hit
    assert missed.key_id == issued.key.pk


def test_by_its_hash_a_key_is_read_past_the_cache(warm, django_assert_num_queries):
    with django_assert_num_queries(1):
        found = APIKey.objects.get_by_hash(tokens.sha256(warm.token))
    assert found == warm.key
    APIKey.objects.filter(pk=warm.key.pk).update(name="new")

    assert APIKey.objects.get_by_hash(tokens.sha256(warm.token)).name == "new"


def test_a_use_is_noted_on_a_hit(warm):
    APIKey.objects.flush_last_used()
    APIKey.objects.verify(warm.token)

    assert APIKey.objects.flush_last_used() == 1


def test_the_raw_token_is_a_key_of_nothing(warm):
    kept = [*cache._entries.copy().keys(), *cache._unknown.copy().keys()]

    assert kept == [tokens.sha256(warm.token)]
    assert warm.token not in repr([*cache._entries.copy().items()])


def test_the_second_thread_gives_what_was_used_the_newest_pepper(acme_app, settings):
    settings.CONTROLPLANE = {"API_KEY_PEPPERS": {1: "11" * 32}}
    issued = issue(acme_app)
    settings.CONTROLPLANE = {"API_KEY_PEPPERS": {1: "11" * 32, 2: "22" * 32}}
    invalidation.poll()
    APIKey.objects.verify(issued.token)

    invalidation.stop()  # it does at its end what is due once a minute

    assert APIKeySecret.objects.get(pk=issued.secret.pk).hash_version == 2
    invalidation.poll()
    assert not is_cached(issued.token)
    settings.CONTROLPLANE = {"API_KEY_PEPPERS": {2: "22" * 32}}
    assert APIKey.objects.verify(issued.token).key_id == issued.key.pk


def test_a_transaction_that_has_failed_is_no_reason_to_call_a_token_unknown(acme_app):
    issued, never = issue(acme_app), tokens.new_key("live").token
    with transaction.atomic():
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
        assert APIKey.objects.verify(issued.token).key_id == issued.key.pk  # others see it without this transaction
        for ask in (APIKey.objects.verify, lambda token: verification.find(tokens.sha256(token))):
            with pytest.raises(AuthUnavailable) as refused:
                ask(never)
            assert refused.value.http_status == 503
        transaction.set_rollback(True)

    assert code_of(never) == "unknown"
