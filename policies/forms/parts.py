"""Inputs of a form for one JSON value: what a browser shows for it, and what its answer means. Pure.

A part writes a value as the names and texts that a browser would send, reads such an answer back, and describes its
inputs for a template. Whether a value is allowed is left to the schema: what cannot be read stays text, and is refused
there, under the same path. For every value that fits the schema, reading what was written gives the value again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ValidationError

from controlplane.core.forms import JSONField

Sent = dict[str, list[str]]
"""Names of inputs and the texts sent for them, as `QueryDict.lists` gives."""

ABSENT: Final[Any] = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
"""Nothing was said; None is a value here, as in JSON."""

MOST_ROWS = 400
"""Rows of one table that are looked at, whatever a program says that it sends."""

_SPACE = " \t\r\n"
_WHOLE = re.compile(r"-?\d{1,30}", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(,\d{3}){1,9}", re.ASCII)
_REAL = re.compile(r"-?(\d{1,30}\.?\d{0,30}|\.\d{1,30})([eE][-+]?\d{1,3})?", re.ASCII)


@dataclass
class Reading:
    """What is learnt while a form is read. places: JSON path of a value → the input it came from; typed: path → the
    entry of a list, where one input holds many; faults: input → what is wrong with it."""

    places: dict[str, str] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, name: str, sentence: str) -> None:
        self.faults.setdefault(name, []).append(sentence)

    def fault_at(self, path: str, sentence: str) -> None:
        """Put a fault to the input its path came from, or to the nearest one around it."""
        around = path
        while around not in self.places and around:
            around = around.rpartition(".")[0]
        if entry := self.typed.get(path):
            sentence = f"{entry[:60]}: {sentence}"
        self.fault(self.places[around], sentence)


@dataclass(frozen=True)
class Node:
    """One input, or a group of them, for the template `policies/inputs/<kind>.html`.

    values: texts that are set or chosen. choices: (value, label). children: parts of a row; rows: of a table, the last
    of them may be blank. errors: sentences. empty: the box that says "an empty list", None where there is none.
    """

    kind: str
    name: str
    label: str
    help: str = ""
    values: Sequence[str] = ()
    choices: Sequence[tuple[str, str]] = ()
    errors: Sequence[str] = ()
    children: Sequence[Node] = ()
    rows: Sequence[Row] = ()
    empty: Box | None = None
    placeholder: str = ""
    required: bool = False

    @property
    def id(self) -> str:
        return "id_" + self.name.replace(".", "_")

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    @property
    def troubled(self) -> bool:
        """Whether anything is wrong here or below."""
        return bool(self.errors) or any(
            each.troubled for each in (*self.children, *(node for row in self.rows for node in row.cells))
        )


@dataclass(frozen=True)
class Box:
    """A check box beside an input."""

    name: str
    label: str
    checked: bool

    @property
    def id(self) -> str:
        return "id_" + self.name.replace(".", "_")


@dataclass(frozen=True)
class Row:
    """A row of a table. was: JSON of what it held, where the inputs alone would not bring it back."""

    name: str
    label: str
    cells: Sequence[Node]
    was: str
    removed: Box | None
    errors: Sequence[str] = ()


Faults = Mapping[str, Sequence[str]]


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true are three values."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def first(sent: Mapping[str, Sequence[str]], name: str) -> str:
    found = sent.get(name)
    return found[0] if found else ""


@dataclass(frozen=True)
class Part:
    """label: for people. default: what an absent value means. required: the schema wants it."""

    label: str = ""
    help: str = ""
    default: Any = ABSENT
    required: bool = False
    placeholder: str = ""

    def write(self, name: str, value: Any) -> Sent:
        """What a browser would send for a value, which is neither ABSENT nor None."""
        raise NotImplementedError

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        """The value that was sent, ABSENT if nothing was. was: the value that stood there before, if it is known."""
        raise NotImplementedError

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        raise NotImplementedError

    def blank(self, sent: Sent, name: str) -> bool:
        """Whether nothing was typed, or only what holds without typing."""
        value = self.read(sent, name, "", Reading())
        return value is ABSENT or same(value, self.default)

    def _node(self, kind: str, sent: Sent, name: str, faults: Faults, **more: Any) -> Node:
        return Node(
            kind, name, self.label, self.help, values=tuple(sent.get(name, ())), errors=tuple(faults.get(name, ())),
            placeholder=self.placeholder, required=self.required, **more,
        )  # fmt: skip


@dataclass(frozen=True)
class Text(Part):
    """A word or a sentence on one line."""

    kind = "text"

    def write(self, name: str, value: Any) -> Sent:
        return {name: [str(value)]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places[path] = name
        return first(sent, name).strip(_SPACE) or ABSENT

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        return self._node(self.kind, sent, name, faults)


@dataclass(frozen=True)
class Number(Text):
    """A number; whole ones may be grouped by commas."""

    kind = "number"

    def write(self, name: str, value: Any) -> Sent:
        return {name: [json.dumps(value)]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        text = super().read(sent, name, path, reading)
        return text if text is ABSENT else number(text)


def number(text: str) -> Any:
    """The number that a text writes; the text itself if it is none."""
    if _WHOLE.fullmatch(text) or _GROUPED.fullmatch(text):
        return int(text.replace(",", ""))
    found = float(text) if _REAL.fullmatch(text) else math.inf
    return found if math.isfinite(found) else text


@dataclass(frozen=True)
class Choice(Part):
    """One of a few; choices: (value as text, label). With `words` texts are values, else they are JSON, as true."""

    choices: Sequence[tuple[str, str]] = ()
    words: bool = True

    def write(self, name: str, value: Any) -> Sent:
        return {name: [value if self.words else json.dumps(value)]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places[path] = name
        text = first(sent, name)
        if not text:
            return ABSENT
        return text if self.words or text not in dict(self.choices) else json.loads(text)

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        given = sent if name in sent or self.default is ABSENT else {**sent, **self.write(name, self.default)}
        nothing = [] if self.default is not ABSENT else [("", "–" if self.required else "says nothing")]
        return self._node("select", given, name, faults, choices=[*nothing, *self.choices])


@dataclass(frozen=True)
class Constant(Part):
    """A value that cannot be another one: it has no input, and stays as it was."""

    def write(self, name: str, value: Any) -> Sent:
        return {}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        return was

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        return self._node("nothing", sent, name, faults)


@dataclass(frozen=True)
class Checks(Part):
    """Any of a few, as boxes; the order in which they were written stays, if they are the same ones."""

    choices: Sequence[tuple[str, str]] = ()

    def write(self, name: str, value: Any) -> Sent:
        return {name: list(value)}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places[path] = name
        chosen = list(dict.fromkeys(sent.get(name, ())))
        order = [value for value, _ in self.choices]
        chosen.sort(key=lambda value: order.index(value) if value in order else len(order))
        if not chosen:
            return ABSENT
        unchanged = isinstance(was, list) and sorted(map(str, was)) == sorted(chosen)
        return was if unchanged else chosen

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        return self._node("checks", sent, name, faults, choices=self.choices)


@dataclass(frozen=True)
class Lines(Part):
    """A list of words. inline: on one line, parted by commas or spaces; else one per line. empty: how a list without
    entries is called, "" where it is not allowed. numbers: the entries are numbers."""

    inline: bool = False
    numbers: bool = False
    empty: str = ""

    def write(self, name: str, value: Any) -> Sent:
        if not value:
            return {f"{name}.empty": ["on"]}
        words = [json.dumps(entry) if self.numbers else str(entry) for entry in value]
        return {name: [(", " if self.inline else "\r\n").join(words)]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places[path] = name
        text = first(sent, name)
        parts = re.split(r"[\s,]+", text) if self.inline else text.split("\n")
        words = [word for part in parts if (word := part.strip(_SPACE))]
        for position, word in enumerate(words):
            reading.places[f"{path}.{position}"] = name
            reading.typed[f"{path}.{position}"] = word
        if emptied(self, sent, name, bool(words), reading):
            return []
        return [number(word) if self.numbers else word for word in words] or ABSENT

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        kind = "text" if self.inline else "lines"
        return self._node(kind, sent, name, faults, empty=empty_box(self, sent, name))


@dataclass(frozen=True)
class Json(Part):
    """Anything that has no input of its own, as JSON."""

    def write(self, name: str, value: Any) -> Sent:
        return {name: [json.dumps(value, indent=2, ensure_ascii=False)]}

    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        reading.places[path] = name
        text = first(sent, name).strip(_SPACE)
        if not text:
            return ABSENT
        try:
            return JSONField(required=False).clean(text)
        except ValidationError as refused:
            reading.fault(name, " ".join(refused.messages))
            return ABSENT

    def blank(self, sent: Sent, name: str) -> bool:
        return not first(sent, name).strip(_SPACE)

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        return self._node("json", sent, name, faults)


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
        if emptied(self, sent, name, bool(entries), reading):
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
        return self._node("rows", sent, name, faults, rows=rows, empty=empty_box(self, sent, name))

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


def emptied(part: Lines | Table, sent: Sent, name: str, filled: bool, reading: Reading) -> bool:
    """Whether the box "an empty list" is ticked, and nothing contradicts it."""
    if not part.empty or f"{name}.empty" not in sent:
        return False
    if filled:
        reading.fault(name, "There are entries, and the box for an empty list is ticked. Untick it, or remove them.")
    return not filled


def empty_box(part: Lines | Table, sent: Sent, name: str) -> Box | None:
    return Box(f"{name}.empty", part.empty, f"{name}.empty" in sent) if part.empty else None


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
