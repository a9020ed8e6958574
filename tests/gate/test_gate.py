"""The gate: who passes, who is refused and why, and what is recorded however a call ends."""

from __future__ import annotations

import traceback
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections, transaction

from auditing.errors import ConflictingDuplicate, DuplicateRequest, InvalidRow
from auditing.lifecycle import Reported
from auditing.models import AuditLog, InferenceRequest, InFlightRequest
from controlplane import denials, gate
from controlplane.core.ids import now
from policies.models import Policy
from tenants.models import APIKey
from tests.factories import ModelAliasFactory, issue
from tests.gate.cast import MODEL, events, facts, policy, rate, refused
from tests.races import together

# ---------------------------------------------------------------- a call


def test_a_call_is_in_flight_and_then_a_fact(token, issued):
    with gate.call(token, model="gpt-4o", request_id="r-1", input_tokens=9, max_output_tokens=50, stream=True) as call:
        assert call.model == MODEL
        flying = InFlightRequest.objects.get()
        assert (flying.request_id, flying.model, flying.requested_model) == ("r-1", MODEL, "gpt-4o")
        assert flying.metadata == {"input_tokens": 9, "max_output_tokens": 50}
        call.first_token()
        call.usage(prompt_tokens=10, completion_tokens=4)

    [fact] = facts()
    key = issued.key
    assert (fact.id, fact.request_id, fact.status, fact.model) == (flying.id, "r-1", "completed", MODEL)
    assert (fact.prompt_tokens, fact.completion_tokens, fact.stream) == (10, 4, True)
    assert (fact.tenant_id, fact.app_id, fact.branch_id) == (key.tenant_id, key.app_id, key.branch_id)
    assert (fact.user_id, fact.api_key_id, fact.time_zone) == (key.user_id, key.pk, "Europe/Berlin")
    assert (fact.cost, fact.pricing_status) == (None, "unpriced")
    assert 0 <= fact.ttft_ms <= fact.latency_ms
    assert not InFlightRequest.objects.exists()
    assert events() == []


def test_usage_reported_twice_counts_once(token):
    with gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=1)
        call.usage(prompt_tokens=10, completion_tokens=2)

    assert [(fact.prompt_tokens, fact.completion_tokens) for fact in facts()] == [(10, 2)]


def test_a_provider_that_reports_nothing_is_recorded_as_that(token):
    with gate.call(token, model="gpt-4o"):
        pass

    assert [(fact.status, fact.prompt_tokens, fact.cost) for fact in facts()] == [("completed", None, None)]


class ProviderDown(Exception):
    pass


def test_an_exception_of_the_body_goes_on_and_is_recorded_as_a_failure(token):
    with pytest.raises(ProviderDown, match="no answer"), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=7)
        raise ProviderDown("no answer")

    [fact] = facts()
    assert (fact.status, fact.error_code, fact.error) == ("failed", "provider_error", "ProviderDown: no answer")
    assert (fact.cost, fact.pricing_status, fact.prompt_tokens) == (0, "priced", 7)


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt, SystemExit])
def test_a_call_that_is_broken_off_is_recorded_with_what_was_used(token, end):
    with pytest.raises(end), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=10, completion_tokens=3)
        raise end

    assert [(fact.status, fact.completion_tokens) for fact in facts()] == [("cancelled", 3)]


def test_a_stream_that_its_reader_closes_is_recorded_as_cancelled(token):
    def stream():
        with gate.call(token, model="gpt-4o") as call:
            for n in range(10):
                call.usage(completion_tokens=n)
                yield n

    reader = stream()
    assert [next(reader), next(reader)] == [0, 1]
    reader.close()

    assert [(fact.status, fact.completion_tokens) for fact in facts()] == [("cancelled", 1)]


def test_an_end_that_cannot_be_recorded_does_not_hide_what_the_body_raised(token, caplog):
    with pytest.raises(ProviderDown), gate.call(token, model="gpt-4o"):
        InFlightRequest.objects.all().delete()  # somebody else has ended it
        raise ProviderDown

    assert "was not recorded" in caplog.text


def test_usage_that_cannot_be_is_an_error_of_the_body_and_the_call_is_recorded_as_failed(token):
    with pytest.raises(InvalidRow, match="prompt_tokens"), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=-1)

    assert [fact.status for fact in facts()] == ["failed"]
    assert InFlightRequest.objects.count() == 0


