"""What a token looks like, and its digest. Pure.

    cpk_live_<kid 12>_<secret 43><crc 6>      an API key, 71 characters; or cpk_test_…
    cpr_<secret 43><crc 6>                    a refresh token, 53 characters

Base62 with the digits 0-9A-Za-z. kid: public, names the secret. secret: 32 random bytes, big-endian. crc: CRC-32 of all
before it; no security, it refuses typos and noise without a query.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tenants.errors import InvalidCredential

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY = re.compile(r"cpk_(live|test)_([0-9A-Za-z]{12})_[0-9A-Za-z]{49}", re.ASCII)
TOKEN_SHAPED = re.compile(r"cpk_(?:live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]{8}|cpr_[0-9A-Za-z]{49}", re.ASCII)
PUBLIC = re.compile(r"cpk_(?:live|test)_[0-9A-Za-z]{12}(?=_)", re.ASCII)
_PLACES = tuple(62**place for place in range(5, -1, -1))
FOREIGN_LENGTH = range(20, 257)
OURS = ("cpk_", "cpr_")
REFRESH = re.compile(r"cpr_[0-9A-Za-z]{49}", re.ASCII)
KEY_LENGTH, REFRESH_LENGTH = 71, 53


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made. Its repr hides it."""

    token: str
    kid: str

    def __repr__(self) -> str:
        return f"NewToken(kid={self.kid!r})"


def base62(value: int, width: int) -> str:
    """`value` in base 62, with leading zeros to `width` digits."""
    digits = []
    for _ in range(width):
        value, rest = divmod(value, 62)
        digits.append(DIGITS[rest])
    return "".join(reversed(digits))


def new_kid() -> str:
    return "".join(secrets.choice(DIGITS) for _ in range(12))


def new_key(environment: str, kid: str | None = None, secret: bytes | None = None) -> NewToken:
    """A new API key token; kid, secret (32 bytes): given by tests only."""
    kid = kid or new_kid()
    body = f"cpk_{environment}_{kid}_{_digits(secret)}"
    return NewToken(body + _crc(body), kid)


def new_refresh(secret: bytes | None = None) -> str:
    """A new refresh token; secret (32 bytes): given by tests only."""
    body = f"cpr_{_digits(secret)}"
    return body + _crc(body)


def well_formed(token: object) -> bool:
    """Whether this is a string of the shape of an API key with the right check digits; nothing is stripped."""
    return _checked(token, KEY, KEY_LENGTH)


def well_formed_refresh(token: object) -> bool:
    """Likewise of a refresh token."""
    return _checked(token, REFRESH, REFRESH_LENGTH)


def may_open(token: object, foreign: Sequence[str] = ()) -> bool:
    """Whether a string is worth a look: a well-formed key of ours, or one of another gateway that matches a pattern.

    foreign: regular expressions of the whole token (API_KEY_FOREIGN_PATTERNS); nothing that begins like ours matches.
    """
    if well_formed(token):
        return True
    if not foreign or not isinstance(token, str) or len(token) not in FOREIGN_LENGTH or not token.isascii():
        return False
    return not token.startswith(OURS) and any(pattern.fullmatch(token) for pattern in compiled(tuple(foreign)))


@cache
def compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """The patterns of foreign tokens. Raises re.error for one that is none; the check cp_tenants.E002 says so first."""
    return tuple(re.compile(pattern, re.ASCII) for pattern in patterns)


def from_headers(headers: Mapping[str, str]) -> str:
    """The token that a request brings, as `Authorization: Bearer` or `x-api-key` (names in any case); "" = none.

    Another scheme of Authorization is none. Never from the URL, which is written down everywhere. Nothing is stripped.
    Raises InvalidCredential("conflicting_credentials", 400) for two different ones: whichever is taken, it may be the wrong.
    """
    given = {name.lower(): value for name, value in headers.items()}
    scheme, _, bearer = given.get("authorization", "").partition(" ")
    found = {given.get("x-api-key", ""), bearer if scheme.lower() == "bearer" else ""} - {""}
    if len(found) > 1:
        raise InvalidCredential("conflicting_credentials", http_status=400)
    return found.pop() if found else ""


def public_part(token: str) -> str:
    """`cpk_live_<kid>` of a text that begins like a key of ours, else ""."""
    begun = PUBLIC.match(token)
    return begun[0] if begun else ""


def sha256(token: str) -> bytes:
    """What stands for a token everywhere: 256 random bits need neither salt nor a slow hash."""
    return hashlib.sha256(token.encode()).digest()


NEWEST = -1
"""Of the versions of peppers, in place of one."""


def versions(peppers: Mapping[int, str], writes: int = NEWEST) -> list[int]:
    """Versions of peppers that verify, three at most: the one that writes first, then the newest. 0: none.

    writes: the version that new digests get; NEWEST, or one that is not listed: the newest.
    """
    listed = sorted(peppers, reverse=True)
    listed.sort(key=lambda version: version != writes)
    return listed[:3] or [0]


def digests(hashed: bytes, peppers: Mapping[int, str], writes: int = NEWEST) -> list[tuple[int, bytes]]:
    """(hash_version, digest) that a stored secret may have, in the order of `versions`; `hashed`: SHA-256 of the token.

    Without peppers version 0, the hash itself; with them HMAC-SHA256 per version, and 0 only while it is listed.
    """
    return [
        (version, hmac.digest(bytes.fromhex(peppers[version]), hashed, "sha256") if version else hashed)
        for version in versions(peppers, writes)
    ]


def holds_token(text: str) -> bool:
    """Whether a text holds something of the shape of a token of ours."""
    return TOKEN_SHAPED.search(text) is not None


def _checked(token: object, shape: re.Pattern[str], length: int) -> bool:
    if not isinstance(token, str) or len(token) != length or not token.isascii():
        return False
    return shape.fullmatch(token) is not None and _crc(token[:-6]) == token[-6:]


def _digits(secret: bytes | None) -> str:
    return base62(int.from_bytes(secret or secrets.token_bytes(32), "big"), 43)


def _crc(body: str) -> str:
    value = zlib.crc32(body.encode())
    return "".join([DIGITS[value // place % 62] for place in _PLACES])  # as base62 does, which is for any width
