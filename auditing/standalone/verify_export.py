#!/usr/bin/env python3
"""Checks an export of the audit: python3 verify_export.py DIR [--anchors FILE] [--jobs N] [--json]

Needs Python 3.9 or newer and nothing else: no database, no network, no package. It computes the hash (leaf) of each row from
the row itself, the root of each seal from the leaves, the hash of each seal from what the seal says, and follows the chains
of seals and checkpoints. Exit code 0: nothing was found. 1: findings, each names the row or the seal. 2: could not be read.

What this proves: nobody changed, removed or added a sealed row since its seal was made, as long as the seals themselves are
the ones that were made. Without an anchor kept elsewhere (--anchors) the owner of the database could have rebuilt everything,
this export included. Rows that were never written cannot be missed.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import os
import re
import sys
from collections import deque
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import lru_cache, partial
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple  # noqa: UP035 - Python 3.9

FORMAT = 1
SHOWN = 1000
PART, MANY = 1 << 20, 10_000  # octets of a file that are read at a time; rows for which several processes are started
ZERO = "0" * 64

# The columns of a leaf in their order, by log and `schema`. s: text as it stands, t: an instant, b: yes or no, i: a whole
# number, j: JSON. pii_commit stands for ip, user_agent, actor_label and pii_salt, which may be erased.
LEAVES = {
    ("auditlog", 1): (
        "id:s created_at:t tenant_id:s app_id:s branch_id:s user_id:s api_key_id:s actor_type:s actor_id:s actor_role:s "
        "action:s resource_type:s resource_id:s resource_label:s outcome:s before:j after:j details:j reason:s "
        "request_id:s pii_commit:s provider:s model:s prompt_tokens:i completion_tokens:i cost:s latency_ms:i schema:i"
    ),
    ("inferencerequest", 1): (
        "id:s created_at:t booked_at:t request_id:s tenant_id:s app_id:s branch_id:s user_id:s api_key_id:s provider:s "
        "model:s requested_model:s status:s prompt_tokens:i completion_tokens:i cached_tokens:i cache_write_tokens:i "
        "reasoning_tokens:i other_units:j cost:s pricing_status:s price_id:s cost_breakdown:j latency_ms:i ttft_ms:i "
        "stream:b error_code:s error:s adjusts:s reason_code:s reason:s time_zone:s local_date:s source:s metadata:j schema:i"
    ),
}
# Columns that cannot be NULL: their empty cell in a CSV file is an empty text.
ALWAYS = {
    "auditlog": "actor_id actor_role resource_type resource_id resource_label reason provider model",
    "inferencerequest": "error_code error reason_code reason",
}
PERSONAL = ("ip", "user_agent", "actor_label")
SEAL = tuple("kind log tenant_id month seq run xid_from xid_to id_from id_to n root prev schema".split())  # noqa: SIM905

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - instants are written in UTC
_MICROSECOND = timedelta(microseconds=1)
# Numbers within JSON are kept as they were written: the mark cannot be in a text of PostgreSQL.
_mark = "\0".__add__
_decode = json.JSONDecoder(parse_int=_mark, parse_float=_mark).decode
_encode = json.JSONEncoder(ensure_ascii=False).encode
_MARKED = re.compile(r'"\\u0000([^"]+)"')


Row = Any  # a mapping of column to value, as JSON or CSV gave it
Convert = Callable[[Any], str]


class Unreadable(Exception):
    """The directory is no export that this program knows."""


class Findings:
    """What was found, in the order found; the first ones are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[dict[str, Any]] = []

    def add(self, kind: str, log: str, message: str, *, seq: int | None = None, row: str | None = None) -> None:
        self.count += 1
        if len(self.kept) < SHOWN:
            self.kept.append({"kind": kind, "log": log, "seq": seq, "id": row, "message": message})


class Lengths(dict[int, str]):
    """A length as a netstring begins with it."""

    def __missing__(self, length: int) -> str:
        return f"{length}:"


_length = Lengths((length, f"{length}:") for length in range(1000))


def netstrings(values: list[str | None]) -> str:
    """Texts, and None, as `<octets>:<utf-8>,` and `-,`."""
    text = "".join(["-," if value is None else _length[len(value)] + value + "," for value in values])
    if not text.isascii():
        text = "".join(["-," if value is None else f"{len(value.encode())}:{value}," for value in values])
    return text


