"""Puts that want something of what is there: of n rivals with one condition one wins."""

from __future__ import annotations

import pytest

from storage_meta.errors import InvalidArgument, NoSuchKey, PreconditionFailed
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageObject, StorageVersion
from storage_meta.results import PutResult
from tests.races import behind, together


@pytest.mark.django_db
def test_if_none_match_wants_no_live_object(docs):
    docs.put_object("a.txt", if_none_match="*")

    with pytest.raises(PreconditionFailed, match="already") as caught:
        docs.put_object("a.txt", if_none_match="*")

    assert (caught.value.code, caught.value.http_status) == ("precondition_failed", 412)
    docs.delete_object("a.txt")
    assert docs.put_object("a.txt", if_none_match="*").seq == 3


@pytest.mark.django_db
@pytest.mark.parametrize("etag", ["e1", '"e1"'])
def test_if_match_wants_this_etag(docs, etag):
    docs.put_object("a.txt", etag="e1")

    put = docs.put_object("a.txt", etag="e2", if_match=etag)

    assert put.seq == 2
    with pytest.raises(PreconditionFailed):
        docs.put_object("a.txt", if_match=etag)
    assert docs.head_object("a.txt").etag == "e2"


@pytest.mark.django_db
def test_if_match_of_nothing_finds_no_key(docs):
    with pytest.raises(NoSuchKey):
        docs.put_object("a.txt", if_match="e1")
    docs.put_object("a.txt", etag="e1")
    docs.delete_object("a.txt")
    with pytest.raises(NoSuchKey):
        docs.put_object("a.txt", if_match="e1")


@pytest.mark.django_db
@pytest.mark.parametrize("condition", [{"if_none_match": "*"}, {"if_match": "other"}])
def test_a_condition_that_does_not_hold_is_told_before_a_byte_is_read(docs, condition):
    docs.put_object("a.txt", etag="e1")

    def body():
        raise AssertionError("read")
        yield b""

    with pytest.raises(PreconditionFailed):
        docs.put_object("a.txt", body(), **condition)

    assert not PendingBlob.objects.exists()
    row = StorageAudit.objects.get(success=False)
    assert (row.action, row.object_key, row.error_code) == ("s3:PutObject", "a.txt", "precondition_failed")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "condition",
    [
        {"if_none_match": "e1"},
        {"if_none_match": ""},
        {"if_none_match": 7},
        {"if_match": ""},
        {"if_match": '""'},
        {"if_match": 7},
        {"if_match": "\0"},
        {"if_match": "e" * 256},
    ],
)
def test_a_condition_that_is_none_is_refused(docs, condition):
    with pytest.raises(InvalidArgument, match="if_"):
        docs.put_object("a.txt", **condition)


@pytest.fixture
def shared(docs):
    """The same bucket, in tests whose transactions others see."""
    return docs


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("versioning", ["enabled", "suspended", "unversioned"])
def test_of_rivals_that_want_no_object_one_wins(docs, plain, versioning):
    bucket = plain if versioning == "unversioned" else docs
    Bucket.objects.filter(name=bucket.bucket_name).update(versioning=versioning)

    done = together(*(lambda n=n: bucket.put_object("a.txt", etag=f"e{n}", if_none_match="*") for n in range(6)))

    [won] = [one for one in done if isinstance(one, PutResult)]
    assert [type(one) for one in done if one is not won] == [PreconditionFailed] * 5
    assert bucket.head_object("a.txt").etag == won.etag
    assert StorageVersion.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_rivals_that_want_one_etag_one_wins(docs):
    docs.put_object("a.txt", etag="before")

    done = together(*(lambda n=n: docs.put_object("a.txt", etag=f"e{n}", if_match="before") for n in range(6)))

    [won] = [one for one in done if isinstance(one, PutResult)]
    assert [type(one) for one in done if one is not won] == [PreconditionFailed] * 5
    assert docs.head_object("a.txt").etag == won.etag
    assert StorageVersion.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("condition", [{"if_none_match": "*"}, {"if_match": "e1"}])
def test_a_condition_is_asked_again_under_the_lock(docs, other_connection, condition):
    if "if_match" in condition:
        docs.put_object("a.txt", etag="e1")

    ended = behind(
        lambda: docs.put_object("a.txt", etag="rival"),
        lambda: docs.put_object("a.txt", b"bytes", **condition),
        other_connection,
    )

    assert isinstance(ended, PreconditionFailed)
    assert docs.head_object("a.txt").etag == "rival"
    assert not PendingBlob.objects.filter(reason="upload").exists()


@pytest.mark.django_db(transaction=True)
def test_a_key_that_goes_while_its_etag_is_wanted_is_no_key(plain, other_connection):
    plain.put_object("a.txt", etag="e1")

    ended = behind(
        lambda: plain.delete_object("a.txt"),
        lambda: plain.put_object("a.txt", if_match="e1"),
        other_connection,
    )

    assert isinstance(ended, NoSuchKey)
    assert not StorageObject.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_put_that_waited_for_a_key_to_go_comes_after_it_in_change_seq(plain, other_connection):
    plain.put_object("a.txt")

    put = behind(
        lambda: plain.delete_object("a.txt"),
        lambda: plain.put_object("a.txt", etag="new"),
        other_connection,
    )

    assert put.seq == 1
    gone = StorageAudit.objects.get(action="s3:DeleteObject")
    assert put.object.sequencer > gone.sequencer
    assert plain.head_object("a.txt").sequencer == put.object.sequencer
