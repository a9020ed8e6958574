from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from auditing import exporting, leaves, merkle
from auditing.errors import ExportRefused, InvalidWindow
from auditing.exporting import export
from auditing.models import AuditLog, AuditSeal, InferenceRequest
from auditing.standalone import verify_export
from auditing.verifying import verify
from controlplane.core.ids import PLATFORM, now, uuid7
from tests.auditing.tampering import execute, seal_all, tamper
from tests.auditing.test_verifying import ERASED, anchor, retire
from tests.factories import AuditLogFactory, InferenceRequestFactory, RetentionRecordFactory
from tests.races import together

ACME, GLOBEX = UUID(int=0xACE), UUID(int=0x60B)
START = datetime(2026, 11, 1, tzinfo=UTC)

transactional = pytest.mark.django_db(transaction=True)


def window():
    return {"start": now().replace(day=1, hour=0, minute=0, second=0, microsecond=0), "end": now() + timedelta(hours=1)}


def check(folder, *arguments):
    """Run the program of an export as anybody would, without the project; returns the exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "-I", folder / "verify_export.py", *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


TEXTS = [
    "=1+1", "+1", "-1", "@x", "\tx", "\r\n", "'quoted'", "'", "''", '"', ",", "ünïcödé 🦉 \u2028 ＝x", "a\nb\rc",
    "\\u0000 \\", "", "1", "true", "null", " ", "\x7f\x01",
]  # fmt: skip
OBJECTS = [
    None, {}, [], {"a": 1.5, "b": [1, 2.0, -3e-7, 10**30], "ü": {"🦉": None}}, "=text", 7, -7, 1.25, True, False,
    ["\\u0000", '"', "\n"], {"": ""}, {"$null": 1, "x": 2}, {"long": "x" * 5000}, {"b": 1, "aa": 2, "a": 3},
]  # fmt: skip


@pytest.fixture
def awkward():
    """Rows of all that values may look like, in two runs, and one that is not sealed yet."""
    for part in (0, 1):
        for place, text in enumerate(TEXTS[part::2]):
            AuditLogFactory(
                tenant_id=ACME, actor_id=text, actor_label=text or None, reason=text, request_id=text, resource_label=text,
                user_agent=text, ip=["10.1.2.3", "2001:db8::1", None][place % 3], cost=[None, Decimal("0.1")][place % 2],
                app_id=[None, uuid7()][place % 2],
            )  # fmt: skip
            InferenceRequestFactory(
                tenant_id=ACME, error=text, requested_model=text, stream=place % 2 == 0, request_id=text or "none",
                cost=Decimal("123456789012.123456789012") if place else Decimal(0), booked_at=[None, now()][place % 2],
                prompt_tokens=[None, 0, 2**31 - 1][place % 3], completion_tokens=None,
            )  # fmt: skip
        for value in OBJECTS[part::2]:
            AuditLogFactory(tenant_id=ACME, before=value, after=value, details=value)
        InferenceRequestFactory(
            tenant_id=ACME, pricing_status="adjustment", adjusts=uuid7(), reason_code="credit", reason="-1", cost=Decimal("-2.5"),
            prompt_tokens=-10, completion_tokens=None, metadata={"a": 1.10}, other_units={"images": 2},
        )  # fmt: skip
        execute("INSERT INTO cp_auditing_auditlog (id, created_at, tenant_id, actor_type, actor_id, action, outcome, before, "
                "after, details) SELECT cp_uuid7(at), at, %s, 'system', 'x', 'json', 'success', 'null', '1.10', "
                "'[1.00, 1e2, -0.0]' FROM (SELECT clock_timestamp() AS at) a", ACME)  # fmt: skip
        InferenceRequestFactory(tenant_id=GLOBEX)
        seal_all()
    AuditLogFactory(tenant_id=ACME)
    AuditLogFactory(tenant_id=PLATFORM)


def exported(folder, **options):
    return export(**{"tenant": ACME, "out": folder, **window(), **options})


@transactional
@pytest.mark.parametrize("rows_format", exporting.FORMATS)
def test_an_export_proves_itself_with_python_alone(awkward, tmp_path, rows_format):
    rows = {log: model.objects.filter(tenant_id=ACME).count() for log, model in exporting._MODELS.items()}
    done = exported(tmp_path / "out", rows_format=rows_format)

    code, said = check(tmp_path / "out", "--json")

    report = json.loads(said)
    assert (code, report["findings"], report["first"]) == (0, 0, [])
    assert {told["log"]: told["rows"] for told in report["logs"]} == {
        "auditlog": rows["auditlog"] + 1,
        "inferencerequest": rows["inferencerequest"],
    }  # fmt: skip - with the record of the export itself
    assert {told["log"]: told["rows"] - told["sealed"] for told in report["logs"]} == {
        "auditlog": 2,
        "inferencerequest": 0,
    }
    assert done.rows == sum(rows.values()) + 1
    assert "Nothing was found" in check(tmp_path / "out")[1]
    assert "Without an anchor kept elsewhere" in check(tmp_path / "out")[1]


@transactional
def test_json_lines_hold_the_rows_as_they_are(awkward, tmp_path):
    exported(tmp_path / "out")

    lines = [json.loads(line) for line in (tmp_path / "out" / "auditlog.jsonl").read_text().split("\n")[:-1]]
    found = {line["id"]: line for line in lines}
    for row in AuditLog.objects.filter(tenant_id=ACME).exclude(action__in=["json", "audit.export_completed"]):
        line = found[str(row.pk)]
        assert (line["actor_id"], line["user_agent"], line["ip"]) == (row.actor_id, row.user_agent, row.ip)
        assert line["cost"] == (None if row.cost is None else f"{row.cost:.12f}")
        assert line["created_at"] == f"{row.created_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        assert line["details"] == row.details or line["details"] == {"$null": 1}
        assert set(line) == {"seal", *(field.attname for field in AuditLog._meta.concrete_fields)}


@transactional
def test_cells_are_no_formulas_and_numbers_stay_numbers(awkward, tmp_path):
    exported(tmp_path / "out", rows_format="csv")

    with (tmp_path / "out" / "auditlog.csv").open(newline="") as file:
        cells = [
            cell for row in csv.DictReader(file) for name, cell in row.items() if name not in ("cost", "latency_ms")
        ]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))]
    with (tmp_path / "out" / "inferencerequest.csv").open(newline="") as file:
        assert {"-2.500000000000"} <= {row["cost"] for row in csv.DictReader(file)}


@transactional
def test_rows_of_others_are_in_no_file(awkward, tmp_path):
    exported(tmp_path / "out", tenant=GLOBEX)

    text = (tmp_path / "out" / "inferencerequest.jsonl").read_text()
    assert text.count("\n") == 2
    assert str(ACME) not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert check(tmp_path / "out")[0] == 0


@transactional
def test_the_platform_has_an_export_too(awkward, tmp_path):
    exported(tmp_path / "out", tenant=PLATFORM)

    assert check(tmp_path / "out")[0] == 0


@transactional
def test_a_part_of_a_month_proves_itself(tmp_path):
    for minute in range(10):
        InferenceRequestFactory(tenant_id=ACME, created_at=now() - timedelta(minutes=minute))
        if minute % 3 == 0:
            seal_all()
    seal_all()

    done = exported(
        tmp_path / "out",
        start=now() - timedelta(minutes=5),
        end=now() - timedelta(minutes=2),
        logs=["inferencerequest"],
    )

    assert done.rows == 3
    assert check(tmp_path / "out")[0] == 0


@transactional
def test_many_rows_of_one_run_are_written_in_parts(tmp_path, monkeypatch):
    InferenceRequest.objects.bulk_create(InferenceRequestFactory.build_batch(3200, tenant_id=ACME), batch_size=1000)
    monkeypatch.setattr(exporting, "BATCH", 1000)
    seal_all()
    for _ in range(3):
        InferenceRequestFactory.create_batch(2, tenant_id=ACME)
        seal_all()
    seen = []

    done = exported(tmp_path / "out", logs=["inferencerequest"], progress=seen.append)

    assert (done.rows, done.seals) == (3206, 7)
    assert seen == sorted(seen)
    assert check(tmp_path / "out")[0] == 0


@transactional
def test_months_without_rows_make_an_export_without_rows(tmp_path):
    done = exported(tmp_path / "out", start=datetime(2025, 1, 1, tzinfo=UTC), end=datetime(2025, 2, 1, tzinfo=UTC))

    assert (done.rows, done.seals) == (0, 0)
    assert check(tmp_path / "out")[0] == 0


@transactional
def test_a_row_under_no_seal_is_exported_and_found(awkward, tmp_path):
    row = InferenceRequest.objects.filter(tenant_id=ACME).first()
    tamper("UPDATE cp_auditing_inferencerequest SET xid = -1 WHERE id = %s", row.pk)

    exported(tmp_path / "out")

    code, said = check(tmp_path / "out")
    assert code == 1
    assert f"stray_row: Row {row.pk} is under no seal" in said


@transactional
@pytest.mark.parametrize("rows_format", exporting.FORMATS)
def test_a_row_changed_in_the_database_is_named_by_its_seal(awkward, tmp_path, rows_format):
    tamper(
        "UPDATE cp_auditing_auditlog SET reason = 'never' WHERE id = %s",
        AuditLog.objects.filter(tenant_id=ACME).first().pk,
    )

    exported(tmp_path / "out", rows_format=rows_format)

    code, said = check(tmp_path / "out")
    assert code == 1
    assert "root_mismatch" in said


# ---------------------------------------------------------------- erasure and retirement


@transactional
@pytest.mark.parametrize("recorded", [True, False])
def test_what_was_erased_needs_a_record(awkward, tmp_path, recorded):
    if recorded:
        RetentionRecordFactory(kind="erased", log="auditlog", tenant_id=ACME, subject="ünïcödé 🦉 \u2028 ＝x")
        RetentionRecordFactory(kind="erased", log="auditlog", tenant_id=ACME, subject="not in it")
    tamper(f"UPDATE cp_auditing_auditlog SET {ERASED} WHERE actor_id LIKE %s", "ünï%")

    exported(tmp_path / "out")

    code, said = check(tmp_path / "out")
    assert code == (0 if recorded else 1)
    assert ("erased_without_record" in said) == (not recorded)
    assert "not in it" not in (tmp_path / "out" / "retention.jsonl").read_text()


@transactional
@pytest.mark.parametrize("recorded", [True, False])
def test_what_was_retired_needs_a_record(awkward, tmp_path, recorded):
    if recorded:
        retire("inferencerequest", ACME, window()["start"].date())
    else:
        tamper("DELETE FROM cp_auditing_inferencerequest WHERE tenant_id = %s", ACME)

    exported(tmp_path / "out")

    code, said = check(tmp_path / "out")
    assert code == (0 if recorded else 1)
    assert ("retired_without_record" in said) == (not recorded)


# ---------------------------------------------------------------- tampering with the files


def replaced(path, old, new, count=1):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, count))


def rewrite(folder):
    """Let the manifest name the files as they are now: who tampers does that too."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": exporting.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def drop_row(folder):
    path = folder / "auditlog.jsonl"
    path.write_bytes(b"".join(lines_of(path)[1:]))


