from __future__ import annotations

import base64
import json
import random
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from io import StringIO
from itertools import groupby
from threading import Event, Thread
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from auditing import merkle, sealing
from auditing.errors import AppendOnly, ClusterChanged
from auditing.models import AuditLog, AuditSeal, InferenceRequest, IngestWatermark
from auditing.sealing import FIRST_PREV, append, lag, next_run, seal
from controlplane.core import partitions
from controlplane.core.ids import NIL, lower_bound, now, uuid7
from tests.factories import AuditLogFactory, AuditSealFactory, InferenceRequestFactory
from tests.races import together

pytestmark = pytest.mark.django_db(transaction=True)

ACME, GLOBEX = UUID(int=0xACE), UUID(int=0x60B)
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def seals(**filters):
    return list(AuditSeal.objects.filter(**filters).order_by("log", "tenant_id", "seq"))


def proved():
    """Look at every seal as a stranger would; returns how many rows of the logs are under one."""
    every = list(AuditSeal.objects.order_by("log", "tenant_id", "seq"))
    for _, chain in groupby(every, lambda one: (one.log, one.tenant_id)):
        prev = FIRST_PREV
        for place, one in enumerate(chain, 1):
            assert (one.seq, bytes(one.prev)) == (place, prev)
            prev = bytes(one.hash)
    assert execute("SELECT count(*) FROM cp_auditing_auditseal s WHERE hash <> cp_seal_hash(s)") == [(0,)]
    under = 0
    for one in every:
        if one.kind == "rows":
            leaves = execute(
                f"SELECT cp_leaf(r) FROM cp_auditing_{one.log} r WHERE tenant_id = %s AND xid >= %s AND xid < %s "
                "AND id >= %s AND id <= %s ORDER BY id",
                one.tenant_id, one.xid_from, one.xid_to, one.id_from, one.id_to,
            )  # fmt: skip
            assert (one.n, bytes(one.root)) == (len(leaves), merkle.root([bytes(leaf) for (leaf,) in leaves]))
            under += one.n
        elif one.kind == "checkpoint":
            bound = [bytes(other.hash) for other in every if other.run == one.run and other.kind != "checkpoint"]
            assert (one.n, bytes(one.root)) == (len(bound), merkle.root(bound))
    last = sha256(b"").digest()
    for one in (one for one in every if one.kind == "checkpoint"):
        assert one.run == (UUID(bytes=last[:16]) if one.seq > 1 else NIL)
        last = bytes(one.hash)
    return under


def rows():
    return AuditLog.objects.count() + InferenceRequest.objects.count()


def test_every_row_is_under_one_seal_and_every_seal_under_a_checkpoint():
    for tenant in (ACME, GLOBEX, ACME):
        AuditLogFactory(tenant_id=tenant)
        InferenceRequestFactory.create_batch(3, tenant_id=tenant)

    first = seal(AT, force=True)
    AuditLogFactory(tenant_id=ACME)
    second = seal(AT, force=True)

    assert (first.seals, first.rows, first.checkpoint.n) == (4, 12, 4)
    assert (second.seals, second.rows, second.checkpoint.seq) == (1, 1, 2)
    assert second.checkpoint.prev == first.checkpoint.hash
    assert proved() == rows() == 13


def test_the_ranges_of_a_window_cover_its_month_and_do_not_meet():
    month = date(2026, 11, 1)
    partitions.ensure(partitions.PartitionedLog("cp_auditing_auditlog"), now(), months=[month])
    with transaction.atomic():
        AuditLog.objects.bulk_create(
            AuditLogFactory.build(tenant_id=ACME, created_at=AT + timedelta(milliseconds=n)) for n in range(2500)
        )

    seal(AT, force=True)

    found = seals(log="auditlog")
    assert [one.n for one in found] == [1000, 1000, 500]
    assert found[0].id_from == lower_bound(datetime(2026, 11, 1, tzinfo=UTC))
    assert [one.id_from.int for one in found[1:]] == [one.id_to.int + 1 for one in found[:-1]]
    assert found[-1].id_to.int == lower_bound(datetime(2026, 12, 1, tzinfo=UTC)).int - 1
    assert proved() == 2500


