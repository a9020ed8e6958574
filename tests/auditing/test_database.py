from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from auditing.errors import AppendOnly
from auditing.models import AuditLog, DeadLetter, InferenceRequest, InFlightRequest
from controlplane.core.ids import now, uuid7
from tests.factories import AuditLogFactory, DeadLetterFactory, InferenceRequestFactory, InFlightRequestFactory

pytestmark = pytest.mark.django_db
LOGS = [(AuditLog, AuditLogFactory), (InferenceRequest, InferenceRequestFactory)]


def refused(name):
    return pytest.raises(IntegrityError, match=rf"{name}\b")


def partition_of(row):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tableoid::regclass::text FROM {row._meta.db_table} WHERE id = %s", [row.pk])
        return cursor.fetchone()[0]


BROKEN = [
    (AuditLogFactory, {"actor_type": "ghost"}, "cp_auditing_auditlog_actor_type"),
    (AuditLogFactory, {"outcome": "maybe"}, "cp_auditing_auditlog_outcome"),
    (InferenceRequestFactory, {"request_id": ""}, "cp_auditing_inferencerequest_request_id_given"),
    (InferenceRequestFactory, {"status": "pending"}, "cp_auditing_inferencerequest_status"),
    (InferenceRequestFactory, {"pricing_status": "free"}, "cp_auditing_inferencerequest_pricing_status"),
    (InferenceRequestFactory, {"source": "other"}, "cp_auditing_inferencerequest_source"),
    (InferenceRequestFactory, {"metadata": {"a": "x" * 4096}}, "cp_auditing_inferencerequest_metadata_is_small"),
    (InferenceRequestFactory, {"cost": None}, "cp_auditing_inferencerequest_unpriced_has_no_cost"),
    (InferenceRequestFactory, {"pricing_status": "unpriced"}, "cp_auditing_inferencerequest_unpriced_has_no_cost"),
    (InferenceRequestFactory, {"cost": Decimal(-1)}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"prompt_tokens": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"completion_tokens": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"cached_tokens": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"cache_write_tokens": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"reasoning_tokens": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"latency_ms": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"ttft_ms": -1}, "cp_auditing_inferencerequest_not_negative"),
    (InferenceRequestFactory, {"cached_tokens": 101}, "cp_auditing_inferencerequest_parts_within_total"),
    (
        InferenceRequestFactory,
        {"cached_tokens": 60, "cache_write_tokens": 60},
        "cp_auditing_inferencerequest_parts_within_total",
    ),
    (InferenceRequestFactory, {"reasoning_tokens": 21}, "cp_auditing_inferencerequest_parts_within_total"),
    (InferenceRequestFactory, {"adjusts": uuid7()}, "cp_auditing_inferencerequest_adjustment_says_why"),
    (InferenceRequestFactory, {"pricing_status": "adjustment"}, "cp_auditing_inferencerequest_adjustment_says_why"),
    (
        InferenceRequestFactory,
        {"pricing_status": "adjustment", "adjusts": uuid7(), "reason_code": "manual"},
        "cp_auditing_inferencerequest_adjustment_says_why",
    ),
    (
        InferenceRequestFactory,
        {"pricing_status": "adjustment", "adjusts": uuid7(), "reason": "because", "reason_code": "gift"},
        "cp_auditing_inferencerequest_reason_code",
    ),
    (InferenceRequestFactory, {"reason": "because"}, "cp_auditing_inferencerequest_adjustment_says_why"),
    (InferenceRequestFactory, {"cost_breakdown": {"a": "x" * 512}}, "cp_auditing_inferencerequest_breakdown_is_small"),
    (InFlightRequestFactory, {"request_id": ""}, "cp_auditing_inflightrequest_request_id_given"),
    (InFlightRequestFactory, {"metadata": {"a": "x" * 4096}}, "cp_auditing_inflightrequest_metadata_is_small"),
    (InFlightRequestFactory, {"metadata": [1]}, "cp_auditing_inflightrequest_metadata_is_small"),
]


@pytest.mark.parametrize(
    ("factory", "values", "name"), BROKEN, ids=[f"{name}-{n}" for n, (_, _, name) in enumerate(BROKEN)]
)
def test_a_row_that_breaks_a_rule_is_refused_by_name(factory, values, name):
    with refused(name):
        factory(**values)


def insert(row, **raw):
    """Insert a row with some columns as text: what Django's own fields would refuse to send."""
    fields = [field for field in row._meta.concrete_fields if field.name != "xid"]
    values = [raw.get(field.name) or field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields]
    columns, marks = ", ".join(field.column for field in fields), ", ".join(["%s"] * len(fields))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {row._meta.db_table} ({columns}) VALUES ({marks})", values)


def test_not_a_number_is_no_cost():
    # as an adjustment it may be negative, so that only this rule is in its way
    why = {"pricing_status": "adjustment", "adjusts": uuid7(), "reason": "x", "reason_code": "manual"}

    with refused("cp_auditing_inferencerequest_cost_is_a_number"):
        insert(InferenceRequestFactory.build(**why), cost="NaN")
    with refused("cp_auditing_auditlog_cost_is_a_number"):
        insert(AuditLogFactory.build(), cost="NaN")


def test_an_adjustment_may_be_negative_and_says_why():
    row = InferenceRequestFactory(
        pricing_status="adjustment", adjusts=uuid7(), reason_code="credit", reason="invoice 7", cost=Decimal(-2),
        prompt_tokens=-100, completion_tokens=None,
    )  # fmt: skip

    assert InferenceRequest.objects.get(pk=row.pk).cost == -2


def test_an_unpriced_call_has_no_cost_and_a_free_one_has_0():
    InferenceRequestFactory(cost=None, pricing_status="unpriced")
    InferenceRequestFactory(cost=Decimal(0))


