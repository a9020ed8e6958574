"""Finished calls of elsewhere, by the thousand: validated, priced, written once by COPY, refused rows kept aside.

A batch goes straight into the log, and is priced and rendered piece by piece while the server takes the pieces before. Where
the log refuses it, for a row is known or bad, it is staged in a temporary table, and so are those behind it until one is all
new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing.booking import book
from auditing.columns import Refusal
from auditing.costs import prices
from auditing.deadletters import Origin, RawRow, keep_aside
from auditing.directory import directory
from auditing.errors import AuditUnavailable
from auditing.redaction import redact_text
from auditing.rendering import COLUMNS, Lines
from auditing.validation import Facts, judge
from controlplane.core import partitions
from controlplane.core.bulk import copy_text, temporary_like
from controlplane.core.ids import NIL, lower_bound, now

LOG = partitions.PartitionedLog("cp_auditing_inferencerequest", local_unique=("request_id", "tenant_id"))

MAX_REJECTIONS = 1000
_BORDER = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row was refused. row: its number in the source, from 1."""

    row: int
    code: str
    field: str
    message: str


@dataclass(slots=True)
class IngestResult:
    """inserted + duplicates + rejected = rows read, always. rejections: the first 1,000, in the order of the rows."""

    inserted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, refused: Sequence[tuple[int, Refusal]]) -> None:
        """Count refused rows, by number."""
        self.rejected += len(refused)
        room = MAX_REJECTIONS - len(self.rejections)
        self.rejections += [Rejection(number, why.code, why.field, why.message) for number, why in refused[:room]]

    @property
    def read(self) -> int:
        return self.inserted + self.duplicates + self.rejected


_Numbered = tuple[int, Mapping[str, Any] | RawRow]


def ingest(
    rows: Iterable[_Numbered],
    *,
    source: str,
    origin: str = "",
    historical: bool = False,
    batch_size: int = 5000,
    progress: Callable[[int], None] | None = None,
    tenant_id: UUID = NIL,
    using: str,
) -> IngestResult:
    """Write finished calls; rows: (number, mapping keyed by column), read once, at most `batch_size` of them held.

    source: `ingest` or `import`. origin: where the rows come from, for the dead letters (default: source). historical:
    created_at may be older than 35 days, to 2020. progress: called with the rows read so far. tenant_id: whose dead letter a
    row is that does not say it.
    The same request twice (equal model, status, tokens, cost) is a duplicate, however often it is given; another one
    under the same request id is rejected as `conflicting_duplicate`. A rejected row is kept whole in DeadLetter, once.
    Each batch is one transaction. Raises AuditUnavailable, with `.result` so far, when the database is gone: running
    all again is safe.
    """
    result, fresh = IngestResult(), True
    remaining = iter(rows)
    while batch := list(islice(remaining, batch_size)):
        try:
            kept_aside = Origin(origin or source, tenant_id)
            fresh = _write_batch(batch, result, source, kept_aside, historical, using, fresh)
        except (OperationalError, InterfaceError) as error:
            if not connections[using].in_atomic_block:
                connections[using].close_if_unusable_or_obsolete()  # so that the next run has one that works
            unavailable = AuditUnavailable(
                message=f"The database is away after {result.read} rows. Run the same import again: it continues."
            )
            unavailable.result = result  # type: ignore[attr-defined]
            raise unavailable from error
        if progress:
            progress(result.read)
    return result


def _write_batch(
    batch: list[_Numbered], result: IngestResult, source: str, origin: Origin, historical: bool, using: str, fresh: bool
) -> bool:
    """Write a batch, and say whether its rows were all new. fresh: they are believed to be."""
    present = now()
    facts, refused = _judge(batch, present, historical)
    partitions.ensure(LOG, present, months=_months(facts), using=using)
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        book(cursor, facts, present)
        lines = Lines(facts, prices(facts), source) if len(facts) else None
        inserted, duplicates = 0, 0
        more: list[tuple[int, Refusal]] = []
        if lines and fresh and not _near(facts, 0, len(facts)) and _copied(cursor, lines, len(facts), using):
            inserted = len(facts)
        elif lines:
            inserted, duplicates, more = _write_or_bisect(cursor, facts, lines, 0, len(facts), using)
        refused = sorted([*refused, *more], key=lambda pair: pair[0])
        given = dict(batch) if refused else {}
        keep_aside(cursor, [(number, refusal, given[number]) for number, refusal in refused], origin)
    result.inserted += inserted
    result.duplicates += duplicates
    result.reject(refused)
    return not duplicates and not more


def examine(
    rows: Iterable[_Numbered], *, historical: bool = False, progress: Callable[[int], None] | None = None
) -> IngestResult:
    """What `ingest` would refuse of rows by looking at them alone, with nothing written; inserted: those it would try."""
    result = IngestResult()
    remaining = iter(rows)
    while batch := list(islice(remaining, 5000)):
        facts, refused = _judge(batch, now(), historical)
        result.inserted += len(facts)
        result.reject(refused)
        if progress:
            progress(result.read)
    return result


