from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from auditing import lifecycle
from auditing.errors import ConflictingDuplicate, DuplicateRequest, InvalidRow, UnknownRequest
from auditing.lifecycle import Reported, Subject
from auditing.models import InferenceRequest, InFlightRequest
from controlplane.core.ids import instant_of, milliseconds, now, uuid7
from controlplane.core.statements import Statement
from tenants import tokens
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import (
    BranchFactory,
    InferenceRequestFactory,
    InFlightRequestFactory,
    TenantFactory,
    UserFactory,
    issue,
)
from tests.races import together

pytestmark = pytest.mark.django_db
USAGE = Reported(prompt_tokens=100, completion_tokens=20, cached_tokens=30, cache_write_tokens=10, reasoning_tokens=5)


@dataclass
class Cost:
    total: Decimal | None
    status: str = "priced"
    price_id: UUID | None = None
    breakdown: dict | None = None


CENT = Cost(Decimal("0.01"))
requests = InferenceRequest.objects


def start(tenant, **asked):
    return requests.start(**{"tenant": tenant, "provider": "openai", "model": "openai/gpt-4o", **asked})


def test_a_call_from_start_to_end(acme, acme_app):
    key = issue(acme_app).key
    branch, user = BranchFactory(app=acme_app), UserFactory(tenant=acme)
    price = uuid7()
    before = now()

    id = start(
        acme, request_id="r-1", requested_model="gpt-4o", app=acme_app, branch=branch, user=user, api_key=key, stream=True,
        estimated_cost=Decimal("0.5"), metadata={"trace": "t"},
    )  # fmt: skip
    assert requests.status(acme, "r-1") == "pending"
    requests.running(id)
    assert requests.status(acme, "r-1") == "running"
    cost = Cost(Decimal("0.01"), price_id=price, breakdown={"input": "0.01"})
    fact = requests.complete(id, usage=USAGE, cost=cost, latency_ms=900, ttft_ms=100)

    assert fact == requests.get()
    assert (fact.id, fact.request_id, fact.status, fact.source) == (id, "r-1", "completed", "gate")
    assert milliseconds(instant_of(id)) == milliseconds(fact.created_at) >= milliseconds(before)
    assert (fact.tenant_id, fact.app_id, fact.branch_id) == (acme.pk, acme_app.pk, branch.pk)
    assert (fact.user_id, fact.api_key_id, fact.price_id) == (user.pk, key.pk, price)
    assert (fact.model, fact.requested_model, fact.stream, fact.metadata) == (
        "openai/gpt-4o",
        "gpt-4o",
        True,
        {"trace": "t"},
    )
    assert (fact.prompt_tokens, fact.completion_tokens, fact.cached_tokens) == (100, 20, 30)
    assert (fact.cost, fact.pricing_status, fact.cost_breakdown) == (Decimal("0.01"), "priced", {"input": "0.01"})
    assert (fact.latency_ms, fact.ttft_ms, fact.time_zone) == (900, 100, "Europe/Berlin")
    assert fact.local_date == fact.created_at.astimezone(ZoneInfo("Europe/Berlin")).date()
    assert not InFlightRequest.objects.exists()
    assert requests.status(acme, "r-1") == "completed"


def test_a_call_without_a_request_id_gets_one(acme):
    id = start(acme)

    assert InFlightRequest.objects.get().request_id == id.hex


def test_the_same_model_by_the_same_name_was_not_renamed(acme):
    start(acme, requested_model="openai/gpt-4o")

    assert InFlightRequest.objects.get().requested_model is None


def test_a_request_id_is_refused_while_it_is_in_flight_and_when_it_has_ended(acme, globex):
    id = start(acme, request_id="r-1")
    start(globex, request_id="r-1")
    with pytest.raises(DuplicateRequest) as flying:
        start(acme, request_id="r-1")
    requests.complete(id, usage=USAGE)
    with pytest.raises(DuplicateRequest) as ended:
        start(acme, request_id="r-1")

    assert (flying.value.id, flying.value.status, flying.value.http_status) == (id, "pending", 409)
    assert (ended.value.id, ended.value.status) == (id, "completed")


INVALID = [
    {"request_id": ""}, {"request_id": "x" * 201}, {"request_id": "a\x00b"}, {"request_id": "a\ud800"},
    {"provider": ""}, {"provider": "x" * 65}, {"model": ""}, {"model": "x" * 266}, {"requested_model": "x" * 266},
    {"estimated_cost": Decimal("NaN")}, {"estimated_cost": Decimal(-1)}, {"estimated_cost": 0.5},
    {"estimated_cost": Decimal(10) ** 12}, {"metadata": {"a": "x" * 4096}},
]  # fmt: skip


