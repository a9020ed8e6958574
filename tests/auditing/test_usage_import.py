from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper

from auditing import importing
from auditing.errors import InvalidImport
from auditing.ingest import LOG
from auditing.models import AuditLog, DeadLetter, InferenceRequest
from controlplane.core import partitions
from controlplane.core.commands import Progress
from tenants.models import App, Tenant

pytestmark = pytest.mark.django_db

BEGIN = datetime(2023, 11, 16, 18, 15, 46, 680590, tzinfo=UTC)
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def failed(*arguments):
    """(exit code, sentence) of a command that fails; it must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


def trace(count):
    """Lines as those of Azure's traces: seven decimals, no offset."""
    return [f"{BEGIN + timedelta(seconds=n):%Y-%m-%d %H:%M:%S.%f}0,{374 + n % 100},{44 + n % 7}" for n in range(count)]


@pytest.fixture
def write(tmp_path):
    """Write a file of lines (text, or bytes as they are); returns its path."""

    def write(lines, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode())
        return str(path)

    return write


@pytest.fixture
def acme():
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    for slug in ("chat", "code"):
        App.objects.create(tenant=tenant, slug=slug, name=slug)
    globex = Tenant.objects.create(slug="globex", name="Globex")
    App.objects.create(tenant=globex, slug="lab", name="Lab")
    return tenant


INTO = ("--tenant", "acme", "--app", "chat", "--model", "openai/gpt-4")


def test_an_azure_trace_is_imported_to_the_last_token(acme, write):
    lines = trace(12_000)

    run("usage_import", write([HEADER, *lines]), *INTO)
    [total] = InferenceRequest.objects.totals(acme, BEGIN, BEGIN + timedelta(days=1), by=("app",))

    assert total.key == (acme.apps.get(slug="chat").pk,)
    assert total.requests == 12_000
    assert total.prompt_tokens == sum(374 + n % 100 for n in range(12_000))
    assert total.completion_tokens == sum(44 + n % 7 for n in range(12_000))


def test_the_seventh_decimal_is_dropped_and_the_time_is_utc(acme, write):
    run("usage_import", write([HEADER, *trace(1)]), *INTO)

    assert InferenceRequest.objects.get().created_at == BEGIN


def test_twice_imported_is_imported_once(acme, write):
    path = write([HEADER, *trace(7000)])
    run("usage_import", path, *INTO)

    out, _ = run("usage_import", path, *INTO, "--json")

    assert json.loads(out)["files"][0]["duplicates"] == 7000
    assert InferenceRequest.objects.count() == 7000


def test_a_month_that_is_not_there_is_made(acme, write):
    run("usage_import", write([HEADER, *trace(1)]), *INTO)

    assert BEGIN.date().replace(day=1) in partitions.existing_months(LOG)


def test_a_row_says_where_it_came_from(acme, write):
    run("usage_import", write([HEADER, *trace(2)]), *INTO)
    row = InferenceRequest.objects.order_by("id").last()

    assert (row.provider, row.model, row.source) == ("openai", "openai/gpt-4", "import")
    assert row.request_id.startswith("azure:")
    assert row.request_id.endswith(":3")
    assert (row.cost, row.pricing_status, row.status) == (None, "unpriced", "completed")


def test_the_log_says_who_imported_what(acme, write):
    run("usage_import", write([HEADER, *trace(2)]), *INTO)
    event = AuditLog.objects.get(action="usage.imported")

    assert (event.tenant_id, event.actor_id) == (acme.pk, "usage_import")
    assert (event.details["file"], event.details["inserted"]) == ("trace.csv", 2)


def test_several_files_are_imported_in_one_run(acme, write):
    first, second = write([HEADER, *trace(3)], "a.csv"), write([HEADER, *trace(5)], "b.csv")

    out, _ = run("usage_import", first, second, *INTO, "--json")

    assert [file["inserted"] for file in json.loads(out)["files"]] == [3, 5]


def test_one_file_that_cannot_be_read_stops_all_of_them(acme, write):
    code, said = failed("usage_import", write([HEADER, *trace(3)]), "nowhere.csv", *INTO)

    assert code == 2
    assert "nowhere.csv" in said
    assert not InferenceRequest.objects.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([""], "empty"),
        (b"", "empty"),
        (["when,who,what", "1,2,3"], "no"),
        (["TIMESTAMP,ContextTokens", "2023-11-16 18:15:46,3"], "TIMESTAMP"),
        ([f"{HEADER},TIMESTAMP", "1,2,3,4"], "twice"),
        (bytes(range(256)) * 40, "does not begin"),
        (b"\x00\x01\x02\x03" * 100, "does not begin"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 200, "does not begin"),
        (b'"' + b"x" * 200_000, "does not begin"),
    ],
)
def test_what_is_no_usage_log_is_refused_in_one_sentence(acme, write, content, word):
    code, said = failed("usage_import", write(content), *INTO)

    assert code == 2
    assert word in said
    assert len(said) < 600
    assert not InferenceRequest.objects.exists()
    assert not DeadLetter.objects.exists()


