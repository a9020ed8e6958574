"""Refused rows once more: what may have changed is a month, a tenant, a price or a program, never the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections, transaction

from auditing import events, ingest
from auditing.columns import Refusal
from auditing.redaction import redact_text
from controlplane.core import partitions
from controlplane.core.ids import now

_EVENTS = partitions.PartitionedLog("cp_auditing_auditlog")
_COLUMNS = ", ".join(events.COLUMNS)
_INSERT = (
    "INSERT INTO cp_auditing_auditlog (" + _COLUMNS + ") "  # noqa: S608 - constants
    "SELECT " + _COLUMNS + " FROM json_populate_record(NULL::cp_auditing_auditlog, %s::json) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of payloads, by their place. refused: why; those that are unreadable have no reason but the old one."""

    inserted: int = 0
    duplicates: int = 0
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    unreadable: frozenset[int] = frozenset()


def write(payloads: Sequence[bytes], *, using: str) -> Outcome:
    """Write what refused rows say, requests and events of the log, in the caller's transaction."""
    read = {place: _read(payload) for place, payload in enumerate(payloads)}
    requests = [(place, row) for place, row in read.items() if row is not None and not _is_event(row)]
    inserted, duplicates, refused = ingest.again(requests, using=using) if requests else (0, 0, [])
    reasons = dict(refused)
    for place, row in read.items():
        if row is None or not _is_event(row):
            continue
        try:
            new = _event(row, using)
        except _Refused as why:
            reasons[place] = why.refusal
        else:
            inserted, duplicates = inserted + new, duplicates + (not new)
    return Outcome(inserted, duplicates, reasons, frozenset(place for place, row in read.items() if row is None))


class _Refused(Exception):
    def __init__(self, message: str) -> None:
        self.refusal = Refusal("database_refused", "", redact_text(message))


def _is_event(row: Mapping[str, Any]) -> bool:
    return "actor_type" in row


def _read(payload: bytes) -> Mapping[str, Any] | None:
    """The row of a payload; None for a line of a file that could not be read as a row, and for what was cut."""
    try:
        found = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(found, dict) or _is_event(found):
        return found if isinstance(found, dict) else None
    # JSON says instants and amounts as text, and a dead letter holds them so
    typed: dict[str, Callable[[str], Any]] = {"created_at": datetime.fromisoformat, "cost": Decimal}
    row = {name: _typed(value, typed[name]) if name in typed else value for name, value in found.items()}
    if isinstance(units := row.get("other_units"), dict):
        row["other_units"] = {name: _typed(value, Decimal) for name, value in units.items()}
    return row


def _typed(value: Any, read: Callable[[str], Any]) -> Any:
    """Text as what it says; as it is, where it says no such thing."""
    try:
        return read(value) if isinstance(value, str) else value
    except (ValueError, ArithmeticError):
        return value


def _event(row: Mapping[str, Any], using: str) -> bool:
    """Write an event that the log refused; False where it is there."""
    try:
        month = partitions.month_of(datetime.fromisoformat(row["created_at"]))
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            partitions.ensure(_EVENTS, now(), months=[month], using=using)
            cursor.execute(_INSERT, [json.dumps(dict(row))])
            return bool(cursor.rowcount)
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError as error:
        state = getattr(error.__cause__, "sqlstate", None) or "—"
        raise _Refused(f"The database refused the row (SQLSTATE {state}): {str(error).splitlines()[0]}") from error
    except partitions.PartitionMissing as error:
        raise _Refused(error.message) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _Refused("The row has no created_at that can be read.") from error
