"""Heads and their versions, in an open transaction: the statements beneath every change. They ask nobody and tell nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from django.db import IntegrityError, connections, transaction
from django.db.backends.utils import CursorWrapper

from controlplane.core.conf import conf
from controlplane.core.ids import now, uuid7
from controlplane.core.statements import fetch, plain
from storage_meta import trail
from storage_meta.conditions import taken
from storage_meta.contents import Said
from storage_meta.errors import InvalidArgument, NoSuchBucket, ObjectLocked, StorageError
from storage_meta.models import Bucket, StorageObject
from storage_meta.results import Change, PutResult

if TYPE_CHECKING:
    from storage_meta.handle import Files

LONGEST_RETENTION = 1_000_000
"""Days of a bucket's default: what comes behind year 9999 could not be read back."""

MARKER = Said()


@contextmanager
def change() -> Iterator[CursorWrapper]:
    """A transaction on the control plane's database; what its rules refuse leaves as an error of ours."""
    try:
        with transaction.atomic(using=conf.DATABASE), connections[conf.DATABASE].cursor() as cursor:
            yield cursor
    except IntegrityError as error:
        refused = _refusal(error)
        if refused is None:
            raise
        raise refused from error


def _refusal(error: IntegrityError) -> StorageError | None:
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error):
        return None
    match cause.diag.constraint_name:
        case "cp_storage_meta_storageversion_held":
            return ObjectLocked(message=f"{cause.diag.message_primary} {cause.diag.message_hint}")
        case "cp_storage_meta_storageversion_external_id_once":
            return InvalidArgument(
                message="The key has a version of this id already. Give another version_id, or none."
            )
        case "cp_storage_meta_storageobject_bucket_of_tenant" | "cp_storage_meta_storageversion_bucket_of_tenant":
            return removed()
    return None


@dataclass(frozen=True, slots=True)
class Locked:
    """A head whose row is locked until the transaction ends."""

    id: UUID
    current_version_id: UUID
    is_delete_marker: bool
    etag: str

    @property
    def live_etag(self) -> str | None:
        return None if self.is_delete_marker else self.etag


_LOOK = (
    "SELECT id, current_version_id, is_delete_marker, etag FROM cp_storage_meta_storageobject "
    "WHERE tenant_id = %s AND bucket_id = %s AND object_key = %s"
)
_LOCK, _LOCK_SHARED = f"{_LOOK} FOR UPDATE", f"{_LOOK} FOR SHARE"


def lock(cursor: CursorWrapper, bucket: Bucket, key: str, *, shared: bool = False) -> Locked | None:
    """The head of a key, None: there is none. Versions come and go under this lock alone. shared: against their going."""
    cursor.execute(_LOCK_SHARED if shared else _LOCK, [bucket.tenant_id, bucket.pk, key])
    found = cursor.fetchone()
    return None if found is None else Locked(*found)


# The versioning stays as it was read until the transaction ends: who changes it waits, and so does a put for who does.
_SETTLED = (
    "SELECT versioning, versioning <> 'enabled' AS null_version FROM cp_storage_meta_bucket "
    "WHERE tenant_id = %(tenant)s AND id = %(bucket)s FOR SHARE"
)


def settle(cursor: CursorWrapper, bucket: Bucket) -> None:
    """Read the versioning of a bucket for what is to be decided by it in the open transaction. Raises NoSuchBucket."""
    cursor.execute(_SETTLED, {"tenant": bucket.tenant_id, "bucket": bucket.pk})
    found = cursor.fetchone()
    if found is None:
        raise removed()
    bucket.versioning = found[0]


def removed() -> NoSuchBucket:
    return NoSuchBucket(message="The bucket has just been removed. Check its name.")


