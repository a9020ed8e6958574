"""Garbage of every kind in every argument of every public call: a StorageError leaves, or a result, and nothing else."""

from __future__ import annotations

import inspect
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage_meta import handle
from storage_meta.errors import StorageError
from storage_meta.models import Bucket, StorageObject
from storage_meta.reading import StoredFile

pytestmark = pytest.mark.django_db

TEXTS = [
    "", " ", "a", "a/b", "/", "//", "..", "a\x00b", "\udcff", "é" * 513, "x" * 1025, "\U0010ffff", "%", "_", "'", "\\", "*",
    "null", "0" * 32, "f" * 32, "-", "|", '"', "a & !b", "(((", ":*", "\n", "‮", "x" * 100_000, "bytes=0-", "bytes=-0",
    "bytes=9-1", "bytes=0-1,3-4", "relevance", "last_modified", "s3:PutObject", "CREATE",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2**31, 2**63, -(2**63), 10**30, True, False, 1.5, float("nan"), float("inf"), Decimal("1e5")]
TIMES = [
    datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1), datetime.min, datetime.max.replace(tzinfo=UTC),  # noqa: DTZ001, DTZ901
    date(2026, 1, 1), timedelta(days=1),
]  # fmt: skip
DEEP: dict = {}
for _ in range(200):
    DEEP = {"a": DEEP}
THINGS = [
    None, b"", b"bytes", bytearray(b"b"), BytesIO(b"file"), [], [None], ["a"], (), {}, {"a": "b"}, {"a": 1}, {1: 2}, {"": ""},
    {"a": float("nan")}, {"a\x00": "b"}, {"a": "\udcff"}, {"a": object()}, {"a": {1, 2}}, {"a": "x" * 70_000}, DEEP,
    {str(n): "x" for n in range(20)}, object(), object, len, iter([b"a", "b"]), iter([]), [{"key": "a"}], [{"key": None}], [{}],
    [{"key": "a", "size": "b"}], [{"key": "a", "nonsense": 1}], UUID(int=0), range(3), ..., {"x" * 200: "y"}, {"a": "y" * 300},
]  # fmt: skip
GARBAGE = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.sampled_from(TIMES), st.sampled_from(THINGS), st.text(max_size=20),
    st.binary(max_size=20), st.integers(), st.floats(), st.datetimes(timezones=st.just(UTC)),
    st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text(max_size=5) | st.floats(), st.lists, max_leaves=5)),
)  # fmt: skip

CALLS = {
    name: inspect.signature(call)
    for name, call in inspect.getmembers(handle.Files, inspect.isfunction)
    if not name.startswith("_") and name != "bucket"
}
LOGGED = {
    "log_audit": [
        "action",
        "object_key",
        "user_id",
        "username",
        "version_id",
        "ip_address",
        "success",
        "metadata",
        "created_at",
    ],
    "get_audit_logs": ["object_key", "user_id", "action", "start_date", "end_date", "limit", "continuation_token"],
    "log_hook_execution": [
        "hook_name",
        "event_type",
        "object_key",
        "execution_time",
        "success",
        "response",
        "payload",
        "created_at",
    ],
    "record_version": ["object_key", "version_id", "size", "etag", "is_latest", "created_by", "comment", "tags"],
}
"""Arguments of the calls whose signature takes any."""

LIKELY = {
    "key": "a", "new_key": "b", "object_key": "a", "version_id": "null", "prefix": "a", "bucket": "docs", "query": "a", "size": 1,
    "tags": {"a": "b"}, "on": True, "keys": ["a"], "rows": [{"key": "a"}], "action": "s3:Seen", "hook_name": "hook", "etag": "0",
    "event_type": "s3:Seen", "success": True, "execution_time": 0.1, "until": None, "body": b"a", "content_type": "text/plain",
}  # fmt: skip


def names_of(name):
    given = [one for one in CALLS[name].parameters if one not in ("self", "fields", "filters", "content")]
    return list(dict.fromkeys(given + LOGGED.get(name, [])))


def required(name):
    return [
        one.name
        for one in CALLS[name].parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self"
    ] + (["hook_name", "event_type", "object_key", "success"] if name == "log_hook_execution" else [])


@pytest.fixture
def acme_docs(docs):
    docs.put_object("a", b"bytes", metadata={"a": "b"}, tags={"a": "b"})
    return docs


def call(files, name, arguments):
    """Do it, and read all of what it gives; what is refused is a StorageError."""
    with suppress(StorageError):
        found = getattr(files, name)(**arguments)
        if isinstance(found, StoredFile):
            with found as stored:
                b"".join(stored)
    with connection.cursor() as cursor:  # the transaction goes on
        cursor.execute("SELECT 1")


FUZZED = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.parametrize("name", CALLS)
@FUZZED
@given(data=st.data())
def test_of_garbage_in_any_argument_a_storage_error_leaves(acme_docs, tmp_path, name, data):
    picked = data.draw(st.sets(st.sampled_from(names_of(name)), min_size=1)) if names_of(name) else set()
    arguments = {one: LIKELY.get(one) for one in required(name)} | {one: data.draw(GARBAGE) for one in picked}
    for path in ("file_path", "output_path"):
        if isinstance(arguments.get(path), str | bytes):
            arguments.pop(path) if path == "output_path" else arguments.update({path: tmp_path / "none"})

    call(acme_docs, name, arguments)


@pytest.mark.parametrize("name", CALLS)
def test_every_piece_of_garbage_in_every_single_argument(acme_docs, tmp_path, name):
    for one in names_of(name):
        if one in ("file_path", "output_path"):
            continue
        for piece in [*TEXTS, *NUMBERS, *TIMES, *THINGS]:
            arguments = {known: LIKELY.get(known) for known in required(name)} | {one: piece}
            if "file_path" in arguments:
                arguments["file_path"] = __file__
            call(acme_docs, name, arguments)


BUCKETS = ["", "docs\n", "DOCS", "a\x00b", "\udcff", "x" * 1000, 7, b"docs", object(), None, ["docs"]]


@pytest.mark.parametrize("name", CALLS)
def test_a_bucket_that_none_is_called_so_is_a_storage_error(acme, name):
    Bucket.objects.create(tenant=acme, name="docs")
    arguments = {one: LIKELY.get(one) for one in required(name)}
    if name == "upload_document":
        arguments["file_path"] = __file__

    for bucket in BUCKETS:
        call(StorageObject.objects.for_tenant(acme).bucket(bucket), name, arguments)


@pytest.mark.parametrize("key", ["a\x00b", "\udcff", "", "x" * 1025, "é" * 513, None, 7, b"a", ["a"], object()])
def test_a_key_that_is_none_is_refused_before_a_byte_is_stored(acme_docs, key):
    for name in ("put_object", "head_object", "get_object", "delete_object", "restore_object", "list_versions"):
        with pytest.raises(StorageError):
            getattr(acme_docs, name)(key)
