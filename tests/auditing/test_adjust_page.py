from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest
from django.urls import reverse

from auditing.models import AuditLog, InferenceRequest
from tests.admin_rows import Page
from tests.auditing.test_letter_pages import client_of
from tests.factories import InferenceRequestFactory

NAME = "admin:cp_auditing_inferencerequest_adjust"
FIELDS = {"reason_code": "manual", "cost": "-0.25", "prompt_tokens": "", "key": "", "reason": "billed twice"}


@pytest.fixture
def adjuster(db):
    return client_of("adjuster@example.com", "view_inferencerequest", "adjust_inferencerequest")


def url_of(row):
    return reverse(NAME, args=[row.pk])


def test_a_request_is_adjusted_by_a_row_beside_it(adjuster, acme):
    row = InferenceRequestFactory(tenant_id=acme.pk, cost=Decimal(1))

    assert Page(adjuster.get(url_of(row))).faults == []
    answer = adjuster.post(url_of(row), FIELDS, follow=True)

    made = InferenceRequest.objects.get(adjusts=row.pk)
    assert (made.cost, made.reason, made.reason_code) == (Decimal("-0.25"), "billed twice", "manual")
    assert "adjusted by -0.25" in answer.content.decode()
    event = AuditLog.objects.with_action("request.adjusted").get()
    assert (event.actor_label, event.reason) == ("adjuster@example.com", "billed twice")
    row.refresh_from_db()
    assert row.cost == Decimal(1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"reason": " "}, "Say why: this is kept with the adjustment."),
        ({"cost": "0"}, "This adjusts nothing."),
        ({"cost": "NaN"}, "Enter a number."),
        ({"cost": "1e400"}, "Ensure that there are no more than"),
        ({"cost": "x"}, "Enter a number."),
        ({"reason_code": "priced"}, "has a price already"),
        ({"reason_code": "late_completion"}, "is not lost"),
        ({"reason_code": "whatever"}, "Select a valid choice."),
        ({"prompt_tokens": "-101"}, "no more can be taken off"),
        ({"prompt_tokens": "99999999999"}, "Ensure this value is less than"),
        ({"key": "k" * 201}, "at most 200"),
    ],
)
def test_what_does_not_fit_is_said_and_the_form_keeps_what_was_typed(adjuster, acme, wrong, said):
    row = InferenceRequestFactory(tenant_id=acme.pk)

    answer = adjuster.post(url_of(row), FIELDS | wrong)

    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Page(answer).faults == []
    assert not InferenceRequest.objects.filter(adjusts=row.pk).exists()


def test_sending_the_same_form_twice_adjusts_once(adjuster, acme):
    row = InferenceRequestFactory(tenant_id=acme.pk)

    adjuster.post(url_of(row), FIELDS)
    adjuster.post(url_of(row), FIELDS)

    assert InferenceRequest.objects.filter(adjusts=row.pk).count() == 1


def test_an_adjustment_is_not_adjusted(adjuster, acme):
    row = InferenceRequestFactory(tenant_id=acme.pk)
    adjuster.post(url_of(row), FIELDS)
    made = InferenceRequest.objects.get(adjusts=row.pk)

    assert adjuster.get(url_of(made)).status_code == 404
    assert adjuster.get(reverse(NAME, args=[uuid4()])).status_code == 404
    change = adjuster.get(reverse("admin:cp_auditing_inferencerequest_change", args=[made.pk]))
    assert url_of(made) not in change.content.decode()


def test_who_may_only_look_has_no_button_and_gets_403(acme):
    row = InferenceRequestFactory(tenant_id=acme.pk)
    reader = client_of("reader@example.com", "view_inferencerequest")

    change = reader.get(reverse("admin:cp_auditing_inferencerequest_change", args=[row.pk]))
    assert url_of(row) not in change.content.decode()
    assert reader.get(url_of(row)).status_code == 403
    assert reader.post(url_of(row), FIELDS).status_code == 403
    assert not InferenceRequest.objects.filter(adjusts=row.pk).exists()
