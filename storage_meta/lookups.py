"""What a key, or an id of a version of it, stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connections
from django.db.models import F, Q

from controlplane.core.conf import conf
from storage_meta import access, trail
from storage_meta.errors import InvalidArgument, MethodNotAllowed, NoSuchKey, NoSuchVersion
from storage_meta.keys import check_key, check_text
from storage_meta.models import Bucket, StorageObject, StorageVersion

if TYPE_CHECKING:
    from storage_meta.handle import Files

NULL = "null"
VERSION_ID = 1024
"""Characters of an id that a version has elsewhere, at most."""

_OURS = re.compile(r"[0-9a-f]{32}")


def check_version_id(version_id: object) -> str:
    """The id as text: `null`, ours, or one made elsewhere. Raises InvalidArgument."""
    found = check_text("version_id", version_id, VERSION_ID)
    if not found:
        raise InvalidArgument(message="version_id is empty. Leave it out for the current version, or give an id.")
    return found


def head(files: Files, key: str, version_id: str | None = None) -> StorageObject | StorageVersion:
    """A head, or with version_id that version. Raises NoSuchKey, NoSuchVersion, MethodNotAllowed, AccessDenied."""
    with trail.asked(files, "s3:HeadObject", "READ", key, version_id):
        bucket = allowed_to_read(files, key, version_id)
        found: StorageObject | StorageVersion = (
            current(bucket, key) if version_id is None else find(files, bucket, key, version_id)[1]
        )
        if bucket.audit_reads == Bucket.AuditReads.ALL:
            row = {
                "bucket": bucket.name,
                "object_key": key,
                "version_id": version_id or "",
                "size": found.size,
                "etag": found.etag,
            }
            with connections[conf.DATABASE].cursor() as cursor:
                trail.write(cursor, files, "s3:HeadObject", "READ", [row])
        return found


def allowed_to_read(files: Files, key: str, version_id: str | None) -> Bucket:
    """The bucket of the handle, where key and id can be some and the policies let them be read."""
    check_key(key)
    if version_id is not None:
        check_version_id(version_id)
    access.demand(files, "read", key)
    return files.the_bucket()


def find(files: Files, bucket: Bucket, key: str, version_id: str | None) -> tuple[StorageObject, StorageVersion]:
    """Head and version that hold something. Without an id the current version, else the one it names: `null`, our id in 32
    hex digits, or the id that it has elsewhere.

    Asks no policy. Raises NoSuchKey (delete_marker=True under a marker), NoSuchVersion, and MethodNotAllowed for a marker's id.
    """
    versions = (
        StorageVersion.objects.filter(
            tenant_id=files.tenant_id, object__tenant_id=files.tenant_id, object__bucket=bucket, object__object_key=key
        )
        .select_related("object")
        .defer("object__search_vector")
    )
    if version_id is None:
        # deleted or not, the current version tells
        return told(key, versions.filter(object__current_version=F("pk")).first(), None)
    named = check_version_id(version_id)
    return told(key, _meant(versions.filter(of_id(named)), named), named)


def told(key: str, version: StorageVersion | None, version_id: str | None) -> tuple[StorageObject, StorageVersion]:
    """What was found, with its head; raises as `find` does for nothing, and for a marker."""
    if version is None:
        raise unknown(key) if version_id is None else no_such_version(key, version_id)
    if version.is_delete_marker:
        raise deleted(key) if version_id is None else is_marker(version_id)
    return version.object, version


def current(bucket: Bucket, key: str) -> StorageObject:
    """The head of a key, live. Raises NoSuchKey."""
    found: StorageObject | None = StorageObject.objects.filter(
        tenant_id=bucket.tenant_id, bucket=bucket, object_key=key
    ).first()
    if found is None:
        raise unknown(key)
    if found.is_delete_marker:
        raise deleted(key)
    return found


def of_id(version_id: str) -> Q:
    """Which versions of a key an id may mean."""
    if version_id == NULL:
        return Q(null_version=True)
    elsewhere = Q(external_id=version_id)
    # a version whose id is null answers to no other of ours
    return Q(pk=UUID(version_id), null_version=False) | elsewhere if _OURS.fullmatch(version_id) else elsewhere


def _meant(found: Iterable[StorageVersion], version_id: str) -> StorageVersion | None:
    """Of two that an id may mean the one of ours."""
    return max(found, key=lambda version: version.version_id == version_id, default=None)


def version_of(head_id: UUID, tenant_id: UUID, version_id: str) -> StorageVersion | None:
    """The version of a head that an id means, a marker too."""
    found = StorageVersion.objects.filter(of_id(version_id), tenant_id=tenant_id, object_id=head_id)
    return _meant(found, version_id)


def unknown(key: str) -> NoSuchKey:
    return NoSuchKey(f"Nothing is stored under {key!r:.200}. Check the key: upper and lower case differ.")


def deleted(key: str) -> NoSuchKey:
    return NoSuchKey(
        f"{key!r:.200} is deleted: a delete marker lies on its versions. Restore it, or name a version.",
        delete_marker=True,
    )


def no_such_version(key: str, version_id: str) -> NoSuchVersion:
    return NoSuchVersion(
        message=f"{key!r:.200} has no version {version_id!r:.100}. List its versions for those that it has."
    )


def is_marker(version_id: str) -> MethodNotAllowed:
    return MethodNotAllowed(
        message=f"Version {version_id!r:.100} is a delete marker, which holds nothing. Name another version."
    )
