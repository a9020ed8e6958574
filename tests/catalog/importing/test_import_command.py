from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management.base import OutputWrapper

from auditing.models import AuditLog, InferenceRequest
from catalog.models import AIModel, ModelPrice, PriceImport
from controlplane.core.commands import Progress
from controlplane.core.ids import now
from tests.catalog.importing.files import big, chat, dump
from tests.races import together

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]


def test_without_apply_nothing_is_written_and_the_diff_is_told(write, run):
    run("prices_import", write({"a": chat(), "b": chat()}), "--apply")
    before = AuditLog.objects.count()

    out, _ = run("prices_import", write({"a": chat(input_cost_per_token=1e-04), "b": chat(max_tokens=5), "c": chat()}))

    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["changed", "a", "input_cost_per_token", "2.5e-06", "0.0001", "+3,900.00", "%", "!"],
        ["changed", "b", "max_tokens", "-", "5"],
    ]
    assert out.endswith(
        "prices.json: 3 entries: 1 added, 0 removed, 2 changed, 0 unchanged, 0 kept, 1 flagged. "
        "Nothing was written: --apply writes it."
    )
    assert (AuditLog.objects.count(), PriceImport.objects.count()) == (before, 1)


def test_apply_writes_it_and_says_from_when_it_holds(write, run):
    out, err = run("prices_import", write(big(60)), "--apply", "--reason", "monthly", "--source-version", "1.2")

    made = PriceImport.objects.get()
    assert out == (
        "prices.json: 60 entries: 60 added, 0 removed, 0 changed, 0 unchanged, 0 kept, 0 flagged. "
        f"58 prices hold from {made.effective_from:%Y-%m-%d %H:%M}Z."
    )
    assert err == ""
    assert (made.reason, made.source_version) == ("monthly", "1.2")
    assert AuditLog.objects.filter(actor_id="prices_import", resource_type="cp_catalog_modelprice").count() == 58


def test_json_is_the_whole_diff_and_nothing_else(write, run):
    out, _ = run("prices_import", write({"a": chat()}), "--apply", "--json")
    told = json.loads(out)

    assert (told["applied"], told["import"], told["counts"]["added"]) == (True, str(PriceImport.objects.get().pk), 1)
    assert json.loads(run("prices_import", write({"a": chat()}), "--json")[0])["applied"] is False


def test_entries_with_errors_are_named_and_left_out_and_the_exit_code_says_so(write, failed):
    path = write({"good": chat(), "text": chat(input_cost_per_token="2.5e-06"), "less": chat(output_cost_per_token=-1)})

    code, sentence, out, err = failed("prices_import", path, "--apply")

    assert (code, sentence) == (1, "2 errors: their entries were left out.")
    assert "text: input_cost_per_token is" in err
    assert "negative_rate: less: output_cost_per_token is -1" in err
    assert "1 added" in out
    assert list(AIModel.objects.values_list("key", flat=True)) == ["good"]


def test_strict_takes_nothing_of_a_file_with_an_error(write, failed):
    code, sentence, out, _ = failed("prices_import", write({"good": chat(), "bad": 5}), "--apply", "--strict")

    assert (code, "--strict" in sentence, "Nothing was written" in out) == (1, True, True)
    assert not PriceImport.objects.exists()


def test_warnings_of_a_kind_are_one_line_and_no_failure(write, run):
    _, err = run("prices_import", write({f"m{n}": chat(input_cost_per_request=1, max_tokens="x") for n in range(9)}))

    assert len(err.splitlines()) == 2
    assert "unknown_price_field: m0: input_cost_per_request is 1" in err
    assert "(and 8 more)" in err


@pytest.mark.parametrize("cut", [0, 1, 50, 400])
def test_a_file_that_was_cut_off_could_not_run_and_changes_nothing(write, cut, failed):
    code, sentence, out, _ = failed("prices_import", write(dump({"a": chat(), "b": chat()})[:cut]), "--apply")

    assert (code, out) == (2, "")
    assert "line " in sentence
    assert "column " in sentence
    assert not PriceImport.objects.exists()


def test_a_path_that_is_not_there_could_not_run(tmp_path, failed):
    assert failed("prices_import", str(tmp_path / "none.json"))[0] == 2


def test_a_file_or_the_bundled_catalog_has_to_be_named(write, failed):
    assert failed("prices_import")[0] == 2
    assert failed("prices_import", write({"a": chat()}), "--bundled")[0] == 2


def test_a_shrunken_file_is_refused_also_as_a_dry_run(write, run, failed):
    entries = {f"m{n}": chat() for n in range(20)}
    run("prices_import", write(entries), "--apply")
    less = write({f"m{n}": chat() for n in range(10)}, "less.json")

    for arguments in ([], ["--apply"]):
        code, sentence, _, _ = failed("prices_import", less, *arguments)
        assert (code, "10 of the 20 models" in sentence) == (1, True)
    run("prices_import", less, "--apply", "--allow-shrink")
    assert AIModel.objects.exclude(unlisted_at=None).count() == 10


def test_the_same_file_under_another_source_removes_nothing(write, run):
    run("prices_import", write({f"m{n}": chat() for n in range(20)}), "--apply")

    out, _ = run("prices_import", write({"own": chat()}, "own.json"), "--apply", "--source", "ours")

    assert "1 added, 0 removed" in out


def test_an_import_may_begin_at_another_time_and_be_a_tenants(write, acme, run):
    run("prices_import", write({"m": chat()}), "--apply")
    later = (now() + timedelta(days=2)).replace(microsecond=0)
    contract = write({"m": chat(input_cost_per_token=1e-06)}, "contract.json")

    run("prices_import", contract, "--apply", "--tenant", "acme", "--effective-from", later.isoformat())

    own = ModelPrice.objects.get(tenant=acme)
    assert (own.effective_from, own.rates["input_cost_per_token"]) == (later, "1e-06")


