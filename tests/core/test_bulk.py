from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction

from auditing.models import InferenceRequest
from catalog.models import Provider
from controlplane.core.bulk import BadRow, copy_rows, update_rows
from controlplane.core.ids import uuid7
from tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
COLUMNS = ("id", "slug", "name", "enabled", "family", "website", "doc_url", "notes", "metadata")


def row(slug, name="One", **metadata):
    return (uuid7(), slug, name, True, "", "", "", "", metadata)


def names():
    return dict(Provider.objects.values_list("slug", "name"))


def test_rows_are_written_as_they_are_given():
    result = copy_rows(
        Provider, COLUMNS, [row("one", 'Tab\t, line\nand \\ "quotes"', deep={"a": [1, None]}), row("two")]
    )

    assert (result.inserted, result.updated, result.duplicates) == (2, 0, 0)
    assert Provider.objects.get(slug="one").name == 'Tab\t, line\nand \\ "quotes"'
    assert Provider.objects.get(slug="one").metadata == {"deep": {"a": [1, None]}}


def test_rows_come_from_an_iterator_that_is_read_once():
    result = copy_rows(Provider, COLUMNS, (row(f"p{n}") for n in range(1000)))

    assert result.inserted == Provider.objects.count() == 1000


def test_no_rows_are_no_error():
    assert copy_rows(Provider, COLUMNS, []).inserted == 0


def test_a_row_that_is_there_already_is_an_error_and_nothing_is_written():
    ProviderFactory(slug="two")

    with pytest.raises(IntegrityError, match="cp_catalog_provider_slug"), transaction.atomic():
        copy_rows(Provider, COLUMNS, [row("one"), row("two")])

    assert list(names()) == ["two"]


def test_ignored_conflicts_keep_what_is_there():
    ProviderFactory(slug="two", name="Old")

    result = copy_rows(Provider, COLUMNS, [row("one"), row("two"), row("one", "Again")], on_conflict="ignore")

    assert (result.inserted, result.updated, result.duplicates) == (1, 0, 2)
    assert names() == {"one": "One", "two": "Old"}


def test_updated_conflicts_take_the_last_of_the_new_values():
    ProviderFactory(slug="two", name="Old")

    rows = [row("one"), row("two", "New"), row("one", "Last")]
    result = copy_rows(Provider, COLUMNS[1:], [r[1:] for r in rows[:0]], on_conflict="update", unique=["slug"])
    assert (result.inserted, result.updated, result.duplicates) == (0, 0, 0)
    result = copy_rows(Provider, COLUMNS, rows, on_conflict="update", unique=["slug"])

    assert (result.inserted, result.updated, result.duplicates) == (1, 1, 1)
    assert names() == {"one": "Last", "two": "New"}


@pytest.mark.parametrize(
    ("bad", "column"),
    [
        ((uuid7(), "x" * 65, "n", True, "", "", "", "", {}), "slug"),
        (("no uuid", "slug", "n", True, "", "", "", "", {}), "id"),
    ],
)
def test_a_row_the_database_cannot_take_is_told_by_number_and_column(bad, column):
    with pytest.raises(BadRow) as caught, transaction.atomic():
        copy_rows(Provider, COLUMNS, [row("one"), bad, row("three")])

    assert (caught.value.row, caught.value.column) == (2, column)
    assert names() == {}


def test_text_with_nul_is_told_by_number():
    with pytest.raises(BadRow) as caught, transaction.atomic():
        copy_rows(Provider, COLUMNS, [row("one"), row("two", "a\x00b")])

    assert caught.value.row == 2


def test_a_row_that_breaks_a_rule_is_an_integrity_error():
    with pytest.raises(IntegrityError, match="cp_catalog_provider_slug_is_plain"), transaction.atomic():
        copy_rows(Provider, COLUMNS, [row("one"), row("No Slug")])


def test_an_error_of_the_source_writes_nothing():
    def source():
        yield row("one")
        raise RuntimeError("the file ended")

    with pytest.raises(RuntimeError), transaction.atomic():
        copy_rows(Provider, COLUMNS, source())

    assert names() == {}


def test_two_copies_in_one_transaction_do_not_meet():
    with transaction.atomic():
        copy_rows(Provider, COLUMNS, [row("one")])
        copy_rows(Provider, COLUMNS, [row("two")])

    assert set(names()) == {"one", "two"}


def test_a_copy_leaves_no_table_behind():
    copy_rows(Provider, COLUMNS, [row("one")])

    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pg_temp.cp_staged')")
        assert cursor.fetchone() == (None,)


def test_copy_goes_through_the_parent_of_a_log():
    assert copy_rows(InferenceRequest, ("id", "created_at"), []).inserted == 0


def test_columns_of_rows_that_are_there_are_set_and_others_are_left():
    one, two = ProviderFactory(name="One", notes="kept"), ProviderFactory(name="Two")

    count = update_rows(Provider, ("id", "name", "metadata"), [(one.pk, "New", {"n": 1}), (uuid7(), "Nobody", {})])

    one.refresh_from_db()
    two.refresh_from_db()
    assert count == 1
    assert (one.name, one.metadata, one.notes, two.name) == ("New", {"n": 1}, "kept", "Two")


def test_an_update_the_database_cannot_take_is_told_by_number_and_changes_nothing():
    one = ProviderFactory(name="One")

    with pytest.raises(BadRow, match="Row 2"):
        update_rows(Provider, ("id", "name"), [(one.pk, "New"), ("no id", "x")])
    update_rows(Provider, ("id", "name"), [])

    one.refresh_from_db()
    assert one.name == "One"
