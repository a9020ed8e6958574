"""What the cache before the resolution may and may not do. Rows are committed here: nothing else is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from django.db import OperationalError, connection, transaction

from catalog.models import AIModel
from controlplane.core.caches import MISSING, invalidation
from controlplane.core.ids import now, uuid7
from policies import effective as effective_module
from policies import resolution
from policies.errors import PolicyError
from policies.models import Policy
from tenants.models import APIKey, Tenant
from tenants.scope import tenant_scope
from tests.policies.world import World, make_models
from tests.races import together

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
cache = Policy.objects.cache
HOUR = timedelta(hours=1)


def heard():
    """All that was written so far was heard of, and the lease begins anew."""
    invalidation.poll()


def key_of(world, **asked):
    ids = [world.tenant, *(asked.get(name) for name in ("app", "branch", "user", "key"))]
    return tuple(0 if row is None else row.pk.int for row in ids)


def is_cached(world, **asked):
    return cache.cached(key_of(world, **asked)) is not MISSING


def counted(before):
    stats = cache.stats()
    return {name: stats[name] - was for name, was in before.items() if stats[name] != was}


@pytest.fixture
def policy(acme):
    """A committed policy that denies o1, of which everything was heard."""
    found = acme.policy(config={"deny": ["o1"]})
    heard()
    return found


@pytest.fixture
def warm(acme, policy):
    """The effective policy of the organization, cached."""
    found = acme.effective()
    assert is_cached(acme)
    return found


def denied(world, **asked):
    return world.effective(**asked).values.get("model_access", {}).get("deny", [])


def elsewhere(call):
    """Do something on a connection of its own."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def without_a_lease(monkeypatch):
    invalidation.stop()  # its thread would begin a new one
    monkeypatch.setattr(invalidation, "start", lambda: None)
    monkeypatch.setattr(invalidation, "fresh_until", 0.0)


# Hits.


def test_a_hit_asks_nothing_and_answers_with_the_same_object(acme, warm, django_assert_num_queries):
    before = cache.stats()

    with django_assert_num_queries(0):
        assert acme.effective() is warm
        assert Policy.objects.effective(acme.tenant.pk) is warm

    assert counted(before) == {"hits": 2}


def test_a_miss_is_one_statement(acme, policy, django_assert_num_queries):
    with django_assert_num_queries(1):
        acme.effective()


def test_each_scope_is_an_entry_of_its_own(acme, policy):
    key = acme.key("ci", branch="berlin", user="ada")
    everyone = {"app": acme.app(), "branch": acme.branch(), "user": acme.user()}
    own = [acme.policy(config={"deny": [name]}, **{name: row}) for name, row in everyone.items() if name != "branch"]
    acme.policy(config={"deny": ["branch"]}, app=acme.app(), branch=acme.branch())
    acme.policy(config={"deny": ["key"]}, key=key)
    heard()

    for _ in range(2):
        assert {*denied(acme)} == {"o1"}
        assert {*denied(acme, app=acme.app())} == {"o1", "app"}
        assert {*denied(acme, user=acme.user())} == {"o1", "user"}
        assert {*denied(acme, branch=acme.branch())} == {"o1", "app", "branch"}
        assert {*denied(acme, key=key)} == {"o1", "app", "branch", "user", "key"}
    assert len(own) == 2
    assert acme.effective(key=key) is acme.effective(key=key, app=acme.app())


def test_a_verified_key_and_its_row_share_an_entry(acme, policy):
    issued = APIKey.objects.issue(tenant=acme.tenant, app=acme.app(), user=acme.user(), name="ci")
    heard()

    assert acme.effective(key=APIKey.objects.verify(issued.token)) is acme.effective(key=issued.key)


def test_what_contradicts_is_refused_on_a_hit_too(acme, globex, policy):
    key = acme.key()
    acme.effective(key=key)

    for asked, code in (({"app": acme.app("other")}, "scope_mismatch"), ({"user": globex.user()}, "tenant_mismatch")):
        with pytest.raises(PolicyError) as caught:
            acme.effective(key=key, **asked)
        assert caught.value.code == code


def test_what_is_handed_out_cannot_change_what_others_get(acme, warm):
    warm.values["model_access"]["deny"].clear()
    warm.provenance.clear()

    assert denied(acme) == ["o1"]


# Changes.

