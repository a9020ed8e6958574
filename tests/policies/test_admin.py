from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing.context import audit_context
from auditing.models import AuditLog

LIST = "admin:cp_policies_policy_changelist"
ADD = "admin:cp_policies_policy_add"
CHANGE = "admin:cp_policies_policy_change"


@pytest.fixture
def operator(client, django_user_model):
    user = django_user_model.objects.create_user("operator@example.com", is_staff=True, is_superuser=True)
    client.force_login(user)
    return client


def test_the_list_names_scope_state_and_validity(operator, acme, globex):
    acme.policy(name="models of chat", app=acme.app(), user=acme.user())
    globex.policy("budget", name="off", enabled=False)

    page = operator.get(reverse(LIST)).content.decode()

    assert "acme: app chat, user ada@acme.example" in page
    assert "globex: organization" in page
    assert "disabled" in page
    assert "always" in page


def test_the_list_says_who_made_the_version_that_stands(operator, acme):
    policy = acme.policy(name="models of chat")
    with audit_context(actor=acme.user(), reason="a test"):
        policy.priority = 3
        policy.save()

    acme.policy(name="by nobody known")

    rows = operator.get(reverse(LIST)).context["cl"].result_list

    assert [row.changed_by for row in rows] == ["database controlplane", "ada@acme.example"]


def test_policies_are_switched_off_and_on_with_a_reason(operator, acme):
    policy = acme.policy(name="models of chat")
    off = {"action": "disable", "_selected_action": policy.pk, "cp_reason": "a leak"}

    assert operator.post(reverse(LIST), off | {"cp_reason": " "}).status_code == 422
    operator.post(reverse(LIST), off)

    policy.refresh_from_db()
    assert (policy.enabled, policy.version) == (False, 2)
    assert AuditLog.objects.filter(resource_id=str(policy.pk), reason="a leak").exists()
    page = operator.get(reverse(CHANGE, args=[policy.pk])).content.decode()
    assert "Enable</button>" in page
    assert "Disable</button>" not in page


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


def test_outsiders_see_nothing(client, acme, django_user_model):
    outsider = django_user_model.objects.create_user("outsider@example.com", is_staff=True)
    client.force_login(outsider)
    policy = acme.policy()

    for url in (reverse(LIST), reverse(ADD), reverse(CHANGE, args=[policy.pk])):
        assert client.get(url).status_code == 403
