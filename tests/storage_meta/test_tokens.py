from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from django.core import signing
from hypothesis import given
from hypothesis import strategies as st

from storage_meta import tokens
from storage_meta.errors import InvalidArgument

ASKED = {"prefix": "a/", "delimiter": "/", "modified_after": datetime(2026, 1, 1, tzinfo=UTC)}


@dataclass(frozen=True)
class Place:
    """What a token is bound to of a handle."""

    tenant_id: uuid.UUID
    bucket_name: str | None


HERE = Place(uuid.UUID(int=7), "docs")


@pytest.mark.parametrize("last", ["key", "", "\U0010ffff\ud7ff\ue000", "\x01%/\n", ["0.5", "key", 7], None])
def test_a_token_gives_back_the_last_entry(last):
    token = tokens.make(HERE, "list", last, **ASKED)

    assert tokens.read(HERE, "list", token, **ASKED) == last
    assert token.isascii()


def test_a_token_of_another_question_is_refused():
    token = tokens.make(HERE, "list", "key", **ASKED)

    for place, operation, asked in (
        (Place(uuid.UUID(int=8), "docs"), "list", ASKED),
        (Place(HERE.tenant_id, "other"), "list", ASKED),
        (Place(HERE.tenant_id, None), "list", ASKED),
        (HERE, "search", ASKED),
        (HERE, "list", {**ASKED, "prefix": "a"}),
        (HERE, "list", {**ASKED, "delimiter": ""}),
        (HERE, "list", {**ASKED, "modified_after": None}),
        (HERE, "list", {}),
    ):
        with pytest.raises(InvalidArgument):
            tokens.read(place, operation, token, **asked)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "", lambda text: text[:-1], lambda text: text + "x", lambda text: text[1:],
        lambda text: "x" + text[1:], lambda text: text.swapcase(), lambda text: "日本:語:x", lambda text: "\udcff:x:y",
        lambda text: "\x00", lambda text: ":" * 50, lambda text: 7, lambda text: None, lambda text: b"a:b:c",
        lambda text: ["a"], lambda text: signing.dumps(["", "key"]), lambda text: text[:20] + text[24:],
    ],
)  # fmt: skip
def test_a_damaged_token_is_refused(damage):
    token = tokens.make(HERE, "list", "key", **ASKED)

    with pytest.raises(InvalidArgument) as caught:
        tokens.read(HERE, "list", damage(token), **ASKED)

    assert caught.value.code == "invalid_argument"


@given(st.one_of(st.text(), st.binary(), st.integers(), st.text(alphabet=":.=-_aZ0", max_size=80)))
def test_garbage_is_no_token(garbage):
    with pytest.raises(InvalidArgument):
        tokens.read(HERE, "list", garbage, **ASKED)
