from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import DataError, IntegrityError, ProgrammingError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from auditing.models import AuditLog
from catalog.errors import PriceFrozen, PriceOverlap, PriceRefused
from catalog.models import ModelPrice, PriceImport
from catalog.models.price import fingerprint
from catalog.pricing import Usage
from catalog.setting import end_price, set_price
from controlplane.core.ids import now
from tenants.scope import tenant_scope
from tests.factories import AIModelFactory, ModelPriceFactory, PriceImportFactory, ProviderFactory, TenantFactory
from tests.races import behind, together

pytestmark = pytest.mark.django_db

JANUARY, FEBRUARY, MARCH, APRIL = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4))
CHEAP = {"input_cost_per_token": "1e-06", "output_cost_per_token": "2e-06"}
DEAR = {"input_cost_per_token": "3e-06", "output_cost_per_token": "9e-06"}


def refused(name):
    return pytest.raises(IntegrityError, match=rf"{name}\b")


@pytest.fixture
def model():
    return AIModelFactory()


@pytest.fixture
def acme():
    return TenantFactory(slug="acme")


@pytest.fixture
def globex():
    return TenantFactory(slug="globex")


# ---------------------------------------------------------------- what the database refuses


def test_a_price_cannot_end_before_it_begins():
    price = ModelPriceFactory()

    with refused("cp_catalog_modelprice_ends_after_start"), transaction.atomic():
        ModelPrice.objects.filter(pk=price.pk).update(effective_to=price.effective_from - timedelta(microseconds=1))


def test_two_list_prices_of_a_model_do_not_overlap_whoever_writes(model):
    ModelPriceFactory(model=model, effective_from=JANUARY, effective_to=MARCH)
    february = ModelPrice(model=model, effective_from=FEBRUARY, rates=DEAR, fingerprint=fingerprint(DEAR))

    with refused("cp_catalog_modelprice_one_list_price"), transaction.atomic():
        ModelPrice.objects.bulk_create([february])
    with pytest.raises(PriceOverlap), transaction.atomic():
        february.save()
    with pytest.raises(ValidationError, match="Another price of this model"):
        february.full_clean()


def test_two_prices_of_a_tenant_do_not_overlap_but_stand_beside_the_list_price_and_another_tenants(model, acme, globex):
    for tenant in (None, acme, globex):
        ModelPriceFactory(model=model, tenant=tenant)

    with refused("cp_catalog_modelprice_one_tenant_price"), transaction.atomic():
        ModelPrice.objects.bulk_create(
            [ModelPrice(model=model, tenant=acme, rates=DEAR, fingerprint=fingerprint(DEAR))]
        )


def test_a_price_that_ends_where_it_begins_is_void_and_frees_its_time(model):
    wrong = ModelPriceFactory(model=model, effective_from=JANUARY)

    wrong.end(JANUARY, reason="Ten times too high")
    right = ModelPriceFactory(model=model, effective_from=JANUARY)

    assert wrong.void
    assert model.price_at(FEBRUARY) == right


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"rates": []}, "cp_catalog_modelprice_rates_is_object"),
        ({"rates": {"input_cost_per_token": 1}}, "cp_catalog_modelprice_rates_are_plain"),
        ({"rates": {"ocr_cost_per_credit": True}}, "cp_catalog_modelprice_rates_are_plain"),
        ({"rates": {"cost_per_second": "-1"}}, "cp_catalog_modelprice_rates_are_plain"),
        ({"rates": {"cost_per_second": "NaN"}}, "cp_catalog_modelprice_rates_are_plain"),
        ({"rates": {"cost_per_second": "1\n"}}, "cp_catalog_modelprice_rates_are_plain"),
        ({"rates": {"tiered_pricing": [{"range": [0, 1]}]}}, "cp_catalog_modelprice_rates_are_plain"),
        ({"discount_percent": 101}, "cp_catalog_modelprice_terms_are_sane"),
        ({"margin_percent": Decimal("9999.5")}, "cp_catalog_modelprice_terms_are_sane"),
        ({"margin_fixed": Decimal("-0.01")}, "cp_catalog_modelprice_terms_are_sane"),
        ({"effective_from": datetime(1999, 12, 31, tzinfo=UTC)}, "cp_catalog_modelprice_in_our_time"),
        ({"effective_to": datetime(9999, 1, 1, tzinfo=UTC)}, "cp_catalog_modelprice_in_our_time"),
        ({"fingerprint": "x"}, "cp_catalog_modelprice_fingerprint_is_hex"),
    ],
)
def test_a_price_that_breaks_a_rule_is_refused_by_name(model, values, name):
    price = ModelPrice(**{"model": model, "rates": CHEAP, "fingerprint": fingerprint(CHEAP)} | values)

    with refused(name), transaction.atomic():
        ModelPrice.objects.bulk_create([price])


