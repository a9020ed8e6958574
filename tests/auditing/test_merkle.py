from __future__ import annotations

import hashlib

import pytest
from django.db import connection

from auditing import merkle

GOLDEN = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "db3426e878068d28d269b6c87172322ce5372b65756d0789001d34835f601c03",
    2: "cb00989d94a569c0a678ae042b63dcd4625db96440517f37a6eb7976ea24ed4b",
    3: "725d5230db68f557470dc35f1d8865813acd7ebb07ad152774141decbae71327",
    7: "a3e23b32ccb6bf96d092d165d8aa546e09829de8f03b0e8957581d1e16b92bdf",
    8: "3b85a9626c1ccb64c6b95ec7fa64888defe2cf12e39e77e10812ce5fcb9cb58e",
    1000: "638afa98022925bacfddadb15ef22fd0199c1ac99c2973b6158243d13fce05c2",
    1100: "f87f73c0d7b0bc94fe56d687be302bb373c483ebc103f530ab390f6809ba6225",
}


def leaves(n):
    return [merkle.leaf(str(place).encode()) for place in range(n)]


def defined(hashes):
    """The root as RFC 6962 defines it: split at the largest power of two below n."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + defined(hashes[:split]) + defined(hashes[split:])).digest()


def test_a_root_is_that_of_the_rfc_for_every_size():
    hashes = leaves(1100)

    assert [n for n in range(1101) if merkle.root(hashes[:n]) != defined(hashes[:n])] == []
    assert [n for n in range(1101) if merkle.root_of(b"".join(hashes[:n])) != defined(hashes[:n])] == []


def test_the_server_makes_the_same_root_for_every_size(db):
    hashes = leaves(1100)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n, cp_merkle_root((%s::bytea[])[1:n]) FROM generate_series(0, 1100) n ORDER BY n", [hashes]
        )
        made = {n: bytes(root) for n, root in cursor.fetchall()}

    assert [n for n in range(1101) if made[n] != merkle.root(hashes[:n])] == []


@pytest.mark.parametrize("n", GOLDEN)
def test_roots_stay_what_they_are(n):
    assert merkle.root(leaves(n)).hex() == GOLDEN[n]


def test_the_server_takes_no_array_for_an_empty_one(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_merkle_root(NULL) = cp_merkle_root('{}')")
        assert cursor.fetchone() == (True,)


def test_a_node_never_passes_for_a_leaf():
    left, right = leaves(2)

    assert merkle.node(left, right) != merkle.leaf(left + right)
    assert merkle.root([left, right]) != merkle.root([right, left])
