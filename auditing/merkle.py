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


def root_of(leaves: bytes) -> bytes:
    """As `root`, over leaves that stand one behind another, 32 octets each: in two thirds of the time.

    Only for leaves that were made just now. Of hashes that are stored, one could be longer and the next one shorter.
    """
    if not leaves:
        return sha256().digest()
    while len(leaves) > 32:
        whole = len(leaves) - len(leaves) % 64
        pairs = [sha256(b"\x01" + leaves[place : place + 64]).digest() for place in range(0, whole, 64)]
        leaves = b"".join(pairs) + leaves[whole:]
    return leaves