# The clock that a conflict is answered with is read under the lock of the row, so what comes second is second in change_seq.
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
CONTENT = "size, content_type, etag, checksum_sha256, storage_backend, storage_class, metadata, tags"
SET = ", ".join(f"{name} = {{0}}.{name}" for name in CONTENT.split(", "))
_HEAD = f"""
    INSERT INTO cp_storage_meta_storageobject AS head
        (id, tenant_id, bucket_id, object_key, current_version_id, next_seq, change_seq, is_delete_marker, last_modified,
         created_at, {CONTENT})
    SELECT %(head)s, %(tenant)s, %(bucket)s, %(key)s, %(version)s, 2, {CLOCK}, %(marker)s, clock_timestamp(),
        clock_timestamp(), %(size)s, %(content_type)s, %(etag)s, %(checksum_sha256)s, %(storage_backend)s, %(storage_class)s,
        %(metadata)s::jsonb, %(tags)s::jsonb
    FROM bucket
    ON CONFLICT (tenant_id, bucket_id, object_key) DO UPDATE SET
        current_version_id = excluded.current_version_id, next_seq = head.next_seq + 1,
        change_seq = greatest(head.change_seq + 1, {CLOCK}), is_delete_marker = excluded.is_delete_marker,
        last_modified = clock_timestamp(), {SET.format("excluded")}
    WHERE NOT %(vacant)s OR head.is_delete_marker
    RETURNING head.*, head.xmax = 0 AS fresh, {CLOCK} - head.change_seq AS late
"""  # noqa: S608 - columns and the clock, no values
_VERSION = f"""
    INSERT INTO cp_storage_meta_storageversion
        (id, tenant_id, object_id, bucket_id, seq, null_version, external_id, is_delete_marker, blob_name, created_by, comment,
         legal_hold, retain_until, created_at, {CONTENT})
    SELECT head.current_version_id, head.tenant_id, head.id, head.bucket_id, head.next_seq - 1, bucket.null_version,
        %(external_id)s, head.is_delete_marker, %(blob_name)s, %(created_by)s, %(comment)s, false, %(retain_until)s,
        head.last_modified, {CONTENT}
"""
_TOLD = (
    "SELECT id, next_seq - 1, change_seq, last_modified, created_at, fresh, late, null_version, EXISTS ("
    "SELECT FROM cp_storage_meta_storagehook hook WHERE hook.tenant_id = %(tenant)s AND hook.enabled)"
)
# One statement, but for a null version that may have to make room for another: it is looked for under the lock.
_ADD_NAMED = (
    f"WITH bucket AS ({_SETTLED}), head AS ({_HEAD}), "
    f"version AS ({_VERSION} FROM head, bucket WHERE fresh OR NOT null_version) {_TOLD} FROM head, bucket"
)
_NAME = re.compile(r"%\((\w+)\)s")
_ADD, _ADD_PARAMS = _NAME.sub("%s", _ADD_NAMED), _NAME.findall(_ADD_NAMED)
_REPLACE = f"""
    WITH gone AS (
        DELETE FROM cp_storage_meta_storageversion
        WHERE tenant_id = %(tenant)s AND object_id = %(head)s AND null_version RETURNING 1)
    {_VERSION} FROM cp_storage_meta_storageobject head, (VALUES (true)) bucket(null_version)
    WHERE tenant_id = %(tenant)s AND id = %(head)s AND (SELECT count(*) FROM gone) >= 0
"""  # noqa: S608
LATE = 1000  # µs: a new row that waited for the end of an older one of its key began its clock before that went
_NAMES = [field.attname for field in StorageObject._meta.concrete_fields if field.attname != "search_vector"]


@dataclass(frozen=True, slots=True)
class Added:
    """A version that was put, and its head. null: its id is `null`. heard: the tenant has hooks, which may want to be told."""

    head: StorageObject
    seq: int
    null: bool
    heard: bool

    @property
    def version_id(self) -> str:
        return "null" if self.null else self.head.current_version_id.hex

    def result(self, over_quota: bool = False) -> PutResult:
        head = self.head
        return PutResult(head, self.version_id, head.etag, head.size, head.checksum_sha256, self.seq, over_quota)

    def change(self, bucket: Bucket) -> Change:
        head = self.head
        return Change(
            bucket_id=bucket.pk,
            bucket=bucket.name,
            key=head.object_key,
            version_id=self.version_id,
            sequence=head.change_seq,
            size=head.size,
            etag=head.etag,
            content_type=head.content_type,
            is_delete_marker=head.is_delete_marker,
        )


