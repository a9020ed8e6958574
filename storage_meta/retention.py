"""What goes by itself: expired objects, old versions, lone markers, done events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import OperationalError, connections, models, transaction
from django.db.backends.utils import CursorWrapper

from controlplane.core.conf import conf
from controlplane.core.ids import NIL, lower_bound
from storage_meta import blobs, outbox, trail, versions
from storage_meta.errors import NoSuchBucket, ObjectLocked
from storage_meta.models import Bucket, StorageObject, StorageVersion
from storage_meta.results import Change

if TYPE_CHECKING:
    from storage_meta.handle import Files

BATCH = 500
"""Keys of a transaction."""

BATCHES = 20
"""Transactions of one run of the duty, after which others have their turn."""

KEPT_DAYS = 30
"""How long events that are done, and attempts to tell hooks, are kept."""

CLEARED = 10_000
"""Events or attempts of a transaction."""

TRIES = 3

DEADLOCK = "40P01"
"""SQLSTATE of two that wait for each other: keys that share blobs were removed in another order. Of two one goes on."""

ACTION, EVENT = "s3:LifecycleExpiration", "s3:LifecycleExpiration:Delete"

# o: a head. A version that is put now is in place of the null version, but where the bucket is versioned.
_HELD = "(v.legal_hold OR v.retain_until > now())"
_EXPIRED = f"""
    SELECT o.id FROM cp_storage_meta_storageobject o
    WHERE o.tenant_id = %(tenant)s AND o.bucket_id = %(bucket)s AND NOT o.is_delete_marker
        AND o.last_modified < %(expired)s AND o.id > %(after)s
        AND (%(enabled)s OR NOT EXISTS (
            SELECT FROM cp_storage_meta_storageversion v
            WHERE v.tenant_id = o.tenant_id AND v.object_id = o.id AND v.null_version AND {_HELD}))
"""  # noqa: S608 - columns, no values
# versions of o, the newest of which is in the first place; newer_at: since when there is a newer one
_OLD = f"""
    SELECT v.id FROM (
        SELECT v.id, v.legal_hold, v.retain_until, lead(v.created_at) OVER (ORDER BY v.seq) AS newer_at,
            row_number() OVER (ORDER BY v.seq DESC) AS place
        FROM cp_storage_meta_storageversion v WHERE v.tenant_id = o.tenant_id AND v.object_id = o.id
    ) v WHERE v.place > 1 + %(keep)s AND v.newer_at < %(noncurrent)s AND NOT coalesce({_HELD}, false)
"""  # noqa: S608 - columns, no values
_NONCURRENT = f"""
    SELECT o.id FROM cp_storage_meta_storageobject o
    WHERE o.tenant_id = %(tenant)s AND o.bucket_id = %(bucket)s AND o.next_seq > 2 AND o.id > %(after)s AND EXISTS ({_OLD})
"""  # noqa: S608 - columns, no values
_LONE = f"""
    SELECT o.id FROM cp_storage_meta_storageobject o
    WHERE o.tenant_id = %(tenant)s AND o.bucket_id = %(bucket)s AND o.is_delete_marker AND o.id > %(after)s
        AND NOT EXISTS (
            SELECT FROM cp_storage_meta_storageversion v WHERE v.tenant_id = o.tenant_id AND v.object_id = o.id
                AND (v.id <> o.current_version_id OR {_HELD}))
"""  # noqa: S608 - columns, no values
_RULES = """
    SELECT versioning, expire_days, noncurrent_days, keep_versions FROM cp_storage_meta_bucket
    WHERE tenant_id = %(tenant)s AND id = %(bucket)s FOR SHARE
