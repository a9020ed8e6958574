"""When the secrets of keys were last used: noted in memory at each verification, written down in one statement.

A process that is killed loses what it noted since the last time: at most `EVERY` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connections

from controlplane.core.conf import conf
from tenants.scope import current_scope

EVERY = 60
"""Seconds between two writes of a process."""

_noted: dict[
    int, float
] = {}  # seconds since 1970, by the number of an id: UUID has its hash computed in Python, each time

# A secret that was purged meanwhile drops out by the join. In the order of their ids, so that two processes cannot wait
# for each other.
_WRITE = """
INSERT INTO cp_tenants_apikeysecretuse AS use (secret_id, tenant_id, last_used_at)
SELECT s.id, s.tenant_id, used.at FROM unnest(%s::uuid[], %s::timestamptz[]) AS used (id, at)
JOIN cp_tenants_apikeysecret s ON s.id = used.id ORDER BY s.id
ON CONFLICT (secret_id) DO UPDATE SET last_used_at = greatest(use.last_used_at, excluded.last_used_at)
"""


def note(secret_id: UUID, at: datetime | None = None) -> None:
    """Remember that the secret opened its key at the instant (None: now). Of two at once one stays: they are alike.

    On every verification: no lock, and a number instead of a datetime, which takes five times as long to make.
    """
    _noted[secret_id.int] = time.time() if at is None else at.timestamp()


def forget() -> None:
    """Drop what was noted: it is the parent's after a fork."""
    _noted.clear()


def flush() -> int:
    """Write down what was noted, on this thread's connection; returns how many secrets. In one statement, or none.

    Inside a tenant_scope, where secrets of others are out of sight, it is left for the next time.
    """
    if current_scope() is not None:
        return 0
    with connections[conf.DATABASE].cursor() as cursor:
        return write(cursor.execute)


def write(execute: Callable[[str, list[Any]], Any]) -> int:
    """Write down what was noted by `execute(statement, params)`. Where that fails, it is kept for the next time."""
    taken: dict[int, float] = {}
    while _noted:
        try:
            number, at = _noted.popitem()
        except KeyError:  # another thread took the last one
            break
        taken.setdefault(number, at)
    if not taken:
        return 0
    try:
        instants = [datetime.fromtimestamp(at, UTC) for at in taken.values()]
        execute(_WRITE, [[UUID(int=number) for number in taken], instants])
    except BaseException:
        for number, at in taken.items():
            _noted.setdefault(number, at)
        raise
    return len(taken)
