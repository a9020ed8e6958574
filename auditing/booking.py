"""When a request counts: at its own instant, unless the local month of that instant is closed; then now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.backends.utils import CursorWrapper

from auditing.validation import Facts
from controlplane.core.partitions import next_month

GRACE = timedelta(days=3)
"""How long a local month must be over before it can be closed."""

_HELD = """
    SELECT tenant_id, month FROM unnest(%s::uuid[], %s::date[]) AS asked(tenant_id, month)
    WHERE cp_month_hold(tenant_id, month)
"""


def over(day: date, present: datetime) -> bool:
    """Whether the month of a local day may be closed by now, or before long, in some time zone: writers look then.

    A month is closed three days after its end in its tenant's zone, at least two days and ten hours after its end in UTC, so
    who writes without a look, before one day is over, has a day to commit.
    """
    return next_month(day.replace(day=1)) <= (present - timedelta(days=1)).date()


def closed_months(
    cursor: CursorWrapper, months: Iterable[tuple[UUID, date]], present: datetime
) -> set[tuple[UUID, date]]:
    """Those of the months (tenant, first day) that are closed. The others cannot be closed before the transaction ends.

    The transaction has READ COMMITTED. One statement, or none where no month is over.
    """
    asked = sorted({pair for pair in months if over(pair[1], present)})
    if not asked:
        return set()
    cursor.execute(_HELD, [[tenant for tenant, _ in asked], [month for _, month in asked]])
    return set(cursor.fetchall())


def book(cursor: CursorWrapper, facts: Facts, present: datetime) -> None:
    """Let facts whose local month is closed count now, on the local date that it is: fills `booked_at` and `local_date`."""
    days, tenants = facts.column("local_date"), facts.column("tenant_id")
    if not days or not over(min(days), present):
        return
    month = {day: day.replace(day=1) for day in set(days)}
    owners = dict(zip(map(id, tenants), tenants, strict=True))  # by identity: a UUID hashes slowly
    if len(owners) == 1:
        pairs = {(tenants[0], first) for first in month.values()}
    else:
        places = set(zip(map(id, tenants), map(month.__getitem__, days), strict=True))
        pairs = {(owners[tenant], first) for tenant, first in places}
    closed = closed_months(cursor, pairs, present)
    if not closed:
        return
    late = [(tenant, month[day]) in closed for tenant, day in zip(tenants, days, strict=True)]
    facts.columns["booked_at"] = [present if is_late else None for is_late in late]
    facts.columns["local_date"] = [
        local_day(present, zone) if is_late else day
        for is_late, zone, day in zip(late, facts.column("time_zone"), days, strict=True)
    ]


def local_day(at: datetime, zone: str) -> date:
    """The date of an aware instant in an IANA zone."""
    return at.astimezone(ZoneInfo(zone)).date()
