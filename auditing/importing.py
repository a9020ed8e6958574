"""Usage logs of elsewhere (CSV, JSON lines) read as rows for `ingest`: by a mapping, or known by their header."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditing.columns import FIELDS
from auditing.deadletters import RawRow
from auditing.errors import InvalidImport
from auditing.reading import FORMATS, Lines, raw, reader

Row = Mapping[str, Any] | RawRow


@dataclass(frozen=True, slots=True)
class Column:
    """Where one column of ours comes from: a field of the file, or a constant. format, zone: of created_at only."""

    field: str = ""
    value: Any = None
    format: str = "iso"
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class UsageFile:
    """A file ready to be read. digest: its SHA-256 in hex. unused: its fields that nothing reads. lines: their number.

    columns: where each column of ours comes from. constants: values of every row, which win. shift: added to created_at.
    """

    path: Path
    digest: str
    columns: dict[str, Column]
    unused: tuple[str, ...]
    prefix: str
    constants: dict[str, Any] = field(default_factory=dict)
    shift: timedelta = timedelta(0)
    lines: int = 0

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Line number and row, as `ingest` takes them; a line that is no row comes as RawRow."""
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from _json_rows(self, file) if _is_json(self.path) else _csv_rows(self, file)


AZURE = {
    "created_at": Column("TIMESTAMP"),
    "prompt_tokens": Column("ContextTokens"),
    "completion_tokens": Column("GeneratedTokens"),
}
"""Azure's public inference traces: UTC without an offset, seven decimal digits, of which the last is dropped."""


def open_usage(
    path: Path,
    mapping: Mapping[str, Any] | None = None,
    *,
    constants: Mapping[str, Any],
    shift: timedelta = timedelta(0),
) -> UsageFile:
    """Look at a file: its fields, how they map, its digest. Raises InvalidImport when it is no usage log.

    mapping: `{"created_at": {"field": "ts", "format": "epoch_ms"}, "provider": {"value": "openai"}, …}`; None = the
    file's header must be known, or name our own columns. constants: values for every row (they win). shift: added to
    created_at.
    """
    fields = _fields(path)
    if mapping is not None:
        columns = _columns(mapping)
    elif set(fields) >= {column.field for column in AZURE.values()}:
        columns = AZURE
    else:
        columns = {name: Column(name) for name in fields if name in FIELDS}
    missing = sorted({c.field for c in columns.values() if c.field} - set(fields))
    if missing and not _is_json(path):
        raise InvalidImport(
            message=f"{path.name} has no column {', '.join(missing)}. Its columns: {', '.join(fields)}."
        )
    _check_given(path, columns, constants)
    digest, lines = _digest(path)
    used = {column.field for column in columns.values()}
    prefix = f"{'azure' if columns is AZURE else 'file'}:{digest[:12]}:"
    unused = tuple(name for name in fields if name not in used)
    return UsageFile(path, digest, columns, unused, prefix, dict(constants), shift, lines)