@pytest.mark.parametrize("asked", INVALID, ids=[f"{next(iter(asked))}-{n}" for n, asked in enumerate(INVALID)])
def test_a_call_that_could_not_end_does_not_begin(acme, asked):
    with pytest.raises(InvalidRow, match=next(iter(asked))):
        start(acme, **asked)

    assert not InFlightRequest.objects.exists()


def test_a_call_of_no_tenant_does_not_begin():
    with pytest.raises(InvalidRow, match="No tenant"):
        start(uuid7())


def test_awkward_metadata_begins_and_ends(acme):
    token = tokens.new_key("live").token
    metadata = {"a": "x\x00", "n": Decimal("0.5"), "at": now(), "deep": [{"password": "p", "note": token}], 5: "\ud800"}

    fact = requests.complete(start(acme, metadata=metadata), usage=USAGE)

    assert fact.metadata["a"] == "x�"
    assert fact.metadata["deep"] == [{"password": "[redacted]", "note": token[:21] + "[redacted]"}]
    assert (fact.metadata["n"], fact.metadata["5"]) == ("0.5", "�")


def test_what_is_not_reported_is_unknown_and_without_a_price_there_is_no_cost(acme):
    fact = requests.complete(start(acme), usage=None)

    assert (fact.prompt_tokens, fact.completion_tokens, fact.cached_tokens) == (None, None, None)
    assert (fact.cost, fact.pricing_status) == (None, "unpriced")


def test_a_price_of_zero_is_a_price(acme):
    fact = requests.complete(start(acme), usage=USAGE, cost=Cost(Decimal(0)))

    assert (fact.cost, fact.pricing_status) == (0, "priced")


def test_a_cost_without_a_total_is_unpriced_whatever_its_status_says(acme):
    fact = requests.complete(start(acme), usage=USAGE, cost=Cost(None, "priced"))

    assert (fact.cost, fact.pricing_status) == (None, "unpriced")


def test_an_estimated_cost_stays_estimated(acme):
    fact = requests.complete(start(acme), usage=USAGE, cost=Cost(Decimal(1), "estimated"))

    assert fact.pricing_status == "estimated"


@pytest.mark.parametrize(
    ("total", "stored"),
    [
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("0.0000000000025", "0.000000000002"),
        ("1E+3", "1000"),
    ],
)
def test_a_cost_is_rounded_once_half_to_even_to_12_places(acme, total, stored):
    id = start(acme)
    fact = requests.complete(id, usage=USAGE, cost=Cost(Decimal(total)))

    assert requests.get().cost == fact.cost == Decimal(stored)
    assert requests.complete(id, usage=USAGE, cost=Cost(Decimal(total))).pk == id


def test_what_failed_costs_nothing_unless_it_is_billed(acme):
    free = requests.fail(start(acme), error="boom", usage=USAGE, cost=CENT)
    billed = requests.fail(start(acme), error="too late", error_code="timeout", billable=True, usage=USAGE, cost=CENT)
    unpriced = requests.fail(start(acme), error="too late", billable=True, usage=USAGE)

    assert (free.status, free.cost, free.pricing_status, free.error_code) == ("failed", 0, "priced", "provider_error")
    assert (billed.cost, billed.error_code, billed.error) == (Decimal("0.01"), "timeout", "too late")
    assert (unpriced.cost, unpriced.pricing_status) == (None, "unpriced")


def test_what_was_cancelled_costs_what_was_used(acme):
    unused = requests.cancel(start(acme))
    used = requests.cancel(start(acme), usage=USAGE, cost=CENT)
    unknown = requests.cancel(start(acme), usage=USAGE)

    assert (unused.status, unused.cost, unused.pricing_status) == ("cancelled", 0, "priced")
    assert used.cost == Decimal("0.01")
    assert (unknown.cost, unknown.pricing_status) == (None, "unpriced")


def test_an_error_is_redacted_then_cut(acme):
    token = tokens.new_key("live").token
    fact = requests.fail(start(acme), error="x" * 1990 + token + "\x00" * 50, error_code="y" * 80)

    assert len(fact.error) <= 2000
    assert token[22:30] not in fact.error
    assert fact.error_code == "y" * 64


