"""Lists and pages of models, prices and providers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from auditing.models import AuditLog
from catalog.models import AIModel, ModelPrice, Provider
from controlplane.core.ids import now
from tests.admin_rows import Page
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, OperatorFactory, ProviderFactory

pytestmark = pytest.mark.django_db

MODELS = reverse("admin:cp_catalog_aimodel_changelist")
PRICES = reverse("admin:cp_catalog_modelprice_changelist")
JANUARY, MARCH = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 3))


@pytest.fixture
def operator(client):
    client.force_login(OperatorFactory())
    return client


@pytest.fixture
def clerk(client):
    """Staff who may look and not touch."""
    user = OperatorFactory(is_superuser=False)
    names = [f"view_{name}" for name in ("provider", "aimodel", "modelalias", "modelprice", "priceimport")]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return client


def priced(name, /, more=None, **model):
    """A model with a list price; more: rates beside or instead of 2 in and 8 out."""
    found = AIModelFactory(name=name, **model)
    rates = {"input_cost_per_token": "2e-06", "output_cost_per_token": "8e-06"} if more is None else more
    ModelPriceFactory(model=found, rates=rates)
    return found


def shown(operator, url, **query):
    """The rows of a list, by name."""
    answer = operator.get(url, query)
    assert answer.status_code == 200
    assert Page(answer).faults == []
    return [str(row) for row in answer.context["cl"].result_list]


def change(model):
    return reverse("admin:cp_catalog_aimodel_change", args=[model.pk])


# ---------------------------------------------------------------- the list of models


def test_the_list_shows_the_list_price_in_force_per_million_tokens(operator, acme):
    model = AIModelFactory(name="gpt")
    ModelPriceFactory(model=model, effective_to=MARCH)
    ModelPriceFactory(model=model, effective_from=MARCH, rates={"input_cost_per_token": "1.5e-06"})
    ModelPriceFactory(model=model, tenant=acme, rates={"input_cost_per_token": "7e-06"})
    ModelPriceFactory(model=model, effective_from=MARCH, effective_to=MARCH, rates={"input_cost_per_token": "9e-06"})

    page = operator.get(MODELS).content.decode()

    assert "1.50" in page
    assert not {"2.00", "7.00", "9.00"} & set(page.replace("<", ">").split(">"))


def test_other_units_stand_in_a_cell_of_their_own(operator):
    priced("painter", {"output_cost_per_image": "0.04"}, mode="image_generation")
    priced("reader", {"ocr_cost_per_page": "0.003"}, mode="ocr")

    page = operator.get(MODELS).content.decode()

    assert "0.04 / image" in page
    assert "0.003 / page" in page


def test_models_are_found_by_provider_mode_and_abilities(operator):
    openai = ProviderFactory(slug="openai")
    AIModelFactory(name="sees", provider=openai, supports_vision=True)
    AIModelFactory(name="both", provider=openai, supports_vision=True, supports_reasoning=True)
    AIModelFactory(name="blind", mode="embedding", supports_vision=False)
    AIModelFactory(name="unsaid", mode="")

    assert shown(operator, MODELS, provider="openai") == ["both", "sees"]
    assert shown(operator, MODELS, mode="embedding") == ["blind"]
    assert shown(operator, MODELS, mode="-") == ["unsaid"]
    assert shown(operator, MODELS, ability="vision") == ["both", "sees"]
    assert shown(operator, MODELS, ability="vision,reasoning") == ["both"]
    assert len(shown(operator, MODELS, ability="nonsense")) == 4


def test_an_ability_turns_itself_on_and_off(operator):
    AIModelFactory(supports_vision=True)

    on = operator.get(MODELS, {"ability": "vision"})
    (spec,) = [spec for spec in on.context["cl"].filter_specs if spec.title == "ability"]
    links = {choice["display"]: choice["query_string"] for choice in spec.choices(on.context["cl"])}

    assert links["vision"] == "?"
    assert links["reasoning"] == "?ability=vision%2Creasoning"
    assert "Ability: <b>vision</b>" in on.content.decode()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"price": "input_rate", "price_from": "1"}, ["dear", "middle"]),
        ({"price": "input_rate", "price_to": "1"}, ["free"]),
        ({"price": "input_rate", "price_from": "2", "price_to": "2"}, ["middle"]),
        ({"price": "input_rate", "price_from": "0", "price_to": "0"}, ["free"]),
        ({"price": "output_rate", "price_from": "70"}, ["dear"]),
        ({"price": "image_rate", "price_to": "0.04"}, ["painter"]),
        ({"price": "nonsense", "price_from": "10"}, ["dear"]),
    ],
)
def test_models_are_found_by_a_range_of_their_price(operator, query, names):
    priced("free", {"input_cost_per_token": "0.0", "output_cost_per_token": "0.0"})
    priced("middle")
    priced("dear", {"input_cost_per_token": "1.5e-05", "output_cost_per_token": "7.5e-05"})
    priced("painter", {"output_cost_per_image": "0.04"})
    AIModelFactory(name="unpriced")

    assert shown(operator, MODELS, **query) == names


def test_a_bound_that_is_no_number_is_named_and_left_out(operator):
    priced("one")

    answer = operator.get(MODELS, {"price_from": "dear", "price_to": "5"})

    assert "The bound that is none has been left out." in answer.content.decode()
    assert len(answer.context["cl"].result_list) == 1


def test_the_range_form_keeps_the_other_filters(operator):
    priced("one")

    page = Page(operator.get(MODELS, {"mode": "chat", "q": "on", "price_to": "5"}))

    hidden = {
        given["name"]: given["value"]
        for tag, given, form in page.tags
        if tag == "input" and given.get("type") == "hidden" and form
    }
    assert {"mode": "chat", "q": "on"}.items() <= hidden.items()


def test_models_are_found_by_status_and_by_having_a_price(operator):
    today = timezone.now().date()
    priced("active")
    AIModelFactory(name="soon", deprecation_date=today + timedelta(days=30))
    AIModelFactory(name="later", deprecation_date=today + timedelta(days=300))
    AIModelFactory(name="past", deprecation_date=today)
    AIModelFactory(name="gone", unlisted_at=now())
    AIModelFactory(name="off", enabled=False)
    AIModelFactory(name="shut", provider=ProviderFactory(enabled=False))
    ModelPriceFactory(model=AIModelFactory(name="empty"), rates={})

    assert shown(operator, MODELS, status="soon") == ["soon"]
    assert shown(operator, MODELS, status="deprecated") == ["past"]
    assert shown(operator, MODELS, status="unlisted") == ["gone"]
    assert shown(operator, MODELS, status="disabled") == ["off", "shut"]
    assert shown(operator, MODELS, status="active") == ["active", "empty", "later", "soon"]
    assert shown(operator, MODELS, priced="yes") == ["active"]
    assert shown(operator, MODELS, priced="no") == ["empty", "gone", "later", "off", "past", "shut", "soon"]


@pytest.mark.parametrize(("order", "names"), [("5", ["cheap", "dear", "none"]), ("-5", ["dear", "cheap", "none"])])
def test_models_without_a_rate_come_last_whichever_way(operator, order, names):
    priced("cheap")
    priced("dear", {"input_cost_per_token": "3e-05"})
    AIModelFactory(name="none")

    assert shown(operator, MODELS, o=order) == names


# ---------------------------------------------------------------- the page of a model


def test_the_page_of_a_model_shows_what_it_costs_now_and_over_time(operator, acme):
    model = priced("gpt")
    ModelPrice.objects.supersede(model, {"input_cost_per_token": "1e-06"}, effective_from=MARCH, reason="cheaper")
    ModelPrice.objects.supersede(model, {"input_cost_per_token": "9e-07"}, tenant=acme, reason="contract 4711")

    answer = operator.get(change(model))
    page = answer.content.decode()

    assert Page(answer).faults == []
    assert "List price since 2026-03-01" in page
    assert "0.000001 per token" in page
    assert "Price of gpt, 2026-01-01 to" in page  # what a person who does not see the picture is told
    assert "Acme: Input" in page
    assert "contract 4711" in page
    assert "-50.0 %" in page


def test_a_model_without_a_price_says_what_that_means(operator):
    model = AIModelFactory(name="new")

    page = operator.get(change(model)).content.decode()

    assert "No list price" in page
    assert "Calls of this model are unpriced" in page
    assert "Set a price" in page
    assert "Copy the list price" not in page


def test_who_may_only_look_gets_no_way_to_set_a_price(clerk):
    model = priced("gpt")

    page = clerk.get(change(model)).content.decode()

    assert "List price since 2026-01-01" in page
    assert "End and replace" not in page
    assert clerk.get(reverse("admin:cp_catalog_modelprice_add")).status_code == 403


def test_prices_of_every_kind_of_unit_are_drawn(operator):
    model = priced(
        "speaks", {"input_cost_per_character": "1.5e-05", "input_cost_per_token": "1e-06"}, mode="audio_speech"
    )

    page = operator.get(change(model)).content.decode()

    assert "in USD per 1M tokens" in page
    assert "in USD per 1,000 characters" in page


def test_a_model_is_disabled_with_a_reason_that_the_audit_log_keeps(operator):
    model = AIModelFactory()
    asked = {"action": "disable", "_selected_action": str(model.pk)}

    assert "refused as model_disabled" in operator.post(MODELS, asked).content.decode()
    operator.post(MODELS, asked | {"cp_reason": "too dear"})

    assert not AIModel.objects.get(pk=model.pk).enabled
    assert AuditLog.objects.filter(resource_id=str(model.pk), reason="too dear").exists()


def test_aliases_stand_on_the_page_of_their_model(operator):
    alias = ModelAliasFactory(alias="quick")

    assert "quick" in operator.get(change(alias.model)).content.decode()


def test_who_redirects_a_tenants_calls_of_a_key_is_told(operator, acme):
    ModelPriceFactory(model=AIModelFactory(name="hidden", key="hidden"))
    target = AIModelFactory(key="target")
    typed = {"alias": "hidden", "model": "target", "tenant": "acme", "enabled": "on", "note": ""}

    answer = operator.post(reverse("admin:cp_catalog_modelalias_add"), typed, follow=True)

    assert target.aliases.get().tenant == acme
    assert "Acme&#x27;s calls of it now go to target." in answer.content.decode()


# ---------------------------------------------------------------- prices


def test_the_list_of_prices_hides_what_is_void_until_asked(operator):
    model = AIModelFactory(name="gpt")
    ModelPriceFactory(model=model, effective_to=MARCH)
    ModelPriceFactory(model=model, effective_from=MARCH)
    ModelPriceFactory(model=AIModelFactory(name="void"), effective_to=JANUARY)
    ModelPriceFactory(model=AIModelFactory(name="soon"), effective_from=now() + timedelta(days=9))

    counts = {when: len(shown(operator, PRICES, when=when)) for when in ("now", "planned", "ended", "void", "any")}

    assert counts == {"now": 1, "planned": 1, "ended": 1, "void": 1, "any": 4}
    assert len(shown(operator, PRICES)) == 3


def test_prices_are_found_by_owner_model_source_and_how_far_they_moved(operator, acme):
    gpt, other = priced("gpt"), priced("other")
    ModelPrice.objects.supersede(gpt, {"input_cost_per_token": "1.9e-06"}, effective_from=MARCH, reason="a little")
    ModelPrice.objects.supersede(gpt, {"input_cost_per_token": "1e-06"}, tenant=acme, reason="own")
    ModelPrice.objects.supersede(other, {"input_cost_per_token": "1e-06"}, reason="half", source="prices.json")

    assert len(shown(operator, PRICES, **{"for": "list"})) == 4
    assert len(shown(operator, PRICES, **{"for": "own"})) == len(shown(operator, PRICES, **{"for": "acme"})) == 1
    assert len(shown(operator, PRICES, model="gpt")) == 3
    assert len(shown(operator, PRICES, source="import")) == 1
    assert [row.split()[0] for row in shown(operator, PRICES, moved="10")] == ["other"]
    assert len(shown(operator, PRICES, provider=gpt.provider.slug)) == 3


def test_the_page_of_a_price_has_no_input(operator):
    price = ModelPriceFactory(rates={"input_cost_per_token": "2e-06", "tiered_pricing": [{"range": ["0", "9"]}]})

    answer = operator.get(reverse("admin:cp_catalog_modelprice_change", args=[price.pk]))
    typed = [name for tag, name, kind in Page(answer).writing_inputs() if tag != "button" and kind != "hidden"]

    assert typed == []
    assert "0.000002 per token" in answer.content.decode()
    assert "tiered_pricing[0].range" in answer.content.decode()
    assert str(price.model) in answer.content.decode()


@pytest.mark.parametrize(("action", "end"), [("end_now", None), ("void", JANUARY)])
def test_a_price_is_ended_and_voided_with_a_reason(operator, action, end):
    price = ModelPriceFactory()
    asked = {"action": action, "_selected_action": str(price.pk)}

    assert str(price.model) in operator.post(PRICES, asked).content.decode()
    operator.post(PRICES, asked | {"cp_reason": "a slip"})

    price.refresh_from_db()
    assert price.effective_to == end or (end is None and price.effective_to <= now())
    assert price.reason == "a slip"
    assert AuditLog.objects.filter(resource_id=str(price.pk), reason="a slip").exists()


# ---------------------------------------------------------------- providers


@pytest.mark.parametrize(("family", "status"), [("openai", 302), ("", 302), ("magic", 200)])
def test_a_provider_follows_the_rules_of_a_family_that_there_is(operator, family, status):
    typed = {"name": "New", "slug": "new", "family": family, "metadata": "{}", "enabled": "on"}

    answer = operator.post(reverse("admin:cp_catalog_provider_add"), typed)

    assert answer.status_code == status
    assert (status == 302) == Provider.objects.filter(slug="new").exists()


def terms(provider):
    return reverse("admin:cp_catalog_provider_terms", args=[provider.pk])


TYPED = {
    "discount_percent": "10",
    "margin_percent": "2.5",
    "margin_fixed": "0",
    "effective_from": "",
    "reason": "new contract",
}


def test_terms_are_shown_before_they_are_applied(operator, acme):
    model = priced("gpt")
    ModelPriceFactory(model=model, tenant=acme)
    ModelPriceFactory(model=model, effective_from=MARCH, effective_to=MARCH)

    preview = operator.post(terms(model.provider), TYPED)
    digest = preview.context["digest"]

    assert dict(preview.context["following"]) == {
        "List prices that end and go on with these terms": "1",
        "Planned list prices that are planned anew": "0",
        "Tenants' own prices, which stay as they are": "1",
    }
    assert ModelPrice.objects.listed().in_force().get().discount_percent == 0

    operator.post(terms(model.provider), TYPED | {"_apply": "Apply", "previewed": digest})

    price = ModelPrice.objects.listed().in_force().get()
    assert (price.discount_percent, price.margin_percent, price.reason) == (10, Decimal("2.5"), "new contract")
    assert ModelPrice.objects.in_force().get(tenant=acme).discount_percent == 0


def test_other_numbers_than_those_shown_are_shown_first(operator):
    model = priced("gpt")
    digest = operator.post(terms(model.provider), TYPED).context["digest"]

    answer = operator.post(
        terms(model.provider), TYPED | {"discount_percent": "90", "_apply": "Apply", "previewed": digest}
    )

    assert answer.status_code == 200
    assert answer.context["digest"] != digest
    assert ModelPrice.objects.get().discount_percent == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("discount_percent", "101"), ("discount_percent", "-1"), ("discount_percent", "x"), ("margin_percent", "99999"),
        ("margin_fixed", "1e99"), ("margin_fixed", "NaN"), ("effective_from", "tomorrow"), ("reason", ""), ("reason", "  "),
    ],
)  # fmt: skip
def test_terms_that_are_none_are_refused_where_they_were_typed(operator, field, value):
    provider = ProviderFactory()

    answer = operator.post(terms(provider), TYPED | {field: value, "_apply": "Apply"})

    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    provider.refresh_from_db()
    assert provider.margin_percent == 0


def test_who_may_not_set_prices_sets_no_terms(clerk):
    provider = ProviderFactory()

    assert clerk.get(terms(provider)).status_code == 403
    assert clerk.post(terms(provider), TYPED).status_code == 403
