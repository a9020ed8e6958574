from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from auditing import sweeping
from auditing.errors import ConflictingDuplicate
from auditing.lifecycle import Reported
from auditing.models import InferenceRequest, InFlightRequest
from auditing.sweeping import sweep
from controlplane.core import duties
from controlplane.core.ids import now
from tests.factories import InferenceRequestFactory, InFlightRequestFactory
from tests.races import together

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def overdue(**values):
    at = now() - 20 * MINUTE
    return InFlightRequestFactory(**{"created_at": at, "deadline": at + 10 * MINUTE, **values})


def fact(call):
    return InferenceRequest.objects.get(pk=call.pk)


def test_a_call_past_its_deadline_is_lost_at_its_estimate(acme):
    call = overdue(tenant_id=acme.pk, estimated_cost=Decimal("0.02"), metadata={"trace": "7"}, time_zone="Asia/Tokyo")

    assert sweep(now()) == 1

    lost = fact(call)
    assert (lost.status, lost.cost, lost.pricing_status, lost.source) == ("lost", Decimal("0.02"), "estimated", "sweep")
    assert (lost.request_id, lost.created_at, lost.metadata) == (call.request_id, call.created_at, {"trace": "7"})
    assert lost.local_date == (call.created_at + timedelta(hours=9)).date()
    assert not InFlightRequest.objects.exists()


def test_a_lost_call_without_an_estimate_is_unpriced_and_never_free():
    call = overdue()

    sweep(now())

    assert (fact(call).cost, fact(call).pricing_status) == (None, "unpriced")


def test_a_call_before_its_deadline_stays_in_flight():
    call = overdue()

    assert sweep(call.deadline - timedelta(microseconds=1)) == 0
    assert sweep(call.deadline) == 1
    assert sweep(call.deadline) == 0


def test_a_late_end_adds_to_the_lost_call():
    call = overdue(estimated_cost=Decimal("0.02"))
    sweep(now())

    InferenceRequest.objects.complete(call.pk, usage=Reported(prompt_tokens=10))

    late = InferenceRequest.objects.get(adjusts=call.pk)
    assert (late.reason_code, late.status) == ("late_completion", "completed")


def test_many_are_swept_in_batches(monkeypatch):
    monkeypatch.setattr(sweeping, "BATCH", 3)
    calls = [overdue() for _ in range(7)]

    assert sweep(now(), limit=3) == 3
    assert sweep(now()) == 4
    assert InferenceRequest.objects.filter(pk__in=[call.pk for call in calls], status="lost").count() == 7


def test_one_that_the_log_refuses_keeps_nobody_waiting_and_is_told(monkeypatch, caplog):
    monkeypatch.setattr(sweeping, "BATCH", 2)
    bad = [overdue(time_zone="Mars/Base"), overdue(estimated_cost=Decimal(-1))]
    good = [overdue(deadline=now() - MINUTE) for _ in range(3)]

    with caplog.at_level(logging.WARNING):
        assert sweep(now()) == 3

    assert {call.pk for call in bad} == set(InFlightRequest.objects.values_list("pk", flat=True))
    assert all(fact(call).status == "lost" for call in good)
    assert all(str(call.pk) in caplog.text for call in bad)


def test_a_call_of_a_month_that_is_gone_gets_its_month_again():
    at = datetime(2021, 3, 5, tzinfo=UTC)
    call = overdue(created_at=at, deadline=at + MINUTE)

    assert sweep(now()) == 1
    assert fact(call).created_at == at


def test_a_call_that_an_import_recorded_meanwhile_is_recorded_once():
    call = overdue()
    InferenceRequestFactory(tenant_id=call.tenant_id, request_id=call.request_id, created_at=call.created_at)

    sweep(now())

    [row] = InferenceRequest.objects.filter(tenant_id=call.tenant_id)
    assert row.status == "completed"
    assert not InFlightRequest.objects.exists()


def test_one_that_is_being_ended_is_left_to_who_ends_it(transactional_db, other_connection):
    call = overdue()
    with other_connection.transaction():
        other_connection.execute("SELECT 1 FROM cp_auditing_inflightrequest WHERE id = %s FOR UPDATE", [call.pk])

        assert sweep(now()) == 0

    assert sweep(now()) == 1


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_of_a_finisher_and_the_sweep_at_once_one_writes_the_fact(transactional_db, end):
    finish = {
        "complete": lambda id: InferenceRequest.objects.complete(id, usage=Reported(prompt_tokens=1)),
        "fail": lambda id: InferenceRequest.objects.fail(id, error="gone"),
    }[end]
    for _ in range(10):
        call = overdue(estimated_cost=Decimal("0.5"))

        ended, swept, again = together(lambda call=call: finish(call.pk), lambda: sweep(now()), lambda: sweep(now()))

        rows = InferenceRequest.objects.filter(tenant_id=call.tenant_id)
        assert rows.filter(adjusts=None).count() == 1
        assert not isinstance(ended, Exception)
        assert swept + again == (fact(call).status == "lost")
        late = rows.filter(adjusts=call.pk, reason_code="late_completion").count()
        assert late == (fact(call).status == "lost")
        assert not InFlightRequest.objects.exists()


def test_a_sweep_that_is_interrupted_loses_nothing(transactional_db, other_connection):
    call = overdue()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()

    with pytest.raises(Exception, match=r"terminat|closed"), transaction.atomic():
        sweep(now())
        other_connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        connection.cursor().execute("SELECT 1")
    connection.close()

    assert InFlightRequest.objects.filter(pk=call.pk).exists()
    assert sweep(now()) == 1


def test_the_duty_says_whether_there_is_more(monkeypatch):
    monkeypatch.setattr(sweeping, "AT_ONCE", 2)
    monkeypatch.setattr(sweeping, "BATCH", 1)
    for _ in range(3):
        overdue()
    [duty] = [duty for duty in duties.registered() if duty.name == "usage_sweep"]

    assert [duty.run(now()), duty.run(now())] == [True, False]
    assert not InFlightRequest.objects.exists()


def test_another_end_of_a_lost_call_is_refused_once_its_first_is_there():
    call = overdue()
    sweep(now())
    InferenceRequest.objects.fail(call.pk, error="time-out")

    with pytest.raises(ConflictingDuplicate):
        InferenceRequest.objects.complete(call.pk, usage=Reported(prompt_tokens=1))


def test_the_command_counts_and_then_sweeps(capsys):
    overdue()

    call_command("usage_sweep", "--dry-run", "--json")
    call_command("usage_sweep")

    assert capsys.readouterr().out == '{"overdue": 1}\nRecorded 1 calls as lost.\n'