@pytest.mark.parametrize(
    "usage",
    [
        Reported(prompt_tokens=-1), Reported(prompt_tokens=2**31), Reported(prompt_tokens=True), Reported(prompt_tokens=1.0),
        Reported(prompt_tokens=10, cached_tokens=11), Reported(prompt_tokens=10, cached_tokens=6, cache_write_tokens=5),
        Reported(completion_tokens=4, reasoning_tokens=5), Reported(other_units={"a": "x" * 5000}),
    ],
)  # fmt: skip
def test_a_usage_that_cannot_be_leaves_the_call_in_flight(acme, usage):
    id = start(acme)

    with pytest.raises(InvalidRow):
        requests.complete(id, usage=usage)

    assert InFlightRequest.objects.filter(pk=id).exists()
    requests.complete(id, usage=USAGE)


@pytest.mark.parametrize(
    "cost", [Cost(Decimal(-1)), Cost(Decimal("NaN")), Cost(Decimal("Infinity")), Cost(0.1), Cost(Decimal(10) ** 12),
             Cost(Decimal(1), breakdown={"a": "x" * 512})]
)  # fmt: skip
def test_a_cost_that_cannot_be_leaves_the_call_in_flight(acme, cost):
    id = start(acme)

    with pytest.raises(InvalidRow):
        requests.complete(id, usage=USAGE, cost=cost)

    assert InFlightRequest.objects.filter(pk=id).exists()


def test_other_units_may_be_money_like_seconds(acme):
    fact = requests.complete(start(acme), usage=Reported(other_units={"audio_seconds": Decimal("1.5"), "images": 2}))

    assert fact.other_units == {"audio_seconds": "1.5", "images": 2}


def test_the_same_end_again_is_the_same_fact_and_another_one_is_refused(acme):
    id = start(acme)
    first = requests.complete(id, usage=USAGE, cost=CENT)

    assert requests.complete(id, usage=USAGE, cost=CENT).pk == first.pk
    for other in (
        lambda: requests.fail(id, error="boom"),
        lambda: requests.complete(id, usage=USAGE, cost=Cost(Decimal("0.02"))),
        lambda: requests.complete(id, usage=Reported(prompt_tokens=99), cost=CENT),
        lambda: requests.cancel(id, usage=USAGE, cost=CENT),
    ):
        with pytest.raises(ConflictingDuplicate) as caught:
            other()
        assert (caught.value.id, caught.value.status) == (id, "completed")
    assert requests.order_by("id").get() == first


def test_what_never_began_does_not_end():
    for finish in (
        lambda: requests.complete(uuid7(), usage=USAGE),
        lambda: requests.fail(uuid7(), error="x"),
        lambda: requests.cancel(uuid7()),
        lambda: requests.running(uuid7()),
    ):
        with pytest.raises(UnknownRequest):
            finish()


def test_what_has_ended_is_not_running(acme):
    id = start(acme)
    requests.cancel(id)

    with pytest.raises(UnknownRequest):
        requests.running(id)


def test_a_request_that_an_import_wrote_meanwhile_stays_as_that(acme):
    id = start(acme, request_id="r-1")
    requests.ingest(
        [
            {
                "request_id": "r-1",
                "created_at": now(),
                "tenant_id": acme.pk,
                "provider": "openai",
                "model": "openai/gpt-4o",
            }
        ]
    )

    with pytest.raises(ConflictingDuplicate), transaction.atomic():
        requests.complete(id, usage=USAGE)

    assert requests.for_tenant(acme).order_by("id").get().source == "ingest"


def test_a_call_that_rolls_back_was_never_made(acme):
    with pytest.raises(RuntimeError), transaction.atomic():
        requests.complete(start(acme, request_id="r-1"), usage=USAGE)
        raise RuntimeError

    assert requests.status(acme, "r-1") is None
    start(acme, request_id="r-1")