def digest(prefix: bytes, values: list[str | None]) -> bytes:
    return sha256(prefix + netstrings(values).encode()).digest()


def microseconds(text: str) -> str:
    return str((datetime.fromisoformat(text[:-1]) - _EPOCH) // _MICROSECOND)


def json_text(value: Any) -> str:
    """JSON as PostgreSQL prints it."""
    if value == {"$null": "\x001"}:
        return "null"
    text = _encode(value)
    return _MARKED.sub(r"\1", text) if "\\u0000" in text else text


class Read(NamedTuple):
    """What is needed of a row. leaf: none where it is not sealed. wrong: its personal data are not those of pii_commit.

    gone: they are gone, of who did it.
    """

    seal: int | None
    id: str
    xid: int
    leaf: bytes
    wrong: bool
    gone: str | None


class Reader:
    """Reads rows of one log and schema, as JSON or CSV gave them."""

    def __init__(self, log: str, schema: str, jsonl: bool) -> None:
        try:
            columns = [pair.split(":") for pair in LEAVES[log, int(schema)].split()]
        except KeyError:
            raise Unreadable(
                f"Rows of {log} have the schema {schema}, which is newer than this program: use the one of the newer export."
            ) from None
        self.columns = itemgetter(*[name for name, _ in columns])
        self.personal = log == "auditlog"
        self.mark = 1 if jsonl else 0
        read = _READ if jsonl else _READ_CSV
        # those that are no text yet: where, how
        self.conversions = [(place, read[kind]) for place, (_, kind) in enumerate(columns) if kind in read]
        self.integers = [place for place, (_, kind) in enumerate(columns) if kind == "i"]

    def of(self, row: Row) -> Read:
        seal, xid = row["seal"], int(row["xid"][self.mark :])
        if seal is None:
            return Read(None, row["id"], xid, b"", False, None)
        wrong, gone = self.faults(row) if self.personal else (False, None)
        return Read(int(seal[self.mark :]), row["id"], xid, self.leaf(row), wrong, gone)

    def leaf(self, row: Row) -> bytes:
        values = list(self.columns(row))
        for place in self.integers:
            if values[place] is not None:
                values[place] = values[place][self.mark :]
        for place, convert in self.conversions:
            if values[place] is not None:
                values[place] = convert(values[place])
        return digest(b"\x00", values)

    def faults(self, row: Row) -> tuple[bool, str | None]:
        salt = row["pii_salt"]
        if salt is None:
            return False, None if row["pii_commit"] is None else row["actor_id"]
        return digest(bytes.fromhex(salt), [row[name] for name in PERSONAL]).hex() != row["pii_commit"], None


_reader = lru_cache(None)(Reader)


def read_cells(log: str, row: Row) -> Read:
    return _reader(log, row["schema"], False).of(row)


def read_part(path: Path, log: str, start: int, end: int) -> list[tuple[Any, ...]]:
    """The rows whose lines are in a part of a file, by columns of Read: these go from a process to another quickly."""
    with path.open("rb") as file:
        file.seek(start)
        text = file.read(end - start).decode("utf-8")
    rows = _decode("[" + text.rstrip("\n").replace("\n", ",") + "]")  # at once: a call for each line takes longer
    return list(zip(*[_reader(log, row["schema"][1:], True).of(row) for row in rows]))  # noqa: B905


_READ: dict[str, Convert] = {
    "t": microseconds,
    "b": lambda value: "t" if value else "f",
    "j": json_text,
}
_READ_CSV: dict[str, Convert] = {"t": microseconds, "b": lambda value: "t" if value == "true" else "f"}


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root(leaves: list[bytes]) -> bytes:
    """The root of RFC 6962 over leaves in their order; of none, SHA-256 of nothing."""
    if not leaves:
        return sha256().digest()
    while len(leaves) > 1:
        pairs = [node(leaves[at], leaves[at + 1]) for at in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(leaves) - len(leaves) % 2 :]
    return leaves[0]


def root_by_path(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root over `size` leaves that follows from one of them and its audit path (RFC 6962, section 2.1.1); None: no path."""
    last = size - 1
    found = leaf
    for step in path:
        if last <= 0:
            return None
        if index % 2 or index == last:
            while index % 2 == 0 and index:  # an odd one out went up as it was
                index, last = index // 2, last // 2
            found = node(step, found)
        else:
            found = node(found, step)
        index, last = index // 2, last // 2
    return found if last == 0 else None


def roots(hashes: list[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """The roots over the first hashes, as many as each of `sizes` says."""
    wanted, found = set(sizes), {}
    peaks: list[tuple[int, bytes]] = []  # roots of whole trees, the largest first
    for size, value in enumerate(hashes, 1):
        peaks.append((1, value))
        while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
            (_, right), (width, left) = peaks.pop(), peaks.pop()
            peaks.append((2 * width, node(left, right)))
        if size in wanted:
            whole = peaks[-1][1]
            for _, left in peaks[-2::-1]:
                whole = node(left, whole)
            found[size] = whole
    return found


class Export:
    """A directory that `audit_export` wrote."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Unreadable(
                f"{self.folder} has no manifest that can be read ({error}): the export is not whole."
            ) from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise Unreadable(f"{self.folder} is no export of format {FORMAT}.")
        self.manifest = manifest
        self.low, self.high = (milliseconds(manifest[key]) for key in ("from", "to"))

    def lines(self, name: str) -> Iterator[Any]:
        with (self.folder / name).open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)

    def rows(self, log: str, jobs: int) -> Iterator[Read]:
        """The rows in their order, read by so many processes."""
        if self.manifest["rows_format"] != "jsonl":
            yield from map(partial(read_cells, log), self.cells(log))
            return
        path = self.folder / f"{log}.jsonl"
        if jobs == 1:
            for part in parts(path):
                yield from map(Read, *read_part(path, log, *part))
            return
        with ProcessPoolExecutor(jobs) as pool:
            ahead: deque[Future[list[tuple[Any, ...]]]] = deque()
            for part in parts(path):
                ahead.append(pool.submit(read_part, path, log, *part))
                if len(ahead) > 2 * jobs:
                    yield from map(Read, *ahead.popleft().result())
            for columns in ahead:
                yield from map(Read, *columns.result())

    def cells(self, log: str) -> Iterator[Row]:
        always = frozenset(ALWAYS[log].split())
        with (self.folder / f"{log}.csv").open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            head = next(reader, [])
            for cells in reader:
                row: dict[str, str | None] = dict(zip(head, cells))  # noqa: B905 - strict is of Python 3.10
                for name, cell in zip(head, cells):  # noqa: B905
                    if cell[:1] == "'":  # stands before what a spreadsheet would take for a formula, and before nothing
                        row[name] = cell[1:]
                    elif not cell and name not in always:
                        row[name] = None
                yield row

    def leaves(self, log: str) -> Iterator[tuple[int, str, bytes]]:
        """(seq, id, leaf) of each sealed row, in the order of seals."""
        with (self.folder / f"{log}.leaves").open(encoding="ascii", newline="\n") as file:
            for line in file:
                seq, id, leaf = line.split()
                yield int(seq), id, bytes.fromhex(leaf)

    def holds(self, id: str) -> bool:
        """Whether a row of this id is within the window of the export, so that it must be there."""
        return self.low <= instant(id) < self.high

    def touches(self, seal: Row) -> bool:
        """Whether rows of the window may be under the seal, so that all its leaves must be there."""
        return instant(seal["id_to"]) >= self.low and instant(seal["id_from"]) < self.high


