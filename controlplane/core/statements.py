"""The hot path's statements: raw and prepared, on Django's connection, in its transaction."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus


def fetch(using: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a query with placeholders `%s`, bound by the server and prepared (where the connection allows it); all its
    rows.

    Django's own cursors bind on the client, so none of their statements can be prepared. Errors are Django's database
    errors. Counted in `connection.queries` as any other statement, and seen by an `execute_wrapper`, without a cursor.
    """
    connection = connections[using]
    connection.ensure_connection()
    return fetch_on(connection, query, params)


def fetch_on(connection: BaseDatabaseWrapper, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """As `fetch`, on a connection that is open already."""
    if not connection.execute_wrappers:
        return _fetch(connection, query, params)
    execute: Callable[..., list[tuple[Any, ...]]] = lambda query, params, *_: _fetch(connection, query, params)  # noqa: E731
    for wrapper in reversed(connection.execute_wrappers):
        execute = partial(wrapper, execute)
    return execute(query, params, False, {"connection": connection})


def _fetch(connection: BaseDatabaseWrapper, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    raw = connection.connection
    began = time.monotonic()
    with connection.wrap_database_errors:
        if _between_transactions(raw):
            rows = _prepared(raw).run(query, params)
        else:
            rows = _rows(_cursor(raw).execute(query.encode(), params, prepare=True))
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
        rows = [_rows(cursor) for cursor in cursors]
    if connection.queries_logged:
        text = ";\n".join(one.query for one in statements)
        connection.queries_log.append({"sql": text, "time": f"{time.monotonic() - began:.3f}"})
    return [one.read(found) for one, found in zip(statements, rows, strict=True)]


def plain(value: Any) -> Any:
    """A value whose type in the statement does not depend on it: numbers and ids as text, which the server reads by the
    column. Else None, 7 and 70,000 are three types, and each mixture of them is a statement to prepare anew."""
    return value if value is None or isinstance(value, bool) else str(value)


def _between_transactions(raw: psycopg.Connection[Any]) -> bool:
    """Whether the next statement is a transaction of its own, on a connection that may prepare."""
    return (
        raw.autocommit
        and raw.pgconn.transaction_status == TransactionStatus.IDLE
        and not raw.pgconn.pipeline_status
        and raw.prepare_threshold is not None
    )


def _rows(cursor: psycopg.Cursor[Any]) -> list[tuple[Any, ...]]:
    return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []


class _Prepared:
    """The statements of `fetch` that are prepared on one connection, run by libpq itself, outside transactions.

    A look-up by key takes psycopg's cursor half as long again as the server: it converts the query, asks what is prepared,
    and finds out anew how each column is read. Here all that is kept. Values are written and read by psycopg as ever.
    psycopg drops all that is prepared after a ROLLBACK or DROP, ours too: that is noticed by the error, which is why a
    transaction, which would not survive it, is left to psycopg.
    """

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._pgconn = raw.pgconn
        self._codec = Transformer(raw)
        self._formats: dict[int, list[PyFormat]] = {}
        self._names: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._numbers = itertools.count()

    def run(self, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        codec, count = self._codec, len(params)
        if (formats := self._formats.get(count)) is None:
            formats = self._formats[count] = [PyFormat.AUTO] * count
        values = codec.dump_sequence(params, formats)
        key = (query, codec.types or ())
        name = self._names.get(key) or self._prepare(key)
        result = self._execute(name, values)
        if result.status not in _DONE:
            if result.error_field(DiagnosticField.SQLSTATE) != _FORGOTTEN:
                raise self._error(result)
            result = self._execute(self._prepare(key), values)
            if result.status not in _DONE:
                raise self._error(result)
        if not result.nfields:
            return []
        codec.set_pgresult(result)
        return codec.load_rows(0, result.ntuples, tuple)

    def _prepare(self, key: tuple[str, tuple[int, ...]]) -> bytes:
        query, types = key
        name = self._names[key] = b"cp_%d" % next(self._numbers)
        numbers = itertools.count(1)
        text = _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else f"${next(numbers)}", query)
        result = self._pgconn.prepare(name, text.encode(), types)
        if result.status not in _DONE:
            del self._names[key]
            raise self._error(result)
        return name

    def _execute(self, name: bytes, values: Sequence[Any]) -> Any:
        try:
            return self._pgconn.exec_prepared(name, values, self._codec.formats)
        except MemoryError:  # so psycopg takes it that libpq could not even send
            if self._pgconn.status == ConnStatus.OK:
                raise
            raise psycopg.OperationalError("The connection is lost.") from None

    def _error(self, result: Any) -> psycopg.Error:
        if self._pgconn.status != ConnStatus.OK and not result.error_field(DiagnosticField.SQLSTATE):
            return psycopg.OperationalError(result.error_message.decode(errors="replace").strip())
        return psycopg.errors.error_from_result(result)


_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_FORGOTTEN = b"26000"
_PLACEHOLDER = re.compile("%[s%]")


def _prepared(raw: psycopg.Connection[Any]) -> _Prepared:
    """Kept on the connection, and gone with it."""
    found: _Prepared | None = getattr(raw, "cp_prepared", None)
    if found is None:
        found = _Prepared(raw)
        raw.cp_prepared = found  # type: ignore[attr-defined]
    return found


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """This thread's cursor on the connection: to make one for each statement takes longer than a look-up by key."""
    cursor: psycopg.Cursor[Any] | None = getattr(_kept, "cursor", None)
    if cursor is None or cursor.connection is not connection:
        cursor = _kept.cursor = psycopg.Cursor(connection)
    return cursor


_kept = threading.local()
