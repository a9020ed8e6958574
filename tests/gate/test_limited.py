"""Caps, prices, rates and budgets at the gate: what is refused, in which words, and what is counted in the end."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction

from auditing.errors import ConflictingDuplicate
from auditing.lifecycle import Reported
from auditing.models import AuditLog, InFlightRequest
from controlplane import gate
from controlplane.core.ids import now
from policies import limits
from policies.history import effective_at_epoch
from policies.models import LimitBucket, Policy, Reservation
from tenants.scope import tenant_scope
from tests.factories import BranchFactory, InferenceRequestFactory, ModelPriceFactory, UserFactory, issue
from tests.gate.cast import budget, counters, events, facts, policy, rate, refused, reservations
from tests.races import together
from tests.wire import wire

WORST = Decimal("0.006")
"""What a call may cost that says nothing: 1,000 tokens sent, 500 of an answer."""


# ---------------------------------------------------------------- token caps


def caps(issued, **config):
    return policy(issued, config, "token_caps", name="Caps")


def test_a_cap_is_what_may_be_asked_for(issued, token):
    caps(issued, max_output_tokens=100, default_max_output_tokens=50, on_exceed="clamp")

    assert gate.authorize(token, model="gpt-4o", max_output_tokens=80).max_output_tokens == 80
    assert gate.authorize(token, model="gpt-4o", max_output_tokens=400).max_output_tokens == 100
    with gate.call(token, model="gpt-4o") as call:
        assert call.max_output_tokens == 50


def test_without_a_cap_what_was_asked_for_stands(token):
    assert gate.authorize(token, model="gpt-4o", max_output_tokens=400).max_output_tokens == 400
    assert gate.authorize(token, model="gpt-4o").max_output_tokens is None


@pytest.mark.parametrize(
    ("config", "asked", "limit", "requested"),
    [
        ({"max_input_tokens": 10}, {"input_tokens": 11}, 10, 11),
        ({"max_output_tokens": 10}, {"max_output_tokens": 11}, 10, 11),
        ({"max_total_tokens": 10}, {"input_tokens": 5, "max_output_tokens": 6}, 10, 11),
    ],
)
def test_more_tokens_than_the_cap_are_refused(issued, token, config, asked, limit, requested):
    rule = caps(issued, **config)

    denied = refused(token, **asked)

    assert (denied.code, denied.http_status, denied.level) == ("token_cap_exceeded", 403, "tenant")
    assert (denied.policy_id, denied.limit, denied.requested) == (rule.pk, limit, requested)
    assert f"{next(iter(config))} is {limit}" in denied.message
    assert 'Policy "Caps"' in denied.message
    assert [event.details["code"] for event in events()] == ["token_cap_exceeded"]
    assert not InFlightRequest.objects.exists()


@pytest.mark.parametrize("cap", ["max_input_tokens", "max_total_tokens"])
def test_a_call_that_does_not_say_what_it_sends_may_send_what_the_model_takes(issued, token, model, cap):
    rule = caps(issued, **{cap: 999})

    for most, told in ((1000, 1000), (None, 2**31 - 1)):
        type(model).objects.filter(pk=model.pk).update(max_input_tokens=most)
        denied = refused(token)
        assert (denied.code, denied.policy_id, denied.limit, denied.requested) == (
            "token_cap_exceeded",
            rule.pk,
            999,
            told,
        )
        assert "give input_tokens" in denied.message

    assert gate.authorize(token, model="gpt-4o", input_tokens=900)
    type(model).objects.filter(pk=model.pk).update(max_input_tokens=999)
    assert gate.authorize(token, model="gpt-4o")


# ---------------------------------------------------------------- prices


def test_a_hard_budget_refuses_what_has_no_price(issued, token):
    rule = budget(issued, 10, name="Research")

    denied = refused(token)

    assert (denied.code, denied.http_status, denied.policy_id) == ("model_unpriced", 403, rule.pk)
    assert "openai/gpt-4o has no price" in denied.message
    assert 'Policy "Research"' in denied.message
    assert not LimitBucket.objects.exists()


@pytest.mark.parametrize("mode", ["soft", "shadow"])
def test_a_budget_that_refuses_nothing_lets_the_unpriced_pass(issued, token, mode):
    budget(issued, 10, mode=mode)

    assert gate.authorize(token, model="gpt-4o").estimated_cost is None


def test_a_hard_budget_refuses_what_has_no_bound(issued, token, model, price):
    type(model).objects.filter(pk=model.pk).update(max_output_tokens=None)
    budget(issued, 10)

    assert "Give max_output_tokens" in refused(token, input_tokens=5).message
    assert gate.authorize(token, model="gpt-4o", input_tokens=5, max_output_tokens=5)


def test_a_limit_on_tokens_refuses_what_has_no_bound(issued, token, model):
    type(model).objects.filter(pk=model.pk).update(max_input_tokens=None)
    rate(issued, "input_tokens", 1000)

    assert (denied := refused(token)).code == "model_unpriced"
    assert "Give input_tokens" in denied.message
    assert gate.authorize(token, model="gpt-4o", input_tokens=5)


def test_the_most_that_a_call_may_cost_is_held_and_noted(issued, token, price):
    budget(issued, 10)

    grant = gate.authorize(token, model="gpt-4o", input_tokens=100, max_output_tokens=50)

    assert grant.estimated_cost == Decimal("0.0006")
    assert InFlightRequest.objects.get().estimated_cost == Decimal("0.0006")
    assert counters() == {"cost": (0, Decimal("0.0006"))}


def test_the_tenants_own_price_is_held_and_settled(issued, token, model, price):
    ModelPriceFactory(
        model=model, tenant=issued.key.tenant, rates={"input_cost_per_token": "1e-05", "output_cost_per_token": "0"}
    )
    budget(issued, 10)

    grant = gate.authorize(token, model="gpt-4o", input_tokens=100)
    assert grant.estimated_cost == Decimal("0.001")
    fact = grant.settle(Reported(prompt_tokens=10))

    assert fact.cost == Decimal("0.0001")
    assert counters() == {"cost": (Decimal("0.0001"), 0)}


# ---------------------------------------------------------------- what is held, used and given back


def test_what_was_used_is_counted_and_the_rest_is_given_back(issued, token, price):
    budget(issued, 10)
    rate(issued, "requests", 5)
    rate(issued, "total_tokens", 10_000)
    rate(issued, "concurrent", 3, "none")
    with gate.call(token, model="gpt-4o", request_id="r-1") as call:
        assert counters() == {
            "concurrent": (0, 1), "cost": (0, WORST), "requests": (0, 1), "total_tokens": (0, 1500),
        }  # fmt: skip
        call.usage(prompt_tokens=100, completion_tokens=10)

    [fact] = facts()
    assert fact.cost == Decimal("0.00028")
    assert counters() == {
        "concurrent": (0, 0), "cost": (fact.cost, 0), "requests": (1, 0), "total_tokens": (110, 0),
    }  # fmt: skip
    assert reservations() == [("r-1", "settled")]


def test_it_is_held_as_long_as_the_call_may_take(issued, token, price, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "RESERVATION_TTL": 60}
    budget(issued, 10)
    for hours in (0, 3):
        gate.authorize(token, model="gpt-4o", deadline=timedelta(hours=hours, seconds=5))

    held = [row.expires_at - row.reserved_at for row in Reservation.objects.order_by("id")]
    assert held == [timedelta(seconds=60), timedelta(hours=3, seconds=5)]


def test_nothing_limited_holds_nothing(token):
    with gate.call(token, model="gpt-4o"):
        pass

    assert not Reservation.objects.exists()


def test_what_nobody_reported_counts_as_it_was_held(issued, token, price):
    budget(issued, 10)

    with gate.call(token, model="gpt-4o"):
        pass

    assert [fact.pricing_status for fact in facts()] == ["unpriced"]
    assert counters() == {"cost": (WORST, 0)}
    assert Reservation.objects.get().estimated


def test_a_failed_call_gives_everything_back(issued, token, price):
    budget(issued, 10)
    rate(issued, "requests", 5)

    with pytest.raises(ConnectionError), gate.call(token, model="gpt-4o"):
        raise ConnectionError

    assert counters() == {"cost": (0, 0), "requests": (0, 0)}
    assert [state for _, state in reservations()] == ["released"]
    assert [(fact.status, fact.cost) for fact in facts()] == [("failed", 0)]


def test_a_failed_call_that_used_tokens_counts_them(issued, token, price):
    budget(issued, 10)
    rate(issued, "total_tokens", 10_000)

    with pytest.raises(ConnectionError), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=7)
        raise ConnectionError

    assert counters()["total_tokens"] == (1500, 0)  # how long the answer got is not known: all as it was held
    assert counters()["cost"] == (facts()[0].cost, 0) == (0, 0)


def test_a_failed_call_that_the_provider_bills_costs_what_it_used(issued, token, price):
    budget(issued, 10)

    fact = gate.authorize(token, model="gpt-4o").fail(
        "time-out", usage=Reported(prompt_tokens=100, completion_tokens=0), billable=True
    )

    assert counters() == {"cost": (fact.cost, 0)} == {"cost": (Decimal("0.0002"), 0)}


def test_a_stream_that_ends_early_is_settled_with_what_was_used(issued, token, price):
    budget(issued, 10)

    def stream():
        with gate.call(token, model="gpt-4o", stream=True) as call:
            call.usage(prompt_tokens=100, completion_tokens=0)
            for n in range(1, 10):
                call.usage(prompt_tokens=100, completion_tokens=n)
                yield n

    reader = stream()
    assert [next(reader), next(reader)] == [1, 2]
    reader.close()

    [fact] = facts()
    assert (fact.status, fact.cost) == ("cancelled", Decimal("0.000216"))
    assert counters() == {"cost": (fact.cost, 0)}


def test_ended_twice_it_is_counted_once(issued, token, price):
    budget(issued, 10)
    grant = gate.authorize(token, model="gpt-4o")

    for _ in range(3):
        grant.settle(Reported(prompt_tokens=100, completion_tokens=10))

    assert counters() == {"cost": (Decimal("0.00028"), 0)}


def test_a_call_that_comes_back_after_its_time_is_charged_all_the_same(issued, token, price):
    budget(issued, 10)
    grant = gate.authorize(token, model="gpt-4o", request_id="r-1")
    limits.expire(issued.key.tenant_id, "r-1", at=now() + timedelta(days=1))
    assert counters() == {"cost": (0, 0)}

    grant.settle(Reported(prompt_tokens=100, completion_tokens=10))

    assert counters() == {"cost": (Decimal("0.00028"), 0)}
    assert reservations() == [("r-1", "settled")]


@pytest.mark.django_db(transaction=True)
def test_a_fact_that_an_import_wrote_meanwhile_leaves_nothing_held(issued, token, price):
    budget(issued, 10)
    grant = gate.authorize(token, model="gpt-4o", request_id="r-1")
    InferenceRequestFactory(tenant_id=issued.key.tenant_id, request_id="r-1")

    with pytest.raises(ConflictingDuplicate):
        grant.settle(Reported(prompt_tokens=100, completion_tokens=10))

    assert counters() == {"cost": (WORST, 0)}  # the log has another price; what was held is spent


# ---------------------------------------------------------------- refusals


def test_a_budget_refuses_and_says_which_one(issued, token, price):
    rule = budget(issued, "0.01", per="user", name="Everybody's month")
    gate.authorize(token, model="gpt-4o").settle(Reported(prompt_tokens=1000, completion_tokens=100))
    gate.authorize(token, model="gpt-4o", input_tokens=400, max_output_tokens=100)

    denied = refused(token)

    assert (denied.code, denied.http_status, denied.retry_after) == ("budget_exceeded", 402, None)
    assert (denied.level, denied.object) == ("user", ("user", issued.key.user_id, "ada@acme.example"))
    assert (denied.policy_id, denied.policy_version) == (rule.pk, 1)
    assert (denied.limit, denied.used) == (Decimal("0.01"), Decimal("0.0028"))
    assert (denied.reserved, denied.requested) == (Decimal("0.0016"), WORST)
    berlin = denied.resets_at.astimezone(ZoneInfo("Europe/Berlin"))
    assert (berlin.day, berlin.hour, berlin.minute) == (1, 0, 0)
    assert denied.message == (
        "The budget of user ada@acme.example is 0.01 US dollars per month: 0.0028 used, 0.0016 reserved by calls that run, and "
        f"this call needs up to 0.006. It starts anew on {berlin:%Y-%m-%d} at 00:00:00 (Europe/Berlin). "
        'Policy "Everybody\'s month" of the organization, version 1, says so.'
    )
    [event] = events()
    assert (event.resource_id, event.details["code"], event.details["limit"]) == (
        str(rule.pk),
        "budget_exceeded",
        "0.01",
    )
    assert event.reason == denied.message


def test_what_was_recorded_of_a_refusal_decides_it_again(issued, token, price):
    """The epoch, the instant and the question are on record, of the calls that were let through as well."""
    key = issued.key
    scope = {"app": key.app, "branch": key.branch, "user": key.user, "key": key}
    budget(issued, 10)
    grant = gate.authorize(token, model="gpt-4o")
    rule = policy(issued, {"deny": ["openai/*"]}).pk
    refused(token)
    Policy.objects.filter(pk=rule).delete()
    policy(issued, {"deny": ["*"]}, name="since then")

    [event] = events()
    then = effective_at_epoch(
        key.tenant, event.details["epoch"], **scope, at=datetime.fromisoformat(event.details["at"])
    )
    again = then.decide_model(event.details["model"], event.details["region"])
    assert (again.reason, again.by) == (event.details["code"], UUID(event.resource_id)) == ("model_denied", rule)
    assert then.fingerprint == event.details["fingerprint"]

    fact = grant.settle()
    then = effective_at_epoch(key.tenant, fact.metadata["policy_epoch"], **scope, at=fact.created_at)
    assert then.decide_model(fact.requested_model)


def test_the_words_of_the_policy_come_first(issued, token, price):
    budget(issued, 0, message="Ask finance.")

    assert refused(token).message.startswith(
        "Ask finance. The budget of the organization Acme is 0 US dollars per month"
    )


def test_a_rate_refuses_until_its_window_is_over(issued, token):
    rule = rate(issued, "requests", 1, per="app")
    gate.authorize(token, model="gpt-4o")

    denied = refused(token)

    assert (denied.code, denied.http_status, denied.policy_id) == ("rate_limited", 429, rule.pk)
    assert (denied.level, denied.object) == ("app", ("app", issued.key.app_id, "Chat"))
    assert "limit of app Chat is 1 call per day" in denied.message
    left = (denied.resets_at - now()).total_seconds()
    assert 0 < denied.retry_after <= 25 * 3600
    assert -1 < denied.retry_after - left < 60


def test_calls_at_a_time_end_when_one_ends(issued, token):
    rate(issued, "concurrent", 1, "none")
    grant = gate.authorize(token, model="gpt-4o")

    denied = refused(token)
    assert (denied.code, denied.retry_after, denied.resets_at) == ("rate_limited", 1, None)
    grant.settle()

    assert gate.authorize(token, model="gpt-4o")


def test_all_that_refuse_are_told_and_the_budget_is_first(issued, token, price):
    rate(issued, "requests", 0)
    month = budget(issued, "0.001")
    rate(issued, "total_tokens", 10, mode="soft")
    rate(issued, "input_tokens", 5)

    denied = refused(token)

    assert (denied.code, denied.policy_id) == ("budget_exceeded", month.pk)
    assert {each["metric"] for each in denied.buckets} == {"cost", "requests", "input_tokens"}
    assert {each["result"] for each in denied.buckets} == {"fail"}
    assert denied.buckets[0]["limit"] == "0.001"
    assert denied.buckets[0]["zone"] == "Europe/Berlin"
    told = json.loads(json.dumps(denied.explain()))
    assert (told["decision"], told["reason"], len(told["buckets"])) == ("deny", "budget_exceeded", 3)
    assert counters() == dict.fromkeys(counters(), (0, 0))  # nothing of it is held


@pytest.mark.parametrize("level", ["tenant", "app", "branch", "user", "key"])
def test_each_level_refuses_by_itself(issued, token, price, level):
    """No key escapes its user's limit, and the organization's is enforced as well."""
    key = issued.key
    scope = {
        "tenant": {}, "app": {"app": key.app}, "branch": {"app": key.app, "branch": key.branch}, "user": {"user": key.user},
        "key": {"key": key},
    }[level]  # fmt: skip
    rule = budget(issued, 0, name="None at all", **scope)

    denied = refused(token)

    assert (denied.code, denied.level, denied.policy_id) == ("budget_exceeded", level, rule.pk)
    assert denied.object.kind == level


@pytest.mark.parametrize("per", ["app", "branch", "user", "key"])
def test_each_owner_has_a_counter_of_its_own(issued, token, acme_app, price, per):
    rate(issued, "requests", 1, per=per)
    gate.authorize(token, model="gpt-4o")
    other = issue(acme_app, user=UserFactory(tenant=acme_app.tenant), branch=BranchFactory(app=acme_app))

    assert refused(token).code == "rate_limited"
    if per == "app":
        assert refused(other.token).code == "rate_limited"
    else:
        assert gate.authorize(other.token, model="gpt-4o")


def test_a_limit_of_another_tenant_counts_nothing_here(issued, token, globex_app, price):
    Policy.objects.create(
        tenant=globex_app.tenant, policy_type="budget", config={"limits": [{"window": "total", "limit": "0"}]}
    )

    assert gate.authorize(token, model="gpt-4o")
    assert refused(issue(globex_app).token).code == "budget_exceeded"
    assert not LimitBucket.objects.filter(tenant=issued.key.tenant).exists()


def test_a_limit_on_other_models_counts_nothing(issued, token, price):
    budget(issued, 0, models=["anthropic/*"])

    assert gate.authorize(token, model="gpt-4o")


def test_a_soft_limit_warns_and_a_shadow_one_counts(issued, token, price):
    budget(issued, "0.001", mode="soft")
    rate(issued, "requests", 0, mode="shadow")

    grant = gate.authorize(token, model="gpt-4o")

    assert [(each["metric"], each["limit"], each["result"]) for each in grant.warnings] == [("cost", "0.001", "warn")]
    assert counters() == {"cost": (0, WORST), "requests": (0, 1)}
    assert events() == []


def test_an_alert_is_told_once_when_a_share_is_spent(issued, token, price):
    budget(issued, "0.001", mode="soft", alert_at=[0.5])
    for _ in range(3):
        gate.authorize(token, model="gpt-4o").settle(Reported(prompt_tokens=400, completion_tokens=0))

    assert AuditLog.objects.with_action("limit.alert").count() == 1


@pytest.mark.parametrize("policy_type", ["budget", "rate_limit", "token_caps"])
def test_a_limit_that_cannot_be_read_closes_the_gate(issued, token, price, policy_type):
    rule = policy(issued, {}, policy_type, name="Broken")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = %s WHERE id = %s", ['{"limits": 7}', rule.pk])

    denied = refused(token)

    assert (denied.code, denied.http_status, denied.policy_id) == ("policy_invalid", 503, rule.pk)
    assert 'Policy "Broken"' in denied.message


def test_a_request_id_in_use_holds_nothing_more(issued, token, price):
    budget(issued, 10)
    gate.authorize(token, model="gpt-4o", request_id="r-1")

    for asked in ({}, {"input_tokens": 5}):  # alike, and not alike
        with pytest.raises(gate.DuplicateRequest) as caught:
            gate.authorize(token, model="gpt-4o", request_id="r-1", **asked)
        assert (caught.value.http_status, caught.value.status) == (409, "pending")

    assert counters() == {"cost": (0, WORST)}


def test_a_request_id_that_was_used_before_there_were_limits_holds_nothing(issued, token, price):
    gate.authorize(token, model="gpt-4o", request_id="r-1")
    budget(issued, 10)

    with pytest.raises(gate.DuplicateRequest):
        gate.authorize(token, model="gpt-4o", request_id="r-1")

    assert counters() == {"cost": (0, 0)}


# ---------------------------------------------------------------- round trips, transactions, many at once


@pytest.mark.django_db(transaction=True)
def test_a_warm_call_takes_two_round_trips(issued, token, price):
    budget(issued, 10)
    rate(issued, "requests", 100)
    rate(issued, "total_tokens", 100_000, per="user")
    for _ in range(2):
        with gate.call(token, model="gpt-4o") as call:
            call.usage(prompt_tokens=10, completion_tokens=1)

    with wire(connection) as traced:
        with gate.call(token, model="gpt-4o") as call:
            call.usage(prompt_tokens=10, completion_tokens=1)

    assert traced.trips == 2, "\n".join(traced.lines)
    assert len(facts()) == 3
    assert counters(metric="requests") == {"requests": (3, 0)}


@pytest.mark.django_db(transaction=True)
def test_it_works_inside_a_transaction_and_is_counted(issued, token, price, caplog):
    budget(issued, 10)

    with transaction.atomic(), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=10, completion_tokens=1)

    assert gate.counts()["reservation_in_transaction"] == 1
    assert [fact.status for fact in facts()] == ["completed"]
    assert counters() == {"cost": (facts()[0].cost, 0)}


def test_in_the_scope_of_a_tenant_only_what_is_not_limited_passes(issued, token, price, globex):
    with tenant_scope(issued.key.tenant):
        assert gate.authorize(token, model="gpt-4o").settle().status == "completed"
    with tenant_scope(globex):
        assert refused(token).http_status in (401, 503)  # not seen there, or cached and of another tenant
    budget(issued, 10)
    with tenant_scope(issued.key.tenant):
        denied = refused(token)

    assert (denied.code, denied.http_status) == ("limits_unavailable", 503)
    assert "outside of it" in denied.message
    assert len(facts()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_is_undone_leaves_nothing(issued, token, price):
    budget(issued, 10)
    with pytest.raises(ConnectionError), transaction.atomic():
        gate.authorize(token, model="gpt-4o")
        raise ConnectionError

    assert not InFlightRequest.objects.exists()
    assert counters() in ({}, {"cost": (0, 0)})


@pytest.mark.django_db(transaction=True)
def test_many_at_once_never_spend_more_than_there_is(issued, token, price):
    budget(issued, "0.06")  # ten calls at their worst

    def caller():
        outcomes = []
        for _ in range(5):
            try:
                with gate.call(token, model="gpt-4o") as call:
                    call.usage(prompt_tokens=1000, completion_tokens=500)
                outcomes.append("made")
            except gate.Denied as denied:
                outcomes.append(denied.code)
        return outcomes

    outcomes = [each for found in together(*[caller] * 8) for each in found]

    assert sorted(set(outcomes)) == ["budget_exceeded", "made"]
    assert outcomes.count("made") == 10
    spent = counters()["cost"]
    assert spent == (Decimal("0.06"), 0)
    assert sum(fact.cost for fact in facts()) == spent[0]
    assert not InFlightRequest.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_ended_at_once_in_many_ways_it_is_counted_as_it_is_recorded(issued, token, price):
    budget(issued, 10)
    rate(issued, "total_tokens", 10**6)
    used = Reported(prompt_tokens=100, completion_tokens=10)
    for grant in [gate.authorize(token, model="gpt-4o") for _ in range(5)]:
        together(partial(grant.settle, used), grant.release, partial(grant.fail, "x"), partial(grant.settle, used))

    assert len(facts()) == 5
    assert counters()["cost"] == (sum(fact.cost for fact in facts()), 0)
    assert counters()["total_tokens"] == (110 * sum(fact.status == "completed" for fact in facts()), 0)
    assert limits.verify() == []


@pytest.mark.django_db(transaction=True)
def test_of_many_with_one_request_id_one_holds(issued, token, price):
    budget(issued, 10)

    outcomes = together(*[lambda: gate.authorize(token, model="gpt-4o", request_id="r-1")] * 6)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DuplicateRequest"] * 5 + ["Grant"]
    assert counters() == {"cost": (0, WORST)}


def test_a_message_names_some_of_many_models(issued, token, price):
    budget(issued, "0", models=[f"gpt-4o*{'x' * n}" for n in range(1, 60)] + ["gpt-4o"])

    denied = refused(token)

    assert "gpt-4o, gpt-4o*x, gpt-4o*xx, gpt-4o*xxx, gpt-4o*xxxx and 55 more" in denied.message
    assert len(denied.buckets[0]["models"]) == 60