def parts(path: Path) -> Iterator[tuple[int, int]]:
    """Where parts of whole lines begin and end in a file."""
    with path.open("rb") as file:
        start = 0
        while file.seek(start + PART - 1) and file.readline():
            yield start, file.tell()
            start = file.tell()
        end = file.seek(0, os.SEEK_END)
    if start < end:
        yield start, end


def instant(id: str) -> int:
    """Milliseconds since 1970 in a UUIDv7."""
    return int(id[:8] + id[9:13], 16)


def milliseconds(text: str) -> int:
    return int(microseconds(text)) // 1000


# ---------------------------------------------------------------- files


def check_files(export: Export, findings: Findings) -> None:
    """Each file is the one that was written, and none is missing."""
    for name, written in sorted(export.manifest["files"].items()):
        try:
            found, octets = sha256(), 0
            with (export.folder / name).open("rb") as file:
                for part in iter(lambda: file.read(1 << 20), b""):
                    found.update(part)
                    octets += len(part)
        except OSError:
            raise Unreadable(f"{name} is missing: the export is not whole.") from None
        if found.hexdigest() != written["sha256"] or octets != written["bytes"]:
            findings.add("file_changed", "", f"{name} is not the file that was exported.")


# ---------------------------------------------------------------- seals


def seal_hash(seal: Row) -> bytes:
    """The hash of a seal over all it says."""
    values = [None if seal[name] is None else str(seal[name]) for name in SEAL]
    return digest(b"\x02", [*values, microseconds(seal["sealed_at"])])


