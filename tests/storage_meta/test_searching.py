from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage_meta.errors import InvalidArgument, InvalidMetadata, InvalidTag, NoSuchBucket, StorageError
from storage_meta.highlighting import Piece
from storage_meta.models import Bucket, StorageAudit, StorageObject
from storage_meta.searching import found_in, headline
from tests.factories import BucketFactory, StorageObjectFactory

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def files(acme):
    return StorageObject.objects.for_tenant(acme)


@pytest.fixture
def put(acme):
    """Makes an object of acme in the bucket docs, or in another one of the name."""

    def make(object_key, *, bucket="docs", **columns):
        room = Bucket.objects.filter(tenant=acme, name=bucket).first() or BucketFactory(tenant=acme, name=bucket)
        return StorageObjectFactory(bucket=room, object_key=object_key, **{"content_type": "", **columns})

    return make


def keys(page):
    return [head.object_key for head in page.objects]


def paged(files, query, limit, **options):
    """The keys of all pages."""
    found, token = [], None
    while True:
        page = files.search_objects(query, limit=limit, continuation_token=token, **options)
        assert len(page.objects) <= limit
        assert page.is_truncated == (page.next_continuation_token is not None)
        found += keys(page)
        token = page.next_continuation_token
        if token is None:
            return found


# --- words


def test_a_hit_in_the_key_stands_above_one_in_the_type_and_that_above_one_in_metadata(files, put):
    put("c", metadata={"note": "scan scan scan"})
    put("b", content_type="image/scan")
    put("z-scan.png")

    page = files.search_objects("scan")

    assert keys(page) == ["z-scan.png", "b", "c"]
    assert page.objects[0].rank > page.objects[1].rank > page.objects[2].rank > 0


def test_all_words_must_be_there_wherever_they_are(files, put):
    put("2026/invoice-7.pdf", metadata={"owner": "Ann"})
    put("2026/invoice-8.pdf", metadata={"owner": "Bob"})

    assert keys(files.search_objects("ann INVOICE")) == ["2026/invoice-7.pdf"]
    assert keys(files.search_objects("invoice owner")) == []


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a & b", ["a b"]),
        ("a | c", ["a", "a b", "c"]),
        ("b !a", []),
        ("a -b", ["a"]),
        ("a or c", ["a", "a b", "c"]),
        ('"a b"', ["a b"]),
        ('"b a"', []),
        ("b-a", []),
        ("a/b", ["a b"]),
    ],
)
def test_operators_of_the_query_keep_their_meaning(files, put, typed, expected):
    for key in ("a", "a b", "c"):
        put(key)

    assert sorted(keys(files.search_objects(typed))) == expected


def test_two_spellings_of_a_letter_are_two_objects_and_either_finds_both(files, put):
    both = {put("cafe\u0301.txt").object_key, put("caf\u00e9.txt").object_key}

    assert len(both) == 2
    assert set(keys(files.search_objects("caf\u00e9"))) == both
    assert set(keys(files.search_objects("CAFE\u0301"))) == both


def test_the_beginning_of_the_last_word_finds_if_that_is_asked(files, put):
    put("quarterly report.pdf")

    assert keys(files.search_objects("quarterly rep")) == []
    assert keys(files.search_objects("quarterly rep", prefix_match=True)) == ["quarterly report.pdf"]
    assert keys(files.search_objects("quart report", prefix_match=True)) == []


def test_nothing_to_look_for_is_an_empty_page_without_sql(files, put, django_assert_num_queries):
    put("a")

    for typed in ("", "  ", "& | ()", '"'):
        with django_assert_num_queries(0):
            page = files.search_objects(typed)
        assert (keys(page), page.is_truncated, page.query_cut) == ([], False, False)
    assert keys(files.search_objects("☃")) == []


@pytest.mark.parametrize("typed", ["-a", "!a", "-☃ -a", "* -a"])
def test_a_search_that_only_excludes_is_refused_and_the_transaction_goes_on(files, put, typed):
    put("a")

    with pytest.raises(InvalidArgument, match="Add a word"):
        files.search_objects(typed)
    assert keys(files.search_objects("a")) == ["a"]


