"""Many objects whose bytes lie elsewhere: COPY into a temporary table and one merge, or versions with ids of their own."""

from __future__ import annotations

from typing import Any

from storage_meta.models import StorageVersion


def bulk_put(files: Any, rows: Any) -> int:
    raise NotImplementedError


def record_version(files: Any, key: str, version_id: str, **content: Any) -> StorageVersion:
    raise NotImplementedError
