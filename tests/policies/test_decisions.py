"""What an effective policy says beside one model: targets, tokens, limits, the list of models."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from catalog.models import AIModel, ModelAlias, Provider
from policies.decisions import REASONS
from policies.errors import PolicyError
from policies.models import Policy
from tests.policies.test_database import force
from tests.policies.world import make_models

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def models(db):
    make_models("openai/gpt-4o", "openai/o1", "anthropic/opus")


def test_the_reasons_are_a_closed_list():
    assert {*REASONS} == {
        "allowed", "no_restriction", "model_unknown", "model_disabled", "model_denied", "model_not_in_allowlist",
        "provider_not_allowed", "region_not_allowed", "no_permitted_target", "token_cap_exceeded", "model_unpriced",
        "rate_limited", "budget_exceeded", "guardrail_blocked", "storage_denied", "storage_default_deny",
        "storage_not_in_allowlist", "uri_not_canonical", "policy_invalid", "policy_unavailable", "limits_unavailable",
        "tenant_mismatch", "scope_mismatch",
    }  # fmt: skip


# Targets.


def test_targets_keep_their_order_and_lose_what_is_refused(acme, models):
    acme.policy("routing", {"targets": ["openai/o1", "anthropic/opus", "openai/gpt-4o"]})
    acme.policy(config={"deny": ["anthropic/*"]})

    targets = acme.effective().decide_targets()

    assert [target.model for target in targets] == ["openai/o1", "openai/gpt-4o"]
    assert all(targets)


def test_no_target_left_is_one_refusal_that_says_why(acme, models):
    routes = acme.policy("routing", {"targets": ["openai/o1", "openai/gpt-4o"]})
    by = acme.policy(config={"deny": ["openai/*"]})

    [refused] = acme.effective(at=NOON).decide_targets()

    assert (refused.allow, refused.reason, refused.model) == (False, "no_permitted_target", None)
    assert (refused.by, refused.policies) == (routes.pk, (by.pk,))
    assert refused.explain()["request"]["targets"] == ["openai/o1", "openai/gpt-4o"]
    assert [check["result"] for check in refused.explain()["checks"]] == ["fail", "fail"]


def test_without_targets_there_is_nothing_to_decide(acme, models):
    assert acme.effective().decide_targets() == []


def test_targets_are_asked_for_the_region(acme, models):
    acme.policy("routing", {"targets": ["openai/o1"], "regions": ["eu-west-1"]})

    assert acme.effective().decide_targets("eu-west-1")[0].model == "openai/o1"
    assert acme.effective().decide_targets("us-east-1")[0].reason == "no_permitted_target"
    assert acme.effective().restricts_regions


def test_a_target_that_the_catalog_lost_is_dropped(acme, models):
    acme.policy("routing", {"targets": ["openai/o1", "openai/gpt-4o"]})
    AIModel.objects.filter(key="o1").delete()

    assert [target.model for target in acme.effective().decide_targets()] == ["openai/gpt-4o"]


def test_a_broken_routing_policy_refuses_its_targets(acme, models):
    force(acme.policy("routing"), config={"targets": "openai/o1"})

    assert [target.reason for target in acme.effective().decide_targets()] == ["policy_invalid"]


# Tokens.


def caps(acme, **fields):
    return acme.policy("token_caps", fields)


def test_without_caps_tokens_are_free(acme):
    found = acme.effective().check_tokens(10**9)

    assert found
    assert (found.reason, found.output_tokens) == ("no_restriction", None)
    assert acme.effective().check_tokens(1, 7).output_tokens == 7


@pytest.mark.parametrize("on_exceed", ["clamp", "reject"])
def test_too_much_input_is_always_refused(acme, on_exceed):
    by = caps(acme, max_input_tokens=10, on_exceed=on_exceed)

    refused = acme.effective().check_tokens(11, 1)

    assert (refused.allow, refused.reason, refused.by) == (False, "token_cap_exceeded", by.pk)
    assert (refused.cap, refused.limit, refused.output_tokens) == ("max_input_tokens", 10, None)
    assert acme.effective().check_tokens(10, 1)


@pytest.mark.parametrize(
    ("config", "asked", "granted"),
    [
        ({"max_output_tokens": 5}, (1, 5), 5),
        ({"max_output_tokens": 5}, (1, 6), None),
        ({"max_output_tokens": 5, "on_exceed": "reject"}, (1, 6), None),
        ({"max_output_tokens": 5, "on_exceed": "clamp"}, (1, 6), 5),
        ({"max_output_tokens": 0, "on_exceed": "clamp"}, (1, 6), None),
        ({"max_output_tokens": 0}, (1, 0), 0),
        ({"max_output_tokens": 5}, (1, None), 5),
        ({"default_max_output_tokens": 3}, (1, None), 3),
        ({"default_max_output_tokens": 3}, (1, 100), 100),
        ({"default_max_output_tokens": 3, "max_output_tokens": 2}, (1, None), 2),
        ({"max_total_tokens": 10}, (4, 6), 6),
        ({"max_total_tokens": 10}, (4, 7), None),
        ({"max_total_tokens": 10, "on_exceed": "clamp"}, (4, 7), 6),
        ({"max_total_tokens": 10, "on_exceed": "clamp"}, (10, 7), None),
        ({"max_total_tokens": 10, "on_exceed": "clamp"}, (11, 0), None),
        ({"max_total_tokens": 10, "default_max_output_tokens": 8}, (4, None), 6),
        ({"max_total_tokens": 10, "max_output_tokens": 3, "on_exceed": "clamp"}, (4, 7), 3),
        ({"max_total_tokens": 10, "max_output_tokens": 8, "on_exceed": "clamp"}, (4, 7), 6),
    ],
)
def test_output_is_cut_or_refused(acme, config, asked, granted):
    caps(acme, **config)

    found = acme.effective().check_tokens(*asked)

    assert (found.allow, found.output_tokens) == (granted is not None, granted)


def test_the_cap_that_leaves_least_is_named(acme):
    total = caps(acme, max_total_tokens=10)
    caps(acme, max_output_tokens=8)

    refused = acme.effective().check_tokens(4, 9)

    assert (refused.by, refused.cap, refused.limit) == (total.pk, "max_total_tokens", 10)


def test_a_token_decision_is_explained_and_asked_again(acme):
    acme.policy("token_caps", {"max_output_tokens": 5}, message="Five is plenty.")

    record = acme.effective(at=NOON).check_tokens(3, 6).explain()

    assert (record["reason"], record["message"]) == ("token_cap_exceeded", "Five is plenty.")
    assert record["request"] == {"input_tokens": 3, "output_tokens": 6}
    again = acme.effective(at=datetime.fromisoformat(record["at"])).check_tokens(3, 6)
    assert again.explain() == record == json.loads(json.dumps(record))


def test_a_broken_cap_refuses_every_call(acme):
    broken = caps(acme)
    force(broken, config={"max_input_tokens": "5"})

    refused = acme.effective().check_tokens(0)

    assert (refused.reason, refused.by, refused.output_tokens) == ("policy_invalid", broken.pk, None)


def test_a_number_of_tokens_is_not_negative(acme):
    for asked in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="negative"):
            acme.effective().check_tokens(*asked)


# Limits.


def test_limits_of_a_model_are_those_that_name_it(acme):
    rate = {"metric": "requests", "window": "1m", "limit": 5}
    first = acme.policy("rate_limit", {"limits": [rate, {**rate, "limit": 7, "models": ["GPT-*", "o1"]}]})
    second = acme.policy("budget", {"limits": [{"window": "month", "limit": "9.50", "per": "user", "alert_at": [0.5]}]})
    effective = acme.effective()

    every, some, budget = effective.limits("openai/gpt-4o")

    assert (every.kind, every.metric, every.limit, every.models) == ("rate", "requests", 5, None)
    assert (some.limit, some.models, some.policies) == (7, frozenset({"gpt-*", "o1"}), (first.pk,))
    assert (budget.kind, budget.metric, budget.owner, budget.window) == ("budget", "cost", "per:user", "month")
    assert (budget.limit, budget.mode, budget.anchor) == (Decimal("9.50"), "hard", 1)
    assert (budget.alert_at, budget.policies) == ((0.5,), (second.pk,))
    assert effective.limits("anthropic/opus") == (every, budget)


def test_a_limit_that_cannot_be_read_lets_nobody_pass(acme):
    force(acme.policy("budget"), config={"limits": [{"window": "month", "limit": 5}]})

    with pytest.raises(PolicyError) as caught:
        acme.effective().limits("openai/o1")

    assert (caught.value.code, caught.value.http_status) == ("policy_invalid", 503)


# The list of models: what is not shown is exactly what is refused.


def test_the_list_shows_what_may_be_used(acme, models):
    acme.policy(config={"deny": ["o1"]})
    acme.policy("routing", {"regions": ["eu-west-1"]})

    assert acme.effective().models() == ["anthropic/opus", "openai/gpt-4o"]
    assert acme.effective().models("us-east-1") == []


def test_a_broken_policy_shows_nothing(acme, models):
    force(acme.policy(), config={"deny": "o1"})

    assert acme.effective().models() == []


def tangled(tenant):
    """A catalog in which canonical ids also are keys and aliases of others, and what is disabled."""

    def model(slug, key, name, **fields):
        provider, _ = Provider.objects.get_or_create(slug=slug, defaults={"name": slug})
        return AIModel.objects.create(provider=provider, key=key, name=name, **fields)

    model("a", "x", "x")
    other = model("b", "a/x", "y")
    model("b", "b/z", "z")
    model("c", "gpt", "gpt", enabled=False)
    model("d", "c/gpt", "gpt-4")
    model("openai", "ft-2024-08-06", "ft-2024-08-06")
    model("openai", "ft", "ft")
    ModelAlias.objects.create(alias="b/z", model=other, tenant=tenant)
    ModelAlias.objects.create(alias="openai/ft", model=other, enabled=False)


ACCESS = [{"deny": deny} for deny in ([], ["b/*"], ["a/x"], ["openai/ft*"], ["*z"])]
ACCESS += [{"allow": allow} for allow in (["b/*"], ["a/x", "openai/ft"], ["*"], [])]
ROUTES = [{"providers": ["b", "openai"]}, {"regions": ["eu"]}, {"aliases": {"x": "b/y", "ft": "a/x"}}]


@pytest.mark.parametrize(
    ("policy_type", "config"),
    [*(("model_access", config) for config in ACCESS), *(("routing", config) for config in ROUTES)],
    ids=str,
)
def test_what_is_not_shown_is_exactly_what_is_refused(acme, globex, policy_type, config):
    tangled(acme.tenant)
    for world in (acme, globex):
        Policy(tenant=world.tenant, policy_type=policy_type, config=config).save_base(force_insert=True)
    ids = {f"{model.provider.slug}/{model.name}" for model in AIModel.objects.enabled().select_related("provider")}

    for world in (acme, globex):
        effective = world.effective()
        for region in (None, "eu", "us"):
            allowed = {id for id in ids if effective.decide_model(id, region)}
            assert {*effective.models(region)} == allowed


def test_the_list_is_two_statements(acme, models, django_assert_num_queries):
    effective = acme.effective()

    with django_assert_num_queries(2):
        effective.models()
