"""What a key holds: its head, a version of it, its bytes."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from django.db import DatabaseError, InterfaceError, connections

from controlplane.core.conf import conf
from storage_meta import lookups, outbox, trail
from storage_meta.blobs import missing, open_blob
from storage_meta.errors import (
    BlobMissing,
    ChecksumMismatch,
    InvalidArgument,
    InvalidRange,
    NoBlob,
    StorageError,
    StorageUnavailable,
)
from storage_meta.models import Bucket, StorageObject, StorageVersion
from storage_meta.stores import CHUNK, answer
from tenants.apart import apart

if TYPE_CHECKING:
    from storage_meta.handle import Files

ACTION, READ = "s3:GetObject", "READ"

logger = logging.getLogger(__name__)

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.ASCII)


class StoredFile:
    """Bytes of a version, within `with`: iterate it, or `read()`. They can be taken once.

    object, version: the rows. first, last: places of its bytes within the whole, last included; size: how many; total: of the
    whole. The last piece is given only after the SHA-256 of the whole was found right, so who takes all has what was put; a
    part is not checked. Once it is closed it is a row of the access log, with the number of bytes that were taken.
    """

    def __init__(
        self, files: Files, bucket: Bucket, object: StorageObject, version: StorageVersion, first: int, size: int
    ) -> None:
        self.object, self.version = object, version
        self.first, self.size, self.total = first, size, version.size
        self.bytes_sent = 0
        self._files, self._bucket = files, bucket
        self._file = open_blob(version.storage_backend, version.blob_name)
        self._position = 0
        self._digest = hashlib.sha256()
        self._pieces = self._read()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def read(self) -> bytes:
        """All that is left: for what is known to be small."""
        return b"".join(self._pieces)

    @property
    def last(self) -> int:
        return self.first + self.size - 1

    @property
    def key(self) -> str:
        return self.object.object_key

    @property
    def partial(self) -> bool:
        """Whether it is a part of what was put, and so goes unchecked."""
        return self.size != self.total

    @property
    def content_range(self) -> str:
        """As HTTP's header of an answer 206: `bytes 0-99/1234`."""
        return f"bytes {self.first}-{self.last}/{self.total}"

    def close(self) -> None:
        """Give back the file and write the row; what was not taken until now is given up. Again: nothing."""
        self._end(None)

    def _read(self) -> Iterator[bytes]:
        try:
            if self.first:
                self._ask(lambda: self._file.seek(self.first))
            while self._position < self.size:
                piece = self._next()
                self.bytes_sent += len(piece)
                yield piece
            if not self.size:
                self._check()
        except StorageError as error:
            self._end(error)
            raise
        self._end(None)

    def _next(self) -> bytes:
        wanted = min(CHUNK, self.size - self._position)
        piece: bytes = self._ask(lambda: self._file.read(wanted))
        if not piece:
            raise self._mismatch(f"ends after {self.first + self._position:,} of {self.total:,} bytes")
        self._position += len(piece)
        if not self.partial:
            self._digest.update(piece)
            if self._position == self.size:
                self._check()
        return piece

    def _check(self) -> None:
        expected = self.version.checksum_sha256
        if expected and self._digest.hexdigest() != expected:
            raise self._mismatch("is not what was put: its SHA-256 is another")

    def _mismatch(self, what: str) -> ChecksumMismatch:
        return ChecksumMismatch(
            message=f"Version {self.version.version_id} of {self.key!r} {what}. Restore its bytes from a backup."
        )

    def _ask(self, work: Any) -> Any:
        try:
            return answer(self.version.storage_backend, work)
        except FileNotFoundError as error:
            raise missing() from error

    def _end(self, error: StorageError | None) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            answer(self.version.storage_backend, self._file.close)
        except (StorageUnavailable, FileNotFoundError):
            """What was read was read."""
        self._record(error)

    def _record(self, error: StorageError | None) -> None:
        whole = self.bytes_sent == self.size and error is None
        if error is not None:
            error.recorded = True
        elif self._bucket.audit_reads == Bucket.AuditReads.NONE and not whole:
            return
        row = {
            "object_key": self.key,
            "version_id": self.version.version_id,
            "sequencer": self.object.sequencer,
            "size": self.version.size,
            "etag": self.version.etag,
            "bytes_sent": self.bytes_sent,
            "success": whole,
            "error_code": "" if error is None else error.code,
            "error_message": self._ending(error),
        }
        change = {name: row[name] for name in ("object_key", "version_id", "sequencer", "size", "etag")} | {
            "bucket_id": self._bucket.pk,
            "bucket": self._bucket.name,
            "content_type": self.version.content_type,
        }

        def work() -> None:
            with connections[conf.DATABASE].cursor() as cursor:
                if error is not None or self._bucket.audit_reads != Bucket.AuditReads.NONE:
                    trail.write(cursor, self._files, ACTION, READ, [row])
                if whole:
                    outbox.put(cursor, self._files, "s3:ObjectAccessed:Get", [change])

        try:
            apart(work)
        except (DatabaseError, InterfaceError) as failed:
            if error is not None:
                logger.exception("A download of %r that failed could not be recorded", self.key)
                return
            raise StorageUnavailable(
                message="The download cannot be recorded: the database does not answer. Try again later."
            ) from failed

    def _ending(self, error: StorageError | None) -> str:
        if error is not None:
            return error.message
        if self.bytes_sent == self.size:
            return ""
        return f"Broken off after {self.bytes_sent:,} of {self.size:,} bytes."


