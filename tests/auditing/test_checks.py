from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connection

from auditing.checks import check_anchors, check_hooks, check_logs, check_spool
from auditing.sealing import seal
from controlplane.core.ids import now
from tests.factories import AuditLogFactory, IngestWatermarkFactory


def found():
    return {message.id: message for message in check_logs(None, databases=["default"])}


def test_the_logs_of_a_migrated_database_are_sound(db):
    assert found() == {}


GUARDS = [
    ("cp_auditing_auditlog", "cp_append_only"),
    ("cp_auditing_inferencerequest", "cp_no_truncate"),
    ("cp_auditing_auditseal", "cp_append_only"),
    ("cp_auditing_auditlog", "cp_stamp"),
    ("cp_auditing_retentionrecord", "cp_retired_whole"),
    ("cp_auditing_usagesummary", "cp_closed_month"),
    ("cp_auditing_usageday", "cp_closed_month_change"),
    ("cp_auditing_usagesummary", "cp_closed_month_moved"),
    ("cp_auditing_usageday", "cp_closed_month_delete"),
]


@pytest.mark.parametrize(("table", "guard"), GUARDS, ids=[f"{table}-{guard}" for table, guard in GUARDS])
def test_a_guard_that_was_switched_off_is_named_with_the_statement_that_mends_it(db, table, guard):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {guard}")
        errors = [message for message in check_logs(None, databases=["default"]) if message.id == "cp_auditing.E001"]
        for error in errors:
            assert guard in error.msg
            cursor.execute(error.hint.partition("Make it so again: ")[2])

    assert errors
    assert found() == {}


def test_a_guard_that_is_not_always_is_no_guard(db):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cp_auditing_auditlog ENABLE TRIGGER cp_append_only")

    assert "not ALWAYS" in found()["cp_auditing.E001"].msg


def test_a_guard_that_was_dropped_from_a_month_is_missed(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'cp_auditing_auditlog'::regclass"
        )
        [month] = cursor.fetchone()
        cursor.execute(f"DROP TRIGGER cp_no_truncate ON {month}")

    assert found()["cp_auditing.E001"].msg == f"{month} can be changed: its guard cp_no_truncate is missing."


def test_a_guard_of_a_log_that_was_dropped_is_named_with_the_statement_that_mends_it(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER cp_append_only ON cp_auditing_inferencerequest")
        cursor.execute(found_first("cp_auditing_inferencerequest").hint.partition("Make it so again: ")[2])

    assert found() == {}


def found_first(table):
    return next(one for one in check_logs(None, databases=["default"]) if one.msg.startswith(f"{table} "))


def test_a_restored_database_is_told_until_it_is_rebased(db):
    IngestWatermarkFactory(name="rollup", system_identifier=1)

    assert "audit_rebase" in found()["cp_auditing.E003"].hint


def test_sealing_that_is_late_is_told(db):
    AuditLogFactory(created_at=now() - timedelta(seconds=500))
    assert found() == {}

    AuditLogFactory(created_at=now() - timedelta(seconds=700))

    assert "run_worker" in found()["cp_auditing.W008"].hint
    seal(now(), force=True)
    assert found() == {}
    seal(now() - timedelta(seconds=601), force=True)
    assert "cp_auditing.W008" in found()


def deployed(settings, **keys):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, **keys}
    return [(message.id, message.msg, message.hint) for message in check_anchors(None)]


def test_a_log_without_an_anchor_is_told_where_it_is_served(settings):
    key = base64.b64encode(bytes(32)).decode()

    [(id, message, hint)] = deployed(settings)
    assert (id, "AUDIT_ANCHORS" in hint) == ("cp_auditing.W007", True)
    assert "no anchor" in message
    [(id, message, hint)] = deployed(settings, AUDIT_ANCHORS=("/elsewhere/anchors",))
    assert (id, "AUDIT_SIGNING_KEY" in message) == ("cp_auditing.W007", True)
    [(_, message, _)] = deployed(settings, AUDIT_ANCHORS=("/elsewhere",), AUDIT_SIGNING_KEY=key, AUDIT_ORIGIN="a b")
    assert "AUDIT_ORIGIN" in message
    assert deployed(settings, AUDIT_ORIGIN="acme.example/audit") == []


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

    assert f"{partition}_once ON {partition} (request_id, tenant_id)" in found()["cp_auditing.E004"].hint


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


def test_a_production_without_a_folder_for_the_spool_is_told(settings):
    assert [message.id for message in check_spool(None)] == ["cp_auditing.W009"]

    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STATE_DIR": "/var/lib/controlplane"}
    assert list(check_spool(None)) == []


@pytest.mark.parametrize("key", ["AUDIT_DIRECTORY", "AUDIT_PRICER"])
@pytest.mark.parametrize("path", ["nowhere.to.find", "decimal.Nothing", "plain", "string.digits"])
def test_a_hook_that_does_not_import_or_cannot_be_asked_is_named(settings, key, path):
    assert list(check_hooks(None)) == []

    settings.CONTROLPLANE = {**settings.CONTROLPLANE, key: path}

    [error] = check_hooks(None)
    assert (error.id, key in error.msg) == ("cp_auditing.E005", True)
