from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from django.db import connection

from catalog.models import AIModel, ModelAlias
from controlplane.core.ids import NIL, uuid7
from policies.errors import PolicyError
from policies.models import Policy
from policies.resolution import _STATEMENT, REASONS
from policies.schemas import SCHEMAS
from tenants.models import APIKey
from tenants.scope import tenant_scope
from tests.policies.test_database import force
from tests.policies.world import make_models

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEVELS = ("app", "branch", "user", "key")


def rows_of(world, **asked):
    return [policy.name for policy in Policy.objects.applicable(world.tenant, **asked)]


def of_both_apps(world):
    """One policy for every scope that can be written, named by it; and scopes of others beside them."""
    key, stray = world.key("ci", branch="berlin", user="ada"), world.key("stray", app="other")
    choices = {
        "app": [None, world.app(), world.app("other")],
        "branch": [None, world.branch(), world.branch("oslo")],
        "user": [None, world.user(), world.user("bob")],
        "key": [None, key, stray],
    }
    policies = []
    for app, branch, user, owned in product(*choices.values()):
        if (branch and app != world.app()) or (owned and app and owned.app_id != app.pk):
            continue
        if owned and owned.user_id and user and owned.user_id != user.pk:
            continue
        policies.append(Policy(tenant=world.tenant, policy_type="budget", app=app, branch=branch, user=user, key=owned))
    return Policy.objects.bulk_create(policies), key


def matches(policy, asked):
    """The rule itself: what a policy names, the request must have."""
    named = {level: getattr(policy, f"{level}_id") for level in LEVELS}
    return all(wanted is None or (asked.get(level) and asked[level].pk == wanted) for level, wanted in named.items())


def test_every_scope_against_every_request(acme, globex):
    policies, key = of_both_apps(acme)
    of_both_apps(globex)
    requests = [
        {},
        {"app": acme.app()},
        {"user": acme.user()},
        {"app": acme.app(), "user": acme.user()},
        {"app": acme.app(), "branch": acme.branch()},
        {"app": acme.app(), "branch": acme.branch(), "user": acme.user(), "key": key},
        {"app": acme.app("other"), "user": acme.user("bob")},
    ]

    for asked in requests:
        expected = sorted((p for p in policies if matches(p, asked)), key=lambda p: (-p.layer, -p.priority, p.pk))
        got = list(Policy.objects.applicable(acme.tenant, **asked))
        assert got == expected
        assert list(acme.effective(**asked).applicable) == [policy.pk for policy in expected]


def test_the_total_order_is_layer_then_priority_then_id(acme):
    chance = random.Random(3)  # noqa: S311  the same rows every time
    scopes = [{}, {"app": acme.app()}, {"user": acme.user()}, {"app": acme.app(), "user": acme.user()}]
    for _ in range(40):
        acme.policy("budget", priority=chance.randint(-2, 2), **chance.choice(scopes))

    found = list(Policy.objects.applicable(acme.tenant, app=acme.app(), user=acme.user()))

    assert len(found) == 40
    assert found == sorted(found, key=lambda policy: (-policy.layer, -policy.priority, policy.pk))


def test_types_narrow_and_filters_compose(acme):
    acme.policy("budget", name="b")
    acme.policy("routing", name="r")

    assert rows_of(acme, types=["budget"]) == ["b"]
    assert rows_of(acme, types=[]) == []
    assert [p.name for p in Policy.objects.filter(name="r").applicable(acme.tenant)] == ["r"]


def test_validity_and_schedule_are_asked_at_one_instant(acme):
    night = {"tz": "UTC", "days": ["tue"], "start": "12:00", "end": "13:00"}
    acme.policy("budget", name="ended", valid_until=NOON)
    acme.policy("budget", name="begins", valid_from=NOON)
    acme.policy("budget", name="later", valid_from=NOON + HOUR)
    acme.policy("budget", name="noon", schedule=night)
    acme.policy("budget", name="off", enabled=False)

    assert {*rows_of(acme, at=NOON)} == {"begins", "noon"}
    assert {*rows_of(acme, at=NOON + HOUR)} == {"begins", "later"}

    effective = acme.effective(at=NOON)
    names = dict(Policy.objects.values_list("pk", "name"))
    assert {(names[policy], why) for policy, why in effective.skipped} == {("later", "not_yet_valid")}
    assert effective.expires_at == NOON + HOUR
    late = acme.effective(at=NOON + HOUR)
    assert {(names[policy], why) for policy, why in late.skipped} == {("noon", "out_of_schedule")}


def test_an_instant_without_a_zone_is_refused(acme):
    for ask in (Policy.objects.applicable, Policy.objects.effective):
        with pytest.raises(ValueError, match="time zone"):
            ask(acme.tenant, at=datetime(2026, 3, 10))  # noqa: DTZ001


# What the key knows, the caller need not say, and cannot deny.


def test_a_key_fills_in_its_app_branch_and_user(acme):
    key = acme.key("ci", branch="berlin", user="ada")
    everything = acme.policy("budget", app=acme.app(), branch=acme.branch(), user=acme.user(), key=key)

    assert list(Policy.objects.applicable(acme.tenant, key=key)) == [everything]
    assert acme.effective(key=key).applicable == (everything.pk,)


