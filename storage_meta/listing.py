"""Lists of keys and of versions, as S3 gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db import connections, models, transaction

from controlplane.core.conf import conf
from storage_meta import access, tokens, trail
from storage_meta.errors import InvalidArgument
from storage_meta.keys import KEY_BYTES, check_text, upper_bound
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageVersion

if TYPE_CHECKING:
    from storage_meta.handle import Files

MOST = 1000
"""Entries of a page, whatever is asked."""

TEXT = 2 * KEY_BYTES
"""Characters of an argument: more than a key has, as callers make the next key of one, and as a sealed one has."""

VERSIONS = "list_object_versions"

END = "\U0010ffff" * (KEY_BYTES // 4 + 1)
"""Above every key: each range has an upper end, so that one plan serves all of them."""

Row = TypeVar("Row", bound=models.Model)


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
    """versions: markers too, each with its `object`, whose content is not read. next_…: where the next page begins; None at
    the end. Where the page ends at a key that the policies refuse, next_key_marker is sealed and no key."""

    versions: list[StorageVersion]
    is_truncated: bool
    next_key_marker: str | None
    next_version_id_marker: str | None


def objects(
    files: Files, prefix: str, delimiter: str, max_keys: int, start_after: str | None, continuation_token: str | None
) -> ObjectPage:
    """Keys and common prefixes above start_after, or where the page before the token ended.

    max_keys: 0 to 1000, more is 1000. An entry that the policies refuse is left out: a page may have fewer entries, even
    none, and still go on. Raises InvalidArgument, NoSuchBucket, AccessDenied.
    """
    with trail.asked(files, "s3:ListBucket", StorageAudit.RecordType.READ, prefix):
        prefix = check_text("prefix", prefix, TEXT)
        delimiter = check_text("delimiter", delimiter, TEXT)
        most = _page_size(max_keys)
        question = {"prefix": prefix, "delimiter": delimiter}
        begin = prefix
        if continuation_token is not None:
            kind, last = tokens.read(files, "list_objects_v2", continuation_token, **question)
            begin = _behind(last) if kind == "key" else upper_bound(last) or END
        elif start_after is not None:
            begin = max(prefix, _behind(check_text("start_after", start_after, TEXT)))
        access.demand(files, "list", prefix)
        bucket = files.the_bucket()
        found = _walk(bucket, begin, prefix, delimiter, most)
        more, found = len(found) > most, found[:most]
        token = None
        if more:
            last = found[-1]
            where = ["prefix", last] if isinstance(last, str) else ["key", last.object_key]
            token = tokens.make(files, "list_objects_v2", where, **question)
        entries = [
            one for one in found if access.allowed(files, "list", one if isinstance(one, str) else one.object_key)
        ]
        _record(files, bucket, "s3:ListBucket", prefix)
    return ObjectPage(
        contents=[one for one in entries if isinstance(one, StorageObject)],
        common_prefixes=[one for one in entries if isinstance(one, str)],
        entries=entries,
        key_count=len(entries),
        max_keys=most,
        is_truncated=more,
        next_continuation_token=token,
    )


def versions(
    files: Files, prefix: str, key_marker: str | None, version_id_marker: str | None, max_keys: int
) -> VersionPage:
    """Versions strictly after the two markers; after all of key_marker's where version_id_marker is None.

    A version that went since it was the marker is no end: its key then begins anew, so that nothing is missed by whoever
    removes what each page shows. Raises InvalidArgument, NoSuchBucket, AccessDenied.
    """
    with trail.asked(files, "s3:ListBucketVersions", StorageAudit.RecordType.READ, prefix):
        prefix = check_text("prefix", prefix, TEXT)
        most = _page_size(max_keys)
        if key_marker is not None:
            check_text("key_marker", key_marker, TEXT)
        if version_id_marker is not None:
            check_text("version_id_marker", version_id_marker, TEXT)
            if key_marker is None:
                raise InvalidArgument(message="version_id_marker stands without key_marker. Give both, or none.")
        access.demand(files, "list", prefix)
        bucket = files.the_bucket()
        if files.effective is not None and key_marker is not None:
            key_marker = _unsealed(files, key_marker, prefix)
            if not access.allowed(
                files, "list", key_marker
            ):  # all of it is left out; whether the id is one, is not told
                version_id_marker = None
        found = _walk_versions(bucket, prefix, key_marker, version_id_marker, most)
        more, found = len(found) > most, found[:most]
        shown = {key: access.allowed(files, "list", key) for key in {one.object.object_key for one in found}}
        _record(files, bucket, "s3:ListBucketVersions", prefix)
    next_key, next_id = (found[-1].object.object_key, found[-1].version_id) if more else (None, None)
    if next_key is not None and not shown[next_key]:
        next_key, next_id = tokens.make(files, VERSIONS, next_key, prefix=prefix), None
    return VersionPage(
        versions=[one for one in found if shown[one.object.object_key]],
        is_truncated=more,
        next_key_marker=next_key,
        next_version_id_marker=next_id,
    )


def _unsealed(files: Files, key_marker: str, prefix: str) -> str:
    """The key that a marker stands for: most are keys."""
    try:
        found: str = tokens.read(files, VERSIONS, key_marker, prefix=prefix)
    except InvalidArgument:
        return key_marker
    return found


def _page_size(max_keys: object) -> int:
    if not isinstance(max_keys, int) or isinstance(max_keys, bool):
        raise InvalidArgument(message=f"max_keys is {type(max_keys).__name__}, no whole number. Give 0 to {MOST:,}.")
    if max_keys < 0:
        raise InvalidArgument(message=f"max_keys is {max_keys}. Give 0 to {MOST:,}.")
    return min(max_keys, MOST)


def _behind(key: str) -> str:
    """The next text there is: NUL cannot occur in one."""
    return key + "\x01"


def _walk(bucket: Bucket, begin: str, prefix: str, delimiter: str, most: int) -> list[StorageObject | str]:
    """At most one entry more than a page has, which tells whether there is another page."""
    if most == 0:
        return []
    names, rows = _rows(
        "SELECT * FROM cp_storage_list(%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            bucket.tenant_id,
            bucket.pk,
            begin,
            upper_bound(prefix) or END,
            len(prefix),
            delimiter,
            upper_bound(delimiter) or END,
            most + 1,
        ],
    )
    head = _maker(StorageObject, names)
    group = names.index("common_prefix")
    return [row[group] or head(row) for row in rows]


def _walk_versions(
    bucket: Bucket, prefix: str, key_marker: str | None, version_id_marker: str | None, most: int
) -> list[StorageVersion]:
    if most == 0:
        return []
    begin, below = prefix, None
    if key_marker is not None:
        if version_id_marker is not None and key_marker >= prefix:
            begin, below = key_marker, _seq_of(bucket, key_marker, version_id_marker)
        else:
            begin = max(prefix, _behind(key_marker))
    names, rows = _rows(
        "SELECT * FROM cp_storage_list_versions(%s, %s, %s, %s, %s, %s)",
        [bucket.tenant_id, bucket.pk, begin, upper_bound(prefix) or END, below, most + 1],
    )
    made = _maker(StorageVersion, names)
    shared = {"tenant_id", "bucket_id"}
    head = _maker(
        StorageObject, [name[5:] if name[:5] == "head_" else name if name in shared else "" for name in names]
    )
    heads: dict[UUID, StorageObject] = {}
    found = []
    for row in rows:
        version = made(row)
        if version.object_id not in heads:
            heads[version.object_id] = head(row)
        version.object = heads[version.object_id]
        found.append(version)
    return found


def _seq_of(bucket: Bucket, key: str, version_id: str) -> int | None:
    """The seq of a version of a key by its id there: `null`, ours or the one made elsewhere; None if it is gone."""
    of_key = StorageVersion.objects.filter(
        tenant_id=bucket.tenant_id, object__tenant_id=bucket.tenant_id, object__bucket=bucket, object__object_key=key
    )
    if version_id == "null":
        return of_key.filter(null_version=True).values_list("seq", flat=True).first()
    ours = _id(version_id)
    seq = of_key.filter(pk=ours, null_version=False).values_list("seq", flat=True).first() if ours else None
    if seq is None:
        seq = of_key.filter(external_id=version_id).values_list("seq", flat=True).first()
    if seq is None and ours is None:
        raise InvalidArgument(
            message="version_id_marker is no version's id. Pass on next_version_id_marker of the page before."
        )
    return seq


def _id(version_id: str) -> UUID | None:
    try:
        found = UUID(hex=version_id)
    except ValueError:
        return None
    return found if found.hex == version_id else None


def _record(files: Files, bucket: Bucket, action: str, prefix: str) -> None:
    if bucket.audit_reads == Bucket.AuditReads.ALL:
        with transaction.atomic(using=conf.DATABASE), connections[conf.DATABASE].cursor() as cursor:
            trail.write(cursor, files, action, StorageAudit.RecordType.READ, [{"object_key": prefix}])


def _rows(statement: str, parameters: list[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and the rows."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(statement, parameters)
        return [column.name for column in cursor.description], cursor.fetchall()


def _maker(model: type[Row], names: list[str]) -> Callable[[tuple[Any, ...]], Row]:
    """Makes an instance of a row; fields that no column has are read when they are asked for."""
    fields = [field for field in model._meta.concrete_fields if field.attname in names]
    attributes = [field.attname for field in fields]
    places = [(names.index(field.attname), isinstance(field, models.JSONField)) for field in fields]

    def made(row: tuple[Any, ...]) -> Row:
        values = [json.loads(row[place]) if encoded else row[place] for place, encoded in places]
        return model.from_db(conf.DATABASE, attributes, values)

    return made
