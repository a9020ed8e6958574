from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from auditing.admin import standing, verification
from auditing.models import AuditLog, AuditSeal
from auditing.sealing import seal
from controlplane.core.ids import PLATFORM, now
from tenants.models import App, User
from tests.admin_rows import Page
from tests.auditing.test_letter_pages import client_of
from tests.factories import AuditLogFactory, AuditSealFactory

LIST = "admin:cp_auditing_auditseal_changelist"
PARTITIONS = "admin:cp_auditing_auditlog_partitions"


@pytest.fixture
def operator(db):
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


def test_an_empty_list_says_how_seals_come_about(operator):
    html = operator.get(reverse(LIST)).content.decode()

    assert "No seals" in html
    assert "audit_seal --now" in html


def test_the_head_says_what_waits_and_for_how_long(operator, monkeypatch):
    monkeypatch.setattr(standing, "MOST", 2)
    for _ in range(4):
        AuditLogFactory()

    figures = {label: value for label, value, _ in standing.sealing().figures}

    assert figures["Audit events that wait"] == "2+"
    assert figures["Requests that wait"] == "0"
    assert figures["Runs so far"] == "0"
    assert Page(operator.get(reverse(LIST))).faults == []


def test_seconds_are_said_as_people_do():
    assert [standing._span(seconds) for seconds in (5, 119, 180, 7200, 200_000)] == [
        "5 s",
        "119 s",
        "3 min",
        "2 h",
        "2 d",
    ]


def test_seals_are_filtered_by_log_month_and_tenant(operator, acme, globex):
    for tenant in (acme, globex):
        for seq in (1, 2):
            AuditSealFactory(tenant_id=tenant.pk, seq=seq)
    AuditSealFactory(kind="checkpoint", log="checkpoint", tenant_id=PLATFORM, seq=1)

    def found(**query):
        return operator.get(reverse(LIST), query).context["cl"].result_list

    assert len(found()) == 5
    assert {row.tenant_id for row in found(tenant=str(acme.pk))} == {acme.pk}
    assert [row.kind for row in found(log="checkpoint")] == ["checkpoint"]
    assert len(found(month=f"{now():%Y-%m}")) == 5
    assert found(month="2020-01") == []
    assert found(month="never") == []


def test_a_root_is_shown_by_its_end_and_copied_whole(operator, acme):
    row = AuditSealFactory(tenant_id=acme.pk, root=bytes(range(32)))

    html = operator.get(reverse(LIST)).content.decode()
    assert f'data-text="{bytes(range(32)).hex()}"' in html
    assert "…1c1d1e1f" in html
    page = operator.get(reverse("admin:cp_auditing_auditseal_change", args=[row.pk]))
    assert bytes(range(32)).hex() in page.content.decode()


@pytest.mark.django_db(transaction=True)
def test_seals_are_verified_by_their_months(operator, acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="Renamed")
    seal(now(), force=True)
    seals = AuditSeal.objects.filter(tenant_id=acme_app.tenant_id)
    posted = {"action": "verify_seals", "_selected_action": [str(each.pk) for each in seals]}

    answer = operator.post(reverse(LIST), posted, follow=True)

    assert "no finding" in answer.content.decode()
    assert AuditLog.objects.with_action("audit.verified").get().outcome == "success"
    rows = operator.get(reverse(LIST), {"tenant": str(acme_app.tenant_id)}).context["cl"].result_list
    assert {row.__dict__["known"] for row in rows} == {"verified"}


def test_what_is_verified_for_seals_is_each_month_once():
    acme = AuditSealFactory.build()
    other = AuditSealFactory.build(tenant_id=acme.tenant_id, seq=2)
    closed = AuditSealFactory.build(tenant_id=acme.tenant_id, kind="close", log="usagesummary")
    checkpoint = AuditSealFactory.build(kind="checkpoint", log="checkpoint", tenant_id=PLATFORM)

    assert set(verification.places([acme, other, closed, checkpoint])) == {
        ("auditlog", acme.tenant_id, acme.month), ("inferencerequest", acme.tenant_id, acme.month), (None, None, acme.month),
    }  # fmt: skip


def test_who_may_only_look_has_no_button_and_gets_403(acme):
    row = AuditSealFactory(tenant_id=acme.pk)
    reader = client_of("reader@example.com", "view_auditseal")

    assert "verify_seals" not in reader.get(reverse(LIST)).content.decode()
    posted = {"action": "verify_seals", "_selected_action": str(row.pk)}
    assert reader.post(reverse(LIST), posted).status_code == 403


def test_partitions_are_shown_by_log_with_those_ahead(operator):
    answer = operator.get(reverse(PARTITIONS))

    assert Page(answer).faults == []
    logs = {log.table: log for log in answer.context["logs"]}
    assert {"cp_auditing_auditlog", "cp_auditing_inferencerequest", "cp_auditing_usagehour"} <= set(logs)
    assert logs["cp_auditing_auditlog"].ahead >= 3
    assert not logs["cp_auditing_auditlog"].missing
    assert "audit_partitions" in answer.content.decode()


def test_a_log_without_the_next_month_is_said_to_lack_one():
    parted = standing._parted(
        "x", [standing.Part(now().date().replace(day=1), None, 0, False)], now().date().replace(day=1)
    )

    assert (parted.ahead, parted.missing) == (0, True)


def test_partitions_are_for_those_who_may_read_the_log(db):
    assert client_of("clerk@example.com").get(reverse(PARTITIONS)).status_code == 403
    assert client_of("reader@example.com", "view_auditlog").get(reverse(PARTITIONS)).status_code == 200
