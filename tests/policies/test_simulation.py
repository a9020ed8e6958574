from __future__ import annotations

import json
import re
from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from auditing.errors import InvalidWindow
from auditing.ingest import LOG
from catalog.models import AIModel
from controlplane.core import partitions
from policies.errors import PolicyError
from policies.models import Policy
from policies.scope import Scope
from policies.simulation import Change, Sample, simulate
from tenants.scope import tenant_scope
from tests.factories import InferenceRequestFactory
from tests.policies.asked import DAY, HOUR, MODELS, SECOND, START, ask, counted, counts, create, run
from tests.policies.world import make_models

MONTHLY = {"window": "month", "limit": "10"}


@pytest.fixture(autouse=True)
def models(db):
    make_models(*MODELS)
    AIModel.objects.filter(name="haiku").update(enabled=False)


# ---------------------------------------------------------------- what changes do


def test_a_new_denial_is_counted_and_shown(acme):
    result = run(acme, [create(config={"deny": ["gpt-4o"]})], ask(acme, app=acme.app()), ask(acme, model="o1"))

    assert counts(result) == counted(newly_denied=1, still_allowed=1)
    assert result.reasons["newly_denied"] == {"model_denied": 1}
    [example] = result.examples
    assert (example.kind, example.before.reason, example.after.reason) == (
        "newly_denied",
        "no_restriction",
        "model_denied",
    )
    assert result.by["app"] == {acme.app().pk: {"newly_denied": 1}, None: {"still_allowed": 1}}
    assert result.by["model"] == {"openai/gpt-4o": {"newly_denied": 1}, "openai/o1": {"still_allowed": 1}}
    assert (result.values[0].path, result.values[0].before, result.values[0].after) == (
        "model_access.deny",
        None,
        ["gpt-4o"],
    )
    assert result.values[0].requests == 2


def test_a_policy_that_is_deleted_or_changed_allows_again(acme):
    one = acme.policy(config={"deny": ["gpt-4o"]})
    two = acme.policy(config={"deny": ["o1"]}, user=acme.user())
    requests = [ask(acme), ask(acme, model="o1", user=acme.user())]

    result = run(acme, [Change("delete", one.pk), Change("update", two.pk, {"enabled": False})], *requests)

    assert counts(result) == counted(newly_allowed=2)
    assert result.reasons["newly_allowed"] == {"model_denied": 2}


def test_nothing_changes_without_changes(acme):
    acme.policy(config={"deny": ["o1"]})

    result = run(acme, [], ask(acme), ask(acme, model="o1"), ask(acme, model="unknown"), ask(acme, model="haiku"))

    assert counts(result) == counted(still_allowed=1, still_denied=3)
    assert result.reasons["still_denied"] == {"model_denied": 1, "model_unknown": 1, "model_disabled": 1}
    assert result.values == result.examples == result.started == ()


def test_what_is_allowed_as_something_else_is_changed(acme):
    alias = create("routing", {"aliases": {"gpt-4": "openai/o1"}})
    caps = create("token_caps", {"max_output_tokens": 10, "on_exceed": "clamp"}, app_id=acme.app().pk)
    requests = [ask(acme, model="gpt-4"), ask(acme, app=acme.app(), output_tokens=50), ask(acme)]

    result = run(acme, [alias, caps], *requests)

    assert counts(result) == counted(still_allowed=3)
    assert result.changed == 2
    assert {(one.before.model, one.after.model, one.after.output_tokens) for one in result.examples} == {
        ("openai/gpt-4", "openai/o1", None),
        ("openai/gpt-4o", "openai/gpt-4o", 10),
    }


def test_a_token_cap_refuses_what_was_used(acme):
    caps = create("token_caps", {"max_input_tokens": 100, "max_output_tokens": 10, "on_exceed": "reject"})
    used = [{"input_tokens": 101}, {"output_tokens": 11}, {"input_tokens": 100, "output_tokens": 10}, {}]

    result = run(acme, [caps], *(ask(acme, **some) for some in used))

    assert counts(result) == counted(newly_denied=2, still_allowed=2)
    assert result.reasons["newly_denied"] == {"token_cap_exceeded": 2}


def test_objects_can_be_asked_for_too(acme):
    allow = create("storage_access", {"allow": [{"uri": "s3://files/*", "modes": ["read"]}]})
    requests = [
        ask(acme, uri="s3://files/a"),
        ask(acme, uri="s3://files/a", mode="write"),
        ask(acme, uri="s3://b/../a"),
    ]

    result = run(acme, [allow], *requests)

    assert counts(result) == counted(newly_allowed=1, still_denied=2)