def test_a_folder_is_no_file(acme, tmp_path):
    code, said = failed("usage_import", str(tmp_path), *INTO)

    assert code == 2
    assert "irectory" in said


@pytest.mark.parametrize(
    ("tenant", "app"),
    [("nobody", "chat"), ("acme", "nothing"), ("acme", "lab"), ("globex", "chat"), ("acme'--", "chat")],
)
def test_an_unknown_tenant_or_an_app_of_another_is_refused(acme, write, tenant, app):
    code, _ = failed(
        "usage_import", write([HEADER, *trace(1)]), "--tenant", tenant, "--app", app, "--model", "openai/gpt-4"
    )

    assert code == 2
    assert not InferenceRequest.objects.exists()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("2023-11-16 18:15", "malformed_line"),
        ("2023-11-16 18:15:46.6805900,374,44,9", "malformed_line"),
        ("2023-11-16 18:15:46.6805900,-374,44", "negative"),
        ("2023-11-16 18:15:46.6805900,374,many", "wrong_type"),
        ("2023-11-16 18:15:46.6805900,3.5,44", "wrong_type"),
        ("2023-11-16 18:15:46.6805900,99999999999,44", "out_of_range"),
        (f"2023-11-16 18:15:46.6805900,{'9' * 5000},44", "wrong_type"),
        ("2023-13-45 18:15:46,374,44", "wrong_type"),
        ("0001-01-01 00:00:00+14:00,374,44", "out_of_range"),
        ("2019-12-31 23:59:59,374,44", "created_at_too_old"),
        ("2999-01-01 00:00:00,374,44", "created_at_in_future"),
        (",374,44", "missing_field"),
        ('"2023-11-16 18:15:46,374,44', "malformed_line"),
        ("\x00,374,44", "wrong_type"),
    ],
)
def test_a_bad_line_is_kept_aside_and_those_around_it_are_imported(acme, write, bad, code):
    lines = trace(10)
    path = write([HEADER, *lines[:5], bad, *lines[5:]])

    exit_code, said = failed("usage_import", path, *INTO)
    letter = DeadLetter.objects.get()

    assert exit_code == 1
    assert "1 rows" in said
    assert InferenceRequest.objects.count() == 10
    assert (letter.code, letter.row_number, letter.source) == (code, 7, "trace.csv")
    assert letter.tenant_id == acme.pk


def test_a_bad_date_in_line_9000_is_named(acme, write):
    lines = trace(10_000)
    lines[8998] = lines[8998].replace("2023", "20x3", 1)

    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError):
        call_command("usage_import", write([HEADER, *lines]), *INTO, "--json", stdout=out, stderr=err)
    [file] = json.loads(out.getvalue())["files"]

    assert (file["inserted"], file["rejected"], file["read"]) == (9999, 1, 10_000)
    assert file["rejections"][0]["row"] == 9000
    assert "line 9000: wrong_type: created_at is '20x3" in err.getvalue()
    assert DeadLetter.objects.get().row_number == 9000


def test_a_file_that_ends_within_a_line_loses_that_line_only(acme, write):
    whole = "\n".join([HEADER, *trace(5)])

    failed("usage_import", write(whole.encode()[:-20]), *INTO)

    assert InferenceRequest.objects.count() == 4
    assert DeadLetter.objects.get().row_number == 6


def test_a_quote_that_is_never_closed_costs_its_own_line(acme, write):
    lines = trace(3000)
    lines[100] = '"' + lines[100]

    failed("usage_import", write([HEADER, *lines]), *INTO)

    assert InferenceRequest.objects.count() == 2999
    assert DeadLetter.objects.get().row_number == 102


def test_the_same_bad_line_is_kept_once_however_often_its_file_is_imported(acme, write):
    path = write([HEADER, *trace(2), "half a line"])

    failed("usage_import", path, *INTO)
    failed("usage_import", path, *INTO)

    assert bytes(DeadLetter.objects.get().payload) == b"half a line"


