from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection, transaction

from auditing import merkle, notes, sealing, verifying
from auditing.errors import InvalidAnchor, InvalidWindow
from auditing.ingest import LOG
from auditing.models import AuditLog, AuditSeal, InferenceRequest
from auditing.verifying import verify
from auditing.windows import id_bounds
from controlplane.core import partitions
from controlplane.core.ids import PLATFORM, now, uuid7_at
from tenants.scope import tenant_scope
from tests.auditing.tampering import execute, forge_chain, rebuild_everything, seal_all, tamper, unguarded
from tests.factories import AuditLogFactory, InferenceRequestFactory, RetentionRecordFactory, UsageSummaryFactory

pytestmark = pytest.mark.django_db(transaction=True)

ACME, GLOBEX = UUID(int=0xACE), UUID(int=0x60B)
AUDIT = partitions.PartitionedLog("cp_auditing_auditlog")
LOGS = {"auditlog": (AuditLog, AuditLogFactory), "inferencerequest": (InferenceRequest, InferenceRequestFactory)}


@pytest.fixture
def sealed():
    """Two runs: each log has two seals of acme over four and three rows, and one of globex over two."""
    for count in (4, 3):
        for _, factory in LOGS.values():
            factory.create_batch(count, tenant_id=ACME)
            if count == 4:
                factory.create_batch(2, tenant_id=GLOBEX)
        seal_all()


def kinds(report):
    return sorted({finding.kind for finding in report.findings})


def in_sql(log, tenant=None):
    return sorted({row[0] for row in execute("SELECT kind FROM cp_audit_verify(%s, %s)", log, tenant)})


def rows_of(log, tenant=ACME):
    return list(LOGS[log][0].objects.filter(tenant_id=tenant).order_by("id"))


def seal_of(log, seq, tenant=ACME):
    return AuditSeal.objects.get(log=log, tenant_id=tenant, seq=seq)


def this_month():
    return now().date().replace(day=1)


def test_what_was_sealed_is_verified(sealed):
    report = verify()

    assert report.findings == []
    assert (report.rows, report.seals, report.more) == (18, 6, 0)
    assert set(report.states.values()) == {"verified"}
    assert set(report.states) == {(log, tenant, this_month()) for log in LOGS for tenant in (ACME, GLOBEX)}
    assert in_sql("auditlog") == in_sql("inferencerequest") == []


def test_what_the_reader_has_written_itself_is_no_finding(sealed):
    with transaction.atomic():
        for log in LOGS:
            LOGS[log][1](tenant_id=ACME)

        report = verify()

        assert report.findings == []
        assert in_sql("auditlog") == in_sql("inferencerequest") == []


def test_an_empty_database_has_no_finding():
    assert verify() == verifying.Report()
    assert in_sql("auditlog") == []


def test_rows_that_are_not_sealed_yet_are_pending(sealed):
    AuditLogFactory(tenant_id=ACME)

    report = verify()

    assert report.findings == []
    assert report.states["auditlog", ACME, this_month()] == "pending"
    assert report.states["auditlog", GLOBEX, this_month()] == "verified"


def test_rows_sealed_long_after_their_month_are_late():
    at = datetime(2026, 9, 30, tzinfo=UTC)
    partitions.ensure(LOG, now(), months=[at.date().replace(day=1)])
    InferenceRequestFactory(tenant_id=ACME, created_at=at)

    seal_all()

    assert verify().states == {("inferencerequest", ACME, at.date().replace(day=1)): "late"}


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("log", "change"),
    [
        ("auditlog", "reason = 'another'"),
        ("auditlog", "actor_id = 'somebody else'"),
        ("auditlog", "details = '{\"a\": 1}'"),
        ("auditlog", "created_at = created_at + interval '1 microsecond'"),
        ("inferencerequest", "cost = cost + 0.000000000001"),
        ("inferencerequest", "app_id = id"),
        ("inferencerequest", "requested_model = ''"),
        ("inferencerequest", "stream = NOT stream"),
        ("inferencerequest", "schema = 2"),
    ],
)
def test_a_changed_row_is_found_in_the_range_of_its_seal(sealed, log, change):
    row = rows_of(log)[5]
    tamper(f"UPDATE cp_auditing_{log} SET {change} WHERE id = %s", row.pk)

    report = verify()

    one = seal_of(log, 2)
    [finding] = [found for found in report.findings if found.seq]
    assert (finding.kind, finding.log, finding.tenant_id, finding.seq) == ("root_mismatch", log, ACME, 2)
    assert (finding.id_from, finding.id_to, finding.month) == (one.id_from, one.id_to, this_month())
    assert f"Younger than the seal: {row.pk}." in finding.message
    assert (log, ACME, this_month()) not in report.states
    assert (log, GLOBEX, this_month()) in report.states
    assert in_sql(log) == in_sql(log, ACME) == kinds(report)
    assert in_sql(log, GLOBEX) == verify(tenant=GLOBEX).findings == []
    assert kinds(verify(tenant=ACME)) == kinds(report)


