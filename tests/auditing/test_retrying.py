from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from auditing.models import AuditLog, DeadLetter, InferenceRequest
from controlplane.core.ids import now, uuid7, uuid7_at
from tests.factories import DeadLetterFactory, InferenceRequestFactory
from tests.races import together

pytestmark = pytest.mark.django_db


def told(tenant, **values):
    return {
        "request_id": "r-1", "created_at": now() - timedelta(days=1), "tenant_id": tenant.pk, "provider": "openai",
        "model": "openai/gpt-4o", "prompt_tokens": 5, "cost": Decimal("0.25"), **values,
    }  # fmt: skip


def refused(tenant, **values):
    """A row that ingest refuses, as the dead letter it leaves."""
    InferenceRequest.objects.ingest([told(tenant, **values)])
    return DeadLetter.objects.latest("pk")


def retry(*letters):
    return DeadLetter.objects.retry([letter.pk for letter in letters], "kim")


def test_a_row_of_a_tenant_that_came_later_is_written_with_all_that_it_said(acme):
    letter = refused(acme, tenant_id=uuid7(), other_units={"audio_seconds": Decimal("1.5")})
    payload = json.loads(bytes(letter.payload)) | {"tenant_id": str(acme.pk)}
    DeadLetter.objects.filter(pk=letter.pk).update(payload=json.dumps(payload).encode())

    result = retry(letter)

    assert (result.inserted, result.duplicates, result.rejected) == (1, 0, 0)
    row = InferenceRequest.objects.get()
    assert (row.request_id, row.cost, row.prompt_tokens, row.tenant_id) == ("r-1", Decimal("0.25"), 5, acme.pk)
    assert row.other_units == {"audio_seconds": 1.5}
    letter.refresh_from_db()
    assert (letter.resolution, letter.resolved_by, letter.resolved_at is None) == ("retried", "kim", False)
    assert AuditLog.objects.with_action("deadletter.retried").get().details == {"sources": {"ingest": 1}}


def test_what_was_too_old_is_history_now(acme):
    letter = refused(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC))
    assert letter.code == "created_at_too_old"

    assert retry(letter).inserted == 1


def test_a_row_that_is_there_by_now_is_resolved_too(acme):
    letter = refused(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC))
    InferenceRequest.objects.ingest([told(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC))], historical=True)

    result = retry(letter)

    assert (result.inserted, result.duplicates) == (0, 1)
    assert not DeadLetter.objects.waiting().exists()


def test_a_row_that_is_refused_again_waits_with_the_new_reason(acme):
    letter = refused(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC))
    InferenceRequest.objects.ingest([told(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC), cost=1)], historical=True)

    result = retry(letter)

    assert (result.rejected, result.rejections[0].code) == (1, "conflicting_duplicate")
    letter.refresh_from_db()
    assert (letter.code, letter.resolution) == ("conflicting_duplicate", "")
    assert DeadLetter.objects.count() == 1
    assert not AuditLog.objects.with_action("deadletter.retried").exists()


@pytest.mark.parametrize("payload", [b"a,b,c", b"[1]", b'{"request_id": "r', b"", b"\xff"])
def test_a_line_that_is_no_row_stays_as_it_is(payload):
    letter = DeadLetterFactory(code="malformed_line", message="Line 3 has 2 fields.", payload=payload)

    assert retry(letter).rejected == 1

    letter.refresh_from_db()
    assert (letter.code, letter.message, letter.resolution) == ("malformed_line", "Line 3 has 2 fields.", "")


def test_good_and_bad_ones_are_counted_apart(acme):
    old = [refused(acme, created_at=datetime(2024, 2, n, tzinfo=UTC), request_id=f"r-{n}") for n in (1, 2)]
    bad = refused(acme, prompt_tokens=-1)

    result = retry(*old, bad)

    assert (result.inserted, result.rejected) == (2, 1)
    assert DeadLetter.objects.waiting().get() == bad


def test_what_was_dealt_with_is_not_written(acme):
    letter = refused(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC))
    DeadLetter.objects.filter(pk=letter.pk).discard("kim", "not ours")

    assert retry(letter).read == 0
    assert not InferenceRequest.objects.exists()


def event(**values):
    at = now()
    row = {
        "id": str(uuid7_at(at)), "created_at": at.isoformat(), "tenant_id": str(uuid7()), "actor_type": "system",
        "actor_id": "gate", "actor_label": "gate", "actor_role": "", "action": "gate.denied", "resource_type": "",
        "resource_id": "", "resource_label": "", "outcome": "denied", "details": {"n": 1}, "reason": "", "request_id": None,
        "ip": None, "user_agent": None, "provider": "", "model": "", **values,
    }  # fmt: skip
    return DeadLetterFactory(source="writer", code="database_refused", payload=json.dumps(row).encode())


def test_an_event_that_the_writer_kept_aside_is_written_once():
    letter = event()

    assert (retry(letter).inserted, AuditLog.objects.get(action="gate.denied").details) == (1, {"n": 1})

    again = DeadLetterFactory(source="writer", payload=bytes(letter.payload))
    assert retry(again).duplicates == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"outcome": "perhaps"},
        {"id": "x"},
        {"created_at": None},
        {"created_at": "2019-01-01T00:00:00+00:00"},
        {"ip": "x"},
    ],
)
def test_an_event_that_the_log_does_not_take_waits_on(wrong):
    letter = event(**wrong)

    assert retry(letter).rejected == 1

    assert DeadLetter.objects.waiting().get().code == "database_refused"


@pytest.mark.django_db(transaction=True)
def test_a_row_retried_twice_at_once_is_written_once():
    InferenceRequestFactory()
    letter = event()

    outcomes = together(*[lambda: retry(letter)] * 2)

    assert sorted(outcome.inserted for outcome in outcomes) == [0, 1]
    assert sum(outcome.duplicates for outcome in outcomes) == 0


def test_the_command_retries_those_that_are_chosen(acme):
    refused(acme, created_at=datetime(2024, 2, 29, tzinfo=UTC))
    refused(acme, prompt_tokens=-1)
    out = StringIO()

    call_command("usage_dead_letter", "retry", "--code", "created_at_too_old", "--dry-run", stdout=out)
    call_command("usage_dead_letter", "retry", "--code", "created_at_too_old", stdout=out)
    with pytest.raises(CommandError) as caught:
        call_command("usage_dead_letter", "retry", "--tenant", acme.slug, "--json", stdout=out)

    assert caught.value.returncode == 1
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["1 rows would be tried again.", "Tried 1 rows again: 1 written, 0 there already, 0 refused."]
    assert json.loads(lines[2]) == {"inserted": 0, "duplicates": 0, "rejected": 1}
