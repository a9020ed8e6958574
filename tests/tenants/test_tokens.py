from __future__ import annotations

import hashlib
import hmac
import string

import pytest
from django.http.request import HttpHeaders
from hypothesis import given
from hypothesis import strategies as st

from tenants import tokens
from tenants.errors import InvalidCredential
from tenants.tokens import DIGITS, base62, digests, from_headers, holds_token, new_key, sha256, well_formed

GOLDEN = "cpk_test_000000000000_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf4f9lsE"
REFRESH = "cpr_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1hyCDl"


def test_the_bytes_0_to_31_give_the_published_token():
    made = new_key("test", kid="0" * 12, secret=bytes(range(32)))

    assert made.token == GOLDEN
    assert made.kid == "0" * 12
    assert well_formed(GOLDEN)


def test_the_published_refresh_token_has_the_same_secret_and_its_own_check_digits():
    secret = base62(int.from_bytes(bytes(range(32)), "big"), 43)

    assert f"cpr_{secret}{tokens._crc('cpr_' + secret)}" == REFRESH == tokens.new_refresh(bytes(range(32)))
    assert holds_token(REFRESH)
    assert tokens.well_formed_refresh(REFRESH)


@given(st.integers(0, 52), st.sampled_from(DIGITS))
def test_one_wrong_character_anywhere_is_no_refresh_token(place, character):
    wrong = REFRESH[:place] + character + REFRESH[place + 1 :]

    assert tokens.well_formed_refresh(wrong) == (wrong == REFRESH)


@pytest.mark.parametrize(
    "text", ["", REFRESH + "\n", " " + REFRESH, REFRESH[:-1], GOLDEN, REFRESH.upper(), None, b"cpr_", "\x00" * 53]
)
def test_what_only_resembles_a_refresh_token_is_none(text):
    assert not tokens.well_formed_refresh(text)


def test_digits_stand_in_the_order_of_ascii():
    assert string.digits + string.ascii_uppercase + string.ascii_lowercase == DIGITS


@given(st.integers(0, 2**256 - 1))
def test_base_62_keeps_leading_zeros_and_loses_nothing(value):
    text = base62(value, 43)

    assert len(text) == 43
    assert sum(DIGITS.index(digit) * 62**place for place, digit in enumerate(reversed(text))) == value


@pytest.mark.parametrize("environment", ["live", "test"])
@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, None])
def test_a_new_token_is_well_formed(environment, secret):
    made = new_key(environment, secret=secret)

    assert len(made.token) == 71
    assert made.token.startswith(f"cpk_{environment}_{made.kid}_")
    assert well_formed(made.token)


def test_no_two_tokens_are_alike():
    made = [new_key("live") for _ in range(1000)]

    assert len({one.token for one in made}) == len({one.kid for one in made}) == 1000


def test_a_secret_of_zeros_is_not_taken_for_none():
    assert new_key("live", kid="a" * 12, secret=bytes(32)).token[22:65] == "0" * 43


@given(st.integers(0, 70), st.sampled_from(DIGITS))
def test_one_wrong_character_anywhere_is_no_token(place, character):
    wrong = GOLDEN[:place] + character + GOLDEN[place + 1 :]

    assert well_formed(wrong) == (wrong == GOLDEN)


@pytest.mark.parametrize(
    "text",
    [
        "", "cpk_", GOLDEN + "\n", "\n" + GOLDEN, " " + GOLDEN, GOLDEN + " ", GOLDEN[:-1], GOLDEN + "0", GOLDEN.upper(),
        GOLDEN.lower(), GOLDEN.replace("cpk_test", "cpk_prod"), GOLDEN.replace("_", "-"), GOLDEN[:-1] + "é",
        GOLDEN[:9] + "٠" * 12 + GOLDEN[21:], REFRESH, "Bearer " + GOLDEN, GOLDEN.replace("cpk", "CPK"), "\x00" * 71,
    ],
)  # fmt: skip
def test_what_only_resembles_a_token_is_none(text):
    assert not well_formed(text)


@pytest.mark.parametrize("value", [None, 1, b"cpk_", GOLDEN.encode(), [GOLDEN], object()])
def test_what_is_no_text_is_no_token(value):
    assert not well_formed(value)


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text):
    assert well_formed(text) in (True, False)


def test_the_repr_of_a_new_token_hides_it():
    made = new_key("live")

    assert made.token not in repr(made)
    assert made.token[22:] not in f"{made} {made!r}"
    assert made.kid in repr(made)


def test_text_that_holds_a_token_is_known():
    assert holds_token(f"my key is {GOLDEN}, keep it")
    assert holds_token(f"x{GOLDEN[:-30]}")
    assert not holds_token(f"my key begins with {GOLDEN[:21]}")
    assert not holds_token("cpk_live")


def test_without_peppers_the_digest_is_the_hash():
    hashed = sha256(GOLDEN)

    assert hashed == hashlib.sha256(GOLDEN.encode()).digest()
    assert digests(hashed, {}) == [(0, hashed)]


def test_with_peppers_the_newest_comes_first_and_the_hash_itself_only_while_it_is_listed():
    hashed, old, new = sha256(GOLDEN), "11" * 32, "22" * 32

    assert digests(hashed, {1: old, 2: new}) == [
        (2, hmac.new(bytes.fromhex(new), hashed, "sha256").digest()),
        (1, hmac.new(bytes.fromhex(old), hashed, "sha256").digest()),
    ]
    assert digests(hashed, {1: old, 0: ""})[-1] == (0, hashed)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Authorization": f"Bearer {GOLDEN}"}, GOLDEN),
        ({"authorization": f"bearer {GOLDEN}"}, GOLDEN),
        ({"X-Api-Key": GOLDEN}, GOLDEN),
        ({"x-api-key": GOLDEN, "AUTHORIZATION": f"Bearer {GOLDEN}"}, GOLDEN),
        ({"x-api-key": GOLDEN, "Authorization": "Basic dTpw"}, GOLDEN),
        ({"x-api-key": GOLDEN, "Authorization": ""}, GOLDEN),
        ({"Authorization": f"Bearer  {GOLDEN}"}, f" {GOLDEN}"),
        ({"Authorization": "Basic dTpw"}, ""),
        ({"Authorization": GOLDEN}, ""),
        ({"Authorization": "Bearer"}, ""),
        ({"Cookie": GOLDEN}, ""),
        ({}, ""),
    ],
)
def test_a_request_brings_its_token_in_one_of_two_headers(headers, found):
    assert from_headers(headers) == found
    assert (
        from_headers(HttpHeaders({f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()}))
        == found
    )


def test_two_different_tokens_of_one_request_are_refused_without_being_shown():
    with pytest.raises(InvalidCredential) as refused:
        from_headers({"Authorization": f"Bearer {GOLDEN}", "x-api-key": "sk-other"})

    assert (refused.value.code, refused.value.http_status) == ("conflicting_credentials", 400)
    assert GOLDEN not in str(refused.value)
    assert "sk-other" not in str(refused.value)
