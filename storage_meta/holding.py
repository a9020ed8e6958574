"""What may change of a version: its tags, and how long it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper

from controlplane.core.ids import iso, now
from storage_meta import access, lookups, outbox, trail, versions
from storage_meta.errors import InvalidArgument, ObjectLocked
from storage_meta.keys import check_key, check_tags, check_text
from storage_meta.models import Bucket, StorageObject, StorageVersion
from storage_meta.results import Change

if TYPE_CHECKING:
    from storage_meta.handle import Files

REASON = 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """A version that is to change, under the lock of its head."""

    cursor: CursorWrapper
    bucket: Bucket
    key: str
    head: StorageObject
    version: StorageVersion


def tag(files: Files, key: str, tags: Mapping[str, str], version_id: str | None = None) -> StorageVersion:
    """See Files.put_object_tagging. {} takes them away."""
    action = "s3:PutObjectTagging"
    with trail.asked(files, action, "UPDATE_METADATA", key, version_id):
        found = check_tags(tags)
        bucket = _allowed(files, key, version_id)
        with versions.change() as cursor:
            on = _locked(cursor, files, bucket, key, version_id)
            on.version.tags = found
            on.version.save(update_fields=["tags"])
            if on.head.current_version_id == on.version.pk:
                StorageObject.objects.filter(tenant_id=files.tenant_id, pk=on.head.pk).update(tags=found)
            change = _written(files, action, on, {"tags": found})
            outbox.put(cursor, files, "s3:ObjectTagging:Put", [change.event()])
    return on.version


def legal_hold(files: Files, key: str, on: bool, version_id: str | None = None, reason: str = "") -> StorageVersion:
    """See Files.put_object_legal_hold. The reason is in the access log."""
    action = "s3:PutObjectLegalHold"
    with trail.asked(files, action, "UPDATE_METADATA", key, version_id):
        if not isinstance(on, bool):
            raise InvalidArgument(message=f"on is {on!r:.40}. Give True to hold the version, False to take that back.")
        check_text("reason", reason, REASON)
        bucket = _allowed(files, key, version_id)
        with versions.change() as cursor:
            asked = _locked(cursor, files, bucket, key, version_id)
            asked.version.legal_hold = on
            asked.version.save(update_fields=["legal_hold"])
            _written(files, action, asked, {"legal_hold": on, "reason": reason})
    return asked.version


def retain(
    files: Files,
    key: str,
    until: datetime | None,
    version_id: str | None = None,
    bypass: bool = False,
    reason: str = "",
) -> StorageVersion:
    """See Files.put_object_retention. What has ended already may be changed freely. The reason is in the access log."""
    action = "s3:PutObjectRetention"
    with trail.asked(files, action, "UPDATE_METADATA", key, version_id):
        at = now()
        kept = _check_until(until, at)
        check_text("reason", reason, REASON)
        bucket = _allowed(files, key, version_id)
        with versions.change() as cursor:
            on = _locked(cursor, files, bucket, key, version_id)
            before = on.version.retain_until
            if before is not None and before > at and (kept is None or kept < before):
                _demand_bypass(on.version, bypass, reason)
            on.version.retain_until = kept
            on.version.save(update_fields=["retain_until"])
            said = {
                "retain_until": None if kept is None else iso(kept),
                "before": None if before is None else iso(before),
                "bypass": bool(bypass),
                "reason": reason,
            }
            _written(files, action, on, said)
    return on.version


def _check_until(until: object, at: datetime) -> datetime | None:
    if until is None:
        return None
    if not isinstance(until, datetime) or until.utcoffset() is None:
        raise InvalidArgument(message="until is no instant. Give an aware datetime, or None to end the retention.")
    try:
        found = until.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(message="until is behind the year 9999. Give an earlier instant.") from None
    if found <= at:
        raise InvalidArgument(message="until is past. Give an instant to come, or None to end the retention.")
    return found


def _demand_bypass(version: StorageVersion, bypass: bool, reason: str) -> None:
    if bypass is not True or not reason.strip():
        raise ObjectLocked(
            message=f"Version {version.version_id} is kept until {version.retain_until:%Y-%m-%d %H:%M:%S} UTC. "
            "To shorten that give bypass=True and a reason."
        )


def _allowed(files: Files, key: str, version_id: str | None) -> Bucket:
    check_key(key)
    if version_id is not None:
        lookups.check_version_id(version_id)
    access.demand(files, "write", key)
    return files.the_bucket()


def _locked(cursor: CursorWrapper, files: Files, bucket: Bucket, key: str, version_id: str | None) -> _Asked:
    versions.lock(cursor, bucket, key)
    head, version = lookups.find(files, bucket, key, version_id)
    return _Asked(cursor, bucket, key, head, version)


def _written(files: Files, action: str, on: _Asked, said: dict[str, Any]) -> Change:
    sequence = versions.touch(on.cursor, files.tenant_id, on.head.pk)
    change = Change.of(on.bucket, on.key, on.version, sequence, said)
    trail.write(on.cursor, files, action, "UPDATE_METADATA", [change.row()])
    return change
