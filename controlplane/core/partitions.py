"""Monthly partitions of the logs: what is missing of them (pure), and making it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum

from django.db import OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError

AHEAD = 3
LOCK_TIMEOUT = "2s"
TRIES = 5
RETIRING = "cp_retired"
"""Trigger on a month that is about to be removed: it takes no more rows, and nobody attaches it again."""
FIRST_MONTH = date(2020, 1, 1)


class PartitionMissing(ControlPlaneError):
    """A row is of a month outside those that are accepted."""

    code = "partition_missing"
    http_status = 422


class PartitionBusy(ControlPlaneError):
    """Somebody held the lock of a log, or of a month, all the time that was waited for it."""

    code = "partition_busy"
    http_status = 503


@dataclass(frozen=True, slots=True)
class PartitionedLog:
    """A table partitioned by month of the instant in its ids, which is the column `at`.

    local_unique: columns unique within each month (the parent cannot say so).
    """

    table: str
    local_unique: tuple[str, ...] = ()
    at: str = "created_at"


class State(Enum):
    """How a month of a log stands. LOOSE: its table is there, detached or half made. DETACHING: that was interrupted."""

    ATTACHED = "attached"
    LOOSE = "loose"
    DETACHING = "detaching"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Create:
    """Make the table of a month, with its indexes and guards, and attach it."""

    month: date
    says, said = "make", "made"


@dataclass(frozen=True, slots=True)
class Attach:
    """Add what the table of a month lacks, and attach it."""

    month: date
    says, said = "attach", "attached"


@dataclass(frozen=True, slots=True)
class Finish:
    """Finish detaching a month where that was interrupted: until then it takes no rows, and is in nobody's way."""

    month: date
    says, said = "finish detaching", "finished detaching"


Step = Create | Attach | Finish

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


def plan(
    existing: Mapping[date, State] | Collection[date], now: datetime, ahead: int = AHEAD, months: Iterable[date] = ()
) -> list[Step]:
    """What to do so that there are the present month, `ahead` after it, and those asked for; by month, in the order to do it.

    existing: how the months that are there stand, or those that are attached. Raises PartitionMissing for a month before 2020,
    later than `ahead` months from now, or about to be removed.
    """
    states = existing if isinstance(existing, Mapping) else dict.fromkeys(existing, State.ATTACHED)
    wanted = [month_of(now)]
    for _ in range(ahead):
        wanted.append(next_month(wanted[-1]))
    months = set(months)
    for month in sorted(months):
        if not FIRST_MONTH <= month <= wanted[-1]:
            raise PartitionMissing(
                message=f"Month {month:%Y-%m} is outside {FIRST_MONTH:%Y-%m} to {wanted[-1]:%Y-%m}: check the date."
            )
        if states.get(month) is State.RETIRING:
            raise PartitionMissing(
                message=f"Month {month:%Y-%m} is being removed, for its time is over. Run audit_retention apply, then try again."
            )
    steps: list[Step] = []
    for month in sorted({*wanted, *months, *states}):
        state = states.get(month)
        if state is State.DETACHING:
            steps.append(Finish(month))
        if state is None:
            steps.append(Create(month))
        elif state in (State.LOOSE, State.DETACHING) and (month in wanted or month in months):
            steps.append(Attach(month))
    return steps


_STATES = """
    SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false),
        EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = %s)
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = to_regclass(%s)
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname ~ ('^' || %s || '_[0-9]{6}$')
"""


def states(log: PartitionedLog, using: str | None = None) -> dict[date, State]:
    """How the months stand whose tables are there, attached or not, in their order."""
    with connections[using or conf.DATABASE].cursor() as cursor:
        cursor.execute(_STATES, [RETIRING, log.table, log.table])
        rows = cursor.fetchall()
    return {
        date(int(name[-6:-2]), int(name[-2:]), 1): (
            State.RETIRING if retiring else State.DETACHING if pending else State.ATTACHED if attached else State.LOOSE
        )
        for name, attached, pending, retiring in sorted(rows)
    }


def existing_months(log: PartitionedLog, using: str | None = None) -> set[date]:
    """Months that are attached to the log, and so take rows."""
    return {month for month, state in states(log, using).items() if state is State.ATTACHED}


_INDEXED = """
    SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname ~ ('^' || %s || '_[0-9]{6}$')
        AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND %s::text[] = ARRAY(
            SELECT a.attname::text FROM unnest(x.indkey::smallint[]) WITH ORDINALITY k(attnum, place)
            JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum ORDER BY k.place)
"""


def without_local_index(log: PartitionedLog, using: str | None = None) -> list[date]:
    """Attached months without the unique index of `local_unique`, in their order."""
    with connections[using or conf.DATABASE].cursor() as cursor:
        cursor.execute(_INDEXED, [log.table, list(log.local_unique)])
        indexed = {row[0] for row in cursor.fetchall()}
    return sorted(month for month in existing_months(log, using) if f"{log.table}_{month:%Y%m}" not in indexed)


def ensure(
    log: PartitionedLog, now: datetime, ahead: int = AHEAD, months: Iterable[date] = (), using: str | None = None
) -> list[date]:
    """Make what is missing of the plan. Returns the months made or attached. Safe beside others."""
    steps = plan(states(log, using), now, ahead, months)
    apply(log, steps, using)
    return [step.month for step in steps if not isinstance(step, Finish)]


def apply(log: PartitionedLog, steps: Iterable[Step], using: str | None = None) -> None:
    """Do what a plan says. Nobody waits long for it: each step is tried 5 times for 2 s. Raises PartitionBusy."""
    for step in steps:
        if isinstance(step, Finish):
            patiently(_finishing(log, step.month), f"{log.table}_{step.month:%Y%m}", using)
        else:
            patiently(_adding(log, step.month), log.table, using)


def _adding(log: PartitionedLog, month: date) -> Callable[[CursorWrapper], None]:
    def add(cursor: CursorWrapper) -> None:
        cursor.execute("SELECT cp_partition_add(%s, %s, %s, %s)", [log.table, month, list(log.local_unique), log.at])

    return add


def _finishing(log: PartitionedLog, month: date) -> Callable[[CursorWrapper], None]:
    statement = sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE").format(
        sql.Identifier(log.table), sql.Identifier(f"{log.table}_{month:%Y%m}")
    )
    return lambda cursor: cursor.execute(statement)


def patiently(work: Callable[[CursorWrapper], None], what: str, using: str | None = None) -> None:
    """Do work that locks tables, in a transaction: 5 times it waits for 2 s, so that those behind it never wait longer.

    what: is locked, for people. Raises PartitionBusy.
    """
    alias = using or conf.DATABASE
    for _ in range(TRIES):
        try:
            with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
                cursor.execute(
                    "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT]
                )
                before = cursor.fetchone()[0]
                work(cursor)
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != "55P03":
                raise
    raise PartitionBusy(message=f"{what} is in use by a transaction that does not end. End it, then try again.")
