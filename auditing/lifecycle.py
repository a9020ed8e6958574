"""A call from its start to its end: one statement to begin it, one to finish it, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError, connections
from psycopg import sql

from auditing.adjusting import Adjustment, finish_lost
from auditing.directory import directory
from auditing.errors import ConflictingDuplicate, DuplicateRequest, InvalidRow, UnknownRequest
from auditing.pricer import FREE, UNPRICED, Price, price, pricer, read_price
from auditing.redaction import clean
from auditing.values import TOKENS, check_parts, check_text, count, money, small_object
from controlplane.core.ids import lower_bound, now, uuid7_at
from controlplane.core.statements import Statement, fetch, plain, send_together

RETRY_WINDOW = timedelta(days=35)
"""How far back a finished request id is looked for when it is used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a provider reported of a call. None = not reported. prompt_tokens includes cached and cache-written ones,
    completion_tokens reasoning. other_units: images, audio_seconds, … by name."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    other_units: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    tenant_id: UUID
    provider: str
    model: str
    request_id: str | None = None
    requested_model: str | None = None
    app_id: UUID | None = None
    branch_id: UUID | None = None
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    estimated_cost: Decimal | None = None
    deadline: timedelta = timedelta(minutes=10)
    stream: bool = False
    metadata: dict[str, Any] | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended. free: it costs 0, whatever was used."""

    status: str
    usage: object = None
    cost: object = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    error: str = ""
    error_code: str = ""
    free: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class Flight:
    """A call that is about to begin, checked. id: of its row, and of its fact; request_id: the caller's, or made from the id."""

    id: UUID
    at: datetime
    request_id: str
    call: Start
    estimated_cost: Decimal | None
    time_zone: str
    metadata: str | None

    @classmethod
    def of(cls, call: Start, at: datetime | None = None) -> Flight:
        """at: when it was accepted, None = now. Raises InvalidRow for what its row, or later its fact, would not take."""
        at = at or now()
        id = uuid7_at(at)
        request_id = call.request_id if call.request_id is not None else id.hex
        check_text("request_id", request_id, 200)
        check_text("provider", call.provider, 64)
        check_text("model", call.model, 265)
        if call.requested_model is not None:
            check_text("requested_model", call.requested_model, 265)
        estimated, kept = money("estimated_cost", call.estimated_cost), small_object("metadata", call.metadata, 4096)
        zone = call.time_zone or _zone(call.tenant_id)
        return cls(id, at, request_id, call, estimated, zone, None if kept is None else json.dumps(kept))

    def statement(self, only_if: Statement[Any] | None = None) -> Statement[bool]:
        """Notes it in flight: whether it did. Not if its request id is taken, or the condition `only_if` (SQL) is false."""
        call, query = self.call, _START
        params = [
            self.id, self.at, self.request_id, call.tenant_id, call.app_id, call.branch_id, call.user_id, call.api_key_id,
            call.provider, call.model, call.requested_model, self.estimated_cost, self.at + call.deadline, call.stream,
            self.time_zone, self.metadata, call.tenant_id, self.request_id, lower_bound(self.at - RETRY_WINDOW),
        ]  # fmt: skip
        if only_if is not None:
            query, params = f"{_START} AND {only_if.query}", [*params, *only_if.params]
        return Statement(f"{query} {_ONCE}", list(map(plain, params)), bool)

    def subject(self) -> Subject:
        """What a price depends on, of the call as it began."""
        call = self.call
        return Subject(
            self.at, call.tenant_id, call.app_id, call.provider, call.model, call.requested_model, call.stream
        )

    def taken(self, *, using: str) -> DuplicateRequest:
        """The error of a request id in use, with the id and status of the request that has it."""
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT id, status FROM cp_auditing_inflightrequest WHERE tenant_id = %(t)s AND request_id = %(r)s "
                "UNION ALL SELECT id, status FROM cp_auditing_inferencerequest "
                "WHERE tenant_id = %(t)s AND request_id = %(r)s AND id >= %(b)s LIMIT 1",
                {"t": self.call.tenant_id, "r": self.request_id, "b": lower_bound(self.at - RETRY_WINDOW)},
            )
            found, status = cursor.fetchone() or (None, "finished")
        return DuplicateRequest(
            f"Request {self.request_id} is {status} already. Use a new request id for a new call.",
            id=found,
            status=status,
        )


