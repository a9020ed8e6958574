"""The pages about storage, done as they say, from the first to the last."""

from __future__ import annotations

import re

import pytest

from storage_meta import errors
from tests.test_five_minutes import ROOT, Reader, blocks

PAGES = ["storage.md", "storage-search.md", "storage-hooks.md", "storage-operations.md", "storage-seed.md"]


@pytest.mark.django_db(transaction=True)
def test_what_the_pages_show_is_what_happens(acme, monkeypatch):
    reader = Reader(monkeypatch)
    reader.names["acme"] = acme

    for page in PAGES:
        for language, text in blocks(f"docs/{page}"):
            {"sh": reader.commands, "python": reader.session, "text": len}[language](text)

    assert "photos" in reader.said[1]
    assert reader.said[2].strip() == "Removed the bucket photos of acme."


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_read_in_one_sitting(page):
    assert len((ROOT / "docs" / page).read_text().splitlines()) <= 150


def test_the_page_names_every_error_with_its_status():
    text = (ROOT / "docs" / "storage.md").read_text().partition("## Errors")[2]
    named = set(re.findall(r"`([A-Z]\w+)`", text)) - {"StorageError"}

    assert named == {one.__name__ for one in errors.StorageError.__subclasses__()}
