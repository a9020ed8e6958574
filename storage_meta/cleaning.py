"""Rows of the access log whose time is over: whole months are dropped, of the others rows are deleted.

What goes, goes by steps that are committed each, and each leaves a row in the sealed audit log: whatever interrupts it, the next
run continues, and two at once share the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import OperationalError, ProgrammingError, connections
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from auditing.context import audit_context
from auditing.models import AuditLog
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import NIL
from storage_meta.models import Bucket
from tenants.apart import apart

LOG = partitions.PartitionedLog("cp_storage_meta_storageaudit")
BATCH = 10_000
BATCHES = 20
"""Transactions of one run of the duty."""

MOST_DAYS = 36_500
NAMED = 500
"""Tenants whose counts are told by name: so many fit into a row of the audit log."""

# a: a row of the log. Its bucket is known by name, as it may be gone; what is held is asked of the key it has now.
_DUE = sql.SQL("""
    FROM {table} a LEFT JOIN cp_storage_meta_bucket b ON b.tenant_id = a.tenant_id AND b.name = a.bucket
    WHERE (%(tenant)s::uuid IS NULL OR a.tenant_id = %(tenant)s::uuid)
        AND (%(bucket)s::text IS NULL OR a.bucket = %(bucket)s::text)
""")
_CUT_OFF = sql.SQL(
    "%(now)s::timestamptz - make_interval(hours => 24 * least(coalesce(b.audit_days, %(days)s::int), 999999))"
)
_GOES = sql.SQL("""
    a.created_at < {cut_off} AND NOT EXISTS (
            SELECT FROM cp_storage_meta_storageobject o
            JOIN cp_storage_meta_storageversion v ON v.tenant_id = o.tenant_id AND v.object_id = o.id
            WHERE o.tenant_id = a.tenant_id AND o.bucket_id = b.id AND o.object_key = a.object_key
                AND (v.legal_hold OR v.retain_until > %(now)s::timestamptz))
""")
_COUNTED = sql.SQL("SELECT a.tenant_id, count(*) {due} AND {goes} GROUP BY 1")
_YOUNG = sql.SQL("SELECT EXISTS (SELECT {due} AND a.created_at >= {cut_off})")
_ANY_HELD = (
    "SELECT EXISTS (SELECT FROM cp_storage_meta_storageversion WHERE legal_hold OR retain_until > %(now)s::timestamptz)"
)
_HELD = sql.SQL("""
    SELECT EXISTS (
        SELECT FROM {table} a
        JOIN cp_storage_meta_bucket b ON b.tenant_id = a.tenant_id AND b.name = a.bucket
        JOIN cp_storage_meta_storageobject o
            ON o.tenant_id = a.tenant_id AND o.bucket_id = b.id AND o.object_key = a.object_key
        JOIN cp_storage_meta_storageversion v ON v.tenant_id = o.tenant_id AND v.object_id = o.id
        WHERE v.legal_hold OR v.retain_until > %(now)s::timestamptz)
""")
_BATCH = sql.SQL("""
    WITH due AS (
        SELECT a.ctid AS place {due} AND {goes} AND a.id > %(after)s::uuid
        ORDER BY a.id LIMIT %(batch)s FOR UPDATE OF a SKIP LOCKED
    ), gone AS (
        DELETE FROM {table} t WHERE t.ctid = ANY (ARRAY(SELECT place FROM due)) RETURNING t.tenant_id, t.id
    )
    SELECT tenant_id, count(*), (array_agg(id ORDER BY id DESC))[1] FROM gone GROUP BY 1
""")


@dataclass(slots=True)
class Cleaned:
    """What went, or would go: rows by tenant, in how many batches, and the months that were dropped."""

    by_tenant: Counter[UUID] = field(default_factory=Counter)
    batches: int = 0
    months: list[date] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.by_tenant.total()


def clean(
    now: datetime,
    *,
    days: int,
    tenant_id: UUID | None = None,
    bucket: str | None = None,
    dry_run: bool = False,
    by: object = "storage_retention",
    told: Callable[[str], None] = lambda text: None,
    batches: int | None = None,
) -> Cleaned:
    """Remove the rows that are older than so many days before `now`, or than their bucket's audit_days, and not held.

    tenant_id, bucket (its name): of these alone. by: actor of the rows in the audit log. told: hears of each step.
    batches: that delete rows, after which it stops.
    """
    asked = {"now": now, "days": days, "tenant": tenant_id, "bucket": bucket, "batch": BATCH}
    youngest = now - timedelta(days=_least(days))
    cleaned = Cleaned()
    for month in sorted(partitions.existing_months(LOG)):
        if month > partitions.month_of(youngest):
            break
        step = _Step(month, asked, youngest, by)
        try:
            if dry_run:
                cleaned.by_tenant.update(step.counted())
            elif (
                tenant_id is None
                and bucket is None
                and _past(month, now, days)
                and (gone := step.dropped()) is not None
            ):
                cleaned.by_tenant.update(gone)
                cleaned.months.append(month)
                told(f"{month:%Y-%m}: dropped, {gone.total():,} rows")
            else:
                for gone in step.deleted():
                    cleaned.by_tenant.update(gone)
                    cleaned.batches += 1
                    told(f"{month:%Y-%m}: deleted {gone.total():,} rows")
                    if cleaned.batches == batches:
                        return cleaned
        except ProgrammingError as error:
            if getattr(error.__cause__, "sqlstate", None) != "42P01":
                raise
            told(f"{month:%Y-%m}: dropped by another run")
    return cleaned


def duty(now: datetime) -> bool:
    """Remove the rows that are older than their bucket's audit_days, each day; True: there may be more.

    What is in no bucket with such a rule is kept until `clean` is asked for it: how long the rest is kept is the operator's word.
    """
    left = BATCHES
    ruled = Bucket.objects.filter(audit_days__isnull=False).order_by("tenant_id", "name")
    for tenant_id, bucket, days in ruled.values_list("tenant_id", "name", "audit_days"):
        left -= clean(now, days=days or 0, tenant_id=tenant_id, bucket=bucket, by="lifecycle", batches=left).batches
        if left <= 0:
            return True
    return False


def _least(days: int) -> int:
    """The fewest days that a row is kept."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("SELECT min(audit_days) FROM cp_storage_meta_bucket")
        return min(days, cursor.fetchone()[0] or days)