_START = (
    "INSERT INTO cp_auditing_inflightrequest (id, created_at, request_id, tenant_id, app_id, branch_id, "
    "user_id, api_key_id, provider, model, requested_model, status, estimated_cost, deadline, stream, "
    "time_zone, metadata) "
    "SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'pending', %s, %s, %s, %s, %s "
    "WHERE NOT EXISTS (SELECT FROM cp_auditing_inferencerequest "
    "WHERE tenant_id = %s AND request_id = %s AND id >= %s)"
)
_ONCE = "ON CONFLICT (tenant_id, request_id) DO NOTHING RETURNING id"


def start(call: Start, *, using: str) -> UUID:
    """Note the call in flight; see InferenceRequest.objects.start."""
    flight = Flight.of(call)
    if not flight.statement().send(using):
        raise flight.taken(using=using)
    return flight.id


def running(id: UUID, *, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("UPDATE cp_auditing_inflightrequest SET status = 'running' WHERE id = %s", [id])
        if cursor.rowcount == 0:
            raise UnknownRequest(f"No request {id} is in flight: it was never started, or has ended.", id=id)


class Subject(NamedTuple):
    """What a price depends on, of a call: columns of its row."""

    created_at: datetime
    tenant_id: UUID
    app_id: UUID | None
    provider: str
    model: str
    requested_model: str | None
    stream: bool


Beside = Callable[[dict[str, Any], Price], Statement[Any]]
"""From what a fact will say of the use (its columns) and the price: a statement to send along; what it reads is its own."""


def finish(
    id: UUID,
    end: End,
    columns: Sequence[str],
    *,
    using: str,
    subject: Subject | None = None,
    beside: Beside | None = None,
) -> tuple[Any, ...]:
    """Turn the call in flight into its fact; returns the fact's `columns`. See InferenceRequest.objects.finish."""
    values = _fact(end)
    priced = _price(id, end, values, "cp_auditing_inflightrequest", using, subject)
    stored: dict[str, Any] = {**values, **priced._asdict()}
    statements: list[Statement[Any]] = [ending(id, stored, columns)]
    if beside is not None:
        statements.insert(0, beside(values, priced))
    try:
        rows = send_together(using, statements)[-1]
    except IntegrityError as error:
        if "_once" not in str(error):
            raise
        raise ConflictingDuplicate(
            f"Request {id} cannot end: its request id was written meanwhile, by an import. That row stays.", id=id
        ) from error
    return rows[0] if rows else _earlier(id, end, stored, columns, using)


def ending(id: UUID, stored: dict[str, Any], columns: Sequence[str]) -> Statement[list[tuple[Any, ...]]]:
    """Writes the fact of a call in flight; its `columns`, or no row where it is in flight no more. stored: what its end fills."""
    params = [json.dumps(value) if isinstance(value, dict) else plain(value) for value in stored.values()]
    return Statement(_finish_query(tuple(stored), tuple(columns)), [plain(id), *params], list)


@cache
def _finish_query(names: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    return _FINISH.format(
        names=_listed(names), values=sql.SQL(", ").join([sql.Placeholder()] * len(names)), wanted=_listed(wanted)
    ).as_string()


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


_FINISH = sql.SQL(
    "WITH gone AS (DELETE FROM cp_auditing_inflightrequest WHERE id = %s RETURNING *) "
    "INSERT INTO cp_auditing_inferencerequest (id, created_at, request_id, tenant_id, app_id, branch_id, user_id, "
    "api_key_id, provider, model, requested_model, stream, time_zone, local_date, metadata, source, {names}) "
    "SELECT id, created_at, request_id, tenant_id, app_id, branch_id, user_id, api_key_id, provider, model, "
    "requested_model, stream, time_zone, (created_at AT TIME ZONE time_zone)::date, metadata, 'gate', {values} "
    "FROM gone RETURNING {wanted}"
)


def _price(id: UUID, end: End, values: dict[str, Any], table: str, using: str, subject: Subject | None = None) -> Price:
    """What the call costs: nothing, what its caller says, or what the pricer says of it, as `table` has it if not given."""
    if end.free:
        return FREE
    if end.cost is not None or pricer() is None:
        return read_price(end.cost)
    if subject is None:
        query = _SUBJECT.format(_listed(Subject._fields), sql.Identifier(table)).as_string()
        rows = fetch(using, query, [id])
        if not rows:  # it has ended before
            return UNPRICED
        subject = Subject(*rows[0])
    [found] = price([SimpleNamespace(id=id, **values, **subject._asdict())])
    return found


_SUBJECT = sql.SQL("SELECT {} FROM {} WHERE id = %s")


def _earlier(id: UUID, end: End, values: dict[str, Any], columns: Sequence[str], using: str) -> tuple[Any, ...]:
    """The fact of a call that has ended before: so, or otherwise, or for lost and now is found."""
    # a cost that the caller does not name was worked out when the call ended first, and prices may have changed since
    same = ("status", *TOKENS, *(["cost"] if end.free or end.cost is not None else []))
    query = sql.SQL("SELECT {} FROM cp_auditing_inferencerequest WHERE id = %s AND adjusts IS NULL")
    rows = fetch(using, query.format(_listed([*same, *columns])).as_string(), [id])
    if not rows:
        raise UnknownRequest(f"No request {id} is in flight or finished. Start it first.", id=id)
    [row] = rows
    if row[0] == "lost":
        _finish_lost(id, end, values, using)
    elif row[: len(same)] != tuple(values[name] for name in same):
        raise ConflictingDuplicate(
            f"Request {id} has ended before as {row[0]}, with other figures. The first end stays.", id=id, status=row[0]
        )
    return row[len(same) :]


def _finish_lost(id: UUID, end: End, values: dict[str, Any], using: str) -> None:
    priced = _price(id, end, values, "cp_auditing_inferencerequest", using)
    told = end.free or end.cost is not None
    late = Adjustment(
        adjusts=id, reason_code="late_completion", reason="The call ended after it was given up for lost.",
        price_id=priced.price_id, breakdown=priced.cost_breakdown, status=end.status,
        told=str(priced.cost) if told else None, **{name: values[name] for name in _LATE},
    )  # fmt: skip
    finish_lost(late, priced.cost, using=using)


_LATE = (*TOKENS, "other_units", "latency_ms", "ttft_ms", "error_code", "error")


def _fact(end: End) -> dict[str, Any]:
    """Columns that the end of a call fills, but for its cost."""
    return {
        "status": end.status,
        **counted(end.usage),
        "other_units": _units(end.usage),
        "latency_ms": count("latency_ms", end.latency_ms),
        "ttft_ms": count("ttft_ms", end.ttft_ms),
        "error_code": clean(str(end.error_code))[:64],
        "error": clean(str(end.error))[:2000],
    }


def counted(usage: object) -> dict[str, int | None]:
    """The token counts of a usage, by name. Raises InvalidRow for counts that no call has."""
    tokens = {name: count(name, getattr(usage, name, None)) for name in TOKENS}
    check_parts(tokens)
    return tokens


def checked(usage: object) -> None:
    """Raises InvalidRow for a usage that no fact can tell."""
    counted(usage)
    _units(usage)


def _units(usage: object) -> dict[str, object] | None:
    units = getattr(usage, "other_units", None)
    if units is not None and not isinstance(units, Mapping):
        raise InvalidRow(message=f"other_units is {type(units).__name__}: give amounts by name, or None.")
    return small_object("other_units", units, 4096)


def _zone(tenant_id: UUID) -> str:
    facts = directory().tenants([tenant_id]).get(tenant_id)
    if facts is None:
        raise InvalidRow(message=f"No tenant has the id {tenant_id}.")
    return facts.time_zone