@pytest.mark.parametrize("log", LOGS)
def test_a_deleted_row_is_found_in_the_range_of_its_seal(sealed, log):
    tamper(f"DELETE FROM cp_auditing_{log} WHERE id = %s", rows_of(log)[0].pk)

    report = verify()

    found = {finding.kind: finding for finding in report.findings}
    assert set(found) == {"root_mismatch", "count_mismatch"}
    assert found["root_mismatch"].seq == 1
    assert found["root_mismatch"].message == "The 3 rows under seal 1 are not the 4 that were sealed."
    assert found["count_mismatch"].message == "7 rows are sealed, 6 are there."
    assert (found["count_mismatch"].tenant_id, found["count_mismatch"].month) == (ACME, this_month())
    assert in_sql(log) == kinds(report)


@pytest.mark.parametrize("log", LOGS)
def test_all_rows_of_a_seal_gone_are_found(sealed, log):
    tamper(f"DELETE FROM cp_auditing_{log} WHERE id = ANY (%s)", [row.pk for row in rows_of(log)[4:]])

    report = verify()

    assert {(finding.kind, finding.seq) for finding in report.findings} == {
        ("root_mismatch", 2),
        ("count_mismatch", None),
    }
    assert in_sql(log) == kinds(report)


def insert_with_xid(log, xid, tenant=ACME):
    with unguarded():
        row = LOGS[log][1](tenant_id=tenant)
        execute(f"UPDATE cp_auditing_{log} SET xid = %s WHERE id = %s", xid, row.pk)
    return row


@pytest.mark.parametrize("log", LOGS)
def test_an_inserted_row_with_a_forged_transaction_is_found(sealed, log):
    one = seal_of(log, 2)
    row = insert_with_xid(log, one.xid_from)

    report = verify()

    found = {finding.kind: finding for finding in report.findings}
    assert set(found) == {"root_mismatch", "count_mismatch"}
    assert found["root_mismatch"].seq == 2
    assert str(row.pk) in found["root_mismatch"].message
    assert in_sql(log) == kinds(report)


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("place", ["before all", "of another run of this tenant", "far ahead"])
def test_an_inserted_row_under_no_seal_is_named(sealed, log, place):
    xid = {"before all": -1, "of another run of this tenant": seal_of(log, 2).xid_from, "far ahead": 2**60}[place]
    tenant = GLOBEX if "another" in place else ACME  # globex has no seal of the second run
    row = insert_with_xid(log, xid, tenant)

    report = verify()

    [stray] = [finding for finding in report.findings if finding.kind == "stray_row"]
    assert (stray.log, stray.tenant_id, stray.month, stray.id_from, stray.id_to) == (
        log, tenant, this_month(), row.pk, row.pk,
    )  # fmt: skip
    assert str(row.pk) in stray.message
    assert in_sql(log) == kinds(report)


@pytest.mark.parametrize("log", LOGS)
def test_swapped_rows_are_found(sealed, log):
    first, other = rows_of(log)[0], rows_of(log)[6]
    with unguarded():
        for a, b in ((first, other), (other, first)):
            execute(f"UPDATE cp_auditing_{log} SET xid = %s WHERE id = %s", b.xid, a.pk)

    report = verify()

    assert {finding.seq for finding in report.findings if finding.kind == "root_mismatch"} == {1, 2}
    assert in_sql(log) == kinds(report)


