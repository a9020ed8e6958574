"""What callers say of an object, made sure of before a byte is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from storage_meta.blobs import Received
from storage_meta.errors import InvalidArgument
from storage_meta.keys import check_metadata, check_tags, check_text
from storage_meta.models import StorageVersion

MOST_BYTES = 2**63 - 1
COMMENT = 4096
"""Characters of a comment, at most."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a version is to hold: values of its columns. A delete marker holds nothing of it."""

    size: int = 0
    content_type: str = ""
    etag: str = ""
    checksum_sha256: str = ""
    storage_backend: str = ""
    storage_class: str = "STANDARD"
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blob_name: str = ""
    external_id: str = ""
    comment: str = ""

    @classmethod
    def checked(
        cls,
        *,
        size: object = None,
        etag: object = None,
        content_type: object = None,
        metadata: object = None,
        tags: object = None,
        storage_class: object = "STANDARD",
        comment: object = "",
        storage_backend: object = "",
        checksum_sha256: object = "",
        external_id: object = "",
    ) -> Self:
        """Raises InvalidArgument, InvalidMetadata, MetadataTooLarge, InvalidTag. None: not said."""
        return cls(
            size=check_size(size),
            etag=check_etag("etag", etag),
            content_type=_text("content_type", content_type, 255),
            metadata=check_metadata(metadata),
            tags=check_tags(tags),
            storage_class=_text("storage_class", storage_class, 64) or "STANDARD",
            comment=_text("comment", comment, COMMENT),
            storage_backend=_text("storage_backend", storage_backend, 64),
            checksum_sha256=_sha256(checksum_sha256),
            external_id=_text("version_id", external_id, 1024),
        )

    def with_bytes(self, received: Received) -> Said:
        """With what was measured while the bytes were written, and where they lie."""
        return replace(
            self,
            size=received.size,
            etag=received.etag,
            checksum_sha256=received.checksum_sha256,
            storage_backend=received.storage,
            blob_name=received.blob_name,
        )


def said_of(version: StorageVersion, metadata: Mapping[str, Any] | None = None) -> Said:
    """What a version holds, to be held by another on the same blob. metadata: instead of its own."""
    return Said(
        size=version.size,
        content_type=version.content_type,
        etag=version.etag,
        checksum_sha256=version.checksum_sha256,
        storage_backend=version.storage_backend,
        storage_class=version.storage_class,
        metadata=version.metadata if metadata is None else check_metadata(metadata),
        tags=version.tags,
        blob_name=version.blob_name,
    )


def check_size(size: object) -> int:
    if size is None:
        return 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MOST_BYTES:
        raise InvalidArgument(message=f"size is {size!r:.40}. Give whole bytes, 0 or more.")
    return size


def check_etag(name: str, etag: object) -> str:
    """An etag without the quotes that HTTP writes around it."""
    found = _text(name, etag, 257)
    if len(found) > 1 and found[0] == found[-1] == '"':
        found = found[1:-1]
    return check_text(name, found, 255)


def _text(name: str, value: object, limit: int) -> str:
    return "" if value is None or value == "" else check_text(name, value, limit)


def _sha256(value: object) -> str:
    found = _text("checksum_sha256", value, 64)
    if found and not _SHA256.fullmatch(found):
        raise InvalidArgument(
            message="checksum_sha256 is no SHA-256. Give 64 hex digits in lower case, or leave it out."
        )
    return found