# ---------------------------------------------------------------- time


def test_a_policy_holds_for_the_requests_of_its_hours_alone(acme):
    hours = {"tz": "Europe/Berlin", "days": ["sun"], "start": "01:30", "end": "03:30"}
    deny = create(config={"deny": ["*"]}, schedule=hours, valid_until=(START + 7 * DAY).isoformat())
    sunday = START + 2 * DAY
    inside = [sunday + timedelta(minutes=30), sunday + timedelta(minutes=89)]  # 01:30, and 03:29 after the gap
    outside = [sunday + timedelta(minutes=29), sunday + timedelta(minutes=90), sunday + 7 * DAY]

    result = run(acme, [deny], *(ask(acme, at) for at in inside + outside))

    assert counts(result) == counted(newly_denied=2, still_allowed=3)
    assert sorted(one.request.at for one in result.examples) == inside


def test_all_can_be_asked_as_of_one_instant(acme):
    deny = create(config={"deny": ["*"]}, valid_from=START + DAY)

    assert run(acme, [deny], ask(acme)).newly_denied == 0
    assert run(acme, [deny], ask(acme), at=START + DAY).newly_denied == 1


# ---------------------------------------------------------------- limits


def test_a_budget_is_spent_in_the_order_of_time(acme):
    calls = [ask(acme, START + n * HOUR, cost=Decimal(4), request_id=str(n)) for n in reversed(range(4))]

    result = run(acme, [create("budget", {"limits": [MONTHLY]})], *calls)

    assert counts(result) == counted(newly_denied=2, still_allowed=2)
    assert [one.request.request_id for one in result.examples] == ["2", "3"]
    assert (result.cost_before, result.cost_after, result.cost_difference) == (16, 8, -8)
    assert result.reasons["newly_denied"] == {"budget_exceeded": 2}
    assert result.examples[0].after.counter.owner_id == "organization"


def test_what_is_refused_spends_nothing_and_less_may_still_pass(acme):
    costs = (6, 5, 4, 1)
    calls = [ask(acme, START + n * SECOND, cost=Decimal(cost)) for n, cost in enumerate(costs)]

    result = run(acme, [create("budget", {"limits": [MONTHLY]})], *calls)

    assert [one.request.cost for one in result.examples] == [5, 1]


def test_a_window_begins_anew_and_each_user_has_a_counter(acme):
    hourly = create("rate_limit", {"limits": [{"metric": "requests", "window": "1h", "limit": 1, "per": "user"}]})
    ada, bob = acme.user("ada"), acme.user("bob")
    calls = [
        ask(acme, START, user=ada),
        ask(acme, START + SECOND, user=bob),
        ask(acme, START + 2 * SECOND, user=ada),
        ask(acme, START + HOUR, user=ada),
    ]

    result = run(acme, [hourly], *calls)

    assert counts(result) == counted(newly_denied=1, still_allowed=3)
    assert result.reasons["newly_denied"] == {"rate_limited": 1}
    assert result.by["user"][ada.pk] == {"still_allowed": 2, "newly_denied": 1}


def test_calls_at_a_time_are_those_that_have_not_ended(acme):
    two = create("rate_limit", {"limits": [{"metric": "concurrent", "window": "none", "limit": 2}]})
    spans = [(0, 10), (1, 10), (2, 10), (10, 11), (10, 20)]
    calls = [ask(acme, START + a * SECOND, ended_at=START + b * SECOND, request_id=str(a)) for a, b in spans]

    result = run(acme, [two], *calls)

    assert [one.request.request_id for one in result.examples] == ["2"]
    assert result.partial == ()


def test_soft_and_shadow_limits_refuse_nothing(acme):
    limits = [{**MONTHLY, "limit": "0", "mode": mode} for mode in ("soft", "shadow")]

    assert run(acme, [create("budget", {"limits": limits})], ask(acme, cost=Decimal(1))).newly_denied == 0


def test_a_call_of_unknown_cost_is_refused_by_a_hard_budget_alone(acme):
    hard = create("budget", {"limits": [MONTHLY]})
    soft = create("budget", {"limits": [{**MONTHLY, "mode": "soft"}]})

    assert run(acme, [hard], ask(acme)).reasons["newly_denied"] == {"model_unpriced": 1}
    assert run(acme, [soft], ask(acme)).newly_denied == 0
    assert run(acme, [], ask(acme)).unpriced == 1


