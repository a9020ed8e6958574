"""What waits to be written, in memory: bounded, in order, and counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

ROWS, BYTES = 50_000, 64 * 1024 * 1024
GATHER = 0.002
"""Seconds at most for which rows that somebody waits for are kept back for others of their kind: one commit is for all."""
_OVERHEAD = 200
"""Bytes that a waiting row takes beside its own: the tuple, the object of its bytes, the numbers in it."""


class Ack:
    """What becomes of one row that somebody waits for. told: called by the thread that writes, when it is known."""

    __slots__ = ("_done", "_told", "refusal")

    def __init__(self, told: Callable[[], Any] | None = None) -> None:
        self._done = threading.Lock()  # the cheapest thing to wait for
        self._done.acquire()
        self._told = told
        self.refusal: str | None = None

    def settle(self, refusal: str | None) -> None:
        """refusal: why the row is not in the log; None: it is."""
        self.refusal = refusal
        if self._done.locked():
            self._done.release()
        if self._told is not None:
            self._told()

    def wait(self, timeout: float) -> bool:
        return self._done.acquire(timeout=timeout)


class Row(NamedTuple):
    """kind: `e`, an event as `events.frozen` has it, or `r`, a request as JSON. at: when it came, on the monotonic clock."""

    kind: str
    data: bytes
    ack: Ack | None
    at: float


@dataclass(slots=True)
class Counts:
    """accepted = committed + duplicates + dead + queued + spooled, at any moment.

    accepted: rows this process answers for, those of ended processes that it took over too. duplicates: were in the log
    already. dead: refused, and kept as dead letters. replayed: of all that left the spool. lost: could be kept nowhere when the
    process ended, which the log of the process says too; they count as dead.
    """

    accepted: int = 0
    committed: int = 0
    duplicates: int = 0
    dead: int = 0
    queued: int = 0
    spooled: int = 0
    replayed: int = 0
    lost: int = 0


class Queue:
    """Rows that wait, at most so many and of so many bytes. Many put, one takes."""

    def __init__(self, rows: int = ROWS, size: int = BYTES) -> None:
        self._most, self._most_bytes = rows, size
        self._lock = threading.Lock()
        self._arrived, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        self._rows: deque[Row] = deque()
        self._bytes = self._durable = self._blocked = 0
        self._wanted: float = float("inf")  # so many rows wake who takes
        self._hurry = False  # one that somebody waits for does too
        self._together = 0  # so many were waited for when the last ones were taken
        self._closed = False
        self._counts = Counts()

    def put(self, kind: str, data: bytes, ack: Ack | None, patience: float) -> bool:
        """Whether there was room, or came within so many seconds. False too once it is closed."""
        row = tuple.__new__(
            Row, (kind, data, ack, time.monotonic())
        )  # NamedTuple's own constructor takes twice as long
        size = len(data) + _OVERHEAD
        with self._lock:
            if (len(self._rows) >= self._most or self._bytes + size > self._most_bytes or self._closed) and not (
                patience and self._wait_for_room(size, patience)
            ):
                return False
            self._rows.append(row)
            self._bytes += size
            self._counts.accepted += 1
            if ack is not None:
                self._durable += 1
            if len(self._rows) >= self._wanted or (ack is not None and self._hurry):
                self._arrived.notify()
        return True

    def take(self, most: int, wait: float, linger: float) -> list[Row]:
        """Up to `most` of the oldest rows, which stay until they are dropped; none if none comes within `wait` seconds. Waits up
        to `linger` for more, unless somebody waits for one of these; then for as many as last time, but GATHER."""
        with self._lock:
            if not self._rows and wait:
                self._await(1, 0.05 if self._closed else wait)
            if self._rows and linger and not self._durable and len(self._rows) < most and not self._closed:
                self._await(most, linger)
            if linger and 0 < self._durable < self._together and not self._closed:
                self._await(len(self._rows) - self._durable + self._together, GATHER, hurry=False)
            self._together = min(self._durable, most)
            return list(islice(self._rows, most))

    def drop(self, rows: int, committed: int = 0, duplicates: int = 0, dead: int = 0, spooled: int = 0) -> None:
        """The oldest rows have gone so many each way, together `rows`."""
        with self._lock:
            for _ in range(min(rows, len(self._rows))):
                row = self._rows.popleft()
                self._bytes -= len(row.data) + _OVERHEAD
                self._durable -= row.ack is not None
            self._count(committed, duplicates, dead, spooled)
            if self._blocked:
                self._room.notify_all()

    def count(
        self,
        *,
        accepted: int = 0,
        committed: int = 0,
        duplicates: int = 0,
        dead: int = 0,
        spooled: int = 0,
        replayed: int = 0,
        lost: int = 0,
    ) -> None:
        """Note what became of rows that were not in the queue."""
        with self._lock:
            self._counts.accepted += accepted
            self._counts.replayed += replayed
            self._counts.lost += lost
            self._count(committed, duplicates, dead, spooled)

    def take_all(self) -> list[Row]:
        """All rows, which are the caller's now. They count as queued until `count` says otherwise."""
        with self._lock:
            rows, self._rows = list(self._rows), deque()
            self._bytes = self._durable = 0
            return rows

    def wake(self) -> None:
        with self._lock:
            self._arrived.notify_all()

    def close(self, closed: bool = True) -> None:
        """Take no more rows, and let nobody wait for more."""
        with self._lock:
            self._closed = closed
            self._arrived.notify_all()
            self._room.notify_all()

    @property
    def durable(self) -> bool:
        """Whether somebody waits for a row of these."""
        return self._durable > 0

    def __len__(self) -> int:
        return len(self._rows)

    def look(self) -> tuple[dict[str, int], int, float | None]:
        """The counts, the bytes that wait, and when the oldest row came."""
        with self._lock:
            counts = asdict(self._counts) | {"queued": len(self._rows)}
            return counts, self._bytes, self._rows[0].at if self._rows else None

    def _count(self, committed: int, duplicates: int, dead: int, spooled: int) -> None:
        self._counts.committed += committed
        self._counts.duplicates += duplicates
        self._counts.dead += dead
        self._counts.spooled += spooled

    def _await(self, rows: int, seconds: float, hurry: bool = True) -> None:
        self._wanted, self._hurry = rows, hurry
        self._arrived.wait(seconds)
        self._wanted, self._hurry = float("inf"), False

    def _wait_for_room(self, size: int, patience: float) -> bool:
        self._blocked += 1
        try:
            return (
                self._room.wait_for(
                    lambda: (
                        not self._closed and len(self._rows) < self._most and self._bytes + size <= self._most_bytes
                    ),
                    patience,
                )
                and not self._closed
            )
        finally:
            self._blocked -= 1
