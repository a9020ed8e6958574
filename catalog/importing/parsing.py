"""A price file read whole: its entries as they would be stored, and what is wrong with the others. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from catalog.errors import ImportRefused
from catalog.importing import fields, reading
from catalog.importing.mapping import Mapped, exact, to_columns, to_json
from catalog.importing.reading import Member
from catalog.importing.validating import MAX_BYTES, MAX_DEPTH, Fault, check, too_deep, unstorable
from catalog.names import lowered
from controlplane.core.ids import now

SHOWN = 200


@dataclass(frozen=True, slots=True)
class Issue:
    """What is wrong with an entry. field: path in it, "" = all of it; value: what is there, shortened; line: of the file,
    from 1; entry: its text, verbatim, where it was blocked (the first issue of an entry says it)."""

    key: str
    code: str
    severity: str
    field: str
    value: str
    line: int
    message: str
    entry: str = ""

    def __str__(self) -> str:
        where = f"{self.key}: {self.field}" if self.field else self.key
        found = f" is {self.value}" if self.value and self.field else ""
        return f"line {self.line}: {self.code}: {where}{found}: {self.message}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A price file. entries: those without an error, by key; places: the line and text of each of them; blocked: keys of
    the others; meta: what is no model."""

    name: str
    sha256: str
    bytes: int
    read_at: datetime
    entries: dict[str, Mapped]
    places: dict[str, tuple[int, str]]
    blocked: frozenset[str]
    issues: tuple[Issue, ...]
    meta: dict[str, Any]

    def issue(self, key: str, code: str, message: str) -> Issue:
        """An error of an entry that nothing in the file shows."""
        line, text = self.places[key]
        return Issue(key, code, "error", "", "", line, message, text)


def read(source: str | Path) -> Parsed:
    """Read the price file at a path or an http(s) URL. Raises ImportRefused("import_unreadable")."""
    name, data = reading.load(source)
    return parse(data, name)


def parse(data: bytes, name: str) -> Parsed:
    """Read the bytes of a price file; name: for people. Raises ImportRefused("import_unreadable") with line and column.

    A fault of an entry is no error here: it is in `issues`, and blocks that entry alone.
    """
    began = now()
    text = reading.decode(name, data)
    found = list(reading.members(name, text))
    repeated = _repeated(member.name for member in found)
    folded = _repeated(lowered(key) for key in {member.name for member in found})
    entries: dict[str, Mapped] = {}
    places: dict[str, tuple[int, str]] = {}
    issues: list[Issue] = []
    meta: dict[str, Any] = {}
    blocked: set[str] = set()
    lines = _Lines(text)
    for member in found:
        line = lines.at(member.at)
        faults = list(_faults(member, repeated, folded))
        if not any(fault.blocks for fault in faults):
            if member.name in fields.META:
                meta[member.name] = exact(member.value)
                continue
            entries[member.name], warnings = to_columns(member.name, member.value)
            places[member.name] = line, text[member.at : member.end]
            faults += [*warnings, *_large(entries[member.name])]
        issues += _issues(name, text, line, member, faults)
        if any(fault.blocks for fault in faults):
            blocked.add(member.name)
            entries.pop(member.name, None)
    if not entries and not blocked:
        raise ImportRefused("import_invalid", f"{name} has no model in it. Check what it is.")
    digest = hashlib.sha256(data).hexdigest()
    return Parsed(name, digest, len(data), began, entries, places, frozenset(blocked), tuple(issues), meta)


def _repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _faults(member: Member, repeated: set[str], folded: set[str]) -> Iterator[Fault]:
    key = member.name
    if too_deep(member.value):
        yield Fault("bad_value", "", None, f"It is nested in more than {MAX_DEPTH} levels.")
        return
    if key in repeated:
        yield Fault("duplicate_key", "", None, "The file has this key twice; neither is taken.")
    elif lowered(key) in folded:
        yield Fault("key_collision", "", None, "The file has this key in other case too; neither is taken.")
    for name in member.repeated:
        yield Fault("duplicate_key", name, None, "The entry has this field twice.")
    if key not in fields.META:
        yield from check(key, member.value)
    elif why := unstorable(member.value) or _oversized(exact(member.value), 4 * MAX_BYTES):
        yield Fault("bad_value", "", None, why)


def _large(mapped: Mapped) -> Iterator[Fault]:
    for name, value in (
        ("flags", mapped.columns["flags"]),
        ("extra", mapped.columns["extra"]),
        ("rates", mapped.rates),
    ):
        if why := _oversized(value):
            yield Fault("too_large", "", None, f"What would be its {name}: {why}")


def _oversized(value: Any, limit: int = MAX_BYTES) -> str:
    size = len(to_json(value).encode())
    return f"It has {size:,} bytes, {limit:,} fit." if size > limit else ""


def _issues(name: str, text: str, line: int, member: Member, faults: list[Fault]) -> Iterator[Issue]:
    """The faults of an entry as issues, each with its line; the first that blocks keeps the entry."""
    if not faults:
        return
    places: dict[str, int] = {}
    if isinstance(member.value, dict):
        lines = _Lines(text, member.at, line)
        places = {field.name: lines.at(field.at) for field in reading.members(name, text, member.start)}
    raw = text[member.at : member.end]
    for fault in faults:
        at = places.get(fault.field.partition("[")[0]) or places.get(fault.field.partition(".")[0])
        yield Issue(
            _safe(member.name),
            fault.code,
            "error" if fault.blocks else "warning",
            _safe(fault.field),
            "" if fault.value is None else _safe(_shown(fault.value)),
            at or line,
            fault.message,
            raw if fault.blocks else "",
        )
        raw = "" if fault.blocks else raw


def _shown(value: Any) -> str:
    text = to_json(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _safe(text: str) -> str:
    """Text that can be stored and shown on a terminal, whatever a file says."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class _Lines:
    """The lines of places that rise, each found from the one before."""

    def __init__(self, text: str, at: int = 0, line: int = 1) -> None:
        self._text, self._at, self._line = text, at, line

    def at(self, place: int) -> int:
        self._line += self._text.count("\n", self._at, place)
        self._at = place
        return self._line
