"""The hot path's statements: raw and prepared, on Django's connection, in its transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connections


def fetch(using: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a query with placeholders `%s`, bound by the server and prepared (where the connection allows it); all its
    rows.

    Django's own cursors bind on the client, so none of their statements can be prepared. Errors are Django's database
    errors. Counted in `connection.queries` as any other statement.
    """
    connection = connections[using]
    connection.ensure_connection()
    began = time.monotonic()
    with connection.wrap_database_errors:
        rows = _cursor(connection.connection).execute(query.encode(), params, prepare=True).fetchall()
    if connection.queries_logged:
        connection.queries_log.append({"sql": query, "time": f"{time.monotonic() - began:.3f}"})
    return rows


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """This thread's cursor on the connection: to make one for each statement takes longer than a look-up by key."""
    cursor: psycopg.Cursor[Any] | None = getattr(_kept, "cursor", None)
    if cursor is None or cursor.connection is not connection:
        cursor = _kept.cursor = psycopg.Cursor(connection)
    return cursor


_kept = threading.local()
