from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection

from storage_meta import parts
from storage_meta.errors import InvalidArgument
from storage_meta.models import StorageObject
from tests.factories import BucketFactory, StorageObjectFactory


@pytest.fixture
def files(acme):
    room = BucketFactory(tenant=acme, name="docs")
    for key in ("reports/quarterly.pdf", "reports/100%_sure.pdf", "reports/100-sure.pdf", "back\\slash", "café.txt"):
        StorageObjectFactory(bucket=room, object_key=key, content_type="")
    return StorageObject.objects.for_tenant(acme)


@pytest.fixture
def indexed(settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STORAGE_TRIGRAM": True}


def keys(files, part, query=None):
    return sorted(head.object_key for head in files.search_objects(query, part=part).objects)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("arterl", ["reports/quarterly.pdf"]),
        ("100%_", ["reports/100%_sure.pdf"]),
        ("k\\s", ["back\\slash"]),
        ("afé", ["café.txt"]),
        ("ARTERL", []),
        ("%%%", []),
    ],
)
def test_any_part_of_a_key_is_found_byte_for_byte(files, indexed, part, expected):
    assert keys(files, part) == expected


def test_a_part_and_words_must_both_hold(files, indexed):
    assert keys(files, "00-s", "reports") == ["reports/100-sure.pdf"]
    assert keys(files, "00-s", "quarterly") == []


@pytest.mark.parametrize("part", ["ab", "", 7, "a\x00b", "\ud800ab"])
def test_what_is_no_part_is_refused(files, indexed, part):
    with pytest.raises(InvalidArgument, match="part"):
        keys(files, part)


def test_without_the_setting_parts_are_refused(files):
    with pytest.raises(InvalidArgument, match="STORAGE_TRIGRAM"):
        keys(files, "arterl")


@pytest.mark.django_db(transaction=True)
def test_the_index_comes_and_goes_with_the_setting(settings, capsys):
    def there():
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_indexes WHERE indexname = %s", [parts.INDEX])
            return cursor.fetchone()[0] == 1

    before = settings.CONTROLPLANE
    outcomes = []
    try:
        for wanted in (False, True, True, False):
            settings.CONTROLPLANE = {**before, "STORAGE_TRIGRAM": wanted}
            call_command("storage_index")
            outcomes.append((capsys.readouterr().out.split()[0], there()))
    finally:
        settings.CONTROLPLANE = before
        call_command("storage_index")

    assert outcomes == [("The", False), ("Made", True), ("The", True), ("Removed", False)]
