"""The one door to what a tenant has stored: S3's operations, each done by the module that is named after it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from auditing.context import Actor
from storage_meta import executions, listing, reading, searching, statistics, trail, writing
from storage_meta.blobs import Body
from storage_meta.errors import InvalidArgument, NoSuchBucket
from storage_meta.executions import HookStatistics
from storage_meta.listing import ObjectPage, VersionPage
from storage_meta.models import Bucket, HookExecution, StorageObject, StorageVersion
from storage_meta.models.bucket import NAME
from storage_meta.reading import StoredFile
from storage_meta.searching import SearchPage
from storage_meta.seeds import SeedNames
from storage_meta.statistics import Count, Statistics
from storage_meta.trail import AuditPage
from storage_meta.writing import DeleteResult, PutResult
from tenants.models import Tenant

PLAIN = re.compile(NAME)


@dataclass(frozen=True, slots=True)
class Files(SeedNames):
    """What one tenant has stored, in all its buckets or, by `bucket(name)`, in one.

    Made by `StorageObject.objects.for_tenant`. Holds no rows and no connection: it may be kept and shared between threads.
    effective: policies that every call asks first, None: trusted within the tenant. Every call raises a StorageError, with
    a stable code, where it cannot do what it is asked; what it wrote until then is taken back.
    """

    tenant: Tenant
    effective: Any = None
    actor: Actor | None = None
    source_ip: str | None = None
    user_agent: str = ""
    request_id: str = ""
    bucket_name: str | None = None

    @classmethod
    def of(cls, tenant: Tenant, *, effective: Any = None, actor: object = None, request: Any = None) -> Self:
        """See StorageObjectManager.for_tenant. Raises TenantRequired for anything but a stored tenant."""
        return trail.opened(cls, tenant, effective=effective, actor=actor, request=request)

    def bucket(self, name: str) -> Self:
        """The same for one bucket. Whether there is one of this name is asked by the calls, not here."""
        return replace(self, bucket_name=name)

    @property
    def tenant_id(self) -> UUID:
        return self.tenant.pk

    def the_bucket(self) -> Bucket:
        """The bucket's row. Raises NoSuchBucket, and InvalidArgument where the handle is for all buckets."""
        if self.bucket_name is None:
            raise InvalidArgument(message="This call is about one bucket. Name it: files.bucket('docs').")
        plain = isinstance(self.bucket_name, str) and PLAIN.fullmatch(self.bucket_name)
        found = Bucket.objects.filter(tenant_id=self.tenant_id, name=self.bucket_name).first() if plain else None
        if found is None:
            raise NoSuchBucket(message=f"There is no bucket {self.bucket_name!r} here. Make it, or check its name.")
        return found

    # --- objects of the bucket

    def put_object(
        self,
        key: str,
        body: Body | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str = "STANDARD",
        part_size: int | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        comment: str = "",
    ) -> PutResult:
        """Store a new version of a key, or replace what is there, as the bucket's versioning says.

        body: bytes, a file, a Django File or an iterator of bytes; it is read once, and at most 8 MiB of it are held. None:
        metadata alone, of which the caller states size (bytes) and etag. part_size: bytes of a part; a longer body gets the etag
        of a multipart upload. if_none_match="*": only where no live object is. if_match: only where the etag is this one.
        """
        return writing.put(
            self,
            key,
            body,
            size=size,
            etag=etag,
            content_type=content_type,
            metadata=metadata,
            tags=tags,
            storage_class=storage_class,
            part_size=part_size,
            if_none_match=if_none_match,
            if_match=if_match,
            comment=comment,
        )

    def bulk_put(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Record many objects whose bytes lie elsewhere: dicts of put_object's arguments, with `key`. Returns how many.

        COPY and one merge for at most 5,000 a transaction; rows of one key are put in their order. No conditions, no body.
        """
        return writing.bulk_put(self, rows)

    def record_version(self, object_key: str, version_id: str, **content: Any) -> StorageVersion:
        """Record a version that was made elsewhere, under its id there; one that is known gets comment and tags. See writing."""
        return writing.record_version(self, object_key, version_id, **content)

    def head_object(self, key: str, version_id: str | None = None) -> StorageObject | StorageVersion:
        """A head, or with version_id that version. Raises NoSuchKey, NoSuchVersion, MethodNotAllowed."""
        return reading.head(self, key, version_id)

    def get_object(self, key: str, version_id: str | None = None, range: str | None = None) -> StoredFile:
        """The bytes of a key, to be iterated within `with`; at their end the SHA-256 is checked.

        range: as in HTTP, "bytes=0-99", "bytes=100-", "bytes=-100"; one range only. Raises NoSuchKey, NoSuchVersion,
        MethodNotAllowed, NoBlob, BlobMissing, InvalidRange; while it is read StorageUnavailable and ChecksumMismatch.
        """
        return reading.get(self, key, version_id, range)

    def delete_object(self, key: str, version_id: str | None = None) -> DeleteResult:
        """Delete a key as the bucket's versioning says; with version_id that version alone, for good. ObjectLocked if held."""
        return writing.delete(self, key, version_id)

    def delete_objects(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete at most 1,000 keys, each as delete_object does, in one transaction."""
        return writing.delete_many(self, keys)

    def restore_object(self, key: str, version_id: str | None = None) -> PutResult:
        """With version_id: a new version on the same blob. Without: the delete markers above the newest version go."""
        return writing.restore(self, key, version_id)

    def copy_object(
        self,
        key: str,
        new_key: str,
        *,
        version_id: str | None = None,
        bucket: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> PutResult:
        """Put what a key holds under another key, of another bucket too, on the same blob. metadata: None keeps it."""
        return writing.copy(self, key, new_key, version_id=version_id, bucket=bucket, metadata=metadata)

    def put_object_tagging(self, key: str, tags: Mapping[str, str], version_id: str | None = None) -> StorageVersion:
        """Replace the tags of a version, and of the head if that is the current one."""
        return writing.tag(self, key, tags, version_id)

    def put_object_legal_hold(
        self, key: str, on: bool, version_id: str | None = None, reason: str = ""
    ) -> StorageVersion:
        """Hold a version, or take that back: while it is held, nothing removes it."""
        return writing.legal_hold(self, key, on, version_id, reason)

    def put_object_retention(
        self,
        key: str,
        until: datetime | None,
        version_id: str | None = None,
        bypass: bool = False,
        reason: str = "",
    ) -> StorageVersion:
        """Keep a version until an instant (aware). An earlier one than before, or None, needs bypass and a reason."""
        return writing.retain(self, key, until, version_id, bypass, reason)

    def list_objects_v2(
        self,
        prefix: str = "",
        delimiter: str = "",
        max_keys: int = 1000,
        start_after: str | None = None,
        continuation_token: str | None = None,
    ) -> ObjectPage:
        """Keys in the order of their bytes; with a delimiter, keys that share it fold into a common prefix. As S3's."""
        return listing.objects(self, prefix, delimiter, max_keys, start_after, continuation_token)

    def list_object_versions(
        self,
        prefix: str = "",
        key_marker: str | None = None,
        version_id_marker: str | None = None,
        max_keys: int = 1000,
    ) -> VersionPage:
        """All versions and markers: keys by bytes, each newest first; strictly after the two markers."""
        return listing.versions(self, prefix, key_marker, version_id_marker, max_keys)

    # --- all buckets, or the one of the handle

    def search_objects(
        self,
        query: str | None,
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        order: str = "relevance",
        limit: int = 50,
        continuation_token: str | None = None,
        prefix_match: bool = False,
        part: str | None = None,
    ) -> SearchPage:
        """Live objects that hold all words of query, and fit the filters. order: relevance or last_modified. limit: 1 to 1000.

        query: words; "a phrase"; -word excludes; a | b either. None: filters alone, newest first. metadata, tags: what the
        object's contain. prefix_match: the last word, of at least three characters, is the beginning of one.
        part: any part of the key, of at least three characters, where STORAGE_TRIGRAM is set.
        """
        return searching.search(
            self,
            query,
            bucket=bucket,
            prefix=prefix,
            metadata=metadata,
            tags=tags,
            content_type=content_type,
            min_size=min_size,
            max_size=max_size,
            modified_after=modified_after,
            modified_before=modified_before,
            order=order,
            limit=limit,
            continuation_token=continuation_token,
            prefix_match=prefix_match,
            part=part,
        )

    def count(self, query: str | None = None, cap: int = 10_000) -> Count:
        """How many live objects a search finds, at most cap. Count(number, capped)."""
        return statistics.count(self, query, cap)

    def statistics(self) -> Statistics:
        """Objects and bytes by backend, class and type, versions and markers, and what the last 24 hours saw."""
        return statistics.statistics(self)

    def log_audit(
        self,
        action: str,
        object_key: str | None = None,
        user_id: str | None = None,
        username: str | None = None,
        version_id: str | None = None,
        ip_address: str | None = None,
        user_agent: str | None = None,
        success: bool = True,
        error_message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        **fields: Any,
    ) -> UUID:
        """Write a row of the access log about what was done elsewhere; returns its id. fields: see trail.log."""
        said = {
            "object_key": object_key,
            "user_id": user_id,
            "username": username,
            "version_id": version_id,
            "ip_address": ip_address,
            "user_agent": user_agent,
            "error_message": error_message,
            "metadata": metadata,
        }
        given = {name: value for name, value in said.items() if value is not None}
        return trail.log(self, action, created_at=created_at, success=success, **given, **fields)

    def get_audit_logs(
        self,
        object_key: str | None = None,
        user_id: str | None = None,
        action: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        limit: int = 100,
        **filters: Any,
    ) -> AuditPage:
        """Rows of the access log, newest first, from start_date (included) to end_date (not). filters: see trail.logs."""
        dates = {name: at for name, at in (("since", start_date), ("until", end_date)) if at is not None}
        return trail.logs(self, object_key=object_key, user_id=user_id, action=action, limit=limit, **(dates | filters))

    def cleanup_old_audits(self, days: int = 365, dry_run: bool = False) -> int:
        """Remove rows of the access log older than so many days and not held; returns how many. See trail.cleanup."""
        return trail.cleanup(self, days, dry_run)

    def log_hook_execution(self, **fields: Any) -> HookExecution:
        """Write down that a hook was told of something by somebody else. See statistics of hooks."""
        return executions.log(self, **fields)

    def get_hook_statistics(self, hours: int = 24) -> list[HookStatistics]:
        """Attempts of the last hours by hook: how many, how many succeeded, how long they took."""
        return executions.statistics(self, hours)
