"""Seals: hashes over rows of the logs that nobody may change any more, chained, and bound together by checkpoints.

A run reads, by transaction, what was committed since the run before (auditing.watermarks), so that it misses nothing and
seals nothing twice, whatever commits last; writers never wait for it. It is one transaction: killed anywhere, it has done
nothing, and the next run does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import groupby, pairwise
from operator import attrgetter
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing import merkle, watermarks
from auditing.leaves import netstring
from controlplane.core.conf import conf
from controlplane.core.ids import NIL, PLATFORM, instant_of, lower_bound, uuid7
from controlplane.core.partitions import month_of, next_month

LOGS = ("auditlog", "inferencerequest")
ROWS_OF_A_SEAL = 1000
ROWS_OF_A_RUN = 200_000
"""A run takes so many rows of a log at most, by whole transactions: what waits after a pause goes in several."""
WAITING = 1000
PAUSE = timedelta(seconds=300)
"""A run that is not forced seals once WAITING rows wait, or PAUSE after the last one, then be there rows or none: that nothing
was written is sealed too."""
FIRST_PREV = bytes(32)
_LOCK = 0x63705F5365616C  # "cp_Seal": exclusive for a run, shared for who appends to the run to come
_RECORD = 48  # octets of an id and its leaf


@dataclass(frozen=True, slots=True)
class Seal:
    """One row of AuditSeal, which says what the fields mean; they stand in the order in which `hash` covers them."""

    kind: str
    log: str
    tenant_id: UUID
    month: date
    seq: int
    run: UUID
    xid_from: int
    xid_to: int
    id_from: UUID
    id_to: UUID
    n: int
    root: bytes
    prev: bytes
    schema: int
    sealed_at: datetime

    @property
    def hash(self) -> bytes:
        return sha256(b"\x02" + b"".join(netstring(getattr(self, name)) for name in _FIELDS)).digest()


_FIELDS = tuple(field.name for field in fields(Seal))


@dataclass(frozen=True, slots=True)
class SealRun:
    """What a run did. seals: without its checkpoint; None: it was not due, or another process seals at this moment.

    more: rows wait that did not fit into this run.
    """

    seals: int = 0
    rows: int = 0
    checkpoint: Seal | None = None
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of one log, tenant and month that follow each other: at most as many as a seal takes."""

    tenant_id: UUID
    month: date
    first: UUID
    last: UUID
    n: int
    root: bytes


def seal(now: datetime, *, force: bool = False, using: str | None = None) -> SealRun:
    """Seal what was committed since the last run, if it is time (see PAUSE) or `force`; end with a checkpoint.

    One process seals at a time; another one that tries returns at once. Transactions that began before one that is still
    open are sealed once it has ended. Raises ClusterChanged.
    """
    alias = using or conf.DATABASE
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return SealRun()
        spans = {log: watermarks.span(cursor, f"seal:{log}") for log in LOGS}
        if not (force or _due(cursor, spans, now)):
            return SealRun()
        seals, upto, run = [], {}, next_run(cursor)
        for log, span in spans.items():
            upto[log], whole = _upto(cursor, log, span)
            window = watermarks.Span(span.low, upto[log])
            seals += _chain(cursor, _drafts(_pieces(cursor, log, window, whole), log, window, run, now))
            watermarks.move(cursor, f"seal:{log}", upto[log])
        checkpoint = _checkpoint(cursor, run, min(span.low for span in spans.values()), min(upto.values()), now)
        more = any(upto[log] < span.high for log, span in spans.items())
    return SealRun(len(seals), sum(one.n for one in seals), checkpoint, more)


def duty(now: datetime) -> bool:
    """`seal` as a duty: True when more rows wait."""
    return seal(now).more


def lag(now: datetime, using: str | None = None) -> timedelta | None:
    """For how long nothing was sealed, or rows have waited behind a transaction that does not end; None: nothing is there.

    In a platform at rest it is at most PAUSE and the duty's 60 s.
    """
    with connections[using or conf.DATABASE].cursor() as cursor:
        cursor.execute(_SINCE, [PLATFORM])
        since: datetime | None = cursor.fetchone()[0]
    return max(now - since, timedelta(0)) if since else None


def append(
    cursor: CursorWrapper,
    kind: str,
    log: str,
    tenant_id: UUID,
    month: date,
    *,
    n: int,
    root: bytes,
    at: datetime,
    id_from: UUID = NIL,
    id_to: UUID = NIL,
    xid_from: int = 0,
    xid_to: int = 0,
) -> Seal:
    """Chain one seal that no run makes, as of a closed month, in the caller's transaction; the next checkpoint binds it.

    n, root: of the leaves under it, in the order of their ids. Call it last: until the transaction ends no run begins.
    """
    cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_LOCK])
    cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK & 0x7FFFFFFF, f"{log}:{tenant_id}"])
    draft = Seal(
        kind, log, tenant_id, month, 0, next_run(cursor), xid_from, xid_to, id_from, id_to, n, root, b"", 1, at
    )
    [made] = _chain(cursor, [draft])
    return made


