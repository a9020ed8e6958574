from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from auditing.models import AuditLog, DeadLetter
from tenants.models import User
from tests.admin_rows import Page
from tests.factories import DeadLetterFactory

LIST = "admin:cp_auditing_deadletter_changelist"


def client_of(email, *permissions):
    user = User.objects.create_user(email, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def resolver(db):
    return client_of("resolver@example.com", "view_deadletter", "resolve_deadletter")


def act(client, action, *letters, **more):
    posted = {"action": action, "_selected_action": [str(each.pk) for each in letters], "index": "0", **more}
    return client.post(reverse(LIST), posted)


def test_discarding_shows_what_goes_and_asks_why(resolver, acme):
    one, other = DeadLetterFactory(tenant_id=acme.pk), DeadLetterFactory(tenant_id=acme.pk, code="wrong_type")

    asked = act(resolver, "discard", one, other)

    assert Page(asked).faults == []
    assert dict(asked.context["preview"]) == {
        "Refused as negative": "1",
        "Refused as wrong_type": "1",
        "From usage.csv": "2",
    }
    assert "usage_dead_letter discard" in asked.content.decode()
    assert not DeadLetter.objects.exclude(resolution="").exists()


def test_discarded_rows_keep_who_and_why(resolver, acme):
    letter = DeadLetterFactory(tenant_id=acme.pk)

    assert act(resolver, "discard", letter, cp_reason=" ").status_code == 422
    answer = act(resolver, "discard", letter, cp_reason="a test file")

    assert answer.status_code == 302
    letter.refresh_from_db()
    assert (letter.resolution, letter.resolved_by) == ("discarded", "resolver@example.com")
    event = AuditLog.objects.with_action("deadletter.discarded").get()
    assert (event.reason, event.tenant_id, event.actor_label) == ("a test file", acme.pk, "resolver@example.com")


def test_who_may_only_look_has_no_button_and_gets_403(acme):
    letter = DeadLetterFactory(tenant_id=acme.pk)
    reader = client_of("reader@example.com", "view_deadletter")

    for url in (reverse(LIST), reverse("admin:cp_auditing_deadletter_change", args=[letter.pk])):
        html = reader.get(url).content.decode()
        assert 'value="discard"' not in html
        assert 'value="retry"' not in html
    assert act(reader, "discard", letter, cp_reason="x").status_code == 403
    assert not DeadLetter.objects.exclude(resolution="").exists()


def test_what_is_resolved_is_not_offered_again(resolver, acme):
    letter = DeadLetterFactory(tenant_id=acme.pk, resolution="discarded")

    html = resolver.get(reverse("admin:cp_auditing_deadletter_change", args=[letter.pk])).content.decode()

    assert 'value="discard"' not in html


def test_markup_in_a_refused_row_is_escaped(resolver, acme):
    evil = b'{"model": "<script>alert(1)</script>"}'
    letter = DeadLetterFactory(tenant_id=acme.pk, payload=evil, source="<b>x</b>.csv", message="<i>no</i>")

    for url in (reverse(LIST), reverse("admin:cp_auditing_deadletter_change", args=[letter.pk])):
        answer = resolver.get(url)
        assert Page(answer).faults == []
        assert "<script>alert" not in answer.content.decode()
        assert "<i>no</i>" not in answer.content.decode()