@pytest.mark.parametrize("units", [5, "images", [], [1], b"x", {"images": "x" * 5000}])
def test_units_that_cannot_be_are_an_error_of_the_body_too(token, units):
    with pytest.raises(InvalidRow, match="other_units"), gate.call(token, model="gpt-4o") as call:
        call.usage(prompt_tokens=1, other_units=units)

    assert [fact.status for fact in facts()] == ["failed"]
    assert InFlightRequest.objects.count() == 0


@pytest.mark.parametrize("error", [None, 5, b"x", ["no answer"], {"error": "no answer"}])
def test_whatever_a_caller_calls_the_error_is_recorded(token, error):
    with gate.call(token, model="gpt-4o") as call:
        call.retry(error=error)
    grant = gate.authorize(token, model="gpt-4o")
    grant.fail(error, error)

    assert [fact.status for fact in facts()] == ["failed", "completed", "failed"]


def test_an_exception_that_cannot_be_told_goes_on_and_is_recorded(token):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    with pytest.raises(Mute), gate.call(token, model="gpt-4o"):
        raise Mute

    assert [(fact.status, fact.error) for fact in facts()] == [("failed", "Mute")]


@pytest.mark.parametrize("text", ["a\x00b", "lone \ud800", "x" * 100_000, "日本 😀"])
def test_any_words_of_an_exception_are_recorded(token, text):
    with pytest.raises(ProviderDown), gate.call(token, model="gpt-4o"):
        raise ProviderDown(text)

    assert [fact.status for fact in facts()] == ["failed"]


# ---------------------------------------------------------------- the end of a call


def test_settled_twice_alike_it_is_one_fact(token):
    grant = gate.authorize(token, model="gpt-4o")

    first, second = (grant.settle(Reported(prompt_tokens=5, completion_tokens=1)) for _ in range(2))

    assert first.id == second.id == grant.id
    assert len(facts()) == 1


@pytest.mark.parametrize(
    "again",
    [
        lambda grant: grant.settle(Reported(prompt_tokens=6)),
        lambda grant: grant.fail("late"),
        lambda grant: grant.release(),
    ],
)
def test_ended_again_otherwise_the_first_end_stays(token, again):
    grant = gate.authorize(token, model="gpt-4o")
    grant.settle(Reported(prompt_tokens=5))

    with pytest.raises(ConflictingDuplicate):
        again(grant)

    assert [(fact.status, fact.prompt_tokens) for fact in facts()] == [("completed", 5)]


@pytest.mark.django_db(transaction=True)
def test_settled_and_released_at_once_it_ends_once(acme_app, model):
    grant = gate.authorize(issue(acme_app).token, model="gpt-4o")

    outcomes = together(lambda: grant.settle(Reported(prompt_tokens=5)), grant.release)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictingDuplicate", "InferenceRequest"]
    assert len(facts()) == 1


# ---------------------------------------------------------------- request ids


def test_a_request_id_in_use_is_refused_with_where_it_stands(token):
    grant = gate.authorize(token, model="gpt-4o", request_id="r-1")
    with pytest.raises(DuplicateRequest) as flying:
        gate.authorize(token, model="gpt-4o", request_id="r-1")
    grant.settle()
    with pytest.raises(DuplicateRequest) as finished:
        gate.authorize(token, model="gpt-4o", request_id="r-1")

    assert (flying.value.id, flying.value.status) == (grant.id, "pending")
    assert (finished.value.id, finished.value.status, finished.value.http_status) == (grant.id, "completed", 409)
    assert len(facts()) == 1


def test_a_request_id_is_its_tenants_own(token, globex_app):
    gate.authorize(token, model="gpt-4o", request_id="r-1")

    gate.authorize(issue(globex_app).token, model="gpt-4o", request_id="r-1")

    assert InFlightRequest.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_calls_with_one_request_id_at_once_one_is_made(acme_app, model):
    token = issue(acme_app).token

    outcomes = together(*[lambda: gate.authorize(token, model="gpt-4o", request_id="r-1")] * 4)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DuplicateRequest"] * 3 + ["Grant"]
    assert InFlightRequest.objects.count() == 1


@pytest.mark.parametrize("id", ["", "x" * 191, "a\x00b", "lone \ud800"])
def test_a_request_id_is_text_of_a_size(token, id):
    assert (denied := refused(token, request_id=id)).code == "bad_request_id"
    assert denied.http_status == 400


# ---------------------------------------------------------------- refusals, by phase


