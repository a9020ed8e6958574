"""The processes that have caches, as each of them writes it down every 15 s; and the log of changes, which is kept short."""

from __future__ import annotations

import os
import socket
from collections import deque
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connections
from psycopg.types.json import Jsonb

from controlplane.core.conf import conf
from controlplane.core.ids import now, uuid7

HEARTBEAT, PURGE = 15.0, 60.0
GONE = timedelta(minutes=10)
"""Unseen for so long, a process is taken for ended, and its row goes."""

_WRITE = """
INSERT INTO cp_core_process (process, host, pid, started_at, seen_at, lease_age_ms, caches)
VALUES (%s, %s, %s, %s, now(), %s, %s)
ON CONFLICT (process) DO UPDATE SET seen_at = now(), lease_age_ms = excluded.lease_age_ms, caches = excluded.caches
"""


class Heart:
    """This process's own row."""

    def __init__(self) -> None:
        self.process, self.started_at = uuid7(), now()

    def beat(self, connection: psycopg.Connection[Any], lease_age_s: float | None, caches: dict[str, Any]) -> None:
        age = None if lease_age_s is None else round(lease_age_s * 1000)
        row = [self.process, socket.gethostname(), os.getpid(), self.started_at, age, Jsonb(caches)]
        connection.execute(_WRITE, row)
        connection.execute("DELETE FROM cp_core_process WHERE seen_at < now() - %s", [GONE])


class Sweeper:
    """Removes rows of the log that everybody has read: by transaction, never by time, which a long transaction outlives."""

    def __init__(self, kept_s: float) -> None:
        self._kept_s = kept_s
        self._noted: deque[tuple[float, str]] = deque()

    def sweep(self, connection: psycopg.Connection[Any], at: float, xmin: str) -> None:
        """at: seconds; xmin: of a look that ended before. What ended before an xmin that was noted long enough ago goes."""
        found = ""
        while self._noted and self._noted[0][0] <= at - self._kept_s:
            found = self._noted.popleft()[1]
        self._noted.append((at, xmin))
        if found:
            connection.execute("DELETE FROM cp_core_invalidation WHERE xid < %s::xid8", [found])


def flush_everywhere() -> None:
    """Have every process empty its caches: when this transaction is committed, within the lease."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("INSERT INTO cp_core_invalidation (kind) VALUES ('all')")
        cursor.execute("SELECT pg_notify('cp_invalidation', '')")
