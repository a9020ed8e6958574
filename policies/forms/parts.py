"""Inputs of a form for one JSON value: what a browser shows for it, and what its answer means. Pure.

A part writes a value as the names and texts that a browser would send, reads such an answer back, and describes its
inputs for a template. Whether a value is allowed is left to the schema: what cannot be read stays text, and is refused
there, under the same path. For every value that fits the schema, reading what was written gives the value again.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ValidationError

from controlplane.core.forms import JSONField
from policies.forms.nodes import Box, Node

Sent = dict[str, list[str]]
"""Names of inputs and the texts sent for them, as `QueryDict.lists` gives."""

ABSENT: Final[Any] = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
"""Nothing was said; None is a value here, as in JSON."""

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
class Part(ABC):
    """label: for people. default: what an absent value means. required: the schema wants it."""

    label: str = ""
    help: str = ""
    default: Any = ABSENT
    required: bool = False
    placeholder: str = ""

    @abstractmethod
    def write(self, name: str, value: Any) -> Sent:
        """What a browser would send for a value, which is neither ABSENT nor None."""

    @abstractmethod
    def read(self, sent: Sent, name: str, path: str, reading: Reading, was: Any = ABSENT) -> Any:
        """The value that was sent, ABSENT if nothing was. was: the value that stood there before, if it is known."""

    @abstractmethod
    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        """Its input, with what was sent and what is wrong with it."""

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
        if emptied(self.empty, sent, name, bool(words), reading):
            return []
        return [number(word) if self.numbers else word for word in words] or ABSENT

    def node(self, sent: Sent, name: str, faults: Faults) -> Node:
        kind = "text" if self.inline else "lines"
        return self._node(kind, sent, name, faults, empty=empty_box(self.empty, sent, name))


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


def emptied(empty: str, sent: Sent, name: str, filled: bool, reading: Reading) -> bool:
    """Whether the box "an empty list" is ticked, and nothing contradicts it."""
    if not empty or f"{name}.empty" not in sent:
        return False
    if filled:
        reading.fault(name, "There are entries, and the box for an empty list is ticked. Untick it, or remove them.")
    return not filled


def empty_box(empty: str, sent: Sent, name: str) -> Box | None:
    return Box(f"{name}.empty", empty, f"{name}.empty" in sent) if empty else None
