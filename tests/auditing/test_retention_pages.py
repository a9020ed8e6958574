from __future__ import annotations

from datetime import date

import pytest
from django.urls import reverse

from auditing import retention
from auditing.models import AuditLog, RetentionRecord
from tests.admin_rows import Page
from tests.auditing.test_letter_pages import client_of
from tests.factories import RetentionRecordFactory

LIST = "admin:cp_auditing_retentionrecord_changelist"
HOLD = "admin:cp_auditing_retentionrecord_hold"


@pytest.fixture
def keeper(db):
    return client_of("keeper@example.com", "view_retentionrecord", "hold_retentionrecord")


def in_force(client):
    return {each.label: each.value for each in client.get(reverse(LIST)).context["in_force"]}


def test_the_list_says_what_is_in_force(keeper, acme):
    assert in_force(keeper) == {
        "The audit log is kept": "36 months", "Requests are kept": "13 months", "Holds in force": "0",
    }  # fmt: skip

    retention.rule(24, log="inferencerequest", reason="contract", by="tests")
    retention.rule(60, reason="law", by="tests")
    retention.rule(6, log="auditlog", tenant=acme, reason="asked for", by="tests")
    retention.hold(tenant=acme, reason="a law suit", by="tests")

    assert in_force(keeper) == {
        "The audit log is kept": "60 months", "Requests are kept": "24 months", "Rules of single tenants": "1",
        "Holds in force": "1",
    }  # fmt: skip


def test_records_of_a_tenant_are_held_with_a_reason(keeper, acme):
    assert Page(keeper.get(reverse(HOLD) + "?tenant=acme")).faults == []

    answer = keeper.post(reverse(HOLD), {"tenant": "acme", "log": "auditlog", "reason": "a law suit"}, follow=True)

    assert "Held:" in answer.content.decode()
    record = RetentionRecord.objects.get()
    assert (record.kind, record.log, record.tenant_id, record.all_tenants) == ("hold", "auditlog", acme.pk, False)
    assert (record.reason, record.actor) == ("a law suit", "keeper@example.com")
    assert AuditLog.objects.with_action("retention.hold").get().actor_label == "keeper@example.com"


def test_without_a_tenant_everybodys_records_are_held(keeper):
    keeper.post(reverse(HOLD), {"tenant": "", "log": "", "reason": "all of it"})

    assert RetentionRecord.objects.get().all_tenants
    assert "Every tenant" in keeper.get(reverse(LIST)).content.decode()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"tenant": "nobody", "reason": "x"}, "There is no such tenant."),
        ({"tenant": "acme", "reason": " "}, "This field is required."),
        ({"tenant": "acme", "reason": "x", "log": "elsewhere"}, "Select a valid choice."),
        ({"tenant": "<script>", "reason": "x"}, "There is no such tenant."),
        ({"tenant": "a" * 300, "reason": "x"}, "at most 200"),
    ],
)
def test_what_cannot_be_held_is_said(keeper, acme, typed, said):
    answer = keeper.post(reverse(HOLD), typed)

    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Page(answer).faults == []
    assert not RetentionRecord.objects.exists()


def test_a_hold_is_released_once(keeper, acme):
    held = retention.hold(tenant=acme, reason="a law suit", by="tests")
    page = reverse("admin:cp_auditing_retentionrecord_change", args=[held.pk])
    assert 'value="release"' in keeper.get(page).content.decode()
    posted = {"action": "release", "_selected_action": str(held.pk), "cp_reason": "it is settled"}

    assert keeper.post(reverse(LIST), posted, follow=True).status_code == 200

    assert RetentionRecord.objects.get(kind="release").releases == held.pk
    assert 'value="release"' not in keeper.get(page).content.decode()
    assert in_force(keeper)["Holds in force"] == "0"
    again = keeper.post(reverse(LIST), posted)
    assert again.status_code == 422
    assert "released before" in again.content.decode()


def test_what_is_no_hold_is_not_released(keeper, acme):
    rule = retention.rule(24, reason="contract", by="tests")

    answer = keeper.post(
        reverse(LIST), {"action": "release", "_selected_action": str(rule.pk), "cp_reason": "mistaken"}
    )

    assert answer.status_code == 422
    assert not RetentionRecord.objects.filter(kind="release").exists()


def test_what_went_is_listed_with_its_record(keeper, acme):
    record = RetentionRecordFactory(
        kind="retired",
        log="auditlog",
        tenant_id=acme.pk,
        month=date(2020, 1, 1),
        rows=1204,
        seals=2,
        last_hash=bytes(32),
    )

    assert "2020-01: 1,204 rows" in keeper.get(reverse(LIST), {"month": "2020-01"}).content.decode()
    page = keeper.get(reverse("admin:cp_auditing_retentionrecord_change", args=[record.pk])).content.decode()
    assert "00" * 32 in page


def test_who_may_only_look_has_no_button_and_gets_403(acme):
    held = retention.hold(tenant=acme, reason="a law suit", by="tests")
    reader = client_of("reader@example.com", "view_retentionrecord")

    for url in (reverse(LIST), reverse("admin:cp_auditing_retentionrecord_change", args=[held.pk])):
        html = reader.get(url).content.decode()
        assert reverse(HOLD) not in html
        assert 'value="release"' not in html
    assert reader.get(reverse(HOLD)).status_code == 403
    assert reader.post(reverse(HOLD), {"reason": "x"}).status_code == 403
    posted = {"action": "release", "_selected_action": str(held.pk), "cp_reason": "x"}
    assert reader.post(reverse(LIST), posted).status_code == 403
    assert RetentionRecord.objects.count() == 1
