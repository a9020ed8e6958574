"""Whether the logs are what was sealed: chains, checkpoints, anchors, rows, retired and closed months, guards.

The database reads its rows once and makes their leaves (auditing/sql/0008_verifying); roots and conclusions are made here. Rows
are asked for by spans of transactions, each in a statement of its own, so that memory is bounded and nothing is held up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connections

from auditing import merkle
from auditing.errors import InvalidWindow
from auditing.models.logs import id_of
from auditing.notes import Note, read_notes
from auditing.windows import check_years, id_bounds
from controlplane.core.conf import conf
from controlplane.core.partitions import month_of, next_month

LOGS = ("auditlog", "inferencerequest")
KINDS = (
    "chain_broken", "seal_altered", "seal_missing", "checkpoint_mismatch", "anchor_mismatch", "root_mismatch",
    "count_mismatch", "stray_row", "retired_without_record", "erased_without_record", "month_altered", "guard_missing",
)  # fmt: skip
ROWS_OF_A_SPAN = 100_000
LATE = timedelta(days=35)
"""Rows that were sealed that long after the end of their month are late: until then anybody could have written them."""
KEPT = 10_000
"""Findings that a report holds; beyond, they are counted."""
LIMITS = (
    "Without an anchor kept elsewhere, the owner of the database can rebuild everything: set AUDIT_ANCHORS, and compare with "
    "audit_verify --anchors. No seal tells of an event that was never written."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was sealed. kind: one of KINDS. What is None is not known, or does not apply.

    id_from, id_to: the row, where it is known, else the range of the seal `seq` that it is in.
    """

    kind: str
    log: str
    tenant_id: UUID | None
    month: date | None
    seq: int | None
    id_from: UUID | None
    id_to: UUID | None
    message: str


Place = tuple[str, UUID, date]
"""Log, tenant and month."""


@dataclass(slots=True)
class Report:
    """What was verified. rows, seals: how many were read. anchors: how many were compared.

    findings: the first KEPT, `more` counts the others. states: of a month, `verified`; `retired`, its rows are gone as a record
    says; `pending`, some of its rows are not sealed yet; `late`, some were sealed LATE after its end. A month with a finding
    has none.
    """

    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    seals: int = 0
    states: dict[Place, str] = field(default_factory=dict)
    anchors: int = 0
    more: int = 0

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if len(self.findings) < KEPT:
                self.findings.append(finding)
            else:
                self.more += 1