def _judge(batch: list[_Numbered], present: datetime, historical: bool) -> tuple[Facts, list[tuple[int, Refusal]]]:
    """The facts that the rows of a batch state, and why the others are refused."""
    rows = [(number, row) for number, row in batch if not isinstance(row, RawRow)]
    facts, refused = judge(rows, present=present, zones=_zones(rows), historical=historical)
    if len(rows) < len(batch):
        refused += [(number, Refusal(row.code, "", row.message)) for number, row in batch if isinstance(row, RawRow)]
        refused.sort(key=lambda pair: pair[0])
    return facts, refused


def _months(facts: Facts) -> set[date]:
    """First days of the UTC months of the facts."""
    times = facts.column("created_at")
    ends = {partitions.month_of(at) for at in (min(times), max(times))} if times else set()
    return ends if len(ends) < 2 else {partitions.month_of(at) for at in times}


_Written = tuple[int, int, list[tuple[int, Refusal]]]


def _copied(cursor: CursorWrapper, lines: Lines, count: int, using: str) -> bool:
    """Write rows straight into the log, at half of the server's work. False: it takes them not all, and none was written."""
    try:
        with transaction.atomic(using=using):
            copy_text(cursor, LOG.table, lines.columns, lines.text(0, count))
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError:
        return False
    return True


def _write_or_bisect(cursor: CursorWrapper, facts: Facts, lines: Lines, start: int, end: int, using: str) -> _Written:
    """inserted, duplicates, refused. What the database refuses all the same is found by halving."""
    try:
        with transaction.atomic(using=using):
            return _write(cursor, facts, lines, start, end)
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError as error:
        if end - start == 1:
            state = getattr(error.__cause__, "sqlstate", None) or "—"
            message = f"The database refused the row (SQLSTATE {state}): {str(error).splitlines()[0]}"
            return 0, 0, [(facts.numbers[start], Refusal("database_refused", "", redact_text(message)))]
    middle = (start + end) // 2
    first = _write_or_bisect(cursor, facts, lines, start, middle, using)
    second = _write_or_bisect(cursor, facts, lines, middle, end, using)
    return first[0] + second[0], first[1] + second[1], [*first[2], *second[2]]


# Of a row that meets another: its number, whether the figures are equal, whether the cost is, and whether the other's cost is
# none that its source named.
_ALIKE = sql.SQL(
    "s.cp_row, (s.model, s.status, s.prompt_tokens, s.completion_tokens) "
    "IS NOT DISTINCT FROM (f.model, f.status, f.prompt_tokens, f.completion_tokens), s.cost IS NOT DISTINCT FROM f.cost, "
    "f.cost IS NULL OR f.price_id IS NOT NULL OR (f.status = 'failed' AND f.cost = 0)"
)
_NEIGHBOUR = sql.SQL("""
    DELETE FROM cp_ingest s USING cp_auditing_inferencerequest f
    WHERE f.tenant_id = s.tenant_id AND f.request_id = s.request_id AND f.adjusts IS NULL
        AND f.id >= %s AND f.id < %s AND abs(extract(epoch FROM f.created_at - s.created_at)) <= %s
        AND date_trunc('month', f.created_at, 'UTC') <> date_trunc('month', s.created_at, 'UTC')
    RETURNING {}
""").format(_ALIKE)
# The same over a border, both in this batch: the first one stays.
_TWIN = sql.SQL("""
    DELETE FROM cp_ingest s USING cp_ingest f
    WHERE f.tenant_id = s.tenant_id AND f.request_id = s.request_id AND f.cp_row < s.cp_row
        AND abs(extract(epoch FROM f.created_at - s.created_at)) <= %s
        AND date_trunc('month', f.created_at, 'UTC') <> date_trunc('month', s.created_at, 'UTC')
    RETURNING {}
""").format(_ALIKE)
_COLUMN_LIST = ", ".join(COLUMNS)
_INSERT = (
    "INSERT INTO cp_auditing_inferencerequest (" + _COLUMN_LIST + ") "  # noqa: S608 - constants
    "SELECT " + _COLUMN_LIST + " FROM cp_ingest ORDER BY cp_row ON CONFLICT DO NOTHING"
)
_COMPARE = sql.SQL("""
    SELECT {} FROM cp_ingest s JOIN cp_auditing_inferencerequest f
        ON f.tenant_id = s.tenant_id AND f.request_id = s.request_id AND f.adjusts IS NULL
    WHERE f.id >= %s AND f.id < %s
        AND date_trunc('month', f.created_at, 'UTC')
        = date_trunc('month', s.created_at, 'UTC')
""").format(_ALIKE)


