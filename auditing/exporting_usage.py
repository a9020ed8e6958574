"""Usage as files: totals or requests, as CSV, JSON lines or in the columns that cost tools read (FOCUS)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from django.db import connections
from psycopg import sql

from auditing import focus
from auditing.cells import line, plain
from auditing.context import audit_context
from auditing.errors import InvalidExport
from auditing.metrics import Total, totals
from auditing.models import AuditLog, InferenceRequest
from auditing.windows import id_bounds
from controlplane.core.conf import conf
from controlplane.core.ids import iso

BATCH = 5000
FORMATS = ("csv", "jsonl", "focus")
_SUMS = ("requests", "completed", "failed", "prompt_tokens", "completion_tokens", "cost", "unpriced")
COLUMNS = tuple(
    field.attname for field in InferenceRequest._meta.concrete_fields if field.attname not in ("schema", "xid")
)
"""Of a request: all but what the proof of the log needs."""
_OBJECTS = frozenset({"other_units", "cost_breakdown", "metadata"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageExport:
    """What to export of a tenant: requests that count in start <= instant < end (aware), each for itself (`raw`), or their
    totals by the groups of InferenceRequest.objects.totals. focus: by day, app, branch, key and model, whatever `by` says."""

    tenant_id: UUID
    start: datetime
    end: datetime
    format: str = "csv"
    by: tuple[str, ...] = ("model",)
    raw: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        if self.format == "focus":
            return focus.COLUMNS
        return COLUMNS if self.raw else (*self.by, *_SUMS)


class Stream(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Exported:
    """rows: of the file, without its head and closing line."""

    rows: int


def check(export: UsageExport) -> None:
    """Raises InvalidExport, InvalidWindow for what cannot be exported, before anything is written."""
    if export.format not in FORMATS:
        raise InvalidExport(message=f"The format {export.format!r} is unknown: choose from {', '.join(FORMATS)}.")
    if export.raw and export.format == "focus":
        raise InvalidExport(
            message="FOCUS tells charges by day, not requests: leave out --raw, or choose another format."
        )
    id_bounds(export.start, export.end)


def write_file(
    export: UsageExport, path: Path, *, by: object, progress: Callable[[int], None] | None = None
) -> Exported:
    """Write an export to a file, which is there once it is whole: until then it has another name beside it.

    by: who exports, for the audit log. Raises InvalidExport where the file cannot be written, and as `check`.
    """
    check(export)
    if path.is_dir():
        raise InvalidExport(message=f"{path} is a folder. Name a file in it.")
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("x", encoding="utf-8", newline="") as file:
            done = write(export, file, by=by, closing=export.format == "jsonl", progress=progress)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InvalidExport(message=f"{path} cannot be written: {error.strerror}. Choose another place.") from error
    finally:
        beside.unlink(missing_ok=True)
    return done


def write(
    export: UsageExport,
    out: Stream,
    *,
    by: object,
    closing: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Write an export to a stream, some rows at a time. closing: end it with a line that a cut one has not: in CSV `_end` and
    the number of rows, in JSON lines {"_end": true, "rows": n}.

    Recorded in the audit log before the first row and at the end, be it complete or not.
    """
    check(export)
    with _recorded(export, by) as told:
        if export.format != "jsonl":
            out.write(line(export.columns))
        for records in batches(export):
            out.write("".join(map(_writer(export), records)))
            told["rows"] += len(records)
            if progress:
                progress(told["rows"])
        if closing:
            end = {"_end": True, "rows": told["rows"]}
            out.write(json.dumps(end) + "\n" if export.format == "jsonl" else line(["_end", told["rows"]]))
        out.flush()
    return Exported(told["rows"])


def batches(export: UsageExport, *, using: str | None = None) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of an export, BATCH at most at a time, in the order of `export.columns`."""
    alias = using or conf.DATABASE
    if export.raw:
        yield from _requests(export, alias)
        return
    by = focus.BY if export.format == "focus" else export.by
    found = totals(export.tenant_id, export.start, export.end, by, using=alias)
    rows = (
        focus.rows(export.tenant_id, export.start, export.end, found) if export.format == "focus" else map(_row, found)
    )
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(total: Total) -> tuple[Any, ...]:
    return (*total.key, *(getattr(total, name) for name in _SUMS))


# What counts at its own instant is found by its id, what was booked later by when it was.
_OWN = sql.SQL(
    "booked_at IS NULL AND id > %(after)s AND id < %(high)s AND created_at >= %(start)s AND created_at < %(end)s"
)
_LATE = sql.SQL("booked_at >= %(start)s AND booked_at < %(end)s AND id > %(after)s AND id < %(high)s")
_PAGE = sql.SQL(
    "SELECT {columns} FROM cp_auditing_inferencerequest WHERE tenant_id = %(tenant)s AND {which} ORDER BY id LIMIT %(size)s"
)


def _requests(export: UsageExport, using: str) -> Iterator[list[tuple[Any, ...]]]:
    low, high = id_bounds(export.start, export.end)
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    for which, first in ((_OWN, UUID(int=max(low.int - 1, 0))), (_LATE, UUID(int=0))):
        query, after = _PAGE.format(columns=columns, which=which), first
        while True:
            with connections[using].cursor() as cursor:  # each page is a transaction of its own
                cursor.execute(
                    query,
                    {
                        "tenant": export.tenant_id, "start": export.start, "end": export.end, "high": high,
                        "after": after, "size": BATCH,
                    },
                )  # fmt: skip
                rows = cursor.fetchall()
            if rows:
                yield rows
                after = rows[-1][0]
            if len(rows) < BATCH:
                break


def _writer(export: UsageExport) -> Callable[[Sequence[Any]], str]:
    if export.format != "jsonl":
        return line
    names = export.columns

    def as_json(values: Sequence[Any]) -> str:
        return json.dumps(dict(zip(names, map(_json, names, values), strict=True)), ensure_ascii=False) + "\n"

    return as_json


def _json(name: str, value: Any) -> Any:
    """Money is text: a reader that takes numbers for floats would lose its digits."""
    if name in _OBJECTS and isinstance(value, str):  # Django's connections give jsonb as text
        return json.loads(value)
    if value is None or isinstance(value, bool | int | str | dict):
        return value
    return f"{value:f}" if isinstance(value, Decimal) else plain(value)


@contextmanager
def _recorded(export: UsageExport, by: object) -> Iterator[dict[str, Any]]:
    """Two events: that it begins, with its filters and columns, and that it has ended, with its rows."""
    filters = {
        "from": iso(export.start), "to": iso(export.end), "format": export.format, "raw": export.raw,
        "by": None if export.raw else list(focus.BY if export.format == "focus" else export.by),
    }  # fmt: skip
    told: dict[str, Any] = {"rows": 0, "complete": False}
    with audit_context(actor=by):
        begun = AuditLog.objects.record(
            "usage.export_begun", tenant=export.tenant_id, details={**filters, "columns": list(export.columns)}
        )
    try:
        yield told
        told["complete"] = True
    finally:
        with audit_context(actor=by):
            AuditLog.objects.record(
                "usage.export_ended",
                tenant=export.tenant_id,
                outcome="success" if told["complete"] else "failure",
                details={"begun": str(begun.pk), **told},
            )