def test_a_verified_key_is_as_good_as_its_row(acme):
    issued = APIKey.objects.issue(tenant=acme.tenant, app=acme.app(), user=acme.user(), name="ci")
    verified = APIKey.objects.verify(issued.token)
    policy = acme.policy("budget", app=acme.app(), user=acme.user(), key=issued.key)

    assert list(Policy.objects.applicable(acme.tenant.pk, key=verified)) == [policy]
    assert Policy.objects.effective(verified.tenant_id, key=verified).applicable == (policy.pk,)


def test_what_a_key_leaves_open_the_caller_may_say(acme):
    key = acme.key()
    policy = acme.policy("budget", user=acme.user())

    assert list(Policy.objects.applicable(acme.tenant, key=key)) == []
    assert list(Policy.objects.applicable(acme.tenant, key=key, user=acme.user())) == [policy]


def test_a_branch_brings_its_app(acme):
    policy = acme.policy("budget", app=acme.app())

    assert list(Policy.objects.applicable(acme.tenant, branch=acme.branch())) == [policy]


@pytest.mark.parametrize("ask", ["applicable", "effective"])
@pytest.mark.parametrize("wrong", ["app", "branch", "user", "app of branch"])
def test_a_value_that_contradicts_is_refused_before_any_statement(acme, django_assert_num_queries, ask, wrong):
    asked = {
        "app": {"key": acme.key(), "app": acme.app("other")},
        "branch": {"key": acme.key("bound", branch="berlin"), "branch": acme.branch("oslo")},
        "user": {"key": acme.key("own", user="ada"), "user": acme.user("bob")},
        "app of branch": {"app": acme.app("other"), "branch": acme.branch()},
    }[wrong]

    with django_assert_num_queries(0), pytest.raises(PolicyError) as caught:
        getattr(Policy.objects, ask)(acme.tenant, **asked)

    assert caught.value.code == "scope_mismatch"


