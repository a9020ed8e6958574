"""The worker: does what the apps registered as duties (`controlplane.core.duties`), each at its own pace.

A thread per duty, so that none waits for another, and a failure stays where it is. Whether a duty is due stands in its row
(`WorkerDuty`), which is read under its advisory lock: so any number of workers on any number of machines do it once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from time import monotonic
from typing import Any

import psycopg
from django.db import close_old_connections, connections

from auditing.redaction import clean
from controlplane.core.conf import conf
from controlplane.core.duties import Duty, registered
from controlplane.core.ids import now
from controlplane.core.models import WorkerDuty
from controlplane.env import database

logger = logging.getLogger(__name__)

STATEMENT_TIMEOUT_MS = 900_000
GRACE_S = 6.0
"""Seconds that a batch may go on after the worker was told to end; then its statement is cancelled."""

CANCELLED_S = 2.0
"""Seconds for what was cancelled to end; what has not ended then ends with the process."""

SHORTEST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
BUSY_S = 10.0
"""Seconds after which a duty that another process does is looked at again, at most."""

IDLE_S = 30.0
"""A connection that is not needed for so long is given back to the server."""

LONGEST_ERROR = 500

Clock = Callable[[], datetime]


class Outcome(Enum):
    DONE = "done"
    MORE = "more"
    """Done in part: call again at once."""
    FAILED = "failed"
    BUSY = "busy"
    """Another process does it now."""
    NOT_DUE = "not due"
    STOPPED = "stopped"
    """Cut short, because the worker was told to end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """wait_s: until the duty is due again. error: of FAILED, without secrets."""

    outcome: Outcome
    wait_s: float = 0.0
    error: str = ""


def backoff_s(failures: int) -> float:
    """Seconds before the next try after so many failures in a row: 1, 2, 4 … 60."""
    return min(SHORTEST_BACKOFF_S * 2.0 ** min(failures - 1, 10), LONGEST_BACKOFF_S)


def due_in(duty: Duty, row: WorkerDuty | None, present: datetime, began: datetime) -> float:
    """Seconds until a duty is to be done, by its row; 0 or less: now. began: when the worker that asks did.

    A run that was not finished is begun anew at once: its process was killed, for nobody else holds the lock.
    """
    if row is None or row.finished_at is None or row.finished_at < row.started_at or row.finished_at > present:
        return 0.0
    if row.failures:
        pause = backoff_s(row.failures)
    elif duty.at_start and row.finished_at < began:
        return 0.0
    else:
        pause = duty.every_s
    left: timedelta = row.finished_at + timedelta(seconds=pause) - present
    return left.total_seconds()


def attempt(
    duty: Duty,
    *,
    began: datetime,
    due: bool = False,
    clock: Clock = now,
    stopping: Callable[[], bool] = lambda: False,
    using: str | None = None,
) -> Attempt:
    """Do one part of a duty, if it is due and nobody else does it. due: do it whatever its row says.

    An error of the duty becomes FAILED and stands in its row; one of the database around it is raised.
    """
    alias = using or conf.DATABASE
    with _alone(duty, alias) as ours:
        if not ours:
            return Attempt(Outcome.BUSY, min(duty.every_s, BUSY_S))
        rows = WorkerDuty.objects.using(alias)
        if duty.alone and not due:
            wait_s = due_in(duty, rows.filter(name=duty.name).first(), clock(), began)
            if wait_s > 0:
                return Attempt(Outcome.NOT_DUE, wait_s)
        rows.bulk_create(
            [WorkerDuty(name=duty.name, started_at=clock())],
            update_conflicts=True, unique_fields=["name"], update_fields=["started_at"],
        )  # fmt: skip
        try:
            more = duty.run(clock())
        except Exception as error:
            connections[alias].close()  # whatever state it was left in; the lock goes with it
            if stopping():
                return Attempt(Outcome.STOPPED)
            return _failed(duty, error, clock(), alias)
        recovered = rows.filter(name=duty.name, failures__gt=0).exists()
        rows.filter(name=duty.name).update(finished_at=clock(), failures=0, error="")
        if recovered:
            logger.info("the duty %s is done again", duty.name)
    return Attempt(Outcome.MORE) if more else Attempt(Outcome.DONE, duty.every_s)


def _failed(duty: Duty, error: Exception, at: datetime, alias: str) -> Attempt:
    """Write down that it failed; logged the first time only, with the traceback."""
    said = clean(f"{type(error).__name__}: {error}".partition("\n")[0])[:LONGEST_ERROR]
    row = WorkerDuty.objects.using(alias).get(name=duty.name)
    if not row.failures:
        logger.error("the duty %s failed, and is tried again: %s", duty.name, said, exc_info=error)
    failures = row.failures + 1
    WorkerDuty.objects.using(alias).filter(name=duty.name).update(finished_at=at, failures=failures, error=said)
    return Attempt(Outcome.FAILED, backoff_s(failures), said)


