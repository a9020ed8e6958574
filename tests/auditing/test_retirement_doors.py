"""The two doors of a log, by SQL: what each lets through, and what it does not."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from auditing.models import AuditLog, InferenceRequest, RetentionRecord
from controlplane.core.ids import uuid7
from tests.factories import AuditLogFactory, InferenceRequestFactory, RetentionRecordFactory

pytestmark = pytest.mark.django_db

MONTH = date(2021, 5, 1)
IN_IT = datetime(2021, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
LOGS = [(AuditLog, AuditLogFactory, "auditlog"), (InferenceRequest, InferenceRequestFactory, "inferencerequest")]
each_log = pytest.mark.parametrize(("model", "factory", "log"), LOGS, ids=["audit", "requests"])


@pytest.fixture(autouse=True)
def months(old_months):
    old_months(MONTH, date(2021, 6, 1))


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.rowcount


def retired(tenant, log, **values):
    given = {"kind": "retired", "log": log, "tenant_id": tenant, "month": MONTH, "rows": 1, **values}
    return RetentionRecordFactory(**given)


@contextmanager
def door(setting, record):
    execute("SELECT set_config(%s, %s, true)", setting, str(record.pk))
    yield
    execute("SELECT set_config(%s, '', true)", setting)


@contextmanager
def refused(what="append-only"):
    with pytest.raises(IntegrityError, match=what) as caught, transaction.atomic():
        yield
    assert caught.value.__cause__.sqlstate == "23001"


def check_now():
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    execute("SET CONSTRAINTS ALL DEFERRED")


@each_log
def test_a_tenants_whole_month_goes_by_its_record(model, factory, log):
    tenant = uuid7()
    gone = [
        factory(tenant_id=tenant, created_at=IN_IT),
        factory(tenant_id=tenant, created_at=IN_IT - timedelta(days=30)),
    ]
    stays = [factory(created_at=IN_IT), factory(tenant_id=tenant)]

    with door("cp.retention_record", retired(tenant, log)):
        assert execute(f"DELETE FROM {model._meta.db_table} WHERE id = ANY (%s)", [row.pk for row in gone]) == 2
    check_now()

    assert not model.objects.filter(pk__in=[row.pk for row in gone]).exists()
    assert model.objects.filter(pk__in=[row.pk for row in stays]).count() == 2


@each_log
def test_a_part_of_a_month_is_refused_at_the_end_of_the_transaction(model, factory, log):
    tenant = uuid7()
    first, _ = factory(tenant_id=tenant, created_at=IN_IT), factory(tenant_id=tenant, created_at=IN_IT)

    with refused("retired as a whole"):
        with door("cp.retention_record", retired(tenant, log)):
            execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", first.pk)
        check_now()

    assert model.objects.filter(pk=first.pk).exists()


@each_log
@pytest.mark.parametrize(
    "wrong",
    [
        lambda log: {"tenant_id": uuid7()},
        lambda log: {"log": {"auditlog": "inferencerequest", "inferencerequest": "auditlog"}[log]},
        lambda log: {"month": date(2021, 6, 1)},
        lambda log: {"kind": "erased"},
        lambda log: {"kind": "hold"},
        lambda log: {"subject": "cp_auditing_auditlog_202105"},
        lambda log: {"all_tenants": True},
    ],
    ids=["tenant", "log", "month", "erasure", "hold", "partition", "all"],
)
def test_a_door_of_another_record_is_refused(model, factory, log, wrong):
    row = factory(created_at=IN_IT)

    with refused(), door("cp.retention_record", retired(**{"tenant": row.tenant_id, "log": log} | {
        {"tenant_id": "tenant"}.get(name, name): value for name, value in wrong(log).items()
    })):  # fmt: skip
        execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", row.pk)


@each_log
def test_a_record_of_an_earlier_transaction_opens_nothing(transactional_db, model, factory, log):
    row = factory()
    record = RetentionRecordFactory(
        kind="retired",
        log=log,
        tenant_id=row.tenant_id,
        month=row.created_at.date().replace(day=1),
        subject="x",
        rows=1,
    )
    empty = RetentionRecordFactory(kind="retired", log=log, tenant_id=uuid7(), month=MONTH, rows=0)

    for old in (record, empty):
        with refused(), door("cp.retention_record", old):
            execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", row.pk)


def test_a_record_of_an_earlier_transaction_erases_nothing(transactional_db):
    row = AuditLogFactory(actor_id="kim")
    record = RetentionRecordFactory(kind="erased", log="auditlog", tenant_id=row.tenant_id, subject="kim")

    with refused(), door("cp.erasure_record", record):
        execute("UPDATE cp_auditing_auditlog SET actor_label = NULL, ip = NULL, user_agent = NULL, pii_salt = NULL")


@pytest.mark.parametrize("text", ["x", "00000000-0000-0000-0000-000000000000"])
def test_a_door_that_names_no_record_is_refused(text):
    row = AuditLogFactory()

    with pytest.raises(DatabaseError), transaction.atomic():
        execute("SELECT set_config('cp.retention_record', %s, true)", text)
        execute("DELETE FROM cp_auditing_auditlog WHERE id = %s", row.pk)


def test_an_erasure_takes_out_what_is_personal_and_leaves_its_commitment():
    row = AuditLogFactory(actor_id="kim", actor_label="Kim", ip="10.0.0.1", user_agent="curl", reason="ticket")
    row.refresh_from_db()
    record = RetentionRecordFactory(kind="erased", log="auditlog", tenant_id=row.tenant_id, subject="kim")

    with transaction.atomic(), door("cp.erasure_record", record):  # in a savepoint, whose transaction id is another
        execute(
            "UPDATE cp_auditing_auditlog SET ip = NULL, user_agent = NULL, actor_label = NULL, pii_salt = NULL WHERE id = %s",
            row.pk,
        )

    after = AuditLog.objects.get(pk=row.pk)
    assert (after.ip, after.user_agent, after.actor_label, after.pii_salt) == (None, None, None, None)
    assert (bytes(after.pii_commit), after.reason, after.xid) == (bytes(row.pii_commit), "ticket", row.xid)


@pytest.mark.parametrize(
    "change",
    [
        "reason = ''",
        "pii_commit = NULL",
        "actor_id = ''",
        "xid = 5",
        "cost = 1.0",
        "ip = '10.0.0.2'",
        "actor_label = 'Lee'",
        "id = gen_random_uuid()",
    ],
)
def test_the_door_of_an_erasure_lets_nothing_else_change(change):
    row = AuditLogFactory(actor_id="kim", actor_label="Kim", ip="10.0.0.1", reason="ticket")
    record = RetentionRecordFactory(kind="erased", log="auditlog", tenant_id=row.tenant_id, subject="kim")

    with refused(), door("cp.erasure_record", record):
        execute(f"UPDATE cp_auditing_auditlog SET pii_salt = NULL, {change} WHERE id = %s", row.pk)


@pytest.mark.parametrize(
    "wrong",
    [{"tenant_id": "00000000-0000-0000-0000-000000000001"}, {"subject": "lee"}, {"kind": "retired", "month": MONTH}],
)
def test_an_erasure_of_somebody_else_is_refused(wrong):
    row = AuditLogFactory(actor_id="kim")
    given = {"kind": "erased", "log": "auditlog", "tenant_id": row.tenant_id, "subject": "kim", **wrong}

    with refused(), door("cp.erasure_record", RetentionRecordFactory(**given)):
        execute(
            "UPDATE cp_auditing_auditlog SET ip = NULL, user_agent = NULL, actor_label = NULL, pii_salt = NULL WHERE id = %s",
            row.pk,
        )


def test_requests_have_no_door_for_changes():
    row = InferenceRequestFactory()
    record = RetentionRecordFactory(kind="erased", log="inferencerequest", tenant_id=row.tenant_id, subject="x")

    with refused(), door("cp.erasure_record", record):
        execute("UPDATE cp_auditing_inferencerequest SET error = error WHERE id = %s", row.pk)


@each_log
def test_a_tenant_opens_no_door(acme, model, factory, log):
    row = factory(tenant_id=acme.pk, created_at=IN_IT)

    with refused():
        execute(f"GRANT DELETE, UPDATE ON {model._meta.db_table} TO cp_tenant")  # somebody's mistake
        with door("cp.retention_record", retired(acme.pk, log)):
            execute("SELECT set_config('cp.tenant_id', %s, true)", str(acme.pk))
            execute("SET LOCAL ROLE cp_tenant")
            execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", row.pk)


def test_a_tenant_writes_no_record_and_no_row_of_a_log_goes_by_it(acme):
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        execute("SELECT set_config('cp.tenant_id', %s, true)", str(acme.pk))
        execute("SET LOCAL ROLE cp_tenant")
        execute("DELETE FROM cp_auditing_auditlog")
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        execute("SELECT set_config('cp.tenant_id', %s, true)", str(acme.pk))
        execute("SET LOCAL ROLE cp_tenant")
        retired(acme.pk, "auditlog")


@each_log
def test_replication_opens_no_door_either(model, factory, log, can_replicate):
    row = factory()
    with can_replicate() as cursor, pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        cursor.execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", [row.pk])


def test_a_month_that_is_being_removed_takes_no_row():
    execute("SELECT cp_retire('cp_auditing_auditlog_202105')")

    with refused("being removed"):
        AuditLogFactory(created_at=IN_IT)
    with pytest.raises(DatabaseError, match="being removed"), transaction.atomic():
        execute("ALTER TABLE cp_auditing_auditlog DETACH PARTITION cp_auditing_auditlog_202105")
        execute("SELECT cp_partition_add('cp_auditing_auditlog', '2021-05-01')")


def test_a_record_says_why():
    with pytest.raises(IntegrityError, match="cp_auditing_retentionrecord_reason_given"):
        RetentionRecordFactory(reason="")


@pytest.mark.parametrize("months", [0, -1])
def test_a_rule_is_a_month_at_least(months):
    with pytest.raises(IntegrityError, match="cp_auditing_retentionrecord_a_month_at_least"):
        RetentionRecordFactory(kind="rule", months=months)


def test_records_never_change():
    record = RetentionRecordFactory()
    for statement in ("UPDATE cp_auditing_retentionrecord SET reason = 'x'", "DELETE FROM cp_auditing_retentionrecord"):
        with refused():
            execute(statement)
    assert RetentionRecord.objects.filter(pk=record.pk).exists()