def check_chain(seals: Iterable[Row], findings: Findings) -> Iterator[Row]:
    """Seals in their order, checked; each is given on."""
    before = None
    for seal in seals:
        log, seq = seal["log"], seal["seq"]
        if seal_hash(seal).hex() != seal["hash"]:
            findings.add(
                "seal_altered", log, f"Seal {seq} of {log} was changed: its hash is of other figures.", seq=seq
            )
        if before is not None and seq != before["seq"] + 1:
            findings.add(
                "seal_missing", log, f"Of {log}, the seals {before['seq'] + 1} to {seq - 1} are missing.", seq=seq
            )
        elif (before is not None or seq == 1) and seal["prev"] != (before["hash"] if before is not None else ZERO):
            findings.add("chain_broken", log, f"Seal {seq} of {log} does not follow the one before it.", seq=seq)
        before = seal
        yield seal


class Checkpoint(NamedTuple):
    root: bytes
    n: int


def read_checkpoints(export: Export, findings: Findings) -> tuple[dict[str, Checkpoint], list[str]]:
    """The checkpoints by their run, each checked against the hashes of all; and these hashes, from the first."""
    name = "checkpoints.hashes"
    hashes = (export.folder / name).read_text(encoding="ascii").split()
    by_run = {}
    for checkpoint in check_chain(export.lines("checkpoints.jsonl"), findings):
        seq = checkpoint["seq"]
        if not 0 < seq <= len(hashes) or hashes[seq - 1] != checkpoint["hash"]:
            findings.add("checkpoint_mismatch", "checkpoint", f"Checkpoint {seq} is not the one in {name}.", seq=seq)
        by_run[checkpoint["run"]] = Checkpoint(bytes.fromhex(checkpoint["root"]), checkpoint["n"])
    return by_run, hashes


def check_path(seal: Row, checkpoints: dict[str, Checkpoint], findings: Findings) -> None:
    """The seal is under the checkpoint of its run."""
    checkpoint, found = checkpoints.get(seal["run"]), None
    if checkpoint is not None and seal["path"] is not None:
        path = [bytes.fromhex(step) for step in seal["path"]]
        found = root_by_path(bytes.fromhex(seal["hash"]), seal["index"], checkpoint.n, path)
    if checkpoint is None or found != checkpoint.root:
        message = f"Seal {seal['seq']} of {seal['log']} is not under the checkpoint of its run."
        findings.add("checkpoint_mismatch", seal["log"], message, seq=seal["seq"])


# ---------------------------------------------------------------- rows


