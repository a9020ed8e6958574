"""The inbox of requests whose cost nobody knows: price their model, look, book."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils.http import urlencode

from auditing.models import AuditLog, InferenceRequest
from catalog.admin import inbox
from catalog.models import ModelPrice
from controlplane.core.ids import now
from tests.admin_rows import Page
from tests.factories import AIModelFactory, InferenceRequestFactory, ModelPriceFactory, OperatorFactory, ProviderFactory

pytestmark = pytest.mark.django_db

INBOX = reverse("admin:cp_catalog_modelprice_unpriced")
RERATE = reverse("admin:cp_catalog_modelprice_rerate")
START = datetime(2026, 11, 1, 8, 30, 15, tzinfo=UTC)


@pytest.fixture
def operator(client):
    client.force_login(OperatorFactory())
    return client


@pytest.fixture
def model():
    return AIModelFactory(name="gpt-4o", key="gpt-4o", provider=ProviderFactory(slug="openai"))


def unpriced(tenant, **fields):
    """A request that nobody could price."""
    row = {
        "tenant_id": tenant.pk, "model": "openai/gpt-4o", "provider": "openai", "cost": None, "pricing_status": "unpriced",
        "prompt_tokens": 1000, "completion_tokens": 500, "created_at": START,
    }  # fmt: skip
    return InferenceRequestFactory(**row | fields)


def rerate(name="openai/gpt-4o", provider="openai"):
    return f"{RERATE}?{urlencode({'model': name, 'provider': provider})}"


def booked():
    return InferenceRequest.objects.exclude(adjusts=None)


def test_the_inbox_counts_by_model_and_knows_which_the_catalog_has(operator, model, acme, globex):
    unpriced(acme)
    unpriced(globex, created_at=START + timedelta(days=2))
    unpriced(globex, model="openai/nobody-knows", prompt_tokens=None, completion_tokens=None)
    InferenceRequestFactory(tenant_id=acme.pk, model="openai/priced")

    page = operator.get(INBOX)
    known, unknown = page.context["rows"]

    assert Page(page).faults == []
    assert (known.name, known.found, known.priced) == ("openai/gpt-4o", model, False)
    assert known.figures == {
        "requests": "2", "without_usage": "0", "tenants": "2", "prompt_tokens": "2,000", "completion_tokens": "1,000",
    }  # fmt: skip
    assert "2026-11-01" in known.first
    assert "2026-11-03" in known.last
    assert (unknown.name, unknown.found, unknown.figures["without_usage"]) == ("openai/nobody-knows", None, "1")


def test_an_empty_inbox_says_so(operator):
    assert "Every request is priced." in operator.get(INBOX).content.decode()


def test_a_figure_leads_to_the_requests_it_counts(operator, model, acme):
    unpriced(acme)
    unpriced(acme, created_at=START + timedelta(days=2))
    InferenceRequestFactory(tenant_id=acme.pk, model="openai/gpt-4o", created_at=START)

    (row,) = operator.get(INBOX).context["rows"]

    assert len(operator.get(row.requests_url).context["cl"].result_list) == 2


def test_an_unknown_name_is_added_as_a_model_or_as_an_alias_with_one_click(operator, acme):
    ProviderFactory(slug="openai")
    unpriced(acme, model="openai/new-one")

    (row,) = operator.get(INBOX).context["rows"]
    added, alias = operator.get(row.add_url), operator.get(row.alias_url)

    assert added.context["adminform"].form["name"].value() == "new-one"
    assert added.context["adminform"].form["provider"].value() == "openai"
    assert alias.context["adminform"].form["alias"].value() == "openai/new-one"


def test_a_price_that_came_late_is_set_looked_at_and_booked(operator, model, acme, globex):
    unpriced(acme)
    unpriced(acme, created_at=START + timedelta(hours=1))
    unpriced(globex, prompt_tokens=2000)
    (row,) = operator.get(INBOX).context["rows"]

    form = operator.get(row.price_url)
    assert form.context["form"]["effective_from"].value() == "2026-11-01T08:30"
    typed = {
        "input_cost_per_token": "2",
        "output_cost_per_token": "8",
        "effective_from": "2026-11-01T08:30",
        "reason": "late",
    }
    saved = operator.post(row.price_url, typed | {"seen": form.context["seen"], "_save": "x"})
    assert saved.url == rerate()

    preview = operator.get(saved.url)
    assert Page(preview).faults == []
    assert preview.context["sums"] == [("Acme", "2", "0.012"), ("Globex", "1", "0.008")]
    assert preview.context["total"] == "0.02 USD"
    assert not booked().exists()

    done = operator.post(saved.url, {"reason": "from the invoice"}, follow=True)
    assert "3 requests were priced, 0.02 USD in all" in done.content.decode()
    assert sum(adjustment.cost for adjustment in booked()) == Decimal("0.02")
    assert {adjustment.reason for adjustment in booked()} == {"from the invoice"}
    assert AuditLog.objects.filter(action="requests.rerated", reason="from the invoice").count() == 2
    assert "Every request is priced." in done.content.decode()


def test_booking_twice_books_once(operator, model, acme):
    unpriced(acme)
    ModelPriceFactory(model=model)

    operator.post(rerate(), {"reason": "late"})
    again = operator.post(rerate(), {"reason": "late"})

    assert again.status_code == 302
    assert booked().count() == 1
    assert "No request of this model is unpriced." in operator.get(rerate()).content.decode()


def test_booking_needs_a_reason(operator, model, acme):
    unpriced(acme)
    ModelPriceFactory(model=model)

    answer = operator.post(rerate(), {"reason": " "})

    assert answer.status_code == 422
    assert "Say why" in answer.content.decode()
    assert not booked().exists()


def test_what_stays_unpriced_is_said_with_the_way_to_a_price(operator, model, acme):
    unpriced(acme)
    ModelPriceFactory(model=model, effective_from=now())

    page = operator.get(rerate())

    assert "1 request stays unpriced" in page.content.decode()
    assert "from=2026-11-01T08%3A30" in page.context["price_url"]
    assert Page(page).writing_inputs() == []


def test_a_price_before_the_present_one_ends_where_that_begins(operator, model, acme):
    present = ModelPriceFactory(model=model, effective_from=START + timedelta(days=9))
    unpriced(acme)
    (row,) = operator.get(INBOX).context["rows"]
    form = operator.get(row.price_url)
    typed = {
        "input_cost_per_token": "2",
        "effective_from": "2026-11-01T08:30",
        "output_cost_per_token": "8",
        "reason": "late",
    }

    operator.post(row.price_url, typed | {"seen": form.context["seen"], "_save": "x"})

    earlier = ModelPrice.objects.exclude(pk=present.pk).get()
    assert earlier.effective_to == present.effective_from
    present.refresh_from_db()
    assert present.effective_to is None


def test_more_requests_than_a_page_can_wait_for_are_left_to_the_command(operator, model, acme, monkeypatch):
    monkeypatch.setattr(inbox, "MOST_REQUESTS", 1)
    unpriced(acme)
    unpriced(acme, created_at=START + timedelta(hours=1))
    ModelPriceFactory(model=model)

    page = operator.get(rerate())
    operator.post(rerate(), {"reason": "late"})

    assert "manage.py prices_rerate --from 2026-11-01T08:30:15Z --to 2026-11-01T09:30:16Z" in page.content.decode()
    assert not booked().exists()


@pytest.mark.parametrize("query", ["", "?model=", "?model=%00&provider=x"])
def test_re_rating_without_a_model_leads_to_the_list_of_them(operator, query):
    assert operator.get(RERATE + query).url == INBOX


def test_a_name_that_no_request_has_is_a_calm_page(operator):
    assert "No request of this model is unpriced." in operator.get(rerate("<b>x</b>", "")).content.decode()


def test_who_may_not_see_requests_or_set_prices_gets_nothing(client, model, acme):
    user = OperatorFactory(is_superuser=False)
    client.force_login(user)
    unpriced(acme)
    assert client.get(INBOX).status_code == 403

    seen = Permission.objects.filter(codename__in=["view_modelprice", "view_inferencerequest"])
    user.user_permissions.set(seen)
    page = client.get(INBOX)
    assert page.status_code == 200
    assert "Price it" not in page.content.decode()
    assert client.get(rerate()).status_code == client.post(rerate(), {"reason": "x"}).status_code == 403


def test_the_inbox_takes_the_same_statements_for_few_and_many(operator, acme, django_assert_max_num_queries):
    for n in range(3):
        unpriced(acme, model=f"openai/m-{n}")
    with django_assert_max_num_queries(9):
        operator.get(INBOX)
    for n in range(30):
        unpriced(acme, model=f"openai/n-{n}")
    with django_assert_max_num_queries(9):
        operator.get(INBOX)