def drop_leaf_and_row(folder):
    drop_row(folder)
    path = folder / "auditlog.leaves"
    path.write_bytes(b"".join(lines_of(path)[1:]))


def repeat_row(folder):
    path = folder / "auditlog.jsonl"
    path.write_bytes(lines_of(path)[0] + path.read_bytes())


def swap_rows(folder):
    path = folder / "auditlog.jsonl"
    first, second, *rest = lines_of(path)
    path.write_bytes(b"".join([second, first, *rest]))


def unseal_row(folder):
    path = folder / "auditlog.jsonl"
    first, *rest = lines_of(path)
    path.write_bytes(b"".join([*rest, first.replace(b'"seal": 1', b'"seal": null')]))


def forge_leaf(folder):
    """A changed row, and its leaf made anew."""
    replaced(folder / "auditlog.jsonl", b'"tests.event"', b'"tests.other"')
    row = next(verify_export.Export(folder).rows("auditlog", 1))
    path = folder / "auditlog.leaves"
    seq, id, _ = lines_of(path)[0].split()
    path.write_bytes(b"".join([b"%s %s %s\n" % (seq, id, row.leaf.hex().encode()), *lines_of(path)[1:]]))


def drop_seal(folder):
    path = folder / "auditlog.seals.jsonl"
    path.write_bytes(lines_of(path)[0])


