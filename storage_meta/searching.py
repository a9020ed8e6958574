"""Finds objects by words, metadata, tags and measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from psycopg.types.json import Jsonb

from controlplane.core.conf import conf
from storage_meta import access, highlighting, keys, parts, queries, tokens, trail
from storage_meta.errors import InvalidArgument
from storage_meta.models import Bucket, StorageAudit, StorageObject
from storage_meta.queries import Query

if TYPE_CHECKING:
    from storage_meta.handle import Files

headline, found_in = highlighting.headline, highlighting.found_in

ACTION = "s3:Search"
ORDERS = ("relevance", "last_modified")
MOST = 1000
"""Objects of a page."""

BEGINNING, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
LARGEST = 2**63 - 1
"""Bytes that a size can say."""

_SEARCH = """
    SELECT id, rank, object_key, last_modified FROM cp_storage_search(
        %s::uuid, %s::uuid, %s::text, %s::text, %s::jsonb, %s::jsonb, %s::jsonb, %s::text, %s::bigint, %s::bigint,
        %s::timestamptz, %s::timestamptz, %s::text, %s, %s::real, %s::text, %s::timestamptz, %s::uuid, %s
    )
"""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """objects: heads with their bucket, each with `.rank` (0 without words). query_cut: only the beginning of it counted."""

    objects: list[StorageObject]
    is_truncated: bool
    next_continuation_token: str | None
    query_cut: bool


@dataclass(frozen=True, slots=True)
class _Filters:
    """What a search asks beside words, as PostgreSQL takes it. None: any."""

    prefix: str = ""
    metadata: dict[str, Any] | None = None
    tags: dict[str, str] | None = None
    content_type: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    modified_after: datetime | None = None
    modified_before: datetime | None = None
    part: str | None = None

    def parameters(self, words: Query | None) -> list[Any]:
        return [
            self.prefix or None,
            keys.upper_bound(self.prefix),
            None if words is None else Jsonb(words.as_json()),
            None if self.metadata is None else Jsonb(self.metadata),
            None if self.tags is None else Jsonb(self.tags),
            self.content_type,
            self.min_size,
            self.max_size,
            self.modified_after,
            self.modified_before,
            None if self.part is None else parts.pattern(self.part),
        ]

    def question(self) -> dict[str, Any]:
        """For the token: the same instant, said in two time zones, is the same."""
        return {
            "prefix": self.prefix,
            "metadata": self.metadata,
            "tags": self.tags,
            "content_type": self.content_type,
            "part": self.part,
            "sizes": [self.min_size, self.max_size],
            "modified": [at and at.isoformat() for at in (self.modified_after, self.modified_before)],
        }


def search(
    files: Files,
    query: str | None,
    *,
    bucket: str | None = None,
    prefix: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    content_type: str | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    modified_after: datetime | None = None,
    modified_before: datetime | None = None,
    order: str = "relevance",
    limit: int = 50,
    continuation_token: str | None = None,
    prefix_match: bool = False,
    part: str | None = None,
) -> SearchPage:
    """One page of live objects that hold all words and fit the filters: see queries.parse for what may be typed.

    order: relevance is best first, then by key; last_modified, and a search without words, newest first. Sizes are bytes, both
    included; modified_after is included, modified_before is not, both are aware. metadata, tags: objects hold at least these.
    part: keys have this text in them, byte for byte, of at least three characters; only where STORAGE_TRIGRAM is set.
    Each object that policies do not let be listed is left out: a page may be short, and its token goes on all the same.

    Raises InvalidArgument, InvalidMetadata, InvalidTag, NoSuchBucket, AccessDenied.
    """
    key = prefix if isinstance(prefix, str) else ""
    with trail.asked(files, ACTION, StorageAudit.RecordType.READ, key):
        files = within(files, bucket)
    with trail.asked(files, ACTION, StorageAudit.RecordType.READ, key):
        words = None if query is None else queries.parse(query, prefix_match=bool(prefix_match))
        filters = _Filters(
            prefix=keys.check_text("prefix", "" if prefix is None else prefix, 2 * keys.KEY_BYTES),
            metadata=keys.check_metadata(metadata) or None,
            tags=keys.check_tags(tags) or None,
            content_type=None if content_type is None else keys.check_text("content_type", content_type, 255),
            min_size=_size("min_size", min_size),
            max_size=_size("max_size", max_size),
            modified_after=_instant("modified_after", modified_after),
            modified_before=_instant("modified_before", modified_before),
            part=None if part is None else parts.check(part),
        )
        by_rank = _ordered(order) and words is not None
        most = _limited(limit)
        question = {"query": query, "prefix_match": bool(prefix_match), "by_rank": by_rank, **filters.question()}
        after = None if continuation_token is None else tokens.read(files, "search", continuation_token, **question)
        access.demand(files, "list", filters.prefix)
        room = None if files.bucket_name is None else files.the_bucket()
        if words is not None and not can_be_found(words):
            return SearchPage([], is_truncated=False, next_continuation_token=None, query_cut=words.cut)
        found = _page(files, room, words, filters, by_rank, after, most + 1)
        heads = _heads(files, found[:most])
        _record(files, room, filters.prefix, words, len(heads))
    more = len(found) > most
    return SearchPage(
        objects=heads,
        is_truncated=more,
        next_continuation_token=tokens.make(files, "search", found[most - 1].place(), **question) if more else None,
        query_cut=words is not None and words.cut,
    )


def within(files: Files, bucket: object) -> Files:
    """The handle for a bucket that is named in the call. Raises InvalidArgument if it is for another one already."""
    if bucket is None:
        return files
    name = keys.check_text("bucket", bucket, 63)
    if files.bucket_name not in (None, name):
        raise InvalidArgument(message=f"This handle is for the bucket {files.bucket_name}. Ask one that is for all.")
    return files.bucket(name)


def can_be_found(words: Query) -> bool:
    """Whether there is a word to look up. Raises InvalidArgument for what only excludes.

    What signs beyond ASCII say is asked of the database, and only where that decides.
    """
    if not words.terms or words.certain:
        return bool(words.terms)
    with connections[conf.DATABASE].cursor() as cursor:
        asked: list[Any] = [Jsonb(words.as_json())]
        cursor.execute("SELECT querytree(cp_storage_query(%s::jsonb))", asked)
        [[tree]] = cursor.fetchall()
    if tree == "T":
        raise queries.only_excludes()
    return bool(tree)


def recorded(files: Files, room: Bucket | None) -> bool:
    """Whether searches leave a row in the access log: of all buckets, if any of them says so."""
    if room is not None:
        return room.audit_reads == Bucket.AuditReads.ALL
    return Bucket.objects.for_tenant(files.tenant).filter(audit_reads=Bucket.AuditReads.ALL).exists()


def _record(files: Files, room: Bucket | None, prefix: str, words: Query | None, found: int) -> None:
    if recorded(files, room):
        said = {"query": None if words is None else words.text, "found": found}
        with connections[conf.DATABASE].cursor() as cursor:
            trail.write(cursor, files, ACTION, StorageAudit.RecordType.READ, [{"object_key": prefix, "metadata": said}])


@dataclass(frozen=True, slots=True)
class _Hit:
    id: UUID
    rank: float
    object_key: str
    last_modified: datetime

    def place(self) -> list[Any]:
        return [self.rank, self.object_key, self.last_modified.isoformat(), self.id.hex]


def _page(
    files: Files,
    room: Bucket | None,
    words: Query | None,
    filters: _Filters,
    by_rank: bool,
    after: list[Any] | None,
    most: int,
) -> list[_Hit]:
    where = [files.tenant_id, room and room.pk, *filters.parameters(words)]
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_SEARCH, [*where, by_rank, *(after or [None] * 4), most])
        return [_Hit(*row) for row in cursor.fetchall()]


def _heads(files: Files, hits: list[_Hit]) -> list[StorageObject]:
    """The rows of those that may be listed, in their order."""
    live = StorageObject.objects.live().filter(tenant_id=files.tenant_id).select_related("bucket")
    rows = live.in_bulk([hit.id for hit in hits])
    heads = []
    for hit in hits:
        head = rows.get(hit.id)  # gone since
        if head is not None and access.allowed(files, "list", head.object_key, bucket=head.bucket.name):
            head.rank = hit.rank
            heads.append(head)
    return heads


def _ordered(order: object) -> bool:
    """Whether by relevance."""
    if order not in ORDERS:
        raise InvalidArgument(message=f"order is {order!r:.40}. Use {' or '.join(ORDERS)}.")
    return order == "relevance"


def _limited(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise InvalidArgument(message=f"limit is {limit!r:.40}. Use a whole number from 1 to {MOST:,}.")
    return limit


def _size(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise InvalidArgument(message=f"{name} is {value!r:.40}. Use a whole number of bytes, 0 or more.")
    return value


def _instant(name: str, value: object) -> datetime | None:
    """In UTC; the end of time where another offset goes beyond it."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArgument(message=f"{name} is {value!r:.60}. Give an aware datetime.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return BEGINNING if value.year == 1 else END
