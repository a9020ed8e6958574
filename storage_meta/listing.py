"""Lists of keys and of versions, as S3 gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage_meta.models import StorageObject, StorageVersion

if TYPE_CHECKING:
    from storage_meta.handle import Files


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """contents: heads. common_prefixes: text. entries: both, in the order of their bytes. key_count: how many entries."""

    contents: list[StorageObject]
    common_prefixes: list[str]
    entries: list[StorageObject | str]
    key_count: int
    max_keys: int
    is_truncated: bool
    next_continuation_token: str | None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """versions: markers too, each with its `object`. next_…: where the next page begins; None at the end."""

    versions: list[StorageVersion]
    is_truncated: bool
    next_key_marker: str | None
    next_version_id_marker: str | None


def objects(
    files: Files, prefix: str, delimiter: str, max_keys: int, start_after: str | None, continuation_token: str | None
) -> ObjectPage:
    raise NotImplementedError


def versions(
    files: Files, prefix: str, key_marker: str | None, version_id_marker: str | None, max_keys: int
) -> VersionPage:
    raise NotImplementedError
