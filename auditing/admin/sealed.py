"""Which rows of a page stand under which seal, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.urls import reverse

from auditing.models import AuditLog, AuditSeal, IngestWatermark, RetentionRecord
from auditing.verified import Verified
from controlplane.core.ids import PLATFORM
from controlplane.core.partitions import month_of, next_month

LATE = timedelta(days=35)
TONES = {"finding": "bad", "late": "warn", "verified": "ok", "retired": "info"}
MOST = 400
"""Seals that are looked at for a page of rows."""


@dataclass(slots=True)
class Segment:
    """Rows of a tenant and month under one seal, under none yet, or gone. shown: how many of them this page has."""

    name: str
    state: str
    what: str
    url: str = ""
    shown: int = 0

    @property
    def tone(self) -> str:
        return TONES.get(self.state, "")


def state_of(seal: Any, verified: Iterable[Verified], *, retired: bool = False) -> str:
    """finding, retired, late (sealed more than 35 days after its month), verified, or sealed: not verified since."""
    known = [each for each in verified if each.tenant_id in (None, seal.tenant_id) and each.log in ("", seal.log)]
    newest = next(iter(known), None)
    if newest is not None and any(_meets(finding, seal) for finding in newest.findings):
        return "finding"
    if retired:
        return "retired"
    if seal.sealed_at > _end_of(seal.month) + LATE:
        return "late"
    if any(each.covers(seal.log, seal.tenant_id, seal.month, seal.sealed_at) for each in known):
        return "verified"
    return "sealed"


def of_page(
    rows: Sequence[AuditLog], names: Mapping[UUID, str], verified: Sequence[Verified]
) -> tuple[list[Segment], dict[UUID, Segment]]:
    """The segments that rows of the audit log stand in, newest first, and the segment of each row; two statements."""
    if not rows:
        return [], {}
    low = IngestWatermark.objects.filter(name="seal:auditlog").values_list("xid", flat=True).first() or 0
    seals = _seals(rows)
    segments: dict[Any, Segment] = {}
    found: dict[UUID, Segment] = {}
    for row in rows:
        key, segment = _segment(row, low, seals, names, verified)
        found[row.pk] = segments.setdefault(key, segment)
        found[row.pk].shown += 1
    return list(segments.values()), found


def gone(months: Sequence[date], tenant: UUID | None, names: Mapping[UUID, str]) -> list[Segment]:
    """Months of the audit log that retention has removed, of those asked about."""
    records = RetentionRecord.objects.filter(kind="retired", log="auditlog", month__in=months)
    if tenant is not None:
        records = records.filter(tenant_id=tenant)
    return [
        Segment(
            name=f"{name_of(record.tenant_id, names)}, {record.month:%Y-%m}",
            state="retired",
            what=f"{record.rows or 0:,} rows are gone: {record.reason}",
            url=reverse("admin:cp_auditing_retentionrecord_change", args=[record.pk]),
        )
        for record in records.order_by("-month", "-id")[:12]
    ]


def _seals(rows: Sequence[AuditLog]) -> list[AuditSeal]:
    xids, ids = [row.xid for row in rows], [row.pk for row in rows]
    return list(
        AuditSeal.objects.filter(
            kind="rows", log="auditlog", tenant_id__in={row.tenant_id for row in rows},
            month__in={month_of(row.created_at) for row in rows}, xid_to__gt=min(xids), xid_from__lte=max(xids),
            id_from__lte=max(ids), id_to__gte=min(ids),
        ).order_by("-seq")[:MOST]
    )  # fmt: skip


def _segment(
    row: AuditLog, low: int, seals: Sequence[AuditSeal], names: Mapping[UUID, str], verified: Sequence[Verified]
) -> tuple[Any, Segment]:
    month = month_of(row.created_at)
    name = f"{name_of(row.tenant_id, names)}, {month:%Y-%m}"
    if row.xid >= low:
        return (row.tenant_id, month, "pending"), Segment(
            name, "pending", "The next run of the sealing duty covers these."
        )
    for seal in seals:
        if (
            seal.tenant_id == row.tenant_id
            and seal.month == month
            and seal.xid_from <= row.xid < seal.xid_to
            and seal.id_from <= row.pk <= seal.id_to
        ):
            url = reverse("admin:cp_auditing_auditseal_change", args=[seal.pk])
            what = f"Seal {seal.seq:,} of {seal.n:,} rows, {seal.sealed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            return seal.pk, Segment(name, state_of(seal, verified), what, url)
    if len(seals) == MOST:
        return (row.tenant_id, month, "unknown"), Segment(
            name, "sealed", "By too many seals to list; filter by tenant."
        )
    return (row.tenant_id, month, "finding"), Segment(
        name, "finding", "No seal covers these rows, and one should: verify."
    )


def _meets(finding: Mapping[str, Any], seal: Any) -> bool:
    """Whether a finding is about this seal, or about its month without naming a seal."""
    return (
        finding.get("log") == seal.log
        and finding.get("tenant_id") == str(seal.tenant_id)
        and finding.get("month") in (None, seal.month.isoformat())
        and finding.get("seq") in (None, seal.seq)
    )


def name_of(tenant: UUID, names: Mapping[UUID, str]) -> str:
    return "Platform" if tenant == PLATFORM else names.get(tenant) or f"…{str(tenant)[-8:]}"


def _end_of(month: date) -> datetime:
    end = next_month(month)
    return datetime(end.year, end.month, 1, tzinfo=UTC)