class Rows:
    """The rows of one log, read beside the leaves and seals: all three are in the same order."""

    def __init__(self, export: Export, log: str, findings: Findings, jobs: int) -> None:
        self.export, self.log, self.findings = export, log, findings
        self.records = list(export.lines("retention.jsonl"))
        self.retired = {r["month"]: r["seq"] for r in self.records if r["kind"] == "retired" and r["log"] == log}
        self.erased = {r["subject"] for r in self.records if r["kind"] == "erased" and r["log"] in ("", log)}
        self.source = export.rows(log, jobs)
        self.count = self.sealed = self.sealed_below = 0
        self.row = self._next()

    def _next(self) -> Read | None:
        row = next(self.source, None)
        if row is not None:
            self.count += 1
        return row

    def check(self, seals: Iterable[Row]) -> None:
        """Run through seals, leaves and rows at once."""
        leaves = self.export.leaves(self.log)
        waiting = next(leaves, None)
        for seal in seals:
            seq: int = seal["seq"]
            under: list[bytes] = []
            self.sealed_below = max(self.sealed_below, seal["xid_to"])
            while waiting is not None and waiting[0] < seq:
                self.findings.add(
                    "stray_row", self.log, f"A leaf is of seal {waiting[0]}, which is not there.", row=waiting[1]
                )
                waiting = next(leaves, None)
            while waiting is not None and waiting[0] == seq:
                under.append(waiting[2])
                self.check_row(*waiting)
                waiting = next(leaves, None)
            self.check_root(seal, under)
        while waiting is not None:
            self.findings.add(
                "stray_row", self.log, f"A leaf is of seal {waiting[0]}, which is not there.", row=waiting[1]
            )
            waiting = next(leaves, None)
        self.check_rest()

    def check_row(self, seq: int, id: str, leaf: bytes) -> None:
        if not self.export.holds(id):
            return  # under the seal, but outside the window that was asked for
        while self.row is not None and (self.row.seal or seq + 1, self.row.id) < (seq, id):
            self.stray(self.row)
        row = self.row
        if row is None or row.seal != seq or row.id != id:
            self.findings.add(
                "row_missing", self.log, f"Row {id} is under seal {seq}, but not in the export.", seq=seq, row=id
            )
            return
        self.sealed += 1
        if row.leaf != leaf:
            self.findings.add("row_altered", self.log, f"Row {id} is not the one under seal {seq}.", seq=seq, row=id)
        if row.wrong:
            message = f"ip, user_agent or actor_label of row {id} was changed."
            self.findings.add("row_altered", self.log, message, seq=seq, row=id)
        if row.gone is not None and row.gone not in self.erased:
            message = f"Personal data of row {id} is gone, and no record says that it was erased."
            self.findings.add("erased_without_record", self.log, message, seq=seq, row=id)
        self.row = self._next()

    def stray(self, row: Read) -> None:
        message = f"Row {row.id} says seal {row.seal}, but is not under it."
        self.findings.add("stray_row", self.log, message, seq=row.seal, row=row.id)
        self.row = self._next()

    def check_root(self, seal: Row, leaves: list[bytes]) -> None:
        seq, month = seal["seq"], seal["month"]
        if not self.export.touches(seal):
            return  # only a link of the chain: its rows are outside the window
        if not leaves and seal["n"]:
            if seq > self.retired.get(month, 0):
                message = (
                    f"The rows of seal {seq} of {month[:7]} are not there, and no record says that they were retired."
                )
                self.findings.add("retired_without_record", self.log, message, seq=seq)
        elif len(leaves) != seal["n"] or root(leaves).hex() != seal["root"]:
            message = (
                f"The {len(leaves)} rows of seal {seq} are not the {seal['n']} that were sealed: "
                f"{seal['id_from']} to {seal['id_to']}."
            )
            self.findings.add("root_mismatch", self.log, message, seq=seq)

    def check_rest(self) -> None:
        """Rows behind the last seal: those that are not sealed yet, and only those."""
        while self.row is not None:
            if self.row.seal is not None:
                self.stray(self.row)
                continue
            if self.row.xid < self.sealed_below:
                message = f"Row {self.row.id} is under no seal, although rows of its time are sealed."
                self.findings.add("stray_row", self.log, message, row=self.row.id)
            self.row = self._next()


def check_log(
    export: Export, told: Row, checkpoints: dict[str, Checkpoint], findings: Findings, jobs: int
) -> dict[str, Any]:
    log = told["log"]
    rows = Rows(export, log, findings, jobs if told["rows"] > MANY else 1)
    seals = 0

    def checked() -> Iterator[Row]:
        nonlocal seals
        for seal in check_chain(export.lines(f"{log}.seals.jsonl"), findings):
            seals += 1
            check_path(seal, checkpoints, findings)
            yield seal

    rows.check(checked())
    if (rows.count, seals) != (told["rows"], told["seals"]):
        message = f"{log} has {rows.count} rows and {seals} seals; {told['rows']} and {told['seals']} were exported."
        findings.add("count_mismatch", log, message)
    return {"log": log, "rows": rows.count, "sealed": rows.sealed, "seals": seals}


# ---------------------------------------------------------------- anchors


