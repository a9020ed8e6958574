"""Rows that a log refuses, kept whole with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from auditing.columns import Refusal
from auditing.redaction import clean, redact
from controlplane.core.ids import uuid7


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row of a file that could not be read as a row at all: its line, and why."""

    line: bytes
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from, and whose they are when they do not say it."""

    name: str
    tenant_id: UUID


def keep_aside(
    cursor: CursorWrapper, refused: list[tuple[int, Refusal, Mapping[str, Any] | RawRow]], origin: Origin
) -> None:
    """Write the dead letters of (row number, why, row); one that is there already stays as it is."""
    letters = [_letter(number, refusal, row, origin) for number, refusal, row in refused]
    cursor.executemany(
        "INSERT INTO cp_auditing_deadletter (id, tenant_id, source, row_number, request_id, code, field, message, "
        "payload, payload_bytes, sha256, resolution, resolved_by) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '', '') "
        "ON CONFLICT (tenant_id, source, row_number, sha256) DO NOTHING",
        letters,
    )


_PAYLOAD_LIMIT = 16 * 1024 * 1024


def _letter(number: int, refusal: Refusal, row: Mapping[str, Any] | RawRow, origin: Origin) -> list[Any]:
    tenant, request_id = origin.tenant_id, ""
    if isinstance(row, RawRow):
        payload = str(redact(row.line.decode("utf-8", "replace"))).encode()
    else:
        whole = redact({str(name): value for name, value in row.items()})
        payload = json.dumps(whole, default=str, ensure_ascii=False, skipkeys=True).encode("utf-8", "replace")
        request_id = clean(str(row.get("request_id") or ""))[:200]
        try:
            tenant = UUID(str(row.get("tenant_id")))
        except ValueError:
            tenant = origin.tenant_id
    return [
        uuid7(), tenant, clean(origin.name)[:300], number, request_id, refusal.code, clean(refusal.field), clean(refusal.message),
        payload[:_PAYLOAD_LIMIT], len(payload), hashlib.sha256(payload).digest(),
    ]  # fmt: skip
