"""Rows into the logs: each once, by its id, however often it is tried; what the database refuses becomes a dead letter."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connections

from auditing import events, ingest
from auditing.columns import KINDS, Refusal, Refused
from auditing.deadletters import Origin, keep_aside
from auditing.errors import AuditUnavailable, InvalidRow
from auditing.redaction import redact, redact_text
from auditing.writer.connecting import no_partition, refuses_row, sqlstate
from auditing.writer.queue import Row
from controlplane.core import partitions
from controlplane.core.bulk import copy_text
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import NIL, now, number_of
from controlplane.core.statements import fetch

logger = logging.getLogger(__name__)

ORIGIN = "writer"
"""What dead letters of here name as their source."""

MAX_BYTES = 1 << 20
_LOG = "cp_auditing_auditlog"
_COLUMNS = ", ".join(events.COLUMNS)
_COPIED = 16
"""Rows from which COPY, which asks the server twice, is the quicker way."""

_AT_ONCE = 100
_INSERT = (
    "WITH written AS (INSERT INTO cp_auditing_auditlog (" + _COLUMNS + ") "  # noqa: S608 - constants
    "SELECT " + _COLUMNS + " FROM json_populate_recordset(NULL::cp_auditing_auditlog, %s::json) "
    "ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM written"
)

Item = TypeVar("Item")


class Unavailable(Exception):
    """The database did not take rows now; all of them may be tried again."""


@dataclass(slots=True)
class Outcome:
    """What became of rows. refused: why, by their place; committed + duplicates + refused = rows."""

    committed: int = 0
    duplicates: int = 0
    refused: dict[int, str] = field(default_factory=dict)


def freeze(told: Mapping[str, Any]) -> tuple[bytes, UUID]:
    """A finished call as bytes, and the id its fact will have. Raises InvalidRow for what has none, and for what is no row."""
    if not isinstance(told, Mapping):
        raise InvalidRow(message=f"A request is {type(told).__name__}: give a mapping, keyed by column.")
    try:
        at, tenant, request = (KINDS[name].read(name, told[name]) for name in ("created_at", "tenant_id", "request_id"))
        id = UUID(int=number_of(at, tenant.bytes + b"\x00" + request.encode()))
        data = json.dumps(dict(told), default=_typed).encode()
    except KeyError as error:
        raise InvalidRow(message=f"{error.args[0]} is missing.") from None
    except Refused as why:
        raise InvalidRow(message=why.refusal.message) from None
    except AttributeError:
        raise InvalidRow(message="created_at, tenant_id and request_id need a value.") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRow(message=f"A request holds what no column takes: {redact_text(str(error))[:200]}.") from None
    if len(data) > MAX_BYTES:
        raise InvalidRow(message=f"A request has {len(data)} bytes: {MAX_BYTES} are the most.")
    return data, id


def thawed_request(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data, object_hook=_untyped)
    return found


def payload(row: Row) -> bytes:
    """A row of the queue as the spool keeps it: ASCII, without secrets."""
    if row.kind == "e":
        return b"e" + events.as_json(events.texts(events.thawed(row.data))).encode()
    return b"r" + json.dumps(redact(thawed_request(row.data)), default=_typed).encode()


def write_events(told: Sequence[events.Event]) -> Outcome:
    """Events as they were told. Raises Unavailable."""
    if len(told) >= _COPIED and _copied(told):
        return Outcome(len(told))
    return write_json([events.as_json(events.texts(one)) for one in told])


def write_json(lines: Sequence[str]) -> Outcome:
    """Events, as `events.as_json` says them. Raises Unavailable."""
    return _halving(lines, _insert, _event_letter)


def _copied(told: Sequence[events.Event]) -> bool:
    """Write new rows at half of the server's work, which takes some while others are made ready. False: it takes them not all,
    and none was written."""
    blocks = (
        "\n".join([events.as_copied(events.texts(one)) for one in told[at : at + _AT_ONCE]]) + "\n"
        for at in range(0, len(told), _AT_ONCE)
    )
    try:
        with connections[conf.DATABASE].cursor() as cursor:
            copy_text(cursor, _LOG, events.COLUMNS, blocks)
    except (DatabaseError, InterfaceError) as error:
        if refuses_row(error):
            return False
        raise Unavailable(str(error).strip()) from error
    return True


def write_requests(requests: Sequence[Mapping[str, Any]], *, historical: bool) -> Outcome:
    """Finished calls, as `ingest` takes them. Raises Unavailable."""
    return _halving(requests, lambda some: _ingest(some, historical), lambda request: request)


def _halving(
    items: Sequence[Item], write: Callable[[Sequence[Item]], Outcome], letter: Callable[[Item], Mapping[str, Any]]
) -> Outcome:
    """Write all at once, else by halves, so that one bad row stands alone; that is kept aside."""
    if not items:
        return Outcome()
    try:
        return write(items)
    except (DatabaseError, InterfaceError) as error:
        if not refuses_row(error):
            raise Unavailable(str(error).strip()) from error
        why: Exception = error
    except (AuditUnavailable, OSError) as error:
        raise Unavailable(str(error)) from error
    except Exception as error:
        why = error
    if len(items) == 1:
        return _keep_aside(letter(items[0]), why)
    middle = len(items) // 2
    first, second = _halving(items[:middle], write, letter), _halving(items[middle:], write, letter)
    return Outcome(
        first.committed + second.committed,
        first.duplicates + second.duplicates,
        first.refused | {middle + place: said for place, said in second.refused.items()},
    )


def _insert(lines: Sequence[str]) -> Outcome:
    alias: str = conf.DATABASE
    text = "[" + ",".join(lines) + "]"
    try:
        [[count]] = fetch(alias, _INSERT, [text])
    except DatabaseError as error:
        if not no_partition(error):
            raise
        times = [datetime.fromisoformat(json.loads(line)["created_at"]) for line in lines]
        log = partitions.PartitionedLog(_LOG)
        try:
            partitions.ensure(log, now(), months={partitions.month_of(at) for at in times}, using=alias)
        except ControlPlaneError:  # a month that no log takes: the row, once it stands alone, says so
            raise error from error.__cause__
        [[count]] = fetch(alias, _INSERT, [text])
    return Outcome(count, len(lines) - count)


def _ingest(requests: Sequence[Mapping[str, Any]], historical: bool) -> Outcome:
    found = ingest.ingest(
        enumerate(requests), source="ingest", origin=ORIGIN, historical=historical, batch_size=len(requests),
        using=conf.DATABASE,
    )  # fmt: skip
    return Outcome(found.inserted, found.duplicates, {why.row: why.message for why in found.rejections})


def _keep_aside(row: Mapping[str, Any], error: Exception) -> Outcome:
    state = sqlstate(error)
    said = redact_text((str(error).strip() or type(error).__name__).splitlines()[0])
    message = (
        f"The database refused the row (SQLSTATE {state}): {said}"
        if state
        else f"The row could not be written ({type(error).__name__}): {said}"
    )
    try:
        with connections[conf.DATABASE].cursor() as cursor:
            keep_aside(cursor, [(0, Refusal("database_refused", "", message), row)], Origin(ORIGIN, NIL))
    except (DatabaseError, InterfaceError) as failure:
        if not refuses_row(failure):
            raise Unavailable(str(failure).strip()) from failure
        logger.error("a row is lost, for its dead letter was refused too: %s", failure)
    return Outcome(refused={0: message})


def _event_letter(line: str) -> Mapping[str, Any]:
    row: dict[str, Any] = json.loads(line)
    return row


def _typed(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return {"$datetime": value.isoformat()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    raise TypeError(f"{type(value).__name__} is no value of a request")


def _untyped(value: dict[str, Any]) -> Any:
    try:
        if value.keys() == {"$datetime"}:
            return datetime.fromisoformat(value["$datetime"])
        if value.keys() == {"$decimal"}:
            return Decimal(value["$decimal"])
    except (TypeError, ValueError, ArithmeticError):  # it only looks like ours
        return value
    return value
