from __future__ import annotations

from decimal import Decimal
from functools import partial

from django.contrib.postgres.fields import DateTimeRangeField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

TERMS = ("discount_percent", "margin_percent", "margin_fixed")
"""The columns of Provider that its new prices begin with, and of ModelPrice, where they stay."""

percent_field = partial(
    models.DecimalField,
    max_digits=8,
    decimal_places=4,
    default=Decimal(0),
    db_default=Decimal(0),
    validators=[MinValueValidator(Decimal(0))],
)
"""A discount or margin, in percent."""

money_field = partial(
    models.DecimalField,
    max_digits=24,
    decimal_places=12,
    default=Decimal(0),
    db_default=Decimal(0),
    validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(1000))],
)
"""US dollars per call."""


class Period(models.Func):
    """tstzrange(start, end, bounds): the time in which a price holds."""

    function = "tstzrange"
    output_field = DateTimeRangeField()


class PlainRates(models.Func):
    """Whether jsonb holds rates as the database takes them: cp_catalog_plain_rates."""

    function = "cp_catalog_plain_rates"
    output_field = models.BooleanField()


def terms_check(name: str) -> models.CheckConstraint:
    """A CHECK: the discount is 0 to 100 percent, the margins are not negative. numeric would take NaN."""
    return models.CheckConstraint(
        condition=models.Q(
            discount_percent__range=(Decimal(0), Decimal(100)),
            margin_percent__range=(Decimal(0), Decimal(9999)),
            margin_fixed__range=(Decimal(0), Decimal(1000)),
        ),
        name=name,
        violation_error_message="A discount is 0 to 100 percent, a margin 0 to 9,999 percent and 0 to 1,000 US dollars a call.",
    )