def drop_checkpoint(folder):
    path = folder / "checkpoints.jsonl"
    path.write_bytes(lines_of(path)[0])


FORGERIES = {
    "a row": (
        lambda folder: replaced(folder / "auditlog.jsonl", b'"tests.event"', b'"tests.other"'),
        "row_altered: Row ",
    ),
    "a row and its leaf": (forge_leaf, "root_mismatch: The "),
    "no row": (drop_row, "row_missing: Row "),
    "neither row nor leaf": (drop_leaf_and_row, "root_mismatch: The "),
    "a row twice": (repeat_row, "stray_row"),
    "rows swapped": (swap_rows, "row_missing: Row "),
    "a row as if unsealed": (unseal_row, "stray_row: Row "),
    "personal": (
        lambda folder: replaced(folder / "auditlog.jsonl", b'"10.1.2.3"', b'"10.1.2.4"'),
        "row_altered: ip, user_agent",
    ),
    "a seal": (lambda folder: replaced(folder / "auditlog.seals.jsonl", b'"n": ', b'"n": 1'), "seal_altered: Seal 1"),
    "no seal": (drop_seal, "stray_row: "),
    "a checkpoint": (
        lambda folder: replaced(folder / "checkpoints.jsonl", b'"n": ', b'"n": 1'),
        "seal_altered: Seal 1 of checkpoint",
    ),
    "no checkpoint": (drop_checkpoint, "checkpoint_mismatch: Seal 2"),
    "a link": (
        lambda folder: replaced(folder / "auditlog.seals.jsonl", b'"prev": "0', b'"prev": "1'),
        "chain_broken: Seal 1",
    ),
    "a path": (
        lambda folder: replaced(folder / "auditlog.seals.jsonl", b'"index": 0', b'"index": 1'),
        "checkpoint_mismatch: Seal",
    ),
    "a leaf": (lambda folder: replaced(folder / "auditlog.leaves", b"1 ", b"2 "), "root_mismatch"),
}


