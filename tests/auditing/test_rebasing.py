from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from uuid import UUID

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from auditing import rebasing
from auditing.errors import ClusterChanged, ReasonRequired
from auditing.models import AuditLog, InferenceRequest, IngestWatermark
from auditing.rebasing import rebase
from auditing.sealing import seal
from controlplane.devdb.account import client
from tests.auditing.test_sealing import proved
from tests.factories import AuditLogFactory, InferenceRequestFactory
from tests.races import together

pytestmark = pytest.mark.django_db(transaction=True)

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACME = UUID(int=0xACE)
LOGS = ("cp_auditing_auditlog", "cp_auditing_inferencerequest")
FAR = 10_000_000


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def numbered(offset=0):
    """Let new rows have the number of their transaction and an offset: 0 as the migrations made it."""
    with transaction.atomic():
        for log in LOGS:
            more = f" + {offset}" if offset else ""
            execute(f"ALTER TABLE {log} ALTER COLUMN xid SET DEFAULT (pg_current_xact_id()::text)::bigint{more}")


@pytest.fixture
def as_before(transactional_db):
    yield
    numbered()


@pytest.fixture
def elsewhere(new_database):
    """A connection in autocommit to another database of the same cluster."""
    found = new_database("elsewhere")
    at = {"host": found["PGHOST"], "user": found["PGUSER"], "dbname": found["PGDATABASE"]}
    at |= {"port": found["PGPORT"]} if found["PGPORT"] else {}
    at |= {"password": found["PGPASSWORD"]} if found["PGPASSWORD"] else {}
    with psycopg.connect(**at, autocommit=True) as opened:
        yield opened


def other_cluster():
    IngestWatermark.objects.update(system_identifier=1)


def test_nothing_is_done_while_nothing_has_changed(as_before):
    AuditLogFactory()
    seal(AT, force=True)

    assert rebase(reason="a drill", by="tests") is None
    assert not AuditLog.objects.filter(action="audit.rebased").exists()


def test_another_cluster_that_goes_on_with_the_numbers_keeps_them(as_before):
    AuditLogFactory()
    seal(AT, force=True)
    other_cluster()
    with pytest.raises(ClusterChanged):
        seal(AT, force=True)

    done = rebase(reason="pg_upgrade to 18", by="tests")

    assert (done.offset, done.rows) == (0, 0)
    row = AuditLog.objects.get(action="audit.rebased")
    assert (row.reason, row.details) == ("pg_upgrade to 18", {"offset": 0, "former_offset": 0, "rows": 0})
    assert not rebasing.changed()
    assert seal(AT, force=True).rows == 1


def test_a_transaction_that_is_open_elsewhere_is_no_sign_of_new_numbers(as_before, elsewhere):
    elsewhere.execute("BEGIN")
    elsewhere.execute("SELECT pg_current_xact_id()")
    AuditLogFactory()
    seal(AT, force=True)
    other_cluster()

    done = rebase(reason="pg_upgrade", by="tests")
    elsewhere.execute("ROLLBACK")

    assert (done.offset, done.rows) == (0, 0)
    assert proved() == 1


def test_numbers_that_begin_anew_are_raised_behind_all_that_was_read(as_before):
    AuditLogFactory(tenant_id=ACME)
    seal(AT, force=True)
    IngestWatermark.objects.update(xid=FAR)  # as if it had been read in a cluster that had come so far
    with pytest.raises(ClusterChanged):
        seal(AT, force=True)

    done = rebase(reason="restored", by="tests")
    row = AuditLogFactory()
    partition = execute("SELECT tableoid::regclass::text FROM cp_auditing_auditlog WHERE id = %s", row.pk)[0][0]

    assert AuditLog.objects.get(pk=row.pk).xid > FAR
    assert done.offset > 0
    [[default]] = execute(
        "SELECT column_default FROM information_schema.columns WHERE table_name = %s AND column_name = 'xid'", partition
    )
    assert str(done.offset) in default
    assert set(IngestWatermark.objects.values_list("xid_offset", flat=True)) == {done.offset}
    sealed = seal(AT, force=True)
    assert {row.pk, AuditLog.objects.get(action="audit.rebased").pk} <= set(
        AuditLog.objects.filter(xid__gte=FAR, xid__lt=sealed.checkpoint.xid_to).values_list("pk", flat=True)
    )


