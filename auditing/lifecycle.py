"""A call from its start to its end: one statement to begin it, one to finish it, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections
from psycopg import sql
from psycopg.types.json import Jsonb

from auditing.adjusting import Adjustment, finish_lost
from auditing.directory import directory
from auditing.errors import ConflictingDuplicate, DuplicateRequest, InvalidRow, UnknownRequest
from auditing.pricer import FREE, UNPRICED, Price, price, pricer, read_price
from auditing.redaction import clean
from auditing.values import TOKENS, check_parts, check_text, count, money, small_object
from controlplane.core.ids import lower_bound, now, uuid7_at

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


def start(call: Start, *, using: str) -> UUID:
    """Note the call in flight; see InferenceRequest.objects.start."""
    at = now()
    id = uuid7_at(at)
    request_id = call.request_id if call.request_id is not None else id.hex
    check_text("request_id", request_id, 200)
    check_text("provider", call.provider, 64)
    check_text("model", call.model, 265)
    if call.requested_model is not None:
        check_text("requested_model", call.requested_model, 265)
    estimated = money("estimated_cost", call.estimated_cost)
    zone = call.time_zone or _zone(call.tenant_id)
    params: list[Any] = [
        id, at, request_id, call.tenant_id, call.app_id, call.branch_id, call.user_id, call.api_key_id,
        call.provider, call.model, call.requested_model, estimated, at + call.deadline, call.stream,
        zone, _json("metadata", call.metadata, 4096),
        call.tenant_id, request_id, lower_bound(at - RETRY_WINDOW),
    ]  # fmt: skip
    with connections[using].cursor() as cursor:
        cursor.execute(
            "INSERT INTO cp_auditing_inflightrequest (id, created_at, request_id, tenant_id, app_id, branch_id, "
            "user_id, api_key_id, provider, model, requested_model, status, estimated_cost, deadline, stream, "
            "time_zone, metadata) "
            "SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'pending', %s, %s, %s, %s, %s "
            "WHERE NOT EXISTS (SELECT FROM cp_auditing_inferencerequest "
            "WHERE tenant_id = %s AND request_id = %s AND id >= %s) "
            "ON CONFLICT (tenant_id, request_id) DO NOTHING RETURNING id",
            params,
        )
        if cursor.fetchone() is None:
            cursor.execute(
                "SELECT id, status FROM cp_auditing_inflightrequest WHERE tenant_id = %(t)s AND request_id = %(r)s "
                "UNION ALL SELECT id, status FROM cp_auditing_inferencerequest "
                "WHERE tenant_id = %(t)s AND request_id = %(r)s AND id >= %(b)s LIMIT 1",
                {"t": call.tenant_id, "r": request_id, "b": lower_bound(at - RETRY_WINDOW)},
            )
            found, status = cursor.fetchone() or (None, "finished")
            raise DuplicateRequest(
                f"Request {request_id} is {status} already. Use a new request id for a new call.",
                id=found,
                status=status,
            )
    return id


def running(id: UUID, *, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("UPDATE cp_auditing_inflightrequest SET status = 'running' WHERE id = %s", [id])
        if cursor.rowcount == 0:
            raise UnknownRequest(f"No request {id} is in flight: it was never started, or has ended.", id=id)


def finish(id: UUID, end: End, columns: Sequence[str], *, using: str) -> tuple[Any, ...]:
    """Turn the call in flight into its fact; returns the fact's `columns`. See InferenceRequest.objects.complete."""
    values = _fact(end)
    wanted = sql.SQL(", ").join(map(sql.Identifier, columns))
    with connections[using].cursor() as cursor:
        priced = _price(cursor, id, end, values, "cp_auditing_inflightrequest")
        stored: dict[str, Any] = {**values, **priced._asdict()}
        params: list[Any] = [Jsonb(value) if isinstance(value, dict) else value for value in stored.values()]
        query = _FINISH.format(
            names=sql.SQL(", ").join(map(sql.Identifier, stored)),
            values=sql.SQL(", ").join([sql.Placeholder()] * len(stored)),
            wanted=wanted,
        )
        try:
            cursor.execute(query, [id, *params])
        except IntegrityError as error:
            if "_once" not in str(error):
                raise
            raise ConflictingDuplicate(
                f"Request {id} cannot end: its request id was written meanwhile, by an import. That row stays.", id=id
            ) from error
        row = cursor.fetchone()
        if row is None:
            row = _earlier(cursor, id, end, stored, wanted, using)
    return tuple(row)


