"""UUIDv7 (RFC 9562): ids begin with the clock, so indexes grow at one end and logs are partitioned by id."""

from __future__ import annotations

import hashlib
import random
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID, SafeUUID

from uuid_utils.compat import uuid7 as _uuid7

NIL = UUID(int=0)
PLATFORM = NIL
"""The tenant id of what belongs to no tenant: the platform itself, or unknown."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_BITS = 74


def now() -> datetime:
    """The present instant, aware, UTC: the one clock of the project's own code."""
    return datetime.now(UTC)


def iso(at: datetime) -> str:
    """An aware instant as text for JSON and addresses: ISO 8601 in UTC, as `2026-11-21T13:41:07Z`."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def uuid7() -> UUID:
    """A new id of this instant; ids of one process rise, within a millisecond too."""
    return _uuid7()


def milliseconds(at: datetime) -> int:
    """Whole milliseconds from 1970 to `at` (aware), rounded down: a row never slips into the month after its own."""
    delta = at - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def uuid7_at(at: datetime) -> UUID:
    """A new id whose time part is `at` (aware), rounded down to the millisecond.

    The 12 bits behind it are the fraction of the millisecond (RFC 9562, method 3), so that rows made one after the other keep
    their order; the other 62 are random.
    """
    fraction = at.microsecond % 1000 * 4096 // 1000
    return UUID(int=_compose(milliseconds(at), fraction << 62 | secrets.randbits(62)))


def number_at(us: int) -> int:
    """`uuid7_at(…).int` of so many whole microseconds since 1970, at a tenth of the time: for who may not wait. Unique as the
    others are, but not secret: who sees many can tell the next."""
    bits = random.getrandbits(62)  # seeded anew in the child of a fork
    return us // 1000 << 80 | 0x7 << 76 | us % 1000 * 4096 // 1000 << 64 | 0b10 << 62 | bits


def uuid_of(number: int) -> UUID:
    """`UUID(int=number)` of a number that is one, at a third of the time."""
    found = object.__new__(UUID)
    object.__setattr__(found, "int", number)
    object.__setattr__(found, "is_safe", SafeUUID.unknown)
    return found


def instant_at(us: int) -> datetime:
    """The instant so many whole microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=us)


def uuid7_of(at: datetime, seed: bytes) -> UUID:
    """The id of `at` and `seed`: the same arguments always give the same id (first 74 bits of SHA-256 of the seed)."""
    return UUID(int=number_of(at, seed))


def number_of(at: datetime, seed: bytes) -> int:
    """`uuid7_of(at, seed).int`, at a third of the time: to write many ids and look at none."""
    return _compose(milliseconds(at), int.from_bytes(hashlib.sha256(seed).digest()[:10], "big") >> (80 - _RANDOM_BITS))


def lower_bound(at: datetime) -> UUID:
    """The smallest id of the millisecond of `at`: `id >= lower_bound(start)` and `id < lower_bound(end)` select a
    window.

    Its version bits are zero, so that it stands before every real id of that millisecond. No id is of before 1970.
    """
    return UUID(int=max(milliseconds(at), 0) << 80)


def instant_of(value: UUID) -> datetime:
    """The instant in the time part of a UUIDv7, to the millisecond."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def _compose(ms: int, bits: int) -> int:
    return ms << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & ((1 << 62) - 1)
