"""Forms of prices: rates are typed as people count them and kept as literal text per unit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from catalog import units
from catalog.errors import BadRate
from catalog.models import AIModel, ModelPrice, Provider
from catalog.models.fields import TERMS
from catalog.pricing import Rates
from catalog.pricing.rates import family_of
from controlplane.core.forms import JSONField
from controlplane.core.ids import now

LEAST, MOST = Decimal("1e-10"), Decimal("0.01")
"""US dollars per token between which every price that is asked for lies."""

_LITERAL = re.compile(r"[0-9]{1,40}(\.[0-9]{0,60})?([eE][-+]?[0-9]{1,2})?")


class LiteralNumbers(json.JSONDecoder):
    """Reads each number as the text it was written as: a float would not be the price."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "parse_float": str, "parse_int": str})


class Indented(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2, "ensure_ascii": False})


class AmountField(forms.CharField):
    """An amount of US dollars, typed with a point; a Decimal, or None if empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, "max_length": 60, **options})
        self.widget.attrs |= {"inputmode": "decimal", "autocomplete": "off", "class": "cp-amount"}

    def clean(self, value: Any) -> Any:
        text: str = super().clean(value)
        if not text:
            return None
        try:
            amount = Decimal(text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d*)?", text) else text)
        except InvalidOperation:
            raise ValidationError("Write a number with a point, such as 2.50.", code="invalid") from None
        if not amount.is_finite() or amount < 0:
            raise ValidationError("A rate is a number from 0. Leave it empty if there is none.", code="negative_rate")
        if amount >= 10**9 or (amount and amount.adjusted() < -units.PLACES):
            raise ValidationError("A rate this large or small cannot be kept. Check the unit.", code="too_many_places")
        return amount


Against = Callable[[datetime], Mapping[str, ModelPrice]]


@dataclass(frozen=True, slots=True)
class Row:
    """One rate in the form. scale: how many single units the amount is for. exact: what is stored for what stands in the
    field, per single unit; was: what the price before has, where that is another amount."""

    field: forms.BoundField
    per: str
    one: str
    scale: int
    exact: str
    was: str


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    open: bool
    rows: tuple[Row, ...]


class Moment(forms.DateTimeInput):
    """An instant, to the minute, by the browser's own picker; text where it has none."""

    input_type = "datetime-local"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs, format="%Y-%m-%dT%H:%M")


def reason_field(help_text: str) -> forms.CharField:
    return forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 2, "cols": 60, "class": "vLargeTextField"}),
        help_text=help_text,
        error_messages={"required": "Say why."},
    )  # fmt: skip


class TermsFields(forms.Form):
    """What is taken off and put on a price."""

    discount_percent = AmountField(label="Discount, %", help_text="Off the list price.")
    margin_percent = AmountField(label="Margin, %", help_text="On top, after the discount.")
    margin_fixed = AmountField(label="Margin per call, USD", help_text="On top of each call.")

    def clean_discount_percent(self) -> Decimal:
        return self._at_most("discount_percent", 100)

    def clean_margin_percent(self) -> Decimal:
        return self._at_most("margin_percent", 9999)

    def clean_margin_fixed(self) -> Decimal:
        return self._at_most("margin_fixed", 1000)

    def _at_most(self, name: str, most: int) -> Decimal:
        value: Decimal = self.cleaned_data[name] or Decimal(0)
        if value > most:
            raise ValidationError(f"This is at most {most:,}.", code="invalid")
        return value

    @property
    def terms(self) -> dict[str, Decimal]:
        return {name: self.cleaned_data[name] for name in TERMS}


