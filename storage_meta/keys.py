"""What a key, its metadata and its tags may be: pure rules, asked before a byte is stored."""

from __future__ import annotations

from typing import Any


def check_key(key: object) -> str:
    """The key, byte for byte. Raises KeyTooLong, InvalidArgument (empty, NUL, half a character, no text)."""
    raise NotImplementedError


def check_metadata(metadata: object) -> dict[str, Any]:
    """Raises InvalidMetadata, MetadataTooLarge."""
    raise NotImplementedError


def check_tags(tags: object) -> dict[str, str]:
    """Raises InvalidTag."""
    raise NotImplementedError


def check_text(name: str, value: object, limit: int) -> str:
    """A text argument of at most `limit` characters that PostgreSQL takes. Raises InvalidArgument, which names it."""
    raise NotImplementedError


def upper_bound(prefix: str) -> str | None:
    """The first key above all that begin with prefix; None: there is none."""
    raise NotImplementedError
