"""What the seed systems could do: each of their operations by ours, of the tenant that asks alone."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.utils import timezone

from auditing.errors import DuplicateRequest
from auditing.lifecycle import Reported
from auditing.models import AuditLog, InferenceRequest, InFlightRequest, UsageSummary
from auditing.writer import writer
from controlplane.core.ids import now
from tests.factories import AuditLogFactory, InferenceRequestFactory

pytestmark = pytest.mark.django_db(transaction=True)
requests = InferenceRequest.objects


def row(tenant, **values):
    return {
        "request_id": str(uuid4()), "created_at": now(), "tenant_id": tenant.pk, "provider": "openai",
        "model": "openai/gpt-4o", "prompt_tokens": 10, "completion_tokens": 5, "cost": Decimal("0.25"),
    } | values  # fmt: skip


def test_an_audit_event_is_inserted_soon_or_surely(acme):
    logs = AuditLog.objects
    ids = [
        logs.record("seed.done", tenant=acme).pk,
        logs.record_async("seed.done", tenant=acme),
        logs.record_durable("seed.done", tenant=acme, timeout=5.0),
    ]
    writer.drain()

    assert set(logs.for_tenant(acme).with_action("seed.done").values_list("pk", flat=True)) == set(ids)


def test_events_are_found_by_tenant_app_user_and_policy_by_date_and_by_page(acme, globex):
    app, user, policy = uuid4(), uuid4(), uuid4()
    wanted = AuditLog.objects.record("seed.a", tenant=acme, app=app, user=user, resource=("cp_policies_policy", policy))
    older = AuditLogFactory(tenant_id=acme.pk, created_at=now() - timedelta(hours=2))
    AuditLog.objects.record("seed.b", tenant=globex)
    mine, moment = AuditLog.objects.for_tenant(acme), timezone.now()

    for found in (
        mine.for_app(app),
        mine.for_user(user),
        mine.for_resource("cp_policies_policy", policy),
        mine.with_action("seed.*").between(moment - timedelta(hours=1), moment + timedelta(hours=1)),
    ):
        assert [event.pk for event in found] == [wanted.pk]
    both = mine.filter(pk__in=[wanted.pk, older.pk])
    first = both.page(size=1)
    second = both.page(after=first.next, size=1)
    assert [page.rows[0].pk for page in (first, second)] == [wanted.pk, older.pk]
    assert second.next is None


def test_metrics_of_calls_are_kept_with_events_and_told_of_requests(acme, globex):
    said = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "latency_ms": 5,
        "cost": Decimal("0.5"),
        "model": "openai/gpt-4o",
    }
    AuditLog.objects.record("llm.called", tenant=acme, **said)
    InferenceRequestFactory(tenant_id=globex.pk)
    requests.ingest([row(acme, latency_ms=100), row(acme, latency_ms=300), row(acme, status="failed")])

    assert AuditLog.objects.for_tenant(acme).with_action("llm.called").values(*said).get() == said
    found = requests.metrics(acme, now() - timedelta(hours=1), now() + timedelta(hours=1))
    assert (found.total_requests, found.completed_requests, found.failed_requests) == (3, 2, 1)
    assert (found.total_tokens, found.total_cost, found.average_latency_ms) == (45, Decimal("0.75"), 200)


def test_a_request_is_made_brought_to_its_end_and_found_by_status_and_by_id(acme):
    call = requests.start(request_id="r-1", tenant=acme, provider="openai", model="openai/gpt-4o")
    assert [waiting.pk for waiting in InFlightRequest.objects.for_tenant(acme).with_status("pending")] == [call]
    requests.running(call)
    assert requests.status(acme, "r-1") == "running"
    with pytest.raises(DuplicateRequest):
        requests.start(request_id="r-1", tenant=acme, provider="openai", model="openai/gpt-4o")

    requests.complete(call, usage=Reported(prompt_tokens=1, completion_tokens=1), cost=None)
    for number, end in ((2, requests.fail), (3, requests.cancel)):
        other = requests.start(request_id=f"r-{number}", tenant=acme, provider="openai", model="openai/gpt-4o")
        end(other, **({"error": "time-out"} if number == 2 else {}))

    assert [requests.status(acme, f"r-{number}") for number in (1, 2, 3, 4)] == [
        "completed",
        "failed",
        "cancelled",
        None,
    ]
    assert requests.for_tenant(acme).for_request("r-1").get().pk == call
    assert [found.request_id for found in requests.for_tenant(acme).with_status("failed")] == ["r-2"]


def test_usage_is_inserted_one_by_one_and_in_bulk_and_summed_by_month(acme):
    id = requests.record_durable(row(acme))
    result = requests.ingest([row(acme), row(acme, cost=Decimal("0.5"))])
    moment = requests.get(pk=id).local_date

    assert (result.inserted, result.duplicates, result.rejected) == (2, 0, 0)
    summaries = UsageSummary.objects
    assert summaries.monthly(acme, moment.year, moment.month).totals.cost == 1
    summaries.refresh(acme, moment.year, moment.month)
    assert summaries.monthly(acme, moment.year, moment.month).totals.requests == 3
    assert [(month.month.year, month.month.month) for month in summaries.months(acme)] == [(moment.year, moment.month)]


def test_costs_and_tokens_are_told_by_api_key_user_and_model(acme, globex):
    key, user = uuid4(), uuid4()
    requests.ingest([row(acme, api_key_id=key, user_id=user), row(acme, api_key_id=key), row(acme), row(globex)])
    window = now() - timedelta(hours=1), now() + timedelta(hours=1)

    def told(by, field):
        return {total.key[0]: getattr(total, field) for total in requests.totals(acme, *window, by=(by,))}

    assert told("api_key", "cost") == {key: Decimal("0.5"), None: Decimal("0.25")}
    assert told("user", "prompt_tokens") == {user: 10, None: 20}
    assert told("model", "completion_tokens") == {"openai/gpt-4o": 15}
    assert [found.cost for found in requests.for_tenant(acme).for_api_key(key)] == [Decimal("0.25")] * 2
