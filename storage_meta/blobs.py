"""The bytes: written before their rows, read in chunks, removed after their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, TypeAlias
from uuid import UUID

from django.core.files import File
from django.db.backends.utils import CursorWrapper

Body: TypeAlias = "bytes | File[bytes] | IO[bytes] | Iterator[bytes]"


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that were written and belong to nobody yet. storage: the alias. etag: MD5 in hex, of parts with -N."""

    storage: str
    blob_name: str
    size: int
    etag: str
    checksum_sha256: str


def receive(tenant_id: UUID, storage: str, body: Body, *, part_size: int | None = None) -> Received:
    """Write a body under a new name, which is noted before, on a connection of its own. Raises StorageUnavailable."""
    raise NotImplementedError


def kept(cursor: CursorWrapper, received: Received) -> None:
    """Within the transaction that names the blob: it is no upload any more. StorageUnavailable if the note is gone."""
    raise NotImplementedError


def dropped(received: Received) -> None:
    """The transaction that would have named the blob failed: remove it, if that can be done; never raises."""
    raise NotImplementedError


def work_off(now: datetime, *, limit: int = 1000) -> bool:
    """Remove blobs whose versions are gone, and uploads that nobody finished; True if there may be more. A duty of the worker."""
    raise NotImplementedError


def remove_after_commit(tenant_id: UUID) -> None:
    """After the open transaction commits, remove the blobs of the tenant's versions that went in it."""
    raise NotImplementedError


def open_blob(storage: str, blob_name: str) -> Any:
    """The file of a blob. Raises BlobMissing, StorageUnavailable."""
    raise NotImplementedError