def test_text_that_is_no_number_is_no_rate(model):
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        ModelPriceFactory(model=model, rates={"input_cost_per_token": "cheap"})


def test_what_is_no_number_by_its_name_is_kept(model):
    price = ModelPriceFactory(
        model=model, rates=CHEAP | {"web_search_billing_unit": "per_query", "cost_per_second": None}
    )

    assert ModelPrice.objects.get(pk=price.pk).rates["web_search_billing_unit"] == "per_query"


def test_the_terms_of_a_provider_have_bounds():
    provider = ProviderFactory()

    with refused("cp_catalog_provider_terms_are_sane"), transaction.atomic():
        type(provider).objects.filter(pk=provider.pk).update(discount_percent=101)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"sha256": "x"}, "cp_catalog_priceimport_sha256_is_hex"),
        ({"counts": []}, "cp_catalog_priceimport_counts_is_object"),
        ({"report": []}, "cp_catalog_priceimport_report_is_object"),
        ({"meta": []}, "cp_catalog_priceimport_meta_is_object"),
    ],
)
def test_an_import_that_breaks_a_rule_is_refused_by_name(values, name):
    with refused(name), transaction.atomic():
        PriceImportFactory(**values)


@pytest.mark.parametrize(
    "verb", ["UPDATE cp_catalog_priceimport SET source = 'x'", "DELETE FROM cp_catalog_priceimport"]
)
def test_an_import_is_never_changed(verb):
    PriceImportFactory()

    with connection.cursor() as cursor, pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        cursor.execute(verb)
    assert PriceImport.objects.count() == 1


# ---------------------------------------------------------------- frozen


@pytest.mark.parametrize(
    "change",
    [
        {"rates": DEAR}, {"discount_percent": 5}, {"effective_from": JANUARY - timedelta(days=1)}, {"source": "x"},
        {"version": "2"}, {"fingerprint": "0" * 64},
    ],
)  # fmt: skip
def test_of_a_price_nothing_changes_but_its_end_and_reason(change):
    price = ModelPriceFactory(effective_from=JANUARY)

    with pytest.raises(IntegrityError, match="only ended"), transaction.atomic():
        ModelPrice.objects.filter(pk=price.pk).update(**change)
    ModelPrice.objects.filter(pk=price.pk).update(effective_to=MARCH, reason="Cheaper from March on")

    price.refresh_from_db()
    assert (price.rates["input_cost_per_token"], price.effective_to) == ("2e-06", MARCH)


def test_a_price_that_has_begun_is_not_deleted_and_one_that_has_not_is(model):
    begun = ModelPriceFactory(model=model, effective_from=JANUARY, effective_to=now())
    planned = ModelPriceFactory(model=model, effective_from=now() + timedelta(days=1))

    with pytest.raises(PriceFrozen), transaction.atomic():
        begun.delete()
    planned.delete()

    assert list(model.prices.all()) == [begun]


def test_a_change_of_a_frozen_price_is_refused_by_name(model):
    price = ModelPriceFactory(model=model)

    with connection.cursor() as cursor, pytest.raises(IntegrityError) as refusal, transaction.atomic():
        cursor.execute("UPDATE cp_catalog_modelprice SET model_id = %s", [AIModelFactory().pk])

    assert refusal.value.__cause__.diag.constraint_name == "cp_catalog_modelprice_is_frozen"
    assert ModelPrice.objects.get().model_id == price.model_id


