"""One row of usage from elsewhere: what it must say, and how it becomes a fact. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditing.columns import READERS, Refusal, Refused
from auditing.redaction import redact, redact_text
from controlplane.core.ids import uuid7_of

COLUMNS = (
    "id", "created_at", "request_id", "tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "provider", "model",
    "requested_model", "status", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens",
    "reasoning_tokens", "other_units", "cost", "pricing_status", "price_id", "cost_breakdown", "latency_ms", "ttft_ms",
    "stream", "error_code", "error", "time_zone", "local_date", "source", "metadata",
)  # fmt: skip
"""Columns of the log that a row from elsewhere fills, in the order of `Fact.values`."""

MAX_AGE = timedelta(days=35)
MAX_AHEAD = timedelta(minutes=5)
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


class Fact(NamedTuple):
    """A row that may be written. values: in the order of COLUMNS. costed: its source says what it cost."""

    id: UUID
    tenant_id: UUID
    request_id: str
    created_at: datetime
    values: tuple[Any, ...]
    costed: bool = False


class Validator:
    """Judges rows against one present.

    zones: time zones of known tenants by id. historical: created_at may go back to 2020. source: `ingest` or `import`.
    """

    __slots__ = ("_latest", "_oldest", "_source", "_tenants")

    def __init__(self, *, present: datetime, zones: Mapping[UUID, str], source: str, historical: bool) -> None:
        self._latest = present + MAX_AHEAD
        self._oldest = FIRST if historical else present - MAX_AGE
        self._tenants = {tenant: (zone, tenant.bytes + b"\x00") for tenant, zone in zones.items()}
        self._source = source

    def check(self, row: Mapping[str, Any]) -> Fact | Refusal:
        """The fact that a row states, or why it is refused.

        row: columns by name; needs request_id, created_at, tenant_id, provider, model. status defaults to completed,
        cost to None (unpriced). Codes: docs/usage-import.md.
        """
        try:
            return self._fact(row)
        except Refused as refused:
            return refused.refusal

    def _fact(self, row: Mapping[str, Any]) -> Fact:
        if not row.keys() <= READERS.keys():
            name = str(next(name for name in row if name not in READERS))[:64]
            raise Refused("unknown_field", name, f"There is no field {name!r} in a request.")
        v = _NOTHING.copy()
        for name, value in row.items():
            if value is not None:
                v[name] = READERS[name](name, value)
        for name in _NEEDED:
            if v[name] is None:
                raise Refused("missing_field", name, f"{name} is missing.")
        tenant, created, request_id, model = v["tenant_id"], v["created_at"], v["request_id"], v["model"]
        known = self._tenants.get(tenant)
        if known is None:
            raise Refused("unknown_tenant", "tenant_id", f"No tenant has the id {tenant}.")
        zone, seed = known
        if not self._oldest <= created <= self._latest:
            raise _wrong_time(created, self._oldest)
        if v["cached_tokens"] or v["cache_write_tokens"] or v["reasoning_tokens"]:
            _check_parts(v)
        cost, asked = v["cost"], v["requested_model"]
        id = uuid7_of(created, seed + request_id.encode())
        values = (
            id, created, request_id, tenant, v["app_id"], v["branch_id"], v["user_id"], v["api_key_id"], v["provider"],
            model, asked if asked != model else None, v["status"] or "completed", v["prompt_tokens"],
            v["completion_tokens"], v["cached_tokens"], v["cache_write_tokens"], v["reasoning_tokens"],
            redact(v["other_units"]), cost, "unpriced" if cost is None else "priced", v["price_id"],
            v["cost_breakdown"], v["latency_ms"], v["ttft_ms"], v["stream"] or False, v["error_code"] or "",
            redact_text(v["error"])[:2000] if v["error"] else "", zone, _local_date(created, zone), self._source,
            redact(v["metadata"]),
        )  # fmt: skip
        return Fact(id, tenant, request_id, created, values, cost is not None)


def validate(
    row: Mapping[str, Any], *, present: datetime, zones: Mapping[UUID, str], source: str, historical: bool
) -> Fact | Refusal:
    """One row judged alone; see Validator."""
    return Validator(present=present, zones=zones, source=source, historical=historical).check(row)


def _wrong_time(created: datetime, oldest: datetime) -> Refused:
    if created < oldest:
        return Refused(
            "created_at_too_old", "created_at", f"created_at {created.isoformat()} is before {oldest:%Y-%m-%d}."
        )
    return Refused("created_at_in_future", "created_at", f"created_at {created.isoformat()} lies in the future.")


def _check_parts(v: Mapping[str, Any]) -> None:
    for total, parts in _PARTS:
        whole = v[total]
        if whole is not None and (part := sum([v[name] or 0 for name in parts])) > whole:
            raise Refused("parts_exceed_total", total, f"{total} is {whole}, but its parts add up to {part}.")


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise Refused("unknown_time_zone", "tenant_id", f"The tenant's time zone {name!r} is unknown.") from None


def _local_date(created: datetime, zone: str) -> date:
    return created.date() if zone == "UTC" else created.astimezone(_zone(zone)).date()


_NOTHING: dict[str, Any] = dict.fromkeys(READERS)
_NEEDED = ("request_id", "created_at", "tenant_id", "provider", "model")
_PARTS = (("prompt_tokens", ("cached_tokens", "cache_write_tokens")), ("completion_tokens", ("reasoning_tokens",)))
