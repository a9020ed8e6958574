"""Every refusal that a policy is the reason of: whoever reads it, a program or a person, learns which rule to change."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from controlplane import gate
from policies.decisions import REASONS
from tests.factories import AIModelFactory, ModelPriceFactory, ProviderFactory
from tests.gate.cast import MODEL, budget, events, policy, rate, refused

RULE = {"name": "The rule", "message": "Ask the platform team."}
GUARD = {"pii": {"stages": ["input"], "action": "block"}}
LIMITS = ("budget_exceeded", "rate_limited")


def rule(issued, policy_type, **config):
    return policy(issued, config, policy_type, **RULE)


def broken(issued):
    found = rule(issued, "guardrail")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = '{\"x\": 1}' WHERE id = %s", [found.pk])
    found.refresh_from_db()
    return found


def closed_targets(issued):
    AIModelFactory(provider=ProviderFactory(slug="anthropic"), name="claude", key="claude")
    policy(issued, {"deny": ["anthropic/*"]}, name="Another one")
    return rule(issued, "routing", targets=["anthropic/claude"])


def blocked(token):
    with pytest.raises(gate.Denied) as caught, gate.call(token, model="gpt-4o") as call:
        call.block("pii")
    return caught.value


def targets(token):
    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model="gpt-4o").targets()
    return caught.value


def again(token):
    with gate.call(token, model="gpt-4o") as call, pytest.raises(gate.Denied) as caught:
        call.retry()
    return caught.value


RULES = [
    ("model_denied", 403, lambda issued: rule(issued, "model_access", deny=[MODEL]), refused),
    ("model_not_in_allowlist", 403, lambda issued: rule(issued, "model_access", allow=[]), refused),
    ("provider_not_allowed", 403, lambda issued: rule(issued, "routing", providers=["anthropic"]), refused),
    ("region_not_allowed", 403, lambda issued: rule(issued, "routing", regions=["eu"]), refused),
    ("no_permitted_target", 403, closed_targets, targets),
    ("no_permitted_target", 403, lambda issued: rule(issued, "routing", max_retries=0), again),
    ("token_cap_exceeded", 403, lambda issued: rule(issued, "token_caps", max_input_tokens=0), refused),
    ("model_unpriced", 403, lambda issued: budget(issued, 5, **RULE), refused),
    ("budget_exceeded", 402, lambda issued: budget(issued, 0, **RULE), refused),
    ("rate_limited", 429, lambda issued: rate(issued, "requests", 0, **RULE), refused),
    ("guardrail_blocked", 403, lambda issued: rule(issued, "guardrail", guardrails=GUARD), blocked),
    ("policy_invalid", 503, broken, refused),
]


@pytest.mark.parametrize(("code", "status", "make", "ask"), RULES, ids=[f"{n}-{row[0]}" for n, row in enumerate(RULES)])
def test_a_refusal_names_its_rule_in_every_way(issued, token, request, code, status, make, ask):
    if code in LIMITS:
        request.getfixturevalue("price")
    made = make(issued)

    denied = ask(token)

    assert (denied.code, denied.http_status, denied.level) == (code, status, "tenant")
    assert (denied.policy_id, denied.policy_version) == (made.pk, made.version)
    assert denied.object.kind in ("policy", "guardrail", "tenant")
    assert denied.object.name
    assert f'Policy "The rule" of the organization, version {made.version}' in denied.message
    assert denied.message.startswith(REASONS[code] if code == "policy_invalid" else "Ask the platform team. ")
    [event] = events()
    assert (event.resource_id, event.reason, event.details["code"]) == (str(made.pk), denied.message, code)
    assert event.details["policy_version"] == made.version

    told = json.loads(json.dumps(denied.explain()))
    assert (told["decision"], told["reason"], told["message"]) == ("deny", code, denied.message)
    figures = [denied.limit, denied.used, denied.reserved, denied.requested, denied.resets_at]
    assert (None not in figures, len(denied.buckets), len(told["buckets"])) == (code in LIMITS,) + (code in LIMITS,) * 2
    assert (denied.retry_after is not None) == (code == "rate_limited")


def test_the_first_phase_that_fails_is_the_answer(issued, token, model):
    """Everything is wrong at once, and is put right in the order of the phases."""
    key, app = issued.key, issued.key.app
    keys = type(key).objects.filter(pk=key.pk)
    keys.update(enabled=False, allowed_models=["openai/another"])
    app.suspend("late")
    invalid, deny = broken(issued), policy(issued, {"deny": [MODEL]})
    caps, money = policy(issued, {"max_input_tokens": 0}, "token_caps"), budget(issued, 0)
    calls = rate(issued, "requests", 0)
    codes = []

    for repair in (
        lambda: keys.update(enabled=True),
        lambda: app.resume(),
        lambda: invalid.delete(),
        lambda: deny.delete(),
        lambda: keys.update(allowed_models=None),
        lambda: caps.delete(),
        lambda: ModelPriceFactory(model=model),
        lambda: money.delete(),
        lambda: calls.delete(),
    ):
        codes.append(refused(token).code)
        repair()

    assert gate.authorize(token, model="gpt-4o")
    assert codes == [
        "disabled", "app_disabled", "policy_invalid", "model_denied", "model_not_allowed", "token_cap_exceeded",
        "model_unpriced", "budget_exceeded", "rate_limited",
    ]  # fmt: skip