def alone(cursor: CursorWrapper) -> None:
    """Wait until no run goes on, and keep others out until the transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def next_run(cursor: CursorWrapper) -> UUID:
    """The id of the run to come: the first 16 octets of the hash of the last checkpoint, nil before the first.

    So who appends a seal between two runs knows the run that will bind it.
    """
    cursor.execute(
        "SELECT hash FROM cp_auditing_auditseal WHERE tenant_id = %s AND log = 'checkpoint' ORDER BY seq DESC LIMIT 1",
        [PLATFORM],
    )
    row = cursor.fetchone()
    return UUID(bytes=bytes(row[0])[:16]) if row else NIL


def _due(cursor: CursorWrapper, spans: dict[str, watermarks.Span], now: datetime) -> bool:
    cursor.execute(
        "SELECT sealed_at FROM cp_auditing_auditseal WHERE tenant_id = %s AND log = 'checkpoint' ORDER BY seq DESC LIMIT 1",
        [PLATFORM],
    )
    row = cursor.fetchone()
    if row is None or abs(now - row[0]) >= PAUSE:  # a clock that was put back must not stop sealing
        return True
    return sum(_waiting(cursor, log, span) for log, span in spans.items()) >= WAITING


def _waiting(cursor: CursorWrapper, log: str, span: watermarks.Span) -> int:
    """Rows that wait, WAITING at most: to count on would cost and say nothing."""
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM {} WHERE xid >= %s AND xid < %s LIMIT %s) waiting")
    cursor.execute(query.format(_table(log)), [span.low, span.high, WAITING])
    count: int = cursor.fetchone()[0]
    return count


def _upto(cursor: CursorWrapper, log: str, span: watermarks.Span) -> tuple[int, bool]:
    """The first transaction that this run leaves to the next one, and whether it takes a single one that has too many rows, for
    they are sealed whole."""
    query = sql.SQL("SELECT xid FROM {} WHERE xid >= %s AND xid < %s ORDER BY xid OFFSET %s LIMIT 1").format(
        _table(log)
    )
    cursor.execute(query, [span.low, span.high, ROWS_OF_A_RUN])
    beyond = cursor.fetchone()
    if beyond is None:
        return span.high, False
    cursor.execute(query, [span.low, span.high, 0])
    whole = cursor.fetchone() == beyond
    return beyond[0] + whole, whole


def _drafts(pieces: Iterator[_Piece], log: str, window: watermarks.Span, run: UUID, now: datetime) -> Iterator[Seal]:
    """Seals of the pieces, whose ranges of ids cover each month; seq and prev come later."""
    for (tenant_id, month), group in groupby(pieces, attrgetter("tenant_id", "month")):
        found = list(group)
        edges = [lower_bound(_start(month)), *(UUID(int=piece.last.int + 1) for piece in found[:-1])]
        edges.append(lower_bound(_start(next_month(month))))
        for piece, (id_from, end) in zip(found, pairwise(edges), strict=True):
            yield Seal(
                "rows", log, tenant_id, month, 0, run, window.low, window.high,
                id_from, UUID(int=end.int - 1), piece.n, piece.root, b"", 1, now,
            )  # fmt: skip


_PIECES = """
    SELECT tenant_id, string_agg(record, '' ORDER BY id) FROM (
        SELECT tenant_id, part, id, record, (row_number() OVER (PARTITION BY tenant_id, part ORDER BY id) - 1) / %s AS piece
        FROM (
            SELECT tenant_id, tableoid AS part, id, uuid_send(id) || cp_leaf(log) AS record
            FROM {} log WHERE xid >= %s AND xid < %s OFFSET 0
        ) leaves
    ) cut
    GROUP BY tenant_id, part, piece ORDER BY tenant_id, part, piece
