"""The audit of a tenant as files that prove themselves: rows, leaves, seals, checkpoints, and the program that checks them.

Rows stand in the order of their seals, so that the program reads all files once, side by side. Nothing holds a transaction
open: rows under seals do not change, and what is not sealed yet comes last.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from importlib import resources
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import UUID

from django.db import connections, models
from psycopg import sql

from auditing import cells, merkle
from auditing.errors import ExportRefused
from auditing.models import AuditLog, AuditSeal, InferenceRequest, RetentionRecord
from auditing.models.logs import id_of
from auditing.verifying import LIMITS, LOGS
from auditing.windows import check_years, id_bounds
from controlplane.core.conf import conf
from controlplane.core.ids import now
from controlplane.core.partitions import month_of, next_month

FORMAT = 1
FORMATS = ("jsonl", "csv")
BATCH = 5_000
PROGRAM = "verify_export.py"
_MANIFEST, _BEGUN = "manifest.json", "manifest.json.part"
_MODELS: dict[str, type[models.Model]] = {"auditlog": AuditLog, "inferencerequest": InferenceRequest}
_SEAL = (
    "kind", "log", "tenant_id", "month", "seq", "run", "xid_from", "xid_to", "id_from", "id_to", "n", "root", "prev", "schema",
    "sealed_at", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: rows and seals of all logs, octets of all files, and the digest of the manifest that names them."""

    rows: int
    seals: int
    bytes: int
    sha256: str


def export(
    *,
    tenant: object,
    start: datetime,
    end: datetime,
    out: Path,
    logs: Sequence[str] = LOGS,
    rows_format: str = "jsonl",
    actor: object = None,
    progress: Callable[[int], None] | None = None,
    using: str | None = None,
) -> Exported:
    """Write what the logs hold of a tenant over start <= instant < end (aware, to the millisecond) into the folder `out`.

    tenant: row or id; PLATFORM is one too. out: not there yet, or empty. It is recorded durably before a byte is written, and
    again when all is. The manifest comes last: a folder without one is no export. Raises InvalidWindow, and ExportRefused where
    the folder is in use, or cannot be written.
    """
    tenant_id, alias = id_of(tenant), using or conf.DATABASE
    check_years(start, end)
    low, high = id_bounds(start, end)
    window = _Window(tenant_id, start, end, low, UUID(int=high.int - (1 << 80)))
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ExportRefused(message=f"{out} is in use: name a folder that is empty, or not there yet.")
    details = {"logs": list(logs), "from": _instant(start), "to": _instant(end), "format": rows_format}
    AuditLog.objects.record_durable("audit.exported", tenant=tenant_id, actor=actor, details=details)
    folder = _Folder(out)
    try:
        with folder:
            done = _Export(folder, window, rows_format, alias, progress).write(logs)
    except OSError as error:
        raise ExportRefused(message=f"{out} cannot be written: {error.strerror or error}.") from error
    AuditLog.objects.record_durable(
        "audit.export_completed", tenant=tenant_id, actor=actor,
        details={**details, "rows": done.rows, "bytes": done.bytes, "manifest_sha256": done.sha256},
    )  # fmt: skip
    return done


@dataclass(frozen=True, slots=True)
class _Window:
    """Rows of a tenant of ids low <= id < high."""

    tenant_id: UUID
    start: datetime
    end: datetime
    low: UUID
    high: UUID

    @property
    def months(self) -> tuple[UUID, UUID]:
        """The same for the whole months that it touches: rows under the same seals are of the same month."""
        first, last = month_of(self.start), month_of(self.end - timedelta(microseconds=1))
        low, high = (datetime(day.year, day.month, 1, tzinfo=UTC) for day in (first, next_month(last)))
        found = id_bounds(low, high)
        return found[0], UUID(int=found[1].int - (1 << 80))


# ---------------------------------------------------------------- files


