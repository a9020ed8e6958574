from __future__ import annotations

from datetime import date, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing.admin import verification
from auditing.admin.differences import LONG, MOST, changes
from auditing.context import Actor, audit_context
from auditing.models import AuditLog
from auditing.sealing import seal
from auditing.verified import note
from auditing.verifying import Finding, Report
from controlplane.core.ids import PLATFORM, now, uuid7_at
from tenants.models import App, User
from tests.admin_rows import Page
from tests.auditing.test_letter_pages import client_of
from tests.factories import AuditLogFactory, AuditSealFactory, IngestWatermarkFactory, RetentionRecordFactory

URL = "admin:cp_auditing_auditlog_timeline"


@pytest.fixture
def operator(db):
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


def open_timeline(client, **query):
    return client.get(reverse(URL), query)


def events_of(answer):
    return [event for day in answer.context["days"] for group in day.groups for event in group.events]


def test_a_change_is_shown_with_an_old_and_a_new_column():
    found = changes({"name": "Chat", "status": "active"}, {"name": "Chat 2", "status": "suspended"})

    assert [(each.field, each.before, each.after) for each in found] == [
        ("name", "Chat", "Chat 2"),
        ("status", "active", "suspended"),
    ]


def test_of_objects_the_parts_that_differ_are_shown_by_their_path():
    found = changes({"config": {"region": "us", "a": {"b": 1}}}, {"config": {"region": "eu", "a": {"b": 1}, "c": True}})

    assert [(each.field, each.before, each.after) for each in found] == [
        ("config.c", None, "true"),
        ("config.region", "us", "eu"),
    ]


def test_a_changed_secret_shows_as_changed_and_stays_redacted():
    [found] = changes({"secret_hash": "[redacted]"}, {"secret_hash": "[redacted]"})

    assert (found.before, found.after) == ("[redacted]", "[redacted]")


def test_what_is_long_is_cut_and_what_is_many_is_counted():
    [found] = changes({"text": ""}, {"text": "x" * 5000})
    assert len(found.after) == LONG
    assert len(found.whole) <= 4000

    many = changes(None, {f"f{n}": n + 1 for n in range(MOST + 40)})
    assert len(many) == MOST + 1
    assert many[-1].field == "… and 40 more"


def test_a_value_too_large_for_the_log_is_named_by_its_size_and_digest():
    [found] = changes(None, {"body": {"$sha256": "ab" * 32, "$bytes": 9000}})

    assert found.after == f"9000 bytes, SHA-256 {'ab' * 32}"


def test_events_stand_under_their_days_newest_first(operator, acme):
    yesterday = now() - timedelta(hours=26)
    AuditLogFactory(created_at=yesterday, tenant_id=acme.pk, action="older.event")
    AuditLogFactory(tenant_id=acme.pk, action="newer.event")

    answer = open_timeline(operator, window="7d", tenant=str(acme.pk))

    days = answer.context["days"]
    assert [day.date for day in days] == [now().date(), yesterday.date()]
    assert days[-1].groups[-1].first.row.action == "older.event"
    assert Page(answer).faults == []


def test_the_rows_of_one_request_are_folded_into_one(operator, acme_app):
    with audit_context(actor="portal", reason="moved", request_id="r-1"):
        for name in ("One", "Two", "Three"):
            App.objects.filter(pk=acme_app.pk).update(name=name)
    AuditLogFactory(tenant_id=acme_app.tenant_id, action="alone.event")

    answer = open_timeline(operator)

    [folded] = [group for day in answer.context["days"] for group in day.groups if group.request_id == "r-1"]
    assert len(folded.events) == 3
    html = answer.content.decode()
    assert "3 events of one request" in html
    assert "<details open>" not in html
    assert "<details open>" in open_timeline(operator, request="r-1").content.decode()


def test_markup_of_an_actor_a_reason_and_a_value_is_escaped(operator, acme_app):
    evil = "<script>alert(1)</script>"
    with audit_context(actor=Actor("operator", evil, evil), reason=evil, request_id=evil):
        App.objects.filter(pk=acme_app.pk).update(name=evil)
    AuditLog.objects.record(evil[:100], resource=(evil, evil), resource_label=evil, details={evil: evil}, actor=evil)

    for query in ({}, {"actor": evil}, {"request": evil}, {"action": evil}, {"resource": f"{evil}:{evil}"}):
        answer = open_timeline(operator, **query)
        assert Page(answer).faults == []
        assert evil not in answer.content.decode()
        assert "&lt;script&gt;" in answer.content.decode()