def test_a_price_that_is_set_and_ended_is_in_the_audit_log():
    price = ModelPriceFactory()
    price.end(reason="No more")

    rows = AuditLog.objects.filter(resource_type="cp_catalog_modelprice", resource_id=str(price.pk)).order_by("id")

    assert [row.action for row in rows] == ["create", "update"]
    assert rows[1].after["reason"] == "No more"


def test_prices_are_not_truncated():
    ModelPriceFactory()

    with connection.cursor() as cursor, pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE cp_catalog_modelprice")
    assert ModelPrice.objects.count() == 1


def test_an_end_before_the_beginning_is_refused_in_a_sentence():
    price = ModelPriceFactory(effective_from=FEBRUARY)

    with pytest.raises(PriceRefused) as refusal:
        price.end(JANUARY, reason="Too early")

    assert refusal.value.code == "bad_end"
    assert ModelPrice.objects.get().effective_to is None


def test_a_price_is_ended_or_voided_from_the_command_line(model, acme):
    listed, own = (ModelPriceFactory(model=model, tenant=tenant, effective_from=JANUARY) for tenant in (None, acme))
    out = StringIO()

    call_command("price_end", model.key, "--at", "2026-02-01T00:00Z", "--reason", "Withdrawn", stdout=out)
    call_command("price_end", model.key, "--tenant", "acme", "--void", "--reason", "Never agreed", "--json", stdout=out)

    listed.refresh_from_db()
    own.refresh_from_db()
    assert (listed.effective_to, listed.reason, own.void) == (FEBRUARY, "Withdrawn", True)
    assert f"The price of {model.key} from 2026-01-01 00:00Z ends 2026-02-01 00:00Z." in out.getvalue()
    with pytest.raises(CommandError, match="no such price"):
        call_command("price_end", model.key, "--reason", "Again", stdout=out)


# ---------------------------------------------------------------- which price holds


def test_the_price_of_an_instant_is_the_one_that_held_then(model):
    cheap = ModelPriceFactory(model=model, effective_from=JANUARY, effective_to=FEBRUARY)
    dear = ModelPriceFactory(model=model, effective_from=FEBRUARY)

    assert model.price_at(JANUARY - timedelta(microseconds=1)) is None
    assert model.price_at(FEBRUARY - timedelta(microseconds=1)) == cheap
    assert model.price_at(FEBRUARY) == dear


def test_a_tenants_price_replaces_the_list_price_for_that_tenant_alone(model, acme, globex):
    listed = ModelPriceFactory(model=model)
    own = ModelPriceFactory(model=model, tenant=acme, effective_from=FEBRUARY, effective_to=MARCH)

    assert model.price_at(FEBRUARY, acme) == own
    assert model.price_at(FEBRUARY, acme.pk) == own
    assert model.price_at(MARCH, acme) == model.price_at(FEBRUARY, globex) == model.price_at(FEBRUARY) == listed


@given(st.data())
def test_the_price_of_an_instant_equals_a_plain_scan(data):
    days = st.integers(0, 20)
    model = AIModelFactory()
    tenants = [None, TenantFactory()]
    kept = []
    for _ in range(data.draw(st.integers(0, 8))):
        start, length, tenant = data.draw(days), data.draw(st.none() | days), data.draw(st.sampled_from(tenants))
        begins = JANUARY + timedelta(days=start)
        ends = None if length is None else begins + timedelta(days=length)
        try:
            with transaction.atomic():
                kept.append(ModelPriceFactory(model=model, tenant=tenant, effective_from=begins, effective_to=ends))
        except PriceOverlap:
            assert any(
                other.tenant == tenant and (ends is None or other.effective_from < ends)
                and (other.effective_to is None or begins < other.effective_to)
                and not other.void and begins != ends
                for other in kept
            )  # fmt: skip
    instant = JANUARY + timedelta(days=data.draw(days))
    for tenant in tenants:
        own = [price for price in kept if price.tenant == tenant is not None and price.in_force(instant)]
        listed = [price for price in kept if price.tenant is None and price.in_force(instant)]
        assert model.price_at(instant, tenant) == next(iter(own or listed), None)


