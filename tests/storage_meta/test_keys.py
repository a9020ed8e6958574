from __future__ import annotations

import json
from contextlib import suppress

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from storage_meta.errors import InvalidArgument, InvalidMetadata, InvalidTag, KeyTooLong, MetadataTooLarge, StorageError
from storage_meta.keys import check_key, check_metadata, check_tags, check_text, upper_bound

ANYTHING = st.text(st.characters(codec=None), max_size=1100)
STORABLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STORABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STORABLE, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "key",
    ["a", ".", "..", "/", "a//b/", "a/../b", "100%", "a%2Fb", "\x01\x7f", " ", "é", "e\u0301", "\U0010ffff" * 256],
)
def test_a_key_stays_as_it_is_byte_for_byte(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "a\udfff", None, 7, b"a"])
def test_what_is_no_key_is_an_invalid_argument(key):
    with pytest.raises(InvalidArgument, match="key") as caught:
        check_key(key)
    assert caught.value.code == "invalid_argument"


@pytest.mark.parametrize("key", ["a" * 1025, "é" * 513, "\U0001f600" * 257])
def test_a_key_of_more_than_1024_bytes_is_too_long(key):
    with pytest.raises(KeyTooLong, match="1,024") as caught:
        check_key(key)
    assert caught.value.code == "key_too_long"


@given(ANYTHING)
def test_whatever_text_is_a_key_or_is_refused_by_a_storage_error(text):
    with suppress(StorageError):
        assert check_key(text).encode() == text.encode()


@given(ANYTHING)
def test_whatever_text_is_an_argument_or_is_refused_by_a_storage_error(text):
    with suppress(InvalidArgument):
        assert check_text("comment", text, 50) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), STORABLE)
def test_the_upper_bound_is_above_every_key_of_the_prefix_and_no_key_lies_between(prefix, rest):
    bound = upper_bound(prefix)

    if bound is None:
        assert not prefix.strip("\U0010ffff")
    else:
        assert (prefix + rest).encode() < bound.encode()
        assert (prefix + "\U0010ffff" * 20).encode() < bound.encode()
        assert check_key(bound)


@pytest.mark.parametrize(
    ("prefix", "bound"),
    [
        ("", None),
        ("a", "b"),
        ("a/", "a0"),
        ("a\ud7ff", "a\ue000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff\U0010ffff", None),
        ("a\x7f", "a\x80"),
    ],
)
def test_upper_bounds(prefix, bound):
    assert upper_bound(prefix) == bound


@pytest.mark.parametrize(
    "metadata",
    [
        7,
        "text",
        [],
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": "\0"},
        {"a\0": 1},
        {"a": "\ud800"},
        {"\udc00": 1},
        {1: "a"},
        {None: 1},
        {"a": {2: 3}},
        {"a": object()},
        {"a": b"bytes"},
        {"a": {1, 2}},
        {"a": 10**5000},
    ],
)
def test_what_is_no_json_object_that_can_be_stored_is_invalid_metadata(metadata):
    with pytest.raises(InvalidMetadata, match="metadata") as caught:
        check_metadata(metadata)
    assert caught.value.code == "invalid_metadata"


def nested(levels):
    found = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


def test_metadata_may_have_64_levels_and_no_more():
    assert check_metadata(nested(64)) == nested(64)

    for deeper in (nested(65), nested(100_000), {"a": json.loads("[" * 64 + "]" * 64)}):
        with pytest.raises(InvalidMetadata, match="64 levels"):
            check_metadata(deeper)


def test_metadata_that_holds_itself_is_refused():
    itself: dict = {}
    itself["self"] = itself

    with pytest.raises(InvalidMetadata, match="64 levels"):
        check_metadata(itself)


def test_metadata_is_a_copy_with_lists_for_tuples():
    given_ = {"a": (1, 2)}

    assert check_metadata(given_) == {"a": [1, 2]}
    assert check_metadata(None) == {}


@pytest.mark.parametrize(
    "metadata", [{"a": "x" * 65_528}, {"a": "é" * 32_768}, {"a": [1e300] * 220}, {"a": [5e-324] * 210}]
)
def test_metadata_of_more_than_64_kib_is_too_large(metadata):
    with pytest.raises(MetadataTooLarge, match="65,536") as caught:
        check_metadata(metadata)
    assert caught.value.code == "metadata_too_large"


@pytest.mark.django_db
@given(st.dictionaries(STORABLE, JSON, max_size=4))
def test_metadata_that_passes_is_taken_by_the_database_and_is_as_large_there_as_counted(metadata):
    found = check_metadata(metadata)

    with connection.cursor() as cursor:
        cursor.execute("SELECT octet_length(%s::jsonb::text)", [json.dumps(found, ensure_ascii=False)])
        size = cursor.fetchone()[0]

    padding = 65_536 - size - len(', "padding": ""' if found else '"padding": ""')
    if "padding" not in found:
        zeros = json.dumps(found).count("-0.0")  # PostgreSQL knows no negative zero
        check_metadata({**found, "padding": "x" * (padding - zeros)})
        with pytest.raises(MetadataTooLarge):
            check_metadata({**found, "padding": "x" * (padding + 1)})


@pytest.mark.parametrize(
    "tags",
    [
        7,
        "a",
        ["a"],
        {"": "a"},
        {"a" * 129: ""},
        {"a": "b" * 257},
        {"a": 1},
        {1: "a"},
        {"a": None},
        {"a\0": ""},
        {"a": "\ud800"},
        {str(n): "" for n in range(11)},
        {str(n): "\U0001f600" * 256 for n in range(10)},
        {str(n): "\x01" * 256 for n in range(10)},
    ],
)
def test_tags_that_are_too_many_too_long_or_no_text_are_refused(tags):
    with pytest.raises(InvalidTag) as caught:
        check_tags(tags)
    assert caught.value.code == "invalid_tag"


def test_tags_up_to_their_limits_are_taken():
    tags = {f"{n}" + "a" * 127: "b" * 256 for n in range(10)}

    assert check_tags(tags) == tags
    assert check_tags(None) == {}


@pytest.mark.parametrize(("value", "limit"), [("ab", 1), (7, 9), (None, 9), ("\0", 9), ("\udfff", 9)])
def test_a_text_argument_that_is_refused_is_named(value, limit):
    with pytest.raises(InvalidArgument, match="comment"):
        check_text("comment", value, limit)
