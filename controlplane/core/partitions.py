"""Monthly partitions of the logs: which months there must be (pure), and making them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime

from django.db import connections

from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError

AHEAD = 3
FIRST_MONTH = date(2020, 1, 1)


class PartitionMissing(ControlPlaneError):
    """A row is of a month outside those that are accepted."""

    code = "partition_missing"
    http_status = 422


@dataclass(frozen=True, slots=True)
class PartitionedLog:
    """A table partitioned by month of the instant in its ids, which is the column `at`.

    local_unique: columns unique within each month (the parent cannot say so).
    """

    table: str
    local_unique: tuple[str, ...] = ()
    at: str = "created_at"


_logs: dict[str, PartitionedLog] = {}


def register(log: PartitionedLog) -> None:
    """Name a log, from its app's `ready()`, for the command and the checks that look after partitions."""
    _logs[log.table] = log


def registered() -> list[PartitionedLog]:
    return list(_logs.values())


def month_of(at: datetime) -> date:
    """First day of the UTC month of `at` (aware)."""
    return (at - (at.utcoffset() or at - at)).date().replace(day=1)


def next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def plan(existing: Collection[date], now: datetime, ahead: int = AHEAD, months: Iterable[date] = ()) -> list[date]:
    """Months to make, ascending: the present one, `ahead` after it, and those asked for; not those that exist.

    Raises PartitionMissing for a month before 2020 or later than `ahead` months from now.
    """
    wanted = [month_of(now)]
    for _ in range(ahead):
        wanted.append(next_month(wanted[-1]))
    for month in months:
        if not FIRST_MONTH <= month <= wanted[-1]:
            raise PartitionMissing(
                message=f"Month {month:%Y-%m} is outside {FIRST_MONTH:%Y-%m} to {wanted[-1]:%Y-%m}: check the date."
            )
    return sorted({*wanted, *months} - set(existing))


def existing_months(log: PartitionedLog, using: str | None = None) -> set[date]:
    """Months that are attached to the log."""
    with connections[using or conf.DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT to_date(right(c.relname, 6), 'YYYYMM') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass(%s)",
            [log.table],
        )
        return {row[0] for row in cursor.fetchall()}


def ensure(
    log: PartitionedLog, now: datetime, ahead: int = AHEAD, months: Iterable[date] = (), using: str | None = None
) -> list[date]:
    """Make what is missing of the plan; half-made months are finished. Returns the months made. Safe beside others."""
    missing = plan(existing_months(log, using), now, ahead, months)
    if missing:
        with connections[using or conf.DATABASE].cursor() as cursor:
            for month in missing:
                cursor.execute(
                    "SELECT cp_partition_add(%s, %s, %s, %s)", [log.table, month, list(log.local_unique), log.at]
                )
    return missing