def test_an_object_leads_to_its_page_and_to_its_history(operator, acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="Renamed")

    [event] = [each for each in events_of(open_timeline(operator, action="update")) if each.kind == "app"]

    assert event.object_url == reverse("admin:cp_tenants_app_change", args=[acme_app.pk])
    history = operator.get(reverse(URL) + event.about)
    assert {each.row.resource_id for each in events_of(history)} == {str(acme_app.pk)}


def test_the_history_of_an_object_is_its_timeline(operator, acme_app):
    answer = operator.get(reverse("admin:cp_tenants_app_history", args=[acme_app.pk]), follow=True)

    assert answer.request["PATH_INFO"] == reverse(URL)
    assert {each.row.resource_id for each in events_of(answer)} == {str(acme_app.pk)}


def test_what_is_deleted_is_no_link(operator, acme_app):
    AuditLogFactory(action="delete", resource_type="cp_tenants_app", resource_id=str(acme_app.pk))
    AuditLogFactory(action="update", resource_type="a_table_of_nobody", resource_id="7")

    found = {each.row.action: each.object_url for each in events_of(open_timeline(operator, action="delete"))}
    assert found == {"delete": ""}
    assert events_of(open_timeline(operator, resource="a_table_of_nobody:7"))[0].object_url == ""
    AuditLogFactory(action="month.closed", resource_type="cp_auditing_usagesummary", resource_id="2026-10")
    assert events_of(open_timeline(operator, action="month.closed"))[0].object_url == ""


def test_filters_leave_one_tenant_actor_action_or_request(operator, acme, globex):
    AuditLogFactory(tenant_id=acme.pk, action="gate.denied", actor_id="kim", request_id="r-9")
    AuditLogFactory(tenant_id=globex.pk, action="gate.allowed", actor_id="lee")

    def actions(**query):
        return {each.row.action for each in events_of(open_timeline(operator, **query))}

    assert actions(tenant=str(acme.pk), action="gate.*") == {"gate.denied"}
    assert actions(actor="lee") == {"gate.allowed"}
    assert actions(request="r-9") == {"gate.denied"}
    assert actions(action="gate.allowed") == {"gate.allowed"}


def test_from_and_to_become_a_window_with_both_days_in_it(operator):
    answer = open_timeline(operator, **{"from": "2026-11-02", "to": "2026-11-03", "actor": "kim"})

    assert answer.status_code == 302
    assert "window=2026-11-02..2026-11-04" in answer.url
    assert "actor=kim" in answer.url
    page = operator.get(answer.url)
    assert 'name="from" value="2026-11-02"' in page.content.decode()
    assert 'name="to" value="2026-11-03"' in page.content.decode()


@pytest.mark.parametrize(
    "query",
    [
        {"from": "x"}, {"to": "9999-12-31"}, {"from": "0001-01-01", "to": "0001-01-01"},
        {"from": "2026-12-01", "to": "2026-01-01"}, {"from": "\x00"}, {"window": "x"},
        {"tenant": "x"}, {"tenant": str(uuid4())}, {"after": "damaged"}, {"resource": "x"},
        {"resource": ":"}, {"actor": "a" * 5000}, {"action": "*"}, {"action": "%"}, {"request": "'"}, {"outcome__exact": "x"},
        {"unknown": "1"}, {"unknown__x": "1"}, {"q": "'; DROP TABLE x; --"}, {"p": "-1"}, {"o": "9"}, {"e": "1"},
        {"after": ["a", "b"]}, {"window": "all"}, {"_popup": "1"}, {"actor": "cpk_live_abcdefghijkl_0123456789abcdef"},
    ],
)  # fmt: skip
def test_what_nobody_would_ask_is_answered_all_the_same(operator, acme_app, query):
    answer = operator.get(reverse(URL), query, follow=True)

    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert Page(answer).faults == []
        assert "0123456789abcdef" not in answer.content.decode()


def test_a_page_leads_to_the_next_and_back_without_repeating(operator, acme):
    at = now()
    for n in range(60):
        AuditLogFactory(created_at=at - timedelta(seconds=n), tenant_id=acme.pk, action=f"n.{n:02}")

    first = open_timeline(operator, tenant=str(acme.pk), action="n.*")
    second = operator.get(reverse(URL) + first.context["cl"].next_link)
    again = operator.get(reverse(URL) + second.context["cl"].previous_link)

    assert [each.row.action for each in events_of(first)] == [f"n.{n:02}" for n in range(50)]
    assert [each.row.action for each in events_of(second)] == [f"n.{n:02}" for n in range(50, 60)]
    assert [each.row.pk for each in events_of(again)] == [each.row.pk for each in events_of(first)]