def test_a_query_that_is_too_long_is_cut_and_says_so(files, put):
    put("a")

    page = files.search_objects("a " * 4096)

    assert page.query_cut
    assert keys(page) == ["a"]


def test_delete_markers_are_not_found(files, put):
    put("gone", is_delete_marker=True, size=0)

    assert keys(files.search_objects("gone")) == keys(files.search_objects(None)) == []


# --- pages


def test_each_object_comes_once_also_where_ranks_are_equal(files, put):
    for n in range(23):
        put(f"report/{n:02}", bucket=f"room-{n % 2}")
        put(f"report/{n:02}", bucket="room-2")
    everything = paged(files, "report", 100)

    assert everything == sorted(everything)
    assert len(everything) == 46
    assert all(paged(files, "report", limit) == everything for limit in (1, 7, 45, 46, 47))


@pytest.mark.parametrize("query", ["report", None])
def test_newest_first_each_object_comes_once_also_where_times_are_equal(files, put, query):
    for n in range(23):
        put(f"report/{n:02}", last_modified=MONDAY + timedelta(seconds=n // 10))
    everything = paged(files, query, 100, order="last_modified")

    assert [int(key[-2:]) // 10 for key in everything] == [2] * 3 + [1] * 10 + [0] * 10
    assert all(paged(files, query, limit, order="last_modified") == everything for limit in (1, 10, 23))


def test_a_token_of_another_question_is_refused(files, put):
    for n in range(3):
        put(f"report/{n}")
    token = files.search_objects("report", limit=1).next_continuation_token

    for other in ({"query": "reports"}, {"order": "last_modified"}, {"prefix": "r"}, {"tags": {"a": "b"}}, {"min_size": 1},
                  {"bucket": "docs"}, {"prefix_match": True}, {"modified_after": MONDAY}):  # fmt: skip
        with pytest.raises(InvalidArgument, match="continuation token"):
            files.search_objects(**{"query": "report", "limit": 1, "continuation_token": token, **other})
    assert keys(files.search_objects("report", limit=5, continuation_token=token)) == ["report/1", "report/2"]


def test_an_instant_is_the_same_in_every_time_zone(files, put):
    for n in range(3):
        put(f"report/{n}")
    token = files.search_objects("report", limit=1, modified_after=MONDAY).next_continuation_token
    berlin = MONDAY.astimezone(timezone(timedelta(hours=1)))

    page = files.search_objects("report", limit=5, modified_after=berlin, continuation_token=token)

    assert len(page.objects) == 2


def test_an_object_that_is_put_between_two_pages_moves_none(files, put):
    for n in range(1, 5):
        put(f"report/{n}")
    first = files.search_objects("report", limit=2)
    put("report/0")

    second = files.search_objects("report", limit=2, continuation_token=first.next_continuation_token)

    assert keys(first) + keys(second) == [f"report/{n}" for n in range(1, 5)]


# --- filters


@pytest.fixture
def mixed(put):
    put("a/1.png", content_type="image/png", size=10, last_modified=MONDAY, metadata={"owner": {"name": "ann"}, "n": 1})
    put("a/2.txt", size=20, last_modified=MONDAY + timedelta(days=1), tags={"state": "draft"}, metadata={"n": [1, 2]})
    put("b/3.txt", size=30, last_modified=MONDAY + timedelta(days=2), tags={"state": "final"}, bucket="plain")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["a/1.png", "a/2.txt", "b/3.txt"]),
        ({"bucket": "docs"}, ["a/1.png", "a/2.txt"]),
        ({"prefix": "a/"}, ["a/1.png", "a/2.txt"]),
        ({"prefix": "b/3.txt"}, ["b/3.txt"]),
        ({"prefix": "%"}, []),
        ({"prefix": "\U0010ffff"}, []),
        ({"metadata": {"owner": {"name": "ann"}}}, ["a/1.png"]),
        ({"metadata": {"owner": {}}}, ["a/1.png"]),
        ({"metadata": {"n": [2]}}, ["a/2.txt"]),
        ({"metadata": {}}, ["a/1.png", "a/2.txt", "b/3.txt"]),
        ({"tags": {"state": "final"}}, ["b/3.txt"]),
        ({"tags": {"state": "final"}, "metadata": {"n": 1}}, []),
        ({"content_type": "image/png"}, ["a/1.png"]),
        ({"min_size": 20}, ["a/2.txt", "b/3.txt"]),
        ({"max_size": 20}, ["a/1.png", "a/2.txt"]),
        ({"min_size": 2**63 - 1}, []),
        ({"modified_after": MONDAY + timedelta(days=1)}, ["a/2.txt", "b/3.txt"]),
        ({"modified_before": MONDAY + timedelta(days=1)}, ["a/1.png"]),
        ({"modified_after": datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))}, []),
        ({"modified_before": datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))}, []),
    ],
)
def test_filters_say_what_is_found_with_words_and_without(files, mixed, asked, expected):
    pages = [
        files.search_objects(query, order=order, **asked)
        for query in (None, "1 or 2 or 3", "txt or png")
        for order in ("relevance", "last_modified")
    ]

    assert [sorted(keys(page)) for page in pages] == [expected] * 6


