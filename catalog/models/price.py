from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Self
from uuid import UUID

import psycopg
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeBoundary, RangeOperators
from django.db import IntegrityError, models, transaction
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, Greatest

from catalog.errors import PriceFrozen, PriceOverlap, PriceRefused
from catalog.models.fields import TERMS, Period, PlainRates, money_field, percent_field, terms_check
from catalog.models.model import AIModel
from catalog.models.price_import import PriceImport
from catalog.models.provider import Provider
from catalog.models.remembered import Remembered
from catalog.pricing import Rates
from controlplane.core.constraints import json_object
from controlplane.core.fields import created_at_field, id_field
from controlplane.core.ids import now
from tenants.models import Tenant
from tenants.scope import current_scope


def _rate(*names: str, what: str) -> models.GeneratedField:
    """A column made from the first of these rates that is present: to browse and sort, never to price."""
    casts = [
        Cast(KeyTextTransform(name, "rates"), models.DecimalField(max_digits=40, decimal_places=30)) for name in names
    ]
    return models.GeneratedField(
        expression=casts[0] if len(casts) == 1 else Coalesce(*casts),
        output_field=models.DecimalField(max_digits=40, decimal_places=30),
        db_persist=True,
        db_comment=f"US dollars per {what}; NULL: no such rate",
    )


_EXACT = Context(prec=100)  # the usual one has 28 digits: rates that differ behind them would be taken for the same
SANE = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
_PERIOD = (Period("effective_from", "effective_to", RangeBoundary()), RangeOperators.OVERLAPS)
_OVERLAP = "Another price of this model holds in that time. End it first, or choose another time."


class ModelPriceQuerySet(models.QuerySet["ModelPrice"]):
    def listed(self) -> Self:
        """List prices: for all tenants."""
        return self.filter(tenant=None)

    def for_tenant(self, tenant: Tenant | UUID) -> Self:
        """The tenant's own prices and the list prices."""
        return self.filter(models.Q(tenant=tenant) | models.Q(tenant=None))

    def in_force(self, instant: datetime | None = None) -> Self:
        """Prices that hold at the instant (aware); None: now."""
        at = instant or now()
        return self.filter(effective_from__lte=at).exclude(effective_to__lte=at)

    def at(self, instant: datetime, tenant: Tenant | UUID | None = None) -> ModelPrice | None:
        """The one price, of a queryset over one model, that holds at the instant: the tenant's own, else the list price."""
        rows = self.in_force(instant).select_related("model__provider")
        own = models.F("tenant").asc(nulls_last=True)
        return (rows.listed() if tenant is None else rows.for_tenant(tenant)).order_by(own).first()


class ModelPriceManager(models.Manager.from_queryset(ModelPriceQuerySet)):  # type: ignore[misc]  # made at run time
    def hold(self, model: AIModel) -> AIModel:
        """The model and its provider as they are; until the transaction ends nobody else sets its prices, or other terms of
        its provider. Whoever sets prices holds models first, then providers, then writes. Raises PriceRefused in_scope: models
        are everybody's, and a tenant_scope has no right to hold one."""
        if current_scope() is not None:
            raise PriceRefused("in_scope")
        rows = AIModel.objects.using(self.db).select_related("provider")
        held: AIModel = rows.select_for_update(no_key=True, of=("self", "provider")).get(pk=model.pk)
        return held

    def supersede(
        self,
        model: AIModel,
        rates: Mapping[str, Any],
        *,
        tenant: Tenant | None = None,
        effective_from: datetime | None = None,
        reason: str,
        source: str = "manual",
        **terms: Any,
    ) -> ModelPrice:
        """End the price in force at `effective_from` (aware; None: now) and let these rates follow it.

        rates: the source's price fields, numbers as text in US dollars per unit. terms: discount_percent, margin_percent,
        margin_fixed (the provider's where left out), version, price_import. The new price ends where one that is already
        planned begins. In one transaction; two at once for a model follow each other. Raises PriceOverlap for a time that
        another price keeps, PriceRefused in_scope inside a tenant_scope, IntegrityError or DataError for rates that the
        database does not take: who takes them from people uses `catalog.setting.set_price`, which says what is wrong.
        """
        with transaction.atomic(using=self.db):
            provider = self.hold(model).provider
            start = effective_from or now()  # after those who held it
            prices = self.filter(model=model, tenant=tenant)
            following = prices.filter(effective_from__gt=start).exclude(effective_to=models.F("effective_from"))
            price = ModelPrice(
                model=model, tenant=tenant, rates=dict(rates), effective_from=start, reason=reason, source=source,
                effective_to=following.order_by("effective_from").values_list("effective_from", flat=True).first(),
            )  # fmt: skip
            for name in TERMS:
                setattr(price, name, getattr(provider, name))
            for name, value in terms.items():
                setattr(price, name, value)
            prices.in_force(start).update(effective_to=start)
            price.save(force_insert=True)
        return price

    def apply_terms(
        self, provider: Provider, *, reason: str, effective_from: datetime | None = None, **terms: Decimal
    ) -> int:
        """Give a provider other discount_percent, margin_percent or margin_fixed, and its list prices with them.

        Prices in force at `effective_from` (aware; None: now) end there and go on with the new terms, planned ones are
        voided and planned again: the price alone tells what a call cost. Prices of tenants stay. Returns how many
        prices follow. In one transaction.
        """
        with transaction.atomic(using=self.db):
            Provider.objects.using(self.db).select_for_update(no_key=True).get(pk=provider.pk)
            start = effective_from or now()
            for name, value in terms.items():
                setattr(provider, name, value)
            provider.save(using=self.db, update_fields=list(terms))
            old = list(
                self.listed().filter(model__provider=provider).exclude(effective_to__lte=start)
                .exclude(effective_to=models.F("effective_from")).select_for_update(no_key=True, of=("self",))
            )  # fmt: skip
            new = [price.continued(max(start, price.effective_from), reason=reason, **terms) for price in old]
            self.filter(pk__in=[price.pk for price in old]).update(
                effective_to=Greatest(models.F("effective_from"), models.Value(start))
            )
            self.bulk_create(new, batch_size=500)
        return len(new)


