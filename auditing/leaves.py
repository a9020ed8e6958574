"""What of a row goes into its hash, and how it is written. Pure; `cp_leaf` and `cp_seal_hash` are the twins in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from auditing import merkle

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Value = str | bool | int | Decimal | UUID | datetime | date | bytes | Sequence[int] | None
"""A value of a column. JSON is given as the text that PostgreSQL prints."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "auditlog": (
        "id", "created_at", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "actor_type", "actor_id",
        "actor_role", "action", "resource_type", "resource_id", "resource_label", "outcome", "before", "after", "details",
        "reason", "request_id", "pii_commit", "provider", "model", "prompt_tokens", "completion_tokens", "cost", "latency_ms",
        "schema",
    ),
    "inferencerequest": (
        "id", "created_at", "booked_at", "request_id", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id",
        "provider", "model", "requested_model", "status", "prompt_tokens", "completion_tokens", "cached_tokens",
        "cache_write_tokens", "reasoning_tokens", "other_units", "cost", "pricing_status", "price_id", "cost_breakdown",
        "latency_ms", "ttft_ms", "stream", "error_code", "error", "adjusts", "reason_code", "reason", "time_zone",
        "local_date", "source", "metadata", "schema",
    ),
    "usagesummary": (
        "id", "tenant_id", "requests", "completed", "failed", "cancelled", "lost", "unpriced", "estimated", "adjustments",
        "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "cost",
        "estimated_cost", "latency_n", "latency_sum_ms", "latency_max_ms", "latency_hist", "month", "app_id", "branch_id",
        "api_key_id", "user_id", "provider", "model",
    ),
}  # fmt: skip
"""Columns of a leaf of schema 1, by log: those of the table in its order, but xid and what may be erased (pii_salt, ip,
user_agent, actor_label), for which pii_commit stands. A column that is added later joins in the next schema alone."""


def netstring(value: Value) -> bytes:
    """`<octets>:<utf-8>,`, of None `-,`: what one value ends with and the next begins with cannot be confused.

    uuid lower case; instant: whole microseconds since 1970; date ISO; amounts with 12 places; bool t or f; bytes hex; a list
    of numbers as {1,2}.
    """
    if value is None:
        return b"-,"
    data = _text(value).encode()
    return b"%d:%s," % (len(data), data)


def leaf(values: Iterable[Value]) -> bytes:
    """The hash of one row from its values, in the order of COLUMNS."""
    return merkle.leaf(b"".join(map(netstring, values)))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        return str((value - _EPOCH) // _MICROSECOND)
    if isinstance(value, Decimal):
        return f"{value:.12f}"
    if isinstance(value, bytes | memoryview):
        return value.hex()
    if isinstance(value, list | tuple):
        return "{" + ",".join(map(str, value)) + "}"
    return value.isoformat() if isinstance(value, date) else str(value)
