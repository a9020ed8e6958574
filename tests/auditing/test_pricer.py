from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from auditing import pricer
from auditing.lifecycle import Reported
from auditing.models import InferenceRequest, InFlightRequest
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import now, uuid7
from tests.factories import InferenceRequestFactory

pytestmark = pytest.mark.django_db
requests = InferenceRequest.objects
PRICE = UUID(int=7)
USAGE = Reported(prompt_tokens=100, completion_tokens=20, cached_tokens=30, other_units={"images": 2})


@dataclass
class Cost:
    total: Decimal | None
    status: str = "priced"
    price_id: UUID | None = None
    breakdown: dict | None = None


class PerToken:
    """A pricer of a sibling's: some US dollars a token, of any model but `dark/matter`. It notes what it was asked."""

    def __init__(self, rate="0.001"):
        self.rate, self.asked = Decimal(rate), []

    def __call__(self, row):
        self.asked.append(row)
        if row.model == "dark/matter" or row.prompt_tokens is None:
            return None
        total = self.rate * (row.prompt_tokens + (row.completion_tokens or 0))
        return Cost(total, price_id=PRICE, breakdown={"tokens": str(total)})


class InBatches(PerToken):
    def many(self, rows):
        self.asked.append(len(rows))
        return [Cost(self.rate) for _ in rows]


by_path = PerToken("0.5")


@pytest.fixture
def priced_by(settings):
    def use(asked):
        settings.CONTROLPLANE = {**settings.CONTROLPLANE, "AUDIT_PRICER": asked}
        return asked

    return use


def start(tenant, **asked):
    return requests.start(**{"tenant": tenant, "provider": "openai", "model": "openai/gpt-4o", **asked})


def row(tenant, n=1, **values):
    return {
        "request_id": f"r-{n}", "created_at": now() - timedelta(minutes=n), "tenant_id": tenant.pk, "provider": "openai",
        "model": "openai/gpt-4o", "prompt_tokens": 100, "completion_tokens": 20, **values,
    }  # fmt: skip


def priced(fact):
    return fact.cost, fact.pricing_status, fact.price_id, fact.cost_breakdown


UNPRICED = (None, "unpriced", None, None)


def test_a_call_that_ends_without_a_cost_is_priced(acme, acme_app, priced_by):
    asked = priced_by(PerToken()).asked
    id = start(acme, app=acme_app, requested_model="gpt-4o")

    fact = requests.complete(id, usage=USAGE)

    assert priced(fact) == (Decimal("0.12"), "priced", PRICE, {"tokens": "0.120"})
    [row] = asked
    assert (row.tenant_id, row.app_id, row.provider, row.model) == (acme.pk, acme_app.pk, "openai", "openai/gpt-4o")
    assert (row.requested_model, row.created_at, row.status) == ("gpt-4o", fact.created_at, "completed")
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens) == (100, 20, 30, None)
    assert row.other_units == {"images": 2}


def test_the_pricer_may_be_named_by_its_path(acme, priced_by):
    priced_by("tests.auditing.test_pricer.by_path")

    assert requests.complete(start(acme), usage=USAGE).cost == 60


def test_who_names_a_cost_is_believed(acme, priced_by):
    asked = priced_by(PerToken()).asked

    named = requests.complete(start(acme), usage=USAGE, cost=Cost(Decimal(3)))
    unknown = requests.complete(start(acme), usage=USAGE, cost=Cost(None))
    failed = requests.fail(start(acme), error="boom", usage=USAGE)
    unused = requests.cancel(start(acme))

    assert (named.cost, failed.cost, unused.cost) == (3, 0, 0)
    assert priced(unknown) == UNPRICED
    assert asked == []


def test_what_is_billed_though_it_failed_or_was_broken_off_is_priced(acme, priced_by):
    priced_by(PerToken())

    billed = requests.fail(start(acme), error="late", billable=True, usage=USAGE)
    cancelled = requests.cancel(start(acme), usage=USAGE)

    assert (billed.cost, cancelled.cost) == (Decimal("0.12"), Decimal("0.12"))


def test_what_the_pricer_does_not_know_is_unpriced_and_never_free(acme, priced_by):
    priced_by(PerToken())

    assert priced(requests.complete(start(acme, model="dark/matter"), usage=USAGE)) == UNPRICED
    assert priced(requests.complete(start(acme), usage=None)) == UNPRICED


def test_a_price_of_zero_is_a_price(acme, priced_by):
    priced_by(PerToken(0))

    assert priced(requests.complete(start(acme), usage=USAGE))[:2] == (0, "priced")


def test_an_estimate_stays_one(acme, priced_by):
    priced_by(lambda row: Cost(Decimal(1), "estimated"))

    assert requests.complete(start(acme), usage=USAGE).pricing_status == "estimated"