def test_a_page_takes_as_many_statements_for_many_rows_as_for_few(operator, acme, globex):
    def statements():
        open_timeline(operator)
        with CaptureQueriesContext(connection) as counted:
            assert open_timeline(operator).status_code == 200
        return sum(not each["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT")) for each in counted)

    for n in range(25):
        AuditLogFactory(tenant_id=acme.pk, request_id=f"r-{n}")
    few = statements()
    for n in range(100):
        AuditLogFactory(
            tenant_id=globex.pk, request_id=f"s-{n}", resource_type="cp_tenants_app", resource_id=str(uuid4())
        )

    assert statements() == few <= 10


def test_reading_writes_nothing(operator, acme_app):
    before = AuditLog.objects.count()
    with CaptureQueriesContext(connection) as done:
        open_timeline(operator)
        open_timeline(operator, tenant=str(acme_app.tenant_id), window="all")

    assert AuditLog.objects.count() == before
    assert not [each["sql"] for each in done if each["sql"].lstrip().startswith(("INSERT", "UPDATE", "DELETE"))]


def test_an_empty_page_says_why_and_what_to_do(operator):
    AuditLog.objects.all()
    nothing = open_timeline(operator, actor="nobody").content.decode()
    assert "The filters above leave nothing." in nothing
    assert "Clear search and filters" in nothing

    window = open_timeline(operator, window="2020-01-01..2020-01-02").content.decode()
    assert "leave nothing" in window or "in this window" in window


def test_who_may_not_read_the_log_gets_403(acme_app):
    client = Client()
    client.force_login(User.objects.create_user("clerk@example.com", is_staff=True))

    assert open_timeline(client).status_code == 403
    assert client.post(reverse(URL), {"verify": "1"}).status_code == 403


# ---------------------------------------------------------------- seals


def sealed_row(tenant, **fields):
    """A row under seal number 1 of its tenant, and the watermark past it."""
    row = AuditLog.objects.get(pk=AuditLogFactory(tenant_id=tenant.pk, **fields).pk)
    month = row.created_at.date().replace(day=1)
    seal = AuditSealFactory(
        tenant_id=tenant.pk, month=month, xid_from=row.xid, xid_to=row.xid + 1, id_from=row.pk, id_to=row.pk
    )
    IngestWatermarkFactory(name="seal:auditlog", xid=row.xid + 1)
    return row, seal


def state(client, row, **query):
    [found] = [each for each in events_of(open_timeline(client, **query)) if each.row.pk == row.pk]
    return found.segment.state


def test_a_row_that_no_run_has_reached_is_pending(operator, acme):
    assert state(operator, AuditLogFactory(tenant_id=acme.pk)) == "pending"


def test_a_sealed_row_leads_to_its_seal(operator, acme):
    row, seal = sealed_row(acme)

    answer = open_timeline(operator, tenant=str(acme.pk))

    [found] = [each for each in answer.context["segments"] if each.state == "sealed"]
    assert found.url == reverse("admin:cp_auditing_auditseal_change", args=[seal.pk])
    assert state(operator, row) == "sealed"


def test_a_row_below_the_watermark_without_a_seal_is_a_finding(operator, acme):
    row = AuditLog.objects.get(pk=AuditLogFactory(tenant_id=acme.pk).pk)
    IngestWatermarkFactory(name="seal:auditlog", xid=row.xid + 1)

    assert state(operator, row) == "finding"


def test_a_seal_made_long_after_its_month_is_late(operator, acme):
    at = now() - timedelta(days=20)
    row, seal = sealed_row(acme, created_at=at, id=uuid7_at(at))
    late = now() + timedelta(days=80)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_auditseal DISABLE TRIGGER USER")
        cursor.execute("UPDATE cp_auditing_auditseal SET sealed_at = %s WHERE id = %s", [late, seal.pk])

    assert state(operator, row, window="30d") == "late"


def found_in(tenant, seq, month):
    wrong = Finding(
        "root_mismatch", "auditlog", tenant.pk, month, seq, uuid4(), uuid4(), "The root is not that of the rows <b>."
    )
    return Report(findings=[wrong], rows=1, seals=1)


