"""The page that tries a change of policies on requests: what it says, what it refuses, and that it stores nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing.models import InferenceRequest
from controlplane.core.ids import now
from policies.models import Policy, PolicyVersion
from tenants.models import Tenant
from tests.admin_rows import Page
from tests.policies.world import make_models

GARBAGE = [
    "'\"><script>", "\x00", "%", "a" * 5000, "日本 😀", "1e400", "  ", str(uuid4()), "-1", "[]", "{",
    '{"allow": 1}', "null", "NaN",
]  # fmt: skip
FIELDS = ("tenant", "policy", "policy_type", "app", "branch", "user", "key", "config", "enabled", "requests", "lines")


@pytest.fixture
def operator(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("operator@example.com"))
    return client


@pytest.fixture
def world(acme):
    make_models("openai/gpt-4o", "openai/o1", "anthropic/opus")
    acme.app()
    acme.user()
    acme.policy(config={"deny": ["o1"]}, name="models")
    return acme


def recorded(world, models, **fields):
    rows = [
        {
            "request_id": f"{world.slug}-{n}", "created_at": now() - timedelta(minutes=n + 1), "tenant_id": world.tenant.pk,
            "app_id": world.app().pk, "user_id": world.user().pk, "provider": model.split("/")[0], "model": model,
            "prompt_tokens": 100, "completion_tokens": 10, **fields,
        }
        for n, model in enumerate(models)
    ]  # fmt: skip
    InferenceRequest.objects.ingest(rows)


def draft(**changes):
    """The form as a browser sends it."""
    filled = {"tenant": "acme", "policy": "models", "config": '{"deny": ["gpt-*"]}', "enabled": "on", "requests": "24h"}
    return {name: value for name, value in (filled | changes).items() if value is not None}


def run(client, **changes):
    return client.post(reverse("admin:cp_policies_policy_simulate"), draft(**changes))


def refused(answer):
    assert answer.status_code == 422
    return {name: " ".join(errors) for name, errors in answer.context["form"].errors.items()}


def where_it_is_noon():
    """A zone in which the day began hours ago, whenever the test runs."""
    return f"Etc/GMT{now().hour - 12:+d}" if now().hour != 12 else "Etc/GMT"


def test_the_page_begins_with_the_policy_as_it_is(operator, world):
    page = operator.get(
        reverse("admin:cp_policies_policy_simulate"), {"tenant": "acme", "policy": Policy.objects.get().pk}
    )

    assert (page.status_code, Page(page).faults) == (200, [])
    form = page.context["form"]
    assert (form["policy"].value(), form["config"].value()) == ("models", json.dumps({"deny": ["o1"]}, indent=2))
    assert form["enabled"].value() is True


def test_a_policy_is_loaded_without_script(operator, world):
    page = run(operator, _load="Load", config="{}")

    assert page.context["form"]["config"].value() == json.dumps({"deny": ["o1"]}, indent=2)
    assert "found" not in page.context


def test_recorded_requests_say_who_would_be_denied_and_allowed(operator, world):
    recorded(world, ["openai/gpt-4o", "openai/gpt-4o", "openai/o1", "anthropic/opus"])

    page = run(operator)

    found = page.context["found"]
    text = page.content.decode()
    assert Page(page).faults == []
    assert (found.newly_denied, found.newly_allowed, found.still_allowed, found.requests) == (2, 1, 1, 4)
    assert [(label, figure) for label, figure, _, _ in page.context["cards"]][:2] == [
        ("Newly denied", "2"), ("Newly allowed", "1"),
    ]  # fmt: skip
    assert [level for level, _ in page.context["groups"]] == ["app", "user", "model"]
    [[app], [user]] = [rows for level, rows in page.context["groups"] if level != "model"]
    assert (app.name, user.name, app.counts) == ("chat", "ada@acme.example", ("2", "1", "4"))
    assert "model denied by" in text
    assert "<code" in text


def test_each_example_leads_to_the_explainer(operator, world):
    recorded(world, ["openai/gpt-4o"])

    [example] = run(operator).context["examples"]

    page = operator.get(example.url)
    assert page.context["record"]["decision"] == "allow"
    assert {"model": "openai/gpt-4o", "input_tokens": 100}.items() <= page.context["record"]["request"].items()


def test_typed_requests_are_asked_too(operator, world):
    lines = "chat, ADA@acme.example, gpt-4o, 1200, 300\n\nchat,, opus\n,,o1"

    page = run(operator, requests="typed", lines=lines, config='{"deny": ["opus"]}')

    found = page.context["found"]
    assert (found.newly_denied, found.newly_allowed, found.still_allowed) == (1, 1, 1)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "Type 1 to 1,000 requests"),
        ("chat,,o1\n" * 1001, "Type 1 to 1,000 requests"),
        ("x,,o1", "Line 1: there is no app 'x' here"),
        ("chat,,o1\nchat, eve@globex.example, o1", "Line 2: there is no user 'eve@globex.example' here"),
        ("chat, ada@acme.example", "Line 1: name a model"),
        ("chat,, o1, many", "Line 1: 'many' is no number of tokens"),
        ("chat,, o1, 1, 2, 3", "Line 1: write at most"),
    ],
)
def test_a_line_that_is_no_request_is_named(operator, world, globex, lines, words):
    globex.user("eve")

    assert words in refused(run(operator, requests="typed", lines=lines))["lines"]


def test_a_new_policy_and_a_disabled_one_are_tried_as_well(operator, world):
    typed = {"requests": "typed", "lines": "chat,,opus\n,,opus\n,,o1"}

    new = run(operator, policy="", policy_type="model_access", app="chat", config='{"allow": ["openai/*"]}', **typed)
    off = run(operator, enabled=None, config='{"deny": ["o1"]}', **typed)

    assert (new.context["found"].newly_denied, new.context["found"].newly_allowed) == (1, 0)
    assert (off.context["found"].newly_denied, off.context["found"].newly_allowed) == (0, 1)


def test_a_limit_that_begins_before_the_sample_is_partial_and_a_new_counter_is_told(operator, world):
    Tenant.objects.filter(pk=world.tenant.pk).update(time_zone=where_it_is_noon())
    recorded(world, ["openai/gpt-4o"])
    config = {"limits": [{"metric": "requests", "window": "1d", "limit": 1}]}

    page = run(operator, policy="", policy_type="rate_limit", config=json.dumps(config), requests="1h")

    assert page.context["found"].started
    assert "These counters would be new" in page.content.decode()
    assert "Partial:" in page.content.decode()


def test_what_was_tried_is_published_in_the_review_of_the_change(operator, world):
    publish = run(operator, requests="typed", lines=",,gpt-4o").context["publish"]

    review = operator.post(publish["url"], {"draft": publish["draft"], "_review": "Publish"})

    assert review.status_code == 200
    applied = operator.post(
        publish["url"], {"draft": review.context["draft"], "reason": "it was tried", "_apply": "Apply"}
    )
    assert applied.status_code == 302
    policy = Policy.objects.get()
    assert (policy.config, policy.version, policy.name) == ({"deny": ["gpt-*"]}, 2, "models")


def test_a_new_policy_is_published_with_its_scope(operator, world):
    new = {"policy": "", "policy_type": "model_access", "app": "chat", "config": '{"allow": ["openai/*"]}'}
    publish = run(operator, requests="typed", lines=",,gpt-4o", **new).context["publish"]

    operator.post(publish["url"], {"draft": publish["draft"], "reason": "it was tried", "_apply": "Apply"})

    policy = Policy.objects.latest("id")
    assert (policy.app, policy.config, policy.enabled) == (world.app(), {"allow": ["openai/*"]}, True)


def test_what_somebody_changed_meanwhile_is_not_lost_by_publishing(operator, world):
    publish = run(operator, requests="typed", lines=",,gpt-4o").context["publish"]
    policy = Policy.objects.get()
    policy.priority = 5
    policy.save()

    review = operator.post(publish["url"], {"draft": publish["draft"], "_review": "Publish"})

    assert review.status_code == 422
    assert review.context["stale"]


def test_nothing_is_stored(operator, world):
    recorded(world, ["openai/gpt-4o"])
    before = list(Policy.objects.values()), PolicyVersion.objects.count()

    assert run(operator).status_code == 200

    assert (list(Policy.objects.values()), PolicyVersion.objects.count()) == before


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"config": '{"allow": 1}'}, "config", "allow: Write a JSON list"),
        ({"config": "{"}, "config", "valid JSON"),
        ({"config": "[]"}, "config", "Write a JSON object"),
        ({"policy": ""}, "policy", "Name a policy to change"),
        ({"policy": "nobody"}, "policy", "Nothing is called"),
        ({"tenant": "nobody"}, "tenant", "Nothing is called"),
        ({"requests": "9y"}, "requests", "valid choice"),
    ],
)
def test_what_cannot_be_saved_cannot_be_tried(operator, world, changes, field, words):
    assert words in refused(run(operator, **changes))[field]


def test_another_tenants_policy_and_scope_do_not_exist_here(operator, world, globex):
    theirs = globex.policy(name="theirs", config={"deny": ["secret-model"]})
    url = reverse("admin:cp_policies_policy_simulate")

    for text in (str(theirs.pk), "theirs"):
        answer = run(operator, policy=text)
        assert "Nothing is called" in refused(answer)["policy"]
        assert "secret-model" not in answer.content.decode()
        begun = operator.get(url, {"tenant": "acme", "policy": text})
        assert "secret-model" not in begun.content.decode()
    scoped = run(operator, policy="", policy_type="budget", config="{}", app=str(globex.app().pk))
    assert "Nothing is called" in refused(scoped)["app"]


def test_nothing_that_is_typed_breaks_it(operator, world):
    for field in FIELDS:
        for text in GARBAGE:
            answer = run(operator, **({"requests": "typed", "lines": "chat,,o1"} | {field: text}))
            assert (field, text, answer.status_code) in {(field, text, code) for code in (200, 422)}
            begun = operator.get(
                reverse("admin:cp_policies_policy_simulate"), {"tenant": "acme", field: text}, follow=True
            )
            assert (field, text, begun.status_code) == (field, text, 200)


def test_who_may_not_see_requests_types_them(client, world, django_user_model):
    clerk = django_user_model.objects.create_user("clerk@example.com", is_staff=True)
    client.force_login(clerk)
    assert run(client).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_policy"))

    assert "may not see requests" in refused(run(client))["requests"]
    page = run(client, requests="typed", lines="chat,,gpt-4o")
    assert (page.context["found"].newly_denied, page.context["publish"]) == (1, {})


def test_a_hundred_requests_take_few_statements(operator, world):
    recorded(world, ["openai/gpt-4o", "anthropic/opus"] * 50)
    run(operator)

    with CaptureQueriesContext(connection) as counted:
        assert run(operator).status_code == 200

    asked = [each["sql"] for each in counted if not each["sql"].startswith(("SAVEPOINT", "RELEASE", "SET TRANS"))]
    assert len(asked) <= 15
