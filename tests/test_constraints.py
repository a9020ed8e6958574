"""Every rule of the database has a name, and a test that breaks it and says that name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db import connection

TESTS = Path(__file__).resolve().parent
# Django's own names: plain foreign keys, and unique=True on one column.
MADE_BY_DJANGO = re.compile(r"_fk_|_[0-9a-f]{8}_uniq$|_pkey$")


def rules_of_the_database():
    """Named rules of our tables: constraints, unique indexes, and those that triggers raise."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n.conname::text FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid "
            "WHERE c.relname LIKE 'cp\\_%' AND NOT c.relispartition AND n.contype IN ('c', 'f', 'u', 'x') "
            "UNION SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
            "WHERE c.relname LIKE 'cp\\_%' AND NOT c.relispartition AND i.indisunique AND NOT i.indisprimary"
        )
        names = {name for (name,) in cursor.fetchall()}
        cursor.execute(
            "SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'cp\\_%'"
        )
        for (source,) in cursor.fetchall():
            names |= set(re.findall(r"CONSTRAINT\s*=\s*'(\w+)'", source))
    return {name for name in names if not MADE_BY_DJANGO.search(name)}


@pytest.mark.django_db
def test_every_rule_is_broken_once_on_purpose():
    files = (path for path in TESTS.rglob("test_*.py") if path != Path(__file__).resolve())
    told = {word for path in files for word in re.findall(r"cp_\w+", path.read_text())}

    unbroken = sorted(rules_of_the_database() - told)

    assert unbroken == []


@pytest.mark.django_db
def test_the_rules_of_the_models_are_in_the_database():
    declared = {
        constraint.name
        for model in apps.get_models()
        if model._meta.app_label.startswith("cp_") and model._meta.managed
        for constraint in model._meta.constraints
    }

    assert declared <= rules_of_the_database()


@pytest.mark.django_db
def test_a_rule_is_named_by_its_table():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname::text, n.conname::text FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid "
            "WHERE c.relname LIKE 'cp\\_%' AND NOT c.relispartition AND n.contype IN ('c', 'f', 'u', 'x')"
        )
        found = cursor.fetchall()

    assert [name for table, name in found if not MADE_BY_DJANGO.search(name) and not name.startswith(table)] == []


@pytest.mark.django_db
def test_no_rule_waits_to_be_checked():
    with connection.cursor() as cursor:
        cursor.execute("SELECT conname::text FROM pg_constraint WHERE NOT convalidated OR NOT conenforced")
        assert cursor.fetchall() == []
