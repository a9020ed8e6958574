"""Bytes in S3, or what speaks it: the extra `s3` (django-storages). Named as a BACKEND in STORAGES.

django-storages reads a whole object into memory, or a temporary file, before the first byte is given, and holds up to ten parts
of an upload. Here reads are streams, and an upload holds one part.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from django.core.files import File
from storages.backends.s3 import S3Storage

if TYPE_CHECKING:
    _File = File[bytes]
else:
    _File = File

PART = 5 * 1024 * 1024
"""Bytes of a part of an upload: the fewest that S3 takes. 10,000 of them are 50 GB, the longest body; for longer ones set
transfer_config."""


class S3Files(S3Storage):  # type: ignore[misc]
    """OPTIONS as of django-storages' S3Storage: bucket_name, endpoint_url, access_key, secret_key, location …"""

    def get_default_settings(self) -> dict[str, Any]:
        transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)
        found: dict[str, Any] = super().get_default_settings()
        return found | {"transfer_config": found["transfer_config"] or transfer}

    def _open(self, name: str, mode: str = "rb") -> Any:
        if mode != "rb" or self.gzip:
            return super()._open(name, mode)
        return Reading(self.bucket.Object(self._normalize_name(name)), name)


class Reading(_File):
    """An object as a file that is read in one pass; `seek` before the first read makes it begin there."""

    def __init__(self, object: Any, name: str) -> None:
        super().__init__(None, name)
        self._object, self._position = object, 0
        self._body: Any = None
        try:
            self._size: int = object.content_length
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise FileNotFoundError(name) from error
            raise

    @property
    def size(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        if self._position >= self._size:
            return b""
        if self._body is None:
            self._body = self._object.get(Range=f"bytes={self._position}-")["Body"]
        found: bytes = self._body.read(size if size >= 0 else None)
        self._position += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._close_body()
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._close_body()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