def test_rows_of_other_months_have_seals_of_their_own():
    then = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    partitions.ensure(partitions.PartitionedLog("cp_auditing_auditlog"), now(), months=[then.date().replace(day=1)])
    AuditLogFactory(tenant_id=ACME, created_at=then)
    AuditLogFactory(tenant_id=ACME)

    seal(AT, force=True)

    assert {one.month for one in seals(log="auditlog")} == {date(2026, 1, 1), now().date().replace(day=1)}
    assert proved() == 2


def test_a_run_waits_for_a_thousand_rows_or_five_minutes():
    AuditLogFactory()
    assert seal(AT).rows == 1  # the first of all

    AuditLogFactory.create_batch(3)
    assert seal(AT + timedelta(seconds=299)).checkpoint is None
    assert seal(AT + timedelta(seconds=300)).rows == 3
    AuditLog.objects.bulk_create(AuditLogFactory.build() for _ in range(600))
    InferenceRequest.objects.bulk_create(InferenceRequestFactory.build() for _ in range(400))
    assert seal(AT + timedelta(seconds=301)).rows == 1000

    assert proved() == rows()


def test_silence_is_sealed_too():
    seal(AT)
    seal(AT + timedelta(seconds=300))

    first, second = seals(kind="checkpoint")
    assert (first.n, second.n, second.xid_from) == (0, 0, first.xid_to)
    assert bytes(second.root) == sha256(b"").digest()
    proved()


def test_a_clock_that_was_put_back_does_not_stop_sealing():
    seal(AT)

    assert seal(AT - timedelta(days=1)).checkpoint


def test_what_waits_after_a_pause_goes_in_several_runs(monkeypatch):
    monkeypatch.setattr(sealing, "ROWS_OF_A_RUN", 10)
    for _ in range(5):
        with transaction.atomic():
            AuditLog.objects.bulk_create(AuditLogFactory.build(tenant_id=ACME) for _ in range(4))

    runs = [seal(AT, force=True) for _ in range(3)]

    assert [(run.rows, run.more) for run in runs] == [(8, True), (8, True), (4, False)]
    first, second, third = seals(kind="checkpoint")
    assert (first.xid_to, second.xid_to) == (second.xid_from, third.xid_from)
    assert proved() == 20


def test_a_transaction_of_more_rows_than_a_run_takes_is_sealed_whole(monkeypatch):
    monkeypatch.setattr(sealing, "ROWS_OF_A_RUN", 10)
    with transaction.atomic():
        AuditLog.objects.bulk_create(AuditLogFactory.build(tenant_id=ACME) for _ in range(25))
    AuditLogFactory(tenant_id=ACME)

    assert [seal(AT, force=True).rows for _ in range(2)] == [25, 1]
    assert proved() == 26


def test_the_duty_says_whether_more_waits(monkeypatch):
    monkeypatch.setattr(sealing, "ROWS_OF_A_RUN", 10)
    AuditLog.objects.bulk_create(AuditLogFactory.build() for _ in range(10))
    AuditLogFactory()

    assert sealing.duty(AT) is True
    assert sealing.duty(AT + sealing.PAUSE) is False
    assert proved() == rows() == 11


# --- together with others


def test_nothing_is_missed_or_sealed_twice_while_six_write_commit_and_roll_back():
    done = Event()

    def write(seed):
        def work():
            chance = random.Random(seed)  # noqa: S311
            for _ in range(25):
                try:
                    with transaction.atomic():
                        AuditLogFactory(tenant_id=chance.choice([ACME, GLOBEX]))
                        with transaction.atomic():
                            InferenceRequestFactory(tenant_id=chance.choice([ACME, GLOBEX]))
                        if chance.random() < 0.3:
                            raise InterruptedError
                except InterruptedError:
                    pass

        return work

    def sealer():
        while not done.is_set():
            seal(AT, force=True)

    thread = Thread(target=lambda: (sealer(), connection.close()))
    thread.start()
    outcomes = together(*map(write, range(6)))
    done.set()
    thread.join()
    seal(AT, force=True)

    assert outcomes == [None] * 6
    assert proved() == rows() > 0


