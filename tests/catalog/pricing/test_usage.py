from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UsageError
from catalog.pricing import Usage
from catalog.pricing.usage import KINDS, MAX_COUNT, MAX_PLACES

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)
COLUMNS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
OF_TYPE = {
    "int": st.integers(0, MAX_COUNT),
    "Decimal": st.decimals(0, 10**6, places=MAX_PLACES),
    "str": st.text(max_size=20),
    "bool": st.booleans(),
}


@dataclass
class Row:
    created_at: datetime = NOON
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    other_units: dict[str, Any] | None = None


def of_type(*names):
    return [field.name for field in fields(Usage) if str(field.type).removesuffix(" | None") in names]


usages = st.builds(
    Usage,
    at=st.just(NOON),
    **{
        field.name: st.sampled_from(sorted(KINDS))
        if field.name == "kind"
        else OF_TYPE[field.type.removesuffix(" | None")]
        for field in fields(Usage)
        if field.name != "at"
    },
)


@given(usages)
def test_a_usage_survives_the_columns_and_units_of_a_row(usage):
    kept = json.loads(json.dumps(usage.other_units))
    row = Row(other_units=kept, **{name: getattr(usage, name) for name in COLUMNS})

    assert Usage.from_row(row) == usage


def test_other_units_are_the_used_fields_without_a_column():
    usage = Usage(prompt_tokens=5, at=NOON, images=2, audio_seconds=Decimal("1.50"), batch=True, pages=0, videos=0)

    assert usage.other_units == {"batch": True, "images": 2, "audio_seconds": "1.50", "pages": 0, "videos": 0}


def test_a_call_of_text_alone_has_no_other_units():
    assert Usage(prompt_tokens=5, completion_tokens=2, at=NOON).other_units == {}


def test_what_a_row_does_not_know_counts_as_not_used():
    assert Usage.from_row(Row(other_units={"images": None})) == Usage(at=NOON)


@pytest.mark.parametrize("text", ["1.5", 1.5, "1.50"])
def test_a_row_may_hold_seconds_as_text_or_number(text):
    assert Usage.from_row(Row(other_units={"audio_seconds": text})).audio_seconds == Decimal("1.5")


@pytest.mark.parametrize("name", ["tokens", "prompt_tokens", "at", "__class__", ""])
def test_a_row_with_a_unit_of_another_name_is_refused(name):
    with pytest.raises(UsageError) as refused:
        Usage.from_row(Row(other_units={name: 1}))

    assert refused.value.code == "unknown_field"


@pytest.mark.parametrize(
    ("code", "units"),
    [
        ("wrong_type", {"audio_seconds": "soon"}),
        ("not_finite", {"audio_seconds": "NaN"}),
        ("not_finite", {"credits": "Infinity"}),
        ("wrong_type", {"audio_seconds": [1]}),
        ("wrong_type", {"audio_seconds": True}),
        ("wrong_type", {"images": 1.0}),
        ("wrong_type", {"images": "1"}),
        ("wrong_type", {"batch": 1}),
        ("negative_count", {"images": -1}),
        ("unknown_kind", {"kind": "talk"}),
    ],
)
def test_a_row_with_a_unit_that_cannot_be_is_refused(code, units):
    with pytest.raises(UsageError) as refused:
        Usage.from_row(Row(other_units=units))

    assert refused.value.code == code


@pytest.mark.parametrize("name", of_type("int"))
@pytest.mark.parametrize("value", [True, 1.0, "1", Decimal(1), [1], None, MAX_COUNT + 1])
def test_a_count_is_a_whole_number(name, value):
    if value is None and name in {"pages", "queries"}:
        return

    with pytest.raises(UsageError, match=f"^{name}: ") as refused:
        Usage(**{name: value})

    assert (refused.value.code, refused.value.field) == ("wrong_type", name)


@pytest.mark.parametrize("name", of_type("int", "Decimal"))
def test_nothing_is_used_less_than_not_at_all(name):
    with pytest.raises(UsageError) as refused:
        Usage(**{name: -1})

    assert (refused.value.code, refused.value.field) == ("negative_count", name)


@pytest.mark.parametrize("name", of_type("Decimal"))
@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("wrong_type", 1.5),
        ("wrong_type", True),
        ("wrong_type", "1.5"),
        ("wrong_type", Decimal("1e19")),
        ("wrong_type", Decimal("1e-61")),
        ("wrong_type", Decimal("1e-999999")),
        ("not_finite", Decimal("NaN")),
        ("not_finite", Decimal("sNaN")),
        ("not_finite", Decimal("Infinity")),
        ("not_finite", Decimal("-Infinity")),
    ],
)
def test_seconds_and_money_are_finite_decimals(name, code, value):
    with pytest.raises(UsageError) as refused:
        Usage(**{name: value})

    assert (refused.value.code, refused.value.field) == (code, name)


def test_whole_seconds_may_be_given_as_an_int():
    seconds = Usage(audio_seconds=90).audio_seconds

    assert (seconds, type(seconds)) == (90, Decimal)


@pytest.mark.parametrize("at", [datetime(2026, 11, 17, 12), "2026-11-17", 0])  # noqa: DTZ001
def test_a_time_is_aware(at):
    with pytest.raises(UsageError) as refused:
        Usage(at=at)

    assert (refused.value.code, refused.value.field) == ("wrong_type", "at")


@pytest.mark.parametrize(("name", "value"), [("service_tier", None), ("speed", 1), ("batch", 1), ("estimated", None)])
def test_texts_and_flags_have_their_types(name, value):
    with pytest.raises(UsageError) as refused:
        Usage(**{name: value})

    assert (refused.value.code, refused.value.field) == ("wrong_type", name)


def test_a_kind_of_another_name_is_refused():
    with pytest.raises(UsageError) as refused:
        Usage(kind="chat")

    assert refused.value.code == "unknown_kind"


def test_a_usage_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Usage().prompt_tokens = 1
