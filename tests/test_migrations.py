from __future__ import annotations

import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings
from psycopg import sql

from controlplane.devdb.server import client

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted(config.label for config in apps.get_app_configs() if config.label.startswith("cp_"))
VERB_AND_NOUN = re.compile(r"\d{4}_[a-z]+(_[a-z0-9]+)+")


def our_migrations():
    """Keys of our migrations, in an order in which they can be applied."""
    graph = MigrationLoader(None).graph
    plan = []
    for leaf in sorted(graph.leaf_nodes()):
        plan += [key for key in graph.forwards_plan(leaf) if key not in plan]
    return [key for key in plan if key[0] in OURS]


def sql_files(direction):
    files = sorted(
        file for config in apps.get_app_configs() for file in Path(config.path, "sql").glob(f"*.{direction}.sql")
    )
    return [file for file in files if file.is_relative_to(ROOT)]


def schema(database):
    """The schema as pg_dump writes it, without the word that it makes up anew each time.

    Left out: the extensions, which stay on the way back because others may stand on them, and Django's own book-keeping.
    """
    at = {"port": "", "password": "", **database.get_connection_params()}
    dump = subprocess.run(
        [
            client("pg_dump"),
            "--schema-only",
            "--no-owner",
            "--restrict-key=x",
            "--exclude-extension=*",
            "--exclude-table=django_migrations",
            "--dbname",
            at["dbname"],
        ],
        env={"PGHOST": at["host"], "PGPORT": str(at["port"]), "PGUSER": at["user"], "PGPASSWORD": at["password"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return dump.stdout


class Scratch:
    """An empty database beside the test database, moved through the migrations one by one."""

    alias = "scratch"

    def __init__(self):
        self.name = f"{connection.settings_dict['NAME'][:55]}_steps"
        self.done = []

    def create(self):
        self.drop()
        with connection._nodb_cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        connections.databases[self.alias] = {**connection.settings_dict, "NAME": self.name}
        self.done = []

    def drop(self):
        if self.alias in connections.databases:
            connections[self.alias].close()
            del connections[self.alias]
            del connections.databases[self.alias]
        with connection._nodb_cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(self.name)))

    def migrate(self, target):
        MigrationExecutor(connections[self.alias]).migrate([target])

    def move_before(self, key):
        """All migrations before key are applied, and no other of ours."""
        before = our_migrations()[: our_migrations().index(key)]
        if self.done != before[: len(self.done)]:
            self.create()
        for earlier in before[len(self.done) :]:
            self.migrate(earlier)
        self.done = before

    def schema(self):
        return schema(connections[self.alias])


@pytest.fixture(scope="module")
def scratch(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), override_settings(CONTROLPLANE={"MIGRATE": True, "DATABASE": Scratch.alias}):
        database = Scratch()
        database.create()
        yield database
        database.drop()


@pytest.mark.django_db
def test_models_and_migrations_agree():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("key", our_migrations(), ids=".".join)
def test_a_migration_is_named_by_number_verb_and_noun(key):
    assert VERB_AND_NOUN.fullmatch(key[1])
    assert "auto" not in key[1].split("_")


@pytest.mark.parametrize("file", sql_files("up"), ids=lambda file: f"{file.parent.parent.name}/{file.name}")
def test_an_sql_file_has_a_way_back_and_says_what_it_is_for(file):
    assert file.with_name(file.name.replace(".up.sql", ".down.sql")).is_file()
    assert file.read_text().startswith("--")


def test_an_sql_file_that_databases_have_run_stays_as_it_is():
    """What changes it is a new file: `migrate` runs none twice. tests/frozen_sql.txt is added to, as sha256sum writes it."""
    frozen = [line.split() for line in (ROOT / "tests/frozen_sql.txt").read_text().splitlines()]

    changed = [name for digest, name in frozen if sha256((ROOT / name).read_bytes()).hexdigest() != digest]

    assert frozen
    assert changed == []


def test_no_sql_file_goes_back_only():
    assert {file.name.replace(".down.", ".up.") for file in sql_files("down")} == {
        file.name for file in sql_files("up")
    }


@pytest.mark.parametrize("key", our_migrations(), ids=".".join)
def test_a_migration_goes_forward_back_and_forward_to_the_same_schema(scratch, key):
    graph = MigrationLoader(None).graph
    own = [parent.key for parent in graph.node_map[key].parents if parent.key[0] == key[0]]
    scratch.move_before(key)
    for parent in graph.node_map[key].parents:  # of Django's own apps: not what is compared
        scratch.migrate(parent.key)

    before = scratch.schema()
    scratch.migrate(key)
    forward = scratch.schema()
    scratch.migrate(own[0] if own else (key[0], None))
    back = scratch.schema()
    scratch.migrate(key)
    again = scratch.schema()
    scratch.done = [*scratch.done, key]

    assert back == before
    assert again == forward
