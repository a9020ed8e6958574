"""Inputs of a policy: what is written into them is read out of them, and faults land where they were made."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.forms.fields import _record_of, fields_of, schedule_fields
from policies.forms.parts import Constant, Json, Reading
from policies.forms.records import Record, Table, more_rows
from policies.forms.words import EMPTY, EXAMPLES, FIELDS, ROWS, TYPES
from policies.schemas import SCHEMAS, Closed
from tests.policies.configs import CONFIGS, SCHEDULES


def exact(value):
    """As text in which 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


def read(policy_type, sent):
    return fields_of(policy_type).read(sent, "config", "", Reading())


@given(st.data(), st.sampled_from([*CONFIGS]))
@settings(max_examples=200, deadline=None)
def test_a_config_comes_back_from_its_inputs_as_it_was(data, policy_type):
    config = data.draw(CONFIGS[policy_type])

    assert exact(read(policy_type, fields_of(policy_type).write("config", config))) == exact(config)


@given(SCHEDULES)
def test_a_schedule_comes_back_from_its_inputs_as_it_was(schedule):
    assert schedule_fields().read(schedule_fields().write("schedule", schedule), "schedule", "", Reading()) == schedule


def paths(record, path):
    """Every input below a record, as policies.forms.words names it."""
    for name, part in record.fields.items():
        yield f"{path}.{name}", part
        if isinstance(part, Table):
            yield from ((f"{path}.{name}.key", part.key),) if part.key else ()
            inner = part.of
            yield from (
                paths(inner, f"{path}.{name}") if isinstance(inner, Record) else ((f"{path}.{name}.value", inner),)
            )


INPUTS = {
    path: part
    for record, name in [*((fields_of(name), name) for name in SCHEMAS), (schedule_fields(), "schedule")]
    for path, part in paths(record, name)
}


def test_every_input_has_words_and_every_word_has_an_input():
    shown = {path for path, part in INPUTS.items() if not isinstance(part, Constant)}

    assert shown == set(FIELDS)
    assert set(EXAMPLES) <= shown
    assert set(EMPTY) == {path for path, part in INPUTS.items() if getattr(part, "empty", "")}
    assert set(ROWS) == {path for path, part in INPUTS.items() if isinstance(part, Table)}
    assert set(TYPES) == set(SCHEMAS)


def test_only_what_has_no_shape_of_its_own_is_typed_as_json():
    assert [path for path, part in INPUTS.items() if isinstance(part, Json)] == ["guardrail.guardrails.config"]


def test_a_field_whose_shape_no_input_knows_is_typed_as_json():
    class Odd(Closed):
        pairs: list[list[int]] | None = None
        either: int | str | None = None

    record = _record_of(Odd, "odd")
    value = {"pairs": [[1, 2], []], "either": "x"}

    assert [type(part) for part in record.fields.values()] == [Json, Json]
    assert record.read(record.write("config", value), "config", "", Reading()) == value
    assert record.fields["pairs"].label == "Pairs"


def test_what_no_input_shows_stays_when_a_row_is_edited():
    was = {"window": "day", "limit": "1", "mode": "hard", "models": None, "currency": "USD", "younger": {"a": [1]}}
    sent = fields_of("budget").write("config", {"limits": [was]})

    changed = read("budget", sent | {"config.limits.0.value.limit": ["2"]})

    assert changed == {"limits": [was | {"limit": "2"}]}


def test_a_fault_goes_to_the_nearest_input_around_it():
    reading = Reading(places={"": "config", "aliases": "a", "aliases.gpt.4": "b"})

    for path in ("aliases.gpt.4", "aliases.gpt", "aliases.x.y", "nowhere.0"):
        reading.fault_at(path, path)

    assert reading.faults == {"b": ["aliases.gpt.4"], "a": ["aliases.gpt", "aliases.x.y"], "config": ["nowhere.0"]}


@pytest.mark.parametrize("count", ["", "x", "-3", "1e9", "9" * 99, "400", "٣"])
def test_a_table_has_as_many_rows_as_are_looked_at(count):
    sent = more_rows({"config.limits.rows": [count]}, "config.limits", 3)

    assert len(fields_of("budget").fields["limits"].node(sent, "config.limits", {}).rows) <= 400
    assert read("budget", sent) == {}