@transactional
@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_export_is_found_and_the_row_or_seal_named(awkward, tmp_path, how):
    forge, expected = FORGERIES[how]
    exported(tmp_path / "out")
    forge(tmp_path / "out")
    assert "file_changed: " in check(tmp_path / "out")[1]

    rewrite(tmp_path / "out")

    code, said = check(tmp_path / "out")
    assert code == 1, said
    assert expected in said
    assert "file_changed" not in said


@transactional
def test_several_processes_find_what_one_finds(awkward, tmp_path, monkeypatch):
    monkeypatch.setattr(verify_export, "PART", 1000)
    monkeypatch.setattr(verify_export, "MANY", 0)
    exported(tmp_path / "whole")

    for how, (forge, _) in {"nothing": (lambda _: None, ""), **FORGERIES}.items():
        folder = shutil.copytree(tmp_path / "whole", tmp_path / how)
        forge(folder)
        rewrite(folder)
        one, several = verify_export.verify(folder), verify_export.verify(folder, jobs=3)
        assert one == several
        assert (one["findings"] > 0) == (how != "nothing")


@transactional
def test_an_export_compares_with_anchors(awkward, tmp_path):
    anchor(tmp_path / "anchors")
    exported(tmp_path / "out")
    code, said = check(tmp_path / "out", "--anchors", tmp_path / "anchors")
    assert (code, "1 anchors compared." in said) == (0, True)

    path = tmp_path / "out" / "checkpoints.hashes"
    path.write_text("".join(["0" * 64 + "\n", *path.read_text().splitlines(keepends=True)[1:]]))
    rewrite(tmp_path / "out")

    code, said = check(tmp_path / "out", "--anchors", tmp_path / "anchors")
    assert (code, "anchor_mismatch: " in said) == (1, True)


@transactional
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text('{"format": 99}'),
        lambda folder: (folder / "auditlog.leaves").unlink(),
    ],
)
def test_what_is_no_whole_export_is_refused(awkward, tmp_path, damage):
    exported(tmp_path / "out")
    damage(tmp_path / "out")

    code, said = check(tmp_path / "out")

    assert (code, "Traceback" in said) == (2, False)


@transactional
def test_rubbish_in_a_file_is_a_finding_and_no_traceback(awkward, tmp_path):
    exported(tmp_path / "out")
    for name in ("auditlog.jsonl", "auditlog.seals.jsonl", "auditlog.leaves", "checkpoints.jsonl", "retention.jsonl"):
        kept = (tmp_path / "out" / name).read_bytes()
        for rubbish in (b"{}\n", b"[1\n", b"\xff\n", b"1 2\n", b'"x"\n'):
            (tmp_path / "out" / name).write_bytes(rubbish + kept)

            code, said = check(tmp_path / "out")

            assert (code, "Traceback" in said) == (1, False), (name, rubbish, said)
        (tmp_path / "out" / name).write_bytes(kept)
    assert check(tmp_path / "out")[0] == 0