def test_a_tenant_calls_in_its_own_scope(acme, globex):
    with tenant_scope(acme):
        id = start(acme)
        requests.complete(id, usage=USAGE)
    with tenant_scope(globex):
        with pytest.raises(UnknownRequest):
            requests.complete(id, usage=USAGE)


ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "Pacific/Apia",
    "America/St_Johns",
]
INSTANTS = [
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC),  # spring in Europe
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC),  # the hour that is twice
    datetime(2026, 3, 8, 6, 59, tzinfo=UTC), datetime(2026, 3, 8, 7, 0, tzinfo=UTC),  # spring in New York
    datetime(2026, 10, 31, 22, 59, 59, 999_999, tzinfo=UTC), datetime(2026, 10, 31, 23, 0, tzinfo=UTC),
    datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2026, 11, 1, 0, 0, tzinfo=UTC),
    datetime(2026, 11, 1, 3, 59, tzinfo=UTC), datetime(2026, 11, 1, 4, 0, tzinfo=UTC),
    datetime(2026, 10, 31, 18, 29, 59, tzinfo=UTC), datetime(2026, 10, 31, 18, 30, tzinfo=UTC),
    datetime(2026, 10, 31, 9, 59, 59, tzinfo=UTC), datetime(2026, 10, 31, 11, 0, tzinfo=UTC),
]  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
def test_the_day_of_a_call_is_the_tenants_by_both_ways_in(zone):
    tenant = TenantFactory(time_zone=zone)
    present = now()
    expected, ingested = {}, []
    for n, at in enumerate(INSTANTS):
        flying = InFlightRequestFactory(created_at=at, tenant_id=tenant.pk, time_zone=zone, request_id=f"gate-{n}")
        expected[f"gate-{n}"] = expected[f"import-{n}"] = at.astimezone(ZoneInfo(zone)).date()
        ingested.append(
            {"request_id": f"import-{n}", "created_at": at, "tenant_id": tenant.pk, "provider": "p", "model": "p/m"}
        )
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT cp_partition_add('cp_auditing_inferencerequest', %s, '{request_id, tenant_id}')", [at.date()]
            )
        requests.complete(flying.pk, usage=USAGE)
    result = requests.ingest(ingested, historical=True)

    assert result.inserted == len(INSTANTS)
    assert dict(requests.for_tenant(tenant).values_list("request_id", "local_date")) == expected
    assert present.date() > date(2026, 11, 1)


def test_a_call_keeps_the_zone_it_began_in(acme):
    id = start(acme)
    Tenant.objects.filter(pk=acme.pk).update(time_zone="Asia/Tokyo")

    assert requests.complete(id, usage=USAGE).time_zone == "Europe/Berlin"


def test_calls_past_their_deadline_are_known(acme):
    id = start(acme, deadline=timedelta(minutes=1))
    flying = InFlightRequest.objects.for_tenant(acme).with_status("pending").get(pk=id)

    assert flying.deadline - flying.created_at == timedelta(minutes=1)


# --- at once


@pytest.mark.django_db(transaction=True)
def test_of_two_starts_at_once_one_begins(acme):
    outcomes = together(*(lambda: start(acme, request_id="r-1") for _ in range(4)))

    began = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, DuplicateRequest)]
    assert (len(began), len(refused)) == (1, 3)
    assert {error.id for error in refused} == set(began)


@pytest.mark.django_db(transaction=True)
def test_of_two_ends_at_once_one_writes_and_both_get_the_fact(acme):
    id = start(acme)

    outcomes = together(*(lambda: requests.complete(id, usage=USAGE, cost=CENT) for _ in range(4)))

    assert {outcome.pk for outcome in outcomes} == {id}
    assert requests.for_tenant(acme).order_by("id").get().pk == id
    assert not InFlightRequest.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_different_ends_at_once_one_is_refused(acme):
    id = start(acme)

    outcomes = together(lambda: requests.complete(id, usage=USAGE, cost=CENT), lambda: requests.fail(id, error="boom"))

    [lost] = [outcome for outcome in outcomes if isinstance(outcome, ConflictingDuplicate)]
    [won] = [outcome for outcome in outcomes if isinstance(outcome, InferenceRequest)]
    assert lost.status == won.status == requests.for_tenant(acme).order_by("id").get().status


# ---------------------------------------------------------------- a statement beside


def noting(acme, text):
    return lambda values, price: Statement(
        "UPDATE cp_tenants_tenant SET name = %s WHERE id = %s",
        [f"{text} {values['prompt_tokens']} {price.cost}", acme.pk],
        bool,
    )


def named(acme):
    return Tenant.objects.values_list("name", flat=True).get(pk=acme.pk)


@pytest.mark.django_db(transaction=True)
def test_who_knows_what_prices_a_call_ends_it_in_one_statement(acme, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "AUDIT_PRICER": lambda row: CENT}
    id = start(acme)
    subject = Subject(now(), acme.pk, None, "openai", "openai/gpt-4o", None, False)
    complete = lifecycle.End("completed", usage=USAGE)
    with CaptureQueriesContext(connection) as queries:
        requests.finish(id, complete, subject=subject, beside=noting(acme, "used"))

    assert len(queries) == 1
    assert named(acme) == "used 100 0.010000000000"
    assert requests.get().prompt_tokens == 100


@pytest.mark.django_db(transaction=True)
def test_what_is_sent_beside_a_fact_stands_or_falls_with_it(acme):
    id = start(acme, request_id="r-1")
    InferenceRequestFactory(tenant_id=acme.pk, request_id="r-1")  # an import wrote it meanwhile

    with pytest.raises(ConflictingDuplicate):
        requests.finish(id, lifecycle.End("completed", usage=USAGE, cost=CENT), beside=noting(acme, "lost"))

    assert named(acme) == "Acme"
