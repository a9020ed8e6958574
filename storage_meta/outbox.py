"""Events for hooks, written in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper

if TYPE_CHECKING:
    from storage_meta.handle import Files


def put(cursor: CursorWrapper, files: Files, event_type: str, changes: list[dict[str, Any]]) -> int:
    """One event per change and matching hook; returns how many.

    changes: dicts with bucket_id, bucket (name), object_key, version_id, sequencer, size, etag, content_type.
    """
    raise NotImplementedError
