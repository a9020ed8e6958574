"""What waits to be written, on disk: files of frames in a folder of this machine, one writer each.

A frame is the payload's length and CRC-32, four bytes each, big-endian, and the payload, which is ASCII: it has no zero byte.
A file belongs to who holds its lock: the process that writes it, or, when that has ended, whoever takes it over.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from controlplane.core.ids import instant_of, uuid7

logger = logging.getLogger(__name__)

CAP, SEGMENT = 1 << 30, 8 << 20
"""Bytes that the files of one database may have together, and after which a file is followed by the next one."""

_HEADER = struct.Struct(">II")
_MOST = 4 << 20
"""Bytes of a payload: no row is longer, so what claims to be is damaged."""


class SpoolFull(Exception):
    """The spool takes no more: there is none, it is full, or its disk is. The text says which."""


@dataclass(slots=True)
class Segment:
    """A file of frames that is ours. payloads: not yet delivered."""

    path: Path
    file: int
    size: int = 0
    rows: int = 0
    """Frames that were appended here; of a file that was taken over, those that could be read."""
    payloads: list[bytes] = field(default_factory=list)
    damaged: int = 0
    loaded: bool = False

    def load(self) -> None:
        """Read the frames. A torn last one is ignored: nobody was told that it is kept."""
        if self.loaded:
            return
        data = os.pread(self.file, os.fstat(self.file).st_size, 0)
        self.payloads, self.damaged = read(data)
        self.rows, self.loaded = self.rows or len(self.payloads), True


def frame(payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def read(data: bytes) -> tuple[list[bytes], int]:
    """The payloads of a file, and how many stretches of it are damaged. What stands behind the last whole frame and ends with
    the file before it is complete was torn, and no damage; zeros neither, which a file system may leave there."""
    payloads: list[bytes] = []
    at = damaged = 0
    while at < len(data):
        found = _frame_at(data, at)
        if found is not None:
            payloads.append(found)
            at += _HEADER.size + len(found)
            continue
        following = next((place for place in _places(data, at + 1) if _frame_at(data, place) is not None), None)
        damaged += following is not None or not _torn(data, at)
        if following is None:
            break
        at = following
    return payloads, damaged


def _frame_at(data: bytes, at: int) -> bytes | None:
    if at + _HEADER.size > len(data):
        return None
    length, crc = _HEADER.unpack_from(data, at)
    if not 0 < length <= _MOST or at + _HEADER.size + length > len(data):
        return None
    payload = data[at + _HEADER.size : at + _HEADER.size + length]
    return payload if zlib.crc32(payload) == crc else None


def _places(data: bytes, at: int) -> Iterator[int]:
    """Where a frame may begin: its length is below 2^24, so with a zero byte, of which payloads have none."""
    while (at := data.find(b"\0", at)) >= 0:
        yield at
        at += 1


def _torn(data: bytes, at: int) -> bool:
    if at + _HEADER.size > len(data) or not data[at:].strip(b"\0"):
        return True
    length: int = _HEADER.unpack_from(data, at)[0]
    return length <= _MOST and at + _HEADER.size + length > len(data)


class Spool:
    """The files of one database. folder: None, there is no spool. name: of the database."""

    def __init__(self, folder: Path | None, name: str, cap: int = CAP, segment: int = SEGMENT) -> None:
        self.folder, self._prefix = folder, quote(name, safe="").replace("-", "%2D") + "-"
        self._cap, self._segment = cap, segment
        self._lock = threading.Lock()
        self._active: Segment | None = None
        self._others = 0
        self._closed: list[Segment] = []

    def append(self, payloads: Sequence[bytes]) -> None:
        """Keep rows: they are on disk when this returns. Raises SpoolFull, and then keeps none of them."""
        data = b"".join(map(frame, payloads))
        with self._lock:
            try:
                active = self._open(len(data))
                self._write(active, data)
            except OSError as error:
                raise SpoolFull(f"The spool cannot be written ({error.strerror or error}).") from error
            active.size += len(data)
            active.rows += len(payloads)
            if active.size >= self._segment:
                self._close()

    def next(self) -> Segment | None:
        """The oldest file to deliver, read; None: there is none."""
        with self._lock:
            if not self._closed:
                self._close()
            found = self._closed[0] if self._closed else None
        if found is not None:
            found.load()
        return found

    def done(self, segment: Segment) -> None:
        """All rows of the file are delivered: it goes, or is kept aside if a part of it could not be read."""
        with self._lock:
            self._closed.remove(segment)
        if segment.damaged:
            aside = segment.path.with_suffix(".damaged")
            segment.path.rename(aside)
            logger.error(
                "%d stretches of a spool file are damaged: the rest was delivered, the file is kept as %s",
                segment.damaged, aside,
            )  # fmt: skip
        else:
            segment.path.unlink(missing_ok=True)
        os.close(segment.file)

    def adopt(self) -> int:
        """Take over the files of ended processes; how many rows they hold."""
        rows = 0
        for path in self._files(".spool"):
            if any(path == mine.path for mine in self._mine()):
                continue
            segment = _take_over(path)
            if segment is not None:
                segment.load()
                rows += segment.rows
                with self._lock:
                    self._closed.append(segment)
        return rows

    def release(self) -> None:
        """Let go of the files, for the next process to take over; in the child of a fork, of what was inherited."""
        for segment in self._mine():
            os.close(segment.file)
        self._active, self._closed = None, []

    @property
    def waiting(self) -> bool:
        return bool(self._closed) or self._active is not None

    def look(self) -> tuple[int, float | None, int]:
        """Bytes in our files, the instant (since 1970) of the oldest of them, and files kept aside as damaged."""
        mine = self._mine()
        begun = [instant_of(UUID(one.path.stem.removeprefix(self._prefix))).timestamp() for one in mine]
        return sum(one.size for one in mine), min(begun, default=None), len(self._files(".damaged"))

    def _mine(self) -> list[Segment]:
        active = self._active
        return [*self._closed, *([active] if active else [])]

    def _files(self, suffix: str) -> list[Path]:
        """Those of this database, oldest first: their names begin with the clock."""
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.suffix == suffix
            and path.name.startswith(self._prefix)
            and "-" not in path.stem[len(self._prefix) :]
        )

    def _open(self, more: int) -> Segment:
        if self._active is None:
            self._others = sum(path.stat().st_size for path in self._files(".spool"))
        size = self._active.size if self._active else 0
        if self._others + size + more > self._cap:
            raise SpoolFull(f"The spool is full: its files may have {self._cap} bytes.")
        if self._active is None:
            self._active = self._begin()
        return self._active

    def _begin(self) -> Segment:
        """A new file. It gets its name once it is locked: nobody may take it for one of an ended process."""
        folder = _private(self.folder)
        path = folder / f"{self._prefix}{uuid7().hex}.spool"
        new = path.with_suffix(".new")
        file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        new.rename(path)
        parent = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        return Segment(path, file)

    def _write(self, active: Segment, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(active.file, data[written:], active.size + written)
            os.fsync(active.file)
        except OSError:
            os.ftruncate(active.file, active.size)
            raise

    def _close(self) -> None:
        if self._active is not None:
            self._closed.append(self._active)
            self._active = None


def _private(folder: Path | None) -> Path:
    """The folder, made if it is missing, for nobody but this user."""
    if folder is None:
        raise SpoolFull("There is no spool: STATE_DIR is not set.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise SpoolFull(f"The spool {folder} belongs to another user.")
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _take_over(path: Path) -> Segment | None:
    """The file, if nobody holds it."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:  # gone meanwhile, or another user's
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink == 0 or not path.exists():  # delivered meanwhile
            raise BlockingIOError
    except OSError:
        os.close(file)
        return None
    return Segment(path, file, size=os.fstat(file).st_size)
