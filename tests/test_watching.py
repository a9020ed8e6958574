"""What the dashboard says of budgets, seals and duties."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing import verified
from auditing.models import AuditLog
from controlplane.core import duties
from controlplane.core.duties import Duty
from controlplane.core.ids import PLATFORM, now
from controlplane.core.models import WorkerDuty
from controlplane.pages.watching import ago
from policies.models import LimitBucket
from tenants.models import User
from tests.admin_rows import Page
from tests.factories import AuditSealFactory, LimitBucketFactory
from tests.test_dashboard import use

DASHBOARD = reverse("controlplane:dashboard")


@pytest.fixture
def operator(client, db):
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


@pytest.fixture
def one_duty(monkeypatch):
    monkeypatch.setattr(duties, "_duties", {})
    duties.register(Duty("count", 5, lambda now: None))


def budget(tenant, spent, limit=Decimal(100), *, ends=timedelta(days=1), **fields):
    return LimitBucketFactory(
        tenant=tenant, kind="budget", metric="cost", window="day", label="x", starts_at=now() - timedelta(days=1),
        ends_at=now() + ends, key=f"budget|{tenant.slug}|{LimitBucket.objects.count()}", owner_kind="scope:1",
        spent=Decimal(spent), reserved=Decimal(0), last_limit=limit, last_mode="hard", **fields,
    )  # fmt: skip


def section(page, title):
    [found] = [each for each in page.context["watched"] if each["title"] == title]
    return found


def test_budgets_past_80_percent_are_shown_the_fullest_first_as_their_list_does(operator, acme, globex):
    budget(acme, 79)
    near = budget(acme, 80)
    over = budget(globex, 140, user_id=acme.pk, app_id=None)
    budget(acme, 500, ends=timedelta(hours=-1))
    budget(acme, 5, limit=None)

    page = operator.get(DASHBOARD)
    found = section(page, "Budgets past 80 %")

    assert [(row["text"], row["url"].split("/")[-3]) for row in found["rows"]] == [
        ("$140.00 of $100.00 per day", str(over.pk)), ("$80.00 of $100.00 per day", str(near.pk)),
    ]  # fmt: skip
    listed = operator.get(found["url"]).context["cl"].result_list
    assert {row.pk for row in listed} == {near.pk, over.pk}
    assert Page(page).faults == []
    of_acme = operator.get(DASHBOARD, {"tenant": "acme"})
    assert [row["text"] for row in section(of_acme, "Budgets past 80 %")["rows"]] == ["$80.00 of $100.00 per day"]
    assert [each["title"] for each in of_acme.context["watched"]] == ["Budgets past 80 %"]


def test_duties_that_are_late_or_fail_are_shown_in_red(operator, one_duty):
    assert "run manage.py run_worker" in section(operator.get(DASHBOARD), "Worker duties")["empty"]

    WorkerDuty.objects.create(name="count", started_at=now(), finished_at=now())
    assert section(operator.get(DASHBOARD), "Worker duties")["empty"] == "On time: 1."

    WorkerDuty.objects.update(failures=2, error="ValueError: <no>")
    page = operator.get(DASHBOARD)
    [row] = section(page, "Worker duties")["rows"]
    assert row["text"] == "ValueError: <no>"
    assert 'class="cp-pill cp-bad">failing' in page.content.decode()
    assert "ValueError: &lt;no&gt;" in page.content.decode()


def test_seals_are_shown_with_their_age_and_the_last_findings(operator):
    assert "Nothing is sealed yet" in section(operator.get(DASHBOARD), "Seals")["empty"]

    AuditSealFactory(
        tenant_id=PLATFORM, log="checkpoint", kind="checkpoint", seq=1, sealed_at=now() - timedelta(minutes=20)
    )
    AuditLog.objects.record(verified.ACTION, details={"rows": 7, "seals": 1, "found": 0})
    late, clean = section(operator.get(DASHBOARD), "Seals")["rows"]
    assert (late["text"], "late" in late["pill"]) == ("20 min ago", True)
    assert (clean["text"].endswith("7 rows"), clean["pill"]) == (True, "")


def test_who_may_see_requests_alone_sees_no_more(client, acme, one_duty):
    clerk = User.objects.create_user("clerk@example.com", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_inferencerequest"))
    client.force_login(clerk)
    budget(acme, 90)

    assert client.get(DASHBOARD).context["watched"] == []


def test_the_dashboard_takes_few_statements(operator, acme, globex, one_duty):
    WorkerDuty.objects.create(name="count", started_at=now(), finished_at=now())
    for tenant in (acme, globex):
        use(tenant, now() - timedelta(hours=1))
        for n in range(4):
            budget(tenant, 90 + n)
    operator.get(DASHBOARD)

    with CaptureQueriesContext(connection) as counted:
        page = operator.get(DASHBOARD)

    assert page.context["tables"]
    # session, user, tenants, two for each of three totals, names of tenants, and four for what is watched
    assert len(counted) <= 14


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "0 s ago"), (timedelta(seconds=90), "90 s ago"), (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=5), "5 h ago"), (timedelta(days=5), "5 d ago"),
    ],
)  # fmt: skip
def test_an_age_is_said_in_one_unit(age, text):
    assert ago(age) == text
