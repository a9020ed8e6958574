"""Lists beside those of moto's S3 and of a plain model, over awkward keys and random questions."""

from __future__ import annotations

from random import Random

import pytest

from storage_meta.models import Bucket, StorageObject
from tests.factories import StorageObjectFactory
from tests.storage_meta.keyspace import KEYS, entries, moto_takes, pages, question
from tests.storage_meta.moto_s3 import s3_in_memory, s3_pages


@pytest.fixture
def shelf(acme):
    """Acme's bucket of awkward keys; a bucket of the same name and one beside it hold others."""
    bucket = Bucket.objects.create(tenant=acme, name="docs", versioning=Bucket.Versioning.ENABLED)
    for key in KEYS:
        StorageObjectFactory(bucket=bucket, object_key=key)
    StorageObjectFactory(bucket__name="docs", object_key="a/theirs")
    StorageObjectFactory(bucket__tenant=acme, bucket__name="other", object_key="a/other")
    StorageObjectFactory(bucket=bucket, object_key="a/gone", is_delete_marker=True, size=0)
    StorageObjectFactory(bucket=bucket, object_key="gone/x", is_delete_marker=True, size=0)
    return StorageObject.objects.for_tenant(acme).bucket("docs")


@pytest.fixture
def s3():
    with s3_in_memory() as client:
        yield client


@pytest.mark.django_db
@pytest.mark.parametrize("questions", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_pages_of_awkward_keys_are_those_of_moto(shelf, s3, questions):
    for key in KEYS:
        s3.put_object(Bucket="docs", Key=key, Body=b"abc")
    random = Random(questions)  # noqa: S311  the same questions every time

    compared = 0
    while compared < questions:
        asked = question(random)
        if moto_takes(asked[0], asked[1], asked[3]):
            assert pages(shelf, *asked) == s3_pages(s3, *asked), asked
            compared += 1


@pytest.mark.django_db
@pytest.mark.parametrize("questions", [250, pytest.param(2000, marks=pytest.mark.slow)])
def test_pages_of_awkward_keys_are_those_of_the_rules(shelf, questions):
    random = Random(8)  # noqa: S311

    for _ in range(questions):
        prefix, delimiter, max_keys, start_after = asked = question(random)
        expected = entries(KEYS, prefix, delimiter, start_after)
        walked = pages(shelf, *asked)
        assert [key for keys, _, _ in walked for key in keys] == [one for one in expected if isinstance(one, str)], (
            asked
        )
        assert [(key,) for _, keys, _ in walked for key in keys] == [
            one for one in expected if not isinstance(one, str)
        ]
        assert len(walked) == max(1, -(-len(expected) // max_keys)), asked
        assert all(len(keys) + len(groups) == max_keys for keys, groups, more in walked if more)