def test_a_handle_for_a_bucket_finds_in_that_alone(files, mixed):
    assert keys(files.bucket("plain").search_objects(None)) == ["b/3.txt"]
    assert keys(files.bucket("plain").search_objects(None, bucket="plain")) == ["b/3.txt"]
    with pytest.raises(InvalidArgument, match="bucket plain"):
        files.bucket("plain").search_objects(None, bucket="docs")


def test_without_words_the_newest_is_first(files, mixed):
    assert keys(files.search_objects(None)) == ["b/3.txt", "a/2.txt", "a/1.png"]


def test_objects_come_with_their_bucket(files, mixed, django_assert_num_queries):
    page = files.search_objects(None)

    with django_assert_num_queries(0):
        assert [head.bucket.name for head in page.objects] == ["plain", "docs", "docs"]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"query": 7}, InvalidArgument),
        ({"bucket": "no-such"}, NoSuchBucket),
        ({"bucket": 7}, InvalidArgument),
        ({"bucket": "\x00"}, StorageError),
        ({"prefix": 7}, InvalidArgument),
        ({"prefix": "\ud800"}, InvalidArgument),
        ({"metadata": ["a"]}, InvalidMetadata),
        ({"metadata": {"a": "\x00"}}, InvalidMetadata),
        ({"metadata": {"a": float("nan")}}, InvalidMetadata),
        ({"tags": {"": "a"}}, InvalidTag),
        ({"tags": 7}, InvalidTag),
        ({"content_type": "\x00"}, InvalidArgument),
        ({"content_type": 7}, InvalidArgument),
        ({"min_size": -1}, InvalidArgument),
        ({"min_size": True}, InvalidArgument),
        ({"max_size": 2**63}, InvalidArgument),
        ({"max_size": 1.5}, InvalidArgument),
        ({"modified_after": MONDAY.replace(tzinfo=None)}, InvalidArgument),
        ({"modified_before": "2026-03-02"}, InvalidArgument),
        ({"modified_before": MONDAY.date()}, InvalidArgument),
        ({"order": "size"}, InvalidArgument),
        ({"order": None}, InvalidArgument),
        ({"limit": 0}, InvalidArgument),
        ({"limit": 1001}, InvalidArgument),
        ({"limit": True}, InvalidArgument),
        ({"limit": "5"}, InvalidArgument),
        ({"continuation_token": "garbage"}, InvalidArgument),
        ({"continuation_token": 7}, InvalidArgument),
        ({"continuation_token": "\ud800"}, InvalidArgument),
    ],
)
def test_arguments_that_no_search_takes_are_refused(files, mixed, asked, error):
    with pytest.raises(error):
        files.search_objects(**{"query": None, **asked})
    assert len(files.search_objects(None).objects) == 3


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.text(st.characters(), max_size=20),
    st.binary(max_size=5), st.datetimes(), st.datetimes(timezones=st.timezones() | st.just(UTC)), st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(st.characters(), max_size=5), st.text(st.characters()) | st.floats()),
)  # fmt: skip
ASKED = ("query", "bucket", "prefix", "metadata", "tags", "content_type", "min_size", "max_size", "modified_after",
         "modified_before", "order", "limit", "continuation_token", "prefix_match")  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(ASKED), ANYTHING, min_size=1, max_size=3))