def test_a_row_moved_to_another_tenant_is_found_at_both(sealed):
    tamper("UPDATE cp_auditing_auditlog SET tenant_id = %s WHERE id = %s", GLOBEX, rows_of("auditlog")[0].pk)

    report = verify(log="auditlog")

    assert {(found.kind, found.tenant_id) for found in report.findings if found.seq} == {
        ("root_mismatch", ACME), ("root_mismatch", GLOBEX),
    }  # fmt: skip


def test_many_strays_are_counted_and_the_first_named(sealed):
    InferenceRequestFactory.create_batch(130, tenant_id=ACME)
    tamper("UPDATE cp_auditing_inferencerequest SET xid = -5 WHERE id > %s", rows_of("inferencerequest")[6].pk)

    strays = [finding for finding in verify().findings if finding.kind == "stray_row"]

    assert len(strays) == 101
    assert strays[-1].message == "30 more rows are under no seal."


# ---------------------------------------------------------------- seals


def test_a_dropped_last_seal_is_found_and_its_rows_named(sealed):
    tamper("DELETE FROM cp_auditing_auditseal WHERE log = 'auditlog' AND tenant_id = %s AND seq = 2", ACME)

    report = verify()

    assert kinds(report) == ["checkpoint_mismatch", "count_mismatch", "stray_row"]
    assert {found.id_from for found in report.findings if found.kind == "stray_row"} == {
        row.pk for row in rows_of("auditlog")[4:]
    }
    [bound] = [found for found in report.findings if found.kind == "checkpoint_mismatch"]
    assert (bound.seq, bound.message) == (2, "Checkpoint 2 is over 2 seals; there are 1 of its run.")
    assert in_sql("auditlog") == kinds(report)


def test_a_dropped_seal_within_a_chain_is_found_by_number(sealed):
    tamper("DELETE FROM cp_auditing_auditseal WHERE log = 'auditlog' AND tenant_id = %s AND seq = 1", ACME)

    report = verify()

    [missing] = [found for found in report.findings if found.kind == "seal_missing"]
    assert (missing.log, missing.tenant_id, missing.seq) == ("auditlog", ACME, 1)
    assert missing.message == "Seal 1 is missing."


@pytest.mark.parametrize(
    "change",
    [
        "n = n + 1",
        "sealed_at = sealed_at - interval '1 day'",
        "root = sha256('')",
        "schema = 2",
        "month = '2020-01-01'",
    ],
)
def test_a_changed_seal_is_named(sealed, change):
    tamper(f"UPDATE cp_auditing_auditseal SET {change} WHERE log = 'auditlog' AND tenant_id = %s AND seq = 1", ACME)

    report = verify()

    [altered] = [found for found in report.findings if found.kind == "seal_altered"]
    assert (altered.log, altered.tenant_id, altered.seq) == ("auditlog", ACME, 1)
    assert "seal_altered" in in_sql("auditlog", ACME)


def test_a_seal_hashed_anew_breaks_the_chain_and_the_checkpoint(sealed):
    tamper("UPDATE cp_auditing_auditseal SET n = 9 WHERE log = 'auditlog' AND tenant_id = %s AND seq = 1", ACME)
    tamper("UPDATE cp_auditing_auditseal s SET hash = cp_seal_hash(s)")

    report = verify()

    assert {"chain_broken", "checkpoint_mismatch"} <= set(kinds(report))
    [broken] = [found for found in report.findings if found.kind == "chain_broken"]
    assert (broken.log, broken.tenant_id, broken.seq) == ("auditlog", ACME, 2)


@pytest.mark.parametrize("log", LOGS)
def test_a_forged_chain_is_found_by_its_checkpoints(sealed, log):
    tamper(f"DELETE FROM cp_auditing_{log} WHERE id = %s", rows_of(log)[0].pk)
    forge_chain(log, ACME)

    report = verify()

    assert kinds(report) == ["checkpoint_mismatch"]
    assert {found.seq for found in report.findings} == {1, 2}
    assert in_sql(log, ACME) == ["checkpoint_mismatch"]


def test_a_dropped_checkpoint_is_found(sealed):
    tamper("DELETE FROM cp_auditing_auditseal WHERE kind = 'checkpoint' AND seq = 1")

    report = verify()

    assert kinds(report) == ["checkpoint_mismatch", "seal_missing"]
    assert ("seal_missing", "checkpoint", PLATFORM, 1) in {
        (found.kind, found.log, found.tenant_id, found.seq) for found in report.findings
    }


