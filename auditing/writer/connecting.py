"""The one connection of the writer: beside Django's own of each thread, past its pool and past a pooler."""

from __future__ import annotations

from typing import Any

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend
from psycopg.conninfo import conninfo_to_dict

from controlplane.core.conf import conf

# Of a silent network, where the project says nothing else.
_LIMITS = {
    "connect_timeout": 2, "tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "fallback_application_name": "controlplane writer", "prepare_threshold": 5,
}  # fmt: skip
_ROW = ("21", "22", "23", "54", "P0")


def use_own_connection() -> BaseDatabaseWrapper:
    """Give this thread a connection to the control plane's database that nothing else has: whatever runs in the thread uses
    it. It opens when it is first used."""
    given: dict[str, Any] = connections.settings[conf.DATABASE]
    options = {**_LIMITS, **given["OPTIONS"]}
    options.pop("pool", None)
    settings = {**given, "OPTIONS": options, "CONN_MAX_AGE": None}
    if conf.DATABASE_DIRECT_URL:
        at = conninfo_to_dict(conf.DATABASE_DIRECT_URL)
        for setting, name in (("HOST", "host"), ("PORT", "port"), ("NAME", "dbname"), ("USER", "user")):
            settings[setting] = str(at.pop(name, None) or "")
        settings["PASSWORD"] = str(at.pop("password", None) or "")
        settings |= {"OPTIONS": {**_LIMITS, **at}, "DISABLE_SERVER_SIDE_CURSORS": False}
        if "context" in options:
            settings["OPTIONS"]["context"] = options["context"]
    own: BaseDatabaseWrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, conf.DATABASE)
    connections[conf.DATABASE] = own
    return own


def connect(own: BaseDatabaseWrapper) -> None:
    """Open the connection, unless it is. What is confirmed on it is on the server's disk, whatever the login's default says."""
    if own.connection is None:
        own.ensure_connection()
        if not own.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]:  # a pooler would hand the setting to others
            with own.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
                )


def refuses_row(error: DatabaseError) -> bool:
    """Whether it is for the row that the database refuses: its values, a rule, a limit of an index. Everything else is the
    database's, passes, and is tried again: it is away, starting, full, read-only, not migrated yet."""
    if isinstance(error, InterfaceError):
        return False
    state = sqlstate(error)
    return state[:2] in _ROW if state else not isinstance(error, OperationalError)


def no_partition(error: DatabaseError) -> bool:
    return sqlstate(error) == "23514" and "no partition" in str(error)


def sqlstate(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""