def add(
    cursor: CursorWrapper,
    files: Files,
    bucket: Bucket,
    key: str,
    said: Said,
    *,
    marker: bool = False,
    vacant: bool = False,
) -> Added:
    """The next version of a key, on top of the others or, where the bucket is not versioned, in place of the null version.

    vacant: only where no live object is, else PreconditionFailed. Raises ObjectLocked (`change`) for a null version that is held.
    """
    given: dict[str, Any] = {
        "head": uuid7(),
        "tenant": bucket.tenant_id,
        "bucket": bucket.pk,
        "key": key,
        "version": uuid7(),
        "marker": marker,
        "vacant": vacant,
        "size": plain(said.size),
        "content_type": said.content_type,
        "etag": said.etag,
        "checksum_sha256": said.checksum_sha256,
        "storage_backend": said.storage_backend,
        "storage_class": said.storage_class,
        "metadata": json.dumps(said.metadata, ensure_ascii=False),
        "tags": json.dumps(said.tags, ensure_ascii=False),
        "external_id": said.external_id,
        "blob_name": said.blob_name,
        "comment": said.comment,
        "created_by": author(files),
        "retain_until": None if marker else retained_until(bucket, now()),
    }
    found = fetch(cursor.db.alias, _ADD, [given[name] for name in _ADD_PARAMS])
    if not found:
        settle(cursor, bucket)
        raise taken(key)
    [(head_id, seq, sequence, last_modified, created_at, fresh, late, null, heard)] = found
    if null and not fresh:
        cursor.execute(_REPLACE, {**given, "head": head_id})
    if fresh and late > LATE:
        sequence = touch(cursor, bucket.tenant_id, head_id)
    values = {
        **given,
        "id": head_id,
        "tenant_id": bucket.tenant_id,
        "bucket_id": bucket.pk,
        "object_key": key,
        "current_version_id": given["version"],
        "next_seq": seq + 1,
        "change_seq": sequence,
        "is_delete_marker": marker,
        "last_modified": last_modified,
        "created_at": created_at,
        "size": said.size,
        "metadata": said.metadata,
        "tags": said.tags,
    }
    head = StorageObject.from_db(conf.DATABASE, _NAMES, [values[name] for name in _NAMES])
    head.bucket = bucket
    return Added(head, seq, null, heard)


def author(files: Files) -> str:
    """Who puts, as a version remembers it."""
    actor = trail.who(files)
    told = (actor.label or actor.id).replace("\0", "")
    return told.encode(errors="replace").decode()[:255]


def retained_until(bucket: Bucket, at: datetime) -> datetime | None:
    """Until when a version that comes now is kept, as the bucket says."""
    if bucket.default_retain_days is None:
        return None
    return at + timedelta(days=min(bucket.default_retain_days, LONGEST_RETENTION))


def touch(cursor: CursorWrapper, tenant_id: UUID, head_id: UUID) -> int:
    """One more change of a key; its place among them."""
    cursor.execute(
        f"UPDATE cp_storage_meta_storageobject SET change_seq = greatest(change_seq + 1, {CLOCK}) "  # noqa: S608
        "WHERE tenant_id = %s AND id = %s RETURNING change_seq",
        [tenant_id, head_id],
    )
    sequence: int = cursor.fetchone()[0]
    return sequence


def remove(cursor: CursorWrapper, tenant_id: UUID, head_id: UUID, version_ids: list[UUID]) -> int:
    """Versions of a locked head go, for good; returns the place of that among the changes of the key.

    The newest that is left is what the head shows from now on; with the last one the head goes. Raises ObjectLocked (`change`).
    """
    cursor.execute(
        "DELETE FROM cp_storage_meta_storageversion WHERE tenant_id = %s AND object_id = %s AND id = ANY(%s::uuid[])",
        [tenant_id, head_id, version_ids],
    )
    cursor.execute(_SETTLE, {"tenant": tenant_id, "head": head_id})
    sequence: int = cursor.fetchone()[0]
    return sequence


_SETTLE = f"""
    WITH newest AS (
        SELECT * FROM cp_storage_meta_storageversion
        WHERE tenant_id = %(tenant)s AND object_id = %(head)s ORDER BY seq DESC LIMIT 1
    ), kept AS (
        UPDATE cp_storage_meta_storageobject head
        SET current_version_id = newest.id, is_delete_marker = newest.is_delete_marker, last_modified = newest.created_at,
            change_seq = greatest(head.change_seq + 1, {CLOCK}), {SET.format("newest")}
        FROM newest WHERE head.tenant_id = %(tenant)s AND head.id = %(head)s RETURNING head.change_seq
    ), gone AS (
        DELETE FROM cp_storage_meta_storageobject
        WHERE tenant_id = %(tenant)s AND id = %(head)s AND NOT EXISTS (SELECT FROM newest)
        RETURNING greatest(change_seq + 1, {CLOCK})
    )
    SELECT * FROM kept UNION ALL SELECT * FROM gone
"""  # noqa: S608