# ---------------------------------------------------------------- writing


@transactional
def test_an_export_is_recorded_before_and_after(awkward, tmp_path):
    done = exported(tmp_path / "out", actor="auditor")

    before, after = AuditLog.objects.filter(action__startswith="audit.export").order_by("id")
    assert (before.action, before.tenant_id, before.actor_id) == ("audit.exported", ACME, "auditor")
    assert before.details["logs"] == ["auditlog", "inferencerequest"]
    assert after.details["rows"] == done.rows
    manifest = (tmp_path / "out" / "manifest.json").read_bytes()
    assert after.details["manifest_sha256"] == done.sha256 == exporting.sha256(manifest).hexdigest()


@transactional
def test_an_export_that_cannot_be_recorded_writes_nothing(tmp_path, monkeypatch):
    def away(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr(type(AuditLog.objects), "record_durable", away)

    with pytest.raises(ConnectionError):
        exported(tmp_path / "out")

    assert not (tmp_path / "out").exists()


@transactional
def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in (".", "file", "link"):
        with pytest.raises(ExportRefused):
            exported(tmp_path / name)
    assert not AuditLog.objects.filter(action="audit.exported").exists()

    (tmp_path / "empty").mkdir()
    exported(tmp_path / "empty")
    with pytest.raises(ExportRefused):
        exported(tmp_path / "empty")


@transactional
def test_of_two_exports_into_one_folder_one_is_refused(tmp_path):
    InferenceRequestFactory.create_batch(20, tenant_id=ACME)

    outcomes = together(*[lambda: exported(tmp_path / "out")] * 2)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ExportRefused", "Exported"]
    assert check(tmp_path / "out")[0] == 0


@transactional
@pytest.mark.parametrize("there", [True, False])
def test_an_export_that_fails_leaves_nothing(awkward, tmp_path, monkeypatch, there):
    if there:
        (tmp_path / "out").mkdir()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting._Folder, "finish", full)

    with pytest.raises(ExportRefused, match="cannot be written: No space left on device"):
        exported(tmp_path / "out")

    assert (tmp_path / "out").exists() == there
    assert not there or not list((tmp_path / "out").iterdir())


@transactional
def test_an_export_cut_short_looks_like_none(awkward, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting._Folder, "__exit__", lambda *args: None)  # as after a kill -9
    monkeypatch.setattr(exporting._Folder, "finish", lambda *args: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        exported(tmp_path / "out")

    code, said = check(tmp_path / "out")
    assert (code, "the export is not whole" in said) == (2, True)
    with pytest.raises(ExportRefused):
        exported(tmp_path / "out")


def test_a_window_that_is_none_is_refused(tmp_path):
    for start, end in (
        (now(), now() - timedelta(1)),
        (now().replace(tzinfo=None), now()),
        (datetime(1, 1, 1, tzinfo=UTC), now()),
    ):
        with pytest.raises(InvalidWindow):
            export(tenant=ACME, start=start, end=end, out=tmp_path / "out")


# ---------------------------------------------------------------- the program's own rules


def test_the_columns_of_a_leaf_are_those_of_the_project():
    for (log, schema), columns in verify_export.LEAVES.items():
        assert (schema, tuple(pair.split(":")[0] for pair in columns.split())) == (1, leaves.COLUMNS[log])


@pytest.mark.django_db
def test_columns_that_are_never_null_are_those_of_the_database():
    for log, names in verify_export.ALWAYS.items():
        rows = execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnotnull AND attnum > 0",
            f"cp_auditing_{log}",
        )
        assert set(names.split()) <= {name for (name,) in rows}