head = lookups.head


def get(files: Files, key: str, version_id: str | None = None, range: str | None = None) -> StoredFile:
    """Find, open, and leave the rest to StoredFile; see `Files.get_object` for the arguments."""
    with trail.asked(files, ACTION, READ, key, version_id):
        wanted = None if range is None else parsed(range)
        bucket = lookups.allowed_to_read(files, key, version_id)
        tried = ""
        while True:
            found, version = lookups.find(files, bucket, key, version_id)
            if not version.blob_name:
                raise NoBlob(
                    message=f"Of {key!r} metadata alone was recorded; its bytes lie elsewhere ({version.storage_backend!r})."
                )
            first, size = (0, version.size) if wanted is None else placed(wanted, version.size)
            try:
                return StoredFile(files, bucket, found, version, first, size)
            except BlobMissing:  # replaced, or removed, since it was looked up: then another is found, or none
                if version.blob_name == tried:
                    raise
                tried = version.blob_name


def parsed(range: object) -> tuple[int | None, int | None]:
    """First and last byte of a Range, as HTTP writes it; (None, n): the last n. Raises InvalidArgument."""
    matched = _RANGE.fullmatch(range) if isinstance(range, str) else None
    first, last = (_place(digits) for digits in matched.groups()) if matched else (-1, -1)
    if (first < 0 and last < 0) or 0 <= last < first:
        raise InvalidArgument(
            message=f"range is {range!r}. Write one as bytes=0-99, bytes=100- or bytes=-100 (the last hundred)."
        )
    return (None if first < 0 else first), (None if last < 0 else last)


def _place(digits: str) -> int:
    """-1: none is said. Of a number that no size reaches the beginning is as far behind the last byte."""
    return int(digits.lstrip("0")[:18] or 0) if digits else -1


def placed(wanted: tuple[int | None, int | None], size: int) -> tuple[int, int]:
    """Where such a range begins in `size` bytes, and how many it has. InvalidRange where it has none (RFC 9110, 14.1.2)."""
    first, last = wanted
    if first is None:
        first, last = max(size - (last or 0), 0), size - 1 if last else -1
    if first >= size or last == -1:
        raise InvalidRange(message=f"The range begins behind the last byte: there are {size:,}. Ask for less.")
    return first, (size if last is None else min(last + 1, size)) - first
