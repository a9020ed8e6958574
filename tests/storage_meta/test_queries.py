from __future__ import annotations

import unicodedata
from contextlib import suppress

import pytest
from django.db import connection
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from storage_meta import queries, searching
from storage_meta.errors import InvalidArgument
from storage_meta.queries import CHARACTERS, TERMS, parse

SIGNS = "-!\"|&'()*:<>\\~@ \t\n\x00\ud800＂｜－！or☃–ab1é\u0301"
TYPED = st.text(max_size=60) | st.text(st.sampled_from(SIGNS), max_size=30) | st.text(st.characters(), max_size=30)


def said(typed, **options):
    """`a & !b` and `(a | b)` of what was typed; a prefix ends in *."""
    return " & ".join(
        " | ".join(f"{'!' * one.excluded}{one.text}{'*' * one.prefix}" for one in either)
        for either in parse(typed, **options).terms
    )


def tree(typed, **options):
    """The query as the database has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_storage_query(%s)", [Jsonb(parse(typed, **options).as_json())])
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    ("typed", "meaning"),
    [
        ("", ""),
        ("a b", "a & b"),
        ("a & b", "a & b"),
        ("a | b", "a | b"),
        ("a|b", "a | b"),
        ("a || b", "a | b"),
        ("!a b", "!a & b"),
        ("-a b", "!a & b"),
        ("--a b", "!a & b"),
        ("a - b", "a & b"),
        ("a or b", "a | b"),
        ("a OR b", "a | b"),
        ("x a or b y", "x & a | b & y"),
        ("a or -b c", "a | !b & c"),
        ("or", "or"),
        ("a or", "a & or"),
        ("or a", "or & a"),
        ("a -or b", "a & !or & b"),
        ("| a |", "a"),
        ('"a b" c', "a b & c"),
        ('"a or b"', "a or b"),
        ('a"b c"d', "a & b c & d"),
        ('-"a b" c', "!a b & c"),
        ('"a b', "a b"),
        ('a "', "a"),
        ("a & & ()", "a"),
        ("\u3000a\u00a0b\x1fc", "a & b & c"),
        ("＂a b＂ －c", "a b & !c"),
        ("a\x00b\ud800c", "a & b & c"),
        ("ﬁle", "file"),
    ],
)
def test_what_is_typed_means(typed, meaning):
    assert said(typed) == meaning


@pytest.mark.parametrize("typed", ["-a", "!a", "-a -b", '-"a b"', "-a or b", "-a | -b", "& !a"])
def test_a_query_that_only_excludes_is_refused(typed):
    with pytest.raises(InvalidArgument, match="only says what is not wanted"):
        parse(typed)


@pytest.mark.parametrize("typed", [None, 7, b"a", ["a"]])
def test_what_is_no_text_is_refused(typed):
    with pytest.raises(InvalidArgument, match="no text"):
        parse(typed)


@pytest.mark.parametrize(
    ("typed", "meaning"),
    [
        ("invoice", "'invoice'"),
        ("Invoice-7.PDF", "'invoice' <-> '7' <-> 'pdf'"),
        ("a|b -c", "( 'a' | 'b' ) & !'c'"),
        ('"Café au lait"', "'café' <-> 'au' <-> 'lait'"),
        ("cafe\u0301", "'café'"),
        ("the of", "'the' & 'of'"),
        ("it's a 'test':* <-> \\", "'it' <-> 's' & 'a' & 'test'"),
        ("x" * 3000, ""),
    ],
)
def test_the_database_makes_of_it(db, typed, meaning):
    assert tree(typed) == meaning


@pytest.mark.parametrize(
    ("typed", "meaning"),
    [
        ("inv", "'inv':*"),
        ("in", "'in'"),
        ("acme inv", "'acme' & 'inv':*"),
        ("acme-inv", "'acme' <-> 'inv':*"),
        ('"acme inv"', "'acme' <-> 'inv':*"),
        ("acme -inv", "'acme' & !'inv'"),
        ("हिन्दी", "'हिन्दी':*"),
        ("", ""),
    ],
)
def test_the_last_word_is_the_beginning_of_one_if_that_is_asked(db, typed, meaning):
    assert tree(typed, prefix_match=True) == meaning


def test_only_so_many_terms_and_characters_count():
    many = parse(" ".join(f"w{n}" for n in range(TERMS + 1)))
    long = parse("a " * CHARACTERS)
    composed = parse("a\u0301" * CHARACTERS)

    assert (len(many.terms), many.cut) == (TERMS, True)
    assert (len(long.text), long.cut) == (CHARACTERS, True)
    assert (len(composed.text), composed.cut) == (CHARACTERS, False)
    assert not parse(" ".join(["w"] * TERMS)).cut


@given(TYPED)
@example("-☃ –")
def test_nothing_typed_raises_but_what_only_excludes(typed):
    with suppress(InvalidArgument):
        assert len(parse(typed).text) <= CHARACTERS
        return
    assert any(sign in unicodedata.normalize("NFKC", typed) for sign in "-!")


@given(typed=TYPED, prefix_match=st.booleans())
@example(typed='"' + "a " * 2040, prefix_match=True)
@example(typed="a-" * 2040, prefix_match=False)
@example(typed="ﷺ" * 4000, prefix_match=True)
@example(typed="a " + "x" * 2047, prefix_match=True)
@example(typed="a " + "é" * 1500, prefix_match=True)
def test_the_database_agrees_with_what_is_told_without_it(django_db_setup, django_db_blocker, typed, prefix_match):
    try:
        query = parse(typed, prefix_match=prefix_match)
    except InvalidArgument:
        return
    with django_db_blocker.unblock():
        found = tree(typed, prefix_match=prefix_match)
        try:
            looked_up = searching.can_be_found(query)
        except InvalidArgument:
            looked_up = None
        with connection.cursor() as cursor:
            cursor.execute("SELECT querytree(%s::tsquery)", [found])
            [what] = cursor.fetchone()
            cursor.execute("SELECT cp_storage_tsv('a', 'b', '{}') @@ %s::tsquery", [found])

    longest = max((len(word.encode()) for word in queries.words(query.text)), default=0)
    if longest < 2000:  # a longer word is none to the database
        assert looked_up == {"T": None, "": False}.get(what, True)