def test_a_path_leads_to_the_root_and_no_other_does():
    for size in [*range(1, 34), 100, 257]:
        hashes = [bytes([n % 256, n // 256]) * 16 for n in range(size)]
        root = merkle.root(hashes)
        for index in range(size):
            steps = exporting.path(index, hashes)
            assert verify_export.root_by_path(hashes[index], index, size, steps) == root
            assert verify_export.root_by_path(hashes[index], index, size, [*steps, root]) is None
            if steps:
                assert verify_export.root_by_path(hashes[index], index, size, steps[:-1]) is None
                assert verify_export.root_by_path(hashes[index], index ^ 1, size, steps) != root
        assert verify_export.root(hashes) == root
    sizes = [0, 1, 2, 7, 100]
    assert verify_export.roots(hashes, sizes) == {size: merkle.root(hashes[:size]) for size in sizes if size}


# ---------------------------------------------------------------- commands


def run(*arguments):
    out, err = StringIO(), StringIO()
    try:
        call_command(*map(str, arguments), stdout=out, stderr=err)
    except CommandError as error:
        return error.returncode, out.getvalue(), f"{err.getvalue()}{error}"
    return 0, out.getvalue(), err.getvalue()


@pytest.fixture
def span():
    return ["--from", f"{now():%Y-%m}-01T00:00Z", "--to", f"{now() + timedelta(days=1):%Y-%m-%d}T00:00Z"]


@transactional
def test_the_command_writes_an_export(acme, span, tmp_path):
    InferenceRequestFactory(tenant_id=acme.pk)
    seal_all()

    code, out, _ = run("audit_export", "--tenant", "acme", *span, "--out", tmp_path / "out", "--json")

    assert (code, json.loads(out)["seals"]) == (0, 2)
    assert check(tmp_path / "out")[0] == 0
    event = AuditLog.objects.get(action="audit.exported")
    assert (event.actor_type, event.actor_id) == ("command", "audit_export")
    assert run("audit_export", "--tenant", "acme", *span, "--out", tmp_path / "out")[0] == 1
    code, out, _ = run(
        "audit_export", "--tenant", "platform", *span, "--log", "auditlog", "--format", "csv", "--out", tmp_path / "2"
    )
    assert (code, "Check them: python3" in out) == (0, True)


@transactional
def test_the_command_verifies_and_notes_it(acme, tmp_path):
    AuditLogFactory(tenant_id=acme.pk)
    seal_all()

    code, out, err = run("audit_verify")
    assert (
        code,
        "auditlog: 2 months of tenants verified" in out or "auditlog: 1 months of tenants verified" in out,
    ) == (0, True)
    assert "Without an anchor kept elsewhere" in err
    tamper("UPDATE cp_auditing_auditlog SET reason = 'x' WHERE action = 'tests.event'")
    code, out, err = run("audit_verify", "--tenant", "acme", "--log", "auditlog")
    assert (code, err.endswith("1 findings.")) == (1, True)
    assert out.startswith(f"root_mismatch: auditlog {acme.pk} {now():%Y-%m} seal 1 ids ")
    code, out, _ = run("audit_verify", "--json")
    report = json.loads(out)
    assert (code, report["findings"][0]["kind"], report["findings"][0]["tenant_id"]) == (
        1,
        "root_mismatch",
        str(acme.pk),
    )
    assert {state["state"] for state in report["states"]} <= {"verified", "pending"}

    events = AuditLog.objects.filter(action="audit.verified").order_by("id")
    assert [(event.outcome, event.details["found"]) for event in events] == [
        ("success", 0),
        ("failure", 1),
        ("failure", 1),
    ]
    assert verify(log="inferencerequest").findings == []


@transactional
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--tenant", "nobody"], 2),
        (["--tenant", "01a1fe0d-3d4a-7e31-abc7-a2a510cc05b3"], 2),
        (["--tenant", "\udcff"], 1),
        (["--from", "2026-11-01T00:00Z", "--to", "2026-10-01T00:00Z"], 1),
        (["--from", "0001-01-01T00:00+14:00"], 1),
        (["--to", "9999-12-31T23:59-14:00"], 1),
        (["--anchors", "/nowhere"], 2),
        (["--anchors", "/"], 2),
    ],
)
def test_the_command_refuses_rubbish_in_a_sentence(arguments, code):
    given, _, said = run("audit_verify", *arguments)

    assert given == code
    assert "Traceback" not in said
    assert not AuditLog.objects.filter(action="audit.verified").exists()


@transactional
def test_a_tenant_that_is_gone_can_be_exported_and_verified_by_its_id(span, tmp_path):
    AuditLogFactory(tenant_id=ACME)
    seal_all()

    assert run("audit_verify", "--tenant", ACME)[0] == 0
    assert run("audit_export", "--tenant", ACME, *span, "--out", tmp_path / "out")[0] == 0
    assert AuditSeal.objects.filter(tenant_id=ACME).count() == 1
