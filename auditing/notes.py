"""Signed notes (C2SP) that anchors are kept as, read back: origin, number of checkpoints, root over their hashes."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from auditing.errors import InvalidAnchor

_NOTE = re.compile(
    r"(?P<text>(?P<origin>[^\n]+)\n(?P<size>[0-9]{1,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*)\n"
    r"(?P<signatures>(?:— [^\n]+(?:\n|\Z))*)"
)


@dataclass(frozen=True, slots=True)
class Note:
    """An anchor: the root over the first `size` checkpoints. genuine: None if there is no key to tell by."""

    origin: str
    size: int
    root: bytes
    genuine: bool | None


def read_notes(path: Path, seed: str = "") -> list[Note]:
    """The notes of a file, one after the other. seed: base64, of the key that signs (AUDIT_SIGNING_KEY); "": nothing is checked.

    Raises InvalidAnchor for a file that cannot be read, holds no note, or text that is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidAnchor(
            message=f"{path} cannot be read: {error}. Give the file that the anchors were appended to."
        ) from None
    key = public_key(seed) if seed else None
    found, rest = [], 0
    for match in _NOTE.finditer(text):
        if text[rest : match.start()].strip():
            break
        found.append(
            Note(
                match["origin"],
                int(match["size"]),
                base64.b64decode(match["root"]),
                None if key is None else _signed(match, key),
            )
        )
        rest = match.end()
    if not found or text[rest:].strip():
        line = text[:rest].count("\n") + 1
        raise InvalidAnchor(
            message=f"{path}, line {line}: no signed note begins here. Give the file as it was written."
        )
    return found


def public_key(seed: str) -> Ed25519PublicKey:
    """Of a signing key: base64 of its 32 bytes. Raises InvalidAnchor."""
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed, validate=True)).public_key()
    except (ValueError, binascii.Error):
        raise InvalidAnchor(message="AUDIT_SIGNING_KEY is no key: set it to the base64 of 32 random bytes.") from None


def key_hash(name: str, key: Ed25519PublicKey) -> bytes:
    """The 4 bytes that stand before a signature, so that it is looked at with the right key."""
    return sha256(name.encode() + b"\n\x01" + key.public_bytes_raw()).digest()[:4]


def _signed(match: re.Match[str], key: Ed25519PublicKey) -> bool:
    for line in match["signatures"].splitlines():
        name, _, signature = line.removeprefix("— ").rpartition(" ")
        try:
            data = base64.b64decode(signature, validate=True)
        except (ValueError, binascii.Error):
            continue
        if data[:4] == key_hash(name, key):
            try:
                key.verify(data[4:], match["text"].encode())
            except InvalidSignature:
                return False
            return True
    return False