@contextmanager
def _alone(duty: Duty, alias: str) -> Iterator[bool]:
    """Hold the duty's lock on this thread's connection: of the session, because duties commit as they go.

    Its two numbers are hashes of names, as of all our advisory locks: `cp_duty`, and the duty's own.
    """
    if not duty.alone:
        yield True
        return
    lock = ["cp_duty", duty.name]
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))", lock)
        [ours] = cursor.fetchone()
    held = connections[alias].connection
    try:
        yield ours
    finally:
        # closed meanwhile, it has given the lock back
        if ours and connections[alias].connection is held and not held.closed and not held.broken:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtext(%s), hashtext(%s))", lock)


class Worker:
    """Does the duties until it is told to stop. began: duties that are done at start and were done since wait their turn."""

    def __init__(self, duties: Iterable[Duty] | None = None, *, clock: Clock = now, using: str | None = None) -> None:
        self.duties = list(registered() if duties is None else duties)
        self._clock, self._alias = clock, using or conf.DATABASE
        self._began = clock()
        self._stopping = threading.Event()
        self._at_work: dict[str, Any] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for duty in self.duties:
            thread = threading.Thread(target=self._follow, args=[duty], name=f"cp-duty-{duty.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, grace_s: float = GRACE_S) -> bool:
        """Let each duty end its batch; cancel the statements of those that take longer. Whether all have ended."""
        self._stopping.set()
        if not self._join(grace_s):
            for name, connection in list(self._at_work.items()):
                logger.warning("the duty %s is cut short", name)
                with suppress(psycopg.Error):
                    if connection.connection is not None:
                        connection.connection.cancel_safe(timeout=1)
        return self._join(CANCELLED_S)

    def _join(self, seconds: float) -> bool:
        until = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(until - monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _follow(self, duty: Duty) -> None:
        """One duty, again and again, in a thread and on a connection of its own."""
        failures, last = 0, Attempt(Outcome.DONE)
        try:
            while not self._stopping.is_set():
                self._at_work[duty.name] = connections[self._alias]
                try:
                    close_old_connections()
                    last = attempt(
                        duty,
                        began=self._began,
                        due=last.outcome is Outcome.MORE,
                        clock=self._clock,
                        stopping=self._stopping.is_set,
                        using=self._alias,
                    )
                    if failures:
                        logger.info("the duty %s goes on", duty.name)
                    failures = 0
                except Exception as error:
                    connections[self._alias].close()
                    failures += 1
                    if failures == 1 and not self._stopping.is_set():
                        logger.warning("the duty %s cannot be looked at, and waits: %s", duty.name, clean(str(error)))
                    last = Attempt(Outcome.FAILED, backoff_s(failures))
                finally:
                    del self._at_work[duty.name]
                if last.wait_s > IDLE_S:
                    connections[self._alias].close()
                self._stopping.wait(last.wait_s)
        finally:
            connections[self._alias].close()


def each_once(
    duties: Iterable[Duty], *, due: bool = False, clock: Clock = now, using: str | None = None
) -> dict[str, Attempt]:
    """Do each duty that is due, to its end, in turns; by name what came of it. due: do them whatever their rows say."""
    began = datetime.min.replace(tzinfo=UTC)  # nothing starts here: cron comes again and again
    found, waiting = dict[str, Attempt](), list(duties)
    while waiting:
        unfinished = []
        for duty in waiting:
            again = duty.name in found
            found[duty.name] = attempt(duty, began=began, due=due or again, clock=clock, using=using)
            if found[duty.name].outcome is Outcome.MORE:
                unfinished.append(duty)
        waiting = unfinished
    return found


def direct(settings: dict[str, Any], url: str) -> dict[str, Any]:
    """The settings of a database for the worker: past a pooler by its direct URL ("" = there is none), no pool, long limits.

    Session locks, and statements that allow no transaction around them, need a connection of their own.
    """
    parts = database("DATABASE_DIRECT_URL", url) if url else {}
    options = {key: value for key, value in settings["OPTIONS"].items() if key != "pool"} | parts.pop("OPTIONS", {})
    behind_pooler = settings["DISABLE_SERVER_SIDE_CURSORS"] and not url
    if not behind_pooler:  # which refuses `options=`
        limit = f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
        options["options"] = f"{options.get('options', '')} {limit}".strip()
    return {
        **settings, **parts, "OPTIONS": options, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": behind_pooler,
    }  # fmt: skip


def go_direct() -> None:
    """Have this process, whose connections are still to be opened, use `direct` for the control plane's database."""
    settings = connections.settings[conf.DATABASE]
    connections[conf.DATABASE].close()
    settings.update(direct(settings, conf.DATABASE_DIRECT_URL))
