from __future__ import annotations

from django.apps import apps
from django.db import connection

from auditing.checks import check_logs


def found():
    return {message.id: message for message in check_logs(None, databases=["default"])}


def test_the_logs_of_a_migrated_database_are_sound(db):
    assert found() == {}


def test_a_guard_that_was_switched_off_is_named_with_the_statement_that_mends_it(db):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_auditlog DISABLE TRIGGER cp_append_only")

    hint = found()["cp_auditing.E001"].hint

    with connection.cursor() as cursor:
        cursor.execute(hint.partition("again: ")[2])
    assert found() == {}


def test_a_month_that_is_missing_ahead_is_named_with_its_command(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'cp_auditing_inferencerequest'::regclass "
            "AND right(inhrelid::regclass::text, 6) = to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYYMM')"
        )
        [[partition]] = cursor.fetchall()
        cursor.execute(f"ALTER TABLE cp_auditing_inferencerequest DETACH PARTITION {partition}")

    error = found()["cp_auditing.E002"]

    assert partition[-6:-2] + "-" + partition[-2:] in error.msg
    assert "audit_partitions" in error.hint


def test_a_month_that_takes_a_request_twice_is_named_with_the_statement_that_mends_it(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'cp_auditing_inferencerequest'::regclass"
        )
        [partition] = cursor.fetchone()
        cursor.execute(f"DROP INDEX {partition}_once")

    assert f"{partition}_once ON {partition} (tenant_id, request_id)" in found()["cp_auditing.E004"].hint


def test_a_configuration_table_that_nothing_watches_is_named(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_audit_unwatch('cp_tenants_app')")

    assert "cp_audit_watch('cp_tenants_app')" in found()["cp_auditing.E006"].hint


def test_an_exemption_without_its_entry_is_no_exemption(db, monkeypatch):
    config = apps.get_app_config("cp_auditing")
    monkeypatch.setattr(
        config, "audit_exempt", {name: why for name, why in config.audit_exempt.items() if name != "DeadLetter"}
    )

    assert "DeadLetter" in found()["cp_auditing.E006"].msg
