"""A call from its start to its end: one statement to begin it, one to finish it, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections
from psycopg import sql
from psycopg.types.json import Jsonb

from auditing.directory import directory
from auditing.errors import ConflictingDuplicate, DuplicateRequest, InvalidRow, UnknownRequest
from auditing.redaction import redact, redact_text
from controlplane.core.ids import lower_bound, now, uuid7_at

MAX_TOKENS = 2**31 - 1
RETRY_WINDOW = timedelta(days=35)
"""How far back a finished request id is looked for when it is used again."""

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


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
    _check_text("request_id", request_id, 200)
    _check_text("provider", call.provider, 64)
    _check_text("model", call.model, 265)
    zone = call.time_zone or _zone(call.tenant_id)
    with connections[using].cursor() as cursor:
        cursor.execute(
            "INSERT INTO cp_auditing_inflightrequest (id, created_at, request_id, tenant_id, app_id, branch_id, user_id, "
            "api_key_id, provider, model, requested_model, status, estimated_cost, deadline, stream, time_zone, metadata) "
            "SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'pending', %s, %s, %s, %s, %s "
            "WHERE NOT EXISTS (SELECT FROM cp_auditing_inferencerequest "
            "WHERE tenant_id = %s AND request_id = %s AND id >= %s) "
            "ON CONFLICT (tenant_id, request_id) DO NOTHING RETURNING id",
            [
                id, at, request_id, call.tenant_id, call.app_id, call.branch_id, call.user_id, call.api_key_id,
                call.provider, call.model, call.requested_model, call.estimated_cost, at + call.deadline, call.stream,
                zone, Jsonb(redact(call.metadata)) if call.metadata else None,  # type: ignore[list-item]
                call.tenant_id, request_id, lower_bound(at - RETRY_WINDOW),
            ],
        )  # fmt: skip
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
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    wanted = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL(
        "WITH gone AS (DELETE FROM cp_auditing_inflightrequest WHERE id = %s RETURNING *) "
        "INSERT INTO cp_auditing_inferencerequest (id, created_at, request_id, tenant_id, app_id, branch_id, user_id, "
        "api_key_id, provider, model, requested_model, stream, time_zone, local_date, metadata, source, {names}) "
        "SELECT id, created_at, request_id, tenant_id, app_id, branch_id, user_id, api_key_id, provider, model, "
        "requested_model, stream, time_zone, (created_at AT TIME ZONE time_zone)::date, metadata, 'gate', {values} "
        "FROM gone RETURNING {wanted}"
    ).format(names=names, values=sql.SQL(", ").join([sql.Placeholder()] * len(values)), wanted=wanted)
    with connections[using].cursor() as cursor:
        cursor.execute(query, [id, *values.values()])
        row = cursor.fetchone()
        if row is None:
            row = _earlier(cursor, id, values, wanted)
    return tuple(row)


def _earlier(cursor: Any, id: UUID, values: dict[str, Any], wanted: sql.Composed) -> tuple[Any, ...]:
    same = ("status", *_TOKENS, "cost")
    cursor.execute(
        sql.SQL("SELECT {}, {} FROM cp_auditing_inferencerequest WHERE id = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, same)), wanted
        ),
        [id],
    )
    row = cursor.fetchone()
    if row is None:
        raise UnknownRequest(f"No request {id} is in flight or finished. Start it first.", id=id)
    if row[: len(same)] != tuple(values[name] for name in same):
        raise ConflictingDuplicate(
            f"Request {id} has ended before as {row[0]}, with other figures. The first end stays.", id=id, status=row[0]
        )
    return tuple(row[len(same) :])


def _fact(end: End) -> dict[str, Any]:
    tokens = {name: _count(name, getattr(end.usage, name, None)) for name in _TOKENS}
    _check_parts(tokens)
    units = getattr(end.usage, "other_units", None)
    total: Decimal | None = getattr(end.cost, "total", None)
    pricing = "unpriced" if total is None else str(getattr(end.cost, "status", "priced"))
    if end.free:
        total, pricing = Decimal(0), "priced"
    breakdown = getattr(end.cost, "breakdown", None)
    return {
        "status": end.status,
        **tokens,
        "other_units": Jsonb(units) if units else None,
        "cost": total,
        "pricing_status": pricing,
        "price_id": getattr(end.cost, "price_id", None),
        "cost_breakdown": Jsonb(breakdown) if breakdown else None,
        "latency_ms": _count("latency_ms", end.latency_ms),
        "ttft_ms": _count("ttft_ms", end.ttft_ms),
        "error_code": end.error_code[:64],
        "error": redact_text(end.error.replace("\x00", "�"))[:2000],
    }


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise InvalidRow(message=f"{name} is {value!r}: give a whole number from 0 to {MAX_TOKENS}, or None.")
    return value


def _check_parts(tokens: dict[str, int | None]) -> None:
    cached = (tokens["cached_tokens"] or 0) + (tokens["cache_write_tokens"] or 0)
    for total, part in (("prompt_tokens", cached), ("completion_tokens", tokens["reasoning_tokens"] or 0)):
        whole = tokens[total]
        if whole is not None and part > whole:
            raise InvalidRow(
                message=f"{total} is {whole}, but its parts add up to {part}. The total includes its parts."
            )


def _check_text(name: str, value: str, most: int) -> None:
    if not 0 < len(value) <= most or "\x00" in value:
        raise InvalidRow(message=f"{name} needs 1 to {most} characters without NUL.")


def _zone(tenant_id: UUID) -> str:
    facts = directory().tenants([tenant_id]).get(tenant_id)
    if facts is None:
        raise InvalidRow(message=f"No tenant has the id {tenant_id}.")
    return facts.time_zone