def read_constants(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Constants as people type them (`stream=true`), read as a cell of that column. Raises InvalidImport."""
    for name in pairs:
        if name not in _settable():
            raise InvalidImport(message=f"A constant cannot fill {name!r}. Choose from {', '.join(_settable())}.")
    return {name: reader(name)(text) for name, text in pairs.items()}


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises InvalidImport."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidImport(message=f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise InvalidImport(message=f"The mapping {path.name} is no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise InvalidImport(message=f'The mapping {path.name} is no JSON object: write {{"created_at": "ts", …}}.')
    return found


def _settable() -> list[str]:
    """The tenant and the app are given as such and looked up; an id typed here could be anybody's."""
    return [name for name in FIELDS if name not in ("request_id", "tenant_id", "app_id")]


def _check_given(path: Path, columns: Mapping[str, Column], constants: Mapping[str, Any]) -> None:
    """What every row needs must come from somewhere, or all of them would be refused."""
    for name, what, how in (
        ("created_at", "when a call was made", "Name the column to read with --map"),
        ("provider", "whose model was called", "Name it with --model"),
        ("model", "which model was called", "Name it with --model"),
    ):
        if name not in columns and name not in constants:
            known = ", ".join(_fields(path))[:300]
            raise InvalidImport(message=f"{path.name} says nowhere {what}. {how}. Its columns: {known}.")


def _digest(path: Path) -> tuple[str, int]:
    """SHA-256 in hex, and the number of line ends."""
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
    return digest.hexdigest(), lines


def _fields(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if not _is_json(path):
                header = next(csv.reader(file), [])
                if len(set(header)) < len(header):
                    raise InvalidImport(message=f"{path.name} names a column twice: {', '.join(header)}.")
                fields = [name.strip() for name in header]
            else:
                first = json.loads(file.readline() or "null")
                fields = list(first) if isinstance(first, dict) else []
    except OSError as error:
        raise InvalidImport(message=f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError, csv.Error):
        raise InvalidImport(message=f"{path.name} does not begin as a CSV or JSON lines file in UTF-8.") from None
    if not any(fields):
        raise InvalidImport(message=f"{path.name} is empty, or its first line names no columns.")
    if not all(name.isprintable() for name in fields):
        raise InvalidImport(message=f"{path.name} does not begin as a CSV or JSON lines file in UTF-8.")
    return fields


def _columns(mapping: Mapping[str, Any]) -> dict[str, Column]:
    columns = {}
    for name, entry in mapping.items():
        if name not in FIELDS:
            raise InvalidImport(
                message=f"The mapping fills {name!r}, which a request does not have. Choose from {', '.join(FIELDS)}."
            )
        given = {"field": entry} if isinstance(entry, str) else entry
        if not _is_column(given):
            raise InvalidImport(
                message=f"The mapping of {name} needs a field or a value, and may have a format and a zone."
            )
        column = Column(**given)
        if column.format not in FORMATS:
            raise InvalidImport(
                message=f"The format {column.format!r} of {name} is unknown: choose from {', '.join(FORMATS)}."
            )
        try:
            ZoneInfo(column.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise InvalidImport(message=f"The zone {column.zone!r} of {name} is unknown: use an IANA name.") from None
        columns[name] = column
    return columns


def _is_column(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and given.keys() <= {"field", "value", "format", "zone"}
        and ("field" in given) != ("value" in given)
        and all(isinstance(value, str) for name, value in given.items() if name != "value")
    )


def _readers(usage: UsageFile) -> tuple[dict[str, Any], dict[str, tuple[str, Callable[[str], Any]]]]:
    """Values that are the same in every row, and the field and reader of each column of the others."""
    fixed: dict[str, Any] = {}
    readers = {}
    for name, column in usage.columns.items():
        read = reader(name, column.format, column.zone)
        if column.field:
            readers[name] = (column.field, read)
        else:
            fixed[name] = read(column.value) if isinstance(column.value, str) else column.value
    fixed |= usage.constants
    return fixed, {name: how for name, how in readers.items() if name not in usage.constants}


def _finish(usage: UsageFile, number: int, row: dict[str, Any]) -> None:
    if not row.get("request_id"):
        row["request_id"] = f"{usage.prefix}{number}"
    if usage.shift and isinstance(row.get("created_at"), datetime):
        try:
            row["created_at"] += usage.shift
        except OverflowError:
            row["created_at"] = f"{row['created_at']} shifted by {usage.shift}"


def _csv_rows(usage: UsageFile, file: TextIO) -> Iterator[tuple[int, Row]]:
    lines = Lines(file)
    records = csv.reader(lines)
    header = [name.strip() for name in next(records)]
    fixed, readers = _readers(usage)
    cells_of = [(name, header.index(field), read) for name, (field, read) in readers.items()]
    width = len(header)
    while True:
        lines.mark()
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield lines.reject(f"The line cannot be read: {error}.")
            continue
        if len(cells) == width:
            row = fixed.copy()
            for name, at, read in cells_of:
                row[name] = read(cells[at])
            number = lines.number
            _finish(usage, number, row)
            yield number, row
        elif cells:
            yield lines.reject(f"The line has {len(cells)} cells, the header {width}.")


def _json_rows(usage: UsageFile, file: TextIO) -> Iterator[tuple[int, Row]]:
    fixed, readers = _readers(usage)
    for number, line in enumerate(file, 1):
        try:
            given = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict):
            row = fixed.copy()
            for name, (source, read) in readers.items():
                value = given.get(source)
                if name == "created_at" and isinstance(value, int | Decimal):
                    value = str(value)  # an epoch
                row[name] = read(value) if isinstance(value, str) else value
            _finish(usage, number, row)
            yield number, row
        elif line.strip():
            yield number, RawRow(raw(line), "malformed_line", "The line is no JSON object.")


def _is_json(path: Path) -> bool:
    return path.suffix in {".jsonl", ".ndjson", ".json"}