def test_a_dropped_last_checkpoint_leaves_seals_under_none(sealed):
    tamper("DELETE FROM cp_auditing_auditseal WHERE kind = 'checkpoint' AND seq = 2")

    report = verify()

    assert {(found.kind, found.log, found.tenant_id, found.seq) for found in report.findings} == {
        ("checkpoint_mismatch", log, ACME, 2) for log in LOGS
    }


def test_a_month_closed_since_the_last_run_is_under_no_checkpoint_yet(sealed):
    with transaction.atomic(), connection.cursor() as cursor:
        sealing.append(cursor, "close", "usagesummary", ACME, this_month(), n=0, root=merkle.root([]), at=now())

    assert verify().findings == []


# ---------------------------------------------------------------- months


@pytest.fixture
def past():
    """A month long over: three rows of acme and two of globex in each log, sealed, beside those of today."""
    month = datetime(2026, 7, 3, tzinfo=UTC)
    for log in (LOG, AUDIT):
        partitions.ensure(log, now(), months=[month.date().replace(day=1)])
    for _, factory in LOGS.values():
        factory.create_batch(3, tenant_id=ACME, created_at=month)
        factory.create_batch(2, tenant_id=GLOBEX, created_at=month)
        factory.create_batch(1, tenant_id=ACME)
    seal_all()
    yield month.date().replace(day=1)
    for log in (LOG, AUDIT):
        execute(f"DROP TABLE IF EXISTS {log.table}_202607")


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("how", ["DROP TABLE {0}_202607", "ALTER TABLE {0} DETACH PARTITION {0}_202607"])
def test_a_month_that_is_gone_without_a_record_is_found_for_each_tenant(past, log, how):
    execute(how.format(f"cp_auditing_{log}"))

    report = verify()

    assert {(found.kind, found.log, found.tenant_id, found.month) for found in report.findings} == {
        ("retired_without_record", log, tenant, past) for tenant in (ACME, GLOBEX)
    }
    assert ("detached" in report.findings[0].message) == ("DETACH" in how)
    assert in_sql(log) == ["retired_without_record"]


def retire(log, tenant, month, **changed):
    """Delete the rows of a month as retention does: by the door, with a record, and an audit row that tells of it."""
    seals = AuditSeal.objects.filter(log=log, tenant_id=tenant, month=month, kind="rows").order_by("-seq")
    values = {"rows": sum(one.n for one in seals), "seals": len(seals), "last_hash": seals[0].hash} | changed
    with transaction.atomic():
        record = RetentionRecordFactory(kind="retired", log=log, tenant_id=tenant, month=month, **values)
        AuditLog.objects.record("retention.retired", tenant=tenant, actor="tests", resource=record)
        execute("SELECT set_config('cp.retention_record', %s, true)", str(record.pk))
        low, high = id_bounds(month_start(month), month_start(partitions.next_month(month)))
        execute(f"DELETE FROM cp_auditing_{log} WHERE tenant_id = %s AND id >= %s AND id < %s", tenant, low, high)
    return record


def month_start(month):
    return datetime(month.year, month.month, 1, tzinfo=UTC)


@pytest.mark.parametrize("log", LOGS)
def test_a_retired_month_is_no_finding(past, log):
    retire(log, ACME, past)

    report = verify()

    assert report.findings == []
    assert report.states[log, ACME, past] == "retired"
    assert report.states[log, GLOBEX, past] == "late"
    assert in_sql(log) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": 2}, "The records of retention count 2 rows; their seals count others."),
        ({"last_hash": bytes(32)}, "names a last seal that is not there"),
    ],
)
def test_a_record_that_tells_of_other_rows_is_found(past, changed, message):
    retire("auditlog", ACME, past, **changed)

    [finding] = verify().findings

    assert (finding.kind, finding.tenant_id, finding.month) == ("retired_without_record", ACME, past)
    assert message in finding.message
    assert in_sql("auditlog") == ["retired_without_record"]


