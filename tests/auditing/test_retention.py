from __future__ import annotations

import csv
import gzip
import hashlib
import io
from datetime import UTC, date, datetime, timedelta
from threading import Thread
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction

from auditing import keeping, retention, sealing
from auditing.errors import AuditUnavailable, InvalidRow, LegalHold, ReasonRequired, RetentionRefused
from auditing.keeping import Decision, Terms
from auditing.models import AuditLog, AuditSeal, DeadLetter, InferenceRequest, RetentionRecord, UsageHour
from auditing.retention import Step, apply, decide, plan
from auditing.retiring import Standing
from controlplane.core import duties, partitions
from controlplane.core.ids import now, uuid7
from tests.factories import (
    AuditLogFactory,
    DeadLetterFactory,
    InferenceRequestFactory,
    UsageHourFactory,
)
from tests.races import together

MAY, JUNE = date(2021, 5, 1), date(2021, 6, 1)
IN_MAY = datetime(2021, 5, 31, 12, tzinfo=UTC)
ACME, GLOBEX = UUID(int=0xAC), UUID(int=0xF0)
PRESENT = date(2026, 11, 1)
WHY = {"reason": "ticket 42", "by": "kim"}

# ------------------------------------------------------------ what may go: pure


def standing(tenant, rows=5, **values):
    return Standing(**{"tenant_id": tenant, "rows": rows, "sealed": rows, "seals": 1, "last_hash": b"x", **values})


def a_rule(months, log="", tenant=None):
    return Decision(uuid7(), log, tenant, months)


@pytest.mark.parametrize(("log", "last"), [("auditlog", date(2023, 10, 1)), ("inferencerequest", date(2025, 9, 1))])
def test_without_a_rule_audit_rows_are_kept_36_months_and_requests_13(log, last):
    following = partitions.next_month(last)

    assert Terms().due(log, ACME, last, PRESENT)
    assert not Terms().due(log, ACME, following, PRESENT)


def test_of_rules_the_one_most_about_a_tenant_counts_and_of_several_the_latest():
    rules = [
        a_rule(5, tenant=ACME),
        a_rule(4),
        a_rule(3),
        a_rule(7, "auditlog", ACME),
        a_rule(6, tenant=ACME),
        a_rule(2, "auditlog"),
    ]

    assert Terms(rules).months("auditlog", ACME) == 7
    assert Terms(rules).months("inferencerequest", ACME) == 6
    assert Terms(rules).months("auditlog", GLOBEX) == 2
    assert Terms(rules).months("inferencerequest", GLOBEX) == 3


def test_a_month_that_is_due_for_all_goes_as_a_whole():
    assert decide("auditlog", MAY, [standing(ACME), standing(GLOBEX)], Terms(), PRESENT) == [
        Step("auditlog", MAY, None, "drop", 10)
    ]


def test_a_hold_beats_a_rule_and_the_others_rows_go():
    held = Decision(uuid7(), "auditlog", ACME)
    given = Terms([a_rule(1, "auditlog", ACME)], [held])

    assert decide("auditlog", MAY, [standing(ACME), standing(GLOBEX)], given, PRESENT) == [
        Step("auditlog", MAY, ACME, "held", 5, f"hold {held.id}"),
        Step("auditlog", MAY, GLOBEX, "delete", 5),
    ]


def test_a_tenant_that_keeps_longer_keeps_its_rows():
    given = Terms([a_rule(120, tenant=ACME)])

    steps = decide("auditlog", MAY, [standing(ACME), standing(GLOBEX)], given, PRESENT)

    assert steps == [Step("auditlog", MAY, GLOBEX, "delete", 5)]


@pytest.mark.parametrize(
    ("values", "verdict", "why"),
    [
        ({"sealed": 4}, "unsealed", "4 of 5"),
        ({"open": (MAY,)}, "open", "2021-05"),
        ({"sealed": 6}, "unsealed", "6 of 5"),
    ],
)
def test_what_is_not_sealed_or_not_closed_stays(values, verdict, why):
    [step] = decide("inferencerequest", MAY, [standing(ACME, **values)], Terms(), PRESENT)

    assert step.verdict == verdict
    assert why in step.why


