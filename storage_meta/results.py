"""What changes give back, and what access log and hooks are told of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from storage_meta.models import Bucket, StorageObject, StorageVersion


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

    existed: whether something was: of a delete without an id a live object, else that version."""

    delete_marker: bool
    version_id: str | None
    existed: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to a key. sequence: the change_seq of its head then; None: nothing changed."""

    bucket_id: UUID
    bucket: str
    key: str
    version_id: str
    sequence: int | None
    size: int = 0
    etag: str = ""
    content_type: str = ""
    is_delete_marker: bool = False
    metadata: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        bucket: Bucket,
        key: str,
        version: StorageVersion,
        sequence: int | None,
        metadata: dict[str, Any] | None = None,
    ) -> Change:
        """What happened to a version. metadata: what else the access log is told."""
        return cls(
            bucket_id=bucket.pk,
            bucket=bucket.name,
            key=key,
            version_id=version.version_id,
            sequence=sequence,
            size=version.size,
            etag=version.etag,
            content_type=version.content_type,
            is_delete_marker=version.is_delete_marker,
            metadata=metadata,
        )

    @property
    def sequencer(self) -> str:
        return "" if self.sequence is None else f"{self.sequence:016x}"

    def row(self) -> dict[str, Any]:
        """For the access log."""
        return {
            "bucket": self.bucket,
            "object_key": self.key,
            "version_id": self.version_id,
            "sequencer": self.sequencer,
            "size": self.size,
            "etag": self.etag,
            "is_delete_marker": self.is_delete_marker,
            "metadata": self.metadata,
        }

    def event(self) -> dict[str, Any]:
        """For hooks."""
        return {
            "bucket_id": self.bucket_id,
            "bucket": self.bucket,
            "object_key": self.key,
            "version_id": self.version_id,
            "sequencer": self.sequencer,
            "size": self.size,
            "etag": self.etag,
            "content_type": self.content_type,
        }
