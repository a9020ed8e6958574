"""Events for hooks, written in the transaction of the change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper

from controlplane.core.ids import iso, now

if TYPE_CHECKING:
    from storage_meta.handle import Files

EVENT_TYPES = (
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:ObjectRestore:Completed",
    "s3:ObjectTagging:Put",
    "s3:ObjectAccessed:Get",
    "s3:LifecycleExpiration:Delete",
)
"""What hooks can be told of."""

# The lock is the one that the foreign key of the events takes anyway. Taken first, it leaves out a hook that somebody removes
# at this moment, where the foreign key would fail the change.
_PUT = """
WITH told AS (
    SELECT id, tenant_id, bucket_id, prefix, suffix FROM cp_storage_meta_storagehook
    WHERE tenant_id = %(tenant)s::uuid AND enabled AND event_types::text[] && %(patterns)s::text[]
    FOR KEY SHARE
)
INSERT INTO cp_storage_meta_storageevent
    (id, tenant_id, hook_id, event_type, object_key, version_id, sequencer, payload, state, attempts, next_attempt_at)
SELECT cp_uuid7(%(at)s::timestamptz), told.tenant_id, told.id, %(event_type)s, change.object_key,
    coalesce(change.version_id, ''), coalesce(change.sequencer, ''),
    jsonb_build_object(
        'type', %(event_type)s::text,
        'timestamp', %(timestamp)s::text,
        'data', jsonb_build_object(
            'tenant', told.tenant_id, 'bucket', change.bucket, 'object_key', change.object_key,
            'version_id', change.version_id, 'sequencer', change.sequencer, 'size', change.size, 'etag', change.etag,
            'content_type', change.content_type)),
    'pending', 0, %(at)s::timestamptz
FROM told
JOIN jsonb_to_recordset(%(changes)s::jsonb) AS change(
    bucket_id uuid, bucket text, object_key text, version_id text, sequencer text, size bigint, etag text, content_type text)
ON (told.bucket_id IS NULL OR told.bucket_id = change.bucket_id)
    AND starts_with(change.object_key, told.prefix)
    AND right(change.object_key, length(told.suffix)) = told.suffix
"""


def put(cursor: CursorWrapper, files: Files, event_type: str, changes: list[dict[str, Any]]) -> int:
    """One event per change and matching hook; returns how many. One statement, also where no hook is.

    changes: dicts with bucket_id, bucket (name), object_key, version_id, sequencer, size, etag, content_type. What hooks are
    sent is `{"type": …, "timestamp": …, "data": {…}}`, data being the change without bucket_id and with the tenant's id.
    """
    if not changes:
        return 0
    at = now()
    cursor.execute(
        _PUT,
        {
            "tenant": files.tenant_id,
            "patterns": patterns_of(event_type),
            "event_type": event_type,
            "at": at,
            "timestamp": iso(at),
            "changes": json.dumps(changes, default=str),
        },
    )
    made: int = cursor.rowcount
    return made


def patterns_of(event_type: str) -> list[str]:
    """All that a hook may have written to be told of this type: the type itself, and its beginnings with a `*` behind."""
    return [event_type, *(event_type[:end] + "*" for end in range(len(event_type) + 1))]