"""


def _pieces(cursor: CursorWrapper, log: str, window: watermarks.Span, whole: bool) -> Iterator[_Piece]:
    """The rows of a window, cut by tenant, month (a partition is one) and then by id, in this order.

    Leaves are made by the server, roots here, where they take half the time. Where a transaction has more rows than a run takes,
    a cursor of the server hands over a few pieces at a time: ten million rows are no matter of memory. Only a query without
    one is done by several processes of the server.
    """
    cursor.execute("SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true)")
    with cursor.db.chunked_cursor() if whole else cursor.db.cursor() as stream:
        stream.execute(sql.SQL(_PIECES).format(_table(log)), [ROWS_OF_A_SEAL, window.low, window.high])
        while found := stream.fetchmany(50):
            for tenant_id, records in found:
                yield _piece(tenant_id, bytes(records))


def _piece(tenant_id: UUID, records: bytes) -> _Piece:
    """A piece from its ids and leaves, in turn."""
    last = len(records) - _RECORD
    leaves = b"".join([records[place + 16 : place + _RECORD] for place in range(0, len(records), _RECORD)])
    first_id, last_id = UUID(bytes=records[:16]), UUID(bytes=records[last : last + 16])
    return _Piece(
        tenant_id, month_of(instant_of(first_id)), first_id, last_id, len(leaves) // 32, merkle.root_of(leaves)
    )


def _checkpoint(cursor: CursorWrapper, run: UUID, low: int, high: int, now: datetime) -> Seal:
    """Bind the seals of a run, and those that were appended before it: root over their hashes by log, tenant and seq."""
    cursor.execute(
        'SELECT hash FROM cp_auditing_auditseal WHERE run = %s ORDER BY log COLLATE "C", tenant_id, seq', [run]
    )
    hashes = [bytes(row[0]) for row in cursor.fetchall()]
    draft = Seal(
        "checkpoint", "checkpoint", PLATFORM, month_of(now), 0, run, low, high, NIL, NIL,
        len(hashes), merkle.root(hashes), b"", 1, now,
    )  # fmt: skip
    [made] = _chain(cursor, [draft])
    return made


def _chain(cursor: CursorWrapper, given: Iterable[Seal]) -> list[Seal]:
    """Write seals, each behind the last of its log and tenant: seq and prev are filled in here."""
    drafts = list(given)
    heads = _heads(cursor, drafts)
    made = []
    for draft in drafts:
        seq, prev = heads.get((draft.log, draft.tenant_id), (0, FIRST_PREV))
        one = replace(draft, seq=seq + 1, prev=prev)
        heads[one.log, one.tenant_id] = one.seq, one.hash
        made.append(one)
    with cursor.db.wrap_database_errors, cursor.copy(_COPY) as copy:
        for one in made:
            copy.write_row((uuid7(), *(getattr(one, name) for name in _FIELDS), one.hash))
    return made


def _heads(cursor: CursorWrapper, drafts: Iterable[Seal]) -> dict[tuple[str, UUID], tuple[int, bytes]]:
    """seq and hash of the last seal, by log and tenant."""
    heads: dict[tuple[str, UUID], tuple[int, bytes]] = {}
    for log in {draft.log for draft in drafts}:
        cursor.execute(_HEADS, [list({draft.tenant_id for draft in drafts if draft.log == log}), log])
        heads |= {(log, tenant_id): (seq, bytes(hash)) for tenant_id, seq, hash in cursor.fetchall()}
    return heads


_HEADS = """
    SELECT asked.tenant_id, head.seq, head.hash FROM unnest(%s::uuid[]) asked (tenant_id), LATERAL (
        SELECT seq, hash FROM cp_auditing_auditseal s
        WHERE s.tenant_id = asked.tenant_id AND s.log = %s ORDER BY seq DESC LIMIT 1
    ) head
"""
_COPY = sql.SQL("COPY cp_auditing_auditseal ({}) FROM STDIN").format(
    sql.SQL(", ").join(map(sql.Identifier, ["id", *_FIELDS, "hash"]))
)


# Rows that wait: since the first of the checkpoints that end at the same transaction as the last one. Never sealed: since the
# first event.
_SINCE = """
    WITH last AS (
        SELECT xid_to, sealed_at, seq FROM cp_auditing_auditseal WHERE tenant_id = %s AND log = 'checkpoint'
        ORDER BY seq DESC LIMIT 1
    ), waiting AS (
        SELECT EXISTS (SELECT FROM cp_auditing_auditlog, last WHERE xid >= last.xid_to)
            OR EXISTS (SELECT FROM cp_auditing_inferencerequest, last WHERE xid >= last.xid_to) AS some
    )
    SELECT coalesce(
        (SELECT min(s.sealed_at) FROM cp_auditing_auditseal s, last, waiting
         WHERE waiting.some AND s.tenant_id = '00000000-0000-0000-0000-000000000000' AND s.log = 'checkpoint'
            AND s.seq > last.seq - 1000 AND s.xid_to = last.xid_to),
        (SELECT sealed_at FROM last),
        (SELECT created_at FROM cp_auditing_auditlog ORDER BY id LIMIT 1))
"""


def _table(log: str) -> sql.Identifier:
    return sql.Identifier(f"cp_auditing_{log}")


def _start(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)
