"""Corrections of finished calls: signed rows beside the original, which never changes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing.booking import closed_months, local_day, over
from auditing.directory import directory
from auditing.errors import AdjustmentRefused, ConflictingDuplicate, InvalidRow, ReasonRequired, UnknownRequest
from auditing.redaction import clean
from auditing.values import TOKENS, count, money, small_object
from controlplane.core.ids import instant_of, now, uuid7_of

CODES = ("priced", "repriced", "late_completion", "invoice", "credit", "manual")
"""Why a request is adjusted. priced: the first price of an unpriced one, which is unpriced no longer. late_completion: the
end of a lost one, which is lost no longer. credit: money given back; it is no part of the price, so re-rating leaves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A signed correction of the request `adjusts`. cost: US dollars; None elsewhere = as it was.

    key: tells apart adjustments of one request and code. breakdown: the parts of `cost`. estimate: by how much it changes what
    is only estimated of the cost. Of a late completion alone: status, how the call ended ("" = the original's), and told, the
    cost that its caller named.
    """

    adjusts: UUID
    reason_code: str
    reason: str
    key: str = ""
    cost: Decimal = Decimal(0)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    other_units: dict[str, Any] | None = None
    price_id: UUID | None = None
    breakdown: dict[str, Any] | None = None
    estimate: Decimal | None = None
    status: str = ""
    latency_ms: int | None = None
    ttft_ms: int | None = None
    error_code: str = ""
    error: str = ""
    told: str | None = None

    @property
    def id(self) -> UUID:
        """Of its row: the same request, code and key are the same row, whoever writes it and how often."""
        seed = b"\x00".join((self.adjusts.bytes, self.reason_code.encode(), self.key.encode()))
        return uuid7_of(instant_of(self.adjusts), b"adjustment\x00" + seed)


@dataclass(frozen=True, slots=True)
class Booked:
    """What the adjustments of one request add up to. cost: without credits. None = none of them says it."""

    count: int = 0
    cost: Decimal = Decimal(0)
    priced: bool = False
    late: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    other_units: dict[str, Any] | None = None


def adjust(given: Adjustment, *, tenant_id: UUID | None, using: str) -> tuple[UUID, bool]:
    """Write one adjustment; returns the id of its row, and whether it is new. See InferenceRequest.objects.adjust."""
    one = _checked(given)
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        original = _original(cursor, one.adjusts, tenant_id)
        lock(cursor, [original["tenant_id"]])
        if _there(cursor, one):
            return one.id, False
        _check_fits(one, original, booked(cursor, [one.adjusts]).get(one.adjusts, Booked()))
        insert(cursor, [one])
    return one.id, True


def finish_lost(given: Adjustment, total: Decimal | None, *, using: str) -> None:
    """Record the end of a call that was given up for lost. given: how it ended, with the usage of the whole call; total: what
    it cost in all, None = unknown, so that an estimate stands.

    The same end again changes nothing, another one is ConflictingDuplicate.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        original = _original(cursor, given.adjusts, None)
        lock(cursor, [original["tenant_id"]])
        late = _checked(replace(given, **_beyond(given, original)))
        if _there(cursor, late):
            return
        so_far = booked(cursor, [late.adjusts]).get(late.adjusts, Booked())
        _check_fits(late, original, so_far)
        missing = Decimal(0) if total is None else total - (original["cost"] or 0) - so_far.cost
        bare = replace(late, price_id=None, breakdown=None)
        if total is None:
            insert(cursor, [bare])
        elif original["cost"] is None and not so_far.priced:
            first = Adjustment(
                adjusts=late.adjusts, reason_code="priced", reason=late.reason, key=late.reason_code, cost=missing,
                price_id=late.price_id, breakdown=late.breakdown,
            )  # fmt: skip
            insert(cursor, [bare, first])
        else:
            estimated = -original["cost"] if original["pricing_status"] == "estimated" else None
            insert(cursor, [replace(late, cost=missing, breakdown=None, estimate=estimated)])


def _beyond(given: Adjustment, original: dict[str, Any]) -> dict[str, Any]:
    """The counts that the end of a lost call adds to what is known of it."""
    counts = {name: getattr(given, name) for name in TOKENS}
    return {name: value if value is None else value - (original[name] or 0) for name, value in counts.items()}


def read_reason(text: str) -> str:
    """A reason as it is kept: cleaned, at most 4,096 characters. Raises ReasonRequired."""
    reason = clean(text).strip()[:4096]
    if not reason:
        raise ReasonRequired
    return reason


def lock(cursor: CursorWrapper, tenant_ids: Iterable[UUID]) -> None:
    """Let nobody else adjust requests of these tenants until the transaction ends, so that sums read now stay true."""
    for tenant in sorted(set(tenant_ids)):
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cp_adjust'), hashtext(%s))", [str(tenant)])


_BOOKED = """
    SELECT adjusts, count(*), coalesce(sum(cost) FILTER (WHERE reason_code <> 'credit'), 0),
        bool_or(reason_code = 'priced'), bool_or(reason_code = 'late_completion'),
        sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(cache_write_tokens), sum(reasoning_tokens),
        (array_agg(other_units ORDER BY id) FILTER (WHERE other_units IS NOT NULL))[1]
    FROM cp_auditing_inferencerequest WHERE adjusts = ANY(%s) AND id >= %s AND id < %s GROUP BY adjusts
"""


def booked(cursor: CursorWrapper, ids: Collection[UUID]) -> dict[UUID, Booked]:
    """What the adjustments of these requests add up to; those without any are left out."""
    if not ids:
        return {}
    # an adjustment has its original's instant in its id, and so stands in the same partition
    first, last = min(ids).int >> 80 << 80, (max(ids).int >> 80) + 1 << 80
    cursor.execute(_BOOKED, [list(ids), UUID(int=first), UUID(int=last)])
    # Django's connections give jsonb as text
    rows = [(id, [*sums, json.loads(units) if units else None]) for id, *sums, units in cursor.fetchall()]
    return {id: Booked(*sums) for id, sums in rows}


_COPIED = (
    "created_at", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "provider", "model", "requested_model",
    "stream", "source",
)  # fmt: skip
_BOOKED_BY = ("booked_at", "time_zone", "local_date")
_OWN = {
    "id": "uuid", "request_id": "text", "adjusts": "uuid", "status": "text", "reason_code": "text", "reason": "text",
    "cost": "numeric", **dict.fromkeys(TOKENS, "integer"), "other_units": "jsonb", "price_id": "uuid",
    "cost_breakdown": "jsonb", "latency_ms": "integer", "ttft_ms": "integer", "error_code": "text", "error": "text",
    "metadata": "jsonb",
}  # fmt: skip
_INSERT = sql.SQL(
    "INSERT INTO cp_auditing_inferencerequest ({copied}, {booked}, {own}, pricing_status) "
    "SELECT {theirs}, {booking}, {values}, 'adjustment' FROM unnest({arrays}) AS s ({own}) "
    "JOIN cp_auditing_inferencerequest o ON o.id = s.adjusts AND o.adjusts IS NULL AND o.id >= %s AND o.id <= %s "
    "LEFT JOIN unnest(%s::uuid[], %s::date[], %s::timestamptz[], %s::text[], %s::date[]) "
    "AS b (tenant_id, month, booked_at, time_zone, local_date) "
    "ON b.tenant_id = o.tenant_id AND b.month = date_trunc('month', o.local_date::timestamp)::date "
    "ON CONFLICT DO NOTHING"
).format(
    booked=sql.SQL(", ").join(map(sql.Identifier, _BOOKED_BY)),
    booking=sql.SQL(", ").join(
        sql.SQL("coalesce({}, {})").format(sql.Identifier("b", name), sql.Identifier("o", name)) for name in _BOOKED_BY
    ),
    copied=sql.SQL(", ").join(map(sql.Identifier, _COPIED)),
    own=sql.SQL(", ").join(map(sql.Identifier, _OWN)),
    theirs=sql.SQL(", ").join(sql.Identifier("o", name) for name in _COPIED),
    values=sql.SQL(", ").join(
        sql.SQL("coalesce(nullif(s.status, ''), o.status)") if name == "status" else sql.Identifier("s", name)
        for name in _OWN
    ),
    arrays=sql.SQL(", ").join(sql.SQL("%s::" + kind + "[]") for kind in _OWN.values()),
)


def insert(cursor: CursorWrapper, given: Sequence[Adjustment]) -> int:
    """Write adjustments in one statement; returns how many are new. The caller holds `lock` and has looked at `booked`.

    Each is booked where its original is; where that month is closed, now.
    """
    if not given:
        return 0
    present = now()
    columns = zip(*(_row(one, present.isoformat()) for one in given), strict=True)
    ids = [one.adjusts for one in given]
    booked_now = zip(*_booked_now(cursor, ids, present), strict=True)
    cursor.execute(_INSERT, [*map(list, columns), min(ids), max(ids), *(list(map(list, booked_now)) or [[]] * 5)])
    written: int = cursor.rowcount
    return written


_MONTHS = """
    SELECT DISTINCT tenant_id, date_trunc('month', local_date::timestamp)::date, time_zone
    FROM cp_auditing_inferencerequest WHERE id = ANY(%s) AND adjusts IS NULL AND id >= %s AND id <= %s
"""


def _booked_now(
    cursor: CursorWrapper, ids: Sequence[UUID], present: datetime
) -> list[tuple[UUID, date, datetime, str, date]]:
    """Closed months of these requests (tenant, month), and how what corrects them is booked: booked_at, time_zone, local_date."""
    if not over(instant_of(min(ids)).date() - timedelta(days=1), present):  # a local date is at most a day off
        return []
    cursor.execute(_MONTHS, [list(ids), min(ids), max(ids)])
    zones = {(tenant, month): zone for tenant, month, zone in cursor.fetchall()}
    closed = closed_months(cursor, zones, present)
    found = []
    tenants = directory().tenants({tenant for tenant, _ in closed}) if closed else {}
    for tenant, month in sorted(closed):
        zone = tenants[tenant].time_zone if tenant in tenants else zones[tenant, month]
        found.append((tenant, month, present, zone, local_day(present, zone)))
    return found


def _row(one: Adjustment, at: str) -> tuple[Any, ...]:
    """Values in the order of _OWN. Its request id cannot be foreseen, so that no caller can take it first."""
    request_id = f"adjusts:{one.adjusts}:{secrets.token_hex(6)}"
    estimate = None if one.estimate is None else f"{one.estimate:f}"
    metadata = {"adjusted_at": at, "key": one.key, "told": one.told, "estimate": estimate}
    return (
        one.id, request_id, one.adjusts, one.status, one.reason_code, one.reason, one.cost, one.prompt_tokens,
        one.completion_tokens, one.cached_tokens, one.cache_write_tokens, one.reasoning_tokens, _text(one.other_units),
        one.price_id, _text(one.breakdown), one.latency_ms, one.ttft_ms, one.error_code, one.error,
        _text({name: value for name, value in metadata.items() if value}),
    )  # fmt: skip


def _text(value: dict[str, Any] | None) -> str | None:
    return json.dumps(value) if value else None


def _checked(one: Adjustment) -> Adjustment:
    """The adjustment as it can be stored."""
    if one.reason_code not in CODES:
        raise InvalidRow(message=f"The reason code {one.reason_code!r} is unknown: choose from {', '.join(CODES)}.")
    if len(one.key) > 200 or clean(one.key) != one.key:
        raise InvalidRow(message="A key has at most 200 characters, without NUL, lone surrogates and secrets.")
    tokens = {name: count(name, getattr(one, name), signed=True) for name in TOKENS}
    return replace(
        one,
        reason=read_reason(one.reason),
        cost=money("cost", one.cost, signed=True) or Decimal(0),
        other_units=small_object("other_units", one.other_units, 4096),
        breakdown=small_object("breakdown", one.breakdown, 512),
        **tokens,  # type: ignore[arg-type]
    )


def _original(cursor: CursorWrapper, id: UUID, tenant_id: UUID | None) -> dict[str, Any]:
    names = ("tenant_id", "adjusts", "status", "pricing_status", "cost", *TOKENS)
    cursor.execute(_ORIGINAL.format(sql.SQL(", ").join(map(sql.Identifier, names))), [id])
    row = cursor.fetchone()
    found = dict(zip(names, row, strict=True)) if row else {}
    if not found or (tenant_id is not None and found["tenant_id"] != tenant_id):
        raise UnknownRequest(f"No finished request has the id {id}. Adjust one that is in the log.", id=id)
    if found["adjusts"] is not None:
        raise AdjustmentRefused("adjusts_adjustment", id=id)
    return found


_ORIGINAL = sql.SQL("SELECT {} FROM cp_auditing_inferencerequest WHERE id = %s")
_THERE = (
    "SELECT cost, metadata->>'told', status, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, "
    "reasoning_tokens FROM cp_auditing_inferencerequest WHERE id = %s AND adjusts = %s"
)


def _there(cursor: CursorWrapper, one: Adjustment) -> bool:
    """Whether this adjustment is written already. Raises ConflictingDuplicate if it is, with other figures."""
    cursor.execute(_THERE, [one.id, one.adjusts])
    row = cursor.fetchone()
    if row is None:
        return False
    cost, told, status, *tokens = row
    alike = tokens == [getattr(one, name) for name in TOKENS]
    # what a late end costs in all was worked out when it came: only a cost that was named can be another one
    alike &= (told, status) == (one.told, one.status) if one.status else cost == one.cost
    if not alike:
        raise ConflictingDuplicate(
            f"Request {one.adjusts} has an adjustment {one.reason_code} with the key {one.key!r} and other figures. "
            "It stays; give another key for a further one.",
            id=one.id,
        )
    return True


def _check_fits(one: Adjustment, original: dict[str, Any], so_far: Booked) -> None:
    if one.reason_code == "priced" and (original["pricing_status"] != "unpriced" or so_far.priced):
        raise AdjustmentRefused("not_unpriced", id=one.adjusts)
    if one.reason_code == "late_completion" and (original["status"] != "lost" or so_far.late):
        raise AdjustmentRefused("not_lost", id=one.adjusts)
    for name in TOKENS:
        total = sum(getattr(part, name) or 0 for part in (one, so_far)) + (original[name] or 0)
        if total < 0:
            raise InvalidRow(
                message=f"{name} of request {one.adjusts} would be {total}: no more can be taken off than there is."
            )