CHANGES = {
    "save": lambda policy: saved(policy, config={"deny": ["opus"]}),
    "update()": lambda policy: Policy.objects.update(enabled=False),
    "delete": lambda policy: policy.delete(),
    "delete()": lambda policy: Policy.objects.all().delete(),
    "create": lambda policy: Policy.objects.create(
        tenant=policy.tenant, policy_type="model_access", config={"deny": ["x"]}
    ),
    "bulk_create": lambda policy: Policy.objects.bulk_create(
        [Policy(tenant=policy.tenant, policy_type="model_access", config={"deny": ["x"]})]
    ),
}


def saved(policy, **values):
    for name, value in values.items():
        setattr(policy, name, value)
    policy.save()


@pytest.mark.parametrize("change", CHANGES)
def test_what_this_process_changes_it_forgets_at_its_commit(acme, warm, policy, change, monkeypatch):
    invalidation.stop()
    monkeypatch.setattr(invalidation, "start", lambda: None)  # nobody listens: who writes has to know by himself

    with transaction.atomic():
        CHANGES[change](policy)
        inside = denied(acme)
        assert inside != ["o1"]
        assert elsewhere(lambda: denied(acme)) == ["o1"]

    assert denied(acme) == inside


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_was_rolled_back_was_seen_by_its_transaction_alone(acme, warm, policy, change):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        CHANGES[change](policy)
        assert denied(acme) != ["o1"]
        raise ZeroDivisionError

    assert denied(acme) == ["o1"]


def test_a_change_that_a_savepoint_took_back_is_not_seen(acme, warm, policy):
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            saved(policy, config={"deny": ["opus"]})
            assert denied(acme) == ["opus"]
            raise ZeroDivisionError
        assert denied(acme) == ["o1"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cp_policies_policy SET config = '{}'",
        "UPDATE cp_policies_policy SET enabled = false",
        "UPDATE cp_policies_policy SET overridable = '{allow}'",
        "UPDATE cp_policies_policy SET message = 'Ask for another.'",
        "DELETE FROM cp_policies_policy",
        "UPDATE cp_tenants_tenant SET time_zone = 'Asia/Tokyo'",
    ],
)
def test_a_change_past_the_models_is_noticed_by_the_next_look(acme, warm, statement):
    execute(statement)
    heard()

    assert not is_cached(acme)
    assert acme.effective() is not warm


def test_another_tenants_change_evicts_nothing(acme, globex, warm):
    globex.policy(config={"deny": ["opus"]})
    Tenant.objects.filter(pk=acme.tenant.pk).update(name="New")
    heard()

    assert acme.effective() is warm


def test_the_epoch_is_that_of_the_snapshot(acme, warm, policy):
    assert warm.epoch == 1

    saved(policy, priority=7)

    assert acme.effective().epoch == 2


def test_a_load_that_a_change_overtook_revives_nothing(acme, policy, monkeypatch):
    """It read the old policies, was held up, and ended once the change had been heard of."""
    loader, read, heard_of = cache.loader, Event(), Event()

    def slow(key, ask):
        found = loader(key, ask)
        read.set()
        heard_of.wait(30)
        return found

    monkeypatch.setattr(cache, "loader", slow)
    outcome = []
    thread = Thread(target=lambda: outcome.append(elsewhere(lambda: denied(acme))))
    thread.start()
    read.wait(30)
    elsewhere(lambda: execute("""UPDATE cp_policies_policy SET config = '{"deny": ["opus"]}'"""))
    heard()
    heard_of.set()
    thread.join()

    assert outcome == [["o1"]]
    assert not is_cached(acme)
    assert denied(acme) == ["opus"]


# Time.


def test_a_set_that_changes_soon_is_kept_no_longer(acme, policy, monkeypatch):
    soon = acme.policy(config={"deny": ["opus"]}, valid_from=now() + timedelta(minutes=10))
    heard()
    before = acme.effective()
    assert before.expires_at == soon.valid_from

    began = cache.clock()
    monkeypatch.setattr(cache, "clock", lambda: began + 590)
    monkeypatch.setattr(invalidation, "fresh_until", began + 10_000)
    assert is_cached(acme)
    monkeypatch.setattr(cache, "clock", lambda: began + 600)
    assert not is_cached(acme)


@pytest.mark.parametrize("edge", ["begins", "ends"])
def test_the_edge_of_a_schedule_bounds_an_entry_too(acme, policy, edge):
    at = now().replace(second=0, microsecond=0) + timedelta(minutes=7)
    times = {"begins": (at, at + HOUR), "ends": (at - HOUR, at)}[edge]
    start, end = (moment.strftime("%H:%M") for moment in times)
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    acme.policy(config={"deny": ["opus"]}, schedule={"tz": "UTC", "days": days, "start": start, "end": end})
    heard()

    found = acme.effective()

    assert found.expires_at == at
    [ends] = [entry[0] for key, entry in cache._entries.copy().items() if key == key_of(acme)]
    assert ends - cache.clock() <= (at - found.at).total_seconds()