def _past(month: date, now: datetime, days: int) -> bool:
    """Whether all of a month is older than `days`, and than a day: what is written now never lacks its month."""
    end = partitions.next_month(month)
    return datetime(end.year, end.month, 1, tzinfo=UTC) <= now - timedelta(days=max(days, 1))


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done with a month. asked: values of the statements; youngest: the door is open for rows older than this."""

    month: date
    asked: Mapping[str, Any]
    youngest: datetime
    by: object

    @property
    def name(self) -> str:
        return f"{LOG.table}_{self.month:%Y%m}"

    def counted(self) -> Counter[UUID]:
        with connections[conf.DATABASE].cursor() as cursor:
            cursor.execute(self._composed(_COUNTED), self.asked)
            return Counter(dict(cursor.fetchall()))

    def dropped(self) -> Counter[UUID] | None:
        """Detach and drop the month, with its record, in one transaction. None: something of it stays, or it is in use all the
        time; then its rows go one by one."""

        def work() -> Counter[UUID] | None:
            with audit_context(actor=self.by):
                partitions.patiently(drop, self.name)
            return found

        found: Counter[UUID] | None = None

        def drop(cursor: CursorWrapper) -> None:
            nonlocal found
            found = self._drop(cursor)

        try:
            return apart(work)
        except partitions.PartitionBusy:
            return None
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) == "40P01":  # who writes into it waits for us, and we for him
                return None
            raise

    def _drop(self, cursor: CursorWrapper) -> Counter[UUID] | None:
        table = sql.Identifier(self.name)
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))  # no more rows come
        if self._stays(cursor):
            return None
        cursor.execute(sql.SQL("SELECT tenant_id, count(*) FROM {} GROUP BY 1").format(table))
        gone = Counter(dict(cursor.fetchall()))
        self._record(gone, "dropped")
        # not CONCURRENTLY: that leaves a month half detached if it is interrupted; here the others wait for two seconds at most
        cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(sql.Identifier(LOG.table), table))
        cursor.execute(sql.SQL("DROP TABLE {}").format(table))
        return gone

    def _stays(self, cursor: CursorWrapper) -> bool:
        """Whether anything of the month stays. Its rows are read only where what is known of buckets and holds leaves it open."""
        cursor.execute("SELECT coalesce(max(audit_days), 0) FROM cp_storage_meta_bucket")
        if not _past(self.month, self.asked["now"], min(max(self.asked["days"], cursor.fetchone()[0]), MOST_DAYS)):
            cursor.execute(self._composed(_YOUNG), self.asked)
            if cursor.fetchone()[0]:
                return True
        cursor.execute(_ANY_HELD, self.asked)
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(self._composed(_HELD), self.asked)
        held: bool = cursor.fetchone()[0]
        return held

    def deleted(self) -> Iterator[Counter[UUID]]:
        """Delete what goes of the month, a batch at a time; each is committed with its record."""
        after = NIL
        while True:
            found = apart(partial(self._batch, after))
            if not found:
                return
            after = max(last for _, last in found.values())
            yield Counter({tenant: rows for tenant, (rows, _) in found.items()})

    def _batch(self, after: UUID) -> dict[UUID, tuple[int, UUID]]:
        with audit_context(actor=self.by), connections[conf.DATABASE].cursor() as cursor:
            cursor.execute("SELECT set_config('cp.retention_before', %s, true)", [self.youngest.isoformat()])
            cursor.execute(self._composed(_BATCH), {**self.asked, "after": after})
            found = {tenant: (rows, last) for tenant, rows, last in cursor.fetchall()}
            cursor.execute("SELECT set_config('cp.retention_before', '', true)")
            self._record(Counter({tenant: rows for tenant, (rows, _) in found.items()}), "deleted")
        return found

    def _composed(self, query: sql.SQL) -> sql.Composed:
        table = sql.Identifier(self.name)
        return query.format(
            table=table, due=_DUE.format(table=table), goes=_GOES.format(cut_off=_CUT_OFF), cut_off=_CUT_OFF
        )

    def _record(self, gone: Counter[UUID], how: str) -> None:
        """What went, in the sealed log: the tenant's, or the platform's where it was of several."""
        if not gone:
            return
        month = f"{self.month:%Y-%m}"
        details = {"rows": gone.total(), "how": how, "month": month, "days": self.asked["days"]}
        if self.asked["bucket"] is not None:
            details["bucket"] = self.asked["bucket"]
        [tenant, *others] = gone
        if others:
            details["tenants"] = len(gone)
            details["by_tenant"] = {str(one): rows for one, rows in gone.most_common(NAMED)}
        AuditLog.objects.record(
            "storage.log_cleaned", tenant=None if others else tenant, resource=(LOG.table, month), details=details
        )
