"""Blobs and rows compared: what lies there that nobody knows, what is known and does not lie there.

The models hand this out, so nothing here imports them.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from controlplane.core import ids
from controlplane.core.conf import conf
from storage_meta.errors import InvalidArgument
from storage_meta.stores import CHUNK, GRACE, answer, ask, remove_blob, storage_of
from tenants.models import Tenant

DAY = timedelta(days=1)
LONGEST_GRACE = timedelta(days=36_500)

SIZE, SHA256 = "size", "sha256"

PAGE = 1000
"""Rows that are asked for at a time."""

_LEVELS = [re.compile(shape, re.ASCII) for shape in (r"[0-9a-f]{32}", r"[0-9]{4}", r"[0-9]{2}", r"[0-9]{2}")]
_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Report:
    """orphans, missing: names of blobs. mismatched: names of blobs whose size or SHA-256 is another. heads: ids of heads that are
    unlike their version. removed: how many orphans were removed. blobs, versions: how many were compared."""

    orphans: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    removed: int = 0
    blobs: int = 0
    versions: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is left to see to: orphans that were removed are none."""
        return not (self.missing or self.mismatched or self.heads or len(self.orphans) > self.removed)


class Row(NamedTuple):
    """What versions say of a blob; those that share one say the same."""

    name: str
    alias: str
    size: int
    sha256: str


