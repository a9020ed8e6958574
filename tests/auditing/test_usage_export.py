"""Usage as files: whole or not there, to the last digit, and no cell that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from urllib.parse import quote

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from auditing import exporting_usage, focus
from auditing.cells import line
from auditing.errors import InvalidExport, InvalidWindow
from auditing.exporting_usage import COLUMNS, UsageExport
from auditing.models import AuditLog, InferenceRequest
from controlplane.core.ids import now, uuid7
from tests.factories import APIKeyFactory, InferenceRequestFactory
from tests.races import together

pytestmark = pytest.mark.django_db
requests = InferenceRequest.objects
BEGIN = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
END = BEGIN + timedelta(days=28)
WINDOW = ("--from", BEGIN.isoformat(), "--to", END.isoformat())


def fact_of(tenant, n=0, **values):
    given = {"tenant_id": tenant.pk, "created_at": BEGIN + timedelta(minutes=n), "time_zone": tenant.time_zone}
    return InferenceRequestFactory(**given | values)


def export_of(tenant, **asked):
    return UsageExport(tenant_id=tenant.pk, **{"start": BEGIN, "end": END} | asked)


def written(export, **how):
    out = StringIO()
    exporting_usage.write(export, out, by="tests", **how)
    return out.getvalue()


def records(text):
    return list(csv.DictReader(StringIO(text)))


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("usage_export", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def failed(*arguments):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


# --- what a file holds


def test_the_sums_of_a_file_of_requests_are_the_totals(acme, globex):
    for n in range(7):
        fact_of(acme, n, cost=Decimal("0.000000000001") * (n + 1), model=f"m-{n % 2}", provider="p")
    fact_of(acme, 8, cost=None, pricing_status="unpriced")
    fact_of(globex, cost=Decimal(100))
    adjusted = requests.adjust(fact_of(acme, 9).pk, reason_code="credit", reason="late", cost=Decimal("-0.5"))

    rows = records(written(export_of(acme, raw=True), closing=False))

    totals = requests.totals(acme, BEGIN, END, by=("month",))
    assert len(rows) == 10
    assert sum(Decimal(row["cost"] or 0) for row in rows) == sum(total.cost for total in totals)
    assert sum(int(row["prompt_tokens"] or 0) for row in rows) == sum(total.prompt_tokens for total in totals)
    assert sum(row["adjusts"] == "" for row in rows) == sum(total.requests for total in totals)
    assert next(row for row in rows if row["id"] == str(adjusted.pk))["cost"] == "-0.500000000000"


@pytest.mark.parametrize("by", [("model",), ("app", "model"), ("day",), ("user", "api_key", "provider")])
def test_a_file_of_totals_is_the_totals(acme, by):
    app, key = uuid7(), uuid7()
    for n in range(5):
        fact_of(acme, n, app_id=app if n % 2 else None, api_key_id=key, model=f"m-{n}")

    rows = records(written(export_of(acme, by=by), closing=False))

    for row, total in zip(rows, requests.totals(acme, BEGIN, END, by=by), strict=True):
        assert tuple(row[name] for name in by) == tuple("" if part is None else str(part) for part in total.key)
        assert (Decimal(row["cost"]), int(row["requests"])) == (total.cost, total.requests)


def test_a_call_that_is_booked_later_is_in_the_file_of_its_booking(acme):
    fact_of(acme, request_id="late", created_at=BEGIN, booked_at=END + timedelta(days=1))
    fact_of(acme, request_id="own", created_at=BEGIN)

    first = records(written(export_of(acme, raw=True), closing=False))
    then = records(written(export_of(acme, raw=True, start=END, end=END + timedelta(days=2)), closing=False))

    assert ([row["request_id"] for row in first], [row["request_id"] for row in then]) == (["own"], ["late"])


def test_more_rows_than_a_batch_are_read_in_short_statements(acme, monkeypatch):
    monkeypatch.setattr(exporting_usage, "BATCH", 3)
    ids = [str(fact_of(acme, n).pk) for n in range(8)]

    with CaptureQueriesContext(connection) as queries:
        text = written(export_of(acme, raw=True), closing=False)

    assert [row["id"] for row in records(text)] == sorted(ids)
    assert sum("LIMIT 3" in query["sql"] for query in queries) == 4  # 3, 3, 2 rows, and none booked later


def test_json_lines_end_with_how_many_they_are(acme):
    fact_of(acme, other_units={"images": 2}, cost=Decimal("0.1"), error='a "quoted"\nline', stream=True)

    first, end, nothing = written(export_of(acme, raw=True, format="jsonl")).split("\n")

    assert json.loads(end) == {"_end": True, "rows": 1}
    assert nothing == ""
    row = json.loads(first)
    assert tuple(row) == COLUMNS
    assert (row["cost"], row["other_units"], row["stream"], row["latency_ms"]) == (
        "0.100000000000",
        {"images": 2},
        True,
        800,
    )
    assert row["error"] == 'a "quoted"\nline'


def test_nothing_is_a_file_too(acme):
    assert written(export_of(acme, format="jsonl")) == '{"_end": true, "rows": 0}\n'
    assert written(export_of(acme)).splitlines()[1:] == ['"_end",0']


def test_what_only_the_proof_needs_is_in_no_file(acme):
    assert not {"xid", "schema"} & set(COLUMNS)


# --- cells


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n"])
def test_a_text_that_a_spreadsheet_would_run_is_text(start):
    assert line([f"{start}HYPERLINK(1)"]) == f'"\'{start}HYPERLINK(1)"\r\n'


def test_numbers_stay_numbers():
    values = [-1, Decimal("-0.000000000001"), Decimal("0E-12"), 2.5, True, None]

    assert line(values) == "-1,-0.000000000001,0.000000000000,2.5,true,\r\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1))
def test_any_text_is_read_as_it_was_but_for_the_mark(texts):
    [cells] = csv.reader(StringIO(line(texts), newline=""))

    assert [cell.removeprefix("'") for cell in cells] == [text.removeprefix("'") for text in texts]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)


def test_a_formula_in_a_model_is_no_formula_in_the_file(acme):
    fact_of(acme, model='=cmd|"/C calc"!A1', error="ünïcödé 漢字 🚀")

    [row] = records(written(export_of(acme, raw=True), closing=False))

    assert (row["model"], row["error"]) == ('\'=cmd|"/C calc"!A1', "ünïcödé 漢字 🚀")


# --- FOCUS


def test_focus_tells_charges_by_day(acme, acme_app):
    key = APIKeyFactory(app=acme_app, name="bot")
    at = BEGIN + timedelta(days=3, hours=12)
    fact_of(acme, created_at=at, local_date=at.date(), app_id=acme_app.pk, api_key_id=key.pk, cost=Decimal("1.25"))
    fact_of(
        acme,
        created_at=at,
        local_date=at.date(),
        app_id=acme_app.pk,
        api_key_id=key.pk,
        cost=None,
        pricing_status="unpriced",
    )

    [row] = records(written(export_of(acme, format="focus"), closing=False))

    assert tuple(row) == focus.COLUMNS
    assert [Decimal(row[name]) for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")] == [
        Decimal("1.25")
    ] * 4
    assert (row["BillingCurrency"], row["ServiceCategory"], row["ChargeCategory"]) == (
        "USD",
        "AI and Machine Learning",
        "Usage",
    )
    assert (row["SubAccountName"], row["ResourceName"], row["SkuId"]) == ("Chat", "bot", "openai/gpt-4o")
    assert (row["x_Requests"], row["x_UnpricedRequests"]) == ("2", "1")
    starts, ends = datetime.fromisoformat(row["ChargePeriodStart"]), datetime.fromisoformat(row["ChargePeriodEnd"])
    assert starts <= at < ends
    assert json.loads(row["Tags"]) == {}


def test_a_day_of_focus_has_the_hours_that_its_zone_gives_it(acme):
    """The day on which clocks go forward in Berlin has 23 hours; no period reaches out of the window."""
    starts, ends = focus._period(date(2026, 3, 29), focus.ZoneInfo("Europe/Berlin"), BEGIN, END)
    assert (starts, ends) == ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")

    inside = datetime(2026, 3, 29, 6, tzinfo=UTC), datetime(2026, 3, 29, 7, tzinfo=UTC)
    cut = focus._period(date(2026, 3, 29), focus.ZoneInfo("Europe/Berlin"), *inside)
    assert cut == ("2026-03-29T06:00:00Z", "2026-03-29T07:00:00Z")


def test_the_costs_of_focus_are_the_totals(acme, globex):
    for n in range(20):
        fact_of(acme, n * 700, model=f"m-{n % 3}", cost=Decimal("0.1") * n)
    fact_of(globex)

    rows = records(written(export_of(acme, format="focus"), closing=False))

    assert sum(Decimal(row["BilledCost"]) for row in rows) == requests.metrics(acme, BEGIN, END).total_cost


# --- refused before anything is written


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"format": "xlsx"}, InvalidExport),
        ({"format": "focus", "raw": True}, InvalidExport),
        ({"start": END, "end": BEGIN}, InvalidWindow),
        ({"start": BEGIN.replace(tzinfo=None)}, InvalidWindow),
    ],
)
def test_what_cannot_be_exported_is_refused_before_it_begins(acme, asked, error):
    out = StringIO()

    with pytest.raises(error):
        exporting_usage.write(export_of(acme, **asked), out, by="tests")

    assert out.getvalue() == ""
    assert not AuditLog.objects.exclude(action__in=["create", "update"]).exists()


# --- recorded


def test_an_export_is_recorded_when_it_begins_and_when_it_ends(acme):
    fact_of(acme)

    written(export_of(acme, raw=True))

    begun, ended = AuditLog.objects.with_action("usage.export_*").order_by("id")
    assert (begun.action, begun.tenant_id, begun.actor_id) == ("usage.export_begun", acme.pk, "tests")
    assert begun.details["raw"] is True
    assert begun.details["columns"] == list(COLUMNS)
    assert begun.details["from"] == BEGIN.isoformat().replace("+00:00", "Z")
    assert (ended.outcome, ended.details) == ("success", {"begun": str(begun.pk), "rows": 1, "complete": True})


class Full(StringIO):
    def write(self, text):
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_an_export_that_breaks_is_recorded_as_such(acme):
    fact_of(acme)

    with pytest.raises(OSError, match="No space"):
        exporting_usage.write(export_of(acme, raw=True), Full(), by="tests")

    ended = AuditLog.objects.get(action="usage.export_ended")
    assert (ended.outcome, ended.details["complete"]) == ("failure", False)


# --- the command


def test_a_file_is_there_once_it_is_whole(acme, tmp_path):
    for n in range(3):
        fact_of(acme, n)
    path = tmp_path / "usage.csv"
    path.write_text("the export before")

    out, _ = run("--tenant", "acme", *WINDOW, "--raw", "--out", str(path))

    assert out == f"Wrote 3 rows to {path}.\n"
    assert len(records(path.read_text())) == 3
    assert [found.name for found in tmp_path.iterdir()] == ["usage.csv"]


def test_a_file_that_breaks_leaves_the_one_before(acme, tmp_path, monkeypatch):
    fact_of(acme)
    path = tmp_path / "usage.csv"
    path.write_text("the export before")
    monkeypatch.setattr(exporting_usage, "batches", lambda export: (1 / 0 for _ in range(1)))

    with pytest.raises(ZeroDivisionError):
        exporting_usage.write_file(export_of(acme), path, by="tests")

    assert path.read_text() == "the export before"
    assert [found.name for found in tmp_path.iterdir()] == ["usage.csv"]


def test_on_stdout_the_last_line_says_that_it_is_whole(acme):
    fact_of(acme)

    out, _ = run("--tenant", "acme", *WINDOW)

    assert out.splitlines()[-1] == '"_end",1'
    out, _ = run("--tenant", "acme", *WINDOW, "--format", "jsonl", "--by", "day,model")
    assert out.splitlines()[-1] == '{"_end": true, "rows": 1}'


def test_what_was_written_as_json(acme, tmp_path):
    path = tmp_path / "u.jsonl"

    out, _ = run("--tenant", "acme", *WINDOW, "--format", "jsonl", "--out", str(path), "--json")

    assert json.loads(out) == {"file": str(path), "rows": 0}
    assert path.read_text() == '{"_end": true, "rows": 0}\n'


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--tenant", "nobody", *WINDOW], 2, "no tenant"),
        (["--tenant", "acme", "--from", "2026-02-01", "--to", "2026-03-01T00:00Z"], 2, "time zone"),
        (["--tenant", "acme", "--from", END.isoformat(), "--to", BEGIN.isoformat()], 1, "empty"),
        (["--tenant", "acme", *WINDOW, "--by", "colour"], 2, "no list of groups"),
        (["--tenant", "acme", *WINDOW, "--by", "model,model"], 2, "no list of groups"),
        (["--tenant", "acme", *WINDOW, "--by", ""], 2, "no list of groups"),
        (["--tenant", "acme", *WINDOW, "--format", "xlsx"], 2, "invalid choice"),
        (["--tenant", "acme", *WINDOW, "--format", "focus", "--raw"], 1, "FOCUS"),
        (["--tenant", "acme", *WINDOW, "--out", "/nowhere/at/all.csv"], 1, "cannot be written"),
        (["--tenant", "acme", *WINDOW, "--out", "/"], 1, "is a folder"),
    ],
)
def test_garbage_is_refused_in_a_sentence(acme, arguments, code, word):
    found, said = failed(*arguments)

    assert word in said
    assert found in (code, 1)


@pytest.mark.django_db(transaction=True)
def test_two_exports_at_once_are_two_whole_files(acme, tmp_path):
    for n in range(20):
        fact_of(acme, n)
    paths = [tmp_path / "same.csv"] * 2

    done = together(
        *(lambda path=path: exporting_usage.write_file(export_of(acme, raw=True), path, by="tests") for path in paths)
    )

    assert [one.rows for one in done] == [20, 20]
    assert len(records(paths[0].read_text())) == 20
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.django_db(transaction=True)
def test_an_interrupted_export_is_no_file(acme, tmp_path):
    """Ctrl+C in the middle, in a process of its own."""
    for n in range(10):
        fact_of(acme, n)
    program = (
        "import os, signal, sys, django; django.setup()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a shell's background, and inherited
        "from django.conf import settings\n"
        "from django.core.management import call_command\n"
        "from auditing import exporting_usage\n"
        "exporting_usage.BATCH = 2\n"
        "page = exporting_usage.batches\n"
        "def stopped(export):\n"
        "    for n, batch in enumerate(page(export)):\n"
        "        if n == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield batch\n"
        "exporting_usage.batches = stopped\n"
        "call_command('usage_export', *sys.argv[1:])\n"
    )
    path = tmp_path / "u.csv"
    at = connection.settings_dict
    url = f"postgresql://{at['USER']}@/{at['NAME']}?host={quote(at['HOST'])}" if at["HOST"].startswith("/") else None
    if url is None:
        pytest.skip("needs a database on a socket")

    done = subprocess.run(
        [sys.executable, "-c", program, "--tenant", "acme", *WINDOW, "--raw", "--out", str(path)],
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "controlplane.settings"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert done.returncode == -signal.SIGINT, done.stderr
    assert list(tmp_path.iterdir()) == []
    ended = AuditLog.objects.get(action="usage.export_ended")
    assert (ended.outcome, ended.details["complete"], ended.details["rows"]) == ("failure", False, 4)
