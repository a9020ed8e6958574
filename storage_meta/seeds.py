"""The names and arguments that older code calls storage by, each a thin alias: docs/storage-seed.md has the table.

New code uses the names of `Files`. What comes back are our rows, with what its columns were called.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from django.db import connections

from auditing.context import Actor
from controlplane.core.conf import conf
from storage_meta import access, keys, searching, trail
from storage_meta.asking import asked
from storage_meta.errors import InvalidArgument, NoSuchKey
from storage_meta.models import StorageAudit, StorageObject, StorageVersion
from storage_meta.statistics import Statistics

if TYPE_CHECKING:
    from storage_meta.handle import Files

MOST, DEEPEST = 1000, 10_000
OPAQUE = "application/octet-stream"


class SeedNames:
    """What `Files` answers to beside its own names."""

    __slots__ = ()

    def record_object(
        self,
        object_key: str,
        size: int,
        content_type: str,
        etag: str,
        version_id: str | None = None,
        storage_backend: str = "",
        storage_class: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StorageObject:
        """Record an object whose bytes lie elsewhere, as a new version; version_id: its id there, which then is known too."""
        files = _files(self)
        said: dict[str, Any] = {
            "size": size, "etag": etag, "content_type": content_type, "storage_backend": storage_backend,
            "storage_class": "STANDARD" if storage_class is None else storage_class, "metadata": metadata,
        }  # fmt: skip
        if version_id is not None:
            said |= {"version_id": version_id}
        files.bulk_put([{"key": object_key, **said}])
        return cast(StorageObject, files.head_object(object_key))

    def get_object_metadata(self, object_key: str) -> StorageObject | None:
        """The head of a key; None: there is nothing."""
        try:
            return cast(StorageObject, _files(self).head_object(object_key))
        except NoSuchKey:
            return None

    def list_objects(
        self, prefix: str | None = None, storage_backend: str | None = None, limit: int = 1000, offset: int = 0
    ) -> list[StorageObject]:
        """Live objects, newest first; at most 1,000, behind at most 10,000. prefix: literal, no wildcards."""
        files = _files(self)
        limit, offset = _number("limit", limit, MOST), _number("offset", offset, DEEPEST)
        prefix = "" if prefix is None else keys.check_text("prefix", prefix, 1024)
        with asked(files, "s3:ListBucket", StorageAudit.RecordType.READ, prefix):
            access.demand(files, "list", prefix)
            rows = StorageObject.objects.live().filter(tenant_id=files.tenant_id, object_key__gte=prefix)
            if (bound := keys.upper_bound(prefix)) is not None:
                rows = rows.filter(object_key__lt=bound)
            if storage_backend is not None:
                rows = rows.filter(storage_backend=keys.check_text("storage_backend", storage_backend, 64))
            room = None if files.bucket_name is None else files.the_bucket()
            if room is not None:
                rows = rows.filter(bucket=room)
            if searching.recorded(files, room):
                with connections[conf.DATABASE].cursor() as cursor:
                    told = [{"object_key": prefix}]
                    trail.write(cursor, files, "s3:ListBucket", StorageAudit.RecordType.READ, told)
            found = list(rows.select_related("bucket").order_by("-last_modified", "-id")[offset : offset + limit])
        return [one for one in found if access.allowed(files, "list", one.object_key, bucket=one.bucket.name)]

    def list_versions(self, object_key: str, limit: int = 100) -> list[StorageVersion]:
        """Versions and markers of one key, newest first; at most 1,000."""
        page = _files(self).list_object_versions(
            prefix=keys.check_key(object_key), max_keys=_number("limit", limit, MOST)
        )
        return [version for version in page.versions if version.object.object_key == object_key]

    def get_statistics(self) -> Statistics:
        """As `statistics`."""
        return _files(self).statistics()

    def upload_document(
        self,
        file_path: str | os.PathLike[str],
        object_key: str,
        metadata: Mapping[str, Any] | None = None,
        user_id: str | None = None,
        user_name: str | None = None,
    ) -> StorageObject:
        """Put a file of this machine; its name tells the content type. user_id, user_name: whom the access log names."""
        path = _path(file_path)
        try:
            with path.open("rb") as file:
                done = _as(self, user_id, user_name).put_object(
                    object_key, file, metadata=metadata, content_type=mimetypes.guess_type(path.name)[0] or OPAQUE,
                    comment=f"Uploaded from {path}",
                )  # fmt: skip
        except OSError as error:
            raise InvalidArgument(message=f"The file {str(path)!r} cannot be read: {error.strerror}.") from error
        return done.object

    def download_document(
        self,
        object_key: str,
        output_path: str | os.PathLike[str] | None = None,
        version_id: str | None = None,
        user_id: str | None = None,
        user_name: str | None = None,
    ) -> bytes | None:
        """The bytes of a key. output_path: they are written there, chunk by chunk, instead; None is returned.

        The file appears when all of it has come and its SHA-256 is right, never half.
        """
        stored = _as(self, user_id, user_name).get_object(object_key, version_id)
        if output_path is None:
            with stored as chunks:
                return b"".join(chunks)
        path = _path(output_path)
        beside = path.with_name(f".{uuid4().hex}.part")
        try:
            with stored as chunks, beside.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
            beside.replace(path)
        except OSError as error:
            raise InvalidArgument(message=f"The file {str(path)!r} cannot be written: {error.strerror}.") from error
        finally:
            beside.unlink(missing_ok=True)
        return None

    def search_documents(
        self,
        search_query: str | None = None,
        prefix: str | None = None,
        metadata_filters: Mapping[str, Any] | None = None,
        limit: int = 100,
    ) -> list[StorageObject]:
        """Objects that a search finds, the best first; without a query the newest."""
        found = _files(self).search_objects(search_query, prefix=prefix, metadata=metadata_filters, limit=limit)
        return found.objects

    def get_version_history(self, object_key: str) -> list[StorageVersion]:
        """The newest 100 versions of a key."""
        return self.list_versions(object_key)

    def get_audit_trail(
        self, object_key: str | None = None, user_id: str | None = None, limit: int = 1000
    ) -> list[StorageAudit]:
        """Rows of the access log about a key, or by somebody, newest first."""
        return _files(self).get_audit_logs(object_key=object_key, user_id=user_id, limit=limit).rows


def _files(self: SeedNames) -> Files:
    return cast("Files", self)


def _as(self: SeedNames, user_id: str | None, user_name: str | None) -> Files:
    """The handle, for somebody who is named with the call."""
    files = _files(self)
    if user_id is None and user_name is None:
        return files
    id, name = (
        keys.check_text(label, value or "", 255) for label, value in (("user_id", user_id), ("user_name", user_name))
    )
    return replace(files, actor=Actor("user", id, name))


def _number(name: str, value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InvalidArgument(
            message=f"{name} is a whole number from 0 to {most:,}. Go on with a token of list_objects_v2."
        )
    return value


def _path(given: object) -> Path:
    try:
        path = Path(cast(str, given))
        path.as_posix().encode()  # a name that no log can keep
    except (TypeError, ValueError) as error:
        raise InvalidArgument(message="The path of a file is text. Give one.") from error
    if "\x00" in str(path):
        raise InvalidArgument(message="The path of a file has no NUL. Give another.")
    return path
