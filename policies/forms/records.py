"""Inputs for objects, and for lists and maps of them as tables of rows. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from controlplane.core.forms import JSONField
from policies.forms.nodes import Box, Node, Row
from policies.forms.parts import (
    ABSENT,
    Faults,
    Lines,
    Part,
    Reading,
    Sent,
    Text,
    emptied,
    empty_box,
    first,
    number,
    same,
)

MOST_ROWS = 400
"""Rows of one table that are looked at, whatever a program says that it sends."""


@dataclass(frozen=True)
class Record(Part):
    """An object with known fields. What it holds beyond them, and what its inputs cannot tell (a null, a default that
    was written out, an order), travels beside them as JSON."""

    fields: Mapping[str, Part] = field(default_factory=dict)

    def write(self, name: str, value: Any) -> Sent:
        sent: Sent = {}
        for each, part in self.fields.items():
            if value.get(each) is not None:
                sent |= part.write(f"{name}.{each}", value[each])
        told = same(self.read(sent, name, "", Reading()), value)
        return sent if told else sent | {f"{name}.was": [json.dumps(value)]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places.setdefault(path, name)
        before = _object(first(sent, f"{name}.was"))
        found = {key: value for key, value in before.items() if key not in self.fields}
        for each, part in self.fields.items():
            old = before.get(each, ABSENT)
            value = part.read(sent, f"{name}.{each}", _joined(path, each), reading, old)
            if value is ABSENT and (old is None or (old == [] and isinstance(part, Lines) and not part.empty)):
                value = old  # what a blank input cannot tell from nothing
            if value is not ABSENT and not (old is ABSENT and same(value, part.default)):
                found[each] = value
        return found

    def blank(self, sent: Sent, name: str) -> bool:
        return all(part.blank(sent, f"{name}.{each}") for each, part in self.fields.items())

    def nodes(self, sent: Sent, name: str, faults: Faults) -> list[Node]:
        nodes = (part.node(sent, f"{name}.{each}", faults) for each, part in self.fields.items())
        return [node for node in nodes if node.kind != "nothing"]

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        return self._node("record", sent, name, faults, children=self.nodes(sent, name, faults))


@dataclass(frozen=True)
class Table(Part):
    """A list of records, or with `key` a map: of records, or of single values. one: what a row is called."""

    of: Part = field(default_factory=Text)
    key: Part | None = None
    one: str = "Entry"
    empty: str = ""

    def write(self, name: str, value: Any) -> Sent:
        entries = list(value.items() if self.key else enumerate(value))
        sent: Sent = {f"{name}.rows": [str(len(entries))]}
        for position, (key, entry) in enumerate(entries):
            row = f"{name}.{position}"
            sent |= self.of.write(f"{row}.value", entry)
            if self.key:
                sent |= self.key.write(f"{row}.key", key)
        return sent if entries else sent | {f"{name}.empty": ["on"]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places[path] = name
        entries = list(self._entries(sent, name, path, reading))
        if emptied(self.empty, sent, name, bool(entries), reading):
            return {} if self.key else []
        if not entries:
            return ABSENT
        return dict(entries) if self.key else [value for _, value in entries]

    def _entries(self, sent: Sent, name: str, path: str, reading: Reading) -> Iterator[tuple[str, Any]]:
        taken: set[str] = set()
        for row in self._filled(sent, name):
            key = str(len(taken))
            if self.key:
                key = self.key.read(sent, f"{row}.key", "", Reading())
                if key is ABSENT or key in taken:
                    reading.fault(f"{row}.key", "Give it a name." if key is ABSENT else "This name stands above too.")
                    continue
                reading.places[f"{path}.{key}.[key]"] = f"{row}.key"
            taken.add(key)
            value = self.of.read(sent, f"{row}.value", f"{path}.{key}", reading)
            # A name without a value is for the schema to refuse; null it refuses whatever the type.
            yield key, None if value is ABSENT else value

    def _filled(self, sent: Sent, name: str) -> Iterator[str]:
        for row in _rows(sent, name):
            typed = not self.of.blank(sent, f"{row}.value") or (self.key and not self.key.blank(sent, f"{row}.key"))
            if typed and f"{row}.removed" not in sent:
                yield row

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        rows = [self._row(sent, row, number, faults) for number, row in enumerate(_rows(sent, name), start=1)]
        rows = rows or [self._row(sent, f"{name}.0", 1, faults)]
        return self._node("rows", sent, name, faults, rows=rows, empty=empty_box(self.empty, sent, name))

    def _row(self, sent: Sent, row: str, number: int, faults: Faults) -> Row:
        value = f"{row}.value"
        keys = [self.key.node(sent, f"{row}.key", faults)] if self.key else []
        cells = (
            self.of.nodes(sent, value, faults) if isinstance(self.of, Record) else [self.of.node(sent, value, faults)]
        )
        errors = faults.get(value, ()) if isinstance(self.of, Record) else ()
        typed = not self.of.blank(sent, value) or bool(keys and keys[0].value)
        removed = Box(f"{row}.removed", f"Remove {self.one.lower()} {number}", f"{row}.removed" in sent)
        return Row(
            row,
            f"{self.one} {number}",
            [*keys, *cells],
            first(sent, f"{value}.was"),
            removed if typed else None,
            errors,
        )


def more_rows(sent: Sent, name: str, count: int) -> Sent:
    """The answer with so many further blank rows in the table `name`."""
    rows = min(len(list(_rows(sent, name))) + count, MOST_ROWS)
    return {**sent, f"{name}.rows": [str(rows)]}


def _rows(sent: Sent, name: str) -> Iterator[str]:
    count = number(first(sent, f"{name}.rows")[:9])
    for position in range(min(count, MOST_ROWS) if isinstance(count, int) else 0):
        yield f"{name}.{position}"


def _object(text: str) -> dict[str, Any]:
    try:
        found = JSONField(required=False).clean(text)
    except ValidationError:
        return {}
    return found if isinstance(found, dict) else {}


def _joined(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
