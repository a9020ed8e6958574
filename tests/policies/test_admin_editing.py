"""A policy is written in fields, looked at, and only then changed."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.models import AuditLog, InferenceRequest
from policies.models import Policy, PolicyVersion
from policies.schemas import SCHEMAS
from tenants.scope import tenant_scope
from tests.admin_rows import MAKE
from tests.policies.configs import CONFIGS
from tests.policies.pages import Form, press
from tests.policies.world import make_models
from tests.test_admin_pages import check_counts, statements

ADD = "admin:cp_policies_policy_add"
CHANGE = "admin:cp_policies_policy_change"
VERSIONS = "admin:cp_policies_policy_versions"
RESTORE = "admin:cp_policies_policy_restore"


@pytest.fixture
def operator(client, django_user_model):
    user = django_user_model.objects.create_user("operator@example.com", is_staff=True, is_superuser=True)
    client.force_login(user)
    return client


def blank(client, policy_type, tenant="acme"):
    """The form of a new policy."""
    return client.get(reverse(ADD), {"tenant": tenant, "policy_type": policy_type})


def page_of(client, policy):
    return client.get(reverse(CHANGE, args=[policy.pk]))


def applied(client, form_page, reason="a test", **changed):
    """Fill a form in, review it, and apply it."""
    review = press(client, form_page, "_review", **changed)
    assert review.status_code == 200, faults(review)
    return apply(client, review, reason)


def apply(client, review, reason="a test"):
    """Confirm what the review warns of, say why, and apply."""
    return press(
        client, review, "_apply", form="review_form", reason=reason, confirmed=review.context["findings"].digest
    )


def faults(response):
    form = response.context["form"]
    return {name: [str(each) for each in errors] for name, errors in {**form.errors, **form.faults}.items()}


# ---------------------------------------------------------------- new policies


def test_a_new_policy_is_asked_for_tenant_and_type_first(operator, acme):
    assert acme.tenant
    asked = operator.get(reverse(ADD))

    assert asked.status_code == 200
    assert all(f'value="{name}"' in asked.content.decode() for name in SCHEMAS)
    assert b"config" not in asked.content
    assert "Nothing is called" in blank(operator, "budget", tenant="nobody").content.decode()
    assert blank(operator, "x").status_code == 200


def test_a_policy_is_written_in_fields_reviewed_and_then_stored_with_its_reason(operator, acme):
    acme.app()
    limit = {
        "config.limits.0.value.window": "month", "config.limits.0.value.limit": "50.00",
        "config.limits.0.value.per": "user", "config.limits.0.value.alert_at": "0.5, 0.8",
    }  # fmt: skip
    review = press(operator, blank(operator, "budget"), "_review", name="Chat", app="chat", **limit)

    assert not Policy.objects.exists()
    assert review.status_code == 200, faults(review)
    assert "$50.00 a month, for each user" in review.content.decode()
    answer = apply(operator, review, "the new year")

    policy = Policy.objects.get()
    assert answer.url == reverse(CHANGE, args=[policy.pk])
    assert (policy.tenant, policy.app, policy.name) == (acme.tenant, acme.app(), "Chat")
    assert policy.config == {"limits": [{"window": "month", "limit": "50.00", "per": "user", "alert_at": [0.5, 0.8]}]}
    assert PolicyVersion.objects.get().reason == "the new year"
    assert "operator@example.com" in AuditLog.objects.get(resource_id=str(policy.pk)).actor_label


def test_a_new_policy_begins_with_the_scope_of_its_address(operator, acme):
    acme.app()

    page = operator.get(reverse(ADD), {"tenant": "acme", "policy_type": "budget", "app": "chat"})

    assert Form(page).sent["app"] == ["chat"]


def test_a_new_policy_that_is_sent_twice_is_made_once(operator, acme, globex):
    assert acme.tenant
    foreign = globex.policy()
    review = press(operator, blank(operator, "budget"), "_review", name="Once")

    first, second = (apply(operator, review) for _ in range(2))

    assert first.url == second.url == reverse(CHANGE, args=[Policy.objects.get(name="Once").pk])
    for id in (str(foreign.pk), "x", "\x00", str(UUID(int=0)), str(uuid4())):
        review = press(operator, blank(operator, "budget"), "_review", id=id)
        assert apply(operator, review).status_code == 302
    assert Policy.objects.get(pk=foreign.pk).version == 1
    assert Policy.objects.filter(tenant=acme.tenant).count() == 6


@pytest.mark.parametrize("policy_type", SCHEMAS)
def test_a_form_left_empty_says_nothing(operator, acme, policy_type):
    assert acme.tenant

    applied(operator, blank(operator, policy_type))

    assert Policy.objects.get().config == {}


# ---------------------------------------------------------------- what is stored comes back


@given(data=st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("policy_type", SCHEMAS)
def test_a_page_sent_back_untouched_changes_nothing(operator, acme, policy_type, data):
    config = data.draw(CONFIGS[policy_type])
    policy = acme.policy(policy_type)
    Policy._base_manager.filter(pk=policy.pk)._update([(Policy._meta.get_field("config"), None, config)])

    review = press(operator, page_of(operator, policy), "_preview")

    form = review.context["form"]
    stored = Policy.objects.get(pk=policy.pk).config  # as jsonb has it: large floats are whole numbers there
    assert json.dumps(form.instance.config, sort_keys=True) == json.dumps(stored, sort_keys=True)


def test_everything_beside_the_config_comes_back_too(operator, acme):
    scope = {"app": acme.app(), "branch": acme.branch(), "user": acme.user(), "key": acme.key()}
    policy = acme.policy(
        "token_caps", {"max_input_tokens": 0, "on_exceed": None}, **scope, priority=-3, enabled=False,
        overridable=["max_input_tokens"], final=["default_max_output_tokens"], name="Caps", description="two\r\nlines",
        message="Ask Ada.", valid_from="2026-01-01T10:00:00.123456Z", valid_until="2027-01-01T00:00:00Z",
        schedule={"tz": "Europe/Berlin", "days": ["tue", "mon"], "start": "22:00", "end": "06:00"},
    )  # fmt: skip
    before = Policy.objects.get(pk=policy.pk)

    answer = applied(operator, page_of(operator, policy))

    assert answer.status_code == 302
    after = Policy.objects.get(pk=policy.pk)
    assert after.as_record() == before.as_record()


def test_zero_false_an_empty_list_and_nothing_are_four_things(operator, acme):
    caps = acme.policy("token_caps", {"max_input_tokens": 0})
    access = acme.policy("model_access", {"allow": []})
    keep = acme.policy("retention", {"log_bodies": False})

    applied(operator, page_of(operator, caps), **{"config.max_input_tokens": "", "config.max_output_tokens": "0"})
    applied(operator, page_of(operator, access), **{"config.allow.empty": None, "config.deny.empty": "on"})
    applied(operator, page_of(operator, keep), **{"config.log_bodies": "", "config.redact_pii": "false"})

    configs = [Policy.objects.get(pk=policy.pk).config for policy in (caps, access, keep)]
    assert configs == [{"max_output_tokens": 0}, {"deny": []}, {"redact_pii": False}]


def test_a_field_is_opened_or_locked_beside_its_input(operator, acme):
    policy = acme.policy("token_caps", {"max_input_tokens": 5})

    flags = {"overridable": ["max_input_tokens"], "final": ["default_max_output_tokens"]}
    applied(operator, page_of(operator, policy), **flags)

    policy.refresh_from_db()
    assert (policy.overridable, policy.final) == (["max_input_tokens"], ["default_max_output_tokens"])


# ---------------------------------------------------------------- rows and JSON


def test_rows_are_added_and_removed_without_script(operator, acme):
    policy = acme.policy("budget", {"limits": [{"window": "day", "limit": "1"}, {"window": "month", "limit": "2"}]})
    more = press(operator, page_of(operator, policy), "_add", "config.limits")
    assert Form(more).sent["config.limits.rows"] == ["6"]

    rows = {
        "config.limits.5.value.window": "total",
        "config.limits.5.value.limit": "3",
        "config.limits.0.removed": "on",
    }
    applied(operator, more, **rows)

    policy.refresh_from_db()
    assert policy.config == {"limits": [{"window": "month", "limit": "2"}, {"window": "total", "limit": "3"}]}


def test_a_config_is_edited_as_json_and_as_fields_again(operator, acme):
    policy = acme.policy("budget", {"limits": [{"window": "day", "limit": "1"}]})
    typed = {"config.limits.0.value.limit": "7"}
    as_json = press(operator, page_of(operator, policy), "_as", "json", **typed)
    assert json.loads(Form(as_json).sent["config"][0]) == {"limits": [{"window": "day", "limit": "7"}]}

    config = '{"limits": [{"window": "day", "limit": "8", "currency": "USD"}]}'
    as_fields = press(operator, as_json, "_as", "fields", config=config)
    assert Form(as_fields).sent["config.limits.0.value.limit"] == ["8"]
    applied(operator, as_fields)

    policy.refresh_from_db()
    assert policy.config == json.loads(config)


def test_json_that_does_not_fit_stays_json_and_says_why(operator, acme):
    policy = acme.policy("budget")
    as_json = press(operator, page_of(operator, policy), "_as", "json")

    for config, words in (("{", "JSON"), ('{"limit": 1}', "limit: There is no such field"), ("[1, 2]", "JSON object")):
        for button, value in (("_as", "fields"), ("_review", "1")):
            answer = press(operator, as_json, button, value, config=config)
            assert Form(answer).sent["config"] == [config]
            assert words in " ".join(faults(answer)["config"])


def test_a_stored_config_that_is_broken_is_shown_as_json(operator, acme):
    policy = acme.policy("budget")
    Policy._base_manager.filter(pk=policy.pk)._update([(Policy._meta.get_field("config"), None, {"limits": 5})])

    page = page_of(operator, policy)

    assert json.loads(Form(page).sent["config"][0]) == {"limits": 5}


def test_a_long_list_is_edited_as_json(operator, acme):
    rules = [{"uri": f"s3://b/{n}", "modes": ["list", "read", "write", "delete"]} for n in range(128)]
    policy = acme.policy("storage_access", {"allow": rules, "deny": rules})

    sent = Form(page_of(operator, policy)).sent

    assert json.loads(sent["config"][0])["deny"] == rules


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("policy_type", "typed", "place", "words"),
    [
        ("budget", {"config.limits.0.value.limit": "1e3"}, "config.limits.0.value.limit", "Write US dollars"),
        ("budget", {"config.limits.0.value.limit": "5"}, "config.limits.0.value.window", "This field is needed"),
        (
            "budget",
            {"config.limits.0.value.limit": "5", "config.limits.0.value.window": "day", "config.limits.0.value.anchor": "2"},
            "config.limits.0.value", "Only a week or a month",
        ),
        ("token_caps", {"config.max_input_tokens": "many"}, "config.max_input_tokens", "integer"),
        ("token_caps", {"config.max_input_tokens": "9" * 400}, "config.max_input_tokens", "integer"),
        ("token_caps", {"config.on_exceed": "x"}, "config.on_exceed", "clamp"),
        ("model_access", {"config.allow": "gpt-4o\r\ngpt 5"}, "config.allow", "gpt 5: Write a model pattern"),
        ("model_access", {"config.allow": "a\r\nA"}, "config.allow", "once only"),
        ("model_access", {"config.allow": "a", "config.allow.empty": "on"}, "config.allow", "Untick it"),
        ("guardrail", {"config.guardrails.0.key": "pii"}, "config.guardrails.0.value.stages", "This field is needed"),
        ("guardrail", {"config.guardrails.0.value.stages": "input"}, "config.guardrails.0.key", "Give it a name"),
        (
            "guardrail",
            {"config.guardrails.0.key": "Not So", "config.guardrails.0.value.stages": "input"},
            "config.guardrails.0.key", "begins with a lower-case letter",
        ),
        (
            "guardrail",
            {"config.guardrails.0.key": "pii", "config.guardrails.0.value.config": "{"},
            "config.guardrails.0.value.config", "JSON",
        ),
        ("routing", {"config.targets": "openai/gone"}, "config.targets", "openai/gone: there is no model"),
        (
            "routing",
            {"config.aliases.0.key": "a.b", "config.aliases.0.value": "x/gone"},
            "config.aliases.0.value", "there is no model",
        ),
        ("storage_access", {"config.deny.0.value.uri": "s3:/b"}, "config.deny.0.value.uri", "Write an address"),
        ("retention", {"schedule.tz": "Mars/Base"}, "schedule.tz", "Not an IANA time zone"),
        ("retention", {"schedule.start": "09:00"}, "schedule.days", "This field is needed"),
        ("retention", {"final": "max_days"}, "config", "strict already"),
        ("retention", {"branch": "berlin"}, "branch", "A branch needs its app"),
        ("retention", {"priority": "x"}, "priority", "whole number"),
        ("retention", {"valid_from": "2026-02-01T00:00", "valid_until": "2026-01-01T00:00"}, "valid_until", "ends before"),
    ],
)  # fmt: skip
def test_a_fault_is_shown_at_its_input_and_nothing_is_stored(operator, acme, policy_type, typed, place, words):
    acme.branch()

    answer = press(operator, blank(operator, policy_type), "_review", **typed)

    assert answer.status_code == 422
    assert words in " ".join(faults(answer)[place]), faults(answer)
    assert words in answer.content.decode().replace("&#x27;", "'").replace("&quot;", '"')
    kept = Form(answer).sent
    assert [kept[name] for name, text in typed.items() if kept.get(name, [""]) not in ([""], [text])] == []
    assert not Policy.objects.exists()


GARBAGE = ["\x00", "9" * 400, '{"a": NaN}', "[" * 3000, "-1 😀"]


@pytest.mark.parametrize("policy_type", ["budget", "guardrail", "routing"])
def test_no_answer_of_a_program_breaks_the_page(operator, acme, policy_type):
    names = Form(blank(operator, policy_type)).sent
    names = [*names, *(f"{name}.was" for name in names), "draft", "as", "config", "restored", "config.limits.rows"]
    policy = acme.policy(policy_type)
    new, stored = f"{reverse(ADD)}?tenant=acme&policy_type={policy_type}", reverse(CHANGE, args=[policy.pk])

    for text in GARBAGE:
        whole = dict.fromkeys(names, text)
        answers = [operator.post(new, whole | {"draft": text, "_apply": text})]
        del whole["draft"]
        answers += [
            operator.post(new, whole | {"_review": text}),
            operator.post(stored, whole | {"_as": text}),
            operator.post(new, whole | {"_add": text}),
            operator.post(stored, {"as": "json", "config": text, "_apply": "1", "reason": ""}),
            operator.post(
                stored, {"draft": json.dumps({"name": [text, None], "config": 5, "as": [["json"]]}), "_edit": "1"}
            ),
        ]
        assert {answer.status_code for answer in answers} <= {200, 422}, text
    policy.refresh_from_db()
    assert policy.version == 1


# ---------------------------------------------------------------- the second step


def test_a_reason_is_required_and_the_draft_is_kept(operator, acme):
    policy = acme.policy("retention", {"max_days": 30})
    review = press(operator, page_of(operator, policy), "_review", **{"config.max_days": "7"})

    refused = press(operator, review, "_apply", form="review_form", reason=" \r\n")
    assert refused.status_code == 422
    assert "Say why" in refused.content.decode()
    policy.refresh_from_db()
    assert policy.config == {"max_days": 30}
    back = press(operator, refused, "_edit", form="review_form")
    assert Form(back).sent["config.max_days"] == ["7"]


def test_the_review_says_what_differs_and_what_comes_of_it(operator, acme):
    house = acme.policy("token_caps", {"max_output_tokens": 4000}, name="House")
    policy = acme.policy("token_caps", {"max_output_tokens": 3000}, app=acme.app(), name="Chat")

    review = press(operator, page_of(operator, policy), "_review", **{"config.max_output_tokens": "9000"})

    assert [(each.path, each.before, each.after) for each in review.context["differences"]] == [
        ("config.max_output_tokens", "3,000", "9,000")
    ]
    (field,) = review.context["preview"].fields
    assert [(line.state, line.value) for line in field.lines] == [("removed", "3,000"), ("added", "4,000")]
    assert str(house.pk) in str(field.lines[1].sources)


def test_a_policy_that_somebody_changed_meanwhile_is_not_overwritten(operator, acme):
    policy = acme.policy("retention", {"max_days": 30})
    form_page = page_of(operator, policy)
    review = press(operator, form_page, "_review", **{"config.max_days": "7"})
    theirs = Policy.objects.get(pk=policy.pk)
    theirs.config = {"max_days": 90}
    theirs.save()

    for late in (
        press(operator, form_page, "_review", **{"config.max_days": "7"}),
        press(operator, review, "_apply", form="review_form", reason="late"),
    ):
        assert late.status_code == 422
        text = late.content.decode()
        assert "Somebody has changed this policy meanwhile" in text
        assert [(each.path, each.before, each.after) for each in late.context["theirs"]] == [
            ("config.max_days", "30", "90")
        ]
        assert [(each.path, each.before, each.after) for each in late.context["yours"]] == [
            ("config.max_days", "90", "7")
        ]
        assert Form(late).sent["config.max_days"] == ["7"]
        policy.refresh_from_db()
        assert policy.config == {"max_days": 90}
    applied(operator, late, reason="over theirs")
    policy.refresh_from_db()
    assert (policy.config, policy.version) == ({"max_days": 7}, 3)


def test_preview_shows_what_holds_with_the_draft_and_stores_nothing(operator, acme):
    acme.policy("model_access", {"allow": ["openai/*"]}, name="House")
    policy = acme.policy("model_access", {"allow": ["openai/gpt-4o"]}, user=acme.user())

    page = press(operator, page_of(operator, policy), "_preview", **{"config.allow": "openai/gpt-5"})

    assert page.status_code == 200
    assert [line.state for line in page.context["preview"].fields[0].lines] == ["removed", "kept", "added"]
    policy.refresh_from_db()
    assert policy.version == 1


def test_preview_of_a_policy_that_is_off_or_out_of_time_says_so(operator, acme):
    policy = acme.policy("retention", {"max_days": 7}, valid_until="2020-01-01T00:00:00Z")

    off = press(operator, page_of(operator, policy), "_preview", enabled=None)
    over = press(operator, page_of(operator, policy), "_preview")

    assert "switched off" in off.context["preview"].note
    assert off.context["preview"].fields == []
    assert "Its time is over" in over.context["preview"].note
    assert len(over.context["preview"].fields) == 1


# ---------------------------------------------------------------- history


def test_two_versions_are_compared_and_an_old_one_is_put_back(operator, acme):
    make_models("openai/gpt-4o")
    policy = acme.policy("retention", {"max_days": 30}, name="Keep")
    for days, reason in (("7", "less"), ("90", "more")):
        applied(operator, page_of(operator, policy), reason=reason, **{"config.max_days": days})

    page = operator.get(reverse(VERSIONS, args=[policy.pk]), {"old": 1, "new": 3})
    assert [(each.before, each.after) for each in page.context["differences"]] == [("30", "90")]
    assert [(row["version"], row["reason"]) for row in page.context["rows"]] == [(3, "more"), (2, "less"), (1, "")]

    review = operator.get(reverse(RESTORE, args=[policy.pk]), {"version": 2})
    assert [(each.before, each.after) for each in review.context["differences"]] == [("90", "7")]
    apply(operator, review, "less was right")

    policy.refresh_from_db()
    assert (policy.config, policy.version) == ({"max_days": 7}, 4)
    assert PolicyVersion.objects.for_policy(policy)[0].reason == "less was right"


def test_an_old_version_may_be_corrected_before_it_is_put_back(operator, acme):
    policy = acme.policy("retention", {"max_days": 30, "redact_pii": True})
    applied(operator, page_of(operator, policy), **{"config.max_days": "7", "config.redact_pii": ""})

    review = operator.get(reverse(RESTORE, args=[policy.pk]), {"version": 1})
    form_page = press(operator, review, "_edit", form="review_form")
    applied(operator, form_page, reason="partly", **{"config.max_days": "14"})

    policy.refresh_from_db()
    assert policy.config == {"max_days": 14, "redact_pii": True}


def test_an_old_version_that_no_longer_fits_is_not_put_back(operator, acme):
    policy = acme.policy("retention", {"max_days": 30})
    applied(operator, page_of(operator, policy), **{"config.max_days": "7"})
    review = operator.get(reverse(RESTORE, args=[policy.pk]), {"version": 1})
    policy.refresh_from_db()
    policy.priority = 5
    policy.save()

    late = apply(operator, review)
    forged = press(
        operator, page_of(operator, policy), "_apply", reason="x", restored="77", version=str(policy.version)
    )

    assert (late.status_code, forged.status_code) == (422, 422)
    policy.refresh_from_db()
    assert (policy.config, policy.version) == ({"max_days": 7}, 3)


def test_a_version_that_is_none_leads_back_to_the_history(operator, acme):
    policy = acme.policy("retention")

    for version in ("", "1", "2", "x", "9" * 30, "\x00"):
        answer = operator.get(reverse(RESTORE, args=[policy.pk]), {"version": version})
        assert answer.url == reverse(VERSIONS, args=[policy.pk])
        assert (
            operator.get(
                reverse(VERSIONS, args=[policy.pk]), {"old": version, "new": "1", "before": version}
            ).status_code
            == 200
        )


# ---------------------------------------------------------------- whose


def test_an_object_of_another_tenant_is_as_if_it_were_not(operator, acme, globex):
    assert acme.tenant
    others = {"app": globex.app(), "user": globex.user(), "key": globex.key(), "branch": globex.branch()}
    unknown = {name: [str(uuid4())] for name in others}
    foreign = {name: [str(row.pk)] for name, row in others.items()}

    answers = [press(operator, blank(operator, "budget"), "_review", **given) for given in (unknown, foreign)]

    assert answers[0].status_code == answers[1].status_code == 422
    told = [
        {name: faults(answer)[name][0].replace(given[name][0], "") for name in others}
        for answer, given in zip(answers, (unknown, foreign), strict=True)
    ]
    assert told[0] == told[1]
    assert "globex" not in answers[1].content.decode()
    assert "globex" not in blank(operator, "budget").content.decode()


def ask(user, url, data=None):
    """The answer to somebody whose requests run inside a tenant scope."""
    request = RequestFactory().get(url) if data is None else RequestFactory().post(url, data)
    request.user, request._dont_enforce_csrf_checks = user, True
    view, arguments, named = resolve(request.path)
    answer = view(request, *arguments, **named)
    return answer.render() if hasattr(answer, "render") else answer


def test_in_a_tenant_scope_one_reads_its_own_policies_and_writes_none(acme, globex, django_user_model):
    user = django_user_model.objects.create_user("operator@example.com", is_staff=True, is_superuser=True)
    own, foreign = acme.policy("retention", name="own keep"), globex.policy("retention", name="foreign keep")
    urls = {policy: [reverse(name, args=[policy.pk]) for name in (CHANGE, VERSIONS)] for policy in (own, foreign)}
    ContentType.objects.get_for_model(Policy)  # which processes keep

    with tenant_scope(acme.tenant):
        listed = ask(user, reverse("admin:cp_policies_policy_changelist")).content.decode()
        assert "own keep" in listed
        assert "foreign keep" not in listed
        for url in urls[own]:
            page = ask(user, url).content.decode()
            assert "own keep" in page
            assert 'name="_review"' not in page
            assert 'name="_save"' not in page
            assert "/restore/" not in page
        for url in urls[foreign]:
            with pytest.raises(Http404):
                ask(user, url)
        for url in (urls[own][0], urls[foreign][0], f"{reverse(ADD)}?tenant=acme&policy_type=budget"):
            with pytest.raises(PermissionDenied):
                ask(user, url, {"name": "changed", "_review": "1"})
        with pytest.raises(PermissionDenied):
            ask(user, f"{reverse(RESTORE, args=[own.pk])}?version=1")


# ---------------------------------------------------------------- what is odd, and what would have been


def test_a_warning_needs_a_tick(operator, acme):
    assert acme.tenant
    make_models("openai/gpt-4", "openai/gpt-4o")
    form_page = press(operator, blank(operator, "model_access"), "_review", **{"config.allow": "openai/gpt-4*"})
    assert form_page.context["findings"].warnings

    refused = press(operator, form_page, "_apply", form="review_form", reason="both are meant")
    assert refused.status_code == 422
    assert "Tick that you have read the warnings" in refused.content.decode()
    assert not Policy.objects.exists()
    stale_tick = press(operator, refused, "_apply", form="review_form", reason="both are meant", confirmed="x")
    assert stale_tick.status_code == 422
    tick = refused.context["findings"].digest
    press(operator, refused, "_apply", form="review_form", reason="both are meant", confirmed=tick)

    assert Policy.objects.get().config == {"allow": ["openai/gpt-4*"]}


def test_an_error_blocks_the_change(operator, acme):
    acme.policy("retention", {"min_days": 90})

    review = press(operator, blank(operator, "retention"), "_review", **{"config.max_days": "30"})
    assert review.context["findings"].errors
    assert 'name="_apply"' not in review.content.decode()
    refused = press(operator, review, "_apply", form="review_form", reason="anyway")

    assert refused.status_code == 422
    assert "This cannot work as written" in refused.content.decode()
    assert Policy.objects.count() == 1


def test_the_review_says_what_would_have_become_of_recent_requests(operator, acme):
    make_models("openai/gpt-4o")
    for n in range(3):
        MAKE[InferenceRequest](acme, n)
    review = press(operator, blank(operator, "model_access"), "_review", **{"config.deny": "openai/gpt-4o"})

    result = review.context["weighed"].result

    assert (result.requests, result.newly_denied, result.newly_allowed) == (3, 3, 0)
    assert "model denied" in review.content.decode()


# ---------------------------------------------------------------- statements


def posted(client, page, button):
    with CaptureQueriesContext(connection) as counted:
        press(client, page, button)
    return sum(not each["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT", "SET ")) for each in counted)


def test_the_pages_of_a_policy_take_as_many_statements_for_many_as_for_few(operator, acme, request):
    make_models("openai/gpt-4o")
    policy = acme.policy("model_access", {"allow": ["openai/*"]}, app=acme.app(), user=acme.user())

    def seen():
        page = page_of(operator, policy)
        return {
            "policy:versions": statements(operator, reverse(VERSIONS, args=[policy.pk])),
            "policy:preview": posted(operator, page, "_preview"),
            "policy:review": posted(operator, page, "_review"),
        }

    for n in range(3):
        MAKE[InferenceRequest](acme, n)
        acme.policy("token_caps", {"max_input_tokens": n}, priority=n)
        policy.save()
    seen()
    few = seen()
    for n in range(3, 33):
        acme.policy("token_caps", {"max_input_tokens": n}, priority=n)
        policy.priority = n + 1
        policy.save()
        MAKE[InferenceRequest](acme, n)

    assert seen() == few
    check_counts(request.config, few)


def test_who_may_only_look_is_led_to_the_versions(client, acme, django_user_model):
    user = django_user_model.objects.create_user("auditor@example.com", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_policy"))
    client.force_login(user)
    policy = acme.policy("retention", {"max_days": 3})

    page = page_of(client, policy).content.decode()
    versions = client.get(reverse(VERSIONS, args=[policy.pk]))

    assert reverse(VERSIONS, args=[policy.pk]) in page
    assert 'name="_review"' not in page
    assert versions.status_code == 200
    assert "/restore/" not in versions.content.decode()
    assert client.post(reverse(CHANGE, args=[policy.pk]), {"_review": "1"}).status_code == 403
    assert client.get(reverse(RESTORE, args=[policy.pk]), {"version": 1}).status_code == 403
    assert client.get(reverse(ADD)).status_code == 403


@pytest.mark.parametrize("name", ["name", "app", "key", "message", "valid_from", "\ud800"])
def test_halves_of_characters_in_a_draft_are_no_error_of_the_page(operator, acme, name):
    policy = acme.policy("token_caps", {"max_output_tokens": 5}, name="caps")
    page = Form(page_of(operator, policy))
    draft = json.dumps(page.sent | {name: ["\ud800"]})

    for button in ("_review", "_apply", "_edit"):
        answer = operator.post(page.action, {"draft": draft, "reason": "x", button: "1"})
        assert answer.status_code in (200, 302, 422)


@pytest.mark.parametrize("name", ["valid_from", "valid_until"])
@pytest.mark.parametrize("typed", ["0001-01-01 00:00:00+14:00", "9999-12-31 23:59-12:00", "9999-12-31T23:59:59.999"])
def test_a_time_that_not_every_zone_can_tell_stays_as_it_was_typed(operator, acme, name, typed):
    policy = acme.policy("token_caps", {"max_output_tokens": 5}, name="caps")

    answer = press(operator, page_of(operator, policy), "_preview", **{name: typed})

    assert answer.status_code == 422
    assert "2 to 9998" in answer.content.decode()
    assert Form(answer).sent[name] == [typed]
