"""A bounded cache of frozen records: the least recently used goes first, and a hit takes no lock of Python's."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from cachebox import LRUCache
from django.db import InternalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from controlplane.core.caches.connections import NO_ANSWER, WAIT, Ask, CacheUnavailable
from controlplane.core.caches.duties import Duties
from controlplane.core.caches.listener import ALL, Change, Invalidation, invalidation
from controlplane.core.conf import conf
from controlplane.core.statements import fetch, fetch_on

Key = TypeVar("Key", bound=Hashable)
Record = TypeVar("Record")

WITHIN = (TransactionStatus.INTRANS, TransactionStatus.INERROR, TransactionStatus.ACTIVE)

COUNTS = ("hits", "misses", "negative_hits", "expired", "evictions", "invalidated", "loads", "waits", "load_errors")


class Missing(Enum):
    """Its one member: the cache does not know."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class Counter:
    """Counts exactly without a lock: a step is one call of C. Reading takes a step too, which is left out."""

    __slots__ = ("_read", "step")

    def __init__(self) -> None:
        self.step = itertools.count().__next__
        self._read = 0

    def value(self) -> int:
        """One reader at a time."""
        found = self.step() - self._read
        self._read += 1
        return found


_SILENCE = CacheUnavailable()


class Flight(Generic[Record]):
    """One load, and those who wait for it."""

    __slots__ = ("_ends", "began", "error", "record")

    def __init__(self) -> None:
        self.began = 0.0
        # Held until it ends, then handed on by who waited: made in a tenth of an Event's time.
        self._ends = threading.Lock()
        self._ends.acquire()
        self.record: Record | None = None
        self.error: Exception | None = _SILENCE  # until there is an answer: nobody may take silence for one

    def end(self) -> None:
        self._ends.release()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, by then."""
        ended = self._ends.acquire(timeout=seconds)
        if ended:
            self._ends.release()
        return ended


class RecordCache(Generic[Key, Record]):
    """Records by key, each for `ttl` seconds (± 10 %); keys without one are kept apart, so that a flood evicts nothing.

    loader: the record of a key, by statements that it runs with `ask` alone; None = there is none. It is what the database
    has committed, so it is called with a connection outside any transaction. kinds: of the log, what concerns this cache.
    refs: the (kind, id) that a record depends on; without it, every row of these kinds empties the cache. lasts: seconds from
    its load that a record holds at most, whatever ttl says.

    Public for `generation` by hand, where that is asked at every call: generations, lease.fresh_until, clock.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int,
        ttl: float,
        loader: Callable[[Key, Ask], Record | None],
        kinds: Collection[str],
        refs: Callable[[Record], Iterable[tuple[str, UUID]]] | None = None,
        lasts: Callable[[Record], float] | None = None,
        negative_size: int | None = None,
        negative_ttl: float | None = None,
        invalidation: Invalidation = invalidation,
    ) -> None:
        self.name, self.size, self.ttl, self.loader = name, size, ttl, loader
        self.kinds, self.refs, self.lasts = frozenset(kinds), refs, lasts
        self.negative_size: int = conf.CACHE_NEGATIVE_SIZE if negative_size is None else negative_size
        self.negative_ttl: float = conf.CACHE_NEGATIVE_TTL if negative_ttl is None else negative_ttl
        self.lease, self.clock = invalidation, invalidation.clock  # seconds, by the clock of the lease
        self.begin()
        invalidation.register(self)

    def begin(self) -> None:
        """Begin as new: at first, and in the child of a fork, which must not touch what its parent's threads hold."""
        self._lock = threading.Lock()
        self._turns: SimpleQueue[None] = SimpleQueue()  # of C: a Semaphore takes ten times as long
        for _ in range(conf.CACHE_MAX_LOADS):
            self._turns.put(None)
        self.generations = 0
        self._flights: dict[tuple[Key, int], Flight[Record]] = {}
        self._entries: LRUCache[Key, tuple[float, Record, frozenset[Change]]] = LRUCache(self.size)
        self._unknown: LRUCache[Key, float] = LRUCache(self.negative_size)
        self._entry = self._entries.get
        self._counts = {name: Counter() for name in COUNTS}
        self._hit = self._counts["hits"].step

    def get(self, key: Key) -> Record | None:
        """The record of a key, from here or loaded; None = there is none. Raises CacheUnavailable."""
        fresh_until = self.lease.fresh_until  # before the entry: it is worth what had been looked at when it was read
        entry = self._entry(key)
        if entry is not None:
            instant = self.clock()
            if instant < entry[0] and instant < fresh_until:
                self._hit()
                return entry[1]
            if instant >= entry[0]:
                self._counts["expired"].step()
        connection = connections[conf.DATABASE]  # once: it is dear to find
        within = _transacting(connection)
        if not within and self._is_unknown(key):
            self._counts["negative_hits"].step()
            return None
        self._counts["misses"].step()
        record = self._committed(key, self.lease.ask if within else partial(_ask, connection, self.lease.duties))
        if record is None and within:  # a row of the caller's own, perhaps; nobody else may see it
            return self._load(key, on_this_thread)
        return record

    def cached(self, key: Key) -> Record | Missing | None:
        """What `get` would answer without a statement, or MISSING, which is not counted: for callers that must not wait."""
        fresh_until = self.lease.fresh_until  # before the entry, as in `get`
        entry = self._entry(key)
        if entry is not None:
            instant = self.clock()
            if instant < entry[0] and instant < fresh_until:
                self._hit()
                return entry[1]
        if self._is_unknown(key) and not in_transaction():
            self._counts["negative_hits"].step()
            return None
        return MISSING

    def generation(self) -> int | None:
        """A number that is another once anything was forgotten; None while nothing may be served: for those who remember what
        they concluded from records."""
        fresh_until = self.lease.fresh_until  # before the number, as in `get`
        generation = self.generations
        return generation if self.clock() < fresh_until else None

    def clear(self) -> None:
        """Forget everything; loads under way are not kept. The counts go on."""
        with self._lock:
            self._forget(list(self._entries.copy()))

    def apply(self, changes: Collection[Change]) -> None:
        """Forget what depends on these rows of the log."""
        mine = {change for change in changes if change[0] in self.kinds}
        if any(kind == ALL for kind, _ in changes) or (
            mine and (self.refs is None or any(ref is None for _, ref in mine))
        ):
            self.clear()
        elif mine:
            with self._lock:
                entries = self._entries.copy().items()  # a copy: a hit moves its entry
                self._forget([key for key, (_, _, refs) in entries if not mine.isdisjoint(refs)])

    def stats(self) -> dict[str, int]:
        """Counts since the process began, exact: hits + misses + negative_hits = calls that were answered or refused."""
        with self._lock:
            counts = {name: counter.value() for name, counter in self._counts.items()}
            return counts | {
                "size": len(self._entries),
                "capacity": self.size,
                "negative_size": len(self._unknown),
                "negative_capacity": self.negative_size,
            }

    def _forget(self, keys: Iterable[Key]) -> None:
        """Under the lock. What is unknown may have become known by any change: a digest cannot name it."""
        self.generations += 1
        self._unknown.clear()
        for key in keys:
            if self._entries.pop(key, None) is not None:
                self._counts["invalidated"].step()

    def _is_unknown(self, key: Key) -> bool:
        fresh_until = self.lease.fresh_until
        ends = self._unknown.get(key)
        return ends is not None and self.clock() < min(ends, fresh_until)

    def _committed(self, key: Key, ask: Ask) -> Record | None:
        """What the database has committed: one load for all who ask at once, unless something was changed in between."""
        self.lease.start()
        with self._lock:
            name = (key, self.generations)
            flight = self._flights.get(name)
            leads = flight is None
            if flight is None:
                flight = self._flights[name] = Flight()
        if leads:
            self._fly(flight, *name, ask)
        else:
            self._counts["waits"].step()
            if not flight.wait(WAIT):
                raise CacheUnavailable
        if isinstance(flight.error, CacheUnavailable):
            raise CacheUnavailable from flight.error.__cause__
        if flight.error is not None:
            raise flight.error
        if self.clock() >= flight.began + conf.CACHE_LEASE:  # too old an answer: the machine slept, perhaps
            raise CacheUnavailable
        return flight.record

    def _fly(self, flight: Flight[Record], key: Key, generation: int, ask: Ask) -> None:
        try:
            try:
                self._turns.get(timeout=WAIT)
            except Empty:
                raise CacheUnavailable from None
            try:
                flight.began = self.clock()
                flight.record = self._load(key, ask)
                flight.error = None
            finally:
                self._turns.put(None)
        except Exception as error:
            flight.error = error
        finally:
            with self._lock:
                del self._flights[key, generation]
                if flight.error is None and generation == self.generations and self.clock() < self.lease.fresh_until:
                    self._keep(key, flight)
            flight.end()

    def _keep(self, key: Key, flight: Flight[Record]) -> None:
        """Under the lock."""
        if flight.record is None:
            self._unknown.insert(key, flight.began + self.negative_ttl)
            return
        if key not in self._entries and len(self._entries) >= self.size:
            self._counts["evictions"].step()
        refs = frozenset(self.refs(flight.record)) if self.refs else frozenset()
        ttl = self.ttl * random.uniform(0.9, 1.1)  # noqa: S311 - those that came together do not end together; no secret
        if self.lasts is not None:
            ttl = min(ttl, self.lasts(flight.record))
        self._entries.insert(key, (flight.began + ttl, flight.record, refs))

    def _load(self, key: Key, ask: Ask) -> Record | None:
        self._counts["loads"].step()
        try:
            return self.loader(key, ask)
        except (
            *NO_ANSWER,
            InternalError,
        ) as error:  # the last: of a transaction that has failed, and answers nothing more
            self._counts["load_errors"].step()
            raise CacheUnavailable from error


def in_transaction() -> bool:
    """Whether this thread's connection may show what is not committed, or a snapshot of the past."""
    return _transacting(connections[conf.DATABASE])


def _transacting(connection: BaseDatabaseWrapper) -> bool:
    if connection.in_atomic_block:
        return True
    raw = connection.connection
    if raw is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit or raw.pgconn.transaction_status in WITHIN  # by a BEGIN of SQL


def _ask(connection: BaseDatabaseWrapper, duties: Duties, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Ask on this thread's connection. One that the server has closed meanwhile is replaced, and asked once more."""
    try:
        return _ask_in_time(connection, duties, query, params)
    except NO_ANSWER:
        if connection.connection is None or not connection.connection.closed:
            raise
    connection.close()
    return _ask_in_time(connection, duties, query, params)


def _ask_in_time(
    connection: BaseDatabaseWrapper, duties: Duties, query: str, params: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """The second thread cancels what takes longer than LOAD."""
    connection.ensure_connection()
    ticket = duties.load_begins(connection.connection)
    try:
        return fetch_on(connection, query, params)
    finally:
        duties.load_ends(ticket)


def on_this_thread(query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Ask within the transaction of this thread's connection, which sees rows of its own."""
    return fetch(conf.DATABASE, query, params)