@pytest.mark.parametrize("ask", ["applicable", "effective"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_row_of_another_tenant_is_refused_before_any_statement(acme, globex, django_assert_num_queries, ask, level):
    tenant, foreign = acme.tenant, getattr(globex, level)()

    with django_assert_num_queries(0), pytest.raises(PolicyError) as caught:
        getattr(Policy.objects, ask)(tenant, **{level: foreign})

    assert caught.value.code == "tenant_mismatch"


def test_an_operator_belongs_to_no_tenant(acme, django_user_model):
    operator = django_user_model.objects.create_user("operator@example.com")

    with pytest.raises(PolicyError, match="another tenant"):
        acme.effective(user=operator)


def test_a_tenant_that_is_not_there_or_not_in_the_scope_is_an_error_and_no_empty_set(acme, globex):
    globex.policy(config={"allow": []})

    for tenant in (uuid7(), NIL):
        with pytest.raises(PolicyError) as caught:
            Policy.objects.effective(tenant)
        assert caught.value.code == "tenant_mismatch"
    with tenant_scope(acme.tenant):
        assert acme.effective().applicable == ()
        with pytest.raises(PolicyError) as caught:
            globex.effective()
        assert caught.value.code == "tenant_mismatch"


# The statement.


def test_each_question_is_one_statement(acme, django_assert_num_queries):
    acme.policy("budget", app=acme.app())
    tenant, app = acme.tenant, acme.app()

    with django_assert_num_queries(1):
        list(Policy.objects.applicable(tenant, app=app))
    with django_assert_num_queries(1):
        Policy.objects.effective(tenant, app=app)


def plan(statement, params):
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT TEXT) " + statement, params)
        return "\n".join(line for (line,) in cursor)


def test_one_index_resolves(acme, globex):
    for world in (acme, globex):
        users = [world.user(f"user-{n}") for n in range(40)]
        Policy.objects.bulk_create(
            Policy(tenant=world.tenant, policy_type="budget", user=user) for user in users for _ in range(25)
        )
        world.policy("budget", app=world.app())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cp_policies_policy")
    user = acme.user("user-7")

    asked = [acme.app().pk, NIL, user.pk, NIL, NOON, acme.tenant.pk]
    raw = plan(_STATEMENT, asked)
    query, params = Policy.objects.applicable(acme.tenant, app=acme.app(), user=user).query.sql_with_params()
    orm = plan(query, params)

    for found in (raw, orm):
        assert "cp_policy_scope_idx" in found
        assert "Seq Scan on cp_policies_policy " not in found  # and no other table whose name begins so
        assert all(f"{column}_key = " in found.partition("Index Cond")[2] for column in LEVELS)
        scan = found.partition("cp_policy_scope_idx")[2].partition("->")[0]
        assert "Rows Removed by Filter" not in scan


# Decisions.


@pytest.fixture
def models(db):
    make_models("openai/gpt-4o", "openai/o1", "anthropic/opus")


def test_without_policies_a_known_model_is_allowed(acme, models):
    decision = acme.effective().decide_model("gpt-4o")

    assert decision
    assert (decision.reason, decision.model, decision.by) == ("no_restriction", "openai/gpt-4o", None)
    assert decision.record.canonical_id == "openai/gpt-4o"


@pytest.mark.parametrize("name", ["gpt-99", "", "gpt-4\u043e", "gpt-4o\n", "gpt-4o\x00", "\uff47pt-4o", "x" * 10_000])
def test_a_name_that_is_not_plain_or_not_known_is_unknown(acme, models, name):
    acme.policy(config={"allow": ["*"]})

    decision = acme.effective().decide_model(name)

    assert not decision
    assert (decision.reason, decision.model) == ("model_unknown", None)


def test_a_disabled_model_is_refused(acme, models):
    AIModel.objects.filter(key="o1").update(enabled=False)

    assert acme.effective().decide_model("o1").reason == "model_disabled"


def test_an_alias_of_the_routing_policy_comes_before_the_catalog(acme, models):
    acme.policy("routing", {"aliases": {"gpt-4o": "anthropic/opus"}})

    assert acme.effective().decide_model("GPT-4o").model == "anthropic/opus"


def test_an_alias_of_the_catalog_is_judged_by_what_it_means_and_by_name(acme, models):
    ModelAlias.objects.create(tenant=acme.tenant, alias="smart", model=AIModel.objects.get(key="opus"))
    acme.policy(config={"deny": ["smart"]}, user=acme.user())
    acme.policy(config={"deny": ["anthropic/*"]}, app=acme.app())

    assert acme.effective().decide_model("smart").model == "anthropic/opus"
    assert acme.effective(user=acme.user()).decide_model("smart").reason == "model_denied"
    assert acme.effective(user=acme.user()).decide_model("opus").allow
    assert acme.effective(app=acme.app()).decide_model("smart").reason == "model_denied"


def test_a_refusal_says_what_its_policy_says(acme, models):
    acme.policy(config={"deny": ["o1"]}, message="Ask the platform team for o1.")
    acme.policy(config={"deny": ["opus"]})

    assert acme.effective().decide_model("o1").message == "Ask the platform team for o1."
    assert acme.effective().decide_model("opus").message == REASONS["model_denied"]


def test_a_stored_config_that_cannot_be_read_refuses_its_type_and_no_other(acme, models):
    broken = acme.policy(config={"deny": ["o1"]})
    force(broken, config={"deny": "o1"})
    acme.policy("storage_access", {"allow": [{"uri": "s3://b/*", "modes": ["read"]}]})

    effective = acme.effective()

    assert effective.invalid == {"model_access": (broken.pk,)}
    refused = effective.decide_model("gpt-4o")
    assert (refused.reason, refused.by, refused.allow) == ("policy_invalid", broken.pk, False)
    assert effective.decide_storage("s3://b/x", "read")


def test_a_broken_routing_policy_refuses_models_too(acme, models):
    force(acme.policy("routing"), config={"providers": "openai"})

    assert acme.effective().decide_model("gpt-4o").reason == "policy_invalid"


def test_a_broken_policy_that_does_not_apply_refuses_nothing(acme, models):
    force(acme.policy(valid_from=NOON), config={"allow": "x"})

    assert acme.effective(at=NOON - HOUR).decide_model("gpt-4o")
    assert acme.effective(at=NOON).decide_model("gpt-4o").reason == "policy_invalid"


def test_what_is_handed_out_cannot_change_what_is_decided(acme, models):
    acme.policy(config={"deny": ["o1"]})
    effective = acme.effective()

    effective.values["model_access"]["deny"].clear()
    effective.provenance["model_access"].clear()

    assert effective.values == {"model_access": {"deny": ["o1"]}}
    assert effective.decide_model("o1").reason == "model_denied"


def test_the_fingerprint_tells_sets_and_versions_apart(acme):
    policy = acme.policy("budget")
    first = acme.effective().fingerprint

    assert acme.effective().fingerprint == first
    policy.priority = 4
    policy.save()
    second = acme.effective().fingerprint
    acme.policy("routing")
    assert len({first, second, acme.effective().fingerprint}) == 3


@pytest.mark.parametrize("policy_type", SCHEMAS)
def test_an_empty_policy_of_every_type_merges_to_nothing(acme, policy_type):
    acme.policy(policy_type)

    assert acme.effective().values == {}


def test_a_number_that_python_cannot_read_closes_its_type_and_no_other(acme):
    policy = acme.policy("token_caps", {"max_output_tokens": 5})
    with connection.cursor() as cursor:
        text = '{"max_output_tokens": 1' + "0" * 5000 + "}"
        cursor.execute("UPDATE cp_policies_policy SET config = %s::jsonb WHERE id = %s", [text, policy.pk])

    effective = acme.effective()

    assert (effective.check_tokens(1).reason, effective.check_tokens(1).by) == ("policy_invalid", policy.pk)
    assert effective.decide_storage("s3://a/b", "read").reason == "storage_default_deny"