def reconcile(
    tenant: Tenant | None = None,
    *,
    grace: timedelta = DAY,
    delete: bool = False,
    verify: str | None = None,
    now: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compare the blobs of all storages with the versions, of one tenant or all: both in the order of names, side by side.

    A blob is an orphan if no version refers to it, by its name it is older than `grace`, and nobody is writing or removing it.
    delete: remove orphans, and nothing else: a row whose blob is missing stays. verify: "size", or "sha256", which reads every
    blob. progress: called with the number compared so far. May run beside puts and deletes, and again. Memory: the names of one
    day of a tenant, and the findings. Raises StorageUnavailable where a storage cannot be listed, InvalidArgument.
    """
    if verify not in (None, SIZE, SHA256):
        raise InvalidArgument(message=f"verify is {verify!r}. Use size or sha256, or leave it out.")
    if not isinstance(grace, timedelta) or not timedelta(0) <= grace <= LONGEST_GRACE:
        raise InvalidArgument(message="grace is no span of time from 0 to 36,500 days. Use such as a day.")
    if tenant is not None and not isinstance(tenant, Tenant):
        raise InvalidArgument(message=f"tenant is {type(tenant).__name__}, no tenant. Give its row, or None for all.")
    if now is not None and (not isinstance(now, datetime) or now.utcoffset() is None or now.year < 2000):
        raise InvalidArgument(message="now is no instant with a time zone. Leave it out, or give one.")
    run = _Run(None if tenant is None else tenant.pk, grace, delete, verify, now or ids.now())
    return run.report(progress or (lambda number: None))


class _Run:
    def __init__(
        self, tenant_id: UUID | None, grace: timedelta, delete: bool, verify: str | None, now: datetime
    ) -> None:
        self.tenant_id, self.grace, self.delete, self.verify, self.now = tenant_id, grace, delete, verify, now
        self.orphans: list[str] = []
        self.missing: list[str] = []
        self.mismatched: list[str] = []
        self.removed = 0

    def report(self, progress: Callable[[int], None]) -> Report:
        blobs = versions = 0
        unknown: list[tuple[str, str]] = []
        absent: list[Row] = []
        for name, alias, row in self._side_by_side():
            blobs += alias is not None
            versions += row is not None
            progress(max(blobs, versions))
            if row is None and alias is not None:
                unknown.append((name, alias))
            elif row is not None and alias is None:
                absent.append(row)
            elif row is not None:
                self._verify(row)
            if len(unknown) >= PAGE:
                self._see_to(unknown)
                unknown.clear()
            if len(absent) >= PAGE:
                self._miss(absent)
                absent.clear()
        self._see_to(unknown)
        self._miss(absent)
        return Report(
            self.orphans, self.missing, self.mismatched, _heads(self.tenant_id), self.removed, blobs, versions
        )

    def _side_by_side(self) -> Iterator[tuple[str, str | None, Row | None]]:
        """Name, alias where the blob lies, row that names it; None: no such."""
        aliases = _aliases()
        blobs = heapq.merge(*(self._blobs(alias) for alias in aliases))
        rows = self._rows()
        blob, row = next(blobs, None), next(rows, None)
        while blob or row:
            if row is None or (blob and blob < row[:2]):
                assert blob  # noqa: S101 - else the loop had ended
                yield *blob, None
                blob = next(blobs, None)
            elif blob is None or row[:2] < blob:
                yield row.name, None, row
                row = next(rows, None)
            else:
                yield *blob, row
                blob, row = next(blobs, None), next(rows, None)

    def _blobs(self, alias: str) -> Iterator[tuple[str, str]]:
        top = [self.tenant_id.hex] if self.tenant_id else _listed(alias, "", 0)
        for tenant in top:
            for day in _days(alias, tenant):
                files = ask_listing(alias, day)[1]
                for name in sorted(filter(_NAME.fullmatch, files)):
                    yield f"{day}/{name}", alias

    def _rows(self) -> Iterator[Row]:
        """In pages, each a statement of its own: no transaction stays open while storages are asked."""
        after, before = ("", "~") if self.tenant_id is None else (f"{self.tenant_id.hex}/", f"{self.tenant_id.hex}0")
        while page := [Row(*found) for found in _all(_PAGE, [after, before, PAGE])]:
            yield from page
            after = page[-1].name

    def _see_to(self, unknown: list[tuple[str, str]]) -> None:
        """Orphans among blobs that had no row when they were compared.

        One statement asks for rows and notes, since a put and a delete turn one into the other as they commit; only then may it
        be asked whether the blob is still there. Before any is removed, an upload that is not known any more for its age is
        given up: the put that comes yet is refused, and does not name what is gone.
        """
        old = [pair for pair in unknown if began(pair[0]) <= self.now - self.grace]
        names, given_up = [name for name, _ in old], self.now - max(self.grace, GRACE)
        if self.delete and names:
            _all(_CLAIM, [names, given_up])
        known = set(_all(_KNOWN, [names, names, given_up]))
        for name, alias in old:
            if (name, alias) in known or _size(alias, name) is None:
                continue
            self.orphans.append(name)
            if self.delete:
                remove_blob(alias, name)
                self.removed += 1

    def _miss(self, absent: list[Row]) -> None:
        """Rows without a blob among those of which none was listed: one may have come since, or the row gone before its blob."""
        gone = [row for row in absent if _size(row.alias, row.name) is None]
        used = set(_all(_USED, [[row.name for row in gone]]))
        self.missing += [row.name for row in gone if row[:2] in used]

    def _verify(self, row: Row) -> None:
        if self.verify is None:
            return
        size = _size(row.alias, row.name)
        if size is None:
            self._miss([row])
        elif size != row.size or (self.verify == SHA256 and row.sha256 and sha256_of(row) not in (row.sha256, None)):
            self.mismatched.append(row.name)


def began(name: str) -> datetime:
    """When a blob was begun, by its name. Of a name that is of no year we know: never, so it is never an orphan."""
    try:
        return ids.instant_of(UUID(name.rpartition("/")[2]))
    except (OverflowError, ValueError):
        return datetime.max.replace(tzinfo=UTC)


def _aliases() -> list[str]:
    """All storages that may hold blobs. Raises StorageUnavailable for one that is not configured any more."""
    found = sorted({conf.STORAGE_ALIAS, *(alias for (alias,) in _all(_ALIASES, []))})
    for alias in found:
        storage_of(alias)
    return found


def _days(alias: str, tenant: str) -> Iterator[str]:
    for year in _listed(alias, tenant, 1):
        for month in _listed(alias, f"{tenant}/{year}", 2):
            for day in _listed(alias, f"{tenant}/{year}/{month}", 3):
                yield f"{tenant}/{year}/{month}/{day}"


def _listed(alias: str, path: str, level: int) -> list[str]:
    """Folders that are ours, in order: others have no business there, but are not ours to judge."""
    return sorted(filter(_LEVELS[level].fullmatch, ask_listing(alias, path)[0]))


def ask_listing(alias: str, path: str) -> tuple[list[str], list[str]]:
    try:
        return ask(alias, lambda storage: storage.listdir(path))
    except FileNotFoundError:
        return [], []


def _size(alias: str, name: str) -> int | None:
    """Bytes of a blob; None: it is not there."""
    try:
        return ask(alias, lambda storage: storage.size(name))
    except FileNotFoundError:
        return None


def sha256_of(row: Row) -> str | None:
    """SHA-256 of a blob as it lies there; None: it is gone."""
    digest = hashlib.sha256()
    try:
        file = ask(row.alias, lambda storage: storage.open(row.name, "rb"))
        try:
            while piece := answer(row.alias, lambda: file.read(CHUNK)):
                digest.update(piece)
        finally:
            answer(row.alias, file.close)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def _heads(tenant_id: UUID | None) -> list[str]:
    """Ids of heads that are unlike the version they point at, or that do not point at their highest."""
    tenants = [tenant_id] if tenant_id else [one for (one,) in _all(_TENANTS, [])]
    return [str(head) for tenant in tenants for (head,) in _all(_UNLIKE, [tenant])]


def _all(statement: str, arguments: list[Any]) -> list[Any]:
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(statement, arguments)
        found: list[Any] = cursor.fetchall()
        return found


_PAGE = """
    SELECT DISTINCT ON (blob_name) blob_name, storage_backend, size, checksum_sha256
    FROM cp_storage_meta_storageversion
    WHERE blob_name <> '' AND blob_name > %s AND blob_name < %s
    ORDER BY blob_name LIMIT %s
"""
_USED = """
    SELECT DISTINCT blob_name, storage_backend FROM cp_storage_meta_storageversion
    WHERE blob_name <> '' AND blob_name = ANY(%s)
"""
_KNOWN = f"""
    {_USED}
    UNION
    SELECT blob_name, storage_backend FROM cp_storage_meta_pendingblob WHERE blob_name = ANY(%s) AND started_at > %s
"""  # noqa: S608 - of the statement above
# Waits for the end of a put that has taken its note already.
_CLAIM = """
    UPDATE cp_storage_meta_pendingblob SET reason = 'delete'
    WHERE blob_name = ANY(%s) AND reason = 'upload' AND started_at <= %s RETURNING blob_name
"""
_ALIASES = """
    SELECT storage FROM cp_storage_meta_bucket WHERE storage <> ''
    UNION SELECT storage_backend FROM cp_storage_meta_storageversion WHERE blob_name <> ''
    UNION SELECT storage_backend FROM cp_storage_meta_pendingblob
"""
_TENANTS = "SELECT DISTINCT tenant_id FROM cp_storage_meta_bucket ORDER BY tenant_id"
_UNLIKE = """
    SELECT head.id
    FROM cp_storage_meta_storageobject head
    LEFT JOIN cp_storage_meta_storageversion version
        ON version.tenant_id = head.tenant_id AND version.id = head.current_version_id AND version.object_id = head.id
    WHERE head.tenant_id = %s AND (
        version.id IS NULL
        OR (head.is_delete_marker, head.bucket_id, head.size, head.content_type, head.etag, head.checksum_sha256,
            head.storage_backend, head.storage_class, head.metadata, head.tags)
            IS DISTINCT FROM
           (version.is_delete_marker, version.bucket_id, version.size, version.content_type, version.etag,
            version.checksum_sha256, version.storage_backend, version.storage_class, version.metadata, version.tags)
        OR EXISTS (
            SELECT FROM cp_storage_meta_storageversion newer
            WHERE newer.tenant_id = head.tenant_id AND newer.object_id = head.id AND newer.seq > version.seq))
    ORDER BY head.id
"""
