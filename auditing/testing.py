"""For tests, ours and siblings': lets Django's flush empty the logs, which refuse it everywhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.operations import BaseDatabaseOperations
from psycopg import sql

GUARDS = ("cp_append_only", "cp_no_truncate")
_TEST_DATABASE = "test_"
_flush = BaseDatabaseOperations.execute_sql_flush


@contextmanager
def flushable_logs() -> Iterator[None]:
    """Within it `flush`, which ends every transactional test, works although logs are append-only.

    The guards are lifted and put back inside the transaction of the flush, so nobody else meets a log without them, and
    only in a database whose name begins with `test_`. Meant for a fixture of the whole session:

        @pytest.fixture(scope="session", autouse=True)
        def logs_can_be_flushed():
            with flushable_logs():
                yield
    """
    with mock.patch.object(BaseDatabaseOperations, "execute_sql_flush", _execute_sql_flush):
        yield


def _execute_sql_flush(operations: Any, sql_list: Collection[str]) -> None:
    connection: BaseDatabaseWrapper = operations.connection
    if connection.vendor != "postgresql" or not str(connection.settings_dict["NAME"]).startswith(_TEST_DATABASE):
        _flush(operations, sql_list)
        return
    with transaction.atomic(using=connection.alias):
        guards = _guards(connection)
        _switch(connection, guards, "DISABLE")
        _flush(operations, sql_list)
        _switch(connection, guards, "ENABLE ALWAYS")


def _guards(connection: BaseDatabaseWrapper) -> list[tuple[str, str, str]]:
    """Schema, table and name of each guard. Those that partitions inherited follow their parent's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE t.tgname = ANY (%s) AND t.tgparentid = 0 ORDER BY 1, 2, 3",
            [list(GUARDS)],
        )
        found: list[tuple[str, str, str]] = cursor.fetchall()
        return found


def _switch(connection: BaseDatabaseWrapper, guards: list[tuple[str, str, str]], how: str) -> None:
    with connection.cursor() as cursor:
        for schema, table, name in guards:
            cursor.execute(
                sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(
                    sql.Identifier(schema, table), sql.SQL(how), sql.Identifier(name)
                )
            )
