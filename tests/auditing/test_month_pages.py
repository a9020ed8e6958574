from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from django.urls import reverse

from auditing import months, rollups
from auditing.ingest import LOG
from auditing.models import AuditSeal, UsageSummary
from controlplane.core import partitions
from controlplane.core.ids import now
from tests.admin_rows import Page
from tests.auditing.test_letter_pages import client_of
from tests.factories import InferenceRequestFactory
from tests.races import others_have_ended

LIST, CLOSE, REOPEN = (f"admin:cp_auditing_usagesummary_{name}" for name in ("months", "close", "reopen"))
MARCH = date(2026, 3, 1)
INSIDE = datetime(2026, 3, 10, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def closer(transactional_db):
    partitions.ensure(LOG, now(), months=[date(2026, 2, 1), MARCH, date(2026, 4, 1)])
    return client_of("closer@example.com", "view_usagesummary", "close_usagesummary")


def used(tenant, **values):
    given = {"cost": Decimal("0.25"), "created_at": INSIDE, "local_date": INSIDE.date(), "time_zone": tenant.time_zone}
    return InferenceRequestFactory(tenant_id=tenant.pk, **given | values)


def rolled_up():
    others_have_ended()
    while rollups.run(now()):
        pass


def decide(client, name, tenant, month="2026-03", **posted):
    return client.post(reverse(name) + f"?tenant={tenant.pk}&month={month}", posted, follow=True)


def test_the_months_of_a_tenant_are_listed_with_what_they_come_to(closer, acme, globex):
    used(acme), used(acme), used(globex, cost=Decimal(9))
    rolled_up()

    answer = closer.get(reverse(LIST), {"tenant": "acme"})

    assert Page(answer).faults == []
    [line] = answer.context["lines"]
    assert (line.month, line.requests, line.unpriced, line.is_closed) == (MARCH, "2", 0, False)
    assert "$0.50" in line.cost or "$0.5" in line.cost
    assert f"tenant={acme.pk}" in line.requests_url


def test_a_month_is_closed_with_a_reason_and_opened_again(closer, acme):
    used(acme)
    rolled_up()
    asked = closer.get(reverse(CLOSE), {"tenant": str(acme.pk), "month": "2026-03"})
    assert asked.context["in_the_way"] == []
    assert "accept_unpriced" not in asked.content.decode()  # every request of it has a cost
    assert "Nothing stands in the way." in asked.content.decode()
    assert Page(asked).faults == []

    unsaid = decide(closer, CLOSE, acme, reason=" ")
    assert unsaid.status_code == 422
    assert "Say why: this is kept in the audit log." in unsaid.content.decode()
    assert not months.closed(acme, MARCH)
    answer = decide(closer, CLOSE, acme, reason="invoiced")

    assert "2026-03 of Acme is closed." in answer.content.decode()
    assert months.closed(acme, MARCH)
    assert AuditSeal.objects.get(kind="close").month == MARCH
    [line] = answer.context["lines"]
    assert line.is_closed
    assert "reopen" in line.url

    answer = decide(closer, REOPEN, acme, reason="a mistake")
    assert "is open again" in answer.content.decode()
    assert not months.closed(acme, MARCH)


def test_what_stands_in_the_way_is_shown_before_and_said_after(closer, acme):
    used(acme, cost=None, pricing_status="unpriced")
    rolled_up()

    asked = closer.get(reverse(CLOSE), {"tenant": str(acme.pk), "month": "2026-03"})
    assert len(asked.context["in_the_way"]) == 1
    assert list(asked.context["form"].fields) == ["accept_unpriced", "reason"]
    assert f'href="{reverse(LIST)}?tenant={acme.pk}">Months</a>' in asked.content.decode()
    refused = decide(closer, CLOSE, acme, reason="invoiced")

    assert refused.status_code == 422
    assert "cannot be closed" in refused.content.decode()
    assert Page(refused).faults == []
    assert not months.closed(acme, MARCH)
    assert "is closed" in decide(closer, CLOSE, acme, reason="invoiced", accept_unpriced="on").content.decode()


def test_a_month_that_is_not_over_is_not_closed(closer, acme):
    month = f"{now():%Y-%m}"

    asked = closer.get(reverse(CLOSE), {"tenant": str(acme.pk), "month": month})

    assert "is over at" in asked.content.decode()
    assert decide(closer, CLOSE, acme, month, reason="x").status_code == 422


def test_a_closed_month_is_not_closed_twice_nor_an_open_one_reopened(closer, acme):
    assert "nothing to reopen" in decide(closer, REOPEN, acme, reason="x").content.decode()
    used(acme)
    rolled_up()
    decide(closer, CLOSE, acme, reason="invoiced")

    again = decide(closer, CLOSE, acme, reason="invoiced")

    assert again.status_code == 422
    assert "is closed" in again.content.decode()
    assert AuditSeal.objects.filter(kind="close").count() == 1


@pytest.mark.parametrize(
    "query",
    [
        {"tenant": "acme"}, {"month": "2026-03"}, {"tenant": "nobody", "month": "2026-03"}, {"tenant": "acme", "month": "x"},
        {"tenant": "acme", "month": "2026-13"}, {"tenant": "\x00", "month": "2026-03"},
        {"tenant": str(uuid4()), "month": "2026-03"},
        {"tenant": "a" * 5000, "month": "2026-03"}, {"tenant": "acme", "month": "2026-03-01"},
    ],
)  # fmt: skip
def test_a_month_that_is_none_is_not_found(closer, acme, query):
    for name in (CLOSE, REOPEN):
        assert closer.get(reverse(name), query).status_code == 404
    assert closer.get(reverse(LIST), query, follow=True).status_code == 200


def test_an_address_without_a_month_leads_to_the_list_of_months(closer):
    for name in (CLOSE, REOPEN):
        assert closer.get(reverse(name)).url == reverse(LIST)


@pytest.mark.parametrize("month", ["2019-12", "9999-12", "0001-01", "2020-01", "2030-01"])
def test_a_month_outside_the_logs_is_refused_in_words(closer, acme, month):
    assert closer.get(reverse(CLOSE), {"tenant": "acme", "month": month}).status_code == 200
    assert decide(closer, CLOSE, acme, month, reason="x").status_code in (200, 422)


def test_an_empty_page_says_why(closer):
    assert "No tenant yet." in closer.get(reverse(LIST)).content.decode()


def test_a_tenant_without_usage_says_so(closer, acme):
    assert "No usage yet." in closer.get(reverse(LIST)).content.decode()


def test_who_may_only_look_has_no_button_and_gets_403(closer, acme):
    used(acme)
    rolled_up()
    reader = client_of("reader@example.com", "view_usagesummary")

    html = reader.get(reverse(LIST), {"tenant": "acme"}).content.decode()
    assert "2026-03" in html
    assert reverse(CLOSE) not in html
    for name in (CLOSE, REOPEN):
        assert reader.get(reverse(name), {"tenant": "acme", "month": "2026-03"}).status_code == 403
        assert decide(reader, name, acme, reason="x").status_code == 403
    assert not months.closed(acme, MARCH)


def test_summaries_lead_from_a_month(closer, acme):
    used(acme)
    rolled_up()
    [line] = closer.get(reverse(LIST), {"tenant": "acme"}).context["lines"]

    rows = closer.get(line.summaries_url).context["cl"].result_list

    assert [row.pk for row in rows] == list(UsageSummary.objects.for_tenant(acme).values_list("pk", flat=True))
