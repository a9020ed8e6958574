from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from auditing.models import AuditLog, DeadLetter, InferenceRequest
from controlplane.core.ids import now
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
    for action in ("discard", "retry"):
        assert act(reader, action, letter, cp_reason="x").status_code == 403
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


def refused_for_its_month(tenant, n, **more):
    """A row that would be written by now, as its tenant or month was missing."""
    row = {
        "request_id": f"late-{n}", "created_at": (now() - timedelta(days=1)).isoformat(), "tenant_id": str(tenant.pk),
        "provider": "openai", "model": "openai/gpt-4o", "cost": "0.5", **more,
    }  # fmt: skip
    text = json.dumps(row).encode()
    digest = hashlib.sha256(text).digest()
    return DeadLetterFactory(
        tenant_id=tenant.pk, payload=text, sha256=digest, code="unknown_tenant", request_id=f"late-{n}"
    )


def test_a_retry_says_what_would_become_before_anything_is_written(resolver, acme):
    good, bad = refused_for_its_month(acme, 1), refused_for_its_month(acme, 2, prompt_tokens=-5)

    asked = act(resolver, "retry", good, bad)

    told = dict(asked.context["preview"])
    assert (told["Would be written"], told["Would be refused again"]) == ("1", "1")
    assert "negative" in told
    assert Page(asked).faults == []
    assert not InferenceRequest.objects.exists()
    assert not DeadLetter.objects.exclude(resolution="").exists()


def test_what_is_written_after_all_is_resolved_and_the_rest_waits_on(resolver, acme):
    good, bad = refused_for_its_month(acme, 1), refused_for_its_month(acme, 2, prompt_tokens=-5)

    answer = resolver.post(
        reverse(LIST),
        {"action": "retry", "_selected_action": [str(good.pk), str(bad.pk)], "cp_reason": "the tenant is there now"},
        follow=True,
    )

    html = answer.content.decode()
    assert "tried again" in html
    assert "is refused again" in html
    assert InferenceRequest.objects.get().request_id == "late-1"
    good.refresh_from_db(), bad.refresh_from_db()
    assert (good.resolution, good.resolved_by) == ("retried", "resolver@example.com")
    assert bad.resolution == ""


def test_a_payload_that_is_no_row_is_tried_in_vain(resolver, acme):
    letter = DeadLetterFactory(tenant_id=acme.pk, payload=b"\xff\x00<b>")

    assert act(resolver, "retry", letter).status_code == 200
    assert act(resolver, "retry", letter, cp_reason="x").status_code in (200, 302)
    letter.refresh_from_db()
    assert letter.resolution == ""