class ModelPrice(Remembered):
    """What a model costs from one instant to another: for everybody (no tenant), or for one tenant instead of that.

    Immutable from the insert, by a trigger: only its end and reason change, so what was billed stays explained. A wrong
    price is ended, or voided (ends where it begins, never effective), and a new row inserted. Written by operators and
    the price import. `rates` is the truth; the generated columns are for lists.
    """

    id = id_field()
    model = models.ForeignKey(AIModel, models.PROTECT, related_name="prices", db_index=False, db_comment="Whose price")
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, null=True, blank=True, db_index=False, related_name="+",
        help_text="Empty: the list price, for everybody.", db_comment="NULL: the list price",
    )  # fmt: skip
    effective_from = models.DateTimeField(default=now, db_comment="From when it holds")
    effective_to = models.DateTimeField(
        null=True, blank=True, help_text="Empty: until further notice.", db_comment="Until when, exclusive; NULL: open"
    )
    rates = models.JSONField(
        default=dict, blank=True, db_comment="The source's price fields, numbers as literal text, per unit"
    )
    discount_percent = percent_field("discount", help_text="Percent off.", db_comment="Percent off")
    margin_percent = percent_field(
        "margin", help_text="Percent on top, after the discount.", db_comment="Percent on top, after the discount"
    )
    margin_fixed = money_field(
        "margin per call", help_text="US dollars on top of each call.", db_comment="US dollars on top of each call"
    )
    source = models.CharField(max_length=500, default="manual", db_comment="manual, or where it was imported from")
    version = models.CharField(max_length=200, blank=True, default="", db_comment="What the source calls this state")
    fingerprint = models.CharField(max_length=64, editable=False, db_comment="SHA-256 of the rates by value")
    price_import = models.ForeignKey(
        PriceImport,
        models.PROTECT,
        null=True,
        editable=False,
        related_name="prices",
        db_comment="The import that made it",
    )
    reason = models.CharField(max_length=500, blank=True, default="", db_comment="Why it was set or ended")
    created_at = created_at_field()
    input_rate = _rate("input_cost_per_token", what="input token")
    output_rate = _rate("output_cost_per_token", what="output token")
    cache_read_rate = _rate("cache_read_input_token_cost", what="token read from a cache")
    cache_write_rate = _rate("cache_creation_input_token_cost", what="token written to a cache")
    reasoning_rate = _rate("output_cost_per_reasoning_token", what="reasoning token")
    batch_input_rate = _rate("input_cost_per_token_batches", what="input token in a batch")
    batch_output_rate = _rate("output_cost_per_token_batches", what="output token in a batch")
    image_rate = _rate("output_cost_per_image", "input_cost_per_image", what="image")
    second_rate = _rate("output_cost_per_second", "input_cost_per_second", what="second")
    character_rate = _rate("input_cost_per_character", what="character")
    query_rate = _rate("input_cost_per_query", what="query")
    page_rate = _rate("ocr_cost_per_page", what="page")

    objects = ModelPriceManager()

    class Meta:
        verbose_name = "price"
        db_table_comment = "What a model costs from one instant to another, for everybody or one tenant"
        indexes = [models.Index(fields=["model", "-effective_from"], name="modelprice_model_from_idx")]
        constraints = [
            ExclusionConstraint(
                name="cp_catalog_modelprice_one_list_price",
                expressions=[("model", RangeOperators.EQUAL), _PERIOD],
                condition=models.Q(tenant=None),
                violation_error_code="price_overlap",
                violation_error_message=_OVERLAP,
            ),
            ExclusionConstraint(
                name="cp_catalog_modelprice_one_tenant_price",
                expressions=[("model", RangeOperators.EQUAL), ("tenant", RangeOperators.EQUAL), _PERIOD],
                condition=models.Q(tenant__isnull=False),
                violation_error_code="price_overlap",
                violation_error_message=_OVERLAP,
            ),
            models.CheckConstraint(
                condition=models.Q(effective_to__gte=models.F("effective_from")),
                name="cp_catalog_modelprice_ends_after_start",
                violation_error_message="A price cannot end before it begins. Choose a later end, or the beginning to void it.",
            ),
            # what the database takes beyond that, Python cannot read back
            models.CheckConstraint(
                condition=models.Q(effective_from__range=SANE)
                & (models.Q(effective_to=None) | models.Q(effective_to__range=SANE)),
                name="cp_catalog_modelprice_in_our_time",
                violation_error_message="A price begins and ends between the years 2000 and 2200.",
            ),
            models.CheckConstraint(
                condition=models.Q(fingerprint__regex="^[0-9a-f]{64}$"), name="cp_catalog_modelprice_fingerprint_is_hex"
            ),
            terms_check("cp_catalog_modelprice_terms_are_sane"),
            json_object("rates", "cp_catalog_modelprice_rates_is_object"),
            models.CheckConstraint(
                condition=models.Q(PlainRates(models.F("rates"))),
                name="cp_catalog_modelprice_rates_are_plain",
                violation_error_message="A rate is a decimal number from 0, as text, in US dollars per unit.",
            ),
        ]

    def __str__(self) -> str:
        model = self.model if "model" in self._state.fields_cache else self.model_id  # no query for a name
        return f"{model} from {self.effective_from:%Y-%m-%d}"

    def save(self, **kwargs: Any) -> None:
        self.fingerprint = fingerprint(self.rates)
        with _explained():
            super().save(**kwargs)

    def delete(self, using: Any = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        with _explained():
            return super().delete(using, keep_parents)

    def end(self, at: datetime | None = None, *, reason: str) -> None:
        """Let the price hold until `at` (aware; None: now); its beginning voids it. Raises PriceOverlap, where another
        price holds in the time it would gain, PriceRefused("bad_end") for an end before the beginning."""
        self.effective_to, self.reason = at or now(), reason
        with _explained(), transaction.atomic(using=self._state.db):
            super().save(update_fields=["effective_to", "reason"])

    def continued(self, start: datetime, *, reason: str, **terms: Any) -> ModelPrice:
        """A price that is not yet saved: this one from `start` on to this one's end, with other terms."""
        kept = {
            name: getattr(self, name)
            for name in (
                "model_id", "tenant_id", "effective_to", "rates", *TERMS, "source",
                "version", "fingerprint", "price_import_id",
            )
        }  # fmt: skip
        return ModelPrice(**kept | terms, effective_from=start, reason=reason)

    @property
    def void(self) -> bool:
        """Whether it never holds."""
        return self.effective_to == self.effective_from

    def in_force(self, instant: datetime) -> bool:
        """Whether it holds at the instant (aware)."""
        return self.effective_from <= instant and (self.effective_to is None or instant < self.effective_to)

    @cached_property
    def compiled(self) -> Rates:
        """The rates as `catalog.pricing.cost` takes them. Needs `model.provider`."""
        model = self.model
        return Rates.from_entry(
            self.rates,
            model.provider,
            source_provider=model.source_provider or None,
            mode=model.mode,
            key=model.key,
            discount_percent=self.discount_percent,
            margin_percent=self.margin_percent,
            margin_fixed=self.margin_fixed,
            price_id=self.pk,
        )


def fingerprint(rates: Mapping[str, Any]) -> str:
    """SHA-256 of the rates, hexadecimal: the same for the same fields and values, however the numbers are written."""
    return hashlib.sha256(json.dumps(_by_value(rates), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _by_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _by_value(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_by_value(inner) for inner in value]
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return value
    return value if number is None or not number.is_finite() else str(_EXACT.add(number.normalize(_EXACT), Decimal(0)))


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what the database refuses as the catalog's own errors."""
    try:
        yield
    except IntegrityError as error:
        name = _constraint(error)
        if name in ("cp_catalog_modelprice_one_list_price", "cp_catalog_modelprice_one_tenant_price"):
            raise PriceOverlap from error
        if name == "cp_catalog_modelprice_ends_after_start":
            raise PriceRefused("bad_end") from error
        if name == "cp_catalog_modelprice_is_frozen":
            raise PriceFrozen from error
        raise


def _constraint(error: IntegrityError) -> str | None:
    cause = error.__cause__
    return cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None