def test_bytes_that_are_no_utf8_are_one_bad_line(acme, write):
    failed("usage_import", write("\n".join([HEADER, *trace(2)]).encode() + b"\n\xff\xfe,1,2\n"), *INTO)

    assert InferenceRequest.objects.count() == 2
    assert DeadLetter.objects.count() == 1


def test_only_the_first_bad_rows_are_listed_and_all_are_counted(acme, write):
    err = StringIO()
    with pytest.raises(CommandError, match="50 rows"):
        call_command("usage_import", write([HEADER, *["x"] * 50]), *INTO, stderr=err)

    assert "and 30 more" in err.getvalue()
    assert DeadLetter.objects.count() == 50


def test_blank_lines_a_byte_order_mark_and_windows_ends_do_no_harm(acme, write):
    text = "\r\n".join([HEADER, *trace(2), "", *trace(4)[2:], "", ""])

    run("usage_import", write(b"\xef\xbb\xbf" + text.encode()), *INTO)

    assert InferenceRequest.objects.count() == 4


def test_a_dry_run_counts_and_writes_nothing(acme, write):
    before = AuditLog.objects.count()

    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 rows were refused"):
        call_command(
            "usage_import", write([HEADER, *trace(3), "x"]), *INTO, "--dry-run", "--json", stdout=out, stderr=err
        )

    assert json.loads(out.getvalue())["files"][0]["inserted"] == 3
    assert not InferenceRequest.objects.exists()
    assert not DeadLetter.objects.exists()
    assert AuditLog.objects.count() == before


def test_every_call_can_be_moved_in_time(acme, write):
    run("usage_import", write([HEADER, *trace(1)]), *INTO, "--shift", "52w")

    assert InferenceRequest.objects.get().created_at == BEGIN + timedelta(weeks=52)


def test_a_shift_out_of_all_time_is_a_bad_row(acme, write):
    failed("usage_import", write([HEADER, *trace(1)]), *INTO, "--shift=-999999d")

    assert DeadLetter.objects.get().code == "wrong_type"


def test_a_mapping_names_fields_formats_and_constants(acme, write):
    mapping = {
        "created_at": {"field": "ts", "format": "epoch_ms"},
        "request_id": "id",
        "provider": {"value": "mistral"},
        "model": "model",
        "prompt_tokens": "in",
        "completion_tokens": "out",
        "cost": "usd",
        "stream": {"value": True},
    }
    path = write(["id,ts,model,in,out,usd,colour", "r-1,1700158546680,mistral/large,10,20,0.0125,teal"])

    _, err = run(
        "usage_import", path, "--tenant", "acme", "--app", "code", "--map", write([json.dumps(mapping)], "map.json")
    )
    row = InferenceRequest.objects.get()

    assert (row.request_id, row.provider, row.model) == ("r-1", "mistral", "mistral/large")
    assert row.created_at == datetime(2023, 11, 16, 18, 15, 46, 680000, tzinfo=UTC)
    assert (row.cost, row.pricing_status, row.stream) == (Decimal("0.0125"), "priced", True)
    assert "not read: colour" in err


def test_json_lines_are_read_and_a_broken_one_kept_aside(acme, write):
    whole = {"created_at": "2023-11-16T18:15:46Z", "prompt_tokens": 5, "completion_tokens": 6, "cost": 0.1}
    path = write(
        [json.dumps(whole), '{"created_at": ', "[1, 2]", json.dumps({**whole, "prompt_tokens": True})], "t.jsonl"
    )

    failed("usage_import", path, *INTO)

    assert InferenceRequest.objects.get().cost == Decimal("0.1")
    assert list(DeadLetter.objects.order_by("row_number").values_list("row_number", "code")) == [
        (2, "malformed_line"), (3, "malformed_line"), (4, "wrong_type"),
    ]  # fmt: skip