class _File:
    """A new file, whose octets are counted and digested as they are written."""

    def __init__(self, path: Path) -> None:
        self._file, self.octets, self._digest = path.open("xb"), 0, sha256()

    def write(self, text: str) -> None:
        data = text.encode()
        self._file.write(data)
        self._digest.update(data)
        self.octets += len(data)

    def close(self) -> dict[str, Any]:
        """Down to the disk; returns what the manifest says of it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"sha256": self._digest.hexdigest(), "bytes": self.octets}


class _Folder:
    """The folder of an export. Two that begin at once: one of them is refused. One that fails leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, dict[str, dict[str, Any]]()
        self._open: dict[str, _File] = {}
        self._mine = False

    def __enter__(self) -> _Folder:
        self._made = not self.path.exists()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            (self.path / _BEGUN).open("xb").close()
        except FileExistsError:
            raise ExportRefused(message=f"{self.path} is in use: another export writes there.") from None
        self._mine = True
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is not None and self._mine:
            for name in (*self.files, *self._open, _BEGUN, PROGRAM):
                (self.path / name).unlink(missing_ok=True)
            if self._made:
                self.path.rmdir()

    def file(self, name: str) -> _File:
        self._open[name] = _File(self.path / name)
        return self._open[name]

    def close(self) -> None:
        """Close the files that are open."""
        self.files |= {name: file.close() for name, file in self._open.items()}
        self._open.clear()

    def finish(self, manifest: dict[str, Any]) -> str:
        """Write the manifest, whole or not at all, after everything else is on the disk; returns its digest."""
        data = (json.dumps({**manifest, "files": self.files}, indent=1, sort_keys=True) + "\n").encode()
        begun = self.path / _BEGUN
        with begun.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        begun.rename(self.path / _MANIFEST)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return sha256(data).hexdigest()


# ---------------------------------------------------------------- what is written


