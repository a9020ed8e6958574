"""Finished calls of elsewhere, by the thousand: validated, staged by COPY, written once, refused rows kept aside."""

from __future__ import annotations

from collections import namedtuple
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

from auditing.columns import Refusal
from auditing.deadletters import Origin, RawRow, keep_aside
from auditing.directory import directory
from auditing.errors import AuditUnavailable
from auditing.pricer import FREE, UNPRICED, Price, price, pricer
from auditing.redaction import redact_text
from auditing.validation import COLUMNS, Fact, Validator
from controlplane.core import partitions
from controlplane.core.bulk import BadRow, stage
from controlplane.core.ids import NIL, now

LOG = partitions.PartitionedLog("cp_auditing_inferencerequest", local_unique=("tenant_id", "request_id"))

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
    result = IngestResult()
    remaining = iter(rows)
    while batch := list(islice(remaining, batch_size)):
        try:
            _write_batch(batch, result, source, Origin(origin or source, tenant_id), historical, using)
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
    batch: list[_Numbered], result: IngestResult, source: str, origin: Origin, historical: bool, using: str
) -> None:
    present = now()
    facts, refused = _judge(batch, present, source, historical)
    months = {(fact.created_at.year, fact.created_at.month) for _, fact in facts}
    partitions.ensure(LOG, present, months=[date(year, month, 1) for year, month in months], using=using)
    facts = _priced(facts)
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        inserted, duplicates, more = _write_or_bisect(cursor, facts, using)
        refused = sorted([*refused, *more], key=lambda pair: pair[0])
        given = dict(batch) if refused else {}
        keep_aside(cursor, [(number, refusal, given[number]) for number, refusal in refused], origin)
    result.inserted += inserted
    result.duplicates += duplicates
    result.reject(refused)


def examine(
    rows: Iterable[_Numbered], *, historical: bool = False, progress: Callable[[int], None] | None = None
) -> IngestResult:
    """What `ingest` would refuse of rows by looking at them alone, with nothing written; inserted: those it would try."""
    result = IngestResult()
    remaining = iter(rows)
    while batch := list(islice(remaining, 5000)):
        facts, refused = _judge(batch, now(), "import", historical)
        result.inserted += len(facts)
        result.reject(refused)
        if progress:
            progress(result.read)
    return result


def _judge(
    batch: list[_Numbered], present: datetime, source: str, historical: bool
) -> tuple[list[tuple[int, Fact]], list[tuple[int, Refusal]]]:
    """The facts that the rows of a batch state, and why the others are refused."""
    check = Validator(present=present, zones=_zones(batch), source=source, historical=historical).check
    facts: list[tuple[int, Fact]] = []
    refused: list[tuple[int, Refusal]] = []
    for number, row in batch:
        if isinstance(row, RawRow):
            refused.append((number, Refusal(row.code, "", row.message)))
            continue
        checked = check(row)
        if isinstance(checked, Fact):
            facts.append((number, checked))
        else:
            refused.append((number, checked))
    return facts, refused


_Row = namedtuple("_Row", COLUMNS)  # type: ignore[misc]
_COST, _STATUS = COLUMNS.index("cost"), COLUMNS.index("status")
_AFTER = _COST + len(Price._fields)


def _priced(facts: list[tuple[int, Fact]]) -> list[tuple[int, Fact]]:
    """The facts, with what the pricer says of those whose source names no cost. A failed call costs nothing then, as at the
    gate: a source that bills it says so."""
    if pricer() is None:
        return facts
    asked: list[int] = []
    free: list[int] = []
    for at, (_, fact) in enumerate(facts):
        if not fact.costed:
            (free if fact.values[_STATUS] == "failed" else asked).append(at)
    found = price([_Row._make(facts[at][1].values) for at in asked]) + [FREE] * len(free)
    priced = list(facts)
    for at, columns in zip(asked + free, found, strict=True):
        if columns is not UNPRICED:  # as it is
            number, fact = facts[at]
            values = fact.values[:_COST] + columns + fact.values[_AFTER:]
            priced[at] = (number, Fact(fact.id, fact.tenant_id, fact.request_id, fact.created_at, values))
    return priced


_Written = tuple[int, int, list[tuple[int, Refusal]]]


