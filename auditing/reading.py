"""The text of a usage log: its lines, and what a cell of a column means."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from auditing.deadletters import RawRow

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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FORMATS = ("iso", "epoch_s", "epoch_ms")
"""Of created_at: ISO 8601, or seconds or milliseconds since 1970."""


def reader(name: str, format: str = "iso", zone: str = "UTC") -> Callable[[str], Any]:
    """From a cell's text to a value; text that does not fit stays text, for validation to name it."""
    if name == "created_at":
        local = UTC if zone == "UTC" else ZoneInfo(zone)
        if format == "iso":
            return lambda text: _iso(text, local)
        unit = 1000 if format == "epoch_ms" else 1
        return lambda text: _epoch(text, unit)
    if name in _WHOLE:
        return _whole
    if name == "cost":
        return _decimal
    if name == "stream":
        return lambda text: {"true": True, "1": True, "false": False, "0": False, "": None}.get(text.lower(), text)
    return lambda text: text or None


def _whole(text: str) -> int | str | None:
    try:
        return int(text) if text.isdecimal() or text.strip().lstrip("+-").isdecimal() else text or None
    except ValueError:  # "--5", or over 4,300 digits
        return text


def _iso(text: str, zone: tzinfo) -> Any:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return text or None
    return instant if instant.tzinfo else instant.replace(tzinfo=zone)


def _epoch(text: str, unit: int) -> Any:
    try:
        return _EPOCH + timedelta(microseconds=int(Decimal(text) * (1_000_000 // unit)))
    except (ValueError, InvalidOperation, OverflowError):
        return text or None


def _decimal(text: str) -> Any:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return text


class Lines:
    """The lines of a file, for a reader of records. What a broken record swallowed beyond its first line comes again:
    a quote that is never closed costs its own line, not those behind it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = iter(file)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self.number = 0
        """Of the last line that was given, from 1."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self.number += 1
        self._record.append(line)
        return line

    def mark(self) -> None:
        """A record begins."""
        self._record.clear()

    def reject(self, why: str) -> tuple[int, RawRow]:
        """The first line of the record as one that is no row, under its number."""
        first, *rest = self._record
        self.number -= len(rest)
        self._again.extendleft(reversed(rest))
        return self.number, RawRow(raw(first), "malformed_line", why)


def raw(line: str) -> bytes:
    return line.rstrip("\r\n").encode("utf-8", "surrogateescape")
