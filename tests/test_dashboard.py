"""The dashboard's figures from rows that are known, and the lists that its figures lead to."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.urls import reverse

from auditing.importing import open_usage
from auditing.models import InferenceRequest
from controlplane.core.ids import now
from controlplane.pages.spans import read_span
from tenants.models import User
from tests.admin_rows import Page
from tests.factories import TenantFactory

DASHBOARD = reverse("controlplane:dashboard")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def operator(client, db):
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


def use(tenant, at, **fields):
    """Record one finished call at an instant; returns its request id."""
    use.number += 1
    row = {
        "request_id": f"r{use.number}", "created_at": at, "tenant_id": tenant.pk, "provider": "openai",
        "model": "openai/gpt-4o", "prompt_tokens": 100, "completion_tokens": 20, **fields,
    }  # fmt: skip
    result = InferenceRequest.objects.ingest([row], historical=True)
    assert result.inserted == 1, result.rejections
    return row["request_id"]


use.number = 0


def card(page, label):
    [found] = [each for each in page.context["cards"] if each["label"] == label]
    return found


def rows_of(client, url):
    """Every request of a list, page by page."""
    rows, answer = [], client.get(url)
    while True:
        assert answer.status_code == 200
        assert not list(answer.context["messages"])
        changelist = answer.context["cl"]
        rows += changelist.result_list
        if not changelist.next_link:
            return rows
        answer = client.get(url.split("?")[0] + changelist.next_link)


def sums(rows):
    return {
        "Requests": len(rows),
        "Tokens": sum((row.prompt_tokens or 0) + (row.completion_tokens or 0) for row in rows),
        "Failed": sum(row.status == "failed" for row in rows),
    }


def number(text):
    return int(text.replace(",", ""))


def test_figures_are_those_of_the_rows(operator, acme, globex):
    for hour in range(3):
        use(acme, NOON + timedelta(hours=hour), cost=Decimal("0.5"))
    use(acme, NOON, status="failed", error_code="timeout", cost=Decimal(0), prompt_tokens=None, completion_tokens=None)
    use(globex, NOON, prompt_tokens=7, completion_tokens=1, cost=Decimal("0.25"), model="openai/gpt-5")
    use(acme, NOON - timedelta(days=1), prompt_tokens=200, completion_tokens=40, cost=Decimal("0.5"))

    page = operator.get(DASHBOARD, {"from": "2026-03-10", "to": "2026-03-10"})

    assert {each["label"]: each["value"] for each in page.context["cards"]} == {
        "Requests": "5", "Tokens": "368", "Failed": "1", "Spend": "$1.75",
    }  # fmt: skip
    assert card(page, "Requests")["change"] == "+400.0 %"
    assert card(page, "Tokens")["change"] == "+53.3 %"
    assert card(page, "Failed")["change"] == "20.00 %"
    assert card(page, "Failed")["direction"] == "worse"
    assert card(page, "Spend")["change"] == "+250.0 %"
    assert card(page, "Spend")["delta"] == "every request priced"
    tenants, models = page.context["tables"]
    columns = ("name", "requests", "tokens_in", "tokens_out", "failed")
    assert [tuple(row[column] for column in columns) for row in models["rows"]] == [
        ("openai/gpt-4o", "4", "300", "60", "1"), ("openai/gpt-5", "1", "7", "1", "0"),
    ]  # fmt: skip
    assert [(row["name"], row["requests"]) for row in tenants["rows"]] == [("Acme", "4"), ("Globex", "1")]
    whole = {"requests": "5", "tokens_in": "307", "tokens_out": "61", "failed": "1"}
    assert tenants["total"] == models["total"] == whole
    assert Page(page).faults == []


def test_one_tenant_is_shown_alone(operator, acme, globex):
    use(acme, NOON)
    use(globex, NOON)

    page = operator.get(DASHBOARD, {"from": "2026-03-10", "tenant": "globex"})

    assert card(page, "Requests")["value"] == "1"
    assert "UTC" in page.context["subtitle"]


def lay_out(tenant):
    """Calls of three days around two days of a zone, more than a page of some."""
    first = datetime(2026, 3, 9, tzinfo=ZoneInfo(tenant.time_zone)).astimezone(UTC)
    for n in range(60):
        failed = {"status": "failed", "cost": Decimal(0)} if n % 7 == 0 else {}
        use(tenant, first + timedelta(minutes=47 * n), prompt_tokens=n, model=f"openai/m{n % 3}", **failed)
    use(tenant, first - timedelta(microseconds=1))
    use(tenant, first)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
@pytest.mark.parametrize("last", ["2026-03-09", "2026-03-12"])
def test_every_figure_leads_to_a_list_that_sums_to_it(operator, zone, last):
    tenant = TenantFactory(slug="zoned", time_zone=zone)
    lay_out(tenant)

    page = operator.get(DASHBOARD, {"from": "2026-03-09", "to": last, "tenant": "zoned"})

    for label in ("Requests", "Tokens", "Failed"):
        figure = card(page, label)
        assert sums(rows_of(operator, figure["url"]))[label] == number(figure["value"])
    for row in (row for table in page.context["tables"] for row in table["rows"] if row["url"]):
        found = sums(rows_of(operator, row["url"]))
        assert found == {
            "Requests": number(row["requests"]), "Tokens": number(row["tokens_in"]) + number(row["tokens_out"]),
            "Failed": number(row["failed"]),
        }  # fmt: skip
    requests, tokens, _ = page.context["charts"]
    for chart, label in ((requests, "Requests"), (tokens, "Tokens")):
        bars = bars_of(chart["figure"])
        assert sum(value for _, value in bars) == number(card(page, label)["value"])
        for url, value in bars:
            assert sums(rows_of(operator, url))[label] == value


def bars_of(figure):
    """(address of its list, sum of its layers) of every period of a chart, from the table of its figures."""
    rows = re.findall(r'<tr><th scope="row"><a href="([^"]+)">[^<]*</a></th>(.*?)</tr>', figure)
    return [(unescape(url), sum(map(number, re.findall(r">([\d,]+)</td>", cells)))) for url, cells in rows]


def test_many_models_are_folded_into_a_row_without_a_list(operator, acme):
    for n in range(15):
        use(acme, NOON, model=f"openai/m{n}")

    page = operator.get(DASHBOARD, {"from": "2026-03-10"})

    assert [(row["name"], row["requests"], row["url"]) for row in page.context["tables"][1]["rows"]][12:] == [
        ("3 more", "3", "")
    ]
    assert sum(number(row["requests"]) for row in page.context["tables"][1]["rows"]) == 15


def test_a_house_without_requests_says_how_to_get_some(operator, acme):
    page = operator.get(DASHBOARD)

    assert "There are no requests yet." in page.content.decode()
    assert "manage.py usage_import" in page.content.decode()
    assert Page(page).faults == []


def test_an_empty_span_leads_to_the_newest_day(operator, acme, globex):
    use(acme, NOON)

    page = operator.get(DASHBOARD, {"tenant": "acme", "from": "2026-01-01"})

    assert page.context["empty"]["text"] == "Acme has no requests in this span."
    there = operator.get(DASHBOARD + page.context["empty"]["url"])
    assert card(there, "Requests")["value"] == "1"
    assert "Globex has no requests yet." in operator.get(DASHBOARD, {"tenant": "globex"}).content.decode()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"from": "2026-02-30"}, "A date is written as 2026-11-21"),
        ({"from": "yesterday"}, "A date is written as 2026-11-21"),
        ({"from": "\x00"}, "A date is written as 2026-11-21"),
        ({"from": "2026-03-10", "to": "2026-03-09"}, "no span of at most 366 days since 2020"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "no span of at most 366 days since 2020"),
        ({"from": "0001-01-01"}, "no span of at most 366 days since 2020"),
        ({"to": "9999-12-31"}, "no span of at most 366 days since 2020"),
        ({"tenant": "nobody"}, "No tenant has the slug"),
        ({"tenant": "\x00"}, "No tenant has the slug"),
        ({"tenant": "a" * 5000}, "No tenant has the slug"),
        ({"window": "1y"}, ""),
    ],
)
def test_what_cannot_be_read_is_said_and_a_week_is_shown(operator, acme, asked, said):
    use(acme, now())

    page = operator.get(DASHBOARD, asked)

    assert page.status_code == 200
    assert [notice["text"] for notice in page.context["notices"] if said in notice["text"]] or not said
    assert "Last 7 days" in page.context["subtitle"]
    assert card(page, "Requests")["value"] == "1"


def test_dates_are_kept_in_the_form(operator, acme):
    page = operator.get(DASHBOARD, {"to": "2026-03-10", "tenant": "acme"})

    scope = page.context["scope"]
    assert (scope["from"], scope["to"], scope["custom"]) == ("2026-03-10", "2026-03-10", True)
    assert [row["label"] for row in scope["tenants"] if row["selected"]] == ["Acme"]
    assert page.context["subtitle"] == "10 March 2026, Europe/Berlin"


def test_a_deleted_tenant_can_still_be_looked_at(operator, acme):
    use(acme, NOON)
    acme.delete("gone")

    assert "acme" not in [row["value"] for row in operator.get(DASHBOARD).context["scope"]["tenants"]]
    assert card(operator.get(DASHBOARD, {"tenant": "acme", "from": "2026-03-10"}), "Requests")["value"] == "1"


# ---------------------------------------------------------------- money


def test_unpriced_is_never_zero(operator, acme):
    use(acme, NOON)
    use(acme, NOON, status="failed", cost=Decimal(0))

    spend = card(operator.get(DASHBOARD, {"from": "2026-03-10"}), "Spend")

    assert spend["value"] == "unpriced"
    assert "1 requests unpriced" in spend["delta"]
    assert [row.pricing_status for row in rows_of(operator, spend["url"])] == ["unpriced"]


def test_a_sum_says_what_it_leaves_out(operator, acme):
    use(acme, NOON, cost=Decimal("0.0000123"))
    use(acme, NOON)

    page = operator.get(DASHBOARD, {"from": "2026-03-10"})

    assert card(page, "Spend")["value"] == "$0.00001230"
    [notice] = page.context["notices"]
    assert "1 requests are unpriced" in notice["text"]
    assert len(rows_of(operator, notice["url"])) == 1


def test_what_cost_nothing_is_zero(operator, acme):
    use(acme, NOON, status="failed", cost=Decimal(0))

    assert card(operator.get(DASHBOARD, {"from": "2026-03-10"}), "Spend")["value"] == "$0"


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("zone", "first", "last", "hours", "periods"),
    [
        ("Europe/Berlin", "2026-03-29", "", 23, 23),
        ("Europe/Berlin", "2026-10-25", "", 25, 25),
        ("Europe/Berlin", "2026-10-24", "2026-10-25", 49, 2),
        ("Europe/Berlin", "2026-03-28", "2026-03-29", 47, 47),
        ("Asia/Kathmandu", "2026-03-10", "", 24, 25),
        ("America/Sao_Paulo", "2026-03-01", "2026-03-31", 31 * 24, 31),
        ("Pacific/Apia", "2026-03-10", "", 24, 24),
    ],
)
def test_a_span_of_days_is_that_of_the_zone(zone, first, last, hours, periods):
    span, said = read_span(first, last, "7d", ZoneInfo(zone), NOON)

    assert said == ""
    assert span.end - span.start == timedelta(hours=hours)
    assert span.start.astimezone(span.zone) == datetime.combine(
        date.fromisoformat(first), datetime.min.time(), span.zone
    )
    bounds = [span.bounds(period) for period in span.periods()]
    assert len(bounds) == periods
    assert (bounds[0][0], bounds[-1][1]) == (span.start, span.end)
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))


@pytest.mark.parametrize("window", ["24h", "7d", "30d"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_a_window_ends_with_the_present_period(window, zone):
    span, _ = read_span("", "", window, ZoneInfo(zone), NOON)

    start, end = span.bounds(span.periods()[-1])
    assert start <= NOON < end
    assert len(span.periods()) == {"24h": 24, "7d": 7, "30d": 30}[window]


def test_a_period_that_is_not_over_is_compared_with_as_much_of_the_one_before():
    span, _ = read_span("", "", "7d", ZoneInfo("UTC"), NOON)

    start, end = span.before(NOON)

    assert span.start - start == timedelta(days=7)
    assert end - start == NOON - span.start


def test_a_row_of_midnight_belongs_to_one_day(operator, acme):
    midnight = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    use(acme, midnight - timedelta(microseconds=1))
    use(acme, midnight)
    use(acme, midnight + timedelta(hours=23))

    shown = {
        day: card(page, "Requests")["value"]
        if "cards" in (page := operator.get(DASHBOARD, {"tenant": "acme", "from": day})).context
        else "0"
        for day in ("2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31")
    }

    assert shown == {"2026-03-28": "1", "2026-03-29": "1", "2026-03-30": "1", "2026-03-31": "0"}


@pytest.mark.parametrize("window", ["24h", "7d", "30d"])
def test_what_was_used_now_is_in_every_window(operator, acme, window):
    use(acme, now())

    page = operator.get(DASHBOARD, {"window": window, "tenant": "acme"})

    assert card(page, "Requests")["value"] == "1"
    assert len(rows_of(operator, card(page, "Requests")["url"])) == 1
    assert "so far" in page.context["charts"][0]["figure"]


# ---------------------------------------------------------------- import


def test_an_import_of_azures_trace_shows_its_figures_on_its_day(operator, acme, acme_app, tmp_path):
    rows = [(f"2023-11-16 {18 + n // 300:02}:{n // 5 % 60:02}:{n % 60:02}.{n:07}", 300 + n, n % 50) for n in range(700)]
    trace = tmp_path / "AzureLLMInferenceTrace_conv.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{at},{i},{o}\n" for at, i, o in rows))
    constants = {"tenant_id": acme.pk, "app_id": acme_app.pk, "provider": "azure", "model": "azure/gpt-4"}
    file = open_usage(trace, constants=constants)
    for _ in range(2):
        InferenceRequest.objects.ingest(
            (row for _, row in file.rows()), source="import", origin="trace", historical=True
        )

    page = operator.get(DASHBOARD, {"tenant": "acme", "from": "2023-11-16", "to": "2023-11-16"})

    assert card(page, "Requests")["value"] == "700"
    assert number(card(page, "Tokens")["value"]) == sum(i + o for _, i, o in rows)
    assert card(page, "Failed")["value"] == "0"
    assert card(page, "Spend")["value"] == "unpriced"
    assert sums(rows_of(operator, card(page, "Tokens")["url"]))["Tokens"] == sum(i + o for _, i, o in rows)


# ---------------------------------------------------------------- who


def test_staff_without_the_permission_see_no_figure(client, acme):
    use(acme, now())
    client.force_login(User.objects.create_user("clerk@example.com", is_staff=True))

    page = client.get(DASHBOARD)

    assert "may not see requests" in page.content.decode()
    assert "cards" not in page.context
    assert "Acme" not in page.content.decode()
    assert Page(page).faults == []
