"""Rows of usage from elsewhere: what they must say, and how they become facts. Pure.

A batch is judged column by column: most columns are in order as a whole, which is seen at once, and only the others are
looked at value by value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import chain, compress
from operator import itemgetter
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditing.columns import KINDS, Refusal, Refused
from auditing.redaction import redact, redact_text

MAX_AGE = timedelta(days=35)
MAX_AHEAD = timedelta(minutes=5)
FIRST = datetime(2020, 1, 1, tzinfo=UTC)

_NEEDED = ("request_id", "created_at", "tenant_id", "provider", "model")
_PARTS = (("prompt_tokens", ("cached_tokens", "cache_write_tokens")), ("completion_tokens", ("reasoning_tokens",)))

Refusals = dict[int, Refusal]
"""Why rows are refused, by their place in the batch: the first reason that was found."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows that may be written. numbers: theirs in the source. columns: their values by name, of all the columns of KINDS
    that any row fills, and time_zone and local_date."""

    numbers: list[int]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.numbers)

    def column(self, name: str) -> list[Any]:
        return self.columns.get(name) or [None] * len(self.numbers)


def judge(
    rows: Sequence[tuple[int, Mapping[str, Any]]], *, present: datetime, zones: Mapping[UUID, str], historical: bool
) -> tuple[Facts, list[tuple[int, Refusal]]]:
    """The facts that numbered rows state, and why the others are refused, by number.

    Rows are columns by name; they need request_id, created_at, tenant_id, provider, model. status defaults to completed.
    zones: time zones of known tenants by id. historical: created_at may go back to 2020. Codes: docs/usage-import.md.
    """
    refused: Refusals = {}
    columns = _read([row for _, row in rows], refused)
    for name in _NEEDED:
        if NoneType in set(map(type, columns[name])):
            why = Refused("missing_field", name, f"{name} is missing.").refusal
            _refuse(refused, [place for place, value in enumerate(columns[name]) if value is None], why)
    columns["time_zone"] = _zones(columns["tenant_id"], zones, refused)
    _check_times(columns["created_at"], FIRST if historical else present - MAX_AGE, present + MAX_AHEAD, refused)
    _check_parts(columns, refused)
    numbers = [number for number, _ in rows]
    told = [(numbers[place], why) for place, why in sorted(refused.items())]
    if refused:
        kept = [place not in refused for place in range(len(rows))]
        numbers = list(compress(numbers, kept))
        columns = {name: list(compress(values, kept)) for name, values in columns.items()}
    _finish(columns)
    return Facts(numbers, columns), told


def _refuse(refused: Refusals, places: Iterable[int], why: Refusal) -> None:
    for place in places:
        refused.setdefault(place, why)


def _read(rows: list[Mapping[str, Any]], refused: Refusals) -> dict[str, list[Any]]:
    """The values of each column that rows name, and of those that they need; None where one is refused."""
    names = dict.fromkeys(chain(chain.from_iterable(rows), _NEEDED))
    for name in names:
        if name not in KINDS:
            why = Refused(
                "unknown_field", str(name)[:64], f"There is no field {str(name)[:64]!r} in a request."
            ).refusal
            _refuse(refused, [place for place, row in enumerate(rows) if name in row], why)
    bad: dict[int, dict[str, Refusal]] = {}
    columns = {name: _column(name, _values(name, rows), bad) for name in names if name in KINDS}
    for place, cells in bad.items():
        refused.setdefault(place, next(cells[name] for name in rows[place] if name in cells))
    return columns


def _values(name: str, rows: list[Mapping[str, Any]]) -> list[Any]:
    """What rows say of a column, None where they say nothing. Most rows are alike, and all name it."""
    if set(map(type, rows)) == {dict}:
        with suppress(KeyError):
            return list(map(itemgetter(name), rows))
    return [row.get(name) for row in rows]


def _column(name: str, values: list[Any], bad: dict[int, dict[str, Refusal]]) -> list[Any]:
    if KINDS[name].plain(values):
        return values
    read, found = KINDS[name].read, []
    for place, value in enumerate(values):
        try:
            found.append(None if value is None else read(name, value))
        except Refused as why:
            bad.setdefault(place, {})[name] = why.refusal
            found.append(None)
    return found


def _zones(tenants: list[Any], zones: Mapping[UUID, str], refused: Refusals) -> list[str]:
    """The time zone of each row's tenant; "" where the row is refused."""
    distinct = {id(tenant): tenant for tenant in tenants}  # a UUID hashes slowly
    known = {key: zones.get(tenant) for key, tenant in distinct.items()}
    for key, zone in known.items():
        if zone is not None and _zone(zone) is not None:
            continue
        tenant, known[key] = distinct[key], ""
        why = Refused("unknown_tenant", "tenant_id", f"No tenant has the id {tenant}.")
        if zone is not None:
            why = Refused("unknown_time_zone", "tenant_id", f"The tenant's time zone {zone!r} is unknown.")
        _refuse(refused, [place for place, value in enumerate(tenants) if value is tenant], why.refusal)
    return [known[id(tenant)] or "" for tenant in tenants]


def _check_times(times: list[datetime | None], oldest: datetime, latest: datetime, refused: Refusals) -> None:
    given = [at for at in times if at is not None]
    if not given or (oldest <= min(given) and max(given) <= latest):
        return
    for place, at in enumerate(times):
        if at is not None and not oldest <= at <= latest:
            refused.setdefault(place, _wrong_time(at, oldest).refusal)


def _wrong_time(created: datetime, oldest: datetime) -> Refused:
    if created < oldest:
        return Refused(
            "created_at_too_old", "created_at", f"created_at {created.isoformat()} is before {oldest:%Y-%m-%d}."
        )
    return Refused("created_at_in_future", "created_at", f"created_at {created.isoformat()} lies in the future.")


def _check_parts(columns: Mapping[str, list[Any]], refused: Refusals) -> None:
    """Totals include their parts, where both are reported."""
    for total, names in _PARTS:
        parts = [columns[name] for name in names if name in columns]
        if not parts or total not in columns:
            continue
        for place, (whole, *given) in enumerate(zip(columns[total], *parts, strict=True)):
            if whole is not None and (part := sum([count or 0 for count in given])) > whole:
                message = f"{total} is {whole}, but its parts add up to {part}."
                refused.setdefault(place, Refused("parts_exceed_total", total, message).refusal)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _local_dates(times: list[datetime], zones: list[str]) -> list[date]:
    return [
        at.date() if zone == "UTC" else at.astimezone(_zone(zone)).date() for at, zone in zip(times, zones, strict=True)
    ]


def _finish(columns: dict[str, list[Any]]) -> None:
    """What a row leaves open, and what it must not say."""
    count = len(columns["model"])
    columns["local_date"] = _local_dates(columns["created_at"], columns["time_zone"])
    if "requested_model" in columns:
        pairs = zip(columns["requested_model"], columns["model"], strict=True)
        columns["requested_model"] = [asked if asked != model else None for asked, model in pairs]
    for name, default in _DEFAULTS.items():
        columns[name] = [value or default for value in columns[name]] if name in columns else [default] * count
    columns["error"] = [redact_text(error)[:2000] if error else "" for error in columns["error"]]
    for name in ("other_units", "metadata"):
        if name in columns:
            columns[name] = [redact(value) for value in columns[name]]


_DEFAULTS = {"status": "completed", "stream": False, "error_code": "", "error": ""}