def _write_or_bisect(cursor: CursorWrapper, facts: list[tuple[int, Fact]], using: str) -> _Written:
    """inserted, duplicates, refused. What the database refuses all the same is found by halving."""
    if not facts:
        return 0, 0, []
    try:
        with transaction.atomic(using=using):
            return _write(cursor, facts)
    except (OperationalError, InterfaceError):
        raise
    except (DatabaseError, BadRow, ValueError) as error:
        if len(facts) == 1:
            cause = error.__cause__.__cause__ if isinstance(error, BadRow) and error.__cause__ else error.__cause__
            state = getattr(cause, "sqlstate", None) or "—"
            message = f"The database refused the row (SQLSTATE {state}): {str(error).splitlines()[0]}"
            return 0, 0, [(facts[0][0], Refusal("database_refused", "", redact_text(message)))]
    middle = len(facts) // 2
    first = _write_or_bisect(cursor, facts[:middle], using)
    second = _write_or_bisect(cursor, facts[middle:], using)
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


def _write(cursor: CursorWrapper, facts: list[tuple[int, Fact]]) -> _Written:
    columns = dict(zip(COLUMNS, zip(*(fact.values for _, fact in facts), strict=True), strict=True))
    # columns that no row of the batch fills, a third or more as a rule, are not sent
    filled = [name for name, values in columns.items() if any(value is not None for value in values)]
    stage(cursor, "cp_ingest", LOG.table, COLUMNS, zip(*(columns[name] for name in filled), strict=True), filled)
    numbers = [fact.id.int for _, fact in facts]
    low, high = UUID(int=min(numbers)), UUID(int=max(numbers))
    known = _already_next_door(cursor, facts, low, high)
    cursor.execute(_INSERT)
    inserted = cursor.rowcount
    if inserted < len(facts) - len(known):
        # Some were there: read them all back, and tell the equal ones from the others.
        first, last = _month_edges(low, high)
        cursor.execute(_COMPARE, [first, last])
        known |= _equal(cursor, facts)
    cursor.execute("DROP TABLE cp_ingest")
    conflicts = [
        (
            facts[row - 1][0],
            Refusal("conflicting_duplicate", "request_id", _CONFLICT.format(facts[row - 1][1].request_id)),
        )
        for row, equal in sorted(known.items())
        if not equal
    ]
    return inserted, len(facts) - inserted - len(conflicts), conflicts


_CONFLICT = "Request id {} is there already, with another model, status, usage or cost. The first row stays."


def _already_next_door(
    cursor: CursorWrapper, facts: Sequence[tuple[int, Fact]], low: UUID, high: UUID
) -> dict[int, bool]:
    """Staged rows near a border that stand in the neighbouring month: the local unique index cannot see them."""
    near = [
        fact
        for _, fact in facts
        if not 2 < fact.created_at.day < 27  # what follows is exact, and dear
        and partitions.month_of(fact.created_at - _BORDER) != partitions.month_of(fact.created_at + _BORDER)
    ]
    if not near:
        return {}
    for tenant, month in sorted(
        {(f.tenant_id.hex, f"{partitions.month_of(f.created_at - _BORDER):%Y%m}") for f in near}
    ):
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), hashtext(%s))", ["cp_ingest", tenant + month])
    width = int(_BORDER.total_seconds() * 2000) << 80
    apart = _BORDER.total_seconds()
    cursor.execute(_NEIGHBOUR, [UUID(int=max(low.int - width, 0)), UUID(int=high.int + width), apart])
    known = _equal(cursor, facts)
    cursor.execute(_TWIN, [apart])
    return known | _equal(cursor, facts)


def _equal(cursor: CursorWrapper, facts: Sequence[tuple[int, Fact]]) -> dict[int, bool]:
    """Whether staged rows equal those they met. Costs that no source named make no difference: they were worked out when the
    row came first, and prices may have changed since."""
    return {
        row: alike and (same_cost or (worked_out and not facts[row - 1][1].costed))
        for row, alike, same_cost, worked_out in cursor.fetchall()
    }


def _month_edges(low: UUID, high: UUID) -> tuple[UUID, UUID]:
    month = int(timedelta(days=31).total_seconds() * 1000) << 80
    return UUID(int=max(low.int - month, 0)), UUID(int=high.int + month)


def _zones(batch: list[_Numbered]) -> dict[UUID, str]:
    """Time zones of the tenants that a batch names; a tenant that is not there is unknown."""
    ids, last = set(), None
    for _, row in batch:
        if not isinstance(row, RawRow) and (tenant := row.get("tenant_id")) is not last:
            last = tenant
            try:
                ids.add(tenant if isinstance(tenant, UUID) else UUID(str(tenant)))
            except ValueError:
                continue
    return {id: facts.time_zone for id, facts in directory().tenants(ids).items()}