@pytest.mark.parametrize("garbage", ["", "x", "cpk_live_x", "\x00", "日本", "Bearer x", "cpk_live_" + "a" * 5000])
def test_what_is_no_token_and_what_is_unknown_look_alike(model, acme_app, garbage):
    unknown = issue(acme_app).token
    flipped = unknown[:-7] + ("a" if unknown[-7] != "a" else "b") + unknown[-6:]

    for denied in (refused(garbage), refused(flipped)):
        assert (denied.code, denied.http_status, denied.message) == (
            "invalid_api_key",
            401,
            "This API key is not valid.",
        )
        assert (denied.level, denied.object) == ("key", ("key", None, ""))


def expire(key):
    APIKey.objects.filter(pk=key.pk).update(expires_at=now() - timedelta(seconds=1))


def postpone(key):
    APIKey.objects.filter(pk=key.pk).update(not_before=now() + timedelta(hours=1))


KEYS = [
    ("revoked", 401, "key", lambda key: key.revoke("leaked")),
    ("disabled", 401, "key", lambda key: APIKey.objects.filter(pk=key.pk).update(enabled=False)),
    ("expired", 401, "key", expire),
    ("not_yet_valid", 401, "key", postpone),
    ("tenant_disabled", 403, "tenant", lambda key: key.tenant.suspend("late")),
    ("app_disabled", 403, "app", lambda key: key.app.suspend("late")),
    ("branch_disabled", 403, "branch", lambda key: key.branch.suspend("late")),
    ("user_disabled", 403, "user", lambda key: key.user.deactivate("left")),
]


@pytest.mark.parametrize(("code", "status", "level", "change"), KEYS, ids=[each[0] for each in KEYS])
def test_a_key_or_what_it_stands_on_may_be_closed(issued, code, status, level, change):
    change(issued.key)

    denied = refused(issued.token)

    assert (denied.code, denied.http_status, denied.level) == (code, status, level)
    assert denied.object[:2] == ("key", issued.key.pk)
    assert denied.decision is None
    assert events() == []


@pytest.mark.parametrize(
    ("asked", "code"), [({"environment": "test"}, "wrong_environment"), ({"scope": "embed"}, "insufficient_scope")]
)
def test_a_key_is_good_for_its_environment_and_scopes(token, asked, code):
    assert (denied := refused(token, **asked)).code == code
    assert denied.http_status == 403
    assert gate.authorize(token, model="gpt-4o", environment="live", scope="chat")


def test_a_revoked_key_learns_nothing_about_models(issued):
    issued.key.revoke("leaked")

    assert refused(issued.token, model="no-such-model").code == "revoked"


@pytest.mark.parametrize("name", ["no-such-model", "", "gpt\x004o", "gpt-4о", "x" * 5000, "lone \ud800", "'; --"])
def test_a_name_that_no_model_has_is_refused_and_recorded(token, name):
    denied = refused(token, model=name)

    assert (denied.code, denied.http_status, denied.object) == ("model_unknown", 403, ("model", None, ""))
    [event] = events()
    assert event.details["code"] == "model_unknown"
    assert not InFlightRequest.objects.exists()


def test_a_model_that_is_switched_off_is_refused(token, model):
    type(model).objects.filter(pk=model.pk).update(enabled=False)

    assert (refused(token).code, refused(token).http_status) == ("model_disabled", 403)


def test_a_key_that_names_its_models_has_no_others(acme_app, model):
    issued = issue(acme_app, allowed_models=["openai/gpt-5"])

    denied = refused(issued.token)

    assert (denied.code, denied.http_status, denied.level) == ("model_not_allowed", 403, "key")
    assert denied.object[:2] == ("key", issued.key.pk)
    assert denied.decision.model == MODEL
    assert [event.details["code"] for event in events()] == ["model_not_allowed"]


@pytest.mark.parametrize(
    ("policy_type", "config", "asked", "code"),
    [
        ("model_access", {"deny": ["openai/*"]}, {}, "model_denied"),
        ("model_access", {"allow": ["anthropic/*"]}, {}, "model_not_in_allowlist"),
        ("routing", {"providers": ["anthropic"]}, {}, "provider_not_allowed"),
        ("routing", {"regions": ["eu"]}, {"region": "us"}, "region_not_allowed"),
    ],
)
def test_a_policy_refuses_and_says_which_it_was(issued, policy_type, config, asked, code):
    rule = policy(issued, config, policy_type, message="Ask the platform team.", name="House rules")

    denied = refused(issued.token, **asked)

    assert (denied.code, denied.http_status) == (code, 403)
    assert denied.message.startswith("Ask the platform team. ")
    assert 'Policy "House rules" of the organization, version 1, says so' in denied.message
    assert (MODEL in denied.message) == (code in ("model_not_in_allowlist", "provider_not_allowed"))
    assert (denied.policy_id, denied.policy_version) == (rule.pk, 1)
    assert denied.object == ("policy", rule.pk, "House rules")
    [event] = events()
    assert (event.resource_type, event.resource_id) == ("cp_policies_policy", str(rule.pk))
    assert (event.outcome, event.api_key_id, event.model) == ("denied", issued.key.pk, "gpt-4o")
    assert event.reason == denied.message


