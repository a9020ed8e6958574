from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from auditing import reconciling, rollups
from auditing.errors import InvalidWindow, UsageDiffers
from auditing.models import AuditLog, InferenceRequest, RetentionRecord, UsageDay, UsageHour, UsageSummary
from auditing.reconciling import reconcile
from controlplane.core import duties
from controlplane.core.ids import now, uuid7
from tests.auditing.counting import check_rolled_up
from tests.factories import (
    AuditSealFactory,
    InferenceRequestFactory,
    RetentionRecordFactory,
    UsageDayFactory,
    UsageHourFactory,
    UsageSummaryFactory,
)
from tests.races import others_have_ended, together

pytestmark = pytest.mark.django_db(transaction=True)
BEGIN = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
MONTH = BEGIN.date()
HOUR = timedelta(hours=1)


@pytest.fixture
def rolled_up(acme, globex):
    """Acme is in India: its first call of the month is of the UTC month before, but for its last hours."""
    at = BEGIN + timedelta(hours=20)
    for tenant, zone, day in ((acme, "Asia/Kolkata", MONTH + timedelta(days=1)), (globex, "UTC", MONTH)):
        InferenceRequestFactory.create_batch(2, tenant_id=tenant.pk, created_at=at, time_zone=zone, local_date=day)
    roll_up()
    return at


def roll_up():
    others_have_ended()
    while rollups.run(now()):
        pass


def test_nothing_differs_where_nobody_wrote(rolled_up):
    InferenceRequestFactory(created_at=BEGIN)  # not rolled up yet, and so not compared

    assert reconcile() == []


@pytest.mark.parametrize(("model", "kind"), [(UsageHour, "hour"), (UsageDay, "day"), (UsageSummary, "month")])
def test_a_sum_that_somebody_changed_is_found_and_repaired(rolled_up, acme, globex, model, kind):
    model.objects.filter(tenant_id=acme.pk).update(cost=7, requests=3)

    [found] = reconcile()

    assert (found.kind, found.tenant_id, found.rows, found.repaired) == (kind, acme.pk, 1, False)
    assert found.columns == {"cost": (Decimal("0.002"), Decimal(7)), "requests": (2, 3)}
    assert reconcile(globex) == []
    [repaired] = reconcile(acme, fix=True)
    assert repaired.repaired
    assert reconcile() == []
    check_rolled_up(acme.pk, globex.pk)
    [event] = AuditLog.objects.filter(action="usage.repaired")
    assert (event.tenant_id, event.resource_type, event.resource_id) == (acme.pk, model._meta.db_table, str(found.on))
    assert event.details == {
        "rows": 1,
        "columns": {"cost": ["0.002000000000", "7.000000000000"], "requests": ["2", "3"]},
    }


def test_each_column_is_compared(rolled_up, acme):
    before = UsageDay.objects.filter(tenant_id=acme.pk).values().get()
    for column in rollups.MEASURES:
        value = [1] * 24 if column == "latency_hist" else before[column] + 1
        UsageDay.objects.filter(pk=before["id"]).update(**{column: value})

        [found] = reconcile(acme, before["day"], before["day"] + timedelta(days=1))

        assert set(found.columns) == {column}
        UsageDay.objects.filter(pk=before["id"]).update(**{column: before[column]})


def test_rows_that_are_missing_or_too_many_or_about_something_else_are_found(rolled_up, acme, globex):
    UsageHour.objects.filter(tenant_id=acme.pk).delete()
    UsageDay.objects.filter(tenant_id=globex.pk).update(app_id=uuid7())  # the sums stay
    UsageSummary.objects.filter(tenant_id=globex.pk).update(tenant_id=acme.pk)

    found = {(each.kind, each.tenant_id): (each.rows, each.columns.get("requests")) for each in reconcile()}

    assert found == {
        ("hour", acme.pk): (1, (2, 0)),
        ("day", globex.pk): (1, None),
        ("month", acme.pk): (1, (0, 2)),
        ("month", globex.pk): (1, (2, 0)),
    }
    reconcile(fix=True)
    assert reconcile() == []


def test_only_the_days_that_are_asked_for_are_compared(rolled_up, acme):
    UsageDay.objects.filter(tenant_id=acme.pk).update(requests=9)
    day = MONTH + timedelta(days=1)

    assert [each.on for each in reconcile(None, day, day + timedelta(days=1))] == [day]
    assert reconcile(None, MONTH, day) == []
    with pytest.raises(InvalidWindow):
        reconcile(None, day, day)


def test_a_closed_month_is_not_repaired(rolled_up, acme):
    UsageDay.objects.filter(tenant_id=acme.pk).update(requests=9)
    AuditSealFactory(tenant_id=acme.pk, log="usagesummary", month=MONTH, kind="close")

    [found] = reconcile(fix=True)

    assert (found.repaired, found.kept) == (False, "the month is closed")
    assert UsageDay.objects.get(tenant_id=acme.pk).requests == 9


