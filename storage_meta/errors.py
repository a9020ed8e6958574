"""What can go wrong with what is stored. Each code is the name of its class in snake case."""

from __future__ import annotations

from typing import Any

from controlplane.core.errors import ControlPlaneError


class StorageError(ControlPlaneError):
    """Base of the errors of storage_meta. recorded: the access log has a row of it, so whoever passes it on writes none."""

    code = "storage_error"
    recorded = False


class InvalidArgument(StorageError):
    """An argument that no call takes; the message names it."""

    code = "invalid_argument"


class KeyTooLong(StorageError):
    """A key of more than 1,024 bytes of UTF-8."""

    code = "key_too_long"


class InvalidTag(StorageError):
    """Tags that are too many, too long, or no text."""

    code = "invalid_tag"


class InvalidMetadata(StorageError):
    """Metadata that is no JSON object PostgreSQL takes."""

    code = "invalid_metadata"


class MetadataTooLarge(StorageError):
    """Metadata of more than 64 KiB."""

    code = "metadata_too_large"


class TenantRequired(StorageError):
    """A call about what is stored that names no tenant."""

    code = "tenant_required"


class AccessDenied(StorageError):
    """A policy, or the lack of one, refuses the call. decision: why (policies.decisions.Decision)."""

    code = "access_denied"
    http_status = 403

    def __init__(self, message: str, *, decision: Any = None) -> None:
        super().__init__(message=message)
        self.decision = decision


class ObjectLocked(StorageError):
    """A version under legal hold, or kept until a time that has not come."""

    code = "object_locked"
    http_status = 403


class NoSuchBucket(StorageError):
    """The tenant has no bucket of this name."""

    code = "no_such_bucket"
    http_status = 404


class NoSuchKey(StorageError):
    """Nothing is stored under this key. delete_marker: what was is deleted, its versions are left."""

    code = "no_such_key"
    http_status = 404

    def __init__(self, message: str, *, delete_marker: bool = False) -> None:
        super().__init__(message=message)
        self.delete_marker = delete_marker


class NoSuchVersion(StorageError):
    """The key has no version of this id."""

    code = "no_such_version"
    http_status = 404


class NoSuchEvent(StorageError):
    """The tenant has no event of this id, which hooks were to be told of."""

    code = "no_such_event"
    http_status = 404


class MethodNotAllowed(StorageError):
    """The version asked for is a delete marker, which holds nothing."""

    code = "method_not_allowed"
    http_status = 405


class BucketNotEmpty(StorageError):
    """A bucket that still has objects, versions, delete markers or hooks."""

    code = "bucket_not_empty"
    http_status = 409


class NoBlob(StorageError):
    """Only metadata was recorded of this version: its bytes lie elsewhere."""

    code = "no_blob"
    http_status = 409


class PreconditionFailed(StorageError):
    """if_match or if_none_match did not hold."""

    code = "precondition_failed"
    http_status = 412


class InvalidRange(StorageError):
    """A range that begins behind the last byte."""

    code = "invalid_range"
    http_status = 416


class BlobMissing(StorageError):
    """The bytes of a version are not where its row says."""

    code = "blob_missing"
    http_status = 500


class ChecksumMismatch(StorageError):
    """The bytes of a version are not those that were put."""

    code = "checksum_mismatch"
    http_status = 500


class StorageUnavailable(StorageError):
    """Where the bytes lie does not answer, or the database does not. Nothing was changed."""

    code = "storage_unavailable"
    http_status = 503


class QuotaExceeded(StorageError):
    """The tenant would store more than its quota."""

    code = "quota_exceeded"
    http_status = 507