def test_after_a_verification_a_seal_is_verified_or_a_finding(operator, acme, globex):
    row, _ = sealed_row(acme)
    note(Report(rows=1, seals=1))
    assert state(operator, row) == "verified"

    note(found_in(acme, 1, row.created_at.date().replace(day=1)), tenant=acme.pk)

    answer = open_timeline(operator, tenant=str(acme.pk))
    assert state(operator, row, tenant=str(acme.pk)) == "finding"
    html = answer.content.decode()
    assert "root_mismatch" in html
    assert "1 finding" in html
    assert "rows <b>" not in html
    # who looks at all tenants sees what was found of one of them
    assert state(operator, row) == "finding"


def test_months_that_are_gone_are_named_with_their_record(operator, acme):
    record = RetentionRecordFactory(
        kind="retired", log="auditlog", tenant_id=acme.pk, month=date(2020, 1, 1), rows=1204, reason="13 months"
    )

    answer = open_timeline(operator, tenant=str(acme.pk), window="2020-01-01..2020-02-01")

    [found] = [each for each in answer.context["segments"] if each.state == "retired"]
    assert "1,204" in found.what
    assert found.url == reverse("admin:cp_auditing_retentionrecord_change", args=[record.pk])
    assert "leave nothing" in answer.content.decode()


def test_the_platforms_rows_have_a_segment_of_their_own(operator):
    AuditLogFactory(tenant_id=PLATFORM)

    assert any(each.name.startswith("Platform, ") for each in open_timeline(operator).context["segments"])


# ---------------------------------------------------------------- verifying


@pytest.mark.django_db(transaction=True)
def test_verifying_from_the_page_says_what_was_found_and_keeps_it(operator, acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="Renamed")
    seal(now(), force=True)

    answer = operator.post(reverse(URL) + f"?tenant={acme_app.tenant_id}&window=7d", {"verify": "1"}, follow=True)

    assert answer.request["QUERY_STRING"] == f"tenant={acme_app.tenant_id}&window=7d"
    assert "no finding" in answer.content.decode()
    event = AuditLog.objects.with_action("audit.verified").get()
    assert (event.outcome, event.tenant_id, event.actor_label) == (
        "success",
        acme_app.tenant_id,
        "operator@example.com",
    )
    states = {each.row.action: each.segment.state for each in events_of(answer)}
    assert states["update"] == "verified"
    assert states["audit.verified"] == "pending"


@pytest.mark.django_db(transaction=True)
def test_what_was_changed_behind_the_guards_is_red_where_it_is(operator, acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="Renamed")
    seal(now(), force=True)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_auditlog DISABLE TRIGGER cp_append_only")
        cursor.execute("UPDATE cp_auditing_auditlog SET reason = 'nothing' WHERE tenant_id = %s", [acme_app.tenant_id])
        cursor.execute("ALTER TABLE cp_auditing_auditlog ENABLE ALWAYS TRIGGER cp_append_only")

    answer = operator.post(reverse(URL) + f"?tenant={acme_app.tenant_id}", {"verify": "1"}, follow=True)

    html = answer.content.decode()
    assert "root_mismatch" in html
    assert "cp-bad" in html
    assert {each.segment.state for each in events_of(answer) if each.row.action == "update"} == {"finding"}


def test_what_is_too_much_for_a_page_names_the_command(operator, acme, monkeypatch):
    monkeypatch.setattr(verification, "MOST", 2)
    for _ in range(3):
        AuditLogFactory(tenant_id=acme.pk)

    answer = operator.post(reverse(URL) + f"?tenant={acme.pk}", {"verify": "1"}, follow=True)

    month = now().strftime("%Y-%m")
    assert f"manage.py audit_verify --tenant {acme.pk} --log auditlog --from {month}-01" in answer.content.decode()
    assert not AuditLog.objects.with_action("audit.verified").exists()


def test_who_may_only_read_has_no_button_and_gets_403(acme):
    reader = client_of("reader@example.com", "view_auditlog")
    AuditLogFactory(tenant_id=acme.pk)

    assert "cp-verify" not in open_timeline(reader).content.decode()
    assert reader.post(reverse(URL), {"verify": "1"}).status_code == 403
    assert not AuditLog.objects.with_action("audit.verified").exists()
    assert "cp-verify" in open_timeline(client_of("v@example.com", "view_auditlog", "verify_auditlog")).content.decode()
