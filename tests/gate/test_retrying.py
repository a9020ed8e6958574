"""Guardrails, and calls that are made again: by the same model, by another one, within the limits of the policies."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection

from auditing.lifecycle import Reported
from auditing.models import InFlightRequest
from controlplane import gate
from tests.factories import AIModelFactory, ModelPriceFactory, ProviderFactory, issue
from tests.gate.cast import MODEL, budget, counters, events, facts, policy, rate, reservations

OTHER = "anthropic/claude"


class ProviderDown(Exception):
    pass


@pytest.fixture
def other(db):
    model = AIModelFactory(
        provider=ProviderFactory(slug="anthropic"),
        name="claude",
        key="claude",
        max_input_tokens=1000,
        max_output_tokens=500,
    )
    ModelPriceFactory(model=model, rates={"input_cost_per_token": "1e-06", "output_cost_per_token": "1e-06"})
    return model


# ---------------------------------------------------------------- guardrails


def test_a_guardrail_that_stops_a_call_is_a_refusal_with_its_policy(issued, token, price):
    budget(issued, 10)
    rule = policy(
        issued, {"guardrails": {"pii": {"stages": ["input"], "action": "block"}}}, "guardrail", name="Privacy",
        message="No patient data.",
    )  # fmt: skip

    with pytest.raises(gate.Denied) as caught, gate.call(token, model="gpt-4o") as call:
        call.block("pii")

    denied = caught.value
    assert (denied.code, denied.http_status, denied.object) == ("guardrail_blocked", 403, ("guardrail", None, "pii"))
    assert (denied.policy_id, denied.policy_version, denied.level) == (rule.pk, 1, "tenant")
    assert denied.message.startswith("No patient data. It is 'pii'. Policy \"Privacy\"")
    assert [(fact.status, fact.error_code, fact.cost) for fact in facts()] == [("failed", "guardrail_blocked", 0)]
    assert [event.details["code"] for event in events()] == ["guardrail_blocked"]
    assert counters() == {"cost": (0, 0)}


@pytest.mark.parametrize("name", [None, 5, [], {"a": 1}, b"pii", "x" * 100_000, "a\x00b", "\ud800"])
def test_whatever_a_guardrail_is_called_the_call_is_stopped(issued, token, price, name):
    budget(issued, 10)

    with pytest.raises(gate.Denied) as caught, gate.call(token, model="gpt-4o") as call:
        call.block(name)

    assert caught.value.code == "guardrail_blocked"
    assert len(caught.value.message) < 500
    assert [(fact.status, fact.error_code) for fact in facts()] == [("failed", "guardrail_blocked")]
    assert counters() == {"cost": (0, 0)}


def test_an_answer_that_a_guardrail_stops_is_paid(issued, token, price):
    budget(issued, 10)

    with pytest.raises(gate.Denied), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=100, completion_tokens=10)
        call.block("my-own")

    assert counters() == {"cost": (facts()[0].cost, 0)} == {"cost": (Decimal("0.00028"), 0)}


def test_a_body_that_goes_on_after_a_guardrail_ends_nothing_again(issued, token):
    with gate.call(token, model="gpt-4o") as call:
        with pytest.raises(gate.Denied):
            call.block("pii")
        call.usage(prompt_tokens=5)

    assert [(fact.status, fact.prompt_tokens) for fact in facts()] == [("failed", None)]


# ---------------------------------------------------------------- made again


def test_a_call_made_again_is_a_request_of_its_own_and_the_first_holds_nothing(issued, token, price, other):
    budget(issued, 10)
    rate(issued, "requests", 10)

    with gate.call(token, model="gpt-4o", request_id="r-1") as call:
        call.retry(error=ProviderDown("busy"))
        assert (call.model, call.grant.request_id) == (MODEL, "r-1#1")
        call.retry("claude")
        assert (call.model, call.grant.request_id) == (OTHER, "r-1#2")
        assert counters() == {"cost": (0, Decimal("0.0015")), "requests": (0, 1)}
        call.usage(prompt_tokens=100, completion_tokens=100)

    assert [(fact.request_id, fact.model, fact.status, fact.error) for fact in facts()] == [
        ("r-1", MODEL, "failed", "ProviderDown: busy"),
        ("r-1#1", MODEL, "failed", "It was tried again."),
        ("r-1#2", OTHER, "completed", ""),
    ]
    assert [fact.metadata.get("retry_of") for fact in facts()] == [None, "r-1", "r-1"]
    assert reservations() == [("r-1", "released"), ("r-1#1", "released"), ("r-1#2", "settled")]
    assert counters() == {"cost": (Decimal("0.0002"), 0), "requests": (1, 0)}


def test_what_a_try_used_stays_counted(issued, token, price):
    rate(issued, "total_tokens", 10_000)

    with gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=100, completion_tokens=7)
        call.retry()
        call.usage(prompt_tokens=100, completion_tokens=20)

    assert counters() == {"total_tokens": (227, 0)}


def test_the_longest_request_id_has_room_for_its_tries(issued, token):
    with gate.call(token, model="gpt-4o", request_id="x" * gate.MAX_REQUEST_ID) as call:
        for _ in range(12):
            call.retry()

    assert facts()[-1].request_id == "x" * 190 + "#12"


def test_a_try_without_a_request_id_of_the_callers_is_numbered_too(issued, token):
    with gate.call(token, model="gpt-4o") as call:
        first = call.grant.request_id
        call.retry()
        assert call.grant.request_id == f"{first}#1"


def test_the_next_try_passes_all_phases_again(issued, token, price, other):
    policy(issued, {"deny": [OTHER]}, name="Not this one")

    with pytest.raises(gate.Denied) as caught, gate.call(token, model="gpt-4o", request_id="r-1") as call:
        call.retry("claude")

    assert caught.value.code == "model_denied"
    assert [(fact.request_id, fact.status) for fact in facts()] == [("r-1", "failed")]
    assert not InFlightRequest.objects.exists()


def test_a_body_that_catches_the_refusal_of_a_next_try_ends_nothing_again(issued, token, other):
    policy(issued, {"deny": [OTHER]})

    with gate.call(token, model="gpt-4o", request_id="r-1") as call, pytest.raises(gate.Denied):
        call.retry("claude")

    assert [(fact.request_id, fact.status) for fact in facts()] == [("r-1", "failed")]


def test_more_tries_than_the_policies_allow_are_refused(issued, token):
    rule = policy(issued, {"max_retries": 1}, "routing", name="Once more")

    with pytest.raises(gate.Denied) as caught, gate.call(token, model="gpt-4o", request_id="r-1") as call:
        call.retry()
        call.retry()

    denied = caught.value
    assert (denied.code, denied.http_status, denied.policy_id, denied.limit) == ("no_permitted_target", 403, rule.pk, 1)
    assert 'Policy "Once more"' in denied.message
    assert [fact.status for fact in facts()] == ["failed", "failed"]


def test_targets_are_those_that_may_be_used(issued, token, other):
    AIModelFactory(provider=other.provider, name="claude-2", key="claude-2")
    policy(issued, {"targets": [MODEL, OTHER, "anthropic/claude-2"]}, "routing")
    policy(issued, {"deny": ["anthropic/claude-2"]})

    with gate.call(token, model="gpt-4o") as call:
        assert call.targets == [OTHER]
        call.retry(call.targets[0])
        assert call.targets == [MODEL]


def test_targets_are_those_of_the_key_too(acme_app, model, other):
    issued = issue(acme_app, allowed_models=[MODEL])
    policy(issued, {"targets": [MODEL, OTHER]}, "routing")

    assert gate.authorize(issued.token, model="gpt-4o").targets() == []


def test_without_targets_there_are_none(token):
    assert gate.authorize(token, model="gpt-4o").targets() == []


def test_targets_of_which_none_may_be_used_are_a_refusal(issued, token, other):
    routes = policy(issued, {"targets": [OTHER]}, "routing", name="Routes")
    policy(issued, {"deny": [OTHER]}, name="No others")

    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model="gpt-4o").targets()

    denied = caught.value
    assert (denied.code, denied.http_status) == ("no_permitted_target", 403)
    assert (denied.policy_id, denied.policy_version, denied.level) == (routes.pk, 1, "tenant")
    assert all(words in denied.message for words in (OTHER, 'Policy "Routes"', 'Policy "No others"'))


def test_a_grant_that_has_ended_gives_the_next(issued, token, price):
    budget(issued, 10)
    first = gate.authorize(token, model="gpt-4o", request_id="r-1")
    first.fail("busy")

    second = first.next()
    second.settle(Reported(prompt_tokens=100, completion_tokens=10))

    assert (second.request_id, second.id == first.id) == ("r-1#1", False)
    assert counters() == {"cost": (Decimal("0.00028"), 0)}


# ---------------------------------------------------------------- regions


def test_a_call_that_does_not_say_where_it_goes_is_refused_where_regions_are_restricted(issued, token):
    rule = policy(issued, {"regions": ["eu"]}, "routing")

    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model="gpt-4o")

    assert (caught.value.code, caught.value.policy_id) == ("region_not_allowed", rule.pk)
    assert "does not say where it goes: give region" in caught.value.message
    assert gate.authorize(token, model="gpt-4o", region="EU")


@pytest.mark.parametrize("region", ["", " ", "\x00", "lone \ud800", "x" * 100_000, "*", "?", "eu\n", "日本"])
def test_garbage_is_no_region_that_is_allowed(issued, token, region):
    policy(issued, {"regions": ["eu"]}, "routing")

    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model="gpt-4o", region=region)

    assert caught.value.code == "region_not_allowed"
    assert [event.details["code"] for event in events()] == ["region_not_allowed"]


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "asked",
    [
        {"input_tokens": -1}, {"input_tokens": True}, {"input_tokens": 1.5}, {"input_tokens": "5"}, {"input_tokens": 2**31},
        {"max_output_tokens": -1}, {"max_output_tokens": float("nan")}, {"max_output_tokens": []},
        {"environment": 5}, {"scope": ["chat"]}, {"region": b"eu"}, {"region": {}},
        {"stream": None}, {"stream": 1}, {"stream": "yes"},
        {"deadline": 5}, {"deadline": None}, {"units": 5}, {"units": {5: 1}}, {"units": [("n", 1)]},
    ],
)  # fmt: skip
def test_garbage_is_refused_before_anything_is_asked(token, asked):
    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model="gpt-4o", **asked)

    assert (caught.value.code, caught.value.http_status) == ("bad_argument", 400)
    assert next(iter(asked)) in caught.value.message


@pytest.mark.parametrize("name", [None, 5, b"gpt-4o", ["gpt-4o"], {}, object()])
def test_what_is_no_name_of_a_model_is_unknown(token, name):
    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model=name)

    assert caught.value.code == "model_unknown"


@pytest.mark.parametrize("garbage", [None, 5, b"x", [], {}])
def test_what_is_no_token_opens_nothing(model, garbage):
    with pytest.raises(gate.Denied) as caught:
        gate.authorize(garbage, model="gpt-4o")

    assert (caught.value.code, caught.value.http_status) == ("invalid_api_key", 401)
    assert gate.counts()["denied.invalid_api_key"] == 1


@pytest.mark.parametrize("id", [5, b"r", [], {}])
def test_what_is_no_request_id_is_refused(token, id):
    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model="gpt-4o", request_id=id)

    assert caught.value.code == "bad_request_id"


def test_a_key_of_another_tenant_counts_for_that_tenant_alone(issued, globex_app, price, token):
    budget(issued, 10)
    with gate.call(issue(globex_app).token, model="gpt-4o", request_id="r-1") as call:
        call.usage(prompt_tokens=10, completion_tokens=1)

    assert counters() == {}
    assert [fact.tenant_id for fact in facts()] == [globex_app.tenant_id]
    assert connection.is_usable()