class PriceForm(TermsFields):
    """A new price of a model, for everybody or a tenant.

    base: the price whose rates it starts from. against: instant → the prices it is compared with, by how they are called.
    seen: what the prices of the model are now. start: from when it is to hold, as typed. A rate that was not touched keeps
    its literal text.
    """

    effective_from = forms.DateTimeField(
        required=False, label="From (UTC)", widget=Moment, help_text="Empty: from now on."
    )
    effective_to = forms.DateTimeField(
        required=False,
        label="Until (UTC)",
        widget=Moment,
        help_text="Empty: until further notice, or until a planned price.",
    )
    rarer = JSONField(
        required=False, label="Rarer rates", decoder=LiteralNumbers, encoder=Indented,
        widget=forms.Textarea(attrs={"rows": 8, "cols": 80, "spellcheck": "false", "class": "cp-code"}),
        help_text="Price fields of the source that have no field above, in US dollars per single unit, as JSON.",
    )  # fmt: skip
    reason = reason_field(help_text="It is kept with the price.")
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    confirmed = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self, data: Any, *, model: AIModel, base: ModelPrice | None, against: Against, seen: str, start: str = ""
    ) -> None:
        self.model, self.against, self.now_seen = model, against, seen
        self.base_rates: dict[str, Any] = dict(base.rates) if base else {}
        self.warnings: list[str] = []
        self.rates: dict[str, Any] = {}
        self.compiled: Rates | None = None
        super().__init__(data, initial=self._start(base or model.provider) | {"seen": seen, "effective_from": start})
        for field in units.RATE_FIELDS:
            self.fields[field.name] = AmountField(label=field.label)

    def _start(self, terms: ModelPrice | Provider) -> dict[str, Any]:
        start: dict[str, Any] = {
            name: _text(rate, self._unit(name))
            for name in units.NAMED
            if (rate := units.number(self.base_rates.get(name))) is not None
        }
        for name in TERMS:
            start[name] = units.plain(getattr(terms, name))
        rest = {name: value for name, value in self.base_rates.items() if name not in units.NAMED}
        return start | {"rarer": rest or None}

    def _unit(self, name: str) -> units.Unit:
        return units.unit_of(name, self.model.mode) or units.TOKENS

    def clean_rarer(self) -> dict[str, Any]:
        """Fields of the source, numbers as text. Those with an input of their own are refused: two would say two things."""
        given = self.cleaned_data["rarer"] or {}
        if not isinstance(given, dict):
            raise ValidationError('Write an object, as {"field": "0.0001"}.', code="invalid")
        for name, value in given.items():
            if name in units.NAMED:
                raise ValidationError(f"{name} has a field above: write it there.", code="duplicate_key")
            text = isinstance(value, str) and name != "web_search_billing_unit"
            if isinstance(value, bool) or (text and not _LITERAL.fullmatch(value)):
                raise ValidationError(f"{name[:80]} is no number from 0. Write it as 0.0001.", code="bad_rate")
        return given

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        start, end = cleaned["effective_from"], cleaned["effective_to"]
        if start and end and end <= start:
            self.add_error("effective_to", ValidationError("A price ends after it begins.", code="invalid"))
        self.rates = self._rates(cleaned)
        if not self.rates:
            raise ValidationError(
                "Give at least one rate: a price without one leaves every call unpriced.", code="invalid"
            )
        if cleaned["seen"] != self.now_seen:
            raise ValidationError(
                "Somebody has set or ended a price of this model meanwhile. What you typed is kept: compare, and save again.",
                code="stale_version",
            )
        try:
            self.compiled = ModelPrice(model=self.model, rates=self.rates, **self.terms).compiled
        except BadRate as refused:
            self.add_error("rarer", ValidationError(refused.message, code=refused.code))
            return cleaned
        self.warnings = list(self._warnings(self.against(start or now())))
        return cleaned

    def _rates(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        rates = dict(cleaned["rarer"])
        for name in units.NAMED:
            if name in self.base_rates and name not in self.changed_data:
                rates[name] = self.base_rates[name]
            elif cleaned[name] is not None:
                rates[name] = units.plain(self._unit(name).stored(cleaned[name]))
        return rates

    def _warnings(self, against: Mapping[str, ModelPrice]) -> Iterator[str]:
        """Sentences about rates that look like a slip, with both numbers: one for each rate."""
        rates = {name: units.number(value) for name, value in units.leaves(self.rates)}
        others = {
            called: {name: units.number(value) for name, value in units.leaves(price.rates)}
            for called, price in against.items()
        }
        for name in dict.fromkeys([*(name for before in others.values() for name in before), *rates]):
            new, unit = rates.get(name), units.unit_of(name, self.model.mode)
            if unit is None:
                continue
            olds = [(called, before.get(name)) for called, before in others.items()]
            found = [self._compared(old, new, called, unit) for called, old in olds if old is not None]
            if told := ", ".join(filter(None, found)):
                lost = ". Calls that need it become unpriced" if new is None else ""
                yield f"{self._called(name)}: {self._shown(new, unit)}, {told}{lost}."
            elif unit == units.TOKENS and new and not LEAST <= new <= MOST:
                yield f"{self._called(name)}: {self._shown(new, unit)} is no usual price of tokens. Is the unit right?"

    def _compared(self, old: Decimal, new: Decimal | None, called: str, unit: units.Unit) -> str:
        """How far a rate is from another one, if too far."""
        had = units.amount(unit.shown(old), 12)
        if old == new or (new and old and not units.ten_times_off(old, new)):
            return ""
        if not new or not old:
            return f"{called} has {had}"
        far = f"{units.amount(new / old, 3)} times" if new > old else f"1/{units.amount(old / new, 3)} of"
        return f"{far} {called} of {had}"

    def _called(self, name: str) -> str:
        return units.NAMED[name].label if name in units.NAMED else name

    def _shown(self, rate: Decimal | None, unit: units.Unit) -> str:
        return "no rate" if rate is None else f"{units.amount(unit.shown(rate), 12)} USD per {unit.per}"

    @property
    def digest(self) -> str:
        """Of the warnings: a tick confirms these and no others."""
        return hashlib.sha256("\n".join(self.warnings).encode()).hexdigest() if self.warnings else ""

    @property
    def settled(self) -> bool:
        """Whether it may be saved: it is valid, and what it warns of has been confirmed."""
        return self.is_valid() and (not self.warnings or self.cleaned_data["confirmed"] == self.digest)

    def groups(self) -> Iterator[Group]:
        """The rates by group. Those that the price has, or its mode asks for, are open."""
        for title in dict.fromkeys(field.group for field in units.RATE_FIELDS):
            rows = tuple(self._row(field.name) for field in units.RATE_FIELDS if field.group == title)
            used = any(row.field.value() or row.field.errors for row in rows)
            yield Group(title, used or (title == "Tokens" and not self.base_rates), rows)

    def _row(self, name: str) -> Row:
        unit, bound = self._unit(name), self[name]
        text = bound.value() or ""
        untouched = text == self.initial.get(name) and name in self.base_rates
        try:
            rate = units.number(self.base_rates[name]) if untouched else None
            rate = rate if rate is not None or not text else unit.stored(AmountField().clean(text))
        except ValidationError:
            rate = None
        exact = "" if rate is None else f"{units.plain(rate)} per {unit.one}"
        before = self.initial.get(name, "")
        was = f"was {before or 'empty'}" if self.is_bound and text != before else ""
        return Row(bound, unit.per, unit.one, unit.scale, exact, was)


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    """A provider, whose family of pricing rules is one that there is."""

    class Meta:
        model = Provider
        exclude: tuple[str, ...] = ()

    def clean_family(self) -> str:
        family: str = self.cleaned_data["family"]
        if family and family_of(family) != family:
            raise ValidationError(
                "This is no family of pricing rules. Use one as openai, or leave it empty.", code="invalid"
            )
        return family


class ReasonForm(forms.Form):
    """Why something is done."""

    reason = reason_field(help_text="It is kept with what is booked, and in the audit log.")


class TermsForm(TermsFields):
    """Discount and margin of a provider, for its list prices from an instant on."""

    effective_from = forms.DateTimeField(
        required=False, label="From (UTC)", widget=Moment, help_text="Empty: from now on."
    )
    reason = reason_field(help_text="It is kept with each price.")
    previewed = forms.CharField(required=False, widget=forms.HiddenInput)


def _text(rate: Decimal, unit: units.Unit) -> str:
    """A stored rate as it stands in the form: twelve digits, which hides what a float left behind."""
    return units.amount(unit.shown(rate), 12).replace(",", "")