def test_inside_a_scope_list_prices_and_ones_own_are_read_and_only_ones_own_written(model, acme, globex):
    listed, own, theirs = (ModelPriceFactory(model=model, tenant=tenant) for tenant in (None, acme, globex))

    with tenant_scope(acme):
        assert set(ModelPrice.objects.all()) == {listed, own}
        assert ModelPrice.objects.filter(pk__in=[listed.pk, theirs.pk]).update(reason="mine") == 0
        assert ModelPrice.objects.filter(pk=own.pk).update(reason="mine") == 1
    with tenant_scope(acme), pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
        ModelPriceFactory(model=model, tenant=globex, effective_to=JANUARY)


def test_inside_a_scope_no_price_is_set_and_the_error_says_where_it_is(model, acme):
    own = ModelPriceFactory(model=model, tenant=acme)

    with tenant_scope(acme):
        for change in (
            lambda: ModelPrice.objects.supersede(
                model, {"input_cost_per_token": "1e-06"}, tenant=acme, reason="cheaper"
            ),
            lambda: set_price(model, {"input_cost_per_token": Decimal("1e-06")}, tenant=acme),
            lambda: end_price(model, tenant=acme, reason="gone"),
        ):
            with pytest.raises(PriceRefused, match="Leave the tenant_scope") as refused:
                change()
            assert refused.value.code == "in_scope"
        assert ModelPrice.objects.get(tenant=acme) == own  # the transaction goes on
    ModelPrice.objects.supersede(model, {"input_cost_per_token": "1e-06"}, tenant=acme, reason="cheaper")


# ---------------------------------------------------------------- setting a price


def test_a_new_price_ends_the_present_one_and_keeps_the_past(model):
    old = ModelPriceFactory(model=model, effective_from=JANUARY)

    new = ModelPrice.objects.supersede(model, DEAR, effective_from=MARCH, reason="Their letter of February")

    old.refresh_from_db()
    assert (old.effective_to, new.effective_to) == (MARCH, None)
    assert model.price_at(FEBRUARY) == old
    assert model.price_at(MARCH) == new


def test_a_new_price_ends_where_a_planned_one_begins(model):
    planned = ModelPriceFactory(model=model, effective_from=APRIL)

    new = ModelPrice.objects.supersede(model, DEAR, effective_from=FEBRUARY, reason="Until April")

    assert new.effective_to == planned.effective_from


def test_a_new_price_takes_the_terms_of_its_provider_unless_it_has_its_own(model):
    type(model.provider).objects.filter(pk=model.provider_id).update(discount_percent=10, margin_percent=5)
    model.provider.refresh_from_db()

    usual = ModelPrice.objects.supersede(model, DEAR, effective_from=FEBRUARY, reason="List")
    own = ModelPrice.objects.supersede(model, DEAR, effective_from=MARCH, reason="Deal", discount_percent=Decimal(20))

    assert (usual.discount_percent, usual.margin_percent) == (10, 5)
    assert (own.discount_percent, own.margin_percent) == (20, 5)


def test_a_providers_new_discount_is_a_new_price_of_each_of_its_models(model, acme):
    present = ModelPriceFactory(model=model, effective_from=JANUARY, effective_to=APRIL)
    planned = ModelPriceFactory(model=model, effective_from=APRIL)
    own = ModelPriceFactory(model=model, tenant=acme)
    elsewhere = ModelPriceFactory()

    count = ModelPrice.objects.apply_terms(
        model.provider, discount_percent=Decimal(10), effective_from=MARCH, reason="Volume"
    )

    assert count == 2
    before, after, later = (model.price_at(at) for at in (FEBRUARY, MARCH, APRIL))
    assert [price.discount_percent for price in (before, after, later)] == [0, 10, 10]
    assert (before, after.effective_to, later.rates) == (present, APRIL, planned.rates)
    planned.refresh_from_db()
    assert planned.void
    assert model.price_at(MARCH, acme) == own
    assert elsewhere.model.price_at(MARCH) == elsewhere