def test_of_two_sealers_at_once_none_does_the_others_work():
    AuditLogFactory.create_batch(5, tenant_id=ACME)

    outcomes = together(*[lambda: seal(AT, force=True)] * 4)

    assert sum(run.rows for run in outcomes) == 5
    assert proved() == 5


def test_an_open_transaction_delays_seals_and_never_writers(other_connection):
    other_connection.execute("BEGIN")
    other_connection.execute("SELECT pg_current_xact_id()")
    row = AuditLogFactory(tenant_id=ACME)

    delayed = seal(AT, force=True)
    other_connection.execute("COMMIT")
    after = seal(AT, force=True)

    assert (delayed.rows, after.rows) == (0, 1)
    assert AuditLog.objects.filter(pk=row.pk).exists()
    assert proved() == 1


DIES = [
    ("cp_auditing_auditseal", "INSERT", "NEW.kind = 'rows'"),
    ("cp_auditing_auditseal", "INSERT", "NEW.kind = 'checkpoint'"),
    ("cp_auditing_ingestwatermark", "UPDATE", "NEW.name = 'seal:auditlog'"),
    ("cp_auditing_ingestwatermark", "UPDATE", "NEW.name = 'seal:inferencerequest'"),
]


@pytest.mark.parametrize(("table", "event", "when"), DIES, ids=["a seal", "the checkpoint", "one mark", "both marks"])
def test_a_sealer_that_is_killed_has_done_nothing_and_the_next_one_does_it(table, event, when, other_connection):
    AuditLogFactory(tenant_id=ACME)
    seal(AT, force=True)
    InferenceRequestFactory(tenant_id=ACME)
    AuditLogFactory(tenant_id=GLOBEX)
    other_connection.execute(
        "CREATE FUNCTION cp_test_die() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
    )
    other_connection.execute(
        f"CREATE TRIGGER cp_test_die AFTER {event} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION cp_test_die()"
    )
    try:
        with pytest.raises(DatabaseError):
            seal(AT, force=True)
    finally:
        connection.close()
        other_connection.execute("DROP FUNCTION cp_test_die() CASCADE")

    assert proved() == 1
    assert seal(AT, force=True).rows == 2
    assert proved() == 3


def test_a_restored_database_is_not_sealed_until_somebody_looked():
    AuditLogFactory()
    seal(AT, force=True)
    IngestWatermark.objects.filter(name="seal:auditlog").update(system_identifier=1)

    with pytest.raises(ClusterChanged) as caught:
        seal(AT, force=True)

    assert caught.value.code == "cluster_changed"
    assert "audit_rebase" in caught.value.message


# --- seals of months


def close(tenant=ACME, kind="close", n=2):
    with transaction.atomic(), connection.cursor() as cursor:
        return append(cursor, kind, "usagesummary", tenant, date(2026, 10, 1), n=n, root=merkle.leaf(b"x"), at=AT)


def test_a_closed_month_is_bound_by_the_next_checkpoint():
    AuditLogFactory(tenant_id=ACME)
    before = close()
    seal(AT, force=True)
    after, again = close(), close(kind="reopen")
    with connection.cursor() as cursor:
        assert next_run(cursor) == after.run == again.run != before.run == NIL

    run = seal(AT, force=True)

    assert [one.seq for one in (before, after, again)] == [1, 2, 3]
    assert (run.seals, run.checkpoint.n, run.checkpoint.run) == (0, 2, after.run)
    assert proved() == 1


def test_months_that_are_closed_at_once_make_one_chain():
    outcomes = together(*[close] * 4, *[lambda: seal(AT, force=True)] * 2)

    assert not [one for one in outcomes if isinstance(one, Exception)]
    assert [one.seq for one in seals(log="usagesummary")] == [1, 2, 3, 4]
    seal(AT, force=True)
    assert sum(one.n for one in seals(kind="checkpoint")) == 4
    proved()


