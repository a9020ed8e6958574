"""How much is stored, by backend, class and type."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from psycopg.types.json import Jsonb

from controlplane.core.conf import conf
from controlplane.core.ids import lower_bound, now
from storage_meta import access, queries, searching, trail
from storage_meta.errors import InvalidArgument
from storage_meta.models import StorageAudit

if TYPE_CHECKING:
    from storage_meta.handle import Files

RECENT = timedelta(hours=24)
MOST = 1_000_000
"""Objects that a count goes up to."""

# One statement, so one snapshot: the figures belong together. Without a bucket each count is of an index alone.
_STATISTICS = """
WITH live AS (
    SELECT storage_backend, storage_class, content_type, count(*) AS objects, sum(size) AS size
    FROM cp_storage_meta_storageobject
    WHERE tenant_id = %(tenant)s::uuid AND NOT is_delete_marker
        AND (%(bucket)s::uuid IS NULL OR bucket_id = %(bucket)s::uuid)
    GROUP BY storage_backend, storage_class, content_type
), keys AS (
    SELECT count(*) AS all_of_them
    FROM cp_storage_meta_storageobject
    WHERE tenant_id = %(tenant)s::uuid AND (%(bucket)s::uuid IS NULL OR bucket_id = %(bucket)s::uuid)
), versions AS (
    SELECT count(*) AS all_of_them, coalesce(sum(size), 0) AS size
    FROM cp_storage_meta_storageversion
    WHERE tenant_id = %(tenant)s::uuid AND (%(bucket)s::uuid IS NULL OR bucket_id = %(bucket)s::uuid)
), audits AS (
    SELECT count(*) AS recent
    FROM cp_storage_meta_storageaudit
    WHERE tenant_id = %(tenant)s::uuid AND id >= %(since_id)s::uuid
        AND (%(name)s::text IS NULL OR bucket = %(name)s::text)
), hooks AS (
    SELECT count(*) AS recent
    FROM cp_storage_meta_hookexecution
    WHERE tenant_id = %(tenant)s::uuid AND created_at >= %(since)s::timestamptz
        AND (%(name)s::text IS NULL OR payload #>> '{data,bucket}' = %(name)s::text)
)
SELECT
    (SELECT coalesce(jsonb_agg(jsonb_build_array(storage_backend, storage_class, content_type, objects, size)
                               ORDER BY size DESC, objects DESC, storage_backend, storage_class, content_type), '[]')
     FROM live),
    keys.all_of_them, versions.all_of_them, versions.size, audits.recent, hooks.recent
FROM keys, versions, audits, hooks
"""

_BUCKETS = """
SELECT tenant_id, bucket_id, count(*), sum(size)
FROM cp_storage_meta_storageobject
WHERE NOT is_delete_marker AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
GROUP BY tenant_id, bucket_id
"""


@dataclass(frozen=True, slots=True)
class Count:
    """capped: there are more than `number`."""

    number: int
    capped: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Live objects of one backend, class and content type. size: bytes."""

    storage_backend: str
    storage_class: str
    content_type: str
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """groups: those of most bytes first. total_objects, total_size: live objects and their bytes. delete_markers: keys under one.

    total_versions, version_bytes: of all versions, with those that are delete markers. Of a bucket, recent_hooks_24h are the
    attempts whose payload names it.
    """

    groups: list[Group] = field(default_factory=list)
    total_objects: int = 0
    total_size: int = 0
    delete_markers: int = 0
    total_versions: int = 0
    version_bytes: int = 0
    recent_audits_24h: int = 0
    recent_hooks_24h: int = 0


def statistics(files: Files) -> Statistics:
    """The figures of one snapshot, counted now. Raises NoSuchBucket, and AccessDenied where policies refuse any key: a sum
    tells of it too.
    """
    with trail.asked(files, "s3:ListBucket", StorageAudit.RecordType.READ):
        access.demand(files, "list", whole=True)
        room = None if files.bucket_name is None else files.the_bucket()
        since = now() - RECENT
        asked: dict[str, Any] = {
            "tenant": files.tenant_id,
            "bucket": room and room.pk,
            "name": room and room.name,
            "since": since,
            "since_id": lower_bound(since),
        }
        with connections[conf.DATABASE].cursor() as cursor:
            cursor.execute(_STATISTICS, asked)
            [[live, keys, versions, version_bytes, audits, hooks]] = cursor.fetchall()
    groups = [Group(*row) for row in json.loads(live)]
    objects = sum(group.objects for group in groups)
    return Statistics(
        groups=groups,
        total_objects=objects,
        total_size=sum(group.size for group in groups),
        delete_markers=keys - objects,
        total_versions=versions,
        version_bytes=int(version_bytes),
        recent_audits_24h=audits,
        recent_hooks_24h=hooks,
    )


def of_buckets(tenant_id: UUID | None = None) -> dict[UUID, tuple[int, int]]:
    """Live objects and their bytes by the id of their bucket, where there are any; of one tenant or, for operators, of all."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_BUCKETS, {"tenant": tenant_id})
        return {bucket: (objects, int(size)) for _, bucket, objects, size in cursor.fetchall()}


def count(files: Files, query: str | None, cap: int = 10_000) -> Count:
    """Live objects that hold the words, None: all, counted up to cap (1 to 1,000,000). Policies have to allow every key.

    Raises InvalidArgument, NoSuchBucket, AccessDenied.
    """
    with trail.asked(files, searching.ACTION, StorageAudit.RecordType.READ):
        if isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MOST:
            raise InvalidArgument(message=f"cap is {cap!r:.40}. Use a whole number from 1 to {MOST:,}.")
        words = None if query is None else queries.parse(query)
        access.demand(files, "list", whole=True)
        room = None if files.bucket_name is None else files.the_bucket()
        if words is not None and not searching.can_be_found(words):
            return Count(0, capped=False)
        asked: list[Any] = [files.tenant_id, room and room.pk, None if words is None else Jsonb(words.as_json()), cap]
        with connections[conf.DATABASE].cursor() as cursor:
            cursor.execute("SELECT cp_storage_hits(%s::uuid, %s::uuid, %s::jsonb, %s)", asked)
            [[found]] = cursor.fetchall()
    return Count(min(found, cap), capped=found > cap)
