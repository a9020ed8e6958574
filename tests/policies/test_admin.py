from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing.models import AuditLog
from policies.models import Policy

LIST = "admin:cp_policies_policy_changelist"
ADD = "admin:cp_policies_policy_add"
CHANGE = "admin:cp_policies_policy_change"


@pytest.fixture
def operator(client, django_user_model):
    user = django_user_model.objects.create_user("operator@example.com", is_staff=True, is_superuser=True)
    client.force_login(user)
    return client


def filled(world, **changes):
    """The form of a new policy, as a browser sends it."""
    empty = dict.fromkeys(["app", "branch", "user", "key", "name", "message", "description", "schedule"], "")
    dates = {f"valid_{end}_{part}": "" for end in ("from", "until") for part in (0, 1)}
    flags = {"overridable": "", "final": "", "priority": "0", "enabled": "on"}
    return empty | dates | flags | {"tenant": world.slug, "policy_type": "budget", "config": "{}"} | changes


def test_the_list_names_scope_state_and_validity(operator, acme, globex):
    acme.policy(name="models of chat", app=acme.app(), user=acme.user())
    globex.policy("budget", name="off", enabled=False)

    page = operator.get(reverse(LIST)).content.decode()

    assert "acme: app chat, user ada@acme.example" in page
    assert "globex: organization" in page
    assert "disabled" in page
    assert "always" in page


def statements(client):
    with CaptureQueriesContext(connection) as counted:
        client.get(reverse(LIST))
    return len(counted)


def test_the_list_takes_the_same_statements_for_few_and_many(operator, acme):
    scope = {"app": acme.app(), "branch": acme.branch(), "user": acme.user(), "key": acme.key()}
    acme.policy(**scope)
    few = statements(operator)
    for _ in range(30):
        acme.policy(**scope)

    assert statements(operator) == few


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("scope=organization", {"org"}),
        ("scope=app", {"app"}),
        ("scope=user", {"user and app"}),
        ("policy_type__exact=budget", {"org"}),
        ("enabled__exact=0", {"app"}),
        ("q=acme", {"org", "app", "user and app"}),
        ("q=ada@acme.example", {"user and app"}),
    ],
)
def test_the_list_filters_and_searches(operator, acme, globex, query, names):
    acme.policy("budget", name="org")
    acme.policy(name="app", app=acme.app(), enabled=False)
    acme.policy(name="user and app", app=acme.app(), user=acme.user())

    page = operator.get(f"{reverse(LIST)}?{query}")

    assert {row.name for row in page.context["cl"].result_list} == names


def test_a_policy_is_added_by_slugs_and_audited_by_name_of_the_actor(operator, acme):
    acme.app()
    config = {"limits": [{"window": "month", "limit": "50.00"}]}

    answer = operator.post(reverse(ADD), filled(acme, app="acme/chat", config=json.dumps(config)))

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    policy = Policy.objects.get()
    assert (policy.tenant, policy.app, policy.config) == (acme.tenant, acme.app(), config)
    logged = AuditLog.objects.get(resource_id=str(policy.pk))
    assert "operator@example.com" in logged.actor_label


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"config": '{"limits": [{"window": "month", "limit": "1e3"}]}'}, "config", "limits.0.limit: Write US dollars"),
        ({"config": "{"}, "config", "valid JSON"),
        ({"config": "[]"}, "config", "Write a JSON object"),
        ({"config": '{"limit": 1}'}, "config", "limit: There is no such field"),
        ({"final": "limits"}, "final", "limits is strict already"),
        ({"schedule": '{"tz": "Mars/Base"}'}, "schedule", "tz: Not an IANA time zone"),
        ({"user": "globex/ada@globex.example"}, "user", "another tenant"),
    ],
)
def test_a_fault_is_shown_at_its_field_and_nothing_is_stored(operator, acme, globex, changes, field, words):
    assert acme.tenant
    assert globex.user()

    answer = operator.post(reverse(ADD), filled(acme, **changes))

    assert answer.status_code == 200
    assert words in " ".join(answer.context["adminform"].form.errors[field])
    assert not Policy.objects.exists()


def test_an_empty_config_says_nothing(operator, acme):
    assert acme.tenant

    operator.post(reverse(ADD), filled(acme, config=""))

    assert Policy.objects.get().config == {}


def test_tenant_and_type_cannot_be_changed_and_the_rest_can(operator, acme, globex):
    assert globex.tenant
    policy = acme.policy("budget", name="old")
    url = reverse(CHANGE, args=[policy.pk])
    assert '"limits"' not in operator.get(url).content.decode()

    answer = operator.post(url, filled(acme, tenant="globex", policy_type="routing", name="new"))

    assert answer.status_code == 302
    policy.refresh_from_db()
    assert (policy.tenant, policy.policy_type, policy.name, policy.version) == (acme.tenant, "budget", "new", 2)


def test_outsiders_see_nothing(client, acme, django_user_model):
    outsider = django_user_model.objects.create_user("outsider@example.com", is_staff=True)
    client.force_login(outsider)
    policy = acme.policy()

    for url in (reverse(LIST), reverse(ADD), reverse(CHANGE, args=[policy.pk])):
        assert client.get(url).status_code == 403
