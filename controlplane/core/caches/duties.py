"""The second thread of the caches: what may wait or be locked out, and so must not be done by the one that keeps the lease."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from controlplane.core.caches.connections import LOAD, connect

logger = logging.getLogger(__name__)

TICK = 0.25

Duty = Callable[[psycopg.Connection[Any]], object]
"""Runs a few statements, each in autocommit and for 5 s at most."""


class Duties:
    """Runs each duty every so many seconds, and cancels loads that take too long."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Duty]] = {}
        self._last: list[str] = []
        self._failing: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Begin as new; in the child of a fork the parent's connection is left alone."""
        self._inherited = vars(self).get("_connection")
        self._starting, self._overdue = threading.Lock(), threading.Lock()
        self._loads: dict[object, tuple[float, psycopg.Connection[Any]]] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None

    def add(self, name: str, every_s: float, run: Duty, *, at_end: bool = False) -> None:
        """Have `run` called with a connection every so many seconds, first after these. at_end: once more at the end."""
        self._known[name] = (every_s, run)
        if at_end:
            self._last.append(name)

    def start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="cp-cache-duties", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        with self._starting:
            self._stopping.set()
            if self._thread is not None:
                self._thread.join()
                for name in self._last:
                    self.run(name)
            self._thread = None
            self._disconnect()

    def run(self, name: str) -> None:
        """Do a duty now, in this thread. What prevents it is logged once, and it is tried again when it is due."""
        try:
            if self._connection is None:
                self._connection = connect(timeout_s=5)
            self._known[name][1](self._connection)
            self._failing.discard(name)
        except Exception as error:
            if name not in self._failing:
                logger.warning("the duty %s was not done: %s", name, error)
            self._failing.add(name)
            self._disconnect()

    def load_begins(self, connection: psycopg.Connection[Any]) -> object:
        """A load begins on a connection of Django's, whose statement_timeout is another than LOAD. Returns its ticket."""
        ticket = object()
        with self._overdue:
            self._loads[ticket] = (self._clock() + LOAD, connection)
        return ticket

    def load_ends(self, ticket: object) -> None:
        """Afterwards no cancellation can hit the next statement: it is sent under the same lock."""
        with self._overdue:
            self._loads.pop(ticket, None)

    def cancel_overdue(self) -> None:
        with self._overdue:
            for ticket, (ends, connection) in list(self._loads.items()):
                if self._clock() >= ends:
                    del self._loads[ticket]
                    try:
                        connection.cancel_safe(timeout=1)
                    except psycopg.Error as error:
                        logger.warning("a load that takes too long could not be cancelled: %s", error)

    def _run(self) -> None:
        due = {name: self._clock() + every_s for name, (every_s, _) in self._known.items()}
        while not self._stopping.wait(TICK):
            self.cancel_overdue()
            for name, (every_s, _) in list(self._known.items()):
                if self._clock() >= due.setdefault(name, self._clock() + every_s):
                    due[name] = self._clock() + every_s
                    self.run(name)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