def test_epochs_in_json_may_be_numbers(acme, write):
    mapping = write([json.dumps({"created_at": {"field": "at", "format": "epoch_s"}})], "map.json")

    run("usage_import", write(['{"at": 1700158546.5}'], "t.jsonl"), *INTO, "--map", mapping)

    assert InferenceRequest.objects.get().created_at == datetime(2023, 11, 16, 18, 15, 46, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("mapping", "word"),
    [
        ("{", "no JSON"),
        ("[]", "object"),
        ('{"when": "TIMESTAMP"}', "when"),
        ('{"created_at": {"format": "epoch_s"}}', "created_at"),
        ('{"created_at": {"field": "TIMESTAMP", "format": "roman"}}', "roman"),
        ('{"created_at": {"field": "TIMESTAMP", "zone": "Mars/Olympus"}}', "Mars"),
        ('{"created_at": {"field": 5}}', "created_at"),
        ('{"created_at": "nowhere"}', "nowhere"),
        ('{"prompt_tokens": "ContextTokens"}', "when a call was made"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_before_a_row_is_read(acme, write, mapping, word):
    code, said = failed("usage_import", write([HEADER, *trace(1)]), *INTO, "--map", write([mapping], "map.json"))

    assert code == 2
    assert word in said
    assert not DeadLetter.objects.exists()


def test_a_constant_fills_its_column_in_every_row(acme, write):
    run("usage_import", write([HEADER, *trace(2)]), *INTO, "--set", "status=failed", "--set", "error_code=timeout")

    assert set(InferenceRequest.objects.values_list("status", "error_code")) == {("failed", "timeout")}


@pytest.mark.parametrize("given", ["tenant_id=x", "request_id=x", "colour=teal", "status"])
def test_a_constant_of_no_column_is_refused(acme, write, given):
    with pytest.raises(CommandError):
        run("usage_import", write([HEADER, *trace(1)]), *INTO, "--set", given)

    assert not InferenceRequest.objects.exists()


def test_without_a_model_the_file_must_name_it(acme, write):
    code, said = failed("usage_import", write([HEADER, *trace(1)]), "--tenant", "acme", "--app", "chat")

    assert code == 2
    assert "--model" in said


@pytest.mark.parametrize("model", ["gpt-4", "openai/", "/gpt-4", ""])
def test_a_model_is_provider_and_name(acme, write, model):
    assert (
        "--model"
        in failed("usage_import", write([HEADER, *trace(1)]), "--tenant", "acme", "--app", "chat", "--model", model)[1]
    )


def test_dead_letters_are_listed_and_discarded_with_a_reason(acme, write):
    failed("usage_import", write([HEADER, "x", "y", "z"]), *INTO)

    out, _ = run("usage_dead_letter", "list", "--tenant", "acme", "--payload", "--json")
    gone, _ = run("usage_dead_letter", "discard", "--source", "trace.csv", "--reason", "typed by hand")

    assert [row["payload"] for row in json.loads(out)["rows"]] == ["z", "y", "x"]
    assert gone == "Discarded 3 rows."
    assert run("usage_dead_letter", "list")[0] == ""
    assert len(run("usage_dead_letter", "list", "--all")[0].splitlines()) == 4
    event = AuditLog.objects.get(action="deadletter.discarded")
    assert (event.tenant_id, event.reason, event.details) == (
        acme.pk, "typed by hand", {"sources": {"trace.csv": 3}},
    )  # fmt: skip


def test_discarding_needs_a_choice_and_a_reason(acme, write):
    failed("usage_import", write([HEADER, "x"]), *INTO)

    assert failed("usage_dead_letter", "discard", "--reason", "all of them")[0] == 2
    assert failed("usage_dead_letter", "discard", "--code", "malformed_line", "--reason", " ")[0] == 1
    assert DeadLetter.objects.waiting().count() == 1


def test_partitions_are_planned_made_and_then_there(acme):
    planned, _ = run("audit_partitions", "--month", "2021-05", "--dry-run", "--json")
    made, _ = run("audit_partitions", "--month", "2021-05", "--json")
    again, _ = run("audit_partitions", "--month", "2021-05", "--json")

    assert json.loads(planned) == json.loads(made)
    assert set(json.loads(made)) == {log.table for log in partitions.registered()}
    assert json.loads(made)["cp_auditing_auditlog"] == ["2021-05"]
    assert set(map(tuple, json.loads(again).values())) == {()}


@pytest.mark.parametrize(
    "arguments", [("--month", "2019-12"), ("--month", "May"), ("--ahead", "25"), ("--ahead", "-1")]
)
def test_a_month_out_of_bounds_is_refused(acme, arguments):
    with pytest.raises(CommandError):
        run("audit_partitions", *arguments)


def test_progress_is_a_line_each_ten_seconds_without_a_terminal():
    clock = iter([0, 4, 11, 15, 22]).__next__
    err = StringIO()
    with Progress(OutputWrapper(err), "t.csv", 200, clock) as progress:
        for done in (40, 110, 150, 200):
            progress(done)

    assert err.getvalue() == "t.csv: 55%, 110 rows, 10/s\nt.csv: 100%, 200 rows, 9/s\n"


def test_a_file_is_looked_at_without_a_database_row(tmp_path):
    with pytest.raises(InvalidImport, match="cannot be read"):
        importing.open_usage(tmp_path / "none.csv", constants={})