@pytest.mark.parametrize(
    ("total", "stored"),
    [("0.0000000000005", "0"), ("0.0000000000015", "0.000000000002"), ("0.0000000000025", "0.000000000002")],
)
def test_a_price_is_rounded_once_half_to_even_by_both_ways_in(acme, priced_by, total, stored):
    priced_by(lambda row: Cost(Decimal(total)))

    fact = requests.complete(start(acme), usage=USAGE)
    requests.ingest([row(acme)])

    assert (fact.cost, requests.get(request_id="r-1").cost) == (Decimal(stored), Decimal(stored))


@pytest.mark.parametrize(
    "answer",
    [Cost(Decimal("NaN")), Cost(Decimal("Infinity")), Cost(Decimal(-1)), Cost(0.5), Cost(Decimal(10) ** 12),
     Cost(Decimal("999999999999.9999999999999")), Cost(Decimal(1), breakdown={"a": "x" * 512})],
)  # fmt: skip
def test_an_answer_that_cannot_be_kept_loses_no_call(acme, priced_by, caplog, answer):
    priced_by(lambda row: answer)

    with caplog.at_level(logging.ERROR, "auditing.pricer"):
        fact = requests.complete(start(acme), usage=USAGE)
        result = requests.ingest([row(acme)])

    assert priced(fact) == priced(requests.get(request_id="r-1")) == UNPRICED
    assert result.inserted == 1
    assert len(caplog.records) == 2
    assert "openai/gpt-4o" in caplog.text


def test_a_pricer_that_fails_loses_no_call(acme, priced_by, caplog):
    def refuse(row):
        raise ControlPlaneError("out_of_prices", "There are none left.")

    priced_by(refuse)

    fact = requests.complete(start(acme), usage=USAGE)
    result = requests.ingest([row(acme, n) for n in range(3)])

    assert priced(fact) == UNPRICED
    assert (result.inserted, requests.unpriced().count()) == (3, 4)
    assert "There are none left." in caplog.text


def test_a_pricer_that_is_broken_leaves_the_call_in_flight(acme, priced_by):
    priced_by(lambda row: row.colour)
    id = start(acme)

    with pytest.raises(AttributeError):
        requests.complete(id, usage=USAGE)

    assert InFlightRequest.objects.filter(pk=id).exists()


def test_the_same_end_again_is_the_same_fact_though_prices_have_changed(acme, priced_by):
    pricer = priced_by(PerToken())
    id = start(acme)
    first = requests.complete(id, usage=USAGE)

    pricer.rate *= 2

    assert requests.complete(id, usage=USAGE) == first
    assert requests.get().cost == Decimal("0.12")


def test_a_lost_call_that_ends_late_is_priced(acme, priced_by):
    priced_by(PerToken())
    lost = InferenceRequestFactory(
        tenant_id=acme.pk,
        status="lost",
        cost=None,
        pricing_status="unpriced",
        prompt_tokens=None,
        completion_tokens=None,
    )

    for _ in range(2):
        requests.complete(lost.pk, usage=USAGE)

    row = requests.get(adjusts=lost.pk, reason_code="priced")
    assert (row.cost, row.price_id) == (Decimal("0.12"), PRICE)


def test_without_a_pricer_nothing_is_priced(acme, monkeypatch):
    monkeypatch.setattr(pricer, "_registered", None)

    assert priced(requests.complete(start(acme), usage=USAGE)) == UNPRICED
    requests.ingest([row(acme), row(acme, 2, status="failed")])
    assert requests.unpriced().count() == 3


# --- ingest


def test_rows_of_elsewhere_are_priced_where_their_source_names_no_cost(acme, priced_by):
    asked = priced_by(PerToken()).asked

    requests.ingest(
        [row(acme, 1), row(acme, 2, cost=Decimal(3)), row(acme, 3, model="dark/matter"), row(acme, 4, cost=0)]
    )

    facts = {fact.request_id: fact for fact in requests.all()}
    assert priced(facts["r-1"]) == (Decimal("0.12"), "priced", PRICE, {"tokens": "0.120"})
    assert (facts["r-2"].cost, facts["r-4"].cost) == (3, 0)
    assert priced(facts["r-3"]) == UNPRICED
    assert [one.request_id for one in asked] == ["r-1", "r-3"]
    assert asked[0].created_at == facts["r-1"].created_at


def test_what_failed_elsewhere_is_free_unless_its_source_bills_it(acme, priced_by):
    asked = priced_by(PerToken()).asked

    requests.ingest([row(acme, 1, status="failed"), row(acme, 2, status="failed", cost=Decimal(1))])

    assert dict(requests.values_list("request_id", "cost")) == {"r-1": 0, "r-2": 1}
    assert asked == []


