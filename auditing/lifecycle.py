"""A call from its start to its end: one statement to begin it, one to finish it, whatever happens in between."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections
from psycopg import sql
from psycopg.types.json import Jsonb

from auditing.directory import directory
from auditing.errors import ConflictingDuplicate, DuplicateRequest, InvalidRow, UnknownRequest
from auditing.redaction import clean, redact
from controlplane.core.ids import lower_bound, now, uuid7_at

MAX_TOKENS = 2**31 - 1
MAX_COST = Decimal(10) ** 12
_PLACES, _PRECISION = Decimal("1e-12"), Context(prec=50)
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
    if call.requested_model is not None:
        _check_text("requested_model", call.requested_model, 265)
    estimated = _money("estimated_cost", call.estimated_cost)
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
        try:
            cursor.execute(query, [id, *values.values()])
        except IntegrityError as error:
            if "_once" not in str(error):
                raise
            raise ConflictingDuplicate(
                f"Request {id} cannot end: its request id was written meanwhile, by an import. That row stays.", id=id
            ) from error
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
    tokens = counted(end.usage)
    units = getattr(end.usage, "other_units", None)
    total = _money("cost", getattr(end.cost, "total", None))
    pricing = "unpriced" if total is None else str(getattr(end.cost, "status", "priced"))
    if end.free:
        total, pricing = Decimal(0), "priced"
    breakdown = getattr(end.cost, "breakdown", None)
    return {
        "status": end.status,
        **tokens,
        "other_units": _json("other_units", units, 4096),
        "cost": total,
        "pricing_status": pricing,
        "price_id": getattr(end.cost, "price_id", None),
        "cost_breakdown": _json("cost_breakdown", breakdown, 512),
        "latency_ms": _count("latency_ms", end.latency_ms),
        "ttft_ms": _count("ttft_ms", end.ttft_ms),
        "error_code": clean(end.error_code)[:64],
        "error": clean(end.error)[:2000],
    }


def counted(usage: object) -> dict[str, int | None]:
    """The token counts of a usage, by name. Raises InvalidRow for counts that no call has."""
    tokens = {name: _count(name, getattr(usage, name, None)) for name in _TOKENS}
    _check_parts(tokens)
    return tokens


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise InvalidRow(message=f"{name} is {value!r}: give a whole number from 0 to {MAX_TOKENS}, or None.")
    return value


def _money(name: str, value: object) -> Decimal | None:
    """US dollars as the logs keep them: rounded once, half to even, to 12 places."""
    if value is None:
        return None
    if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value < MAX_COST:
        raise InvalidRow(message=f"{name} is {value!r}: give a Decimal from 0 to below {MAX_COST}, or None.")
    return value.quantize(_PLACES, ROUND_HALF_EVEN, _PRECISION)


def _json(name: str, value: object, most: int) -> Jsonb | None:
    """An object as jsonb takes it: without NUL and secrets, Decimals as text; None for an empty one."""
    if not value:
        return None
    kept = redact(_plain(value))
    size = len(json.dumps(kept, ensure_ascii=False).encode())
    if size > most:
        raise InvalidRow(message=f"{name} has {size} bytes: {most} are the most.")
    return Jsonb(kept)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return clean(str(value))


def _check_parts(tokens: dict[str, int | None]) -> None:
    cached = (tokens["cached_tokens"] or 0) + (tokens["cache_write_tokens"] or 0)
    for total, part in (("prompt_tokens", cached), ("completion_tokens", tokens["reasoning_tokens"] or 0)):
        whole = tokens[total]
        if whole is not None and part > whole:
            raise InvalidRow(
                message=f"{total} is {whole}, but its parts add up to {part}. The total includes its parts."
            )


def _check_text(name: str, value: str, most: int) -> None:
    if not 0 < len(value) <= most or "\x00" in value or value != value.encode("utf-8", "replace").decode():
        raise InvalidRow(message=f"{name} needs 1 to {most} characters, without NUL or lone surrogates.")


def _zone(tenant_id: UUID) -> str:
    facts = directory().tenants([tenant_id]).get(tenant_id)
    if facts is None:
        raise InvalidRow(message=f"No tenant has the id {tenant_id}.")
    return facts.time_zone