def test_no_argument_raises_an_untyped_error(files, asked):
    with suppress(StorageError):
        files.search_objects(**{"query": "a", **asked})
    with connection.cursor() as cursor:  # and the transaction goes on
        cursor.execute("SELECT 1")


# --- the access log


def test_a_search_is_recorded_only_where_all_reads_are(files, put):
    put("a")
    files.search_objects("a")
    assert not StorageAudit.objects.exists()

    Bucket.objects.update(audit_reads=Bucket.AuditReads.ALL)
    files.search_objects("a\x00", prefix="")
    files.search_objects(None, bucket="docs", prefix="b")

    rows = list(StorageAudit.objects.order_by("id"))
    assert [(row.action, row.record_type, row.bucket, row.object_key) for row in rows] == [
        ("s3:Search", "READ", "", ""),
        ("s3:Search", "READ", "docs", "b"),
    ]
    assert [row.metadata for row in rows] == [{"query": "a ", "found": 1}, {"query": None, "found": 0}]


# --- where the words stand


def shown(pieces):
    return "".join(f"[{piece.text}]" if piece.hit else piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("2026/Invoice-7.pdf", "invoice", "2026/[Invoice]-7.pdf"),
        ("invoice-7 invoice 8", "invoice-7", "[invoice]-[7] invoice 8"),
        ("a b a", "a -b", "[a] b [a]"),
        ("cafe\u0301 CAF\u00c9", "caf\u00e9", "[cafe\u0301] [CAF\u00c9]"),
        ("ﬁle", "file", "[ﬁle]"),
        ("<b>x</b>", "b", "<[b]>x</[b]>"),
        ("a", None, "a"),
        ("a", "-a", "a"),
        ("", "a", ""),
    ],
)
def test_hits_are_pieces_of_the_text(text, query, expected):
    pieces = headline(text, query)

    assert shown(pieces) == expected
    assert "".join(piece.text for piece in pieces) == text


def test_the_beginning_of_a_word_marks_the_whole_word():
    assert shown(headline("reports/2026", "repo", prefix_match=True)) == "[reports]/2026"


def test_of_a_long_text_the_surroundings_of_the_first_hit_are_kept():
    text = "x" * 100 + " needle " + "y" * 100 + " needle"

    assert shown(headline(text, "needle", around=5)) == "…xxxx [needle] yyyy…"
    assert shown(headline(text, "missing", around=5)) == "xxxxx…"
    assert headline("needle", "needle", around=0) == [Piece("needle", hit=True)]


def test_values_with_hits_are_named_by_their_way(put):
    head = put("a/b", content_type="text/scan", metadata={"scan": "no", "deep": [{"er": "a scan"}], "n": 7})

    assert [(one.name, shown(one.pieces)) for one in found_in(head, "scan 7")] == [
        ("content_type", "text/[scan]"),
        ("deep.0.er", "a [scan]"),
        ("n", "[7]"),
    ]


@given(text=st.text(max_size=80), query=st.text(max_size=20), prefix_match=st.booleans())
def test_pieces_are_always_the_text(text, query, prefix_match):
    pieces = headline(text, query, prefix_match=prefix_match)

    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)
    headline(text, query, around=3)
