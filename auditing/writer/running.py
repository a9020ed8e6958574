"""The writer of a process: one thread and one connection, which take what others put into the queue to the logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from django.db import Error as DatabaseError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from auditing import events
from auditing.errors import AckTimeout, AuditUnavailable, InvalidRow
from auditing.writer import leaving, writing
from auditing.writer.connecting import connect, use_own_connection
from auditing.writer.queue import BYTES, ROWS, Ack, Counts, Queue, Row
from auditing.writer.spool import CAP, Segment, Spool, SpoolFull
from controlplane.core.conf import conf
from controlplane.core.ids import uuid_of

logger = logging.getLogger(__name__)

FLUSH = 1_000
"""Rows of one flush."""

LINGER = 0.005
PATIENCE = 0.25
"""Seconds that a call waits for room in the queue, and that rows wait for a database that is away, before they are spooled."""

DRAIN = 10.0
SILENT = 30.0
"""Seconds after which a server that has not answered is given up: one that was frozen may never answer, and another may have
taken its place. What it was asked is asked again."""

_IDLE, _ADOPT, _LONGEST_PAUSE = 1.0, 30.0, 2.0


@dataclass(slots=True)
class Stats(Counts):
    """Counts, and: queue_bytes; spool_bytes; oldest_age_s, of the row that waits longest (None: none waits); damaged: spool files
    kept aside; away: whether the database did not take the last flush."""

    queue_bytes: int = 0
    spool_bytes: int = 0
    oldest_age_s: float | None = None
    damaged: int = 0
    away: bool = False


class Writer:
    """The queue, spool and thread of this process. The first row starts the thread; a child of a fork begins anew.

    folder: gives the folder of the spool, None for none. most, size: rows and bytes of the queue; cap: bytes of the spool.
    """

    def __init__(
        self,
        folder: Callable[[], Path | None],
        *,
        most: int = ROWS,
        size: int = BYTES,
        cap: int = CAP,
        patience: float = PATIENCE,
        silent: float = SILENT,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._most, self._size, self._cap = folder, most, size, cap
        self._patience, self._silent, self._on_start = patience, silent, on_start
        self._spool = Spool(None, "")
        self._own: BaseDatabaseWrapper | None = None
        self.begin()
        leaving.begin_after_fork(self)

    def begin(self) -> None:
        """Begin as new: at first, and in the child of a fork, whose parent keeps what waits. Its connection is left alone:
        closing it here would end it there."""
        self._spool.release()
        self._inherited, self._own = self._own, None
        self._queue, self._spool = Queue(self._most, self._size), Spool(None, "")
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._acks: dict[bytes, list[Ack]] = {}
        self._segment: Segment | None = None
        self._delivered = 0
        self._adopted_at = float("-inf")
        self._failures = 0
        self._asked_at: float | None = None
        self._closing = self._stopping = False
        self._settled = threading.Condition()

    # What callers use

    def put(self, row: events.Event | Mapping[str, Any], durable: bool = False, timeout: float = 5.0) -> UUID:
        """Take an event, as `auditing.events.event` makes it, or a finished call, a mapping as a row of `ingest`; its id.

        durable: return once it is committed, else raise AckTimeout, or InvalidRow if it is refused. Raises AuditUnavailable
        when it can be kept nowhere, InvalidRow for a call without an id.
        """
        if not durable:
            if type(row) is tuple and self._thread is not None:  # the usual case, at half of the time
                data = events.frozen(row)
                if len(data) <= writing.MAX_BYTES and self._queue.put("e", data, None, 0):
                    return uuid_of(row[0])
            return self._take(row, None, None)
        if math.isnan(timeout := float(timeout)):  # before the row is taken: what is refused is not written
            raise ValueError("timeout is no number: give seconds.")
        ack, patience = Ack(), min(max(timeout, 0.0), threading.TIMEOUT_MAX)
        id = self._take(row, ack, None)
        return self._confirmed(id, ack, ack.wait(patience))

    async def aput(self, row: events.Event | Mapping[str, Any], durable: bool = False, timeout: float = 5.0) -> UUID:
        """As `put`, on an event loop, which it does not hold up: what has to wait, waits in a thread or for an event."""
        loop, known = asyncio.get_running_loop(), asyncio.Event()
        ack = Ack(lambda: _tell(loop, known)) if durable else None
        try:
            id = self._take(row, ack, 0)
        except _NoRoom:
            id = await asyncio.to_thread(self._take, row, ack, None)
        if ack is None:
            return id
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(known.wait(), timeout)
        return self._confirmed(id, ack, known.is_set())

    def stats(self) -> Stats:
        counts, size, oldest = self._queue.look()
        spool_bytes, spooled, damaged = self._spool.look()
        ages = [time.monotonic() - oldest] if oldest is not None else []
        ages += [time.time() - spooled] if spooled is not None else []
        return Stats(
            **counts, queue_bytes=size, spool_bytes=spool_bytes, oldest_age_s=max(ages, default=None), damaged=damaged,
            away=self._failures > 0,
        )  # fmt: skip

    def drain(self, timeout: float = DRAIN) -> bool:
        """Wait until nothing waits, in the queue or the spool; whether that was so in time."""
        return self._wait_until(lambda: not len(self._queue) and not self._spooled(), timeout)

    def start(self) -> None:
        """Start the thread, unless it runs. The first row does; a program whose rows all come from threads calls it in its main
        thread, where alone SIGTERM can be heeded."""
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self._spool = Spool(self._folder(), str(connections.settings[conf.DATABASE]["NAME"]), self._cap)
            thread = threading.Thread(target=self._run, name="cp-writer", daemon=True)
            thread.start()
            self._thread = thread
        self._on_start()

    def close(self, timeout: float = DRAIN) -> None:
        """Write what waits, for so long; spool the rest. Rows that come later are spooled at once. For the end of a process."""
        if self._thread is None or self._closing:
            return
        self._closing = True
        self._queue.close()
        self._wait_until(lambda: not len(self._queue), timeout)
        if rows := self._queue.take_all():
            self._spool_or_lose(rows)

    def stop(self, timeout: float = DRAIN) -> None:
        """Close, end the thread and its connection, and begin anew: for tests and programs that go on."""
        self.close(timeout)
        self._stopping = True
        self._queue.wake()
        if self._thread is not None:
            self._thread.join(timeout)
        self.begin()

    # How a row comes in

    def _take(self, row: events.Event | Mapping[str, Any], ack: Ack | None, patience: float | None) -> UUID:
        if not isinstance(row, tuple):
            data, id = writing.freeze(row)
            self._put("r", data, ack, patience)
            return id
        data = events.frozen(row)
        if len(data) > writing.MAX_BYTES:  # rare: what the log cuts is cut before it waits
            data = events.frozen(events.bounded(row))
        self._put("e", data, ack, patience)
        return uuid_of(row[0])

    def _put(self, kind: str, data: bytes, ack: Ack | None, patience: float | None) -> None:
        if self._thread is None:
            self.start()
        if self._queue.put(kind, data, ack, self._patience if patience is None else patience):
            return
        if patience == 0 and not self._closing:
            raise _NoRoom
        self._give_up_silent_server()
        row = Row(kind, data, ack, 0.0)
        try:
            self._spool_rows([row])
        except SpoolFull as error:
            raise AuditUnavailable(
                message=f"The row is not kept: the database does not take rows, {len(self._queue)} wait already. {error} "
                "Bring the database back, or make room, and try again."
            ) from error
        self._queue.count(accepted=1, spooled=1)

    def _confirmed(self, id: UUID, ack: Ack, known: bool) -> UUID:
        if not known:
            self._give_up_silent_server()
            raise AckTimeout(id)
        if ack.refusal is not None:
            raise InvalidRow(message=ack.refusal)
        return id

    def _give_up_silent_server(self) -> None:
        """Free the thread by ending its connection. Who has waited in vain does it: the thread itself cannot."""
        asked_at, own = self._asked_at, self._own
        if asked_at is None or own is None or time.monotonic() - asked_at < self._silent:
            return
        with contextlib.suppress(AttributeError, OSError, psycopg.Error):  # it answers, or is closed, at this moment
            with socket.socket(fileno=os.dup(own.connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
            logger.warning("the database has been silent for %d s: its connection is given up", self._silent)

    # The thread

    def _run(self) -> None:
        queue, own = self._queue, use_own_connection()
        self._own = own
        try:
            while self._queue is queue and not self._stopping:
                self._adopt()
                try:
                    self._once(queue, own)
                    self._asked_at = None
                except Exception as error:
                    self._asked_at = None
                    own.close()
                    self._sit_out(queue, error)
                self._tell_settled()
        finally:
            own.close()

    def _once(self, queue: Queue, own: BaseDatabaseWrapper) -> None:
        """Deliver a piece of the spool, or what waits in the queue; both, where somebody waits for a row of the queue."""
        spooled = self._spooled() and not self._closing
        if spooled:
            self._asked_at = time.monotonic()
            connect(own)
            self._replay()
        if not spooled or queue.durable or len(queue) > self._most // 2:
            rows = queue.take(FLUSH, 0 if spooled else _IDLE, 0 if spooled else LINGER)
            if rows:
                self._asked_at = time.monotonic()
                connect(own)
                self._flush(queue, rows)

    def _flush(self, queue: Queue, rows: list[Row]) -> None:
        """Write rows from the head of the queue."""
        outcome = _write(
            [row.kind for row in rows],
            lambda places: writing.write_events([events.thawed(rows[place].data) for place in places]),
            lambda place: writing.thawed_request(rows[place].data),
        )
        queue.drop(len(rows), outcome.committed, outcome.duplicates, len(outcome.refused))
        self._came_back()
        for place, row in enumerate(rows):
            if row.ack is not None:
                row.ack.settle(outcome.refused.get(place))

    def _replay(self) -> None:
        """Write up to FLUSH rows of the oldest file of the spool."""
        segment = self._segment or self._spool.next()
        if segment is None:
            return
        if segment is not self._segment:
            self._segment, self._delivered = segment, 0
        batch = segment.payloads[self._delivered : self._delivered + FLUSH]
        if batch:
            outcome = _write(
                [chr(one[0]) for one in batch],
                lambda places: writing.write_json([batch[place][1:].decode() for place in places]),
                lambda place: writing.thawed_request(batch[place][1:]),
                historical=True,
            )
            self._queue.count(
                committed=outcome.committed, duplicates=outcome.duplicates, dead=len(outcome.refused), spooled=-len(batch),
                replayed=len(batch),
            )  # fmt: skip
            self._delivered += len(batch)
            self._came_back()
            self._settle_spooled(batch, outcome)
        if self._delivered >= len(segment.payloads):
            unreadable = segment.rows - len(segment.payloads)
            self._queue.count(spooled=-unreadable, dead=unreadable, lost=unreadable)
            self._spool.done(segment)
            self._segment = None

    def _settle_spooled(self, batch: list[bytes], outcome: writing.Outcome) -> None:
        if not self._acks:
            return
        for place, one in enumerate(batch):
            for ack in self._acks.pop(one, []):
                ack.settle(outcome.refused.get(place))

    def _adopt(self) -> None:
        """Take over what ended processes left, now and then."""
        if time.monotonic() - self._adopted_at < _ADOPT:
            return
        self._adopted_at = time.monotonic()
        try:
            rows = self._spool.adopt()
        except OSError as error:
            logger.error("the spool cannot be read: %s", error)
            return
        if rows:
            logger.info("%d rows of ended processes are taken over", rows)
            self._queue.count(accepted=rows, spooled=rows)

    def _sit_out(self, queue: Queue, error: Exception) -> None:
        """The database takes nothing now: wait before the next try, and spool meanwhile what has waited long enough."""
        self._failures += 1
        if self._failures == 2:  # the first may be a connection that was cut
            logger.warning("rows of the logs wait: the database does not take them. %s", error)
        if not isinstance(error, DatabaseError | writing.Unavailable):
            logger.exception("the writer of the logs failed")
        until = time.monotonic() + min(0.05 * 2**self._failures, _LONGEST_PAUSE)
        while not self._stopping:
            counts, _, oldest = queue.look()
            if oldest is not None and time.monotonic() - oldest >= self._patience:
                self._spool_queue(queue)
            if (left := until - time.monotonic()) <= 0 or (self._closing and not counts["queued"]):
                return
            time.sleep(min(left, self._patience))

    def _spool_queue(self, queue: Queue) -> None:
        while rows := queue.take(FLUSH, 0, 0):
            try:
                self._spool_rows(rows)
            except SpoolFull:
                return  # they wait in memory, and callers are told once that is full
            queue.drop(len(rows), spooled=len(rows))

    def _spool_rows(self, rows: list[Row]) -> None:
        """Raises SpoolFull, and keeps none."""
        payloads = [writing.payload(row) for row in rows]
        for row, one in zip(rows, payloads, strict=True):
            if row.ack is not None:
                self._acks.setdefault(one, []).append(row.ack)
        self._spool.append(payloads)

    def _spool_or_lose(self, rows: list[Row]) -> None:
        for start in range(0, len(rows), FLUSH):
            some = rows[start : start + FLUSH]
            try:
                self._spool_rows(some)
            except SpoolFull as error:
                logger.error("%d rows of the logs are lost as the process ends: %s", len(some), error)
                self._queue.count(dead=len(some), lost=len(some))
            else:
                self._queue.count(spooled=len(some))

    def _came_back(self) -> None:
        if self._failures > 1:
            logger.info("the database takes rows of the logs again")
        self._failures = 0

    def _spooled(self) -> bool:
        return self._spool.waiting

    def _tell_settled(self) -> None:
        with self._settled:
            self._settled.notify_all()

    def _wait_until(self, done: Callable[[], bool], timeout: float) -> bool:
        if self._thread is None:
            return True
        until = time.monotonic() + timeout
        with self._settled:
            while not done() and (left := until - time.monotonic()) > 0 and self._thread.is_alive():
                self._settled.wait(min(left, 0.1))
        return done()


class _NoRoom(Exception):
    """The queue is full, and the caller may not wait."""


def _tell(loop: asyncio.AbstractEventLoop, known: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(known.set)


def _write(
    kinds: Sequence[str],
    events_at: Callable[[Sequence[int]], writing.Outcome],
    request: Callable[[int], Mapping[str, Any]],
    *,
    historical: bool = False,
) -> writing.Outcome:
    """Write rows of both kinds, given by their places. Where the second half fails, all are tried again, and the first half is
    known then."""
    said = [place for place, kind in enumerate(kinds) if kind == "e"]
    called = [place for place, kind in enumerate(kinds) if kind == "r"]
    told = events_at(said)
    made = writing.write_requests([request(place) for place in called], historical=historical)
    refused = {said[place]: why for place, why in told.refused.items()}
    refused |= {called[place]: why for place, why in made.refused.items()}
    return writing.Outcome(told.committed + made.committed, told.duplicates + made.duplicates, refused)
