"""Versions that were made elsewhere, and have an id there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper
from django.db.models import Min

from auditing.context import Actor
from controlplane.core.ids import now
from storage_meta import access, blobs, lookups, outbox, trail, versions
from storage_meta.conditions import look
from storage_meta.contents import COMMENT, Said
from storage_meta.errors import InvalidArgument
from storage_meta.keys import check_key, check_tags, check_text
from storage_meta.models import Bucket, StorageObject, StorageVersion
from storage_meta.models.objects import CONTENT
from storage_meta.results import Change

if TYPE_CHECKING:
    from storage_meta.handle import Files


def record_version(
    files: Files,
    key: str,
    version_id: str,
    *,
    is_latest: bool = True,
    tags: Any = None,
    comment: str | None = None,
    created_by: str | None = None,
    **content: Any,
) -> StorageVersion:
    """Record a version that was made elsewhere, under its id there (external_id).

    Of one that is known, by whichever id, tags and comment are set, unless they are None, and nothing else. A new one is put as
    by put_object without a body, whose further arguments it takes, storage_backend and checksum_sha256 too; with
    is_latest=False it becomes the oldest version instead, where the key has any. created_by: who made it there, whom the
    version and the access log name.
    """
    if created_by is not None:
        files = _by(files, created_by)
    with trail.asked(files, "s3:PutObject", "CREATE", key, version_id):
        check_key(key)
        lookups.check_version_id(version_id)
        if not isinstance(is_latest, bool):
            raise InvalidArgument(message=f"is_latest is {is_latest!r:.40}. Give True or False.")
        found_tags = None if tags is None else check_tags(tags)
        if comment is not None:
            check_text("comment", comment, COMMENT)
        said = Said.checked(**_known(content), tags=tags, comment=comment, external_id=version_id)
        access.demand(files, "write", key)
        seen = look(files, key)
        bucket = seen.bucket
        with versions.change() as cursor:
            versions.settle(cursor, bucket)
            head = versions.lock(cursor, bucket, key)
            known = None if head is None else lookups.version_of(head.id, files.tenant_id, version_id)
            if head is not None and known is not None:
                return _described(
                    cursor, files, bucket, known, found_tags, comment, head.current_version_id == known.pk
                )
            if version_id == lookups.NULL:
                raise InvalidArgument(
                    message="No version of the key has the id null. Put one, or give the id it has elsewhere."
                )
            seen.demand_quota(said.size)
            if is_latest or head is None:
                return _put(cursor, files, bucket, key, said)
            return _put_below(cursor, files, bucket, key, said, head)


def _by(files: Files, name: str) -> Files:
    named = check_text("created_by", name, 255)
    return replace(files, actor=Actor("user", named, named))


def _known(content: dict[str, Any]) -> dict[str, Any]:
    allowed = {*CONTENT, "size"} - {"tags"}
    if unknown := content.keys() - allowed:
        raise InvalidArgument(
            message=f"Nothing is known of {', '.join(sorted(unknown))[:200]}. Use {', '.join(sorted(allowed))}."
        )
    return content


def _described(
    cursor: CursorWrapper,
    files: Files,
    bucket: Bucket,
    version: StorageVersion,
    tags: dict[str, str] | None,
    comment: str | None,
    current: bool,
) -> StorageVersion:
    said: dict[str, Any] = {"tags": tags, "comment": comment}
    said = {name: value for name, value in said.items() if value is not None}
    for name, value in said.items():
        setattr(version, name, value)
    if said:
        version.save(update_fields=said)
    if current and tags is not None:
        StorageObject.objects.filter(tenant_id=files.tenant_id, pk=version.object_id).update(tags=tags)
    sequence = versions.touch(cursor, files.tenant_id, version.object_id)
    change = Change.of(bucket, version.object.object_key, version, sequence, said)
    trail.write(cursor, files, "s3:PutObjectTagging", "UPDATE_METADATA", [change.row()])
    if tags is not None:
        outbox.put(cursor, files, "s3:ObjectTagging:Put", [change.event()])
    return version


def _put(cursor: CursorWrapper, files: Files, bucket: Bucket, key: str, said: Said) -> StorageVersion:
    added = versions.add(cursor, files, bucket, key, said)
    change = added.change(bucket)
    trail.write(cursor, files, "s3:PutObject", "CREATE", [change.row()])
    outbox.put(cursor, files, "s3:ObjectCreated:Put", [change.event()])
    if added.null:  # what it replaced may have had a blob
        blobs.remove_after_commit(files.tenant_id)
    version = StorageVersion.objects.get(tenant_id=files.tenant_id, pk=added.head.current_version_id)
    version.object = added.head
    return version


def _put_below(
    cursor: CursorWrapper, files: Files, bucket: Bucket, key: str, said: Said, head: versions.Locked
) -> StorageVersion:
    if bucket.versioning == Bucket.Versioning.UNVERSIONED:
        raise InvalidArgument(
            message="This bucket keeps one version of a key. Enable its versioning to record older ones."
        )
    of_key = StorageVersion.objects.filter(tenant_id=files.tenant_id, object_id=head.id)
    lowest = of_key.aggregate(lowest=Min("seq"))["lowest"]
    content = {name: getattr(said, name) for name in CONTENT}
    version = StorageVersion.objects.create(
        tenant_id=files.tenant_id,
        object_id=head.id,
        bucket=bucket,
        seq=lowest - 1,
        external_id=said.external_id,
        comment=said.comment,
        created_by=versions.author(files),
        retain_until=versions.retained_until(bucket, now()),
        created_at=now(),
        **content,
    )
    sequence = versions.touch(cursor, files.tenant_id, head.id)
    change = Change.of(bucket, key, version, sequence)
    trail.write(cursor, files, "s3:PutObject", "CREATE", [change.row()])
    outbox.put(cursor, files, "s3:ObjectCreated:Put", [change.event()])
    return version