def test_a_batch_is_asked_for_at_once(acme, priced_by):
    asked = priced_by(InBatches()).asked

    result = requests.ingest([row(acme, n) for n in range(25)], batch_size=10)

    assert (result.inserted, asked) == (25, [10, 10, 5])
    assert requests.metrics(acme, now() - timedelta(days=1), now()).total_cost == Decimal("0.025")


def test_a_pricer_that_answers_for_too_few_is_no_pricer(acme, priced_by):
    class Short(InBatches):
        def many(self, rows):
            return [None]

    priced_by(Short())

    with pytest.raises(ValueError, match="2 calls and answered for 1"):
        requests.ingest([row(acme, n) for n in range(2)])
    assert not requests.exists()


def test_the_same_rows_again_are_duplicates_though_prices_have_changed(acme, priced_by):
    pricer = priced_by(PerToken())
    rows = [
        row(acme, 1),
        row(acme, 2, status="failed"),
        row(acme, 3, model="dark/matter"),
        row(acme, 4, cost=Decimal(3)),
    ]
    requests.ingest(rows)

    pricer.rate *= 2
    result = requests.ingest(rows)

    assert (result.inserted, result.duplicates, result.rejected) == (0, 4, 0)
    assert requests.get(request_id="r-1").cost == Decimal("0.12")


def test_rows_of_before_there_were_prices_are_duplicates_afterwards(acme, priced_by, monkeypatch):
    given = row(acme)
    with monkeypatch.context() as patched:
        patched.setattr(pricer, "_registered", None)
        requests.ingest([given])
    priced_by(PerToken())

    again = requests.ingest([given])

    assert (again.duplicates, again.rejected) == (1, 0)
    assert priced(requests.get()) == UNPRICED


def test_a_row_whose_source_names_another_cost_than_was_worked_out_is_refused(acme, priced_by):
    priced_by(PerToken())
    given = row(acme)
    requests.ingest([given])

    result = requests.ingest([{**given, "cost": Decimal(9)}])

    assert [rejection.code for rejection in result.rejections] == ["conflicting_duplicate"]


def test_a_row_without_a_cost_is_no_duplicate_of_one_whose_source_named_it(acme, priced_by):
    priced_by(PerToken())
    given = row(acme, cost=Decimal(9))
    requests.ingest([given])

    result = requests.ingest([{**given, "cost": None}])

    assert [rejection.code for rejection in result.rejections] == ["conflicting_duplicate"]
    assert requests.get().cost == 9


def test_refused_rows_are_not_asked_for(acme, priced_by):
    asked = priced_by(PerToken()).asked

    result = requests.ingest([row(acme, tenant_id=uuid7()), row(acme, 2, prompt_tokens=-1)])

    assert (result.rejected, asked) == (2, [])


class Ready(PerToken):
    """A pricer that looks everything up before the rows are written."""

    def ready(self, subjects):
        self.asked += [(subject.model, subject.requested_model) for subject in subjects]
        return lambda rows: [self(row) for row in rows]


def test_a_pricer_that_makes_ready_is_asked_about_each_subject_once_and_then_prices_the_rows(acme, priced_by):
    used = priced_by(Ready())
    rows = [
        row(acme, n, model=("openai/gpt-4o", "dark/matter")[n % 2], requested_model="fast", tenant_id=str(acme.pk))
        for n in range(1200)
    ]

    result = requests.ingest([*rows, row(acme, 1200, status="failed"), row(acme, 1201, cost=Decimal(7))])

    assert result.inserted == 1202
    assert set(used.asked[:3]) == {("dark/matter", "fast"), ("openai/gpt-4o", None), ("openai/gpt-4o", "fast")}
    assert len(used.asked) == 3 + 1200
    known = requests.filter(requested_model="fast", model="openai/gpt-4o")
    assert set(known.values_list("cost", "pricing_status", "price_id")) == {(Decimal("0.12"), "priced", PRICE)}
    assert requests.unpriced().count() == 600
    assert set(requests.filter(requested_model=None).values_list("status", "cost")) == {("failed", 0), ("completed", 7)}


def test_a_pricer_that_cannot_make_ready_loses_no_row(acme, priced_by):
    class Broken(Ready):
        def ready(self, subjects):
            raise ControlPlaneError

    priced_by(Broken())

    assert requests.ingest([row(acme)]).inserted == 1
    assert requests.unpriced().count() == 1


def test_a_pricer_that_fails_at_a_row_loses_none(acme, priced_by):
    class Broken(Ready):
        def __call__(self, row):
            raise ControlPlaneError

    priced_by(Broken())

    assert requests.ingest([row(acme)]).inserted == 1
    assert requests.unpriced().count() == 1
