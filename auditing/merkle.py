"""Hash trees as in RFC 6962, section 2.1 (certificate transparency). Pure; `cp_merkle_root` is the twin in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def leaf(data: bytes) -> bytes:
    """The hash of one row. Leaves and nodes begin with different bytes, so neither passes for the other."""
    return sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over leaves (hashes of 32 bytes) in their order; of none, SHA-256 of nothing.

    The RFC splits n leaves at the largest power of two below n. Pairing level by level, an odd one out going up as it is,
    makes the same tree without recursion.
    """
    if not hashes:
        return sha256().digest()
    level = list(hashes)
    while len(level) > 1:
        pairs = [node(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0]
