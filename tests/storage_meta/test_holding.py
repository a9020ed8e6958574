"""Tags, legal holds and retention: what may change of a version, and what then cannot be done to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from controlplane.core.ids import now
from storage_meta.errors import InvalidArgument, InvalidTag, MethodNotAllowed, NoSuchKey, NoSuchVersion, ObjectLocked
from storage_meta.models import Bucket, StorageAudit, StorageEvent, StorageObject, StorageVersion
from tests.factories import StorageHookFactory

pytestmark = pytest.mark.django_db

SOON = now() + timedelta(days=2)
LATER = now() + timedelta(days=9)


# --- tags


def test_tags_of_the_current_version_are_those_of_the_head(docs):
    first = docs.put_object("a.txt", tags={"old": "1"})

    tagged = docs.put_object_tagging("a.txt", {"new": "2"})

    assert tagged.tags == {"new": "2"}
    assert docs.head_object("a.txt").tags == docs.head_object("a.txt", first.version_id).tags == {"new": "2"}


def test_tags_of_an_older_version_are_its_own(docs):
    first = docs.put_object("a.txt")
    docs.put_object("a.txt", tags={"new": "2"})

    docs.put_object_tagging("a.txt", {"old": "1"}, first.version_id)

    assert docs.head_object("a.txt", first.version_id).tags == {"old": "1"}
    assert docs.head_object("a.txt").tags == {"new": "2"}
    docs.put_object_tagging("a.txt", {}, first.version_id)
    assert docs.head_object("a.txt", first.version_id).tags == {}


def test_tags_are_in_the_access_log_and_told_to_hooks(docs, acme):
    StorageHookFactory(tenant=acme, event_types=["s3:ObjectTagging:*"])
    put = docs.put_object("a.txt")

    docs.put_object_tagging("a.txt", {"a": "1"})

    row = StorageAudit.objects.get(action="s3:PutObjectTagging")
    assert (row.record_type, row.version_id, row.metadata) == ("UPDATE_METADATA", put.version_id, {"tags": {"a": "1"}})
    assert row.sequencer == docs.head_object("a.txt").sequencer > put.object.sequencer
    assert StorageEvent.objects.get().event_type == "s3:ObjectTagging:Put"


def test_what_cannot_be_tagged_or_held_says_why(docs):
    docs.put_object("a.txt")
    marker = docs.delete_object("deleted.txt")

    for call in (
        lambda *version: docs.put_object_tagging(version[0], {}, *version[1:]),
        lambda *version: docs.put_object_legal_hold(version[0], True, *version[1:]),
        lambda *version: docs.put_object_retention(version[0], SOON, *version[1:]),
    ):
        with pytest.raises(NoSuchKey):
            call("never.txt")
        with pytest.raises(NoSuchKey) as caught:
            call("deleted.txt")
        assert caught.value.delete_marker
        with pytest.raises(MethodNotAllowed):
            call("deleted.txt", marker.version_id)
        with pytest.raises(NoSuchVersion):
            call("a.txt", "unknown")
    with pytest.raises(InvalidTag):
        docs.put_object_tagging("a.txt", {"a": 1})
    assert not StorageVersion.objects.exclude(tags={}, legal_hold=False, retain_until=None).exists()


# --- holds


HOLDS = {
    "hold": lambda files: files.put_object_legal_hold("a.txt", True),
    "retention": lambda files: files.put_object_retention("a.txt", SOON),
}


@pytest.mark.parametrize("hold", HOLDS)
def test_a_held_version_is_neither_deleted_nor_replaced(docs, plain, hold):
    for files in (docs, plain):
        put = files.put_object("a.txt", etag="held")
        HOLDS[hold](files)

        with pytest.raises(ObjectLocked) as caught:
            files.delete_object("a.txt", put.version_id)
        assert (caught.value.code, caught.value.http_status) == ("object_locked", 403)
        assert put.version_id in caught.value.message

    for call in (
        lambda: plain.put_object("a.txt"),
        lambda: plain.delete_object("a.txt"),
        lambda: plain.restore_object("a.txt", "null"),
        lambda: plain.record_version("a.txt", "other"),
    ):
        with pytest.raises(ObjectLocked):
            call()
    assert plain.head_object("a.txt").etag == "held"


@pytest.mark.parametrize("hold", HOLDS)
def test_markers_and_newer_versions_lie_on_a_held_version(docs, hold):
    put = docs.put_object("a.txt", etag="held")
    HOLDS[hold](docs)

    docs.put_object("a.txt", etag="newer")
    docs.delete_object("a.txt")

    assert docs.head_object("a.txt", put.version_id).etag == "held"
    assert docs.restore_object("a.txt").etag == "newer"


def test_a_hold_that_is_taken_back_lets_the_version_go(docs):
    put = docs.put_object("a.txt")
    docs.put_object_legal_hold("a.txt", True, reason="a case")
    docs.put_object_legal_hold("a.txt", False, reason="it is over")

    docs.delete_object("a.txt", put.version_id)

    rows = StorageAudit.objects.filter(action="s3:PutObjectLegalHold").order_by("id")
    assert [row.metadata for row in rows] == [
        {"legal_hold": True, "reason": "a case"},
        {"legal_hold": False, "reason": "it is over"},
    ]


@pytest.mark.parametrize("on", [1, 0, None, "yes", []])
def test_a_hold_is_on_or_off(docs, on):
    docs.put_object("a.txt")

    with pytest.raises(InvalidArgument, match="on is"):
        docs.put_object_legal_hold("a.txt", on)


def test_a_reason_is_text(docs):
    docs.put_object("a.txt")

    for reason in (None, 7, "\0", "r" * 1025):
        with pytest.raises(InvalidArgument, match="reason"):
            docs.put_object_legal_hold("a.txt", True, reason=reason)
        with pytest.raises(InvalidArgument, match="reason"):
            docs.put_object_retention("a.txt", SOON, reason=reason)


# --- retention


def test_a_retention_is_made_longer_freely_and_shorter_with_bypass_and_a_reason(docs):
    docs.put_object("a.txt")
    docs.put_object_retention("a.txt", SOON)
    docs.put_object_retention("a.txt", LATER)

    for until in (SOON, None):
        for said in (
            {},
            {"bypass": True},
            {"bypass": True, "reason": " "},
            {"reason": "because"},
            {"bypass": 1, "reason": "b"},
        ):
            with pytest.raises(ObjectLocked, match="bypass"):
                docs.put_object_retention("a.txt", until, **said)
    assert docs.put_object_retention("a.txt", LATER).retain_until == LATER

    assert docs.put_object_retention("a.txt", SOON, bypass=True, reason="a mistake").retain_until == SOON
    assert docs.put_object_retention("a.txt", None, bypass=True, reason="a mistake").retain_until is None
    row = StorageAudit.objects.filter(action="s3:PutObjectRetention", success=True).order_by("id").last()
    assert row.metadata["bypass"] is True
    assert row.metadata["reason"] == "a mistake"
    assert row.metadata["retain_until"] is None


def test_a_retention_that_is_over_is_changed_freely(docs):
    put = docs.put_object("a.txt")
    StorageVersion.objects.update(retain_until=now() - timedelta(days=1))

    assert docs.put_object_retention("a.txt", None).retain_until is None
    docs.delete_object("a.txt", put.version_id)


@pytest.mark.parametrize(
    "until",
    [
        datetime(2027, 1, 1),  # noqa: DTZ001
        now() - timedelta(seconds=1),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        "2030-01-01",
        7,
        SOON.date(),
    ],
)
def test_until_is_an_aware_instant_to_come(docs, until):
    docs.put_object("a.txt")

    with pytest.raises(InvalidArgument, match="until"):
        docs.put_object_retention("a.txt", until)


def test_until_may_be_of_any_zone(docs):
    docs.put_object("a.txt")

    docs.put_object_retention("a.txt", datetime.max.replace(tzinfo=timezone(timedelta(hours=5))))
    docs.put_object_retention("a.txt", datetime.max.replace(tzinfo=UTC))

    assert StorageVersion.objects.get().retain_until.year == 9999


def test_a_bucket_retains_what_is_put(docs, plain):
    Bucket.objects.update(default_retain_days=3)
    put = docs.put_object("a.txt")
    marker = docs.delete_object("a.txt")
    plain.put_object("a.txt")

    with pytest.raises(ObjectLocked):
        docs.delete_object("a.txt", put.version_id)
    with pytest.raises(ObjectLocked):
        plain.put_object("a.txt")
    version = StorageVersion.objects.get(pk=put.object.current_version_id)
    assert timedelta(days=2) < version.retain_until - now() < timedelta(days=4)
    assert docs.delete_object("a.txt", marker.version_id).existed
    assert StorageObject.objects.live().count() == 2