def test_a_second_job_begins_with_the_offset(as_before):
    seal(AT, force=True)
    IngestWatermark.objects.update(xid=FAR)
    done = rebase(reason="restored", by="tests")
    IngestWatermark.objects.filter(name="seal:auditlog").delete()

    seal(AT, force=True)

    assert IngestWatermark.objects.get(name="seal:auditlog").xid_offset == done.offset


def test_a_rebase_that_fails_has_done_nothing(as_before):
    AuditLogFactory()
    seal(AT, force=True)
    other_cluster()
    before = list(IngestWatermark.objects.order_by("name").values())
    execute("ALTER TABLE cp_auditing_auditlog ADD CONSTRAINT cp_test CHECK (action <> 'audit.rebased')")
    try:
        with pytest.raises(DatabaseError):
            rebase(reason="restored", by="tests")
    finally:
        execute("ALTER TABLE cp_auditing_auditlog DROP CONSTRAINT cp_test")

    assert list(IngestWatermark.objects.order_by("name").values()) == before
    assert rebasing.changed()


def test_of_two_at_once_one_does_it(as_before):
    AuditLogFactory()
    seal(AT, force=True)
    other_cluster()

    outcomes = together(*[lambda: rebase(reason="restored", by="tests")] * 2)

    assert sorted(one is None for one in outcomes) == [False, True]
    assert AuditLog.objects.filter(action="audit.rebased").count() == 1


# --- dump and restore


@contextmanager
def restored(new_database):
    """Within it the tests' connection is to a second database, into which a dump of the first was restored."""
    at, former = new_database("restored"), connection.settings_dict["NAME"]
    variables = {**os.environ, **{name: at[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")}}
    dump = subprocess.run([client("pg_dump"), former], env=variables, capture_output=True, check=True)
    psql = [client("psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname", at["PGDATABASE"]]
    subprocess.run(psql, env=variables, input=dump.stdout, capture_output=True, check=True)
    connection.close()
    connection.settings_dict["NAME"] = at["PGDATABASE"]
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = former


def test_a_restored_dump_is_sealed_on_without_a_gap_after_the_rebase(as_before, new_database):
    numbered(FAR)  # this cluster has come far
    seal(AT, force=True)
    IngestWatermark.objects.update(xid_offset=FAR)
    AuditLogFactory.create_batch(3, tenant_id=ACME)
    InferenceRequestFactory.create_batch(2, tenant_id=ACME)
    seal(AT, force=True)
    unsealed = AuditLogFactory(tenant_id=ACME)
    leaves = "SELECT id, cp_leaf(r) FROM cp_auditing_auditlog r ORDER BY id"
    before = execute(leaves)

    with restored(new_database):
        assert execute(leaves) == before
        IngestWatermark.objects.update(xid_offset=0, system_identifier=1)  # the new one begins anew
        numbered()
        early = AuditLogFactory(tenant_id=ACME)  # before somebody looked
        with pytest.raises(ClusterChanged):
            seal(AT, force=True)

        done = rebase(reason="restored from the dump of Saturday", by="tests")
        late = AuditLogFactory(tenant_id=ACME)
        run = seal(AT, force=True)

        assert (done.former, done.rows) == (0, 1)
        assert run.rows == 4  # unsealed, early, the rebase itself, late
        assert proved() == AuditLog.objects.count() + InferenceRequest.objects.count() == 9
        assert {unsealed.pk, early.pk, late.pk} <= set(AuditLog.objects.values_list("pk", flat=True))
        assert execute("SELECT * FROM cp_audit_verify('auditlog', %s)", ACME) == []
        with pytest.raises(DatabaseError, match="append-only"):
            execute("UPDATE cp_auditing_auditlog SET xid = 1")


# --- the command


def run(*arguments):
    out = StringIO()
    call_command("audit_rebase", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_what_it_did(as_before):
    AuditLogFactory()
    seal(AT, force=True)

    assert "nothing to do" in run("--reason", "a drill")
    other_cluster()
    assert "goes on with the numbers" in run("--reason", "pg_upgrade")
    IngestWatermark.objects.update(xid=FAR)
    assert "higher" in run("--reason", "restored")
    assert run("--reason", "again", "--json") == '{"changed": false, "offset": null, "rows": null}\n'


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_rebase_says_why(as_before, reason):
    with pytest.raises(ReasonRequired):
        rebase(reason=reason, by="tests")
    with pytest.raises(CommandError) as caught:
        run("--reason", reason)
    assert caught.value.returncode == 1