"""
# what is locked is somebody's who changes it now: the next run looks again
_LOCKED = " ORDER BY o.id LIMIT %(batch)s FOR UPDATE OF o SKIP LOCKED"
_CLEARED = {
    "executions": """
        FROM cp_storage_meta_hookexecution x WHERE x.id < %(low)s AND x.created_at < %(before)s
            AND (%(tenant)s::uuid IS NULL OR x.tenant_id = %(tenant)s::uuid)
    """,
    "events": """
        FROM cp_storage_meta_storageevent x WHERE x.id < %(low)s AND x.created_at < %(before)s AND x.state = 'done'
            AND (%(tenant)s::uuid IS NULL OR x.tenant_id = %(tenant)s::uuid)
            AND NOT EXISTS (SELECT FROM cp_storage_meta_hookexecution h WHERE h.tenant_id = x.tenant_id AND h.event_id = x.id)
    """,
}
_TABLES = {"executions": "cp_storage_meta_hookexecution", "events": "cp_storage_meta_storageevent"}


def run(now: datetime) -> bool:
    """Work off the lifecycle of every bucket; True if there may be more. A duty of the worker."""
    return any(done >= BATCHES for done, _ in enumerate(steps(now), 1))


def apply(
    now: datetime,
    *,
    tenant_id: UUID | None = None,
    bucket: str | None = None,
    dry_run: bool = False,
    told: Callable[[str], None] = lambda text: None,
) -> Counter[str]:
    """The same to the end; tenant_id, bucket (its name): of these alone. told: hears of each transaction.

    Returns how many of each went, or would go: expired (objects), noncurrent (versions), markers, executions, events. In a dry
    run what only goes once something else is gone is not counted.
    """
    found: Counter[str] = Counter(dict.fromkeys(("expired", "noncurrent", "markers", "executions", "events"), 0))
    for what, count, where in steps(now, tenant_id=tenant_id, bucket=bucket, dry_run=dry_run):
        found[what] += count
        told(f"{where}: {count:,} {what}")
    return found


def steps(
    now: datetime, *, tenant_id: UUID | None = None, bucket: str | None = None, dry_run: bool = False
) -> Iterator[tuple[str, int, str]]:
    """What went, how many of it, where: a transaction each, so that whoever stops after one leaves nothing half done."""
    buckets = Bucket.objects.filter(
        models.Q(expire_days__isnull=False) | models.Q(noncurrent_days__isnull=False)
    ).select_related("tenant")
    if tenant_id is not None:
        buckets = buckets.filter(tenant_id=tenant_id)
    if bucket is not None:
        buckets = buckets.filter(name=bucket)
    for one in buckets.order_by("tenant_id", "name"):
        rules = _Rules.of(one, now)
        yield from rules.counted() if dry_run else rules.applied()
    if bucket is None:
        yield from _cleared(now, tenant_id, dry_run)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The lifecycle of a bucket at an instant."""

    bucket: Bucket
    files: Files
    asked: dict[str, Any]

    @classmethod
    def of(cls, bucket: Bucket, now: datetime) -> _Rules:
        files = StorageObject.objects.for_tenant(bucket.tenant, actor="lifecycle").bucket(bucket.name)
        asked = {
            "tenant": bucket.tenant_id,
            "bucket": bucket.pk,
            "enabled": bucket.versioning == Bucket.Versioning.ENABLED,
            "keep": bucket.keep_versions or 0,
            "expired": _ago(now, bucket.expire_days),
            "noncurrent": _ago(now, bucket.noncurrent_days),
            "after": NIL,
            "batch": BATCH,
        }
        return cls(bucket, files, asked)

    def _kinds(self) -> Iterator[tuple[str, str, Callable[[CursorWrapper, list[UUID]], list[Change]]]]:
        if self.bucket.expire_days is not None:
            yield "expired", _EXPIRED, self._expire
        if self.bucket.noncurrent_days is not None:
            yield "noncurrent", _NONCURRENT, self._remove_old
        yield "markers", _LONE, self._remove_markers

    def counted(self) -> Iterator[tuple[str, int, str]]:
        for what, query, _ in self._kinds():
            counted = f"SELECT count(*) FROM ({query}) o"  # noqa: S608
            if what == "noncurrent":  # all versions of the heads
                counted = (
                    "SELECT count(*) FROM cp_storage_meta_storageobject o, "  # noqa: S608
                    f"LATERAL ({_OLD}) old WHERE o.tenant_id = %(tenant)s AND o.bucket_id = %(bucket)s AND o.next_seq > 2"
                )
            with connections[conf.DATABASE].cursor() as cursor:
                cursor.execute(counted, self.asked)
                count = cursor.fetchone()[0]
            if count:
                yield what, count, str(self.bucket)

    def applied(self) -> Iterator[tuple[str, int, str]]:
        for what, query, work in self._kinds():
            after: UUID | None = NIL
            while after is not None:
                after, changes = self._patiently(query, work, after)
                if changes:
                    yield what, len(changes), str(self.bucket)

    def _patiently(
        self, query: str, work: Callable[[CursorWrapper, list[UUID]], list[Change]], after: UUID
    ) -> tuple[UUID | None, list[Change]]:
        """One transaction: the last head that was looked at, None: there are no more; and what was done."""
        for _ in range(TRIES):
            try:
                return self._batch(query, work, after)
            except ObjectLocked:  # held since it was looked for; it is not found again
                continue
            except NoSuchBucket:
                break
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", None) != DEADLOCK:
                    raise
        return None, []

    def _batch(
        self, query: str, work: Callable[[CursorWrapper, list[UUID]], list[Change]], after: UUID
    ) -> tuple[UUID | None, list[Change]]:
        with versions.change() as cursor:
            if self._changed(cursor):
                return None, []
            cursor.execute(query + _LOCKED, {**self.asked, "after": after})
            heads = [head for (head,) in cursor.fetchall()]
            if not heads:
                return None, []
            changes = work(cursor, heads)
            trail.write(cursor, self.files, ACTION, "DELETE", [change.row() for change in changes])
            outbox.put(cursor, self.files, EVENT, [change.event() for change in changes])
            blobs.remove_after_commit(self.bucket.tenant_id)
        return heads[-1], changes

    def _changed(self, cursor: CursorWrapper) -> bool:
        """Whether the rules are others by now, which the next run follows; else they stay until the transaction ends."""
        cursor.execute(_RULES, self.asked)
        one = self.bucket
        changed: bool = cursor.fetchone() != (one.versioning, one.expire_days, one.noncurrent_days, one.keep_versions)
        return changed

    def _expire(self, cursor: CursorWrapper, heads: list[UUID]) -> list[Change]:
        found = self._locked(heads)
        if self.bucket.versioning == Bucket.Versioning.UNVERSIONED:
            return [self._removed(cursor, head, head.current_version) for head in found]
        added = [
            versions.add(cursor, self.files, self.bucket, head.object_key, versions.MARKER, marker=True)
            for head in found
        ]
        return [one.change(self.bucket) for one in added if one is not None]

    def _remove_old(self, cursor: CursorWrapper, heads: list[UUID]) -> list[Change]:
        cursor.execute(
            f"SELECT o.id, old.id FROM cp_storage_meta_storageobject o, LATERAL ({_OLD}) old "  # noqa: S608
            "WHERE o.tenant_id = %(tenant)s AND o.id = ANY(%(heads)s::uuid[])",
            {**self.asked, "heads": heads},
        )
        old: dict[UUID, list[UUID]] = {}
        for head, version in cursor.fetchall():
            old.setdefault(head, []).append(version)
        rows = StorageVersion.objects.filter(tenant_id=self.bucket.tenant_id)
        going = rows.in_bulk([version for found in old.values() for version in found])
        changes = []
        for head in self._locked(list(old)):
            sequence = versions.remove(cursor, self.bucket.tenant_id, head.pk, old[head.pk])
            changes += [Change.of(self.bucket, head.object_key, going[one], sequence) for one in old[head.pk]]
        return changes

    def _remove_markers(self, cursor: CursorWrapper, heads: list[UUID]) -> list[Change]:
        # asked again now that they are locked: what came meanwhile must not be laid bare
        versions_of = StorageVersion.objects.filter(tenant_id=self.bucket.tenant_id, object__in=heads)
        counts = Counter(versions_of.values_list("object_id", flat=True))
        found = [head for head in self._locked(heads) if head.is_delete_marker and counts[head.pk] == 1]
        return [self._removed(cursor, head, head.current_version) for head in found]

    def _locked(self, heads: list[UUID]) -> list[StorageObject]:
        """The heads as they are now that nobody else changes them, in the order of their ids."""
        found = StorageObject.objects.filter(tenant_id=self.bucket.tenant_id, pk__in=heads)
        return list(found.select_related("current_version").order_by("pk"))

    def _removed(self, cursor: CursorWrapper, head: StorageObject, version: StorageVersion) -> Change:
        sequence = versions.remove(cursor, self.bucket.tenant_id, head.pk, [version.pk])
        return Change.of(self.bucket, head.object_key, version, sequence)


def _ago(now: datetime, days: int | None) -> datetime:
    """So many days ago, as far as the calendar goes."""
    try:
        return now - timedelta(days=days or 0)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _cleared(now: datetime, tenant_id: UUID | None, dry_run: bool) -> Iterator[tuple[str, int, str]]:
    """Attempts to tell hooks, then the events that are done and have none left."""
    before = now - timedelta(days=KEPT_DAYS)
    asked: dict[str, Any] = {"before": before, "low": lower_bound(before), "tenant": tenant_id, "batch": CLEARED}
    for what, rows in _CLEARED.items():
        statement = f"SELECT count(*) {rows}" if dry_run else (
            f"DELETE FROM {_TABLES[what]} WHERE id IN "  # noqa: S608
            f"(SELECT x.id {rows} ORDER BY x.id LIMIT %(batch)s FOR UPDATE OF x SKIP LOCKED)"
        )  # fmt: skip
        while True:
            with transaction.atomic(using=conf.DATABASE), connections[conf.DATABASE].cursor() as cursor:
                cursor.execute(statement, asked)
                count = cursor.fetchone()[0] if dry_run else cursor.rowcount
            if count:
                yield what, count, "hooks"
            if dry_run or not count:
                break