@pytest.mark.parametrize(
    ("holds", "steps"), [([], 1), ([Decision(uuid7(), "", None)], 0), ([Decision(uuid7(), "", ACME)], 1)]
)
def test_a_month_without_rows_goes_unless_everything_is_held(holds, steps):
    assert len(decide("auditlog", MAY, [], Terms((), holds), PRESENT)) == steps


# ------------------------------------------------------------ rules and holds


@pytest.mark.django_db
def test_a_decision_is_recorded_with_who_and_why_and_as_an_event():
    record = retention.rule(24, log="auditlog", tenant=ACME, **WHY)

    assert (record.months, record.reason, record.actor, record.all_tenants) == (24, "ticket 42", "kim", False)
    event = AuditLog.objects.for_object(record).get()
    assert (event.action, event.tenant_id, event.reason, event.actor_id) == ("retention.rule", ACME, "ticket 42", "kim")
    assert keeping.terms().months("auditlog", ACME) == 24


@pytest.mark.django_db
def test_a_hold_ends_with_its_release_once():
    held = retention.hold(tenant=ACME, **WHY)
    assert keeping.terms().hold("inferencerequest", ACME).id == held.pk
    assert keeping.terms().hold("auditlog", GLOBEX) is None

    retention.release(held, **WHY)

    assert keeping.terms().hold("auditlog", ACME) is None
    with pytest.raises(RetentionRefused, match="released before"):
        retention.release(held.pk, **WHY)


@pytest.mark.django_db
def test_only_a_hold_can_be_released():
    with pytest.raises(RetentionRefused, match="no hold"):
        retention.release(retention.rule(3, **WHY), **WHY)
    with pytest.raises(RetentionRefused, match="no hold"):
        retention.release(uuid7(), **WHY)


@pytest.mark.django_db
@pytest.mark.parametrize("months", [0, -3, 1201, True])
def test_a_rule_of_no_months_is_refused(months):
    with pytest.raises(InvalidRow):
        retention.rule(months, **WHY)


@pytest.mark.django_db
def test_a_decision_says_why_and_names_a_log():
    with pytest.raises(ReasonRequired):
        retention.hold(reason=" ", by="kim")
    with pytest.raises(InvalidRow, match="usagehour"):
        retention.hold(log="usagehour", **WHY)


@pytest.mark.django_db(transaction=True)
def test_of_two_releases_at_once_one_is_refused():
    held = retention.hold(**WHY)

    outcomes = together(*[lambda: retention.release(held, **WHY)] * 2)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RetentionRecord", "RetentionRefused"]


# ------------------------------------------------------------ what goes


@pytest.fixture
def old(transactional_db, old_months):
    """Makes rows of May 2021, sealed; of requests, the month is closed too."""
    old_months(MAY, JUNE)

    def make(factory=AuditLogFactory, tenants=(ACME, GLOBEX), each=2, seal=True, close=True):
        rows = [
            factory(tenant_id=tenant, created_at=IN_MAY + timedelta(seconds=n))
            for tenant in tenants
            for n in range(each)
        ]
        if seal:
            sealing.seal(now(), force=True)
        if close and factory is InferenceRequestFactory:
            for tenant in tenants:
                close_month(tenant)
        return rows

    return make


def close_month(tenant):
    with transaction.atomic(), connection.cursor() as cursor:
        sealing.append(
            cursor, "close", "usagesummary", tenant, MAY, n=0, root=hashlib.sha256(b"").digest(), at=now()
        )  # fmt: skip


def log_of(name):
    return next(log for log in partitions.registered() if log.table == f"cp_auditing_{name}")


def there(name, month=MAY):
    return partitions.states(log_of(name)).get(month)


def of_may(steps):
    return [(step.log, step.tenant_id, step.verdict, step.rows) for step in steps if step.month == MAY]