def test_no_run_ends_between_a_seal_of_a_month_and_its_commit():
    with transaction.atomic():
        close()
        [skipped] = together(lambda: seal(AT, force=True))

    assert skipped.checkpoint is None
    assert seal(AT, force=True).checkpoint.n == 1
    proved()


# --- the table


def test_a_chain_has_no_fork():
    AuditSealFactory(tenant_id=ACME, seq=1)

    with pytest.raises(IntegrityError, match="cp_auditing_auditseal_chain"):
        AuditSealFactory(tenant_id=ACME, seq=1, id=uuid7())


@pytest.mark.parametrize(
    "statement",
    ["UPDATE cp_auditing_auditseal SET n = 2", "DELETE FROM cp_auditing_auditseal", "TRUNCATE cp_auditing_auditseal"],
)
def test_seals_are_append_only(statement):
    one = AuditSealFactory()

    with pytest.raises(DatabaseError, match="append-only") as caught:
        execute(statement)

    assert caught.value.__cause__.sqlstate == "23001"
    for change in (lambda: AuditSeal.objects.update(n=2), AuditSeal.objects.all().delete, one.save, one.delete):
        with pytest.raises(AppendOnly):
            change()


# --- how late it is


def test_the_lag_is_that_of_the_last_checkpoint():
    assert lag(AT) is None

    AuditLogFactory(created_at=AT)
    assert lag(AT + timedelta(seconds=90)) == timedelta(seconds=90)
    seal(AT + timedelta(seconds=100), force=True)
    assert lag(AT + timedelta(seconds=130)) == timedelta(seconds=30)
    assert lag(AT) == timedelta(0)


def test_the_lag_grows_while_rows_wait_behind_a_transaction_that_does_not_end(other_connection):
    seal(AT, force=True)
    other_connection.execute("BEGIN")
    other_connection.execute("SELECT pg_current_xact_id()")
    AuditLogFactory()
    for minutes in (5, 10, 15):
        seal(AT + timedelta(minutes=minutes), force=True)

    stuck = lag(AT + timedelta(minutes=16))
    other_connection.execute("COMMIT")
    seal(AT + timedelta(minutes=16), force=True)

    assert stuck >= timedelta(minutes=11)
    assert lag(AT + timedelta(minutes=16)) == timedelta(0)


# --- the command


def run(*arguments):
    out = StringIO()
    call_command("audit_seal", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_seals_what_is_due_or_what_waits_now(monkeypatch):
    AuditLogFactory()
    assert "Sealed 1 row in 1 seal. Checkpoint 1 is " in run()
    AuditLogFactory()
    assert "Nothing is due" in run()
    monkeypatch.setattr(sealing, "ROWS_OF_A_RUN", 1)
    AuditLogFactory()

    told = json.loads(run("--now", "--json"))

    assert (told["rows"], told["seals"], told["checkpoint"]["seq"], told["verifier_key"]) == (2, 2, 3, None)
    assert told["checkpoint"]["hash"] == bytes(seals(kind="checkpoint")[-1].hash).hex()
    assert json.loads(run("--json"))["checkpoint"] is None
    assert proved() == 3


def test_the_command_tells_auditors_the_key_of_the_anchors(settings):
    key = {"AUDIT_ANCHORS": ("/elsewhere/anchors",), "AUDIT_SIGNING_KEY": base64.b64encode(bytes(32)).decode()}
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, **key}

    assert json.loads(run("--json"))["verifier_key"].startswith("controlplane/audit+")


def test_the_command_says_when_another_process_seals(other_connection):
    other_connection.execute("SELECT pg_advisory_lock(%s)", [sealing._LOCK])

    with pytest.raises(CommandError, match="Another process") as caught:
        run("--now")

    assert caught.value.returncode == 1
    assert "Nothing is due" in run()


@pytest.mark.parametrize("arguments", [["--later"], ["now"], ["--now=yes"]])
def test_the_command_refuses_what_it_does_not_know(arguments):
    with pytest.raises(CommandError):
        run(*arguments)