def test_an_instant_that_is_asked_for_goes_past_the_cache(acme, warm, django_assert_num_queries):
    before = cache.stats()

    for at in (now(), datetime(2030, 1, 1, tzinfo=UTC)):
        with django_assert_num_queries(1):
            assert acme.effective(at=at).at == at

    assert counted(before) == {}
    assert acme.effective() is warm


# Tenants.


def test_in_the_scope_of_a_tenant_its_own_are_served_and_anothers_are_an_error(acme, globex, warm):
    globex.policy(config={"allow": []})
    heard()
    globex.effective()

    with tenant_scope(acme.tenant):
        assert acme.effective() is warm
        for _ in range(2):
            with pytest.raises(PolicyError) as caught:
                globex.effective()
            assert caught.value.code == "tenant_mismatch"
    assert globex.effective().values == {"model_access": {"allow": [[]]}}


def test_a_miss_in_the_scope_of_its_tenant_is_kept_for_all(acme, policy):
    with tenant_scope(acme.tenant):
        found = acme.effective()

    assert acme.effective() is found


def test_a_tenant_that_was_not_there_is_there_at_once(db):
    heard()
    new = Tenant(slug="new", name="New", id=uuid7())
    with pytest.raises(PolicyError):
        Policy.objects.effective(new.pk)

    elsewhere(new.save)

    assert Policy.objects.effective(new.pk).applicable == ()


# Transactions.


def test_an_old_snapshot_poisons_nobody(acme, policy):
    with transaction.atomic():
        execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert Policy.objects.count() == 1
        elsewhere(lambda: saved(policy, config={"deny": ["opus"]}))

        assert denied(acme) == ["opus"]

    assert denied(acme) == ["opus"]


def test_what_sql_of_a_transaction_wrote_is_not_kept_for_others(acme, policy):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        execute("""UPDATE cp_policies_policy SET config = '{"deny": ["opus"]}'""")
        acme.effective()
        raise ZeroDivisionError

    assert denied(acme) == ["o1"]


def test_a_version_that_was_rolled_back_comes_again_with_other_words(acme, policy):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        saved(policy, config={"deny": ["opus"]})
        assert (denied(acme), policy.version) == (["opus"], 2)
        raise ZeroDivisionError

    again = Policy.objects.get()
    saved(again, config={"deny": ["gpt-4o"]})

    assert (denied(acme), again.version) == (["gpt-4o"], 2)


# The database, the lease, threads, processes.


def test_eight_threads_on_a_cold_scope_are_one_statement(acme, policy, monkeypatch):
    loader, asked, all_wait = cache.loader, [], Event()
    before = cache.stats()

    def load(key, ask):
        asked.append(key)
        while counted(before).get("waits", 0) < 7:
            all_wait.wait(0.001)
        return loader(key, ask)

    monkeypatch.setattr(cache, "loader", load)

    found = together(*[acme.effective] * 8)

    assert len(asked) == 1
    assert {id(one) for one in found} == {id(acme.effective())}


def test_without_a_lease_each_call_is_a_statement(acme, warm, monkeypatch, django_assert_num_queries):
    without_a_lease(monkeypatch)

    with django_assert_num_queries(2):
        assert acme.effective() is not acme.effective()


def test_without_a_database_a_known_scope_is_served_while_the_lease_lasts_and_no_other(acme, warm, monkeypatch):
    def away(key, ask):
        raise OperationalError("away")

    monkeypatch.setattr(cache, "loader", away)

    assert acme.effective() is warm
    with pytest.raises(PolicyError) as caught:
        acme.effective(app=acme.app())
    assert (caught.value.code, caught.value.http_status) == ("policy_unavailable", 503)


def test_a_child_of_a_fork_begins_with_nothing(acme, warm):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, str(cache.stats()["size"]).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)

    assert os.read(reader, 10) == b"0"
    assert is_cached(acme)


READER = """
import sys, django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
from policies.models import Policy
from tenants.models import Tenant
tenant = Tenant.objects.get(slug="acme")
deny = lambda: Policy.objects.effective(tenant).values["model_access"]["deny"]
while not Policy.objects.cache.stats()["hits"]:
    first = deny()
print(first, flush=True)
while (found := deny()) == first:
    pass
print(found)
"""


