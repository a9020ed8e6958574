from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from auditing import sealing
from auditing.models import AuditLog, RetentionRecord
from controlplane.core import duties
from controlplane.core.ids import now
from policies.models import Reservation
from tenants.models import APIKeySecret, RefreshFamily
from tests.factories import (
    APIKeySecretFactory,
    AuditLogFactory,
    RefreshFamilyFactory,
    ReservationFactory,
)

MAY = date(2021, 5, 1)
WHY = ("--reason", "ticket 42")


def run(*arguments):
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def refused(*arguments):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    return caught.value.returncode, str(caught.value)


@pytest.mark.django_db
def test_rules_and_holds_are_made_and_ended_with_who_and_why(acme):
    assert run("audit_retention", "rule", "--log", "auditlog", "--tenant", acme.slug, "--months", "24", *WHY) == (
        f"Keeps auditlog of {acme.slug} for 24 months.\n"
    )
    held = json.loads(run("audit_retention", "hold", "--json", *WHY))
    assert run("audit_retention", "release", held["id"], *WHY) == f"Released {held['id']}.\n"

    kinds = RetentionRecord.objects.order_by("pk").values_list("kind", "reason", "all_tenants")
    assert list(kinds) == [("rule", "ticket 42", False), ("hold", "ticket 42", True), ("release", "ticket 42", True)]
    assert {event.actor_id for event in AuditLog.objects.with_action("retention.*")} == {"audit_retention"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        ("rule", *WHY), ("rule", "--months", "0", *WHY), ("rule", "--months", "1e3", *WHY), ("rule", "--months", "٣", *WHY),
        ("rule", "--months", "99999999999999999999", *WHY), ("rule", "--months", "3"), ("hold",),
        ("hold", "--log", "usage", *WHY),
        ("release", "x", *WHY), ("release",), ("apply", "--months", "3"), (), ("plan", "--reason", "x"),
    ],
)  # fmt: skip
def test_garbage_is_refused_before_anything_is_decided(arguments):
    with pytest.raises(CommandError):
        run("audit_retention", *arguments)
    assert not RetentionRecord.objects.exists()


@pytest.mark.django_db
def test_a_tenant_that_is_not_there_and_a_blank_reason_are_refused():
    assert refused("audit_retention", "hold", "--tenant", "nobody", *WHY)[0] == 2
    assert refused("audit_retention", "hold", "--reason", " ")[0] == 1
    assert refused("audit_retention", "release", str(uuid4()), *WHY)[0] == 1
    assert refused("audit_erase", "kim", "--tenant", "nobody", *WHY)[0] == 2
    assert refused("audit_erase", "kim", "--reason", " ")[0] == 1


@pytest.fixture
def old(transactional_db, old_months):
    old_months(MAY)
    AuditLogFactory.create_batch(3, created_at=datetime(2021, 5, 2, tzinfo=UTC))
    sealing.seal(now(), force=True)


def test_a_plan_says_what_goes_and_a_dry_run_leaves_it(old):
    assert "2021-05" in run("audit_retention", "plan")
    dry = json.loads(run("audit_retention", "apply", "--dry-run", "--json", "--log", "auditlog"))

    [step] = [step for step in dry["steps"] if step["month"] == "2021-05"]
    assert (step["verdict"], step["rows"], dry["dry_run"]) == ("drop", 3, True)
    assert not RetentionRecord.objects.exists()


def test_what_is_due_is_archived_and_goes(old, tmp_path):
    run("audit_retention", "apply", "--archive", str(tmp_path), "--reason", "as agreed")

    assert (tmp_path / "auditlog-2021-05.csv.gz").exists()
    record = RetentionRecord.objects.filter(kind="retired").first()
    assert (record.reason, record.month, record.rows) == ("as agreed", MAY, 1)


def test_what_could_not_go_is_told_with_exit_code_1(old, tmp_path):
    (tmp_path / "file").write_text("x")

    code, message = refused("audit_retention", "apply", "--archive", str(tmp_path / "file"))

    assert (code, "takes no archive" in message) == (1, True)


def test_two_runs_at_once_are_one(old, other_connection):
    other_connection.execute("SELECT pg_advisory_lock(hashtext('cp_retention'), 0)")

    assert refused("audit_retention", "apply") == (
        1, "Another run of retention is going on. Wait until it has ended, then try again."
    )  # fmt: skip


def test_an_actor_is_erased_by_its_id(transactional_db, acme):
    AuditLogFactory.create_batch(2, actor_id="kim", actor_label="Kim", tenant_id=acme.pk)

    assert run("audit_erase", "kim", "--dry-run", *WHY) == "2 rows would be erased.\n"
    assert run("audit_erase", "lee", *WHY) == "Erased what is personal in 0 rows of lee.\n"
    assert json.loads(run("audit_erase", "kim", "--tenant", acme.slug, "--json", *WHY)) == {"rows": 2, "records": 1}
    assert not AuditLog.objects.filter(actor_label="Kim").exists()


def test_what_is_held_is_not_erased(transactional_db):
    AuditLogFactory(actor_id="kim", actor_label="Kim")
    run("audit_retention", "hold", *WHY)

    code, message = refused("audit_erase", "kim", *WHY)

    assert (code, "is held" in message) == (1, True)


def duty(name):
    [found] = [duty for duty in duties.registered() if duty.name == name]
    return found


@pytest.mark.django_db
def test_the_worker_gives_back_and_removes_what_is_over():
    past = now() - timedelta(days=400)
    APIKeySecretFactory(expires_at=past)
    RefreshFamilyFactory(created_at=past - timedelta(days=1), absolute_expires_at=past)

    assert duty("keys_purge").run(now()) is None
    assert duty("refresh_purge").run(now()) is None

    assert not APIKeySecret.objects.exists()
    assert not RefreshFamily.objects.exists()


@pytest.mark.django_db
def test_the_worker_gives_back_reservations_that_nobody_ended():
    held = ReservationFactory(expires_at=now() - timedelta(minutes=1))

    duty("reservations").run(now())

    assert Reservation.objects.get(pk=held.pk).state == "expired"


@pytest.mark.django_db
def test_the_worker_makes_the_months_ahead():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT max(c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'cp_auditing_auditlog'::regclass"
        )
        [last] = cursor.fetchone()
        cursor.execute(f"DROP TABLE {last}")

    duty("partitions").run(now())
    duty("partitions").run(now())

    assert AuditLog.objects.with_action("partitions.made").get().actor_id == "worker"
