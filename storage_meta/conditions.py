"""Puts that want something of what a key holds: asked before a byte is stored, and again under the lock of the row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlplane.core.conf import conf
from controlplane.core.statements import fetch
from storage_meta import quotas
from storage_meta.contents import check_etag
from storage_meta.errors import InvalidArgument, PreconditionFailed
from storage_meta.lookups import unknown
from storage_meta.models import Bucket
from storage_meta.models.bucket import NAME

if TYPE_CHECKING:
    from storage_meta.handle import Files


@dataclass(frozen=True, slots=True)
class Conditions:
    """vacant: no live object may be there. etag: the live object has this one; None: whatever it has, or is."""

    vacant: bool = False
    etag: str | None = None

    @classmethod
    def checked(cls, if_none_match: object, if_match: object) -> Conditions:
        """Raises InvalidArgument."""
        if if_none_match not in (None, "*"):
            raise InvalidArgument(message='if_none_match is "*" or left out. For an etag use if_match.')
        if if_match is None:
            return cls(vacant=if_none_match is not None)
        etag = check_etag("if_match", if_match)
        if not etag:
            raise InvalidArgument(message="if_match is empty. Give the etag that is expected, or leave it out.")
        return cls(vacant=if_none_match is not None, etag=etag)

    def demand(self, key: str, live_etag: str | None) -> None:
        """live_etag: of the object that is there; None: none is. Raises PreconditionFailed, NoSuchKey."""
        if self.vacant and live_etag is not None:
            raise taken(key)
        if self.etag is not None and live_etag is None:
            raise unknown(key)
        if self.etag is not None and self.etag != live_etag:
            raise PreconditionFailed(
                message=f"What {key!r:.200} holds has another etag than if_match says. Read it again before you replace it."
            )


def taken(key: str) -> PreconditionFailed:
    return PreconditionFailed(
        message=f"There is an object {key!r:.200} already. Leave if_none_match out to put over it."
    )


_PLAIN = re.compile(NAME)
_COLUMNS = tuple(field.attname for field in Bucket._meta.concrete_fields)
_LOOK = (
    f"SELECT {', '.join(f'bucket.{name}' for name in _COLUMNS)}, head.etag, "  # noqa: S608 - names of columns
    "EXISTS (SELECT FROM cp_storage_meta_storagequota quota WHERE quota.tenant_id = bucket.tenant_id) "
    "FROM cp_storage_meta_bucket bucket LEFT JOIN cp_storage_meta_storageobject head "
    "ON head.tenant_id = bucket.tenant_id AND head.bucket_id = bucket.id AND head.object_key = %s "
    "AND NOT head.is_delete_marker "
    "WHERE bucket.tenant_id = %s AND bucket.name = %s"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """bucket: the handle's. live_etag: of the object under the key, None: none is live. limited: the tenant has a quota."""

    bucket: Bucket
    live_etag: str | None
    limited: bool

    def demand_quota(self, size: int) -> bool:
        """Whether so many more bytes under the key are above the quota: see quotas.demand. Not asked of who has none."""
        if not self.limited:
            return False
        return quotas.demand(self.bucket.tenant_id, size=size, objects=0 if self.live_etag is not None else 1)


def look(files: Files, key: str) -> Seen:
    """All that has to be known before a put, in one statement.

    Raises NoSuchBucket, and InvalidArgument where the handle is for all buckets.
    """
    name = files.bucket_name
    if (
        isinstance(name, str)
        and _PLAIN.fullmatch(name)
        and (found := fetch(conf.DATABASE, _LOOK, [key, files.tenant_id, name]))
    ):
        [(*values, etag, limited)] = found
        return Seen(Bucket.from_db(conf.DATABASE, list(_COLUMNS), values), etag, limited)
    return Seen(files.the_bucket(), None, True)
