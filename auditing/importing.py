"""Usage logs of elsewhere (CSV, JSON lines) read as rows for `ingest`: by a mapping, or known by their header."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditing.errors import InvalidImport
from auditing.ingest import RawRow
from auditing.validation import FIELDS

Row = Mapping[str, Any] | RawRow

_WHOLE = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "latency_ms",
        "ttft_ms",
    }
)
_FORMATS = ("iso", "epoch_s", "epoch_ms")


@dataclass(frozen=True, slots=True)
class Column:
    """Where one column of ours comes from: a field of the file, or a constant. format, zone: of created_at only."""

    field: str = ""
    value: Any = None
    format: str = "iso"
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class UsageFile:
    """A file ready to be read. digest: its SHA-256 in hex. unused: its fields that nothing reads."""

    path: Path
    digest: str
    columns: dict[str, Column]
    unused: tuple[str, ...]
    prefix: str
    constants: dict[str, Any] = field(default_factory=dict)
    shift: timedelta = timedelta(0)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Line number and row, as `ingest` takes them; a line that is no row comes as RawRow."""
        build = _builder(self)
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _json_lines(file) if _is_json(self.path) else _csv_lines(file)
            for number, line in lines:
                yield number, line if isinstance(line, RawRow) else build(number, line)


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
    if "created_at" not in columns and "created_at" not in constants:
        raise InvalidImport(
            message=f"{path.name} says nowhere when a call was made. Its columns: {', '.join(fields)}. "
            "Name the one to read with --map."
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    used = {column.field for column in columns.values()}
    prefix = f"{'azure' if columns is AZURE else 'file'}:{digest[:12]}:"
    unused = tuple(name for name in fields if name not in used)
    return UsageFile(path, digest, columns, unused, prefix, dict(constants), shift)


def _fields(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
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
    if not fields:
        raise InvalidImport(message=f"{path.name} is empty, or its first line names no columns.")
    return fields


def _columns(mapping: Mapping[str, Any]) -> dict[str, Column]:
    columns = {}
    for name, entry in mapping.items():
        if name not in FIELDS:
            raise InvalidImport(
                message=f"The mapping fills {name!r}, which a request does not have. Choose from {', '.join(FIELDS)}."
            )
        given = {"field": entry} if isinstance(entry, str) else entry
        if not isinstance(given, dict) or not given.keys() <= {"field", "value", "format", "zone"}:
            raise InvalidImport(
                message=f"The mapping of {name} needs a field or a value, and may have a format and a zone."
            )
        column = Column(**given)
        if column.format not in _FORMATS:
            raise InvalidImport(
                message=f"The format {column.format!r} of {name} is unknown: choose from {', '.join(_FORMATS)}."
            )
        try:
            ZoneInfo(column.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise InvalidImport(message=f"The zone {column.zone!r} of {name} is unknown: use an IANA name.") from None
        columns[name] = column
    return columns


def _builder(usage: UsageFile) -> Callable[[int, Mapping[str, Any]], dict[str, Any]]:
    readers = {name: (column.field, column.value, _reader(name, column)) for name, column in usage.columns.items()}

    def build(number: int, line: Mapping[str, Any]) -> dict[str, Any]:
        row = {}
        for name, (source, value, read) in readers.items():
            given = line.get(source) if source else value
            row[name] = read(given) if isinstance(given, str) else given
        row.update(usage.constants)
        row.setdefault("request_id", f"{usage.prefix}{number}")
        at = row.get("created_at")
        if usage.shift and isinstance(at, datetime):
            row["created_at"] = at + usage.shift
        return row

    return build


def _reader(name: str, column: Column) -> Callable[[str], Any]:
    """From a cell's text to a value; text that does not fit stays text, for validation to name it."""
    if name == "created_at":
        zone = UTC if column.zone == "UTC" else ZoneInfo(column.zone)
        return lambda text: _instant(text, column.format, zone)
    if name in _WHOLE:
        return _whole
    if name == "cost":
        return _decimal
    if name == "stream":
        return lambda text: {"true": True, "1": True, "false": False, "0": False, "": None}.get(text.lower(), text)
    return lambda text: text or None


def _instant(text: str, format: str, zone: Any) -> Any:
    try:
        if format == "iso":
            instant = datetime.fromisoformat(text)
            return instant if instant.tzinfo else instant.replace(tzinfo=zone)
        seconds = Decimal(text) / (1000 if format == "epoch_ms" else 1)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(seconds * 1_000_000))
    except (ValueError, InvalidOperation, OverflowError):
        return text


def _whole(text: str) -> Any:
    try:
        return int(text) if text.strip().lstrip("+-").isdecimal() else text or None
    except ValueError:  # "--5", or over 4,300 digits
        return text


def _decimal(text: str) -> Any:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return text


def _csv_lines(file: TextIO) -> Iterator[tuple[int, Mapping[str, Any] | RawRow]]:
    reader = csv.reader(file)
    header = [name.strip() for name in next(reader)]
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, RawRow(b"", "malformed_line", f"The line cannot be read: {error}.")
            continue
        if len(cells) == len(header):
            yield reader.line_num, dict(zip(header, cells, strict=True))
        elif cells:
            line = ",".join(cells).encode("utf-8", "surrogateescape")
            yield (
                reader.line_num,
                RawRow(line, "malformed_line", f"The line has {len(cells)} cells, the header {len(header)}."),
            )


def _json_lines(file: TextIO) -> Iterator[tuple[int, Mapping[str, Any] | RawRow]]:
    for number, line in enumerate(file, 1):
        try:
            row = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError):  # no JSON, a number of over 4,300 digits, or nested without end
            row = None
        if isinstance(row, dict):
            yield number, row
        elif line.strip():
            raw = line.rstrip("\n").encode("utf-8", "surrogateescape")
            yield number, RawRow(raw, "malformed_line", "The line is no JSON object.")


def _is_json(path: Path) -> bool:
    return path.suffix in {".jsonl", ".ndjson", ".json"}
