"""The hot path's statements: raw and prepared, on Django's connection, in its transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Statement(Generic[Answer]):
    """A query with placeholders `%s`, its parameters, and what its rows mean: for who sends several at once.

    Send the query as it is, so that one prepared statement serves all. read: `bool` says whether there are rows, `list` gives
    them.
    """

    query: str
    params: Sequence[Any]
    read: Callable[[list[tuple[Any, ...]]], Answer]

    def send(self, using: str) -> Answer:
        return self.read(fetch(using, self.query, self.params))


def send_together(using: str, statements: Sequence[Statement[Any]]) -> list[Any]:
    """Send several statements in one round trip, each as `fetch` does; what each has read, of no rows where it returns none.

    All or nothing: outside a transaction the server makes one of them (they end at one Sync, and the first error undoes
    all), inside one they are part of it. Each sees what those before it have written.
    """
    if len(statements) == 1:
        return [statements[0].send(using)]
    connection = connections[using]
    connection.ensure_connection()
    began = time.monotonic()
    with connection.wrap_database_errors:
        raw = connection.connection
        with raw.pipeline():
            cursors = [psycopg.Cursor(raw) for _ in statements]
            for cursor, one in zip(cursors, statements, strict=True):
                cursor.execute(one.query.encode(), one.params, prepare=True)
        # nfields and not description, which makes an object of each column
        rows = [cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [] for cursor in cursors]
    if connection.queries_logged:
        text = ";\n".join(one.query for one in statements)
        connection.queries_log.append({"sql": text, "time": f"{time.monotonic() - began:.3f}"})
    return [one.read(found) for one, found in zip(statements, rows, strict=True)]


def plain(value: Any) -> Any:
    """A value whose type in the statement does not depend on it: numbers and ids as text, which the server reads by the
    column. Else None, 7 and 70,000 are three types, and each mixture of them is a statement to prepare anew."""
    return value if value is None or isinstance(value, bool) else str(value)


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """This thread's cursor on the connection: to make one for each statement takes longer than a look-up by key."""
    cursor: psycopg.Cursor[Any] | None = getattr(_kept, "cursor", None)
    if cursor is None or cursor.connection is not connection:
        cursor = _kept.cursor = psycopg.Cursor(connection)
    return cursor


_kept = threading.local()