def test_a_record_without_an_audit_row_is_found(past):
    record = retire("inferencerequest", ACME, past)
    tamper("DELETE FROM cp_auditing_auditlog WHERE resource_id = %s", str(record.pk))

    [finding] = verify(log="inferencerequest").findings

    assert finding.message == f"No audit row tells of the record {record.pk} of retention."


def test_rows_that_came_after_a_retirement_are_verified(past):
    retire("inferencerequest", ACME, past)
    InferenceRequestFactory(tenant_id=ACME, created_at=datetime(2026, 7, 5, tzinfo=UTC))
    seal_all()
    assert verify().findings == []

    tamper("DELETE FROM cp_auditing_inferencerequest WHERE created_at < '2026-08-01' AND tenant_id = %s", ACME)

    [finding] = verify().findings
    assert finding.kind == "retired_without_record"
    assert re.fullmatch("Rows that were sealed after seal [12] are gone, and no record says why.", finding.message)


def test_only_the_months_of_a_window_are_read(past):
    tamper("UPDATE cp_auditing_auditlog SET reason = 'x' WHERE created_at < '2026-08-01'")
    august = datetime(2026, 8, 1, tzinfo=UTC)

    assert kinds(verify(end=august)) == ["root_mismatch"]
    assert {place[2] for place in verify(end=august, tenant=GLOBEX, log="inferencerequest").states} == {past}
    assert verify(start=august).findings == []
    assert {place[2] for place in verify(start=august).states} == {this_month()}


def test_a_window_needs_a_zone_and_an_end_after_its_start():
    with pytest.raises(InvalidWindow):
        verify(start=datetime(2026, 8, 1))  # noqa: DTZ001 - naive on purpose
    with pytest.raises(InvalidWindow):
        verify(start=now(), end=now() - timedelta(days=1))
    with pytest.raises(ValueError, match="There is no log 'x'"):
        verify(log="x")


def close(tenant, month):
    [(n, root)] = execute(
        "SELECT count(*), cp_merkle_root(array_agg(cp_leaf(u) ORDER BY id)) FROM cp_auditing_usagesummary u "
        "WHERE tenant_id = %s AND month = %s", tenant, month,
    )  # fmt: skip
    with transaction.atomic(), connection.cursor() as cursor:
        sealing.append(cursor, "close", "usagesummary", tenant, month, n=n, root=bytes(root), at=now())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cp_auditing_usagesummary SET cost = cost + 1 WHERE tenant_id = %s",
        "DELETE FROM cp_auditing_usagesummary WHERE tenant_id = %s",
    ],
)
def test_an_altered_summary_of_a_closed_month_is_found(change):
    UsageSummaryFactory(tenant_id=ACME, month=this_month())
    UsageSummaryFactory(tenant_id=GLOBEX, month=this_month())
    close(ACME, this_month())
    close(GLOBEX, this_month())
    assert verify().findings == []

    tamper(change, ACME)

    [finding] = verify().findings
    assert (finding.kind, finding.log, finding.tenant_id, finding.month, finding.seq) == (
        "month_altered", "usagesummary", ACME, this_month(), 1,
    )  # fmt: skip
    assert in_sql("inferencerequest", ACME) == ["month_altered"]
    assert verify(tenant=GLOBEX).findings == []


def test_a_month_that_was_opened_again_may_change():
    UsageSummaryFactory(tenant_id=ACME, month=this_month())
    close(ACME, this_month())
    with transaction.atomic(), connection.cursor() as cursor:
        sealing.append(cursor, "reopen", "usagesummary", ACME, this_month(), n=1, root=bytes(32), at=now())
    tamper("UPDATE cp_auditing_usagesummary SET cost = 7")

    assert verify().findings == []


# ---------------------------------------------------------------- personal columns


@pytest.fixture
def personal():
    row = AuditLogFactory(tenant_id=ACME, actor_id="ada", actor_label="Ada", ip="10.0.0.1", user_agent="curl")
    AuditLogFactory(tenant_id=ACME, actor_id="ada")
    seal_all()
    return row


