"""What a key holds: its head, a version of it, its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from storage_meta import lookups
from storage_meta.models import StorageObject, StorageVersion

if TYPE_CHECKING:
    from storage_meta.handle import Files


class StoredFile:
    """Bytes of a version, within `with`: iterate it, or `read()`."""

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[bytes]:
        raise NotImplementedError


def head(files: Files, key: str, version_id: str | None = None) -> StorageObject | StorageVersion:
    return lookups.head(files, key, version_id)


def get(files: Files, key: str, version_id: str | None = None, range: str | None = None) -> StoredFile:
    raise NotImplementedError
