"""What comes to a key: put, copy, restore. One transaction for head, version, access log and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper

from storage_meta import access, blobs, lookups, outbox, trail, versions
from storage_meta.blobs import Body, Received
from storage_meta.bulk import bulk_put
from storage_meta.conditions import Conditions, Seen, look
from storage_meta.contents import Said, said_of
from storage_meta.deleting import delete, delete_many
from storage_meta.elsewhere import record_version
from storage_meta.errors import InvalidArgument
from storage_meta.holding import legal_hold, retain, tag
from storage_meta.keys import check_key, check_metadata
from storage_meta.models import Bucket, StorageVersion
from storage_meta.results import Change, DeleteResult, PutResult
from storage_meta.versions import Added

if TYPE_CHECKING:
    from storage_meta.handle import Files

__all__ = [
    "DeleteResult",
    "PutResult",
    "bulk_put",
    "copy",
    "delete",
    "delete_many",
    "legal_hold",
    "put",
    "record_version",
    "restore",
    "retain",
    "tag",
]


def put(
    files: Files,
    key: str,
    body: Body | None,
    *,
    size: int | None = None,
    etag: str | None = None,
    part_size: int | None = None,
    if_none_match: str | None = None,
    if_match: str | None = None,
    **content: Any,
) -> PutResult:
    """See Files.put_object. content: content_type, metadata, tags, storage_class, comment; without a body also storage_backend
    (a free label), checksum_sha256, external_id."""
    with trail.asked(files, "s3:PutObject", "CREATE", key):
        check_key(key)
        said = Said.checked(size=size, etag=etag, **content)
        conditions = Conditions.checked(if_none_match, if_match)
        _check_body(body, size, etag, part_size)
        access.demand(files, "write", key)
        seen = look(files, key)
        bucket = seen.bucket
        announced = said.size if body is None else _announced(body)
        over = seen.demand_quota(announced)
        conditions.demand(key, seen.live_etag)
        if body is None:
            return _stored(files, bucket, key, said, conditions, None, over)
        received = blobs.receive(files.tenant_id, bucket.storage, body, part_size=part_size)
        try:
            if received.size > announced:
                over = seen.demand_quota(received.size)
            return _stored(files, bucket, key, said.with_bytes(received), conditions, received, over)
        except BaseException:
            blobs.dropped(received)
            raise


def _check_body(body: Body | None, size: int | None, etag: str | None, part_size: object) -> None:
    if body is not None and (size is not None or etag is not None):
        raise InvalidArgument(message="size and etag are measured where there is a body. Leave them out.")
    if part_size is not None and (not isinstance(part_size, int) or isinstance(part_size, bool) or part_size < 1):
        raise InvalidArgument(message=f"part_size is {part_size!r:.40}. Give whole bytes, 1 or more, or leave it out.")


def _announced(body: Body) -> int:
    """Bytes that a body says it has, before it is read; 0: it does not say."""
    if isinstance(body, bytes | bytearray | memoryview):
        return len(body)
    try:
        told = getattr(body, "size", None)
    except Exception:  # a file of Django's that is closed, or has no size: it will be counted
        return 0
    return told if isinstance(told, int) and told > 0 else 0


def _stored(
    files: Files,
    bucket: Bucket,
    key: str,
    said: Said,
    conditions: Conditions,
    received: Received | None,
    over: bool,
) -> PutResult:
    with versions.change() as cursor:
        if conditions.etag is not None:
            locked = versions.lock(cursor, bucket, key)
            conditions.demand(key, None if locked is None else locked.live_etag)
        added = versions.add(cursor, files, bucket, key, said, vacant=conditions.vacant)
        event = "s3:ObjectCreated:Put"
        if received is not None:
            blobs.kept(cursor, received)
            if "-" in received.etag:
                event = "s3:ObjectCreated:CompleteMultipartUpload"
        _tell(cursor, files, bucket, "s3:PutObject", event, added)
    return added.result(over)


def _tell(cursor: CursorWrapper, files: Files, bucket: Bucket, action: str, event: str, added: Added) -> None:
    change = added.change(bucket)
    trail.write(cursor, files, action, "CREATE", [change.row()])
    if added.heard:
        outbox.put(cursor, files, event, [change.event()])
    if added.null:  # what it replaced may have had a blob
        blobs.remove_after_commit(files.tenant_id)


def copy(
    files: Files,
    key: str,
    new_key: str,
    *,
    version_id: str | None = None,
    bucket: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PutResult:
    """See Files.copy_object. The source is locked until the copy is committed, so that its blob is not removed meanwhile."""
    target_files = files if bucket is None else files.bucket(bucket)
    with trail.asked(target_files, "s3:CopyObject", "CREATE", new_key):
        check_key(new_key)
        said_metadata = None if metadata is None else check_metadata(metadata)
        source = lookups.allowed_to_read(files, key, version_id)
        access.demand(target_files, "write", new_key)
        seen = look(target_files, new_key)
        target = seen.bucket
        _, version = lookups.find(files, source, key, version_id)
        over = seen.demand_quota(version.size)
        with versions.change() as cursor:
            _lock_both(cursor, (source, key), (target, new_key))
            version = _held_fast(cursor, files, source, key, version_id)
            said = said_of(version, said_metadata)
            added = versions.add(cursor, target_files, target, new_key, said)
            _tell(cursor, target_files, target, "s3:CopyObject", "s3:ObjectCreated:Copy", added)
    return added.result(over)


def _lock_both(cursor: CursorWrapper, source: tuple[Bucket, str], target: tuple[Bucket, str]) -> None:
    """Heads of source and target, in one order for everybody: two copies across each other wait and do not block."""
    for place in sorted({(at[0].pk, at[1]): at for at in (source, target)}.values(), key=lambda at: (at[0].pk, at[1])):
        versions.lock(cursor, *place, shared=(place[0].pk, place[1]) != (target[0].pk, target[1]))


def _held_fast(cursor: CursorWrapper, files: Files, source: Bucket, key: str, version_id: str | None) -> StorageVersion:
    _, version = lookups.find(files, source, key, version_id)
    cursor.execute(
        "SELECT FROM cp_storage_meta_storageversion WHERE tenant_id = %s AND id = %s FOR SHARE",
        [files.tenant_id, version.pk],
    )
    if cursor.rowcount != 1:  # removed past the lock of its head, as in psql
        raise lookups.no_such_version(key, version.version_id)
    return version


def restore(files: Files, key: str, version_id: str | None) -> PutResult:
    """See Files.restore_object. Without an id, of what is not deleted nothing is changed."""
    with trail.asked(files, "s3:RestoreObject", "CREATE", key, version_id):
        check_key(key)
        if version_id is not None:
            lookups.check_version_id(version_id)
        access.demand(files, "write", key)
        seen = look(files, key)
        if version_id is None:
            return _uncovered(files, seen.bucket, key)
        return _again(files, seen, key, version_id)


def _uncovered(files: Files, bucket: Bucket, key: str) -> PutResult:
    with versions.change() as cursor:
        head = versions.lock(cursor, bucket, key)
        if head is None:
            raise lookups.unknown(key)
        ordered = StorageVersion.objects.filter(tenant_id=files.tenant_id, object_id=head.id).newest_first()
        version = ordered.filter(is_delete_marker=False).first()
        if version is None:
            raise lookups.deleted(key)
        sequence = None
        if head.is_delete_marker:
            markers = list(ordered.filter(seq__gt=version.seq).values_list("pk", flat=True))
            sequence = versions.remove(cursor, files.tenant_id, head.id, markers)
        change = Change.of(bucket, key, version, sequence)
        trail.write(cursor, files, "s3:RestoreObject", "CREATE", [change.row()])
        if sequence is not None:
            outbox.put(cursor, files, "s3:ObjectRestore:Completed", [change.event()])
        found = lookups.current(bucket, key)
    found.bucket = bucket
    return PutResult(found, version.version_id, version.etag, version.size, version.checksum_sha256, version.seq)


def _again(files: Files, seen: Seen, key: str, version_id: str) -> PutResult:
    bucket = seen.bucket
    _, version = lookups.find(files, bucket, key, version_id)
    over = seen.demand_quota(version.size)
    with versions.change() as cursor:
        versions.lock(cursor, bucket, key)
        version = _held_fast(cursor, files, bucket, key, version_id)
        added = versions.add(cursor, files, bucket, key, said_of(version))
        _tell(cursor, files, bucket, "s3:RestoreObject", "s3:ObjectRestore:Completed", added)
    return added.result(over)
