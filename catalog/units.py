"""How people read and write rates: per million tokens, per image, per minute. Stored they are per single unit. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, Overflow
from typing import Any

ZERO = Decimal(0)
PLACES = 30
"""Most decimal places of a rate: those of the database's columns."""

_EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow])
_TIER = re.compile(r"_(batches|priority|flex|balanced|ultrafast|decisions)$")
_LIMIT = re.compile(r"_above_\w+$")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a rate is for. one: the single unit that rates are stored by; scale: how many of them people count by."""

    one: str
    scale: int = 1
    many: str = ""

    @property
    def per(self) -> str:
        """As it stands behind an amount: `1M tokens`, `image`."""
        return self.many or self.one

    def shown(self, rate: Decimal) -> Decimal:
        """A stored rate as people count it."""
        return _EXACT.multiply(rate, self.scale)

    def stored(self, amount: Decimal) -> Decimal:
        """What people typed as a rate per single unit; a division that does not end is rounded at 30 places."""
        rate = _EXACT.divide(amount, self.scale)
        if -int(rate.as_tuple().exponent) <= PLACES:
            return rate
        return rate.quantize(Decimal(1).scaleb(-PLACES), context=_EXACT)


TOKENS = Unit("token", 1_000_000, "1M tokens")
CHARACTERS = Unit("character", 1_000, "1,000 characters")
MINUTES = Unit("second", 60, "minute")
SECONDS = Unit("second")
_OTHERS = {
    name: Unit(name.replace("_", " ")) for name in ("image", "pixel", "query", "page", "credit", "session", "request")
}


@dataclass(frozen=True, slots=True)
class RateField:
    """A price field that has an input of its own in forms. group: where it stands there."""

    name: str
    label: str
    group: str


RATE_FIELDS = (
    RateField("input_cost_per_token", "Input", "Tokens"),
    RateField("output_cost_per_token", "Output", "Tokens"),
    RateField("cache_read_input_token_cost", "Cache read", "Tokens"),
    RateField("cache_creation_input_token_cost", "Cache write", "Tokens"),
    RateField("cache_creation_input_token_cost_above_1hr", "Cache write, 1 hour", "Tokens"),
    RateField("output_cost_per_reasoning_token", "Reasoning", "Tokens"),
    RateField("input_cost_per_audio_token", "Audio in", "Tokens"),
    RateField("output_cost_per_audio_token", "Audio out", "Tokens"),
    RateField("input_cost_per_token_batches", "Input in a batch", "Tokens"),
    RateField("output_cost_per_token_batches", "Output in a batch", "Tokens"),
    RateField("input_cost_per_image", "Image in", "Images"),
    RateField("output_cost_per_image", "Image made", "Images"),
    RateField("input_cost_per_second", "Audio or video in", "Time"),
    RateField("output_cost_per_second", "Audio or video made", "Time"),
    RateField("input_cost_per_character", "Text to speak", "Characters, queries, pages"),
    RateField("input_cost_per_query", "Query", "Characters, queries, pages"),
    RateField("ocr_cost_per_page", "Page read", "Characters, queries, pages"),
    RateField("annotation_cost_per_page", "Page annotated", "Characters, queries, pages"),
)
NAMED = {field.name: field for field in RATE_FIELDS}

COLUMNS = {
    "input_rate": ("Input", TOKENS),
    "output_rate": ("Output", TOKENS),
    "cache_read_rate": ("Cache read", TOKENS),
    "cache_write_rate": ("Cache write", TOKENS),
    "reasoning_rate": ("Reasoning", TOKENS),
    "batch_input_rate": ("Input in a batch", TOKENS),
    "batch_output_rate": ("Output in a batch", TOKENS),
    "image_rate": ("Image", _OTHERS["image"]),
    "second_rate": ("Second", SECONDS),
    "character_rate": ("Characters", CHARACTERS),
    "query_rate": ("Query", _OTHERS["query"]),
    "page_rate": ("Page", _OTHERS["page"]),
}
"""The generated columns of ModelPrice: label and unit, in the order of lists."""


def unit_of(name: str, mode: str = "") -> Unit | None:
    """The unit of a price field, or of a path into a table; None for what is no amount per unit, as a multiplier.

    mode: of the model, for speech is sold by the minute and video by the second.
    """
    plain = _TIER.sub("", _LIMIT.sub("", _TIER.sub("", name)))
    if plain.endswith(("_token_cost", "_token")):
        return TOKENS
    if plain == "cost_per_second" or "_per_second" in plain:
        return MINUTES if mode.startswith("audio") else SECONDS
    if "_per_character" in plain:
        return CHARACTERS
    found = re.search(r"_per_(image|pixel|query|page|credit|session|request)(?:[_.]|$)", plain)
    return _OTHERS[found[1]] if found else None


def number(text: object) -> Decimal | None:
    """A rate as it is stored, text or missing, as a Decimal; None for what is none."""
    try:
        found = Decimal(str(text)) if isinstance(text, str | int | Decimal) and not isinstance(text, bool) else None
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() else None


def ten_times_off(one: Decimal, other: Decimal) -> bool:
    """Whether a rate is ten times another, or a tenth, or further apart: a slip of the unit is likelier than such a price. 0 is
    that far from all others."""
    return one >= other * 10 or other >= one * 10


def plain(value: Decimal) -> str:
    """Every digit, without an exponent and without zeros at the end: the exact text of a rate."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(value: Decimal, digits: int = 6) -> str:
    """An amount to read: at most so many significant digits, at least two places, thousands grouped; 0 as it is."""
    if not value:
        return "0"
    rounded = Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(value)
    whole, _, places = f"{rounded:,f}".partition(".")
    return f"{whole}.{places.rstrip('0'):0<2}"


def rounded(value: Decimal) -> str:
    """An amount for a column of a list: to four places, to three significant digits below 0.01."""
    if value < Decimal("0.01"):
        return amount(value, 3)
    return amount(value.quantize(Decimal("0.0001"), context=_EXACT), 30)


def leaves(rates: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of rates with its path, tables taken apart: `tiered_pricing[0].input_cost_per_token`."""
    for name, value in rates.items():
        at = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from leaves(value, at)
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            for index, each in enumerate(value):
                yield from leaves(each, f"{at}[{index}]") if isinstance(each, Mapping) else [(f"{at}[{index}]", each)]
        else:
            yield at, value
