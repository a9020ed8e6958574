from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from policies.explain import explain
from policies.models import Policy
from tenants.models import APIKey, App, Branch, Tenant, User
from tests.policies.world import make_models

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def told(acme):
    """A request with something of everything, and its policies by name."""
    make_models("openai/gpt-4o", "anthropic/opus")
    acme.policy(config={"allow": ["*"], "deny": ["o1"]}, name="models")
    acme.policy(config={"allow": ["gpt-*"]}, name="app models", app=acme.app(), message="Only GPT here.")
    acme.policy("token_caps", {"max_output_tokens": 4096, "default_max_output_tokens": 9000}, name="caps")
    acme.policy("token_caps", {"max_output_tokens": 8000}, name="user caps", user=acme.user())
    acme.policy("token_caps", {"max_input_tokens": 10}, name="open", overridable=["max_input_tokens"])
    acme.policy("token_caps", {"max_input_tokens": 50}, name="wider", user=acme.user())
    acme.policy(
        "routing", {"strategy": "fallback", "aliases": {"smart": "anthropic/opus"}}, name="routes", final=["strategy"]
    )
    acme.policy(
        "routing", {"strategy": "priority", "aliases": {"op": "openai/gpt-4o"}}, name="own routes", app=acme.app()
    )
    acme.policy("budget", {"limits": [{"window": "month", "limit": "10"}]}, name="budget")
    acme.policy("guardrail", {"guardrails": {"pii": {"stages": ["input"], "action": "mask"}}}, name="guard")
    acme.policy("retention", {"min_days": 9, "max_days": 3}, name="hold", valid_from=NOON)
    acme.policy("retention", {"max_days": 3}, name="later", valid_from=NOON + timedelta(hours=1))
    return {"app": acme.app(), "user": acme.user(), "at": NOON}


def by_name(record):
    names = {str(pk): name for pk, name in Policy.objects.values_list("pk", "name")}
    return json.loads(json.dumps(record), object_hook=lambda found: {k: _named(v, names) for k, v in found.items()})


def _named(value, names):
    return names.get(value, value) if isinstance(value, str) else value


def test_a_refusal_says_what_was_asked_and_who_decided(acme, told):
    record = by_name(acme.effective(**told).decide_model("smart").explain())

    assert (record["decision"], record["reason"]) == ("deny", "model_not_in_allowlist")
    assert record["message"] == "Only GPT here."
    assert record["by"]["name"] == "app models"
    assert record["request"] == {
        "app": str(acme.app().pk),
        "user": str(acme.user().pk),
        "model": "smart",
        "model_resolved": "anthropic/opus",
    }
    assert [(check["check"], check["result"], check.get("layer")) for check in record["checks"]] == [
        ("model.deny", "pass", None),
        ("model.allow", "pass", 0),
        ("model.allow", "fail", 1),
    ]
    assert record["skipped"] == [{"policy": "later", "why": "not_yet_valid"}]
    assert record["at"] == "2026-03-10T12:00:00Z"
    assert record["conflicts"] == ["retention_floor_exceeds_ceiling"]


def test_each_value_says_where_it_comes_from_and_what_it_hides(acme, told):
    effective = by_name(acme.effective(**told).explain())["effective"]

    def shadowed(path):
        return [(one["policy"], one["value"], one["why"]) for one in effective[path]["shadowed"]]

    caps = effective["token_caps.max_output_tokens"]
    assert (caps["value"], caps["op"]) == (4096, "STRICTEST")
    assert [(one["policy"], one["version"], one["layer"]) for one in caps["from"]] == [("caps", 1, 1)]
    assert shadowed("token_caps.max_output_tokens") == [("user caps", 8000, "looser_than_locked")]
    assert shadowed("token_caps.max_input_tokens") == [("open", 10, "replaced_by_nearer")]
    assert shadowed("token_caps.default_max_output_tokens") == []
    assert effective["token_caps.default_max_output_tokens"]["value"] == 4096
    assert shadowed("routing.strategy") == [("own routes", "priority", "locked_by_wider")]
    assert effective["routing.aliases.op"]["value"] == "openai/gpt-4o"
    assert effective["budget.limits.0"]["value"]["bucket"] == "scope:1"
    assert effective["guardrail.guardrails.pii.action"]["value"] == "mask"
    assert effective["retention.max_days"]["value"] == 9


