from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import connection, transaction

from storage_meta import outbox
from storage_meta.models import StorageEvent, StorageHook
from tests.factories import BucketFactory, StorageHookFactory
from tests.races import behind
from tests.wire import wire


def of(tenant):
    """All that the outbox asks of a handle."""
    return SimpleNamespace(tenant_id=tenant.pk)


def change(bucket, key, **fields):
    return {
        "bucket_id": bucket.pk,
        "bucket": bucket.name,
        "object_key": key,
        "version_id": "00" * 16,
        "sequencer": "0005a1b2c3d4e5f6",
        "size": 3,
        "etag": "acbd18db4cc2f85cedef654fccc4a4d8",
        "content_type": "text/plain",
        **fields,
    }


def put(tenant, event_type, *changes):
    with transaction.atomic(), connection.cursor() as cursor:
        return outbox.put(cursor, of(tenant), event_type, list(changes))


def told(hook):
    return sorted(StorageEvent.objects.filter(hook=hook).values_list("object_key", flat=True))


@pytest.fixture
def acme_bucket(acme):
    return BucketFactory(tenant=acme, name="docs")


def test_an_event_says_what_happened_to_what(acme, acme_bucket):
    hook = StorageHookFactory(tenant=acme)

    assert put(acme, "s3:ObjectCreated:Put", change(acme_bucket, "a/é.txt")) == 1

    event = StorageEvent.objects.get(hook=hook)
    assert (event.tenant_id, event.state, event.attempts, event.leased_until) == (acme.pk, "pending", 0, None)
    assert (event.event_type, event.object_key, event.version_id) == ("s3:ObjectCreated:Put", "a/é.txt", "00" * 16)
    assert event.sequencer == "0005a1b2c3d4e5f6"
    assert event.id.version == 7
    assert set(event.payload) == {"type", "timestamp", "data"}
    assert event.payload["type"] == "s3:ObjectCreated:Put"
    assert event.payload["data"] == {
        "tenant": str(acme.pk),
        "bucket": "docs",
        "object_key": "a/é.txt",
        "version_id": "00" * 16,
        "sequencer": "0005a1b2c3d4e5f6",
        "size": 3,
        "etag": "acbd18db4cc2f85cedef654fccc4a4d8",
        "content_type": "text/plain",
    }


@pytest.mark.parametrize(
    ("wanted", "happened", "matches"),
    [
        (["s3:*"], "s3:ObjectCreated:Put", True),
        (["*"], "s3:ObjectCreated:Put", True),
        (["s3:ObjectCreated:*"], "s3:ObjectCreated:Copy", True),
        (["s3:ObjectCreated:*"], "s3:ObjectRemoved:Delete", False),
        (["s3:ObjectRemoved:Delete"], "s3:ObjectRemoved:Delete", True),
        (["s3:ObjectRemoved:Delete*"], "s3:ObjectRemoved:DeleteMarkerCreated", True),
        (["s3:ObjectRemoved:Delete"], "s3:ObjectRemoved:DeleteMarkerCreated", False),
        (["s3:ObjectTagging:Put", "s3:ObjectRemoved:*"], "s3:ObjectRemoved:Delete", True),
        (["s3:%"], "s3:ObjectCreated:Put", False),
        ([], "s3:ObjectCreated:Put", False),
    ],
)
def test_a_hook_is_told_of_the_types_it_asked_for(acme, acme_bucket, wanted, happened, matches):
    StorageHookFactory(tenant=acme, event_types=wanted)

    assert put(acme, happened, change(acme_bucket, "a")) == matches


@pytest.mark.parametrize(
    ("prefix", "suffix", "keys"),
    [
        ("", "", ["A/x.pdf", "a%b.PDF", "a/x.pdf", "a/x.txt", "axb.PDF", "é.pdf"]),
        ("a/", "", ["a/x.pdf", "a/x.txt"]),
        ("", ".pdf", ["A/x.pdf", "a/x.pdf", "é.pdf"]),
        ("a/", ".pdf", ["a/x.pdf"]),
        ("a%", "", ["a%b.PDF"]),
        ("é", "", ["é.pdf"]),
        ("a/x.pdf/longer", "", []),
        ("", "longer/than/any/a/x.pdf", []),
    ],
)
def test_prefix_and_suffix_are_compared_to_the_letter(acme, acme_bucket, prefix, suffix, keys):
    hook = StorageHookFactory(tenant=acme, prefix=prefix, suffix=suffix)

    every = ["a/x.pdf", "a/x.txt", "A/x.pdf", "a%b.PDF", "axb.PDF", "é.pdf"]
    put(acme, "s3:ObjectCreated:Put", *(change(acme_bucket, key) for key in every))

    assert told(hook) == keys


def test_a_hook_of_a_bucket_is_told_of_that_bucket_alone(acme, acme_bucket):
    other = BucketFactory(tenant=acme, name="other")
    of_all, of_docs = StorageHookFactory(tenant=acme), StorageHookFactory(tenant=acme, bucket=acme_bucket)

    assert put(acme, "s3:ObjectCreated:Put", change(acme_bucket, "a"), change(other, "b")) == 3

    assert told(of_all) == ["a", "b"]
    assert told(of_docs) == ["a"]


def test_another_tenants_hooks_and_disabled_ones_are_told_nothing(acme, globex, acme_bucket):
    StorageHookFactory(tenant=globex)
    StorageHookFactory(tenant=acme, enabled=False)

    assert put(acme, "s3:ObjectCreated:Put", change(acme_bucket, "a")) == 0


def test_no_changes_ask_nothing(acme, django_assert_num_queries):
    with django_assert_num_queries(0), connection.cursor() as cursor:
        assert outbox.put(cursor, of(acme), "s3:ObjectCreated:Put", []) == 0


def test_all_hooks_and_changes_are_one_round_trip(acme, acme_bucket):
    StorageHookFactory.create_batch(3, tenant=acme)

    with connection.cursor() as cursor, wire(connection) as traced:
        assert (
            outbox.put(cursor, of(acme), "s3:ObjectCreated:Put", [change(acme_bucket, f"{n}") for n in range(50)])
            == 150
        )

    assert traced.trips == 1


def test_events_go_with_the_change_that_is_taken_back(acme, acme_bucket):
    StorageHookFactory(tenant=acme)

    with transaction.atomic():
        put(acme, "s3:ObjectCreated:Put", change(acme_bucket, "a"))
        transaction.set_rollback(True)

    assert not StorageEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_hook_that_is_removed_at_this_moment_does_not_fail_the_change(acme, other_connection):
    bucket = BucketFactory(tenant=acme, name="docs")
    going, staying = StorageHookFactory(tenant=acme), StorageHookFactory(tenant=acme)

    made = behind(
        lambda: StorageHook.objects.filter(pk=going.pk).delete(),
        lambda: put(acme, "s3:ObjectCreated:Put", change(bucket, "a")),
        other_connection,
    )

    assert made == 1
    assert told(staying) == ["a"]
