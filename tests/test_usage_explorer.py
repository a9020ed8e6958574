"""The usage explorer's figures from rows that are known, the lists and files that they lead to, and what else is asked."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auditing.models import AuditLog, InferenceRequest
from controlplane.core.ids import now, uuid7
from controlplane.pages import usage
from controlplane.pages.exploring import DIMENSIONS, EVERY, MEASURES
from controlplane.pages.sums import change
from tenants.models import User
from tests.admin_rows import Page
from tests.policies.world import World
from tests.test_dashboard import number, rows_of

USAGE = reverse("controlplane:usage")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
TWO_DAYS = {"from": "2026-03-10", "to": "2026-03-11"}


@pytest.fixture
def operator(client, db):
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


def ingest(rows):
    defaults = {"provider": "openai", "model": "openai/gpt-4o", "prompt_tokens": 100, "completion_tokens": 20}
    found = [defaults | {"request_id": f"r{n}-{row['tenant_id']}"} | row for n, row in enumerate(rows)]
    result = InferenceRequest.objects.ingest(found, historical=True)
    assert result.inserted == len(rows), result.rejections


@pytest.fixture
def worlds(db):
    return {"acme": World("acme"), "globex": World("globex")}


@pytest.fixture
def traffic(worlds):
    """Calls of two tenants around the span, priced and not, some of nobody; returns the rows."""
    rows = []
    for n in range(90):
        world = worlds["acme" if n % 3 else "globex"]
        subjects = {} if n % 7 == 0 else {
            "app_id": world.app().pk, "branch_id": world.branch().pk, "user_id": world.user().pk, "api_key_id": world.key().pk,
        }  # fmt: skip
        failed = {"status": "failed", "cost": Decimal(0), "completion_tokens": None} if n % 5 == 0 else {}
        price = {} if n % 4 == 0 else {"cost": Decimal(n) / 8}
        rows.append(
            {
                "created_at": NOON - timedelta(days=3) + timedelta(minutes=97 * n), "tenant_id": world.tenant.pk,
                "model": f"openai/m{n % 4}", "provider": "openai" if n % 2 else "azure", "prompt_tokens": n, **subjects,
                **price, **failed,
            }
        )  # fmt: skip
    ingest(rows)
    return InferenceRequest.objects.all()


def within(rows, zone="UTC", first=10, last=11, **match):
    start = datetime(2026, 3, first, tzinfo=ZoneInfo(zone))
    end = datetime(2026, 3, last, tzinfo=ZoneInfo(zone)) + timedelta(days=1)
    return [
        row
        for row in rows
        if start <= row.created_at < end and all(getattr(row, name) == value for name, value in match.items())
    ]


def sums(rows):
    return {
        "requests": len(rows), "tokens_in": sum(row.prompt_tokens or 0 for row in rows),
        "tokens_out": sum(row.completion_tokens or 0 for row in rows), "failed": sum(row.status == "failed" for row in rows),
        "unpriced": sum(row.cost is None for row in rows), "cost": sum(row.cost or 0 for row in rows),
    }  # fmt: skip


def shown(row):
    figures = {name: number(row[name]) for name in ("requests", "tokens_in", "tokens_out", "failed", "unpriced")}
    return figures | {"cost": Decimal(0) if row["cost"] == "unpriced" else Decimal(row["cost"].strip("$"))}


def rounded(found):
    return found | {"cost": Decimal(found["cost"]).quantize(Decimal("0.01"))}


@pytest.mark.parametrize(
    ("by", "then"), [*product(DIMENSIONS, [""]), ("tenant", "model"), ("app", "api_key"), ("model", "user")]
)
def test_groups_are_those_of_the_rows_and_lead_to_them(operator, traffic, by, then):
    page = operator.get(USAGE, {**TWO_DAYS, "by": by, "then": then})
    table = page.context["table"]
    names = [f"{name}_id" if hasattr(traffic[0], f"{name}_id") else name for name in (by, then) if name]
    rows = within(traffic)
    expected = [
        sums([row for row in rows if tuple(getattr(row, name) for name in names) == key])
        for key in {tuple(getattr(row, name) for name in names) for row in rows}
    ]

    found = [shown(row) for row in table["rows"] if row["requests"] != "0"]
    assert sorted(map(str, map(rounded, found))) == sorted(map(str, map(rounded, expected)))
    assert rounded(shown(table["total"])) == rounded(sums(rows))
    for row in table["rows"]:
        if row["url"]:
            assert rounded(sums(rows_of(operator, row["url"]))) == rounded(shown(row))
    assert Page(page).faults == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("every", list(EVERY))
def test_one_tenant_over_time_in_its_zone_adds_up_bar_by_bar(operator, traffic, worlds, zone, every):
    acme = worlds["acme"].tenant
    acme.time_zone = zone
    acme.save()

    page = operator.get(USAGE, {**TWO_DAYS, "tenant": "acme", "every": every, "measure": "requests"})
    rows = within(traffic, zone, tenant_id=acme.pk)

    assert number(page.context["table"]["total"]["requests"]) == len(rows) > 0
    figure = str(page.context["chart"]["figure"])
    assert zone in page.context["subtitle"]
    drawn = figure.split("<title>")[1:]
    counted = sum(
        number(part.split(": ")[1].split(" ")[0])
        for slot in drawn
        for part in slot.split("</title>")[0].split("\n")[1:]
    )
    assert counted == len(rows)
    [*bars] = {part.split('"')[0].replace("&amp;", "&") for part in figure.split('href="')[1:]}
    assert sum(len(rows_of(operator, url)) for url in bars) == len(rows)


def test_the_span_before_stands_beside_it(operator, traffic):
    page = operator.get(USAGE, {**TWO_DAYS, "by": "provider", "measure": "requests"})
    before = within(traffic, first=8, last=9)

    for row in page.context["table"]["rows"]:
        of_it = [each for each in before if each.provider == row["names"][0]]
        assert number(row["before"]) == len(of_it)
        assert row["change"] == f"{(number(row['requests']) - len(of_it)) * 100 / len(of_it):+.1f} %"
    cards = {each["label"]: each["before"] for each in page.context["cards"]}
    assert number(cards["Requests"]) == len(before)


@pytest.mark.parametrize(
    ("value", "before", "text"),
    [(90, 100, "-10.0 %"), (999, 100, "+899.0 %"), (30_089, 89, "338 times"), (5, 0, ""), (Decimal(-1), Decimal(2), "-150.0 %")],
)  # fmt: skip
def test_a_change_is_told_in_percent_or_in_times(value, before, text):
    assert change(value, before) == text


def test_unpriced_is_counted_and_never_zero_dollars(operator, acme):
    ingest([{"tenant_id": acme.pk, "created_at": NOON + timedelta(seconds=n)} for n in range(3)])

    page = operator.get(USAGE, TWO_DAYS)
    [row] = page.context["table"]["rows"]
    [line] = list(csv.DictReader(operator.get(USAGE, {**TWO_DAYS, "format": "csv"}).getvalue().decode().splitlines()))

    assert (row["cost"], row["unpriced"]) == ("unpriced", "3")
    assert {each["label"]: each["value"] for each in page.context["cards"]}["Spend"] == "unpriced"
    assert (line["cost_usd"], line["unpriced"]) == ("", "3")


def test_more_groups_than_are_shown_are_one_row_that_adds_up(operator, acme, monkeypatch):
    monkeypatch.setattr(usage, "SHOWN", 5)
    ingest(
        [
            {"tenant_id": acme.pk, "created_at": NOON + timedelta(seconds=n), "model": f"x/m{n}", "cost": Decimal(n)}
            for n in range(12)
        ]
    )

    table = operator.get(USAGE, TWO_DAYS).context["table"]

    assert [row["names"][0] for row in table["rows"]] == [*(f"x/m{n}" for n in range(11, 6, -1)), "7 more"]
    assert table["rows"][-1]["url"] == ""
    assert shown(table["rows"][-1])["requests"] == 7
    assert sum(shown(row)["cost"] for row in table["rows"]) == shown(table["total"])["cost"] == sum(range(12))
    assert table["groups"] == "12"


@pytest.mark.parametrize("every", list(EVERY))
@pytest.mark.parametrize(("by", "then"), [("model", ""), ("tenant", "app"), ("user", ""), ("api_key", "model")])
def test_the_file_adds_up_to_the_page_and_is_audited(operator, traffic, by, then, every):
    asked = {**TWO_DAYS, "by": by, "then": then, "every": every}
    page = operator.get(USAGE, asked)

    answer = operator.get(USAGE + page.context["csv"])
    lines = list(csv.DictReader(answer.getvalue().decode().splitlines()))

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    total = shown(page.context["table"]["total"])
    assert sum(int(line["requests"]) for line in lines) == total["requests"]
    assert round(sum(Decimal(line["cost_usd"] or 0) for line in lines), 2) == round(total["cost"], 2)
    assert sum(int(line["unpriced"]) for line in lines) == total["unpriced"]
    event = AuditLog.objects.get(action="usage.exported")
    assert event.details["by"] == [by, *([then] if then else [])]
    assert (event.details["rows"], event.actor_label) == (len(lines), "operator@example.com")


def test_the_file_holds_no_formula(operator, acme):
    acme.name = '=HYPERLINK("x")'
    acme.save()
    ingest([{"tenant_id": acme.pk, "created_at": NOON, "model": "@evil/x", "cost": Decimal("-0") + 1}])

    asked = {**TWO_DAYS, "format": "csv", "by": "tenant", "then": "model"}
    [line] = csv.DictReader(operator.get(USAGE, asked).getvalue().decode().splitlines())

    assert (line["tenant"], line["model"]) == ('\'=HYPERLINK("x")', "'@evil/x")


GARBAGE = [
    {"by": "x"}, {"by": "tenant", "then": "tenant"}, {"then": "x"}, {"every": "year"}, {"measure": "x"}, {"window": "x"},
    {"from": "x"}, {"from": "2026-13-01"}, {"from": "0001-01-01", "to": "9999-12-31"}, {"from": "2026-03-11", "to": "2026-03-10"},
    {"tenant": "x"}, {"tenant": "\x00"}, {"tenant": "'; DROP TABLE x; --"}, {"by": "\x00"}, {"by": "a" * 5000},
    {"tenant": "日本 😀"}, {"window": "12m", "every": "hour"}, {"format": "x"}, {"format": "csv", "by": "x"},
    {"from": "2026-03-01", "to": "2026-03-31", "every": "hour"}, {"by": "<script>alert(1)</script>"},
    {"by": ["tenant", "model"]},
]  # fmt: skip


@pytest.mark.parametrize("asked", GARBAGE, ids=lambda asked: repr(asked)[:30])
def test_whatever_is_asked_is_answered(operator, traffic, asked):
    answer = operator.get(USAGE, asked, follow=True)

    assert answer.status_code == 200
    if answer.context and "title" in answer.context:
        assert Page(answer).faults == []
        assert b"<script>alert" not in answer.content


def test_what_was_not_understood_is_said(operator, traffic):
    page = operator.get(USAGE, {"by": "x", "every": "hour", "window": "90d", "tenant": "nobody"})

    assert [each["text"] for each in page.context["notices"]] == [
        "No tenant has the slug 'nobody'. All tenants are shown.",
        "by='x' is not known: choose one of tenant, app, branch, user, api_key, provider, model.",
        "By hour at most 7 days are shown: choose a shorter window.",
    ]  # fmt: skip


@pytest.mark.parametrize("who", ["clerk", "owner", "anonymous"])
def test_who_may_not_sees_nothing(client, traffic, worlds, who):
    if who == "clerk":
        client.force_login(User.objects.create_user("clerk@example.com", is_staff=True))
    if who == "owner":
        client.force_login(User.objects.create_user("owner@acme.example", tenant=worlds["acme"].tenant, role="owner"))

    for asked in ({}, {"format": "csv"}):
        answer = client.get(USAGE, asked)
        assert answer.status_code == (403 if who == "clerk" else 302)
        assert b"openai" not in answer.content
    assert not AuditLog.objects.filter(action="usage.exported").exists()


def test_nothing_yet_is_said_with_a_step(operator):
    page = operator.get(USAGE)

    assert "Choose a longer window" in page.content.decode()
    assert Page(page).faults == []


@pytest.mark.parametrize("measure", list(MEASURES))
@pytest.mark.parametrize(
    "asked",
    [{"window": "90d"}, {"by": "tenant", "then": "model"}, {"by": "api_key"}, {"by": "app", "tenant": "acme"}],
    ids=str,
)
def test_a_page_takes_few_statements_however_many_groups_there_are(operator, acme, globex, asked, measure):
    def statements():
        operator.get(USAGE, asked)
        with CaptureQueriesContext(connection) as counted:
            page = operator.get(USAGE, {**asked, "measure": measure})
        assert Page(page).faults == []
        return len(counted)

    ingest([{"tenant_id": acme.pk, "created_at": now() - timedelta(hours=1)}])
    few = statements()
    ingest(
        [
            {
                "tenant_id": tenant.pk, "created_at": now() - timedelta(hours=n), "model": f"x/m{n}", "request_id": f"q{n}",
                "api_key_id": uuid7(),
            }
            for n, tenant in product(range(30), (acme, globex))
        ]
    )  # fmt: skip

    assert few <= statements() <= 6  # two for the totals of the span and of the one before, together