_FINISH = sql.SQL(
    "WITH gone AS (DELETE FROM cp_auditing_inflightrequest WHERE id = %s RETURNING *) "
    "INSERT INTO cp_auditing_inferencerequest (id, created_at, request_id, tenant_id, app_id, branch_id, user_id, "
    "api_key_id, provider, model, requested_model, stream, time_zone, local_date, metadata, source, {names}) "
    "SELECT id, created_at, request_id, tenant_id, app_id, branch_id, user_id, api_key_id, provider, model, "
    "requested_model, stream, time_zone, (created_at AT TIME ZONE time_zone)::date, metadata, 'gate', {values} "
    "FROM gone RETURNING {wanted}"
)


def _price(cursor: Any, id: UUID, end: End, values: dict[str, Any], table: str) -> Price:
    """What the call costs: nothing, what its caller says, or what the pricer says of the call as `table` has it."""
    if end.free:
        return FREE
    if end.cost is not None or pricer() is None:
        return read_price(end.cost)
    cursor.execute(_SUBJECT.format(sql.SQL(", ").join(map(sql.Identifier, _SUBJECTS)), sql.Identifier(table)), [id])
    row = cursor.fetchone()
    if row is None:  # it has ended before
        return UNPRICED
    [found] = price([SimpleNamespace(id=id, **values, **dict(zip(_SUBJECTS, row, strict=True)))])
    return found


_SUBJECTS = ("created_at", "tenant_id", "app_id", "provider", "model", "requested_model", "stream")
_SUBJECT = sql.SQL("SELECT {} FROM {} WHERE id = %s")


def _earlier(
    cursor: Any, id: UUID, end: End, values: dict[str, Any], wanted: sql.Composed, using: str
) -> tuple[Any, ...]:
    """The fact of a call that has ended before: so, or otherwise, or for lost and now is found."""
    # a cost that the caller does not name was worked out when the call ended first, and prices may have changed since
    same = ("status", *TOKENS, *(["cost"] if end.free or end.cost is not None else []))
    cursor.execute(
        sql.SQL("SELECT {}, {} FROM cp_auditing_inferencerequest WHERE id = %s AND adjusts IS NULL").format(
            sql.SQL(", ").join(map(sql.Identifier, same)), wanted
        ),
        [id],
    )
    row = cursor.fetchone()
    if row is None:
        raise UnknownRequest(f"No request {id} is in flight or finished. Start it first.", id=id)
    if row[0] == "lost":
        _finish_lost(cursor, id, end, values, using)
    elif row[: len(same)] != tuple(values[name] for name in same):
        raise ConflictingDuplicate(
            f"Request {id} has ended before as {row[0]}, with other figures. The first end stays.", id=id, status=row[0]
        )
    return tuple(row[len(same) :])


def _finish_lost(cursor: Any, id: UUID, end: End, values: dict[str, Any], using: str) -> None:
    priced = _price(cursor, id, end, values, "cp_auditing_inferencerequest")
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
        "other_units": small_object("other_units", getattr(end.usage, "other_units", None), 4096),
        "latency_ms": count("latency_ms", end.latency_ms),
        "ttft_ms": count("ttft_ms", end.ttft_ms),
        "error_code": clean(end.error_code)[:64],
        "error": clean(end.error)[:2000],
    }


def counted(usage: object) -> dict[str, int | None]:
    """The token counts of a usage, by name. Raises InvalidRow for counts that no call has."""
    tokens = {name: count(name, getattr(usage, name, None)) for name in TOKENS}
    check_parts(tokens)
    return tokens


def _json(name: str, value: object, most: int) -> Jsonb | None:
    kept = small_object(name, value, most)
    return None if kept is None else Jsonb(kept)


def _zone(tenant_id: UUID) -> str:
    facts = directory().tenants([tenant_id]).get(tenant_id)
    if facts is None:
        raise InvalidRow(message=f"No tenant has the id {tenant_id}.")
    return facts.time_zone