def test_a_limit_with_another_window_begins_at_nothing_and_one_with_another_amount_goes_on(acme):
    policy = acme.policy("budget", {"limits": [MONTHLY]})
    call = ask(acme, cost=Decimal(1))

    def changed_to(entry):
        return run(acme, [Change("update", policy.pk, {"config": {"limits": [entry]}})], call)

    assert changed_to({**MONTHLY, "limit": "20"}).started == ()
    [started] = changed_to({**MONTHLY, "window": "week"}).started
    assert (started.metric, started.window, started.owner, started.owners) == ("cost", "week", "scope:1", 1)
    assert started.policy == policy.pk
    [started] = changed_to({**MONTHLY, "models": ["gpt*"]}).started
    assert started.models == ("gpt*",)
    [started] = changed_to({**MONTHLY, "per": "user"}).started
    assert started.owner == "per:user"


def test_a_sample_that_begins_within_a_window_is_partial(acme):
    acme.policy("budget", {"limits": [{**MONTHLY, "window": "day"}]})
    calls = [ask(acme, START + HOUR, cost=Decimal(1))]

    [partial] = simulate(acme.tenant, [], Sample.of(calls)).partial
    assert (partial.window, partial.owner) == ("day", "scope:1")
    assert simulate(acme.tenant, [], Sample(tuple(calls), START, START + DAY)).partial == ()
    total = [create("budget", {"limits": [{"window": "total", "limit": "1"}]})]
    assert len(simulate(acme.tenant, total, Sample(tuple(calls), START)).partial) == 1


# ---------------------------------------------------------------- recorded requests


def record(world, at=START, **fields):
    fields.setdefault("requested_model", None)
    return InferenceRequestFactory(tenant_id=world.tenant.pk, created_at=at, **fields)


@pytest.fixture
def log(db):
    partitions.ensure(LOG, START, months=[START.date().replace(day=1), START.date().replace(day=1) + 31 * DAY])


def test_recorded_requests_ask_by_the_name_they_used_and_spend_what_they_used(acme, log):
    record(acme, model="openai/gpt-4o", requested_model="smart", app_id=acme.app().pk, latency_ms=5000)
    record(acme, START + SECOND, model="openai/o1", cost=None, pricing_status="unpriced", prompt_tokens=None)

    first, second = Sample.from_requests(acme.tenant, START, START + HOUR).requests

    assert (first.model, first.served, first.scope.app_id) == ("smart", "openai/gpt-4o", acme.app().pk)
    assert (first.input_tokens, first.output_tokens, first.cost) == (100, 20, Decimal("0.001"))
    assert first.ended_at == START + 5 * SECOND
    assert (second.model, second.cost, second.input_tokens) == ("openai/o1", None, None)


def test_a_sample_is_the_first_of_its_window_without_corrections_and_other_tenants(acme, globex, log):
    fact = record(acme, START + HOUR)
    record(acme, START + HOUR + SECOND)
    record(acme, START + HOUR, adjusts=fact.pk, reason_code="credit", pricing_status="adjustment", reason="wrong")
    for at in (START - SECOND, START + 3 * HOUR):
        record(acme, at)
    record(globex, START + HOUR)

    whole = Sample.from_requests(acme.tenant, START, START + 3 * HOUR)
    part = Sample.from_requests(acme.tenant.pk, START, START + 3 * HOUR, limit=1)

    assert (len(whole), whole.truncated, whole.start, whole.end) == (2, False, START, START + 3 * HOUR)
    assert (len(part), part.truncated) == (1, True)
    assert part.requests == whole.requests[:1]


def test_what_a_key_says_is_filled_in(acme, log):
    key = acme.key(user="ada", branch="berlin")
    record(acme, api_key_id=key.pk)
    record(acme, START + SECOND, branch_id=acme.branch().pk, user_id=acme.user("bob").pk)

    first, second = Sample.from_requests(acme.tenant, START, START + HOUR).requests

    assert first.scope == Scope.of(acme.tenant, key=key)
    assert second.scope == Scope.of(acme.tenant, branch=acme.branch(), user=acme.user("bob"))


def test_within_a_tenants_scope_only_its_own_requests_are_there(acme, globex, log):
    record(acme)
    record(globex)

    with tenant_scope(acme.tenant):
        assert len(Sample.from_requests(globex.tenant, START, START + HOUR)) == 0
        sample = Sample.from_requests(acme.tenant, START, START + HOUR)
        assert simulate(acme.tenant, [], sample).still_allowed == 1