def test_what_retention_removed_is_not_compared_and_not_repaired(acme, globex):
    month, begin = date(2020, 9, 1), datetime(2020, 9, 30, 23, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_partition_add('cp_auditing_usagehour', %s, '{}', 'hour')", [month])
    for tenant in (acme, globex):
        UsageHourFactory(tenant_id=tenant.pk, hour=begin)
        UsageDayFactory(tenant_id=tenant.pk, day=begin.date())
        UsageSummaryFactory(tenant_id=tenant.pk, month=month)
    RetentionRecordFactory(tenant_id=acme.pk, log="inferencerequest", kind=RetentionRecord.Kind.RETIRED, month=month)

    found = reconcile(None, month, date(2020, 10, 1), fix=True)

    assert {(each.kind, each.tenant_id, each.kept) for each in found} == {
        (kind, globex.pk, "no requests of this month are there") for kind in ("hour", "day", "month")
    }


def test_what_is_booked_later_is_compared_where_it_counts(acme):
    booked = BEGIN + timedelta(days=9)
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN, booked_at=booked, local_date=booked.date())
    roll_up()

    assert reconcile() == []


def test_two_repairs_and_a_roll_up_at_once_leave_nothing(rolled_up, acme):
    UsageDay.objects.filter(tenant_id=acme.pk).update(requests=9)
    InferenceRequestFactory.create_batch(5, tenant_id=acme.pk, created_at=BEGIN)
    others_have_ended()

    outcomes = together(lambda: len(reconcile(fix=True)), lambda: len(reconcile(fix=True)), lambda: rollups.run(now()))

    assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
    assert reconcile() == []
    check_rolled_up(acme.pk)


def test_every_night_what_has_ended_is_compared(rolled_up, acme):
    [duty] = [duty for duty in duties.registered() if duty.name == "usage_reconcile"]
    assert (duty.every_s, duty.run) == (86_400, reconciling.duty)
    later = BEGIN + timedelta(days=5)

    duty.run(later)
    UsageDay.objects.filter(tenant_id=acme.pk).update(requests=9)

    with pytest.raises(UsageDiffers, match="1 days of roll-ups") as caught:
        duty.run(later)
    assert caught.value.code == "usage_differs"
    assert UsageDay.objects.get(tenant_id=acme.pk).requests == 9
    duty.run(BEGIN + timedelta(hours=23))  # the day goes on


# --- the commands


def run(name, *arguments):
    out, err = StringIO(), StringIO()
    try:
        call_command(name, *arguments, stdout=out, stderr=err)
    except CommandError as refused:
        return refused.returncode, out.getvalue(), str(refused)
    return 0, out.getvalue(), err.getvalue()


def test_the_command_rolls_up(acme):
    InferenceRequestFactory.create_batch(2, tenant_id=acme.pk, created_at=BEGIN)
    others_have_ended()

    assert run("usage_rollup")[0] == 0
    code, out, _ = run("usage_rollup", "--once", "--json")

    assert (code, json.loads(out)) == (0, {"runs": 1, "more": False})
    assert check_rolled_up(acme.pk) == 2


def test_the_command_shows_and_repairs(rolled_up, acme):
    assert run("usage_reconcile")[:2] == (0, "No roll-up differs from its requests.\n")
    UsageDay.objects.filter(tenant_id=acme.pk).update(requests=9)

    code, out, why = run("usage_reconcile", "--tenant", "acme")
    assert (code, why) == (1, "1 of 1 differences are left.")
    assert "+7" in out
    code, out, _ = run("usage_reconcile", "--json")
    [row] = json.loads(out)
    assert (code, row["roll_up"], row["columns"]) == (1, "day", {"requests": {"requests": 2, "roll_up": 9}})
    assert run("usage_reconcile", "--tenant", "globex")[0] == 0
    code, out, _ = run("usage_reconcile", "--fix", "--from", f"{MONTH}", "--to", f"{MONTH + timedelta(days=2)}")
    assert (code, "repaired" in out) == (0, True)
    assert AuditLog.objects.get(action="usage.repaired").actor_type == "command"


@pytest.mark.parametrize(
    "garbage",
    [
        ["--from", "yesterday"], ["--from", "2026-13-01"], ["--to", "0001-01-01"], ["--to", "9999-12-31"],
        ["--from", "2026-02-01", "--to", "2026-01-01"], ["--tenant", "nobody"], ["--tenant", ""], ["--tenant", "\x00"],
        ["--tenant", "01a20000-0000-7000-8000-00000000abcd"], ["--from", ""], ["--colour"],
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.django_db
def test_garbage_is_refused(garbage):
    code, out, why = run("usage_reconcile", *garbage)

    assert code in (1, 2)
    assert out == ""
    assert why


def test_the_requests_of_a_local_month_are_all_compared(acme):
    """An hour of India's month lies in the UTC month before, and one of Hawaii's in the one after."""
    for zone, at in (("Asia/Kolkata", BEGIN - HOUR), ("Pacific/Honolulu", BEGIN + HOUR)):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT cp_partition_add('cp_auditing_inferencerequest', %s, '{request_id, tenant_id}')", [at.date()]
            )
        local = MONTH if zone == "Asia/Kolkata" else (BEGIN - HOUR).date()
        InferenceRequestFactory(tenant_id=acme.pk, created_at=at, time_zone=zone, local_date=local)
    roll_up()

    assert UsageSummary.objects.count() == 2
    assert reconcile() == []
    assert (
        InferenceRequest.objects.metrics(acme, datetime(2020, 1, 1, tzinfo=UTC), BEGIN + 2 * HOUR).total_requests == 2
    )
    assert date.min < MONTH
