"""Finds objects by words, metadata, tags and measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage_meta.models import StorageObject

if TYPE_CHECKING:
    from storage_meta.handle import Files


@dataclass(frozen=True, slots=True)
class SearchPage:
    """objects: heads, each with `.rank`. query_cut: only the beginning of the query counted."""

    objects: list[StorageObject]
    is_truncated: bool
    next_continuation_token: str | None
    query_cut: bool


def search(files: Files, query: str | None, **options: Any) -> SearchPage:
    raise NotImplementedError