def test_a_sample_has_bounds(acme):
    with pytest.raises(ValueError, match="50000"):
        Sample.from_requests(acme.tenant, START, START + DAY, limit=50_001)
    with pytest.raises(InvalidWindow):
        Sample.from_requests(acme.tenant, START.replace(tzinfo=None), START + DAY)
    with pytest.raises(ValueError, match="time zone"):
        Sample.of([ask(acme, START.replace(tzinfo=None))])


# ---------------------------------------------------------------- what it must not do


def test_a_simulation_stores_nothing_and_locks_nothing(acme):
    policy = acme.policy(config={"deny": ["o1"]})
    changes = [create(config={"allow": ["gpt*"]}), Change("delete", policy.pk)]

    with CaptureQueriesContext(connection) as queries:
        run(acme, changes, ask(acme), ask(acme, model="o1"))

    statements = [query["sql"] for query in queries]
    assert "SET TRANSACTION READ ONLY" in statements
    assert not [one for one in statements if re.search("INSERT|UPDATE|DELETE|LOCK", one)]
    assert [*Policy.objects.values_list("pk", "config", "version")] == [(policy.pk, {"deny": ["o1"]}, 1)]
    policy.save()  # the caller's transaction can write again


@pytest.mark.django_db(transaction=True)
def test_on_its_own_it_sees_one_state_of_the_database(acme):
    make_models("openai/seen-once")

    with CaptureQueriesContext(connection) as queries:
        run(acme, [], ask(acme))

    assert "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY" in [query["sql"] for query in queries]


def test_the_number_of_statements_does_not_grow_with_the_requests(acme):
    acme.policy(config={"deny": ["o1"]}, user=acme.user())

    def statements(number):
        requests = [ask(acme, START + n * HOUR, user=acme.user() if n % 2 else None) for n in range(number)]
        with CaptureQueriesContext(connection) as queries:
            run(acme, [create(config={"deny": ["opus"]})], *requests)
        return len(queries)

    assert statements(2) == statements(60)


def test_it_works_within_a_tenants_scope_and_no_other_tenant_is_seen(acme, globex):
    theirs = globex.policy(config={"deny": ["*"]})
    request = ask(acme)
    with tenant_scope(acme.tenant):
        assert run(acme, [], request).still_allowed == 1
        with pytest.raises(ValidationError):
            run(acme, [Change("delete", theirs.pk)], request)
        with pytest.raises(PolicyError) as unseen:
            run(globex, [], ask(globex))
    with pytest.raises(PolicyError) as mixed:
        run(acme, [], ask(globex))

    assert unseen.value.code == mixed.value.code == "tenant_mismatch"


@pytest.mark.parametrize("field", ["app", "branch", "user", "key"])
def test_a_change_that_names_a_row_of_another_tenant_is_refused(acme, globex, field):
    change = create(config={"deny": ["*"]}, **{f"{field}_id": getattr(globex, field)().pk})
    for scope in (nullcontext, lambda: tenant_scope(acme.tenant)):
        with scope(), pytest.raises(ValidationError) as caught:
            run(acme, [change], ask(acme))
        assert "tenant_mismatch" in {error.code for error in caught.value.error_dict[field]}


def test_a_stored_policy_that_cannot_be_read_refuses_what_it_is_about(acme):
    policy = acme.policy("budget", {"limits": [MONTHLY]})
    QuerySet(Policy).filter(pk=policy.pk).update(config={"limits": 5})

    result = run(acme, [Change("delete", policy.pk)], ask(acme, cost=Decimal(1)))

    assert (result.newly_allowed, result.reasons["newly_allowed"]) == (1, {"policy_invalid": 1})


def test_an_empty_sample_has_an_empty_result(acme):
    assert counts(run(acme, [])) == counted()


def test_the_record_is_json_that_names_what_it_counts(acme):
    deny = create(config={"deny": ["gpt*"]}, message="No.")
    budget = create("budget", {"limits": [{**MONTHLY, "limit": "1"}]})
    requests = [ask(acme, app=acme.app(), cost=Decimal("0.5")), ask(acme, model="o1", cost=Decimal(2))]

    record = json.loads(json.dumps(run(acme, [deny, budget], *requests).as_record()))

    assert record["by"]["app"] == {str(acme.app().pk): {"newly_denied": 1}, "": {"newly_denied": 1}}
    assert record["cost"] == {"before": "2.5", "after": "0", "difference": "-2.5"}
    assert {one["after"]["reason"] for one in record["examples"]} == {"model_denied", "budget_exceeded"}
    full = next(one["after"] for one in record["examples"] if one["after"]["reason"] == "budget_exceeded")
    assert full["counter"] == {"owner": "organization", "window": "month", "limit": "1"}
    assert record["started"][0]["owners"] == 1
