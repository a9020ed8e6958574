"""For tests, ours and siblings': lets Django's flush empty the logs, which refuse it everywhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.backends.utils import CursorWrapper
from psycopg import sql

GUARDS = ("cp_no_truncate",)
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
    tables = [table for statement in sql_list for table in _QUOTED.findall(statement) if table not in _MADE_AGAIN]
    empty(*tables, using=connection.alias)


def empty(*tables: str, using: str = DEFAULT_DB_ALIAS) -> None:
    """Empty these tables of a test database, logs among them, and what points at them."""
    connection = connections[using]
    if not str(connection.settings_dict["NAME"]).startswith(_TEST_DATABASE):
        raise ImproperlyConfigured("Tables are emptied in a database whose name begins with test_, and in no other.")
    with transaction.atomic(using=using), connection.cursor() as cursor:
        while filled := _filled(cursor, tables):  # again, for what watched tables say of being emptied
            guards = _guards(cursor, filled)
            _switch(cursor, guards, "DISABLE")
            cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(map(sql.Identifier, filled))))
            _switch(cursor, guards, "ENABLE ALWAYS")


# After a flush Django makes them as they were.
_MADE_AGAIN = ("django_content_type", "auth_permission")
_QUOTED = re.compile('"([^"]+)"')


def _filled(cursor: CursorWrapper, tables: Iterable[str]) -> list[str]:
    """Those that have rows, of a partitioned table its partitions: to empty what is empty takes as long as all the rest."""
    cursor.execute(
        "SELECT DISTINCT coalesce(l.relname, t.relname)::text FROM unnest(%s::text[]) n(name) "
        "JOIN pg_class t ON t.oid = to_regclass(n.name) LEFT JOIN pg_partition_tree(t.oid) p ON p.isleaf "
        "LEFT JOIN pg_class l ON l.oid = p.relid WHERE t.relkind <> 'p' OR p.isleaf ORDER BY 1",
        [[f'public."{table}"' for table in tables]],
    )
    leaves = [name for (name,) in cursor.fetchall()]
    if not leaves:
        return []
    looks = [
        sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(leaf), sql.Identifier(leaf))
        for leaf in leaves
    ]
    cursor.execute(sql.SQL(" UNION ALL ").join(looks))
    return [name for (name,) in cursor.fetchall()]


def _guards(cursor: CursorWrapper, filled: list[str]) -> list[tuple[str, str, str]]:
    """Schema, table and name of each guard of these partitions, and of all tables that are none, which others may empty."""
    cursor.execute(
        "SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE t.tgname = ANY (%s) AND t.tgparentid = 0 AND (NOT c.relispartition OR c.relname = ANY (%s)) ORDER BY 1, 2, 3",
        [list(GUARDS), filled],
    )
    found: list[tuple[str, str, str]] = cursor.fetchall()
    return found


def _switch(cursor: CursorWrapper, guards: list[tuple[str, str, str]], how: str) -> None:
    for schema, table, name in guards:
        cursor.execute(
            sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(
                sql.Identifier(schema, table), sql.SQL(how), sql.Identifier(name)
            )
        )