def test_tokens_that_were_not_reported_are_no_bound():
    InferenceRequestFactory(prompt_tokens=None, completion_tokens=None, cached_tokens=5, reasoning_tokens=5)


def test_a_request_is_in_flight_once_in_its_tenant():
    row = InFlightRequestFactory()
    InFlightRequestFactory(request_id=row.request_id)

    with refused("cp_auditing_inflightrequest_once"):
        InFlightRequestFactory(request_id=row.request_id, tenant_id=row.tenant_id)


def test_a_refused_row_is_kept_once():
    row = DeadLetterFactory()
    DeadLetterFactory(tenant_id=row.tenant_id, row_number=row.row_number + 1)

    with refused("cp_auditing_deadletter_once"):
        DeadLetterFactory(tenant_id=row.tenant_id, row_number=row.row_number)


# --- append-only


@pytest.mark.parametrize(("model", "factory"), LOGS, ids=["audit", "requests"])
@pytest.mark.parametrize("target", ["parent", "partition"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET schema = 2 WHERE id = %s",
        "UPDATE {} SET schema = schema WHERE id = %s",
        "DELETE FROM {} WHERE id = %s",
        "TRUNCATE {}",
        "TRUNCATE {} CASCADE",
        "WITH gone AS (DELETE FROM {} WHERE id = %s RETURNING 1) SELECT * FROM gone",
        "INSERT INTO {0} SELECT * FROM {0} WHERE id = %s ON CONFLICT (id) DO UPDATE SET schema = 9",
        "MERGE INTO {0} t USING (SELECT %s::uuid AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
    ],
)
def test_a_log_refuses_every_change_of_what_was_written(model, factory, target, statement):
    row = factory()
    table = model._meta.db_table if target == "parent" else partition_of(row)

    with (
        pytest.raises(DatabaseError, match="append-only") as caught,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(table), [row.pk] if "%s" in statement else [])

    assert caught.value.__cause__.sqlstate == "23001"
    assert model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(("model", "factory"), LOGS, ids=["audit", "requests"])
@pytest.mark.parametrize("target", ["parent", "partition"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET schema = 2", "DELETE FROM {}", "TRUNCATE {}"])
def test_replication_is_no_door(model, factory, target, statement, can_replicate):
    row = factory()
    table = model._meta.db_table if target == "parent" else partition_of(row)

    with can_replicate() as cursor, pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        cursor.execute(statement.format(table))


def test_every_guard_of_every_log_and_partition_fires_always():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, t.tgname, t.tgenabled::text FROM pg_class c "
            "LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname IN ('cp_append_only', 'cp_no_truncate') "
            "WHERE c.relname ~ '^cp_auditing_(auditlog|inferencerequest)(_\\d{6})?$'"
        )
        found = cursor.fetchall()

    tables = {table for table, _, _ in found}
    assert len(tables) >= 2 * (1 + 4)
    assert {(table, name, "A") for table in tables for name in ("cp_append_only", "cp_no_truncate")} == set(found)


@pytest.mark.parametrize(("model", "factory"), LOGS, ids=["audit", "requests"])
def test_python_says_so_before_the_database_does(model, factory):
    row = factory()

    for change in (
        lambda: model.objects.update(schema=2),
        lambda: model.objects.all().delete(),
        lambda: model.objects.filter(pk=row.pk).delete(),
        lambda: row.save(),
        lambda: row.delete(),
        lambda: model.objects.bulk_update([row], ["schema"]),
    ):
        with pytest.raises(AppendOnly) as caught, transaction.atomic():
            change()
        assert caught.value.code == "append_only"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        model.objects.filter(pk=row.pk)._raw_delete("default")


# --- what the database adds


def test_personal_columns_are_bound_by_a_salted_hash():
    row = AuditLogFactory(ip="10.1.2.3", user_agent="Müller/1.0", actor_label=None)
    stored = AuditLog.objects.get(pk=row.pk)

    def netstring(value):
        return b"-," if value is None else f"{len(value.encode())}:{value},".encode()

    leaf = b"".join(map(netstring, ["10.1.2.3", "Müller/1.0", None]))
    assert len(stored.pii_salt) == 16
    assert bytes(stored.pii_commit) == hashlib.sha256(bytes(stored.pii_salt) + leaf).digest()


def test_salts_differ_and_nobody_chooses_them():
    first, second = (AuditLog.objects.get(pk=AuditLogFactory(pii_salt=b"chosen").pk) for _ in range(2))

    assert bytes(first.pii_salt) != bytes(second.pii_salt) != b"chosen"


@pytest.mark.parametrize(("model", "factory"), LOGS, ids=["audit", "requests"])
def test_rows_of_one_transaction_carry_its_number(model, factory):
    first, second = factory(), factory()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        [number] = cursor.fetchone()

    assert set(model.objects.filter(pk__in=[first.pk, second.pk]).values_list("xid", flat=True)) == {number}


@pytest.mark.parametrize("model", [AuditLog, InferenceRequest, InFlightRequest, DeadLetter])
def test_the_model_and_the_table_have_the_same_columns(model):
    with connection.cursor() as cursor:
        columns = {
            column.name: column.null_ok
            for column in connection.introspection.get_table_description(cursor, model._meta.db_table)
        }

    assert columns == {field.column: field.null for field in model._meta.concrete_fields}


def test_a_window_is_half_open_to_the_microsecond():
    begin = now().replace(microsecond=500_500)
    rows = [AuditLogFactory(created_at=begin + timedelta(microseconds=step)) for step in (-1, 0, 1, 999, 1000, 1001)]

    found = AuditLog.objects.between(begin, begin + timedelta(microseconds=1000))

    assert set(found) == set(rows[1:4])