def test_a_value_that_another_field_forced_says_so(acme):
    acme.policy("token_caps", {"max_output_tokens": 5}, name="cap")
    acme.policy("token_caps", {"default_max_output_tokens": 7}, name="default")

    effective = by_name(acme.effective().explain())["effective"]["token_caps.default_max_output_tokens"]

    assert effective["from"][0]["policy"] == "cap"
    assert effective["shadowed"] == [{"policy": "default", "value": 7, "why": "forced_by_max_output_tokens"}]


def ask_again(record):
    """The question in a record, put once more from its text alone."""
    request, at = record["request"], datetime.fromisoformat(record["at"])
    rows = {"app": App, "branch": Branch, "user": User, "key": APIKey}
    scope = {name: rows[name].objects.get(pk=request[name]) for name in rows if name in request}
    tenant = Tenant.objects.get(pk=record["policy_set"]["tenant"])
    effective = Policy.objects.effective(tenant, at=at, **scope)
    if "uri" in request:
        return effective.decide_storage(request["uri"], request["mode"]).explain()
    if "targets" in request:
        return effective.decide_targets(request.get("region"))[0].explain()
    if "input_tokens" in request:
        return effective.check_tokens(request["input_tokens"], request.get("output_tokens")).explain()
    return effective.decide_model(request["model"], request.get("region")).explain()


@pytest.mark.parametrize("name", ["smart", "gpt-4o", "gpt-99", "OP"])
@pytest.mark.parametrize("region", [None, "eu-west-1"])
def test_an_explanation_asked_again_gives_the_same_answer(acme, told, name, region):
    key = acme.key("ci", branch="berlin", user="ada")
    record = acme.effective(key=key, at=NOON).decide_model(name, region).explain()

    assert ask_again(json.loads(json.dumps(record))) == record


def test_a_storage_decision_is_explained_alike(acme):
    acme.policy("storage_access", {"deny": [{"uri": "s3://b/*", "modes": ["read"]}]}, name="stores")

    record = acme.effective(at=NOON).decide_storage("s3://b/x", "read").explain()

    assert (record["reason"], record["pattern"], record["by"]["name"]) == ("storage_denied", "s3://b/*", "stores")
    assert ask_again(json.loads(json.dumps(record))) == record


def test_a_refusal_of_all_targets_is_explained_alike(acme, told):
    acme.policy("routing", {"targets": ["anthropic/opus"]}, name="targets")
    [refused] = acme.effective(**told).decide_targets("eu-west-1")

    record = refused.explain()

    assert (record["reason"], record["by"]["name"]) == ("no_permitted_target", "targets")
    assert ask_again(json.loads(json.dumps(record))) == record


@pytest.mark.parametrize("output", [None, 1, 4096, 5000])
@pytest.mark.parametrize("input", [0, 10, 51])
def test_an_answer_about_tokens_is_explained_alike(acme, told, input, output):
    record = acme.effective(**told).check_tokens(input, output).explain()

    assert ask_again(json.loads(json.dumps(record))) == record


def test_policies_without_a_part_are_told_with_the_reason(acme, globex):
    acme.policy("budget", name="mine")
    acme.policy("budget", name="elsewhere", app=acme.app("other"))
    acme.policy("budget", name="off", enabled=False)
    acme.policy("budget", name="over", valid_until=NOON)
    globex.policy("budget", name="foreign")
    effective = acme.effective(at=NOON)

    record = by_name(explain(effective, left_out=Policy.objects.left_out(effective)))

    assert {one["policy"]: one["why"] for one in record["skipped"]} == {
        "elsewhere": "other_scope",
        "off": "disabled",
        "over": "expired",
    }