@dataclass(slots=True)
class _Month:
    """What was counted of a month. n: rows that its seals say are there."""

    n: int = 0
    found: int = 0
    waiting: int = 0
    late: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class _Gone:
    """Rows of a month up to the seal `seq` are gone. wrong: None if records say so."""

    seq: int
    id_from: UUID
    id_to: UUID
    wrong: str | None


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is verified: one tenant or all (None), and the ids of whole months or all (None)."""

    alias: str
    tenant: UUID | None
    low: UUID | None = None
    high: UUID | None = None

    def ask(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(statement, values)
            while rows := cursor.fetchmany(500):
                yield from rows

    def findings(self, statement: str, *values: Any) -> Iterator[Finding]:
        columns = "kind, log, tenant_id, month, seq, id_from, id_to, message"
        for row in self.ask(f"SELECT {columns} FROM {statement}", *values):  # noqa: S608 - functions of ours
            yield Finding(*row)


def verify(
    *,
    tenant: object = None,
    log: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    anchors: Path | None = None,
    progress: Callable[[int], None] | None = None,
    using: str | None = None,
) -> Report:
    """Verify the logs, or one of them, of a tenant (row or id) or of all. Writes nothing, and holds nobody up.

    start, end: only the months that start <= instant < end touches (aware, else InvalidWindow); chains, guards and closed
    months are verified whole. anchors: a file of signed notes that was kept elsewhere. progress: called with the rows read so
    far. Raises InvalidAnchor where the file cannot be read, and InvalidWindow.
    """
    if log is not None and log not in LOGS:
        raise ValueError(f"There is no log {log!r}: give one of {', '.join(LOGS)}.")
    notes = read_notes(anchors, getattr(conf, "AUDIT_SIGNING_KEY", "")) if anchors else []
    scope = _Scope(using or conf.DATABASE, None if tenant is None else id_of(tenant), *_months(start, end))
    report = Report()
    _verify_chains(scope, log, report)
    months: dict[Place, _Month] = {}
    for one in LOGS if log is None else (log,):
        _LogVerification(scope, one, report, months, progress).run()
    if log in (None, "inferencerequest"):  # summaries are of requests
        report.add(scope.findings("cp_verify_months(%s)", scope.tenant))
    report.add(scope.findings("cp_verify_guards()"))
    if notes:
        report.anchors = len(notes)
        report.add(_anchored(scope, notes))
    wrong = {(found.log, found.tenant_id, found.month) for found in report.findings}
    report.states = {place: _state(month) for place, month in sorted(months.items()) if place not in wrong}
    return report


def _months(start: datetime | None, end: datetime | None) -> tuple[UUID | None, UUID | None]:
    """Bounds of the ids of whole months."""
    if start is None and end is None:
        return None, None
    for instant in (start, end):
        if instant is not None and instant.tzinfo is None:
            raise InvalidWindow(message="Start and end need a time zone: use aware datetimes.")
    check_years(start, end)
    first = month_of(start) if start else date(1970, 1, 1)
    last = month_of(end - timedelta(microseconds=1)) if end else date(9000, 1, 1)
    if start and end and start >= end:
        raise InvalidWindow(message=f"The window is empty: {start:%Y-%m-%d %H:%M} is not before {end:%Y-%m-%d %H:%M}.")
    low, _ = id_bounds(_midnight(first), _midnight(next_month(first)))
    return low, UUID(int=id_bounds(_midnight(last), _midnight(next_month(last)))[1].int - (1 << 80))


def _midnight(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def _state(month: _Month) -> str:
    if month.waiting:
        return "pending"
    if month.retired:
        return "retired"
    return "late" if month.late else "verified"


def _verify_chains(scope: _Scope, log: str | None, report: Report) -> None:
    if log is None and scope.tenant is None:
        report.add(scope.findings("cp_verify_chains()"))
    else:
        for one in (log,) if log else (*LOGS, "usagesummary"):
            report.add(scope.findings("cp_verify_chains(%s, %s)", one, scope.tenant))
        report.add(scope.findings("cp_verify_chains('checkpoint')"))
    report.add(scope.findings("cp_verify_checkpoints(%s)", scope.tenant))


@dataclass(slots=True)
class _LogVerification:
    """The rows of one log against its seals."""

    scope: _Scope
    log: str
    report: Report
    months: dict[Place, _Month]
    progress: Callable[[int], None] | None
    gone: dict[tuple[UUID, date], _Gone] = field(default_factory=dict)
    emptied: list[Finding] = field(default_factory=list)
    """Seals of which no row was there: their month may have been retired meanwhile."""

    def run(self) -> None:
        upto = self._upto()
        self._read_months(upto)
        self.gone = self._read_gone()
        low = 0
        for high in [*self._edges(upto), upto]:
            if high > low:
                self._read_span(low, high)
            low = max(low, high)
        if self.emptied:
            self.gone = self._read_gone()
            self.report.add(one for one in self.emptied if not self._is_gone(one.tenant_id, one.month, one.seq))
        self._read_waiting(upto)
        self._conclude()

    def _upto(self) -> int:
        [(upto,)] = self.scope.ask("SELECT cp_verify_upto(%s)", self.log)
        return int(upto)

    def _month(self, tenant_id: UUID, month: date) -> _Month:
        return self.months.setdefault((self.log, tenant_id, month), _Month())

    def _read_months(self, upto: int) -> None:
        for tenant_id, month, sealed_at in self.scope.ask(
            f"SELECT tenant_id, month, max(sealed_at) FROM cp_auditing_auditseal s {_SEALS} GROUP BY 1, 2",  # noqa: S608
            *self._seals(upto),
        ):
            ended = _midnight(next_month(month))
            self._month(tenant_id, month).late = sealed_at > ended + LATE

    def _seals(self, upto: int) -> Sequence[Any]:
        scope = self.scope
        return self.log, upto, scope.tenant, scope.tenant, scope.low, scope.low, scope.high

    def _edges(self, upto: int) -> list[int]:
        """Transactions at which to begin a new span, so that each has about ROWS_OF_A_SPAN rows; windows stay whole."""
        return [edge for (edge,) in self.scope.ask(_EDGES, ROWS_OF_A_SPAN, *self._seals(upto))]

    def _read_gone(self) -> dict[tuple[UUID, date], _Gone]:
        rows = self.scope.ask(
            "SELECT tenant_id, month, seq, id_from, id_to, message FROM cp_verify_gone(%s, %s)",
            self.log,
            self.scope.tenant,
        )
        found = {(tenant_id, month): _Gone(*rest) for tenant_id, month, *rest in rows}
        low, high = self.scope.low, self.scope.high
        return {
            place: gone
            for place, gone in found.items()
            if low is None or high is None or (gone.id_to >= low and gone.id_from < high)
        }

    def _is_gone(self, tenant_id: UUID | None, month: date | None, seq: int | None) -> bool:
        gone = self.gone.get((tenant_id, month)) if tenant_id and month else None
        return gone is not None and gone.seq is not None and seq is not None and seq <= gone.seq

    def _read_span(self, low: int, high: int) -> None:
        scope = self.scope
        for row in scope.ask(_ROWS, self.log, scope.tenant, low, high, scope.low, scope.high):
            self._read(_Read(*row))
        if self.progress:
            self.progress(self.report.rows)

    def _read(self, row: _Read) -> None:
        month = self._month(row.tenant_id, row.month)
        month.found += row.found
        self.report.rows += row.found
        if row.seq is None:
            self.report.add(self._strays(row.tenant_id, row.month, row.strays or [], row.found, "is under no seal"))
            return
        self.report.seals += 1
        if not row.found and self._is_gone(row.tenant_id, row.month, row.seq):
            month.retired = True
            return
        month.n += row.n
        if row.found != row.n or merkle.root_of(bytes(row.leaves)) != bytes(row.root):
            found = self._finding(row, self._mismatch(row))
            if row.found:
                self.report.add([found])
            else:
                self.emptied.append(found)
        self.report.add(
            self._finding(row, f"ip, user_agent or actor_label of row {id} was changed.", id)
            for id in row.altered or ()
        )
        self.report.add(
            self._finding(
                row,
                f"Personal data of row {id} is gone, and no record says that it was erased.",
                id,
                "erased_without_record",
            )
            for id in row.erased or ()
        )

    def _finding(self, row: _Read, message: str, id: UUID | None = None, kind: str = "root_mismatch") -> Finding:
        return Finding(kind, self.log, row.tenant_id, row.month, row.seq, id or row.id_from, id or row.id_to, message)

    def _mismatch(self, row: _Read) -> str:
        message = f"The {row.found} rows under seal {row.seq} are not the {row.n} that were sealed."
        [(younger,)] = self.scope.ask(
            "SELECT cp_verify_younger(%s, %s, %s, %s, %s, %s)",
            self.log, row.tenant_id, row.xid_from, row.xid_to, row.id_from, row.id_to,
        )  # fmt: skip
        return f"{message} Younger than the seal: {', '.join(map(str, younger))}." if younger else message

    def _strays(self, tenant_id: UUID, month: date, ids: Sequence[UUID], count: int, what: str) -> Iterator[Finding]:
        for id in ids:
            yield Finding("stray_row", self.log, tenant_id, month, None, id, id, f"Row {id} {what}.")
        if count > len(ids):
            message = f"{count - len(ids)} more rows are under no seal."
            yield Finding("stray_row", self.log, tenant_id, month, None, ids[-1], None, message)

    def _read_waiting(self, upto: int) -> None:
        low, high = self.scope.low, self.scope.high
        for tenant_id, month, n, strays in self.scope.ask(
            "SELECT tenant_id, month, n, strays FROM cp_verify_pending(%s, %s, %s)", self.log, self.scope.tenant, upto
        ):
            if low is not None and high is not None and not low <= _first(month) < high:
                continue
            self._month(tenant_id, month).waiting += n
            ids: Sequence[UUID] = strays or ()
            what = "is of a transaction that has not begun"
            self.report.add(self._strays(tenant_id, month, ids, len(ids), what))

    def _conclude(self) -> None:
        for (tenant_id, month), gone in self.gone.items():
            if gone.wrong is not None:
                self.report.add(
                    [
                        Finding(
                            "retired_without_record", self.log, tenant_id, month, gone.seq, gone.id_from, gone.id_to,
                            gone.wrong,
                        )
                    ]
                )  # fmt: skip
        emptied = {(one.tenant_id, one.month) for one in self.emptied}
        for (log, tenant_id, month), counted in self.months.items():
            all_gone = (tenant_id, month) in emptied and not counted.found
            if log == self.log and counted.n != counted.found and not all_gone:
                message = f"{counted.n} rows are sealed, {counted.found} are there."
                self.report.add([Finding("count_mismatch", log, tenant_id, month, None, None, None, message)])


@dataclass(frozen=True, slots=True)
class _Read:
    """A row of cp_verify_rows."""

    tenant_id: UUID
    month: date
    seq: int | None
    id_from: UUID
    id_to: UUID
    xid_from: int
    xid_to: int
    n: int
    root: bytes
    found: int
    leaves: bytes
    strays: list[UUID] | None
    altered: list[UUID] | None
    erased: list[UUID] | None


_SEALS = (
    "WHERE s.kind = 'rows' AND s.log = %s AND s.xid_to <= %s AND (%s::uuid IS NULL OR s.tenant_id = %s) "
    "AND (%s::uuid IS NULL OR (s.id_to >= %s AND s.id_from < %s))"
)
_EDGES = (
    "SELECT max(w.xid_to) FROM (SELECT w.xid_to, (sum(w.n) OVER (ORDER BY w.xid_to) - 1)::bigint / %s AS part FROM ("  # noqa: S608
    f"SELECT s.xid_to, sum(s.n) AS n FROM cp_auditing_auditseal s {_SEALS} GROUP BY s.xid_to) w) w GROUP BY w.part ORDER BY 1"
)
_ROWS = (
    "SELECT tenant_id, month, seq, id_from, id_to, xid_from, xid_to, n, root, found, leaves, strays, altered, erased "
    "FROM cp_verify_rows(%s, %s, %s, %s, %s, %s)"
)


def _first(month: date) -> UUID:
    return id_bounds(_midnight(month), _midnight(next_month(month)))[0]


def _anchored(scope: _Scope, notes: Sequence[Note]) -> Iterator[Finding]:
    """Anchors of other checkpoints than those that are there."""
    hashes = (bytes(hash) for (hash,) in scope.ask(_CHECKPOINTS))
    roots = merkle_roots(hashes, {note.size for note in notes})
    for note in notes:
        if note.genuine is False:
            yield _of_anchor(note, f"The anchor over {note.size} checkpoints is not signed with our key.")
        elif note.size not in roots:
            yield _of_anchor(note, f"The anchor is over {note.size} checkpoints; there are fewer.")
        elif roots[note.size] != note.root:
            yield _of_anchor(note, f"The anchor over {note.size} checkpoints is of others than those that are there.")


def _of_anchor(note: Note, message: str) -> Finding:
    return Finding("anchor_mismatch", "checkpoint", None, None, note.size, None, None, message)


_CHECKPOINTS = "SELECT hash FROM cp_auditing_auditseal WHERE kind = 'checkpoint' ORDER BY seq"


def merkle_roots(hashes: Iterable[bytes], sizes: set[int]) -> dict[int, bytes]:
    """The roots (RFC 6962) over the first hashes, as many as each of `sizes` says; those of more than there are, left out."""
    found = {0: merkle.root([])}
    peaks: list[tuple[int, bytes]] = []  # roots of whole trees, the largest first
    for size, value in enumerate(hashes, 1):
        peaks.append((1, value))
        while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
            (_, right), (width, left) = peaks.pop(), peaks.pop()
            peaks.append((2 * width, merkle.node(left, right)))
        if size in sizes:
            whole = peaks[-1][1]
            for _, left in peaks[-2::-1]:
                whole = merkle.node(left, whole)
            found[size] = whole
    return found
