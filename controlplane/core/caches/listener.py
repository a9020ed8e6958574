"""What was changed, by anybody: read from the log by a thread that does nothing else, and forgotten by the caches.

A record may be used while the last look at the log that succeeded *began* less than CACHE_LEASE ago. So who stops a key is
obeyed by every process that much later at the latest, whatever is lost: notifications, this thread, the database.
"""

from __future__ import annotations

import atexit
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import psycopg
from django.db import connections, transaction

from controlplane.core.caches.connections import LOAD, OwnConnection, connect, pooled
from controlplane.core.caches.duties import Duties
from controlplane.core.caches.processes import HEARTBEAT, PURGE, Heart, Sweeper
from controlplane.core.conf import conf

logger = logging.getLogger(__name__)

Change = tuple[str, UUID | None]
"""Kind and id of what changed; None: any of its kind."""

ALL = "all"
FORGOTTEN = 900.0
"""Seconds after which rows of the log may be purged: who has not looked for so long forgets everything."""

HELD = 300.0
"""Seconds after which an open transaction is told of."""

# Not the usual monotonic clock: that one stands still while the machine sleeps, and a lease would outlive the night.
boottime = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

# One statement, so one snapshot: xmin and the rows belong together. Transactions before xmin have ended; the cursor is a
# transaction's id because a row's own may be lower than one that was seen, if its transaction is committed later.
_READ = """
SELECT s.xmin::text, s.xmin = s.xmax, pg_is_in_recovery(), i.id, i.kind, i.ref
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()), pg_snapshot_xmax(pg_current_snapshot())) s(xmin, xmax)
LEFT JOIN cp_core_invalidation i ON i.xid >= coalesce(%s::xid8, s.xmin)
"""


class Cache(Protocol):
    """What takes part in the invalidation."""

    name: str

    def stats(self) -> dict[str, int]: ...
    def apply(self, changes: Collection[Change]) -> None: ...
    def clear(self) -> None: ...
    def begin(self) -> None: ...


class _ThisThread(threading.local):
    """here: whether this thread may have written something in its transaction."""

    here = False


_wrote = _ThisThread()


@dataclass(frozen=True, slots=True)
class Written:
    """A row that a transaction of this process wrote, among what Django does at its commit: called, it is forgotten again."""

    invalidation: Invalidation
    kind: str
    ref: UUID | None

    def __call__(self) -> None:
        self.invalidation.apply([(self.kind, self.ref)])