def _write(cursor: CursorWrapper, facts: Facts, lines: Lines, start: int, end: int) -> _Written:
    temporary_like(cursor, "cp_ingest", LOG.table, COLUMNS)
    copy_text(cursor, "cp_ingest", lines.columns, lines.text(start, end))
    known = _already_next_door(cursor, facts, start, end)
    cursor.execute(_INSERT)
    inserted, count = cursor.rowcount, end - start
    if inserted < count - len(known):
        # Some were there: read them all back, and tell the equal ones from the others.
        cursor.execute(_COMPARE, _ids_within(facts, start, end, timedelta(days=31)))
        known |= _equal(cursor, facts, start)
    cursor.execute("DROP TABLE cp_ingest")
    requests = facts.column("request_id")
    conflicts = [
        (facts.numbers[at], Refusal("conflicting_duplicate", "request_id", _CONFLICT.format(requests[at])))
        for at, equal in sorted(known.items())
        if not equal
    ]
    return inserted, count - inserted - len(conflicts), conflicts


_CONFLICT = "Request id {} is there already, with another model, status, usage or cost. The first row stays."


def _near(facts: Facts, start: int, end: int) -> list[int]:
    """The places of rows near a border: what they repeat may stand in the neighbouring month, where the local unique index
    cannot see it."""
    times = facts.column("created_at")[start:end]
    low, high = min(times), max(times)
    if partitions.month_of(low - _BORDER) == partitions.month_of(high + _BORDER):
        return []
    return [
        at
        for at, time in enumerate(times, start)
        if not 2 < time.day < 27  # what follows is exact, and dear
        and partitions.month_of(time - _BORDER) != partitions.month_of(time + _BORDER)
    ]


def _already_next_door(cursor: CursorWrapper, facts: Facts, start: int, end: int) -> dict[int, bool]:
    """Staged rows near a border that stand in the neighbouring month: the local unique index cannot see them."""
    near = _near(facts, start, end)
    if not near:
        return {}
    tenants, times = facts.column("tenant_id"), facts.column("created_at")
    for tenant, month in sorted({(tenants[at].hex, f"{partitions.month_of(times[at] - _BORDER):%Y%m}") for at in near}):
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), hashtext(%s))", ["cp_ingest", tenant + month])
    apart = _BORDER.total_seconds()
    cursor.execute(_NEIGHBOUR, [*_ids_within(facts, start, end, 2 * _BORDER), apart])
    known = _equal(cursor, facts, start)
    cursor.execute(_TWIN, [apart])
    return known | _equal(cursor, facts, start)


def _equal(cursor: CursorWrapper, facts: Facts, start: int) -> dict[int, bool]:
    """Whether rows equal those they met, by place. Costs that no source named make no difference: they were worked out when
    the row came first, and prices may have changed since."""
    costs = facts.column("cost")
    places = ((start + row - 1, *rest) for row, *rest in cursor.fetchall())
    return {
        at: alike and (same_cost or (worked_out and costs[at] is None)) for at, alike, same_cost, worked_out in places
    }


def _ids_within(facts: Facts, start: int, end: int, apart: timedelta) -> list[UUID]:
    """Bounds of the ids of rows that are at most `apart` from these."""
    times = facts.column("created_at")[start:end]
    return [lower_bound(min(times) - apart), lower_bound(max(times) + apart + timedelta(milliseconds=1))]


def _zones(rows: list[tuple[int, Mapping[str, Any]]]) -> dict[UUID, str]:
    """Time zones of the tenants that a batch names; a tenant that is not there is unknown."""
    ids, last = set(), None
    for _, row in rows:
        if (tenant := row.get("tenant_id")) is not last:
            last = tenant
            try:
                ids.add(tenant if isinstance(tenant, UUID) else UUID(str(tenant)))
            except ValueError:
                continue
    return {id: facts.time_zone for id, facts in directory().tenants(ids).items()}


def again(rows: list[tuple[int, Mapping[str, Any]]], *, using: str) -> tuple[int, int, list[tuple[int, Refusal]]]:
    """Write numbered rows that were refused before, in the caller's transaction, and keep none aside.

    They may go back to 2020, and keep their request ids. Returns how many were inserted, how many were there already, and why
    the others are refused, by number.
    """
    present = now()
    facts, refused = _judge(list(rows), present, historical=True)
    partitions.ensure(LOG, present, months=_months(facts), using=using)
    if not len(facts):
        return 0, 0, refused
    with connections[using].cursor() as cursor:
        book(cursor, facts, present)
        lines = Lines(facts, prices(facts), "ingest")
        inserted, duplicates, more = _write_or_bisect(cursor, facts, lines, 0, len(facts), using)
    return inserted, duplicates, sorted([*refused, *more], key=lambda pair: pair[0])
