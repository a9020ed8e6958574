"""Sealed places in a list: where the next page begins, bound to the question that the first was an answer to."""

from __future__ import annotations

import json
import re
import zlib
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken
from django.utils.crypto import salted_hmac

from storage_meta.errors import InvalidArgument

if TYPE_CHECKING:
    from storage_meta.handle import Files

SALT = "storage_meta.page"

_PLAIN = re.compile(r"(?:[A-Za-z0-9_-]{4})*[A-Za-z0-9_=-]{4}")  # what decodes base64 would leave out the rest


def make(files: Files, operation: str, last: Any, **question: Any) -> str:
    """last: JSON, the last entry. question: what must be asked again alike (prefix, delimiter, filters, order).

    A token carries no rights: it says where to go on, and whoever may not list there sees nothing with it either. Nobody
    reads the entry in it, which may be one that the policies do not let be listed.
    """
    text = json.dumps([_digest(files, operation, question), last], ensure_ascii=False, separators=(",", ":"))
    return _sealer().encrypt(zlib.compress(text.encode())).decode()


def read(files: Files, operation: str, token: str, **question: Any) -> Any:
    """The `last` of a token. Raises InvalidArgument for one that is not ours, or of another question."""
    if not isinstance(token, str) or not _PLAIN.fullmatch(token):
        raise _refused()
    try:
        digest, last = json.loads(zlib.decompress(_sealer().decrypt(token)))
    except InvalidToken:
        raise _refused() from None
    if digest != _digest(files, operation, question):
        raise _refused()
    return last


def _sealer() -> Fernet:
    """By a key that is derived from SECRET_KEY: tokens live for minutes, so none is kept for those of a key before."""
    return Fernet(urlsafe_b64encode(salted_hmac(SALT, "seal", algorithm="sha256").digest()))


def _refused() -> InvalidArgument:
    return InvalidArgument(
        message="The continuation token is damaged, or of another list. Pass it on unchanged, with the arguments of the"
        " first page, or begin without one."
    )


def _digest(files: Files, operation: str, question: dict[str, Any]) -> str:
    asked = [files.tenant_id.hex, files.bucket_name, operation, question]
    return sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).hexdigest()[:32]
