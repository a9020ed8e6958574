"""Signed places in a list: where the next page begins, bound to the question that the first was an answer to."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from django.core import signing

from storage_meta.errors import InvalidArgument

if TYPE_CHECKING:
    from storage_meta.handle import Files

SALT = "storage_meta.page"


def make(files: Files, operation: str, last: Any, **question: Any) -> str:
    """last: JSON, the last entry. question: what must be asked again alike (prefix, delimiter, filters, order).

    A token carries no rights: it says where to go on, and whoever may not list there sees nothing with it either. Anybody
    who holds it can read the entry in it.
    """
    return signing.dumps([_digest(files, operation, question), last], salt=SALT, compress=True)


def read(files: Files, operation: str, token: str, **question: Any) -> Any:
    """The `last` of a token. Raises InvalidArgument for a bad signature or another question."""
    try:
        digest, last = signing.loads(token, salt=SALT)
    except (signing.BadSignature, UnicodeEncodeError, TypeError, AttributeError):  # the last two: no text at all
        raise _refused() from None
    if digest != _digest(files, operation, question):
        raise _refused()
    return last


def _refused() -> InvalidArgument:
    return InvalidArgument(
        message="The continuation token is damaged, or of another list. Pass it on unchanged, with the arguments of the"
        " first page, or begin without one."
    )


def _digest(files: Files, operation: str, question: dict[str, Any]) -> str:
    asked = [files.tenant_id.hex, files.bucket_name, operation, question]
    return sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).hexdigest()[:32]
