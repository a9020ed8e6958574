"""Many rows at once: COPY into a temporary table, then one INSERT, in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db import DataError, connections, models, router, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql
from psycopg.types.json import JsonbDumper

from controlplane.core.errors import ControlPlaneError

_CONTEXT = re.compile(r"COPY \S+, line (\d+)(?:, column (\w+))?")


class BadRow(ControlPlaneError):
    """A row that the database cannot take. row: its number, from 1; column: its column, where the server names it."""

    code = "bad_row"
    http_status = 422

    def __init__(self, row: int | None, column: str | None, reason: str) -> None:
        self.row, self.column = row, column
        super().__init__(
            message=f"Row {row}, column {column or 'unknown'}: {reason} Nothing was written; mend the row and try again."
        )


@dataclass(frozen=True, slots=True)
class CopyResult:
    """inserted + updated + duplicates = rows given. duplicates: left as they were, or given twice in one call."""

    inserted: int
    updated: int
    duplicates: int


def copy_rows(
    model: type[models.Model],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    on_conflict: Literal["error", "ignore", "update"] = "error",
    unique: Sequence[str] = ("id",),
    using: str | None = None,
) -> CopyResult:
    """Write rows (values in the order of `columns`, database column names) into the table of `model`.

    on_conflict: "error" raises IntegrityError; "ignore" keeps what is there; "update" takes the new values, matched by
    the columns of `unique`, where of several rows with one key the last wins. Raises BadRow, with nothing written.
    """
    alias = using or router.db_for_write(model)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        given = stage(cursor, "cp_staged", model._meta.db_table, columns, rows)
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        target, keys = sql.Identifier(model._meta.db_table), sql.SQL(", ").join(map(sql.Identifier, unique))
        insert = sql.SQL("INSERT INTO {} ({}) ").format(target, names)
        if on_conflict == "update":
            query = insert + sql.SQL(
                "SELECT DISTINCT ON ({keys}) {names} FROM cp_staged ORDER BY {keys}, cp_row DESC "
                "ON CONFLICT ({keys}) DO UPDATE SET {sets} RETURNING (xmax = 0)"
            ).format(
                keys=keys,
                names=names,
                sets=sql.SQL(", ").join(
                    sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns if name not in unique
                ),
            )
        else:
            tail = sql.SQL("SELECT {} FROM cp_staged ORDER BY cp_row").format(names)
            query = insert + tail + sql.SQL(" ON CONFLICT DO NOTHING" if on_conflict == "ignore" else "")
        cursor.execute(query)
        fresh = [row[0] for row in cursor.fetchall()] if on_conflict == "update" else [True] * cursor.rowcount
        cursor.execute("DROP TABLE cp_staged")
    inserted = sum(fresh)
    return CopyResult(inserted, len(fresh) - inserted, given - len(fresh))


def update_rows(
    model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]], using: str | None = None
) -> int:
    """Set columns (database names, "id" among them) of the rows of `model` that have these ids. Returns how many there
    were. Raises BadRow, with nothing written."""
    alias = using or router.db_for_write(model)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        stage(cursor, "cp_staged", model._meta.db_table, columns, rows)
        cursor.execute(
            sql.SQL("UPDATE {} AS t SET {} FROM cp_staged AS s WHERE t.id = s.id").format(
                sql.Identifier(model._meta.db_table),
                sql.SQL(", ").join(
                    sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in columns if name != "id"
                ),
            )
        )
        count: int = cursor.rowcount
        cursor.execute("DROP TABLE cp_staged")
    return count


def stage(
    cursor: CursorWrapper,
    name: str,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> int:
    """COPY rows into a temporary table `name` with those columns of `table` and cp_row (1, 2, …). Returns their number.

    The table lives to the end of the transaction at most. dict values become jsonb. Raises BadRow.
    """
    temporary_like(cursor, name, table, columns)
    cursor.adapters.register_dumper(dict, JsonbDumper)  # this cursor's alone; quicker than looking at every value
    count = 0
    try:
        # Django's cursor passes `copy` through: its errors are psycopg's own until they are wrapped here
        with (
            cursor.db.wrap_database_errors,
            cursor.copy(_copy(name, columns)) as copy,
        ):
            for row in rows:
                copy.write_row(row)
                count += 1
    except DataError as error:
        told = getattr(error.__cause__, "diag", None)
        found = _CONTEXT.search(getattr(told, "context", None) or "")
        # a value that cannot even be sent (NUL in text) has no context: it is the row being written
        number, column = (int(found[1]), found[2]) if found else (count + 1, None)
        raise BadRow(number, column, f"{getattr(told, 'message_primary', None) or error}.") from error
    return count


def temporary_like(cursor: CursorWrapper, name: str, table: str, columns: Sequence[str]) -> None:
    """Make a temporary table `name` with those columns of `table`, without their rules, and cp_row, which counts rows from 1.
    It lives to the end of the transaction at most."""
    names, temporary = sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(name)
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            temporary, names, sql.Identifier(table)
        )
    )
    cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN cp_row bigint GENERATED ALWAYS AS IDENTITY").format(temporary))


def copy_text(cursor: CursorWrapper, table: str, columns: Sequence[str], blocks: Iterable[str]) -> None:
    """COPY into a table what is ready: lines in the text format of COPY, any number of them in a block, with these columns.
    Raises what the database says, as Django's errors."""
    with cursor.db.wrap_database_errors, cursor.copy(_copy(table, columns)) as copy:
        for block in blocks:
            copy.write(block)


def _copy(table: str, columns: Sequence[str]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
