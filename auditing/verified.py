"""What the last verifications found: each is an event of the log, so that pages can say it without verifying again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from auditing.models import AuditLog
from auditing.verifying import Report
from controlplane.core.partitions import month_of

ACTION = "audit.verified"
FIELDS = ("kind", "log", "tenant_id", "month", "seq", "id_from", "id_to", "message")
KEPT = 100
"""So many findings are kept in the event; their number always is."""


@dataclass(frozen=True, slots=True)
class Verified:
    """One verification. tenant_id None: of all tenants; log "": of all logs; start, end: of what was asked, None = all.

    findings: `kind`, `log`, `tenant_id`, `month`, `seq`, `id_from`, `id_to`, `message`, at most KEPT; found: how many there are.
    """

    at: datetime
    by: str
    tenant_id: UUID | None
    log: str
    start: datetime | None
    end: datetime | None
    rows: int
    seals: int
    found: int
    findings: tuple[Mapping[str, Any], ...]

    @property
    def rows_shown(self) -> str:
        return f"{self.rows:,}"

    def covers(self, log: str, tenant_id: UUID, month: date, sealed_at: datetime) -> bool:
        """Whether the rows of this log, tenant and month that were sealed at `sealed_at` were verified."""
        return (
            self.log in ("", log)
            and self.tenant_id in (None, tenant_id)
            and sealed_at <= self.at
            and (self.start is None or month_of(self.start) <= month)
            and (self.end is None or month < self.end.date())
        )


def note(
    report: Report,
    *,
    tenant: UUID | None = None,
    log: str = "",
    start: datetime | None = None,
    end: datetime | None = None,
) -> AuditLog:
    """Record a verification and what it found; the arguments are those that it was asked with."""
    found = len(report.findings) + report.more
    told = [{name: _plain(getattr(each, name)) for name in FIELDS} for each in report.findings[:KEPT]]
    details = {
        "log": log, "tenant": _plain(tenant), "from": _plain(start), "to": _plain(end), "rows": report.rows,
        "seals": report.seals, "found": found, "findings": told,
    }  # fmt: skip
    event: AuditLog = AuditLog.objects.record(
        ACTION, tenant=tenant, outcome="failure" if found else "success", details=details
    )
    return event


def last(tenants: Collection[UUID]) -> list[Verified]:
    """The newest verifications recorded for these tenants (PLATFORM: of all tenants), the newest first; at most 20."""
    rows = AuditLog.objects.filter(tenant_id__in=tenants, action=ACTION).order_by("-id")
    return [_read(row) for row in rows[:20] if isinstance(row.details, dict) and "found" in row.details]


def _read(row: AuditLog) -> Verified:
    told: dict[str, Any] = row.details or {}
    tenant, start, end = told.get("tenant"), told.get("from"), told.get("to")
    return Verified(
        at=row.created_at,
        by=row.actor_id if row.actor_type == "command" else row.actor_label or row.actor_id or row.actor_type,
        tenant_id=UUID(tenant) if tenant else None,
        log=told.get("log") or "",
        start=datetime.fromisoformat(start) if start else None,
        end=datetime.fromisoformat(end) if end else None,
        rows=told.get("rows") or 0,
        seals=told.get("seals") or 0,
        found=told["found"],
        findings=tuple(told.get("findings") or ()),
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
