"""The page that answers "why?": the functions that decide, asked by a form, as a page and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing.models import AuditLog
from policies.explain import explain
from policies.limits import Amounts, reserve, settle
from policies.models import LimitBucket, Policy
from policies.standing import standing
from tenants.models import APIKey, Branch, Tenant, User
from tests.admin_rows import Page
from tests.policies.world import make_models

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
GARBAGE = [
    "'\"><script>",
    "\x00",
    "%",
    "a" * 5000,
    "日本 😀",
    "1e400",
    "cpk_live_x",
    "  ",
    str(uuid4()),
    "-1",
    "x/y/z/w",
    "a/b",
]
FIELDS = (
    "tenant", "app", "branch", "user", "key", "model", "region", "input_tokens", "output_tokens", "uri", "mode", "at", "format",
)  # fmt: skip


@pytest.fixture
def operator(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("operator@example.com"))
    return client


@pytest.fixture
def world(acme):
    """A request with a word of every kind of policy."""
    make_models("openai/gpt-4o", "openai/o1", "anthropic/opus")
    acme.key(branch="berlin", user="ada")
    acme.policy(config={"allow": ["*"], "deny": ["o1"]}, name="models")
    acme.policy(config={"allow": ["gpt-*"]}, name="only <b>GPT</b>", app=acme.app(), message="Only GPT here.")
    acme.policy("token_caps", {"max_output_tokens": 4096}, name="caps")
    acme.policy("token_caps", {"max_output_tokens": 8000}, name="user caps", user=acme.user(), priority=3)
    acme.policy("routing", {"aliases": {"smart": "anthropic/opus"}}, name="routes", final=["aliases"])
    acme.policy(
        "budget", {"limits": [{"window": "month", "limit": "10", "alert_at": [0.8], "per": "user"}]}, name="money"
    )
    acme.policy("rate_limit", {"limits": [{"metric": "requests", "window": "1m", "limit": 1000}]}, name="pace")
    acme.policy("storage_access", {"allow": [{"uri": "s3://team/*", "modes": ["read"]}]}, name="files")
    acme.policy("guardrail", {"guardrails": {"pii": {"stages": ["input"], "action": "mask"}}}, name="guard")
    acme.policy("retention", {"min_days": 9, "max_days": 3, "log_bodies": False}, name="hold")
    acme.policy(config={"deny": ["*"]}, name="off", enabled=False)
    acme.policy(config={"deny": ["*"]}, name="other", app=acme.app("other"))
    acme.policy(config={"deny": ["*"]}, name="later", valid_from=datetime(2030, 1, 1, tzinfo=UTC))
    return acme


def ask(client, **asked):
    return client.get(reverse("admin:cp_policies_policy_explain"), asked)


@pytest.mark.parametrize("at", ["0001-01-01 00:00:00+14:00", "9999-12-31T23:59:59.999", "9999-12-31 23:59-12:00"])
@pytest.mark.parametrize("format", ["", "json"])
def test_a_time_that_not_every_zone_can_tell_is_refused_in_words(operator, world, at, format):
    answer = ask(operator, tenant="acme", app="chat", model="gpt-4o", at=at, format=format)

    assert answer.status_code == 422
    assert "2 to 9998" in answer.content.decode()


def refused(answer):
    """What is said at each field of a question that could not be asked."""
    assert answer.status_code == 422
    return {name: " ".join(errors) for name, errors in answer.context["form"].errors.items()}


def test_the_page_begins_with_a_question(operator, acme):
    assert acme.tenant

    answer = ask(operator)

    assert answer.status_code == 200
    assert Page(answer).faults == []
    assert "Who asks, and for what?" in answer.content.decode()


def test_it_says_in_a_sentence_who_refuses_and_what_the_caller_is_told(operator, world):
    page = ask(operator, tenant="acme", app="chat", user="ADA@acme.example", model="smart", at=NOON.isoformat())

    policy = Policy.objects.get(name="only <b>GPT</b>")
    assert Page(page).faults == []
    text = page.content.decode()
    assert "<b>smart (anthropic/opus)</b> is refused: " in text
    assert "only &lt;b&gt;GPT&lt;/b&gt;" in text
    assert reverse("admin:cp_policies_policy_change", args=[policy.pk]) in Page(page).links()
    assert "does not list it" in text
    assert "The caller is told: “Only GPT here.”" in text
    assert "model_not_in_allowlist" in text


def test_it_shows_checks_layers_values_and_what_has_no_part(operator, world):
    page = ask(operator, tenant="acme", app="chat", user="ada@acme.example", model="gpt-4o", at=NOON.isoformat())

    context = page.context
    assert [(row.question, row.passed, row.where) for row in context["checks"]] == [
        ("Is it denied?", True, "all layers"),
        ("Is it on the allow list?", True, "organization"),
        ("Is it on the allow list?", True, "app"),
    ]
    assert [row.words for row in context["layers"]] == ["user", "app", "organization"]
    [caps] = context["values"]["Token caps"]
    assert (caps.field, caps.value) == ("max_output_tokens", "4,096")
    assert "not 8,000 of" in caps.lost[0]
    assert "a stricter value is locked" in caps.lost[0]
    assert dict(context["left_out"]).keys() == {"not valid yet", "switched off", "for another scope"}
    text = page.content.decode()
    assert "$10 a month, for each user; alert at 80%" in text
    assert "1,000 requests in 1m" in text
    assert "What must be kept longer" in text


def test_where_regions_are_restricted_a_question_without_one_is_told_to_name_it(operator, acme):
    make_models("openai/gpt-4o")
    acme.policy("routing", {"regions": ["eu-west-1"]})
    asked = {"tenant": "acme", "model": "gpt-4o"}

    assert "Name its region." in ask(operator, **asked).content.decode()
    assert "Name its region." not in ask(operator, **asked, region="eu-west-1").content.decode()


def test_a_call_of_too_many_tokens_is_refused_by_its_cap(operator, world):
    def told(sent, wanted):
        page = ask(operator, tenant="acme", app="chat", model="gpt-4o", input_tokens=sent, output_tokens=wanted)
        return page.context["record"], page.context["sentence"], page.context["checks"][-1]

    record, sentence, check = told("1000", "5000")

    assert (record["decision"], record["reason"], record["request"]["model_resolved"]) == (
        "deny",
        "token_cap_exceeded",
        "openai/gpt-4o",
    )
    assert {"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 5000}.items() <= record["request"].items()
    assert "caps max_output_tokens at 4,096" in sentence
    assert (check.question, check.passed, check.where) == (
        "Are few enough tokens asked for?",
        False,
        "max_output_tokens",
    )
    assert told("1000", "4096")[0]["decision"] == "allow"
    assert told("1000", "")[0]["decision"] == "allow"


def test_limits_stand_there_with_what_is_used_and_when_they_begin_anew(operator, world):
    world.tenant.time_zone = "Asia/Kolkata"
    world.tenant.save()
    effective = world.effective(app=world.app(), user=world.user())
    settle(reserve(effective, "openai/gpt-4o", Amounts(cost=Decimal(3)), "a"), Amounts(cost=Decimal("2.5")))
    reserve(effective, "openai/gpt-4o", Amounts(cost=Decimal(6)), "b")

    page = ask(operator, tenant="acme", app="chat", user="ada@acme.example", model="gpt-4o")

    money, pace = page.context["limits"]
    assert (money.words, money.whose) == ("$10 a month", "user ada@acme.example")
    assert (money.spent, money.held, money.left, money.part, money.near) == ("$2.50", "$6.00", "$1.50", "85%", True)
    assert "00:00" in money.resets
    assert "18:30:00 UTC" in money.resets
    assert money.url == reverse(
        "admin:cp_policies_limitbucket_change", args=[LimitBucket.objects.get(metric="cost").pk]
    )
    assert pace.words == "1,000 requests in 1m"
    assert page.context["record"]["decision"] == "allow"


def test_a_counter_that_nobody_counted_on_stands_at_zero(operator, world):
    page = ask(operator, tenant="acme", app="chat", model="gpt-4o")

    money, _ = page.context["limits"]
    assert (money.whose, money.spent, money.left, money.url) == ("requests without a user", "$0", "$10.00", "")
    assert not LimitBucket.objects.exists()


def test_what_is_used_up_is_named_with_whose_limit_it_is(operator, world):
    reserve(world.effective(user=world.user()), "openai/gpt-4o", Amounts(cost=Decimal(10)), "all of it")

    page = ask(operator, tenant="acme", user="ada@acme.example", model="gpt-4o")

    record = page.context["record"]
    assert (record["decision"], record["reason"], record["by"]["name"]) == ("deny", "budget_exceeded", "money")
    assert "limits user ada@acme.example to $10 a month, of which $0 is left" in page.context["sentence"]
    assert [row.result for row in page.context["limits"]] == ["fail", "pass"]
    assert ask(operator, tenant="acme", model="gpt-4o").context["record"]["decision"] == "allow"


def test_a_limit_that_cannot_be_read_refuses(operator, world):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = '{\"limits\": 1}' WHERE name = 'money'")

    record = ask(operator, tenant="acme", app="chat", model="gpt-4o").context["record"]

    assert (record["reason"], record["by"]["name"], record["buckets"]) == ("policy_invalid", "money", [])


def test_a_guardrail_that_cannot_be_read_refuses_as_the_gate_does(operator, world):
    rule = world.policy("guardrail", name="privacy")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = '{\"x\": 1}' WHERE id = %s", [rule.pk])

    record = ask(operator, tenant="acme", model="gpt-4o").context["record"]

    assert (record["decision"], record["reason"], record["by"]["name"]) == ("deny", "policy_invalid", "privacy")


def test_the_json_is_the_record_of_the_functions_that_decide(operator, world):
    asked = {"tenant": world.tenant, "app": world.app(), "user": world.user(), "at": NOON}
    effective = Policy.objects.effective(**asked)
    decision = effective.decide_model("o1")
    expected = explain(
        effective,
        decision,
        Policy.objects.left_out(effective),
        standing(effective, decision.record, "openai/gpt-4o", NOON),
    )

    answer = ask(
        operator, tenant="acme", app="chat", user="ada@acme.example", model="o1", at=NOON.isoformat(), format="json"
    )

    record = json.loads(answer.content)
    assert record == json.loads(json.dumps(expected))
    told = json.loads(json.dumps(decision.explain()))
    assert {name for name in told if told[name] != record[name]} == {"skipped", "buckets"}  # of these it tells more
    assert answer.headers["Content-Disposition"] == 'attachment; filename="explain-acme.json"'


def test_the_record_asked_again_gives_the_same_answer(operator, world):
    first = ask(operator, tenant="acme", key=str(world.key().pk), model="o1", region="eu-west-1", format="json").json()

    asked = first["request"] | {"tenant": first["policy_set"]["tenant"], "at": first["at"], "format": "json"}

    assert ask(operator, **asked).json() == first


def test_the_permalink_holds_the_whole_question_and_its_instant(operator, world):
    page = ask(operator, tenant="acme", app="chat", uri="s3://team/x", mode="write")

    asked = {name: values[0] for name, values in parse_qs(urlsplit(page.context["link"]).query).items()}
    assert asked == {
        "tenant": "acme", "app": "chat", "uri": "s3://team/x", "mode": "write", "at": page.context["record"]["at"],
    }  # fmt: skip
    assert ask(operator, **asked).context["record"] == page.context["record"]


@pytest.mark.parametrize(
    "asked",
    [
        {"app": "chat", "branch": "berlin", "user": "ada@acme.example", "model": "smart"},
        {"key": "ci", "model": "gpt-4o", "region": "eu-west-1"},
        {"uri": "s3://team/x", "mode": "delete"},
        {"model": "gpt-4o", "input_tokens": "10", "output_tokens": "5000"},
        {"user": "ada@acme.example"},
    ],
    ids=["scope", "key", "object", "tokens", "no decision"],
)
def test_the_test_to_copy_passes_as_long_as_the_answer_is_the_same(operator, world, asked):
    text = ask(operator, tenant="acme", **asked).context["test"]
    scope = {"Tenant": Tenant, "Policy": Policy, "datetime": datetime}
    exec(compile(text, "copied", "exec"), scope)  # noqa: S102 - it is for people to run
    [test] = [found for name, found in scope.items() if name.startswith("test_")]

    test()

    world.policy(config={"deny": ["*"]})
    Policy.objects.filter(name="caps").update(enabled=False)
    world.policy("storage_access", {"deny": [{"uri": "s3://*", "modes": ["delete"]}]})
    with pytest.raises(AssertionError):
        test()


@pytest.mark.parametrize("by", ["name", "app and name", "prefix", "id"])
def test_a_key_is_named_in_any_way_and_brings_its_scope(operator, world, by):
    key = world.key()
    text = {"name": "CI", "app and name": "chat/ci", "prefix": key.secrets.get().prefix, "id": str(key.pk)}[by]

    page = ask(operator, tenant="acme", key=text, model="gpt-4o")

    assert page.context["record"]["request"].keys() == {"app", "branch", "user", "key", "model", "model_resolved"}
    assert {level: name for level, (name, _) in page.context["names"].items()} == {
        "app": "chat", "branch": "berlin", "user": "ada@acme.example", "key": "ci",
    }  # fmt: skip


def test_a_whole_token_never_stays_in_an_address(operator, world):
    token = APIKey.objects.issue(tenant=world.tenant, app=world.app(), name="leaked").token

    answer = ask(operator, tenant="acme", key=token)

    assert answer.status_code == 302
    assert token.rpartition("_")[2] not in answer.url
    assert operator.get(answer.url).context["names"]["key"][0] == "leaked"


def test_a_name_that_means_several_is_an_error_with_candidates(operator, world):
    for n in range(7):
        Branch.objects.create(tenant=world.tenant, app=world.app(f"app-{n}"), code="same", name="same")
        APIKey.objects.issue(tenant=world.tenant, app=world.app(), name="twin")

    wrong = refused(ask(operator, tenant="acme", branch="same", key="twin"))

    assert wrong["branch"].count("/same") == 5
    assert wrong["key"].count("chat/twin (") == 5
    assert "branch" not in refused(ask(operator, tenant="acme", app="app-1", branch="same", key="twin"))


def test_another_tenants_rows_do_not_exist_here(operator, world, globex):
    theirs = {"app": globex.app(), "branch": globex.branch(), "user": globex.user("eve"), "key": globex.key()}
    short = {
        "app": "globex/chat",
        "branch": "globex/chat/berlin",
        "user": "eve@globex.example",
        "key": "globex/chat/ci",
    }

    for level, row in theirs.items():
        for text in (str(row.pk), short[level]):
            answer = ask(operator, tenant="acme", **{level: text})
            assert refused(answer) == {
                level: refused(ask(operator, tenant="acme", **{level: "nobody"}))[level].replace("nobody", text)
            }
            assert "eve@" not in answer.content.decode().replace(text, "")


def test_parts_that_contradict_each_other_are_said_so(operator, world):
    world.app("other")

    wrong = refused(ask(operator, tenant="acme", app="other", key="ci"))

    assert "(scope_mismatch)" in wrong["__all__"]
    assert "one at a time" in refused(ask(operator, tenant="acme", model="o1", uri="s3://x/y"))["uri"]


def test_nothing_that_is_typed_breaks_it(operator, world):
    whole = {"tenant": "acme", "app": "chat", "user": "ada@acme.example", "model": "o1"}

    for field in FIELDS:
        for text in GARBAGE:
            answer = ask(operator, **(whole | {field: text}))
            assert (field, text, answer.status_code) in {(field, text, code) for code in (200, 302, 422)}
            if answer.status_code != 302 and "json" not in answer.headers["Content-Type"]:
                assert Page(answer).faults == []
    assert ask(operator, tenant="x", format="json").json()["errors"].keys() == {"tenant"}
    assert ask(operator, format="json").status_code == 422


def test_the_audit_row_of_a_denial_leads_to_its_explanation(operator, world):
    subjects = {"tenant": world.tenant, "app": world.app(), "branch": world.branch(), "user": world.user()}
    row = AuditLog.objects.record(
        "gate.denied",
        **subjects,
        api_key=world.key(),
        outcome="denied",
        reason="No.",
        model="o1",
        details={"model": "o1"},
    )
    other = AuditLog.objects.record("tests.event", **subjects, reason="a test")

    def explained(row):
        page = operator.get(reverse("admin:cp_auditing_auditlog_change", args=[row.pk]))
        return [url for url in Page(page).links() if "/explain/" in url and "?" in url]

    [url] = explained(row)
    page = operator.get(url)
    assert explained(other) == []
    assert page.context["record"]["reason"] == "model_denied"
    assert page.context["record"]["request"].keys() == {"app", "branch", "user", "key", "model", "model_resolved"}
    assert page.context["record"]["at"] == row.created_at.isoformat().replace("+00:00", "Z")


def test_a_broken_policy_is_named(operator, world):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = '{\"allow\": 1}' WHERE name = 'models'")

    page = ask(operator, tenant="acme", app="chat", model="gpt-4o")

    assert page.context["record"]["reason"] == "policy_invalid"
    assert "cannot be read" in page.context["sentence"]


def test_without_any_policy_it_says_what_that_means(operator, acme):
    make_models("openai/gpt-4o")

    page = ask(operator, tenant=acme.tenant.slug, model="gpt-4o")

    assert "is allowed: no policy restricts it" in page.content.decode()
    assert "every known model is allowed, storage is not" in page.content.decode()


def test_outsiders_and_owners_are_told_nothing(client, world, django_user_model):
    world.user()
    client.force_login(django_user_model.objects.create_user("outsider@example.com", is_staff=True))
    assert ask(client, tenant="acme", model="o1", format="json").status_code == 403
    client.force_login(User.objects.create_user("owner@acme.example", tenant=world.tenant, role="owner"))

    assert reverse("admin:login") in ask(client, tenant="acme", model="o1").url


def test_it_takes_few_statements_however_many_policies_there_are(operator, world):
    asked = {
        "tenant": "acme",
        "app": "chat",
        "branch": "berlin",
        "user": "ada@acme.example",
        "key": "ci",
        "model": "smart",
    }

    def statements():
        with CaptureQueriesContext(connection) as counted:
            assert ask(operator, **asked).status_code == 200
        return len(counted)

    ask(operator, **asked)
    few = statements()
    for n in range(30):
        world.policy("token_caps", {"max_input_tokens": n}, app=world.app(), user=world.user())

    assert statements() == few <= 15
