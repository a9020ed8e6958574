from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from django.core import checks
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from auditing.errors import AppendOnly
from controlplane.core import partitions
from controlplane.core.ids import lower_bound, now
from storage_meta import cleaning, trail
from storage_meta.models import StorageAudit
from tenants.scope import tenant_scope
from tests.factories import StorageAuditFactory

pytestmark = pytest.mark.usefixtures("past_months_are_removed")

LOG = "cp_storage_meta_storageaudit"
LONG_AGO = datetime(2021, 3, 5, tzinfo=UTC)


@pytest.fixture
def refused(db):
    """Run SQL that must be refused by the guard of the log."""

    def run(statement, *values, before=None):
        with transaction.atomic(), connection.cursor() as cursor:
            if before is not None:
                cursor.execute("SELECT set_config('cp.retention_before', %s, true)", [before])
            with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
                cursor.execute(statement, values)
            cursor.execute("SELECT set_config('cp.retention_before', '', true)")

    return run


@pytest.fixture
def row(acme):
    return StorageAuditFactory(tenant_id=acme.pk)


def partition(at):
    return f"{LOG}_{at:%Y%m}"


def test_the_models_refuse_to_change_or_remove_a_row(row):
    row.action = "s3:GetObject"

    for change in (row.save, row.delete, StorageAudit.objects.all().delete):
        with pytest.raises(AppendOnly):
            change()
    with pytest.raises(AppendOnly):
        StorageAudit.objects.update(action="x")


