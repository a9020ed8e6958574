from __future__ import annotations

import os
import subprocess

import psycopg
import pytest
from django.core.checks import run_checks
from django.db import connection
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from controlplane.devdb.server import client
from storage_meta import checks
from storage_meta.models import StorageObject
from tests.factories import StorageObjectFactory

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def vector(key="", content_type="", metadata=None):
    """The words of an object with their weights: {'report': 'A', …}."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lexeme, weights[1] FROM unnest(cp_storage_tsv(%s, %s, %s))",
            [key, content_type, Jsonb(metadata or {})],
        )
        return dict(cursor.fetchall())


def holds(metadata, query):
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_storage_tsv('', '', %s) @@ phraseto_tsquery('simple', %s)", [Jsonb(metadata), query])
        return cursor.fetchone()[0]


def test_words_of_key_type_and_values_have_their_weights(db):
    found = vector("reports/invoice-7.pdf", "text/plain", {"owner": "ann", "deep": [{"er": ["bob", 4.5, -6, 1000]}]})

    assert found == {
        **dict.fromkeys(("reports", "invoice", "7", "pdf"), "A"),
        **dict.fromkeys(("text", "plain"), "B"),
        **dict.fromkeys(("ann", "bob", "4", "5", "6", "1000"), "C"),
    }


def test_names_in_metadata_and_what_is_no_text_or_number_are_no_words(db):
    assert vector(metadata={"name": {"deeper": [True, False, None, {}]}, "é": ""}) == {}


@pytest.mark.parametrize("character", PUNCTUATION)
def test_every_ascii_punctuation_character_splits(db, character):
    assert vector(f"left{character}right", metadata={"x": f"up{character}{character}down"}) == {
        "left": "A",
        "right": "A",
        "up": "C",
        "down": "C",
    }


def test_there_are_32_of_them():
    assert len(set(PUNCTUATION)) == 32


def test_two_spellings_of_a_letter_are_one_word(db):
    assert vector("cafe\u0301") == vector("caf\u00e9") == {"café": "A"}


def test_a_full_width_quote_in_a_value_breaks_nothing(db):
    assert vector(metadata={"x": "a＂b\\n", "y": "ﬁle"}) == dict.fromkeys(("a", "b", "n", "file"), "C")


def test_letters_beyond_ascii_outlive_the_collation_of_keys(db):
    head = StorageObjectFactory(object_key="ÜBER/café-Ελλάδα.pdf")

    with connection.cursor() as cursor:
        cursor.execute("SELECT search_vector FROM cp_storage_meta_storageobject WHERE id = %s", [head.pk])
        [found] = cursor.fetchone()

    assert {word.split(":")[0] for word in found.split()} == {
        "'über'",
        "'café'",
        "'ελλάδα'",
        "'pdf'",
        "'text'",
        "'plain'",
    }


def test_no_phrase_spans_two_values(db):
    assert holds({"a": "north east"}, "north east")
    assert not holds({"a": "north", "b": "east"}, "north east")
    assert not holds({"a": ["north", "east"]}, "north east")


def test_the_largest_metadata_is_taken(db):
    for value in ("ﷺ" * 21_000, " ".join(f"{n:x}" for n in range(12_000)), "x" * 60_000, "\U0001d400 " * 13_000):
        assert vector(metadata={"x": value}) is not None


@given(key=TEXT, content_type=TEXT, metadata=st.dictionaries(TEXT, JSON, max_size=4))
@example(key="\x01", content_type="\x01", metadata={"\x01": ["\x01", "a\x01b"]})
def test_no_text_or_json_raises(django_db_blocker, django_db_setup, key, content_type, metadata):
    with django_db_blocker.unblock():
        vector(key, content_type, metadata)


def test_the_vector_is_no_data_that_is_read(db):
    head = StorageObjectFactory()

    assert "search_vector" in StorageObject.objects.get(pk=head.pk).get_deferred_fields()


def test_objects_outlive_a_dump_and_a_restore_with_an_empty_search_path(new_database, transactional_db):
    """The generated column is made anew by the restore, which sees none of our functions by name."""
    StorageObjectFactory(object_key="reports/café-7.pdf", metadata={"owner": "ann"})
    at = new_database("restored")
    here = connection.get_connection_params()
    variables = {**os.environ, **{name: at[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")}}

    dump = subprocess.run([client("pg_dump"), here["dbname"]], env=variables, capture_output=True, check=True)
    psql = [client("psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname", at["PGDATABASE"]]
    restored = subprocess.run(psql, input=dump.stdout, env=variables, capture_output=True)

    assert restored.returncode == 0, restored.stderr[-2000:]
    assert b"set_config('search_path', ''" in dump.stdout
    with psycopg.connect(
        dbname=at["PGDATABASE"],
        host=at["PGHOST"],
        port=at["PGPORT"] or None,
        user=at["PGUSER"],
        password=at["PGPASSWORD"],
    ) as other:
        [[found]] = other.execute("SELECT search_vector::text FROM cp_storage_meta_storageobject").fetchall()
        assert "'café':2A" in found
        assert "'ann':7C" in found
        other.execute("SET search_path = ''")
        other.execute('UPDATE public.cp_storage_meta_storageobject SET metadata = \'{"owner": "bob"}\'')
        [[found]] = other.execute("SELECT search_vector::text FROM public.cp_storage_meta_storageobject").fetchall()
        assert "'bob':7C" in found


def test_a_server_whose_letters_have_no_case_is_an_error():
    [found] = checks.faults_of_letters("ÜBER")

    assert found.id == "cp_storage_meta.E002"
    assert list(checks.faults_of_letters("über")) == []


def test_this_server_is_none(db):
    assert not [found for found in run_checks(databases=["default"]) if found.id == "cp_storage_meta.E002"]