ERASED = "ip = NULL, user_agent = NULL, actor_label = NULL, pii_salt = NULL"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("ip = '10.0.0.2'", "root_mismatch"),
        ("actor_label = 'Eve'", "root_mismatch"),
        ("user_agent = ''", "root_mismatch"),
        ("pii_salt = 'x'", "root_mismatch"),
        ("ip = NULL, user_agent = NULL, actor_label = NULL", "erased_without_record"),
        (ERASED, "erased_without_record"),
    ],
)
def test_changed_personal_columns_are_found_at_their_row(personal, change, kind):
    tamper(f"UPDATE cp_auditing_auditlog SET {change} WHERE id = %s", personal.pk)

    [finding] = verify().findings

    assert (finding.kind, finding.tenant_id, finding.seq, finding.id_from, finding.id_to) == (
        kind, ACME, 1, personal.pk, personal.pk,
    )  # fmt: skip
    assert in_sql("auditlog") == [kind]


def test_a_changed_commitment_is_found_by_its_seal_and_at_its_row(personal):
    tamper("UPDATE cp_auditing_auditlog SET pii_commit = sha256('') WHERE id = %s", personal.pk)

    assert kinds(verify()) == in_sql("auditlog") == ["root_mismatch"]
    assert personal.pk in {finding.id_from for finding in verify().findings}


def test_erased_personal_columns_with_a_record_are_no_finding(personal):
    RetentionRecordFactory(kind="erased", log="auditlog", tenant_id=ACME, subject="ada", rows=2)
    tamper(f"UPDATE cp_auditing_auditlog SET {ERASED} WHERE actor_id = 'ada'")

    assert verify().findings == []
    assert in_sql("auditlog") == []


# ---------------------------------------------------------------- guards


@pytest.mark.parametrize("how", ["DISABLE TRIGGER", "ENABLE TRIGGER", "ENABLE REPLICA TRIGGER"])
@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("cp_auditing_auditlog", "cp_append_only"),
        ("cp_auditing_auditlog", "cp_stamp"),
        ("cp_auditing_inferencerequest", "cp_no_truncate"),
        ("cp_auditing_auditseal", "cp_append_only"),
        ("cp_auditing_retentionrecord", "cp_append_only"),
        ("cp_tenants_app", "cp_audit"),
        ("cp_tenants_app", "cp_audit_truncate"),
    ],
)
def test_a_guard_that_is_off_is_named(table, name, how):
    execute(f"ALTER TABLE {table} {how} {name}")
    try:
        report = verify()
    finally:
        execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")

    assert kinds(report) == ["guard_missing"]
    assert any(f"The trigger {name} of {table} is " in finding.message for finding in report.findings)


def test_a_guard_that_is_gone_from_one_partition_is_named():
    partition = f"cp_auditing_auditlog_{now():%Y%m}"
    with transaction.atomic():
        execute(f"DROP TRIGGER cp_no_truncate ON {partition}")
        [finding] = verify().findings
        transaction.set_rollback(True)

    assert (finding.kind, finding.log) == ("guard_missing", "auditlog")
    assert finding.message == f"{partition} has no trigger cp_no_truncate."


# ---------------------------------------------------------------- anchors

SEED = base64.b64encode(bytes(range(32))).decode()


def anchor(path, seed=SEED):
    """Append a signed note over the present checkpoints, as sealing does."""
    hashes = [bytes(one.hash) for one in AuditSeal.objects.filter(kind="checkpoint").order_by("seq")]
    text = f"controlplane.test\n{len(hashes)}\n{base64.b64encode(merkle.root(hashes)).decode()}\n"
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed))
    signature = notes.key_hash("controlplane.test", key.public_key()) + key.sign(text.encode())
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n— controlplane.test {base64.b64encode(signature).decode()}\n\n")


def test_what_was_rebuilt_is_found_with_an_anchor_alone(sealed, tmp_path, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "AUDIT_SIGNING_KEY": SEED}
    path = tmp_path / "anchors"
    anchor(path)
    seal_all()
    anchor(path)
    assert (verify(anchors=path).findings, verify(anchors=path).anchors) == ([], 2)

    tamper("UPDATE cp_auditing_auditlog SET reason = 'never happened' WHERE id = %s", rows_of("auditlog")[0].pk)
    rebuild_everything()

    assert verify().findings == []
    assert {(found.kind, found.seq) for found in verify(anchors=path).findings} == {
        ("anchor_mismatch", 2), ("anchor_mismatch", 3),
    }  # fmt: skip