def test_another_process_hears_of_a_change(acme, policy):
    command = [sys.executable, "-c", READER, connection.settings_dict["NAME"]]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout.readline() == "['o1']\n"
            saved(policy, config={"deny": ["opus"]})
            said, _ = reader.communicate(timeout=30)
        finally:
            reader.kill()

    assert said == "['opus']\n"


def test_the_caches_are_counted_by_name():
    assert any(known is cache for known in invalidation._caches)
    assert cache.name == "policies"
    assert (cache.size, cache.kinds) == (10_000, frozenset({"policy"}))


# What lies beneath: policies that were worked out, decisions that were made.


def test_a_policy_is_worked_out_once_for_all_scopes(acme, policy):
    one, two = acme.effective(), acme.effective(app=acme.app())

    assert one.policies[policy.pk] is two.policies[policy.pk]


def test_worked_out_policies_are_bounded(acme, policy, monkeypatch):
    monkeypatch.setattr(resolution, "MAX_COMPILED", 3)
    for number in range(5):
        acme.policy(config={"deny": [f"model-{number}"]})

    assert len(denied(acme, at=now())) == 6
    assert len(resolution._policies) <= 3


@pytest.fixture
def catalog(acme):
    make_models("openai/gpt-4o", "openai/o1")
    heard()


def test_a_decision_is_made_once_and_carries_everything(acme, catalog, policy, django_assert_num_queries):
    effective = acme.effective()
    first = effective.decide_model("o1")
    heard()
    first = effective.decide_model("o1")

    with django_assert_num_queries(0):
        assert effective.decide_model("o1") is first
    assert (first.reason, first.by, first.pattern, first.policies) == ("model_denied", policy.pk, "o1", (policy.pk,))
    assert effective.decide_model("o1", "eu-west-1") is not first


def test_a_change_of_the_catalog_voids_decisions(acme, catalog, policy):
    effective = acme.effective()
    assert effective.decide_model("gpt-4o")

    for write in (
        lambda enabled: saved(AIModel.objects.get(key="gpt-4o"), enabled=enabled),
        lambda enabled: execute("UPDATE cp_catalog_aimodel SET enabled = %s WHERE key = 'gpt-4o'", enabled),
    ):
        write(False)
        heard()
        assert effective.decide_model("gpt-4o").reason == "model_disabled"
        write(True)
        heard()
        assert effective.decide_model("gpt-4o").allow


def test_a_decision_is_not_served_without_a_lease(acme, catalog, policy, monkeypatch):
    effective = acme.effective()
    effective.decide_model("gpt-4o")
    without_a_lease(monkeypatch)
    execute("UPDATE cp_catalog_aimodel SET enabled = false")

    assert effective.decide_model("gpt-4o").reason == "model_disabled"


def test_a_decision_on_what_is_not_committed_is_not_kept(acme, catalog, policy):
    effective = acme.effective()

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        make_models("openai/gpt-9")
        assert effective.decide_model("gpt-9")
        raise ZeroDivisionError

    assert effective.decide_model("gpt-9").reason == "model_unknown"


def test_decisions_are_bounded_and_unknown_names_are_not_kept(acme, catalog, policy, monkeypatch):
    monkeypatch.setattr(effective_module, "MAX_DECIDED", 3)
    effective = acme.effective()

    for number in range(10):
        assert effective.decide_model("gpt-4o", f"region-{number}")
        assert not effective.decide_model(f"unknown-{number}", "region-0")

    assert 1 <= len(effective._decided) <= 3
    assert not any(name.startswith("unknown") for name, _ in effective._decided)
    assert effective.decide_model("gpt-4o", "x" * 1_000_000)
    assert all(len(region) <= 64 for _, region in effective._decided)


@pytest.mark.parametrize("garbage", ["", "\x00", "\ud800", "é", "x" * 100_000, "*", "a//b", "../x"])
def test_garbage_is_refused_warm_and_cold(acme, catalog, policy, garbage):
    effective = acme.effective()

    assert [effective.decide_model(garbage).reason for _ in range(2)] == ["model_unknown"] * 2
    assert not effective.decide_storage(garbage, "read")


def test_two_tenants_of_one_process_never_meet(policy, acme):
    globex = World("globex")
    globex.policy(config={"deny": ["opus"]})
    heard()

    for _ in range(3):
        assert denied(acme) == ["o1"]
        assert denied(globex) == ["opus"]
