"""The connections that caches have of their own, beside Django's: past its transactions, and past a pooler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.db import InterfaceError, OperationalError, connections
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError

LOAD, WAIT = 1.0, 2.0
"""Seconds that a load may take, and that others wait for it (or for their turn). Together less than the lease."""

NO_ANSWER = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
"""What Django and psycopg raise when the database does not answer, or not in time."""

# Of a silent network, where the project says nothing else.
_LIMITS = {
    "connect_timeout": 2, "tcp_user_timeout": 5_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
}  # fmt: skip

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a query with placeholders %s; all its rows."""


class CacheUnavailable(ControlPlaneError):
    """A cache does not know, and the database gave no answer in time: nothing may be concluded."""

    code = "cache_unavailable"
    http_status = 503
    messages = {"cache_unavailable": "The database does not answer. Try again in a second."}


def pooled() -> bool:
    """Whether there is only a pooler in transaction mode: there nothing can be listened to, prepared or set."""
    return not conf.DATABASE_DIRECT_URL and bool(
        connections[conf.DATABASE].settings_dict["DISABLE_SERVER_SIDE_CURSORS"]
    )


def connect(timeout_s: float, name: str = "controlplane caches") -> psycopg.Connection[Any]:
    """A connection to the control plane's database in autocommit, whose statements end after so many seconds.

    name: its own, in pg_stat_activity.
    """
    found = connections[conf.DATABASE].get_connection_params()
    del found["cursor_factory"]  # Django's binds on the client
    if conf.DATABASE_DIRECT_URL:
        found = {"context": found["context"], **conninfo_to_dict(conf.DATABASE_DIRECT_URL)}
    found = {**_LIMITS, "fallback_application_name": name, **found}
    found["prepare_threshold"] = None if pooled() else 0
    if not pooled():
        limits = f"-c statement_timeout={round(timeout_s * 1000)}"
        found["options"] = f"{found.get('options') or ''} {limits}".strip()
    return psycopg.connect(**found, autocommit=True)


class OwnConnection:
    """One connection that threads use in turn. It is opened when it is needed, and again when it was lost."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._opened: psycopg.Connection[Any] | None = None

    def ask(self, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not self._turn.acquire(timeout=WAIT):
            raise OperationalError("The connection is busy.")
        try:
            return self._ask(query, params)
        except NO_ANSWER:
            if self._opened is None or not self._opened.closed:
                raise
            self._opened = None  # the server closed it meanwhile
            return self._ask(query, params)
        finally:
            self._turn.release()

    def _ask(self, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._opened is None:
            self._opened = connect(self._timeout_s)
        try:
            return self._opened.execute(query.encode(), params).fetchall()
        except (
            BaseException
        ):  # a signal's too, as of a time limit: it leaves the statement running, and nothing else may
            if self._opened.info.transaction_status == TransactionStatus.ACTIVE:
                self._opened.close()
            raise

    def close(self) -> None:
        with self._turn:
            if self._opened is not None:
                self._opened.close()
            self._opened = None
