"""Anchors: the state of all seals in one signed line, kept where the owner of the database cannot write.

Without one he could change a row and rebuild every seal after it. An anchor is the root (RFC 6962) over the hashes of all
checkpoints, as a signed note of C2SP (tlog-checkpoint, signed-note; Ed25519): public tools read it.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connections

from auditing import merkle
from auditing.errors import AnchorFailed, InvalidAnchoring
from auditing.notes import key_hash
from controlplane.core.conf import conf
from controlplane.core.ids import PLATFORM

ANSWER_S = 10.0
"""Seconds that an address has to answer in."""

_ED25519 = b"\x01"
_TAIL = 4096
_sent: dict[str, bytes] = {}
"""Root that each address has taken from this process last: what is new is told, and nothing twice."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs notes: the name of the log, which is that of the key too, and the key."""

    name: str
    key: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        """Four bytes before each signature, by which a reader finds the key."""
        return key_hash(self.name, self.key.public_key())

    @property
    def verifier(self) -> str:
        """The public key as readers of signed notes take it: `<name>+<id>+<key>`."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def note(self, size: int, root: bytes) -> str:
        """The signed note of a tree: how many checkpoints it has, and the root over their hashes."""
        text = f"{self.name}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self.id + self.key.sign(text.encode())).decode()
        return f"{text}\n— {self.name} {signature}\n"


def signer() -> Signer:
    """Of the settings. Raises InvalidAnchoring."""
    name = conf.AUDIT_ORIGIN
    if not name or "+" in name or any(letter.isspace() for letter in name):
        raise InvalidAnchoring("invalid_origin")
    try:
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(conf.AUDIT_SIGNING_KEY, validate=True))
    except (ValueError, binascii.Error):
        raise InvalidAnchoring("invalid_signing_key") from None
    return Signer(name, key)


def anchor(using: str | None = None) -> int:
    """Send the present anchor to every place of AUDIT_ANCHORS that has not got it; returns how many took it.

    No transaction is open meanwhile, and sealing does not wait. A place that fails does not stop the others, and gets the next
    anchor, which says all that this one said. Raises AnchorFailed in the end if one failed, InvalidAnchoring at once.
    """
    places = conf.AUDIT_ANCHORS
    if not places:
        return 0
    by = signer()
    hashes = checkpoint_hashes(using)
    if not hashes:
        return 0
    root = merkle.root(hashes)
    note = by.note(len(hashes), root)
    taken, failed = 0, []
    for place in places:
        try:
            taken += _post(place, note, root) if _is_address(place) else _append(_path(place), note)
        except (OSError, ValueError, HTTPException) as error:
            failed.append(f"{_shown(place)}: {_reason(error)}")
    if failed:
        raise AnchorFailed(failed)
    return taken


def duty(now: datetime) -> bool:
    """`anchor` as a duty."""
    anchor()
    return False


def checkpoint_hashes(using: str | None = None) -> list[bytes]:
    """Hashes of all checkpoints, in their order."""
    with connections[using or conf.DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT hash FROM cp_auditing_auditseal WHERE tenant_id = %s AND log = 'checkpoint' ORDER BY seq",
            [PLATFORM],
        )
        return [bytes(hash) for (hash,) in cursor.fetchall()]


def _is_address(place: str) -> bool:
    return place.startswith(("https://", "http://"))


def _path(place: str) -> Path:
    return Path(place.removeprefix("file://"))


def _append(path: Path, note: str) -> bool:
    """Append a note, down to the disk; what a full disk cut short is taken back. False: it is the last one there already."""
    new = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        size = os.fstat(file).st_size
        tail = os.pread(file, _TAIL, max(size - _TAIL, 0)).decode(errors="replace")
        if tail.endswith(note):
            return False
        data = (("\n" if tail.endswith("\n") else "\n\n") * bool(tail) + note).encode()
        try:
            if os.write(file, data) < len(data):
                raise OSError("the disk is full")
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
    if new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return True


class _NoRedirect(HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, without the note."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def _post(place: str, note: str, root: bytes) -> bool:
    """POST a note. False: the address has it already."""
    if _sent.get(place) == root:
        return False
    headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "controlplane"}
    parts = urlsplit(place)
    who, _, host = parts.netloc.rpartition("@")
    if who:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(who).encode()).decode()}"
    address = urlunsplit(parts._replace(netloc=host))
    request = Request(address, note.encode(), headers, method="POST")  # noqa: S310 - http and https alone
    with build_opener(_NoRedirect).open(request, timeout=ANSWER_S):
        _sent[place] = root
    return True


def _shown(place: str) -> str:
    """A place without what may be secret in an address: user, password, path, query."""
    return f"{urlsplit(place).scheme}://{urlsplit(place).hostname}" if _is_address(place) else place


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()
        return f"answered {error.code}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return str(reason)
