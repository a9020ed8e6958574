"""Many objects whose bytes lie elsewhere: COPY into a temporary table, and a merge for all of them at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from controlplane.core.ids import now, uuid7
from storage_meta import access, blobs, outbox, quotas, trail, versions
from storage_meta.contents import Said
from storage_meta.errors import InvalidArgument, StorageError
from storage_meta.keys import check_key
from storage_meta.lookups import NULL
from storage_meta.models import Bucket, StorageObject, StorageQuota
from storage_meta.results import Change
from storage_meta.versions import CLOCK, CONTENT

if TYPE_CHECKING:
    from storage_meta.handle import Files

BATCH = 5000
"""Objects of a transaction."""

_KNOWN = frozenset(
    {
        "size", "etag", "content_type", "metadata", "tags", "storage_class", "comment", "storage_backend", "checksum_sha256",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    key: str
    said: Said


def bulk_put(files: Files, rows: Iterable[Mapping[str, Any]]) -> int:
    """See Files.bulk_put. A row may have storage_backend (a free label), checksum_sha256 and version_id, its id elsewhere, too.

    What is wrong with a row is told with its number, from 1; the batches before its own are stored then.
    """
    count = 0
    with trail.asked(files, "s3:PutObject", "CREATE"):
        bucket = None if files.effective is not None else files.the_bucket()
        numbered = _checked(rows)
        while batch := list(islice(numbered, BATCH)):
            for key in {row.key for row in batch}:
                access.demand(files, "write", key)
            bucket = bucket or files.the_bucket()  # who is refused does not learn whether there is one
            _put(files, bucket, batch)
            count += len(batch)
    return count


def _checked(rows: Iterable[Mapping[str, Any]]) -> Iterator[_Row]:
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise InvalidArgument(message="rows are no rows. Give a list, or an iterator, of dicts.")
    for number, row in enumerate(rows, 1):
        try:
            yield _row(row)
        except StorageError as error:
            error.message = f"Row {number:,}: {error.message}"
            error.args = (error.message,)
            raise


def _row(row: Mapping[str, Any]) -> _Row:
    if not isinstance(row, Mapping):
        raise InvalidArgument(message="it is no dict. Give one with key, size, etag and so on.")
    given = dict(row)
    key, version_id = check_key(given.pop("key", "")), given.pop("version_id", None)
    if unknown := given.keys() - _KNOWN:
        raise InvalidArgument(
            message=f"nothing is known of {', '.join(sorted(map(repr, unknown)))[:200]}. Use {', '.join(sorted(_KNOWN))}."
        )
    said = Said.checked(**given, external_id=None if version_id == NULL else version_id)
    return _Row(uuid7(), key, said)


# Values of a row, then what the merge finds out of it.
_STAGE = """
    CREATE TEMPORARY TABLE cp_put (
        id uuid, object_key text COLLATE "C", nth integer, last boolean, new_head uuid, external_id text, comment text,
        size bigint, content_type text, etag text, checksum_sha256 text, storage_backend text, storage_class text,
        metadata jsonb, tags jsonb,
        head uuid, seq bigint, change_seq bigint, at timestamptz, fresh boolean, late boolean) ON COMMIT DROP
"""
_COPY = f"COPY cp_put (id, object_key, nth, last, new_head, external_id, comment, {CONTENT}) FROM STDIN"
# A key's rows take one place each among its versions and its changes, in their order: the last one's is the highest.
_HEADS = f"""
    WITH head AS (
        INSERT INTO cp_storage_meta_storageobject AS head
            (id, tenant_id, bucket_id, object_key, current_version_id, next_seq, change_seq, is_delete_marker, last_modified,
             created_at, {CONTENT})
        SELECT new_head, %(tenant)s, %(bucket)s, object_key, id, nth + 1, {CLOCK} + nth - 1, false, clock_timestamp(),
            clock_timestamp(), {CONTENT}
        FROM cp_put WHERE last ORDER BY object_key
        ON CONFLICT (tenant_id, bucket_id, object_key) DO UPDATE SET
            current_version_id = excluded.current_version_id, next_seq = head.next_seq + excluded.next_seq - 1,
            change_seq = greatest(head.change_seq + excluded.next_seq - 1, {CLOCK}), is_delete_marker = false,
            last_modified = clock_timestamp(), {versions.SET.format("excluded")}
        RETURNING head.id, head.object_key, head.next_seq, head.change_seq, head.last_modified, head.current_version_id,
            head.xmax = 0 AS fresh, {CLOCK} - head.change_seq > {versions.LATE} AS late
    )
    UPDATE cp_put
    SET head = head.id, seq = head.next_seq - 1 - newest.nth + cp_put.nth,
        change_seq = head.change_seq - newest.nth + cp_put.nth, at = head.last_modified, fresh = head.fresh,
        late = head.fresh AND head.late
    FROM head JOIN cp_put newest ON newest.id = head.current_version_id
    WHERE cp_put.object_key = head.object_key