def test_checkpoints_dropped_at_the_end_are_found_with_an_anchor(sealed, tmp_path):
    anchor(tmp_path / "anchors")
    tamper(
        "DELETE FROM cp_auditing_auditseal s USING cp_auditing_auditseal c "
        "WHERE s.run = c.run AND c.kind = 'checkpoint' AND c.seq = 2"
    )
    tamper("DELETE FROM cp_auditing_auditlog WHERE xid >= %s", seal_of("auditlog", 1).xid_to)
    tamper("DELETE FROM cp_auditing_inferencerequest WHERE xid >= %s", seal_of("inferencerequest", 1).xid_to)
    assert verify().findings == []

    [finding] = verify(anchors=tmp_path / "anchors").findings

    assert (finding.kind, finding.message) == (
        "anchor_mismatch", "The anchor is over 2 checkpoints; there are fewer.",
    )  # fmt: skip


def test_an_anchor_that_another_key_signed_is_none(sealed, tmp_path, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "AUDIT_SIGNING_KEY": SEED}
    anchor(tmp_path / "anchors", base64.b64encode(bytes(32)).decode())

    [finding] = verify(anchors=tmp_path / "anchors").findings

    assert finding.message == "The anchor over 2 checkpoints is not signed with our key."


@pytest.mark.parametrize(
    "text", ["", "\n\n", "hello", "origin\n1\nnot base64\n\n— x y\n", "\x00", "a\n1\n" + "A" * 43 + "=\n\n\njunk"]
)
def test_a_file_that_holds_no_anchors_is_refused(tmp_path, text):
    path = tmp_path / "anchors"
    path.write_text(text)

    with pytest.raises(InvalidAnchor):
        verify(anchors=path)
    with pytest.raises(InvalidAnchor):
        verify(anchors=tmp_path / "none")


# ---------------------------------------------------------------- spans


def test_spans_leave_no_row_out(monkeypatch):
    for _ in range(6):
        InferenceRequestFactory.create_batch(5, tenant_id=ACME)
        InferenceRequestFactory.create_batch(2, tenant_id=GLOBEX)
        seal_all()
    monkeypatch.setattr(verifying, "ROWS_OF_A_SPAN", 8)
    seen = []

    report = verify(progress=seen.append)

    assert (report.findings, report.rows, report.seals) == ([], 42, 12)
    assert seen == sorted(seen)
    assert len(seen) >= 6
    for row in rows_of("inferencerequest")[::4]:
        tamper("UPDATE cp_auditing_inferencerequest SET latency_ms = 1 WHERE id = %s", row.pk)
        assert kinds(verify()) == ["root_mismatch"]
        tamper("UPDATE cp_auditing_inferencerequest SET latency_ms = 800 WHERE id = %s", row.pk)
    assert verify().findings == []


def test_a_month_of_many_seals_of_one_run_is_matched_by_id():
    at = now()
    InferenceRequest.objects.bulk_create(
        InferenceRequestFactory.build_batch(2500, tenant_id=ACME, created_at=at), batch_size=500
    )
    seal_all()
    assert AuditSeal.objects.filter(kind="rows").count() == 3
    rows = rows_of("inferencerequest")
    assert verify().findings == []

    tamper("UPDATE cp_auditing_inferencerequest SET stream = true WHERE id = %s", rows[1500].pk)
    tamper("UPDATE cp_auditing_inferencerequest SET id = %s WHERE id = %s", uuid7_at(at), rows[2400].pk)

    assert {found.seq for found in verify().findings if found.seq} in ({2, 3}, {1, 2, 3})


def test_a_tenant_in_its_scope_verifies_its_own_rows_and_misses_no_checkpoint_that_it_cannot_see(sealed):
    with tenant_scope(GLOBEX):
        untouched = verify(tenant=GLOBEX)
        asked = in_sql("auditlog", GLOBEX)
    tamper("UPDATE cp_auditing_auditlog SET action = 'forged' WHERE id = %s", rows_of("auditlog", GLOBEX)[0].pk)
    with tenant_scope(GLOBEX):
        tampered = verify(tenant=GLOBEX)

    assert (untouched.findings, untouched.rows, untouched.seals) == ([], 4, 2)
    assert asked == []
    assert kinds(tampered) == ["root_mismatch"]
