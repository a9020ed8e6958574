"""What a key, its metadata and its tags may be: pure rules, asked before a byte is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from storage_meta.errors import InvalidArgument, InvalidMetadata, InvalidTag, KeyTooLong, MetadataTooLarge

KEY_BYTES = 1024
METADATA_BYTES = 64 * 1024
METADATA_LEVELS = 64
TAGS = 10
TAG_NAME = 128
TAG_VALUE = 256
TAGS_BYTES = 8 * 1024

_SURROGATES = (0xD800, 0xE000)


def check_key(key: object) -> str:
    """The key, byte for byte. Raises KeyTooLong, InvalidArgument (empty, NUL, half a character, no text)."""
    found = _text("key", key)
    if not found:
        raise InvalidArgument(message="key is empty. Give it 1 to 1,024 bytes of UTF-8.")
    if (size := len(found.encode())) > KEY_BYTES:
        raise KeyTooLong(message=f"The key has {size:,} bytes of UTF-8. Use {KEY_BYTES:,} at most.")
    return found


def check_metadata(metadata: object) -> dict[str, Any]:
    """A copy of it, as it will be read back: tuples become lists. None is {}. Raises InvalidMetadata, MetadataTooLarge.

    Sizes are those of the text that PostgreSQL makes of it, which writes numbers out: 1e300 has 301 digits.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(message="metadata is no JSON object. Give a dict with names of text.")
    digits = _measure(dict(metadata))
    try:
        text = json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False)
        size = len(text.encode()) + digits
        found: dict[str, Any] = json.loads(text)
    except UnicodeEncodeError:
        raise InvalidMetadata(message="metadata holds half a character. Write it whole.") from None
    except (TypeError, ValueError, RecursionError):
        raise InvalidMetadata(
            message="metadata holds NaN, Infinity, thousands of digits or what is no JSON. Write text or null."
        ) from None
    if size > METADATA_BYTES:
        raise MetadataTooLarge(message=f"metadata has {size:,} bytes. Use {METADATA_BYTES:,} at most.")
    return found


def _measure(top: object) -> int:
    """Bytes by which the numbers in it grow when they are written out. Raises InvalidMetadata for what json would let pass."""
    grown, level, depth = 0, [top], 0
    while level:
        depth += 1
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                for name in each:
                    if not isinstance(name, str):
                        raise InvalidMetadata(message=f"metadata has the name {name!r:.40}, no text. Write it as text.")
                    _refuse_nul(name)
                below.extend(each.values())
            elif isinstance(each, (list, tuple)):
                below.extend(each)
            elif isinstance(each, str):
                _refuse_nul(each)
            elif isinstance(each, float) and each - each == 0:  # json refuses NaN and infinities
                written = float.__repr__(each)
                grown += len(format(Decimal(written), "f")) - len(written)
        # what holds itself ends here too
        if depth > METADATA_LEVELS and any(isinstance(each, (dict, list, tuple)) for each in level):
            raise InvalidMetadata(message=f"metadata is nested more than {METADATA_LEVELS} levels deep. Use fewer.")
        level = below
    return grown


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        raise InvalidMetadata(message="metadata holds the character NUL (U+0000). Leave it out.")


def check_tags(tags: object) -> dict[str, str]:
    """A copy of them; None is {}. Raises InvalidTag."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidTag(message="tags are no mapping of text to text. Give a dict.")
    if len(tags) > TAGS:
        raise InvalidTag(message=f"There are {len(tags)} tags. Use {TAGS} at most.")
    for name, value in tags.items():
        for what, text, least, most in (("name", name, 1, TAG_NAME), ("value", value, 0, TAG_VALUE)):
            if not isinstance(text, str) or not _storable(text):
                raise InvalidTag(
                    message=f"The {what} of a tag, {text!r:.40}, is no text that can be stored. Write text."
                )
            if not least <= len(text) <= most:
                raise InvalidTag(
                    message=f"The {what} of a tag has {len(text)} characters. Use {least} to {most}: {text!r:.40}."
                )
    found = {str(name): str(value) for name, value in tags.items()}
    if (size := len(json.dumps(found, ensure_ascii=False).encode())) > TAGS_BYTES:
        raise InvalidTag(message=f"The tags have {size:,} bytes together. Use {TAGS_BYTES:,} at most.")
    return found


def check_text(name: str, value: object, limit: int) -> str:
    """A text argument of at most `limit` characters that PostgreSQL takes. Raises InvalidArgument, which names it."""
    found = _text(name, value)
    if len(found) > limit:
        raise InvalidArgument(message=f"{name} has {len(found):,} characters. Use {limit:,} at most.")
    return found


def upper_bound(prefix: str) -> str | None:
    """The first key above all that begin with prefix, which is a text that can be stored; None: there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    if following == _SURROGATES[0]:
        following = _SURROGATES[1]
    return kept[:-1] + chr(following)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(message=f"{name} is {type(value).__name__}, no text. Give text.")
    if not _storable(value):
        raise InvalidArgument(message=f"{name} holds NUL or half a character. Leave that out.")
    return str(value)


def _storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