"""  # noqa: S608 - columns and the clock, no values
_ROOM = """
    DELETE FROM cp_storage_meta_storageversion version USING cp_put
    WHERE version.tenant_id = %(tenant)s AND version.object_id = cp_put.head AND version.null_version AND NOT cp_put.fresh
"""
_VERSIONS = f"""
    INSERT INTO cp_storage_meta_storageversion
        (id, tenant_id, object_id, bucket_id, seq, null_version, external_id, is_delete_marker, blob_name, created_by, comment,
         legal_hold, retain_until, created_at, {CONTENT})
    SELECT id, %(tenant)s, head, %(bucket)s, seq, %(null)s, external_id, false, '', %(created_by)s, comment,
        false, %(retain_until)s, at, {CONTENT}
    FROM cp_put
"""  # noqa: S608


def _put(files: Files, bucket: Bucket, batch: list[_Row]) -> None:
    at = now()
    with versions.change() as cursor:
        versions.settle(cursor, bucket)
        null = bucket.versioning != Bucket.Versioning.ENABLED
        staged = list(_staged(batch, null))
        _demand_quota(files, bucket, [row for row, *_ in staged])
        cursor.execute(_STAGE)
        with cursor.db.wrap_database_errors, cursor.copy(_COPY) as copy:
            for row, nth, last in staged:
                copy.write_row(_values(row, nth, last))
        _merge(cursor, files, bucket, null, at)
        _know_the_tables(cursor)
        _tell(cursor, files, bucket, null, {row.id: row for row, *_ in staged})
        cursor.execute("DROP TABLE cp_put")


_NEW = """
    SELECT bool_or(reltuples < 0) AND bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class
    WHERE oid IN ('cp_storage_meta_storageobject'::regclass, 'cp_storage_meta_storageversion'::regclass)
"""


def _know_the_tables(cursor: CursorWrapper) -> None:
    """Tables that never had rows have no statistics, and the foreign keys of the first batch would be looked up by the wrong
    index: a hundred times as long."""
    cursor.execute(_NEW)
    if cursor.fetchone()[0]:
        cursor.execute("ANALYZE (SKIP_LOCKED) cp_storage_meta_storageobject, cp_storage_meta_storageversion")


def _demand_quota(files: Files, bucket: Bucket, rows: list[_Row]) -> None:
    if not StorageQuota.objects.filter(tenant_id=files.tenant_id).exists():
        return
    keys = {row.key for row in rows}
    live = StorageObject.objects.live().filter(tenant_id=files.tenant_id, bucket=bucket, object_key__in=keys).count()
    quotas.demand(files.tenant_id, size=sum(row.said.size for row in rows), objects=len(keys) - live)


def _staged(batch: list[_Row], null: bool) -> Iterator[tuple[_Row, int, bool]]:
    """Rows to be written with their number among those of their key, and whether they are the last of it.

    Where puts replace each other only the last is left of them."""
    total: dict[str, int] = {}
    for row in batch:
        total[row.key] = total.get(row.key, 0) + 1
    seen: dict[str, int] = {}
    for row in batch:
        nth = seen[row.key] = seen.get(row.key, 0) + 1
        last = nth == total[row.key]
        if last or not null:
            yield row, nth, last


def _values(row: _Row, nth: int, last: bool) -> tuple[Any, ...]:
    said = row.said
    return (
        row.id, row.key, nth, last, uuid7() if last else None, said.external_id, said.comment,
        said.size, said.content_type, said.etag, said.checksum_sha256, said.storage_backend, said.storage_class,
        _json(said.metadata), _json(said.tags),
    )  # fmt: skip


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) if value else "{}"


def _merge(cursor: CursorWrapper, files: Files, bucket: Bucket, null: bool, at: datetime) -> None:
    given: dict[str, Any] = {
        "tenant": files.tenant_id,
        "bucket": bucket.pk,
        "null": null,
        "created_by": versions.author(files),
        "retain_until": versions.retained_until(bucket, at),
    }
    cursor.execute(_HEADS, given)
    if null:
        cursor.execute(_ROOM, given)
    cursor.execute(_VERSIONS, given)


def _tell(cursor: CursorWrapper, files: Files, bucket: Bucket, null: bool, rows: dict[UUID, _Row]) -> None:
    cursor.execute("SELECT id, head, change_seq, late FROM cp_put ORDER BY object_key, nth")
    changes = []
    for version_id, head, change_seq, late in cursor.fetchall():
        row = rows[version_id]
        sequence = versions.touch(cursor, files.tenant_id, head) if late else change_seq
        changes.append(
            Change(
                bucket_id=bucket.pk,
                bucket=bucket.name,
                key=row.key,
                version_id=NULL if null else version_id.hex,
                sequence=sequence,
                size=row.said.size,
                etag=row.said.etag,
                content_type=row.said.content_type,
            )
        )
    trail.write(cursor, files, "s3:PutObject", "CREATE", [change.row() for change in changes])
    outbox.put(cursor, files, "s3:ObjectCreated:Put", [change.event() for change in changes])
    if null:
        blobs.remove_after_commit(files.tenant_id)
