"""What management commands share: errors as one sentence with an exit code, tables and JSON, arguments of a type."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DataError, IntegrityError, models

from controlplane.core.errors import ControlPlaneError

REFUSED, COULD_NOT_RUN = 1, 2

FULL = 507
"""Status of what a quota refuses: of all from 500 on the one that is a refusal."""

Row = TypeVar("Row", bound=models.Model)

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION = re.compile(r"[+-]?([0-9]{1,9}[wdhms])+", re.ASCII)


class Command(BaseCommand):
    """Base of our commands. A refusal of the project or the database becomes one sentence on stderr and an exit code.

    Exit codes: 0 done, 1 refused, 2 could not run (what is named is not there, or the database is away).
    """

    @property
    def name(self) -> str:
        """As it is typed: the name of its module."""
        return type(self).__module__.rpartition(".")[2]

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ControlPlaneError as error:
            unable = error.http_status == 404 or (error.http_status >= 500 and error.http_status != FULL)
            raise CommandError(error.message, returncode=COULD_NOT_RUN if unable else REFUSED) from error
        except ValidationError as error:
            raise CommandError(sentence(error), returncode=REFUSED) from error
        except IntegrityError as error:
            raise CommandError(f"The database refused this: {str(error).splitlines()[0]}.") from error
        except (DataError, UnicodeEncodeError) as error:  # bytes of an argument that are no UTF-8
            what = str(error).splitlines()[0]
            raise CommandError(f"A text or number cannot be kept: {what}. Write it otherwise.") from error

    def say(self, line: str) -> None:
        """A line for people, on stderr: stdout holds what was asked for alone."""
        self.stderr.write(line, str)

    def report(self, row: dict[str, Any], line: str, *, as_json: bool) -> None:
        """What was made: as one JSON object on stdout, or as a closing sentence."""
        if as_json:
            self.write_json(row)
        else:
            self.stdout.write(line)

    def write_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False))

    def write_page(self, rows: Sequence[dict[str, Any]], after: str | None, *, as_json: bool) -> None:
        """A page of a list: as `{"rows": […], "next": cursor or null}`, or as a table, the cursor then on stderr."""
        if as_json:
            self.write_json({"rows": rows, "next": after})
            return
        if rows:
            self.stdout.write(table(list(rows[0]), [[shown(value) for value in row.values()] for row in rows]))
        else:
            self.say("There is none.")
        if after is not None:
            self.say(f"There are more: go on with --after {after}")


class Progress:
    """How far a command is, on stderr: a bar that is drawn anew on a terminal, else a line each 10 s.

    name: what is being done; total: its steps, roughly; 0 = unknown. Called with the steps done so far. clock: seconds.
    """

    def __init__(
        self, stream: OutputWrapper, name: str, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._name, self._total, self._clock = stream, name, total, clock
        self._drawn = stream.isatty()
        self._began = self._last = clock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K", ending="")

    def __call__(self, done: int) -> None:
        moment = self._clock()
        if moment - self._last < (0.1 if self._drawn else 10):
            return
        self._last = moment
        rate = f"{done:,} rows, {done / max(moment - self._began, 1e-9):,.0f}/s"
        share = min(done / self._total, 1) if self._total else 0.0
        if self._drawn:
            bar = "█" * int(share * 30)
            left = f", {(moment - self._began) * (1 - share) / share:.0f} s left" if share else ""
            self._stream.write(f"\r\x1b[K{self._name} {bar:<30} {share:4.0%} {rate}{left}", ending="")
        else:
            self._stream.write(f"{self._name}: {f'{share:.0%}, ' if self._total else ''}{rate}")
        self._stream.flush()


def add_page_arguments(parser: argparse.ArgumentParser, cursor: str, type: Callable[[str], Any] = str) -> None:
    """--json, --limit and --after; cursor: what --after takes, for people; type: how it is read."""
    parser.add_argument("--json", action="store_true", help='one JSON object, {"rows": […], "next": …}, for scripts')
    parser.add_argument("--limit", type=page_size, default=100, help="rows of a page, 1 to 1000 (100)")
    parser.add_argument("--after", type=type, metavar=cursor, help="go on after this one, the last of the page before")


def page(rows: models.QuerySet[Row], by: str, after: Any, limit: int) -> tuple[list[Row], str | None]:
    """The next `limit` rows in the order of a unique field (`-field`: descending), and the cursor of the page after."""
    name, comparison = (by[1:], "lt") if by.startswith("-") else (by, "gt")
    if after is not None:
        rows = rows.filter(**{f"{name}__{comparison}": after})
    found = list(rows.order_by(by)[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    return found, str(getattr(found[-1], name)) if more else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns under their names."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def shown(value: Any) -> str:
    """A value in a cell: nothing as -, an instant to the minute in UTC, the rest as text on one line."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}Z" if value.utcoffset() == timedelta(0) else value.isoformat(timespec="minutes")
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return " ".join(str(value).split())


def sentence(error: ValidationError) -> str:
    """All that is wrong, as one line: `slug: This slug is taken.`"""
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        f"{' '.join(messages)}" if field == "__all__" else f"{field}: {' '.join(messages)}"
        for field, messages in error.message_dict.items()
    )


def instant(text: str) -> datetime:
    """An argument: ISO 8601 with an offset, as 2026-12-31T00:00Z."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write it as 2026-12-31T00:00Z") from None
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone: add Z, or an offset as +02:00")
    return found


def duration(text: str) -> timedelta:
    """An argument: 90d, 12h, 1w2d, -30m."""
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write it as 90d, 12h or 1h30m (w d h m s)")
    parts = re.findall(r"([0-9]+)([wdhms])", text)
    try:
        found = sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta(0))
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is too long") from None
    return -found if text.startswith("-") else found


def span(text: str) -> timedelta:
    """An argument: a duration that is not negative."""
    found = duration(text)
    if found < timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is negative: a span of time is needed")
    return found


def uuid(text: str) -> UUID:
    """An argument: an id."""
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no id: ids look as 01a1fe0d-3d4a-7e31-abc7-a2a510cc05b3"
        ) from None


def page_size(text: str) -> int:
    """An argument: a whole number from 1 to 1000."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is no page size: a whole number from 1 to 1000 is needed")
    return int(text)