def test_a_refusal_names_the_level_its_rule_stands_at(issued):
    key = issued.key
    scopes = {
        "tenant": {},
        "app": {"app": key.app},
        "branch": {"app": key.app, "branch": key.branch},
        "user": {"user": key.user},
        "key": {"key": key},
    }
    for level, scope in scopes.items():
        rule = policy(issued, {"deny": ["openai/*"]}, **scope)
        assert refused(issued.token).level == level
        Policy.objects.filter(pk=rule.pk).update(enabled=False)

    assert gate.authorize(issued.token, model="gpt-4o")


def test_a_region_that_is_allowed_passes(issued):
    policy(issued, {"regions": ["eu"]}, "routing")

    assert gate.authorize(issued.token, model="gpt-4o", region="eu").model == MODEL


def test_an_alias_launders_no_model(issued, model):
    ModelAliasFactory(alias="harmless", model=model, tenant=issued.key.tenant)
    policy(issued, {"deny": [MODEL]})

    assert refused(issued.token, model="harmless").code == "model_denied"


def test_a_policy_that_cannot_be_read_closes_the_gate(issued):
    rule = policy(issued, {"deny": []})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = %s WHERE id = %s", ['{"deny": "openai/*"}', rule.pk])

    denied = refused(issued.token)

    assert (denied.code, denied.http_status, denied.policy_id) == ("policy_invalid", 503, rule.pk)


TYPES = ["model_access", "routing", "token_caps", "rate_limit", "budget", "guardrail"]


@pytest.mark.parametrize("policy_type", TYPES)
def test_a_policy_that_cannot_be_read_comes_before_the_model(issued, policy_type):
    broken(issued, policy_type)

    denied = refused(issued.token, model="no-such-model")

    assert (denied.code, denied.http_status, denied.level) == ("policy_invalid", 503, "tenant")
    assert denied.object == ("policy", denied.policy_id, "Broken")
    assert denied.message.startswith("A policy cannot be read")
    assert 'Policy "Broken" of the organization, version 2' in denied.message
    [event] = events()
    assert event.details["fingerprint"] == denied.decision.effective.fingerprint
    assert not InFlightRequest.objects.exists()


@pytest.mark.parametrize("policy_type", ["retention", "storage_access"])
def test_a_policy_that_cannot_be_read_and_that_no_call_is_subject_to_closes_nothing(issued, policy_type):
    broken(issued, policy_type)

    assert gate.authorize(issued.token, model="gpt-4o").effective.unreadable(policy_type)


def broken(issued, policy_type):
    """A policy past its schema, as a restored backup of an older version may have."""
    rule = policy(issued, {}, policy_type, name="Broken", message="Ask the platform team.")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = '{\"x\": 1}' WHERE id = %s", [rule.pk])


def test_a_policy_of_another_tenant_changes_nothing(issued, globex):
    Policy.objects.create(tenant=globex, policy_type="model_access", config={"deny": ["*"]})

    assert gate.authorize(issued.token, model="gpt-4o")


# ---------------------------------------------------------------- what is recorded of refusals


def test_refusals_alike_are_recorded_once_a_minute_with_their_number(issued):
    policy(issued, {"deny": ["openai/*"]})
    denied = refused(issued.token)
    for _ in range(3):
        refused(issued.token)
    assert [event.details["times"] for event in events()] == [1]

    key = APIKey.objects.verify(issued.token)
    denials.record(denied, key, "gpt-4o", at=now() + timedelta(seconds=59))
    assert len(events()) == 1
    denials.record(denied, key, "gpt-4o", at=now() + timedelta(seconds=61))
    assert [event.details["times"] for event in events()] == [1, 5]


def test_refusals_of_other_keys_and_reasons_are_recorded_beside(issued, acme_app):
    other = issue(acme_app).token

    for token, model in ((issued.token, "a"), (issued.token, "b"), (other, "a"), (issued.token, "gpt-4o")):
        if model == "gpt-4o":
            policy(issued, {"deny": ["openai/*"]})
        refused(token, model=model)

    assert [event.details["code"] for event in events()] == ["model_unknown", "model_unknown", "model_denied"]


def test_what_is_remembered_of_refusals_is_bounded():
    recent = denials.Recent(most=3)

    assert [recent.count((n,), 0.0) for n in range(10)] == [1] * 10
    assert len(recent._seen) <= 3


def test_no_message_of_any_refusal_holds_the_token(issued):
    token, secret = issued.token, issued.token.rsplit("_", 1)[1]
    policy(issued, {"deny": ["openai/*"]})
    said = []
    for asked in ({}, {"environment": "test"}, {"scope": "x"}, {"model": token}, {"model": f"x {token}"}):
        try:
            gate.authorize(token, **{"model": "gpt-4o", **asked})
        except gate.Denied as denied:
            if "model" not in asked:
                said.append("".join(traceback.format_exception(denied)) + repr(vars(denied)))
            said.append(f"{denied} {denied!r} {denied.message}")
    Policy.objects.update(enabled=False)
    grant = gate.authorize(token, model="gpt-4o")
    said += [repr(grant), repr(gate.Call(grant))]
    with pytest.raises(ProviderDown), gate.call(token, model="gpt-4o"):
        raise ProviderDown(f"Authorization: Bearer {token}")
    said += [repr(list(AuditLog.objects.values())), repr(list(InferenceRequest.objects.values()))]

    assert len(said) == 12
    assert secret not in "\n".join(said)


# ---------------------------------------------------------------- a database that does not answer


@pytest.mark.django_db(transaction=True)
def test_without_a_database_nobody_passes_and_nobody_is_told_the_key_is_wrong(acme_app, model, monkeypatch):
    token = issue(acme_app).token
    connection.close()
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        elsewhere.setitem(connection.settings_dict, "PORT", "1")
        denied = refused(token)

    assert (denied.code, denied.http_status, denied.retry_after) == ("auth_unavailable", 503, 1)
    connection.close()
    assert gate.authorize(token, model="gpt-4o")


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_ended_is_replaced_outside_a_transaction_only(acme_app, model):
    token = issue(acme_app).token
    end_this_connection()
    assert gate.authorize(token, model="gpt-4o")

    with pytest.raises(OperationalError), transaction.atomic():
        end_this_connection()
        assert refused(token).code == "limits_unavailable"  # the rest is cached, or asked for beside the transaction
        raise OperationalError

    connection.close()


def end_this_connection():
    """The server ends this thread's connection, as at a failover."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()


@pytest.fixture
def locked():
    """Lock a table, as a migration that got stuck would, and wait for no lock: locked("table")."""
    other = connections.create_connection("default")
    other.set_autocommit(False)

    def lock(table):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
        with other.cursor() as cursor:
            cursor.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')

    yield lock
    other.rollback()
    other.close()
    connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("cp_tenants_apikey", "auth_unavailable"),
        ("cp_policies_policy", "policy_unavailable"),
        ("cp_catalog_aimodel", "policy_unavailable"),
        ("cp_auditing_inflightrequest", "limits_unavailable"),
        ("cp_policies_limitbucket", "limits_unavailable"),
    ],
)
def test_a_phase_that_cannot_ask_refuses_and_names_itself(acme_app, model, locked, table, code):
    issued = issue(acme_app)
    token = issued.token
    rate(issued, "requests", 10)
    locked(table)

    denied = refused(token)

    assert (denied.code, denied.http_status, denied.retry_after) == (code, 503, 1)
    assert token.rsplit("_", 1)[1] not in str(denied)


@pytest.mark.django_db(transaction=True)
def test_a_refusal_stands_where_it_cannot_be_recorded(acme_app, model, locked, caplog):
    token = issue(acme_app).token
    locked("cp_auditing_auditlog")

    denied = refused(token, model="no-such-model")

    assert denied.code == "model_unknown"
    assert "was not recorded" in caplog.text


def test_the_app_of_another_tenant_is_another_app(acme_app, globex_app, model):
    """The key alone says whose call it is: no argument can."""
    with gate.call(issue(globex_app).token, model="gpt-4o"):
        pass

    assert [(fact.tenant_id, fact.app_id) for fact in facts()] == [(globex_app.tenant_id, globex_app.pk)]


@pytest.mark.django_db(transaction=True)
def test_a_refusal_is_recorded_though_the_transaction_it_is_raised_through_is_undone(acme_app, model):
    issued = issue(acme_app)
    rule = policy(issued, {"deny": ["*"]})

    with pytest.raises(gate.Denied), transaction.atomic():
        gate.authorize(issued.token, model="gpt-4o")

    assert [(event.resource_id, event.details["code"]) for event in events()] == [(str(rule.pk), "model_denied")]