@dataclass(slots=True)
class _Export:
    folder: _Folder
    window: _Window
    rows_format: str
    alias: str
    progress: Callable[[int], None] | None
    rows: int = 0
    runs: set[UUID] = field(default_factory=set)
    """The first and last run of each log: checkpoints between them are written."""
    erased: set[str] = field(default_factory=set)
    """Actors whose personal columns are erased in a row."""

    def write(self, logs: Sequence[str]) -> Exported:
        told = [self._log(log) for log in logs]
        self._checkpoints()
        self._retention(logs)
        self._program()
        manifest = {
            "format": FORMAT, "tenant_id": str(self.window.tenant_id), "from": _instant(self.window.start),
            "to": _instant(self.window.end), "exported_at": _instant(now()), "rows_format": self.rows_format, "logs": told,
            "limits": LIMITS,
        }  # fmt: skip
        octets = sum(file["bytes"] for file in self.folder.files.values())
        digest = self.folder.finish(manifest)
        return Exported(self.rows, sum(log["seals"] for log in told), octets, digest)

    def ask(self, query: sql.Composable | str, *values: Any) -> list[tuple[Any, ...]]:
        """One statement, one short transaction."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute(query, values)
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def _log(self, log: str) -> dict[str, Any]:
        rows, leaves = self.folder.file(f"{log}.{self.rows_format}"), self.folder.file(f"{log}.leaves")
        seals = self.folder.file(f"{log}.seals.jsonl")
        [(upto,)] = self.ask("SELECT cp_verify_upto(%s)", log)
        writer, chain = _Writer(self, log, rows, leaves), _Chain(self, log, upto)
        sealed = -(2**63)
        for group in _groups(self._sealed(chain, seals), self.window):
            writer.write_group(group)
            sealed = group.xid_high
        writer.write_rest(sealed)
        self.folder.close()
        self.runs |= chain.ends
        self.rows += writer.rows
        return {"log": log, "rows": writer.rows, "seals": chain.count}

    def _sealed(self, chain: _Chain, file: _File) -> Iterator[AuditSeal]:
        """Write the chain; those of its seals that rows of the window may be under are given on."""
        low, high = self.window.months
        for seal, index, steps in chain:
            file.write(json.dumps({**_told(seal), "index": index, "path": steps}) + "\n")
            if seal.id_to >= low and seal.id_from < high:
                yield seal

    def _checkpoints(self) -> None:
        every = AuditSeal.objects.using(self.alias).filter(kind="checkpoint")
        hashes = self.folder.file("checkpoints.hashes")
        last = 0
        for seal in _in_order(every.only("seq", "hash"), BATCH):
            hashes.write(bytes(seal.hash).hex() + "\n")
            last = seal.seq
        file = self.folder.file("checkpoints.jsonl")
        seqs = [seal.seq for seal in every.filter(run__in=self.runs).only("seq")]
        if seqs:
            for seal in _in_order(every.filter(seq__gte=min(seqs), seq__lte=min(max(seqs), last)), 500):
                file.write(json.dumps(_told(seal)) + "\n")
        self.folder.close()

    def _retention(self, logs: Sequence[str]) -> None:
        """What explains rows and personal columns that are gone."""
        file = self.folder.file("retention.jsonl")
        records = RetentionRecord.objects.using(self.alias).filter(tenant_id=self.window.tenant_id, log__in=logs)
        for record in records.filter(kind="retired").order_by("id"):
            last = AuditSeal.objects.using(self.alias).filter(
                tenant_id=record.tenant_id, log=record.log, hash=record.last_hash
            )
            file.write(json.dumps(_record(record, last.values_list("seq", flat=True).first())) + "\n")
        for record in records.filter(kind="erased", subject__in=self.erased).order_by("id"):
            file.write(json.dumps(_record(record, None)) + "\n")
        self.folder.close()

    def _program(self) -> None:
        source = resources.files("auditing") / "standalone" / PROGRAM
        file = self.folder.file(PROGRAM)
        file.write(source.read_text(encoding="utf-8"))
        self.folder.close()


def _told(seal: AuditSeal) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _SEAL:
        value = getattr(seal, name)
        if isinstance(value, bytes | memoryview):
            found[name] = bytes(value).hex()
        elif isinstance(value, datetime):
            found[name] = _instant(value)
        else:
            found[name] = value if isinstance(value, int) else str(value)
    return found


def _record(record: RetentionRecord, seq: int | None) -> dict[str, Any]:
    return {
        "id": str(record.pk), "kind": record.kind, "log": record.log, "created_at": _instant(record.created_at),
        "month": None if record.month is None else str(record.month), "seq": seq, "rows": record.rows,
        "subject": record.subject, "reason": record.reason, "actor": record.actor,
    }  # fmt: skip


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _in_order(seals: models.QuerySet[AuditSeal], size: int) -> Iterator[AuditSeal]:
    """Seals of one chain by seq, a page at a time."""
    after = 0
    while page := list(seals.filter(seq__gt=after).order_by("seq")[:size]):
        yield from page
        after = page[-1].seq


class _Chain:
    """The seals of a log, from the first to the last that touches the window, each with its place under its checkpoint."""

    def __init__(self, export: _Export, log: str, upto: int) -> None:
        self._export, self.count = export, 0
        self.ends: set[UUID] = set()
        low, high = export.window.months
        every = AuditSeal.objects.using(export.alias).filter(
            kind="rows", log=log, tenant_id=export.window.tenant_id, xid_to__lte=upto
        )
        touching = every.filter(id_to__gte=low, id_from__lt=high).aggregate(
            first=models.Min("seq"), last=models.Max("seq")
        )
        self._seals = every.none()
        if touching["first"] is not None:
            self._seals = every.filter(seq__gte=touching["first"], seq__lte=touching["last"])

    def __iter__(self) -> Iterator[tuple[AuditSeal, int, list[str]]]:
        run, first, hashes = None, None, list[bytes]()
        for seal in _in_order(self._seals, 500):
            if seal.run != run:
                run, first = seal.run, first or seal.run
                hashes = [bytes(hash) for (hash,) in self._export.ask(_RUN, run)]
            index = hashes.index(bytes(seal.hash))
            self.count += 1
            self.ends = {first or seal.run, seal.run}
            yield seal, index, [step.hex() for step in path(index, hashes)]


_RUN = (
    "SELECT hash FROM cp_auditing_auditseal WHERE run = %s AND kind <> 'checkpoint' "
    'ORDER BY log COLLATE "C", tenant_id, seq'
)


def path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """The audit path (RFC 6962, section 2.1.1) of one of the hashes: what its root follows from, beside itself."""
    level, found = list(hashes), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            found.append(level[beside])
        pairs = [merkle.node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level, index = pairs + level[len(level) - len(level) % 2 :], index // 2
    return found


# ---------------------------------------------------------------- rows


@dataclass(slots=True)
class _Group:
    """Seals whose rows are read at once: of the transactions xid_low <= xid < xid_high and the ids id_low <= id < id_high.

    Groups follow each other without a gap, so that a row which is under no seal is met too.
    """

    xid_low: int
    xid_high: int
    id_low: UUID
    id_high: UUID
    seals: list[AuditSeal]

    def seq_of(self, xid: int, id: UUID) -> int | None:
        for seal in self._of(xid):
            if seal.id_from <= id <= seal.id_to:
                return seal.seq
        return None

    def _of(self, xid: int) -> list[AuditSeal]:
        at = bisect_right(self.seals, xid, key=lambda seal: seal.xid_from)
        found = []
        while at and xid < self.seals[at - 1].xid_to and self.seals[at - 1].xid_from <= xid:
            at -= 1
            found.append(self.seals[at])
        return found


def _groups(seals: Iterator[AuditSeal], window: _Window) -> Iterator[_Group]:
    """Whole windows of transactions with together about BATCH rows; of one that has more, parts by id."""
    low, high = window.months
    below, waiting = -(2**63), list[AuditSeal]()
    for one in _windows(seals):
        upto, size = one[0].xid_to, sum(seal.n for seal in one)
        if waiting and size + sum(seal.n for seal in waiting) > BATCH:
            yield _Group(below, waiting[-1].xid_to, low, high, waiting)
            below, waiting = waiting[-1].xid_to, []
        if size <= BATCH:
            waiting += one
            continue
        if below < one[0].xid_from:  # transactions that no seal of the tenant is of
            yield _Group(below, one[0].xid_from, low, high, [])
        edges = [low, *(seal.id_from for seal in one[BATCH // 1000 :: BATCH // 1000]), high]
        for place, (first, end) in enumerate(pairwise(edges)):
            part = one[place * (BATCH // 1000) : (place + 1) * (BATCH // 1000)]
            if first < end:
                yield _Group(one[0].xid_from, upto, first, end, part)
        below = upto
    if waiting:
        yield _Group(below, waiting[-1].xid_to, low, high, waiting)


def _windows(seals: Iterator[AuditSeal]) -> Iterator[list[AuditSeal]]:
    """Seals of the same run, by id."""
    found: list[AuditSeal] = []
    for seal in seals:
        if found and seal.xid_from != found[-1].xid_from:
            yield found
            found = []
        found.append(seal)
    if found:
        yield found


class _Writer:
    """The rows and leaves of one log."""

    def __init__(self, export: _Export, log: str, rows: _File, leaves: _File) -> None:
        self._export, self._rows, self._leaves = export, rows, leaves
        self.rows = 0
        self._strays = TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115 - closed by write_rest
        self._columns = _MODELS[log]._meta.concrete_fields
        self._table = sql.Identifier(f"cp_auditing_{log}")
        erased = sql.SQL("CASE WHEN r.pii_salt IS NULL THEN r.actor_id END" if log == "auditlog" else "NULL")
        shown = self._as_json() if export.rows_format == "jsonl" else self._as_cells()
        self._query = sql.SQL(
            "SELECT r.id, r.xid, cp_leaf(r), {erased}, CASE WHEN r.id >= %s AND r.id < %s THEN {shown} END FROM {table} r "
        ).format(erased=erased, shown=shown, table=self._table)
        if export.rows_format == "csv":
            self._rows.write(cells.line(["seal", *(column.attname for column in self._columns)]))

    def _values(self) -> Iterator[sql.Composable]:
        """Columns as they are written: exact, and as text where JSON has no type for them."""
        for column in self._columns:
            name = sql.Identifier("r", column.attname)
            kind = type(column)
            if kind is models.DateTimeField:
                yield sql.SQL("""to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""").format(name)
            elif kind is models.BinaryField:
                yield sql.SQL("encode({}, 'hex')").format(name)
            elif kind is models.GenericIPAddressField:
                yield sql.SQL("host({})").format(name)
            elif kind is models.DecimalField:
                yield sql.SQL("{}::text").format(name)
            elif kind is models.JSONField and self._export.rows_format == "jsonl":
                # JSON's own null is no NULL of SQL
                yield sql.SQL("CASE WHEN {0} = 'null' THEN '{{\"$null\": 1}}' ELSE {0} END").format(name)
            else:
                yield name

    def _as_json(self) -> sql.Composable:
        pairs = [
            sql.SQL("{} AS {}").format(value, sql.Identifier(column.attname))
            for value, column in zip(self._values(), self._columns, strict=True)
        ]
        return sql.SQL("(SELECT row_to_json(j)::text FROM (SELECT {}) j)").format(sql.SQL(", ").join(pairs))

    def _as_cells(self) -> sql.Composable:
        return sql.SQL("ARRAY[{}]").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(value) for value in self._values())
        )

    def write_group(self, group: _Group) -> None:
        query = self._query + sql.SQL(
            "WHERE r.tenant_id = %s AND r.xid >= %s AND r.xid < %s AND r.id >= %s AND r.id < %s"
        )
        window = self._export.window
        found = []
        for id, xid, leaf, erased, shown in self._export.ask(
            query, window.low, window.high, window.tenant_id, group.xid_low, group.xid_high, group.id_low, group.id_high
        ):
            seq = group.seq_of(xid, id)
            if seq is not None:
                found.append((seq, id, leaf, erased, shown))
            elif shown is not None:
                self._strays.write(self._line(None, shown))
                self.rows += 1
        for seq, id, leaf, erased, shown in sorted(found, key=lambda row: row[:2]):
            self._leaves.write(f"{seq} {id} {bytes(leaf).hex()}\n")
            if shown is not None:
                self._rows.write(self._line(seq, shown))
                self.rows += 1
                if erased is not None:
                    self._export.erased.add(erased)
        self._tell()

    def write_rest(self, upto: int) -> None:
        """Rows that are under no seal: those that were met on the way, and those of the transactions from `upto` on."""
        self._strays.seek(0)
        for part in iter(lambda: self._strays.read(1 << 20), ""):
            self._rows.write(part)
        self._strays.close()
        query = self._query + sql.SQL(
            "WHERE r.tenant_id = %s AND r.xid >= %s AND r.id >= %s AND r.id < %s ORDER BY r.id LIMIT %s"
        )
        window = self._export.window
        low = window.low
        while found := self._export.ask(query, low, window.high, window.tenant_id, upto, low, window.high, BATCH):
            for _, _, _, _, shown in found:
                self._rows.write(self._line(None, shown))
            self.rows += len(found)
            low = UUID(int=found[-1][0].int + 1)
            self._tell()

    def _tell(self) -> None:
        if self._export.progress:
            self._export.progress(self._export.rows + self.rows)

    def _line(self, seq: int | None, shown: Any) -> str:
        if self._export.rows_format == "jsonl":
            return f'{{"seal": {"null" if seq is None else seq}, {shown[1:]}\n'
        return cells.line([seq, *map(_cell, self._columns, shown)])


def _cell(column: models.Field[Any, Any], value: str | None) -> Any:
    """A cell that can be read back: numbers as such; of what may be NULL, an empty text is told from none by an apostrophe."""
    if value is None:
        return None
    if isinstance(column, models.IntegerField):
        return int(value)
    if isinstance(column, models.DecimalField):
        return Decimal(value)
    return f"'{value}" if value.startswith("'") or (not value and column.null) else value
