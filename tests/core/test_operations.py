from __future__ import annotations

import pytest
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter

from controlplane.core.operations import RunSQLFile


def test_a_file_is_read_from_its_package():
    operation = RunSQLFile("auditing", "0001_redaction")

    assert "CREATE FUNCTION cp_redact" in operation.sql
    assert "DROP FUNCTION cp_redact" in operation.reverse_sql
    assert operation.reversible


def test_a_file_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError):
        _ = RunSQLFile("auditing", "9999_nothing").sql


def test_it_is_written_into_a_migration_by_name_not_by_content():
    written, imports = OperationWriter(RunSQLFile("auditing", "0001_redaction"), indentation=0).serialize()

    assert written.split() == [
        "controlplane.core.operations.RunSQLFile(",
        "package='auditing',",
        "name='0001_redaction',",
        "),",
    ]
    assert imports == {"import controlplane.core.operations"}


def test_it_describes_itself_by_its_file():
    assert RunSQLFile("auditing", "0003_watch").describe() == "Run auditing/sql/0003_watch.up.sql"


def test_it_tells_django_what_the_file_made():
    made = migrations.CreateModel("Thing", [("id", models.UUIDField(primary_key=True))])
    operation = RunSQLFile("auditing", "0001_redaction", state_operations=[made])
    state = ProjectState()

    operation.state_forwards("somewhere", state)

    assert ("somewhere", "thing") in state.models
    assert operation.deconstruct()[2]["state_operations"] == [made]


@pytest.mark.django_db
def test_it_goes_back_and_forth():
    operation = RunSQLFile("controlplane.core", "0004_append_only")
    with connection.schema_editor(atomic=False) as editor, connection.cursor() as cursor:
        cursor.execute("SAVEPOINT whole")
        cursor.execute(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgfoid = 'cp_refuse_change'::regproc"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
        operation.database_backwards("cp_core", editor, ProjectState(), ProjectState())
        cursor.execute("SELECT count(*) FROM pg_proc WHERE proname = 'cp_refuse_change'")
        gone = cursor.fetchone()
        operation.database_forwards("cp_core", editor, ProjectState(), ProjectState())
        cursor.execute("SELECT count(*) FROM pg_proc WHERE proname = 'cp_refuse_change'")
        back = cursor.fetchone()
        cursor.execute("ROLLBACK TO SAVEPOINT whole")

    assert (gone, back) == ((0,), (1,))
