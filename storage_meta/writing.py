"""Everything that changes what a key holds: one transaction for head, version, access log and events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from storage_meta.blobs import Body
from storage_meta.models import StorageObject, StorageVersion

if TYPE_CHECKING:
    from storage_meta.handle import Files


@dataclass(frozen=True, slots=True)
class PutResult:
    """object: the head. version_id: `null`, or 32 hex digits. size: bytes. over_quota: above a quota that only warns."""

    object: StorageObject
    version_id: str
    etag: str
    size: int
    checksum_sha256: str
    seq: int
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """delete_marker: a marker was put, or the version removed was one. version_id: of it; None: nothing was there.

    existed: whether something was."""

    delete_marker: bool
    version_id: str | None
    existed: bool


def put(files: Files, key: str, body: Body | None, **said: Any) -> PutResult:
    raise NotImplementedError


def bulk_put(files: Files, rows: Iterable[Mapping[str, Any]]) -> int:
    raise NotImplementedError


def record_version(files: Files, key: str, version_id: str, **content: Any) -> StorageVersion:
    raise NotImplementedError


def delete(files: Files, key: str, version_id: str | None) -> DeleteResult:
    raise NotImplementedError


def delete_many(files: Files, keys: Sequence[str]) -> list[DeleteResult]:
    raise NotImplementedError


def restore(files: Files, key: str, version_id: str | None) -> PutResult:
    raise NotImplementedError


def copy(
    files: Files,
    key: str,
    new_key: str,
    *,
    version_id: str | None,
    bucket: str | None,
    metadata: Mapping[str, Any] | None,
) -> PutResult:
    raise NotImplementedError


def tag(files: Files, key: str, tags: Mapping[str, str], version_id: str | None) -> StorageVersion:
    raise NotImplementedError


def legal_hold(files: Files, key: str, on: bool, version_id: str | None, reason: str) -> StorageVersion:
    raise NotImplementedError


def retain(
    files: Files, key: str, until: datetime | None, version_id: str | None, bypass: bool, reason: str
) -> StorageVersion:
    raise NotImplementedError