@pytest.mark.django_db(transaction=True)
def test_two_new_prices_at_once_follow_each_other(model):
    ModelPriceFactory(model=model)
    models = [type(model).objects.select_related("provider").get() for _ in range(4)]

    done = together(*(lambda m=m: ModelPrice.objects.supersede(m, DEAR, reason="Both") for m in models))

    assert all(isinstance(price, ModelPrice) for price in done)
    assert ModelPrice.objects.in_force().count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_who_set_a_rate_each_at_once_neither_loses_the_others(model, other_connection):
    ModelPriceFactory(model=model)

    behind(
        lambda: ModelPrice.objects.hold(model),
        lambda: set_price(model, {"output_cost_per_token": Decimal("9e-06")}),
        other_connection,
        lambda: set_price(model, {"input_cost_per_token": Decimal("3e-06")}),
    )

    assert model.price_at(now()).rates == {"input_cost_per_token": "0.000003", "output_cost_per_token": "0.000009"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["price", "terms"])
def test_a_price_that_is_set_while_its_provider_gets_other_terms_has_them(model, first, other_connection):
    ModelPriceFactory(model=model)
    stale = type(model).objects.select_related("provider").get()
    both = {
        "price": lambda: ModelPrice.objects.supersede(stale, DEAR, reason="Announced"),
        "terms": lambda: ModelPrice.objects.apply_terms(model.provider, discount_percent=Decimal(10), reason="Volume"),
    }

    then = behind(both.pop(first), both.popitem()[1], other_connection)

    assert not isinstance(then, Exception)
    price = model.price_at(now())
    assert (price.rates, price.discount_percent) == (DEAR, 10)
    assert ModelPrice.objects.in_force().count() == 1


# ---------------------------------------------------------------- fingerprints


def test_a_fingerprint_sees_values_and_not_how_they_are_written():
    assert fingerprint({"a": "1e-06", "b": "2"}) == fingerprint({"b": "2.0", "a": "0.000001"})
    assert fingerprint({"a": {"b": ["1.0", "x"]}}) == fingerprint({"a": {"b": ["1", "x"]}})
    assert fingerprint({"a": "0"}) == fingerprint({"a": "0.00"}) == fingerprint({"a": "0e-9"})
    assert (
        len({fingerprint(rates) for rates in ({}, {"a": None}, {"a": "0"}, {"a": "1"}, {"a": ["1"]}, {"a": "inf"})})
        == 6
    )


def test_the_columns_to_browse_by_follow_the_rates(model):
    price = ModelPriceFactory(
        model=model, rates={"input_cost_per_token": "4.2000000000000006e-08", "input_cost_per_image": "0.02"}
    )

    price.refresh_from_db()
    assert (price.input_rate, price.image_rate) == (Decimal("0.000000042000000000000006"), Decimal("0.02"))
    assert price.output_rate is None


# ---------------------------------------------------------------- what a call costs


def test_a_call_costs_what_the_price_of_its_instant_says(model, acme):
    cheap = ModelPriceFactory(model=model, rates=CHEAP, effective_from=JANUARY, effective_to=FEBRUARY)
    dear = ModelPriceFactory(model=model, rates=DEAR, effective_from=FEBRUARY)
    own = ModelPriceFactory(model=model, rates=CHEAP, tenant=acme, effective_from=MARCH, discount_percent=Decimal(50))
    used = Usage(prompt_tokens=1000, completion_tokens=500, at=FEBRUARY)

    assert model.cost(used, at=JANUARY).total == Decimal("0.002")
    assert (model.cost(used).total, model.cost(used).price_id) == (Decimal("0.0075"), dear.pk)
    assert (model.cost(used, at=MARCH, tenant=acme).total, own.pk) == (Decimal("0.001"), own.pk)
    assert model.cost(used, at=JANUARY).price_id == cheap.pk


def test_a_call_without_a_price_is_unpriced_and_never_free(model):
    cost = model.cost(Usage(prompt_tokens=1, completion_tokens=1))

    assert (cost.total, cost.status, cost.price_id) == (None, "unpriced", None)
