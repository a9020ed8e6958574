"""What goes from a key: a marker on top of it, or a version for good, as the bucket's versioning says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from django.db.backends.utils import CursorWrapper

from storage_meta import access, blobs, lookups, outbox, trail, versions
from storage_meta.errors import InvalidArgument
from storage_meta.keys import check_key
from storage_meta.models import Bucket, StorageVersion
from storage_meta.results import Change, DeleteResult

if TYPE_CHECKING:
    from storage_meta.handle import Files

MOST_KEYS = 1000

Done = tuple[DeleteResult, Change]


def delete(files: Files, key: str, version_id: str | None = None) -> DeleteResult:
    """See Files.delete_object. An unknown key, or id, is no error: what is not there need not be removed."""
    action = "s3:DeleteObject" if version_id is None else "s3:DeleteObjectVersion"
    with trail.asked(files, action, "DELETE", key, version_id):
        check_key(key)
        if version_id is not None:
            lookups.check_version_id(version_id)
        access.demand(files, "delete", key)
        bucket = files.the_bucket()
        with versions.change() as cursor:
            if version_id is None:
                versions.settle(cursor, bucket)
                done = _delete(cursor, files, bucket, key)
            else:
                done = _delete_version(cursor, files, bucket, key, version_id)
            _tell(cursor, files, action, [done])
    return done[0]


def delete_many(files: Files, keys: Sequence[str]) -> list[DeleteResult]:
    """See Files.delete_objects: all of the keys or, where one is refused, none."""
    with trail.asked(files, "s3:DeleteObject", "DELETE"):
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise InvalidArgument(message=f"keys is {type(keys).__name__}. Give a list of keys.")
        given = [check_key(key) for key in keys]
        if len(given) > MOST_KEYS:
            raise InvalidArgument(message=f"There are {len(given):,} keys. Give {MOST_KEYS:,} at most.")
        for key in given or [""]:
            access.demand(files, "delete", key)
        bucket = files.the_bucket()
        done: dict[int, Done] = {}
        with versions.change() as cursor:
            versions.settle(cursor, bucket)
            # in one order for everybody, so that two calls never wait for each other in a ring
            for place in sorted(range(len(given)), key=lambda place: given[place]):
                done[place] = _delete(cursor, files, bucket, given[place])
            _tell(cursor, files, "s3:DeleteObject", [done[place] for place in range(len(given))])
    return [done[place][0] for place in range(len(given))]


def _delete(cursor: CursorWrapper, files: Files, bucket: Bucket, key: str) -> Done:
    head = versions.lock(cursor, bucket, key)
    live = head is not None and not head.is_delete_marker
    if bucket.versioning != Bucket.Versioning.UNVERSIONED:
        added = versions.add(cursor, files, bucket, key, versions.MARKER, marker=True)
        return DeleteResult(True, added.version_id, live), added.change(bucket)
    if head is None:
        return DeleteResult(False, None, False), Change(bucket.pk, bucket.name, key, "", None)
    version = StorageVersion.objects.get(tenant_id=files.tenant_id, pk=head.current_version_id)
    return _removed(cursor, files, bucket, key, version)


def _delete_version(cursor: CursorWrapper, files: Files, bucket: Bucket, key: str, version_id: str) -> Done:
    head = versions.lock(cursor, bucket, key)
    version = None if head is None else lookups.version_of(head.id, files.tenant_id, version_id)
    if version is None:
        return DeleteResult(False, None, False), Change(bucket.pk, bucket.name, key, version_id, None)
    return _removed(cursor, files, bucket, key, version)


def _removed(cursor: CursorWrapper, files: Files, bucket: Bucket, key: str, version: StorageVersion) -> Done:
    sequence = versions.remove(cursor, files.tenant_id, version.object_id, [version.pk])
    result = DeleteResult(version.is_delete_marker, version.version_id, True)
    return result, Change.of(bucket, key, version, sequence)


def _tell(cursor: CursorWrapper, files: Files, action: str, done: list[Done]) -> None:
    trail.write(cursor, files, action, "DELETE", [change.row() for _, change in done])
    for event, put in (("s3:ObjectRemoved:DeleteMarkerCreated", True), ("s3:ObjectRemoved:Delete", False)):
        changes = [
            change.event() for _, change in done if change.sequence is not None and _is_put(action, change) is put
        ]
        if changes:
            outbox.put(cursor, files, event, changes)
    blobs.remove_after_commit(files.tenant_id)


def _is_put(action: str, change: Change) -> bool:
    """Whether a marker was put; the id of one removed it."""
    return change.is_delete_marker and action == "s3:DeleteObject"
