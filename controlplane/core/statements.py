"""The hot path's statements: raw and prepared, on Django's connection, in its transaction."""

from __future__ import annotations

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
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(query.encode(), params, prepare=True)
        rows = cursor.fetchall()
    if connection.queries_logged:
        connection.queries_log.append({"sql": query, "time": f"{time.monotonic() - began:.3f}"})
    return rows