def test_prices_of_the_past_need_a_reason(write, run, failed):
    code, sentence, _, _ = failed(
        "prices_import", write({"m": chat()}), "--apply", "--effective-from", "2026-01-01T00:00Z"
    )

    assert (code, "--reason" in sentence) == (1, True)
    run("prices_import", write({"m": chat()}), "--apply", "--effective-from", "2026-01-01T00:00Z", "--reason", "late")
    assert ModelPrice.objects.get().effective_from == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--effective-from", "2026-01-01T00:00"], ["--effective-from", "soon"], ["--threshold", "x"], ["--threshold=-1"],
        ["--threshold", "nan"], ["--tenant", "nobody"], ["--source", "manual"], ["--source", "s" * 101],
        ["--source", "\udcff"], ["--source", "a\x00b"], ["--source-version", "\udcff"], ["--reason", "\udcff"],
    ],
)  # fmt: skip
def test_an_argument_that_makes_no_sense_is_refused(write, arguments, failed):
    assert failed("prices_import", write({"m": chat()}), "--apply", *arguments)[0] in (1, 2)
    assert not PriceImport.objects.exists()


def test_a_file_whose_name_is_no_text_is_imported_all_the_same(write, run):
    out, _ = run("prices_import", write({"m": chat()}, "new\udcff.json"), "--apply")

    assert out.startswith("new?.json: 1 entries")


def test_the_bundled_catalog_is_a_source_of_its_own(run):
    run("prices_import", "--bundled", "--apply")
    again, _ = run("prices_import", "--bundled")

    assert PriceImport.objects.get().source == "bundled"
    assert "0 added, 0 removed, 0 changed" in again


def test_calls_of_before_are_priced_by_the_bundled_catalog(acme, acme_app, run, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")

    told, _ = run("prices_import", "--bundled", "--apply")
    run("usage_import", str(trace), "--tenant", "acme", "--app", acme_app.slug, "--model", "openai/gpt-4o")

    fact = InferenceRequest.objects.order_by("id").get()
    price = ModelPrice.objects.get(pk=fact.price_id)
    assert "hold from 2020-01-01" in told
    assert (fact.pricing_status, price.effective_from) == ("priced", datetime(2020, 1, 1, tzinfo=UTC))
    assert fact.cost == 4808 * Decimal(price.rates["input_cost_per_token"]) + 10 * Decimal(
        price.rates["output_cost_per_token"]
    )
    assert PriceImport.objects.get().reason.startswith("Public prices as of")


def test_the_bundled_catalog_holds_from_now_beside_other_prices_and_from_when_it_is_said(write, run):
    run("prices_import", write({"a": chat()}), "--apply")
    run("prices_import", "--bundled", "--apply")
    beside = PriceImport.objects.latest("pk")
    said = now() + timedelta(days=9)
    run("prices_import", "--bundled", "--apply", "--effective-from", said.isoformat(), "--source", "mine")

    assert now() - timedelta(minutes=5) < beside.effective_from <= now()
    assert PriceImport.objects.latest("pk").effective_from == said


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_end_well_and_import_once(write, run):
    path = write(big(60))

    outcomes = together(*[lambda: run("prices_import", path, "--apply")[0]] * 2)

    assert sorted("60 added" in outcome for outcome in outcomes) == [False, True], outcomes
    assert (AIModel.objects.count(), ModelPrice.objects.count()) == (60, 58)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_is_interrupted_or_killed_leaves_nothing(write, other_connection, way):
    """It is stopped while it waits for a lock behind its last model: all models are written, no price is."""
    at = other_connection.info
    ours = {"PGHOST": at.host, "PGPORT": str(at.port), "PGUSER": at.user, "DB_LOCK_TIMEOUT": "60000"}
    variables = {
        **os.environ,
        **ours,
        "DATABASE_URL": f"postgresql:///{at.dbname}",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    with other_connection.transaction():
        other_connection.execute("LOCK TABLE cp_catalog_modelprice IN SHARE MODE")
        command = [sys.executable, "manage.py", "prices_import", write(big(60)), "--apply"]
        with subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            wait_until_somebody_waits(other_connection, process)
            process.send_signal(way)
            process.wait(30)
    wait_until_nobody_else_works(other_connection)

    assert process.returncode != 0
    assert [AIModel.objects.count(), ModelPrice.objects.count(), PriceImport.objects.count()] == [0, 0, 0]


def wait_until_somebody_waits(other, process):
    while process.poll() is None:
        found = other.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'cp_catalog_modelprice'::regclass"
        )
        if found.fetchone()[0]:
            return
    pytest.fail(process.stderr.read().decode())


def wait_until_nobody_else_works(other):
    """The server ends a transaction as soon as it sees that its client is gone."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL "
        "AND pid <> pg_backend_pid()"
    )
    for _ in range(100_000):
        if not other.execute(busy).fetchone()[0]:
            return
    pytest.fail("Somebody still works in this database.")


def test_progress_tells_what_is_left_on_a_terminal():
    class Terminal(StringIO):
        def isatty(self):
            return True

    clock, err = iter([0, 4, 8]).__next__, Terminal()
    with Progress(OutputWrapper(err), "p.json", 200, clock) as progress:
        progress(50)
        progress(150)

    assert "50 rows, 12/s, 12 s left" in err.getvalue()
    assert "150 rows, 19/s, 3 s left" in err.getvalue()