class Invalidation:
    """The caches of this process, and the threads that keep them true.

    fresh_until: the end of the lease. duties: what the second thread does; apps add theirs.
    """

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self.clock = clock
        self.duties = Duties(clock)
        self.duties.add("heartbeat", HEARTBEAT, self._beat)
        self.duties.add("purge", PURGE, self._sweep)
        self._caches: list[Cache] = []
        self.begin()

    def begin(self) -> None:
        """Begin as new: at first, and in the child of a fork. A connection of the parent's is left alone: closing it here
        would end it there."""
        self.fresh_until = 0.0
        self._inherited = [vars(self).get("_connection"), vars(self).get("_own")]
        self._starting, self._looking = threading.Lock(), threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping: socket.socket | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._own = OwnConnection(LOAD)
        self._looked = 0.0
        self._notified = False
        self._held = 0.0
        self._cursor: str | None = None
        self._seen: set[int] = set()
        self._heart, self._sweeper = Heart(), Sweeper(FORGOTTEN)
        self.duties.begin()
        for cache in self._caches:
            cache.begin()

    def register(self, cache: Cache) -> None:
        self._caches.append(cache)

    def start(self) -> None:
        """Start the threads, unless they run. The first miss of a cache does."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stopping, inside = socket.socketpair()
                self._thread = threading.Thread(target=self._run, args=(inside,), name="cp-invalidation", daemon=True)
                self._thread.start()
        self.duties.start()

    def stop(self) -> None:
        """End the threads and close every connection of the caches. A miss starts them again."""
        with self._starting:
            if self._thread is not None and self._stopping is not None:
                self._stopping.close()
                self._thread.join()
            self._thread = self._stopping = None
        with self._looking:
            self._disconnect()
        self._own.close()
        self.duties.stop()

    def poll(self) -> None:
        """Look at the log once, now, in this thread; the lease begins anew. Raises what the database raises."""
        with self._looking:
            began = self.clock()
            try:
                connection = self._connection if began - self._looked <= FORGOTTEN else None
                self._look(connection or self._connect(), began)
            except BaseException:
                self._disconnect()
                raise
            self._looked = began
            self.fresh_until = began + conf.CACHE_LEASE

    def apply(self, changes: Collection[Change]) -> None:
        """Forget in this process what depends on these changes."""
        for cache in self._caches:
            cache.apply(changes)

    def changed(self, kind: str, ref: UUID | None) -> None:
        """This process wrote a row: forget it now, and again once it is committed. Others learn it from the log."""
        self.apply([(kind, ref)])
        transaction.on_commit(Written(self, kind, ref), using=conf.DATABASE)
        _wrote.here = True

    def changed_here(self, kind: str) -> bool:
        """Whether the open transaction of this thread wrote rows of a kind, as `changed` was told. What a savepoint took
        back does not count."""
        if not _wrote.here:  # a hot path asks, and a connection is dear to find
            return False
        connection = connections[conf.DATABASE]
        hooks = connection.run_on_commit if connection.in_atomic_block else []
        kinds = {hook.kind for _, hook, *_ in hooks if isinstance(hook, Written)}
        _wrote.here = bool(kinds)
        return kind in kinds

    def stats(self) -> dict[str, dict[str, int]]:
        """What each cache of this process counts."""
        return {cache.name: cache.stats() for cache in self._caches}

    def flush(self) -> None:
        """Empty the caches of this process."""
        for cache in self._caches:
            cache.clear()

    def ask(self, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Ask for what is committed, on a connection that is in no transaction."""
        return self._own.ask(query, params)

    def _connect(self) -> psycopg.Connection[Any]:
        """A new connection: what was changed meanwhile is unknown, so the next look forgets everything."""
        self._disconnect()
        self._connection = connect(timeout_s=2)
        self._connection.add_notify_handler(self._note)
        if conf.CACHE_LISTEN and not pooled():
            self._connection.execute("LISTEN cp_invalidation")
        self._cursor, self._seen = None, set()
        return self._connection

    def _look(self, connection: psycopg.Connection[Any], at: float) -> None:
        self._notified = False
        rows = connection.execute(_READ, [self._cursor]).fetchall()
        xmin, idle, standby = rows[0][:3]
        if standby:
            raise psycopg.OperationalError("This server is a standby: it shows the past.")
        found = {id: (kind, ref) for *_, id, kind, ref in rows if id is not None}
        if self._cursor is None:
            self.flush()
        # a long transaction holds xmin back, and the rows since then are read again and again
        elif fresh := [change for id, change in found.items() if id not in self._seen]:
            self.apply(fresh)
        if idle or xmin != self._cursor:
            self._held = at
        elif at - self._held > HELD:
            logger.warning("a transaction has been open for %d min: the log of changes grows until it ends", HELD / 60)
            self._held = at
        self._cursor, self._seen = xmin, set(found)

    def _note(self, notify: psycopg.Notify) -> None:
        self._notified = True

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        age = self.clock() - self._looked if self._looked else None
        self._heart.beat(connection, age, self.stats())

    def _sweep(self, connection: psycopg.Connection[Any]) -> None:
        if self._cursor is not None and self.clock() < self.fresh_until:
            self._sweeper.sweep(connection, self.clock(), self._cursor)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _run(self, stopping: socket.socket) -> None:
        failures = 0
        with stopping:
            while True:
                failures = 0 if self._followed(failures) else failures + 1
                pause = min(0.1 * 2 ** min(failures, 10), conf.CACHE_POLL) if failures else conf.CACHE_POLL
                if self._wait(stopping, pause):
                    return

    def _followed(self, failures: int) -> bool:
        try:
            self.poll()
        except Exception as error:
            if not failures:
                after = conf.CACHE_LEASE
                logger.warning("caches cannot follow the database: after %s s they ask it each time. %s", after, error)
            return False
        if failures:
            logger.info("caches follow the database again")
        return True

    def _wait(self, stopping: socket.socket, seconds: float) -> bool:
        """Wait for a notification, or so long. Whether the thread is to end."""
        connection = self._connection
        with selectors.DefaultSelector() as selector:
            selector.register(stopping, selectors.EVENT_READ)
            if connection is not None:
                with suppress(psycopg.Error, OSError, ValueError):  # somebody who polled may have closed it just now
                    selector.register(connection.fileno(), selectors.EVENT_READ)
            ready = selector.select(0 if self._notified else seconds)
        return any(key.fileobj is stopping for key, _ in ready)


invalidation = Invalidation()
os.register_at_fork(after_in_child=invalidation.begin)
atexit.register(invalidation.stop)