def findings():
    sealing.seal(now(), force=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT v.kind, v.message FROM (SELECT * FROM cp_audit_verify('auditlog') UNION ALL "
            "SELECT * FROM cp_audit_verify('inferencerequest')) v"
        )
        return cursor.fetchall()


def test_a_whole_month_is_recorded_detached_and_dropped_and_verification_stays_green(old):
    old()
    seals = {seal.tenant_id: seal for seal in AuditSeal.objects.filter(log="auditlog", month=MAY)}
    told = []

    steps = apply(now(), log="auditlog", told=told.append, **WHY)

    assert of_may(steps) == [("auditlog", None, "drop", 4)]
    assert [line.partition(": ")[2] for line in told if "202105" in line] == ["recorded", "detached", "dropped"]
    assert there("auditlog") is None
    records = RetentionRecord.objects.filter(kind="retired", month=MAY)
    assert {(r.tenant_id, r.rows, r.seals, bytes(r.last_hash)) for r in records} == {
        (tenant, 2, 1, bytes(seal.hash)) for tenant, seal in seals.items()
    }
    assert {event.tenant_id for event in AuditLog.objects.with_action("retention.retired")} == {ACME, GLOBEX}
    assert findings() == []


def test_a_month_that_was_retired_is_not_made_again_unless_it_is_asked_for(old, old_months):
    old()
    apply(now(), log="auditlog", **WHY)

    assert MAY not in partitions.ensure(log_of("auditlog"), now())
    assert there("auditlog") is None

    old_months(MAY)
    assert there("auditlog") is partitions.State.ATTACHED


def test_rows_that_come_back_are_sealed_and_go_again(old, old_months):
    old()
    apply(now(), log="auditlog", **WHY)
    old_months(MAY)
    old(each=3)
    assert findings() == []

    assert of_may(apply(now(), log="auditlog", **WHY)) == [("auditlog", None, "drop", 6)]

    assert findings() == []


def test_a_held_tenant_keeps_its_rows_while_those_of_others_go_by_the_door(old):
    rows = old()
    retention.hold(tenant=ACME, log="auditlog", **WHY)

    steps = apply(now(), log="auditlog", **WHY)

    assert of_may(steps) == [("auditlog", ACME, "held", 2), ("auditlog", GLOBEX, "delete", 2)]
    left = AuditLog.objects.filter(pk__in=[row.pk for row in rows])
    assert set(left.values_list("tenant_id", flat=True)) == {ACME}
    [record] = RetentionRecord.objects.filter(kind="retired")
    assert (record.tenant_id, record.rows, record.subject) == (GLOBEX, 2, "")
    assert findings() == []

    retention.release(RetentionRecord.objects.get(kind="hold"), **WHY)
    assert of_may(apply(now(), log="auditlog", **WHY)) == [("auditlog", None, "drop", 2)]
    assert findings() == []


def test_of_one_tenant_only_its_rows_go(old):
    old()

    assert of_may(apply(now(), log="auditlog", tenant=ACME, **WHY)) == [("auditlog", ACME, "delete", 2)]
    assert of_may(apply(now(), log="auditlog", tenant=uuid7(), **WHY)) == []

    assert there("auditlog") is partitions.State.ATTACHED
    assert findings() == []


def test_what_is_not_sealed_stays(old):
    old(seal=False)

    assert [step[2] for step in of_may(apply(now(), log="auditlog", **WHY))] == ["unsealed", "unsealed"]
    assert there("auditlog") is partitions.State.ATTACHED


def test_requests_stay_until_their_local_months_are_closed_and_their_hours_go_with_them(old):
    old(InferenceRequestFactory, close=False)
    UsageHourFactory(tenant_id=ACME, hour=IN_MAY)

    assert [step[2] for step in of_may(apply(now(), log="inferencerequest", **WHY))] == ["open", "open"]
    assert UsageHour.objects.exists()

    close_month(ACME)
    close_month(GLOBEX)
    assert ("inferencerequest", None, "drop", 4) in of_may(apply(now(), log="inferencerequest", **WHY))

    assert there("inferencerequest") is None
    assert there("usagehour") is None
    assert findings() == []


def test_hours_of_a_tenant_go_with_its_requests(old):
    old(InferenceRequestFactory)
    for tenant in (ACME, GLOBEX):
        UsageHourFactory(tenant_id=tenant, hour=IN_MAY)
    retention.hold(tenant=ACME, **WHY)

    apply(now(), log="inferencerequest", **WHY)

    assert set(InferenceRequest.objects.values_list("tenant_id", flat=True)) == {ACME}
    assert set(UsageHour.objects.values_list("tenant_id", flat=True)) == {ACME}
    assert findings() == []


def test_what_was_changed_behind_the_guards_stays_as_evidence(old):
    rows = old()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_auditlog_202105 DISABLE TRIGGER cp_append_only")
        cursor.execute("UPDATE cp_auditing_auditlog_202105 SET reason = 'none' WHERE id = %s", [rows[0].pk])
        cursor.execute("ALTER TABLE cp_auditing_auditlog_202105 ENABLE ALWAYS TRIGGER cp_append_only")

    [step] = [step for step in apply(now(), log="auditlog", **WHY) if step.month == MAY]

    assert (step.verdict, "root_mismatch" in step.why) == ("refused", True)
    assert there("auditlog") is partitions.State.ATTACHED


def test_a_dry_plan_changes_nothing(old):
    old()

    assert of_may(plan(now(), log="auditlog")) == [("auditlog", None, "drop", 4)]

    assert not RetentionRecord.objects.exists()


def test_rows_are_archived_before_they_go(old, tmp_path):
    rows = old()

    apply(now(), log="auditlog", archive=tmp_path / "kept", **WHY)

    [file] = (tmp_path / "kept").iterdir()
    assert file.name == "auditlog-2021-05.csv.gz"
    assert file.stat().st_mode & 0o777 == 0o600
    kept = list(csv.DictReader(io.StringIO(gzip.decompress(file.read_bytes()).decode())))
    assert [row["id"] for row in kept] == sorted(str(row.pk) for row in rows)
    for record in RetentionRecord.objects.filter(kind="retired", month=MAY):
        assert (record.archive, bytes(record.archive_sha256)) == (str(file), hashlib.sha256(file.read_bytes()).digest())


def test_an_archive_brings_its_rows_back(old, old_months, tmp_path):
    rows = old()
    apply(now(), log="auditlog", archive=tmp_path, tenant=ACME, **WHY)
    [file] = tmp_path.iterdir()

    with (
        connection.cursor() as cursor,
        cursor.copy("COPY cp_auditing_auditlog FROM STDIN (FORMAT csv, HEADER)") as copy,
    ):
        copy.write(gzip.decompress(file.read_bytes()))

    assert AuditLog.objects.filter(pk__in=[row.pk for row in rows]).count() == 4


def test_without_a_folder_that_takes_the_archive_nothing_goes(old, tmp_path):
    old()
    (tmp_path / "file").write_text("x")

    [step] = [step for step in apply(now(), log="auditlog", archive=tmp_path / "file", **WHY) if step.month == MAY]

    assert (step.verdict, "takes no archive" in step.why) == ("refused", True)
    assert there("auditlog") is partitions.State.ATTACHED
    assert not RetentionRecord.objects.exists()


def test_rows_that_come_meanwhile_are_taken_in_by_the_next_run(old, tmp_path):
    old()

    def late(line):
        if "archived" in line:
            AuditLogFactory(tenant_id=ACME, created_at=IN_MAY)

    [step] = [s for s in apply(now(), log="auditlog", archive=tmp_path, told=late, **WHY) if s.month == MAY]

    assert (step.verdict, "meanwhile" in step.why) == ("refused", True)
    assert not RetentionRecord.objects.exists()
    sealing.seal(now(), force=True)
    assert of_may(apply(now(), log="auditlog", **WHY)) == [("auditlog", None, "drop", 5)]


def test_a_hold_that_comes_meanwhile_holds(old, tmp_path):
    old()

    def hold(line):
        if "archived" in line:
            retention.hold(tenant=ACME, **WHY)

    [step] = [s for s in apply(now(), log="auditlog", archive=tmp_path, told=hold, **WHY) if s.month == MAY]

    assert (step.verdict, "is held" in step.why) == ("refused", True)
    assert there("auditlog") is partitions.State.ATTACHED


def backends(cursor):
    cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'controlplane retention'")
    return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize("after", ["archived", "recorded", "detached"])
def test_a_run_that_is_killed_is_continued_by_the_next(old, tmp_path, after):
    old()

    def kill(line):
        if after in line and "202105" in line:
            with connection.cursor() as cursor:
                for pid in backends(cursor):
                    cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    if after == "archived":  # its connection is not needed for the record, and then it is
        with pytest.raises(AuditUnavailable, match="it continues"):
            apply(now(), log="auditlog", archive=tmp_path, told=kill, **WHY)
    else:
        with pytest.raises(AuditUnavailable, match="it continues"):
            apply(now(), log="auditlog", told=kill, **WHY)
        assert there("auditlog") is partitions.State.RETIRING
    records = RetentionRecord.objects.filter(kind="retired", month=MAY).count()

    apply(now(), log="auditlog", **WHY)

    assert there("auditlog") is None
    assert RetentionRecord.objects.filter(kind="retired", month=MAY).count() == records == 2
    assert findings() == []


@pytest.mark.parametrize("tenant", [None, ACME], ids=["month", "tenant"])
def test_a_run_whose_records_are_not_committed_has_done_nothing(old, other_connection, tmp_path, tenant):
    old()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()

    def kill(line):
        if "archived" in line:
            other_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    with pytest.raises(AuditUnavailable, match="it continues"):
        apply(now(), log="auditlog", tenant=tenant, archive=tmp_path, told=kill, **WHY)
    assert not RetentionRecord.objects.exists()

    apply(now(), log="auditlog", tenant=tenant, **WHY)

    assert not AuditLog.objects.filter(tenant_id=ACME, created_at__lt=IN_MAY + timedelta(days=1)).exists()
    assert findings() == []


def test_who_writes_into_a_month_is_waited_for_and_its_row_is_not_lost(old, other_connection):
    old()
    row = AuditLogFactory.build(tenant_id=ACME, created_at=IN_MAY)
    with other_connection.transaction():
        other_connection.execute(
            "INSERT INTO cp_auditing_auditlog (id, created_at, tenant_id, actor_type, actor_id, action, outcome) "
            "VALUES (%s, %s, %s, 'system', 'x', 'x.y', 'success')",
            [row.id, row.created_at, ACME],
        )
        outcome = []
        thread = Thread(target=lambda: outcome.extend(ended(lambda: apply(now(), log="auditlog", **WHY))))
        thread.start()
        with connection.cursor() as watch:
            while thread.is_alive() and not waiting(watch):
                pass
    thread.join()

    assert [(step.verdict, "meanwhile" in step.why) for step in outcome if step.month == MAY] == [("refused", True)]
    assert AuditLog.objects.filter(pk=row.id).exists()


def waiting(cursor):
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return cursor.fetchone()[0]


def ended(work):
    try:
        return work()
    finally:
        connection.close()


def test_a_run_that_is_killed_while_it_detaches_is_continued_by_the_next(old, other_connection):
    old()
    with psycopg.connect(**connection.get_connection_params()) as reader:
        reader.execute("SELECT count(*) FROM cp_auditing_auditlog")
        other_connection.execute("SELECT cp_retire('cp_auditing_auditlog_202105')")
        other_connection.execute("SET lock_timeout = 1")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other_connection.execute(
                "ALTER TABLE cp_auditing_auditlog DETACH PARTITION cp_auditing_auditlog_202105 CONCURRENTLY"
            )

    assert of_may(apply(now(), log="auditlog", **WHY)) == [("auditlog", None, "finish", 0)]

    assert there("auditlog") is None


@pytest.mark.slow
def test_a_reader_that_does_not_end_delays_a_run_and_never_hangs_it(old):
    old()
    with psycopg.connect(**connection.get_connection_params()) as reader:
        reader.execute("SELECT count(*) FROM cp_auditing_auditlog")
        steps = [step for step in apply(now(), log="auditlog", **WHY) if step.month == MAY]

    assert [(step.verdict, "next run continues" in step.why) for step in steps] == [("refused", True)]
    apply(now(), log="auditlog", **WHY)
    assert there("auditlog") is None
    assert findings() == []


def test_of_two_runs_at_once_one_is_refused_or_finds_nothing(old):
    old()

    outcomes = together(*[lambda: apply(now(), log="auditlog", **WHY)] * 2)

    assert all(isinstance(outcome, list | RetentionRefused) for outcome in outcomes)
    assert RetentionRecord.objects.filter(kind="retired", month=MAY).count() == 2
    assert there("auditlog") is None
    assert findings() == []


def test_while_a_run_goes_on_another_is_refused(old, other_connection):
    other_connection.execute("SELECT pg_advisory_lock(hashtext('cp_retention'), 0)")

    with pytest.raises(RetentionRefused) as caught:
        apply(now(), **WHY)

    assert caught.value.code == "retention_running"
    [duty] = [duty for duty in duties.registered() if duty.name == "retention"]
    duty.run(now())


@pytest.mark.django_db
def test_nothing_is_removed_within_a_transaction():
    with pytest.raises(RetentionRefused) as caught:
        apply(now(), **WHY)

    assert caught.value.code == "in_transaction"


def test_nothing_is_removed_through_a_pooler(transactional_db, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)

    with pytest.raises(RetentionRefused, match="DATABASE_DIRECT_URL"):
        apply(now(), **WHY)


def test_the_duty_removes_what_is_due(old):
    old()

    retention.duty(now())

    assert there("auditlog") is None
    assert RetentionRecord.objects.filter(kind="retired", month=MAY, actor="retention").count() == 2


# ------------------------------------------------------------ dead letters


def test_dead_letters_go_90_days_after_they_were_dealt_with(transactional_db):
    at = now()
    over = {"resolution": "discarded", "resolved_at": at - timedelta(days=91)}
    DeadLetterFactory(**over)
    held = DeadLetterFactory(tenant_id=ACME, **over)
    kept = [DeadLetterFactory(), DeadLetterFactory(resolution="retried", resolved_at=at - timedelta(days=89))]
    retention.hold(tenant=ACME, **WHY)

    apply(at, **WHY)

    assert set(DeadLetter.objects.all()) == {held, *kept}


# ------------------------------------------------------------ erasure


def erasable(**values):
    given = {"actor_id": "kim", "actor_label": "Kim", "ip": "10.0.0.1", "user_agent": "curl", "tenant_id": ACME}
    return AuditLogFactory(**{**given, **values})


def personal(row):
    row.refresh_from_db()
    return (row.ip, row.user_agent, row.actor_label, row.pii_salt)


def test_what_is_personal_of_an_actor_is_erased_and_the_rows_still_verify(transactional_db, monkeypatch):
    monkeypatch.setattr("auditing.erasing.BATCH", 2)
    rows = [erasable(), erasable(), erasable(), erasable(tenant_id=GLOBEX)]
    other = erasable(actor_id="lee")
    sealing.seal(now(), force=True)

    erased = retention.erase("kim", reason="she asked for it", by="lee")

    assert (erased.rows, erased.records) == (4, 3)
    assert {personal(row) for row in rows} == {(None, None, None, None)}
    assert personal(other)[2] == "Kim"
    records = RetentionRecord.objects.filter(kind="erased", subject="kim")
    assert sum(record.rows for record in records) == 4
    assert AuditLog.objects.with_action("retention.erased").count() == 3
    assert findings() == []
    assert retention.erase("kim", reason="again", by="lee").rows == 0


@pytest.mark.parametrize("actor", ["", " "])
def test_nobody_is_no_actor_to_erase(transactional_db, actor):
    row = erasable(actor_id=actor)

    with pytest.raises(InvalidRow, match="Give the id of one"):
        retention.erase(actor, reason="a variable that was not set", by="lee")

    assert personal(row)[2] == "Kim"


def test_who_erases_itself_is_done_at_some_time(transactional_db):
    row = erasable()

    assert retention.erase("kim", reason="I asked for it", by="kim").rows == 1

    assert personal(row) == (None, None, None, None)


@pytest.mark.parametrize("held", [{}, {"tenant": ACME}, {"log": "auditlog"}])
def test_nothing_of_a_held_log_is_erased(transactional_db, held):
    rows = [erasable(), erasable(tenant_id=GLOBEX)]
    retention.hold(**held, **WHY)

    with pytest.raises(LegalHold, match="Release the hold"):
        retention.erase("kim", reason="she asked for it", by="lee")

    assert all(personal(row)[2] == "Kim" for row in rows)


def test_a_hold_on_requests_does_not_keep_names(transactional_db):
    row = erasable()
    retention.hold(log="inferencerequest", **WHY)

    retention.erase("kim", tenant=ACME, reason="she asked for it", by="lee")

    assert personal(row)[2] is None


def test_an_erasure_of_one_tenant_leaves_the_others(transactional_db):
    mine, theirs = erasable(), erasable(tenant_id=GLOBEX)

    retention.erase("kim", tenant=ACME, reason="she asked for it", by="lee")

    assert (personal(mine)[2], personal(theirs)[2]) == (None, "Kim")


@pytest.mark.django_db
def test_an_erasure_says_why():
    with pytest.raises(ReasonRequired):
        retention.erase("kim", reason="", by="lee")