def read_anchors(path: str | Path) -> list[tuple[int, str]]:
    """(size, root in hex) of each signed note (C2SP) of a file: a line of origin, one of the size, one of the root."""
    found = []
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    for at in range(len(lines) - 3):
        if re.fullmatch(r"[0-9]+", lines[at + 1]) and re.fullmatch(r"[A-Za-z0-9+/]{43}=", lines[at + 2]) and lines[at]:
            found.append((int(lines[at + 1]), base64.b64decode(lines[at + 2]).hex()))
    return found


def check_anchors(path: str | Path, hashes: list[str], findings: Findings) -> int:
    """Returns how many were compared: those of a later day than the export cannot be."""
    try:
        anchors = read_anchors(path)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}.") from None
    if not anchors:
        raise Unreadable(f"{path} holds no anchor.")
    anchors = [(size, expected) for size, expected in anchors if size <= len(hashes)]
    ours = roots([bytes.fromhex(value) for value in hashes], {size for size, _ in anchors}) | {0: root([])}
    for size, expected in anchors:
        if ours[size].hex() != expected:
            message = f"The anchor over {size} checkpoints is of other checkpoints than those of the export."
            findings.add("anchor_mismatch", "checkpoint", message, seq=size)
    return len(anchors)


# ---------------------------------------------------------------- the whole


def verify(folder: str | Path, anchors: str | Path | None = None, jobs: int = 1) -> dict[str, Any]:
    """Returns what was checked, by so many processes, and the findings. Raises Unreadable."""
    findings = Findings()
    export = Export(folder)
    try:
        check_files(export, findings)
        checkpoints, hashes = read_checkpoints(export, findings)
        logs = [check_log(export, told, checkpoints, findings, jobs) for told in export.manifest["logs"]]
        compared = check_anchors(anchors, hashes, findings) if anchors else 0
    except (
        OSError, KeyError, TypeError, ValueError, IndexError, StopIteration, csv.Error, RecursionError, BrokenExecutor,
    ) as error:  # fmt: skip
        if not findings.count:
            raise Unreadable(f"The export cannot be read: {type(error).__name__}: {error}.") from None
        findings.add("unreadable", "", f"What follows cannot be read: {type(error).__name__}: {error}.")
        logs, compared, checkpoints, hashes = [], 0, {}, []
    return {
        "tenant_id": export.manifest["tenant_id"], "from": export.manifest["from"], "to": export.manifest["to"],
        "logs": logs, "checkpoints": len(checkpoints), "anchors": compared,
        "last_checkpoint": {"seq": len(hashes), "hash": hashes[-1]} if hashes else None,
        "findings": findings.count, "first": findings.kept,
    }  # fmt: skip


def tell(report: dict[str, Any], anchored: bool) -> None:
    print("tenant {tenant_id}, {from} to {to}".format(**report))
    for finding in report["first"]:
        print(f"{finding['kind']}: {finding['message']}")
    if report["findings"] > len(report["first"]):
        print(f"and {report['findings'] - len(report['first'])} more")
    for log in report["logs"]:
        waiting = log["rows"] - log["sealed"]
        print(f"{log['log']}: {log['rows']} rows, {waiting} of them not sealed yet, {log['seals']} seals")
    if report["last_checkpoint"]:
        print("last checkpoint: {seq} {hash}".format(**report["last_checkpoint"]))
    if anchored:
        print(f"{report['anchors']} anchors compared.")
    else:
        print("Without an anchor kept elsewhere, the owner of the database could have rebuilt everything.")
    print(
        f"{report['findings']} findings."
        if report["findings"]
        else "Nothing was found: what is sealed is as it was sealed."
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Checks an export of the audit.")
    parser.add_argument(
        "folder", nargs="?", default=Path(__file__).resolve().parent, help="the export (where this program is)"
    )
    parser.add_argument("--anchors", metavar="FILE", help="signed notes that were kept elsewhere")
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="processes that read rows (one for each CPU)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")
    given = parser.parse_args(arguments)
    csv.field_size_limit(2**30)  # set here, for an importer has limits of its own
    try:
        report = verify(given.folder, given.anchors, max(given.jobs, 1))
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        tell(report, given.anchors is not None)
    return 1 if report["findings"] else 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