@pytest.mark.parametrize("table", [lambda row: LOG, lambda row: partition(row.created_at)])
@pytest.mark.parametrize("statement", ["UPDATE {} SET success = NOT success", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_database_refuses_it_on_the_log_and_on_its_months(row, refused, table, statement):
    refused(statement.format(table(row)))


def test_the_guards_hold_under_replication_too(row, can_replicate):
    for statement in ("UPDATE {} SET success = NOT success", "DELETE FROM {}", "TRUNCATE {}"):
        with can_replicate() as cursor, pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            cursor.execute(statement.format(partition(row.created_at)))


def test_the_door_opens_for_rows_that_are_older_alone(row, refused):
    refused(f"DELETE FROM {LOG}", before=row.created_at.isoformat())
    refused(f"UPDATE {LOG} SET success = NOT success", before="infinity")
    refused(f"TRUNCATE {LOG}", before="infinity")
    refused(f"DELETE FROM {LOG}", before="")

    with connection.cursor() as cursor:
        later = row.created_at + timedelta(microseconds=1)
        cursor.execute("SELECT set_config('cp.retention_before', %s, true)", [later.isoformat()])
        cursor.execute(f"DELETE FROM {LOG} WHERE tenant_id = %s", [row.tenant_id])
        assert cursor.rowcount == 1
        cursor.execute("SELECT set_config('cp.retention_before', '', true)")


def test_the_door_is_closed_to_whoever_does_not_own_the_log(row, refused):
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT DELETE ON {LOG} TO cp_tenant")
    with tenant_scope(row.tenant_id):
        refused(f"DELETE FROM {LOG}", before="infinity")


def test_a_tenant_may_read_and_add_and_nothing_else(row, acme, globex):
    with tenant_scope(acme), connection.cursor() as cursor:
        cursor.execute(
            "SELECT has_table_privilege(%s, 'SELECT, INSERT'), has_table_privilege(%s, 'UPDATE, DELETE, TRUNCATE')",
            [LOG] * 2,
        )
        assert cursor.fetchone() == (True, False)
        assert StorageAudit.objects.count() == 1
    with tenant_scope(globex):
        assert StorageAudit.objects.count() == 0


def test_a_record_type_is_one_of_five(acme):
    with pytest.raises(IntegrityError, match="cp_storage_meta_storageaudit_record_type"):
        StorageAuditFactory(tenant_id=acme.pk, record_type="WRITE")


def test_there_are_months_ahead_and_the_command_knows_the_log(db, capsys):
    months = [partitions.month_of(now())]
    for _ in range(3):
        months.append(partitions.next_month(months[-1]))

    assert set(months) <= partitions.existing_months(cleaning.LOG)
    assert LOG in {log.table for log in partitions.registered()}

    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {LOG} DETACH PARTITION {LOG}_{months[-1]:%Y%m}")
    call_command("audit_partitions", "--json")
    assert f"{months[-1]:%Y-%m}" in json.dumps(json.loads(capsys.readouterr().out))
    assert months[-1] in partitions.existing_months(cleaning.LOG)


@pytest.mark.parametrize("guard", ["cp_append_only", "cp_no_truncate"])
def test_a_guard_that_is_off_is_told_by_the_check(row, guard):
    def told():
        return [error for error in checks.run_checks(databases=["default"]) if error.id == "cp_storage_meta.E004"]

    assert told() == []
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {partition(row.created_at)} ENABLE REPLICA TRIGGER {guard}")

    [error] = told()
    assert partition(row.created_at) in error.msg
    assert guard in error.hint


def test_a_month_that_is_made_later_has_its_guards(docs, refused):
    docs.log_audit("s3:PutObject", created_at=LONG_AGO)

    for statement in ("UPDATE {} SET success = NOT success", "DELETE FROM {}", "TRUNCATE {}"):
        refused(statement.format(partition(LONG_AGO)))


def test_a_page_of_50_reads_at_most_60_buffers(acme, docs):
    with connection.cursor() as cursor:  # 200 tenants take turns
        cursor.execute(
            f"INSERT INTO {LOG} (id, created_at, tenant_id, action, record_type, bucket, object_key, actor_type, user_agent) "
            "SELECT cp_uuid7(at), at, CASE WHEN n %% 200 = 0 THEN %s ELSE cp_uuid7_of(at, (n %% 200)::text::bytea) END, "
            "'s3:PutObject', 'CREATE', 'docs', 'reports/1.txt', 'system', repeat('x', 120) "
            "FROM generate_series(1, 12000) n, LATERAL (SELECT now() + n * interval '1 ms' - interval '1 min' AS at) t",
            [acme.pk],
        )
        cursor.execute(f"ANALYZE {LOG}")

    for asked in ({}, {"object_key": "reports/1.txt"}):
        page = docs.get_audit_logs(limit=50, **asked)
        told = trail.narrowed(docs, asked)[:51].explain(analyze=True, buffers=True, format="json")

        assert len(page.rows) == 50
        assert _buffers(told) <= 60
        assert "Seq Scan" not in _used(told)


def test_a_row_that_is_dated_ahead_comes_first(docs):
    docs.log_audit("s3:PutObject", object_key="today")
    for days in (89, 1, 31):
        docs.log_audit("s3:PutObject", object_key=f"in {days} days", created_at=now() + timedelta(days=days))

    found = [row.object_key for row in docs.get_audit_logs().rows]

    assert found == ["in 89 days", "in 31 days", "in 1 days", "today"]


def _plan(told):
    return json.loads(told)[0]["Plan"]


def _buffers(told):
    return _plan(told)["Shared Hit Blocks"] + _plan(told)["Shared Read Blocks"]


def _used(told):
    """Kinds of the nodes that gave rows."""
    kinds, left = set(), [_plan(told)]
    while left:
        node = left.pop()
        left += node.get("Plans", [])
        if node["Actual Rows"]:
            kinds.add(node["Node Type"])
    return kinds


# --- log_audit


def test_a_row_of_what_was_done_elsewhere(docs):
    made = docs.log_audit(
        "s3:GetObject",
        object_key="a",
        version_id="null",
        size=3,
        bytes_sent=2,
        metadata={"api_key": "x", "n": 1},
        user_id="u-1",
        user_name="Ann",
        source_ip="2001:db8::1",
        user_agent="curl",
        request_id="r",
        success=False,
        error_code="no_such_key",
        error_message="Gone.",
    )

    row = StorageAudit.objects.get(pk=made)
    assert (row.record_type, row.bucket, row.object_key, row.size, row.bytes_sent) == ("READ", "docs", "a", 3, 2)
    assert (row.actor_type, row.actor_id, row.actor_name, row.source_ip) == ("user", "u-1", "Ann", "2001:db8::1")
    assert (row.success, row.error_code, row.metadata) == (False, "no_such_key", {"api_key": "[redacted]", "n": 1})


@pytest.mark.parametrize(
    ("action", "record_type"),
    [
        ("s3:PutObject", "CREATE"),
        ("s3:PutObjectTagging", "UPDATE_METADATA"),
        ("s3:DeleteObjectVersion", "DELETE"),
        ("s3:LifecycleExpiration", "DELETE"),
        ("s3:ListBucket", "READ"),
        ("backup.restored", "ADMIN"),
    ],
)
def test_the_action_tells_its_kind_unless_it_is_said(docs, action, record_type):
    assert StorageAudit.objects.get(pk=docs.log_audit(action)).record_type == record_type
    assert StorageAudit.objects.get(pk=docs.log_audit(action, record_type="ADMIN")).record_type == "ADMIN"


@pytest.mark.parametrize("at", [LONG_AGO, datetime(2020, 1, 1, tzinfo=UTC), None])
def test_a_row_may_be_of_another_month_which_is_made(docs, at):
    at = at or datetime.combine(partitions.next_month(now().date()), datetime.min.time(), UTC)

    made = docs.log_audit("s3:PutObject", created_at=at)

    row = StorageAudit.objects.get(pk=made)
    assert row.created_at == at
    assert lower_bound(at) <= made
    assert at.date().replace(day=1) in partitions.existing_months(cleaning.LOG)


@pytest.mark.django_db(transaction=True)
def test_inside_a_tenants_scope_a_month_is_made_too(docs):
    month = date(2022, 7, 1)
    assert month not in partitions.existing_months(cleaning.LOG)

    with tenant_scope(docs.tenant):
        docs.log_audit("s3:PutObject")
        docs.log_audit("s3:PutObject", created_at=datetime(2022, 7, 9, tzinfo=UTC))
        assert len(docs.get_audit_logs().rows) == 2

    assert docs.cleanup_old_audits(days=365) == 1


# --- get_audit_logs


def test_pages_go_on_where_the_last_ended_whatever_comes_meanwhile(docs):
    for n in range(7):
        docs.log_audit("s3:PutObject", object_key=f"k{n}")

    seen, token = [], None
    for _ in range(4):
        page = docs.get_audit_logs(limit=2, continuation_token=token)
        seen += [row.object_key for row in page.rows]
        token = page.next_continuation_token
        assert page.is_truncated is (token is not None)
        docs.log_audit("s3:PutObject", object_key="new")

    assert seen == [f"k{n}" for n in reversed(range(7))]
    assert token is None


def test_filters_narrow_the_page(docs, acme, globex):
    other = type(docs).of(acme).bucket("other")
    first = docs.log_audit("s3:PutObject", object_key="a", user_id="ann", created_at=now() - timedelta(days=1))
    second = docs.log_audit("s3:GetObject", object_key="a", user_id="bob", request_id="r", version_id="null")
    third = docs.log_audit("s3:GetObject", object_key="b", success=False)
    fourth = other.log_audit("s3:DeleteObject", object_key="a")
    type(docs).of(globex).log_audit("s3:PutObject", object_key="a")
    everything = type(docs).of(acme)

    def ids(files=docs, **asked):
        return [row.pk for row in files.get_audit_logs(**asked).rows]

    assert ids() == [third, second, first]
    assert ids(everything) == [fourth, third, second, first]
    assert ids(object_key="a") == [second, first]
    assert ids(action="s3:GetObject") == ids(action="s3:Get*") == ids(record_type="READ") == [third, second]
    assert ids(user_id="ann") == ids(actor_id="ann") == [first]
    assert ids(request_id="r") == ids(version_id="null") == [second]
    assert ids(success=False) == [third]
    at = StorageAudit.objects.get(pk=second).created_at
    assert ids(since=at) == [third, second]
    assert ids(until=at) == [first]
    assert ids(since=at, until=at + timedelta(microseconds=1)) == [second]
    assert ids(object_key="") == []
