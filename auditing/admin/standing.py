"""How sealing and the partitions of the logs stand, from what the database knows of itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse

from controlplane.core import display, partitions
from controlplane.core.conf import conf
from controlplane.core.ids import PLATFORM, now
from controlplane.core.partitions import month_of, next_month

PARTITIONS = "cp_auditing_auditlog_partitions"
BEHIND_S = 600
"""A row that waits so long for its seal is a warning."""
MOST = 10_000
"""So many waiting rows are counted."""

_WAITING = """
    SELECT count(*), min(created_at) FROM (
        SELECT created_at FROM cp_auditing_auditlog
        WHERE xid >= coalesce((SELECT xid FROM cp_auditing_ingestwatermark WHERE name = 'seal:auditlog'), 0) LIMIT %(most)s
    ) AS audit
    UNION ALL
    SELECT count(*), min(created_at) FROM (
        SELECT created_at FROM cp_auditing_inferencerequest
        WHERE xid >= coalesce((SELECT xid FROM cp_auditing_ingestwatermark WHERE name = 'seal:inferencerequest'), 0)
        LIMIT %(most)s
    ) AS requests
    UNION ALL
    (SELECT seq, sealed_at FROM cp_auditing_auditseal
        WHERE tenant_id = %(platform)s AND log = 'checkpoint' ORDER BY seq DESC LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class Sealing:
    """waiting: rows of each log without a seal, at most MOST + 1. oldest: of them. checkpoints: how many runs there were."""

    waiting: tuple[int, int]
    oldest: datetime | None
    checkpoints: int
    last_run: datetime | None
    present: datetime

    @property
    def lag_s(self) -> int:
        return int((self.present - self.oldest).total_seconds()) if self.oldest else 0

    @property
    def late(self) -> bool:
        return self.lag_s > BEHIND_S

    @property
    def figures(self) -> list[tuple[str, object, str]]:
        """(label, value, tone) for the page."""
        said = [f"{min(n, MOST):,}{'+' if n > MOST else ''}" for n in self.waiting]
        return [
            ("Audit events that wait", said[0], ""),
            ("Requests that wait", said[1], ""),
            ("The oldest waits for", _span(self.lag_s), "bad" if self.late else ""),
            ("Runs so far", f"{self.checkpoints:,}", ""),
            ("Last run (UTC)", display.instant(self.last_run), ""),
        ]


def sealing() -> Sealing:
    """One statement, by the indexes on the numbers of transactions."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_WAITING, {"most": MOST + 1, "platform": PLATFORM})
        audit, requests, *checkpoint = cursor.fetchall()
    times = [at for _, at in (audit, requests) if at is not None]
    seq, sealed_at = checkpoint[0] if checkpoint else (0, None)
    return Sealing((audit[0], requests[0]), min(times, default=None), seq, sealed_at, now())


def _span(seconds: int) -> str:
    """As people say it: 40 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Part:
    """A month of a log. rows: as the last ANALYZE estimated; None: it has not been looked at yet."""

    month: date
    rows: int | None
    bytes: int
    coming: bool

    @property
    def size(self) -> str:
        return filesizeformat(self.bytes)

    @property
    def rows_shown(self) -> str:
        return f"{self.rows:,}"


@dataclass(frozen=True, slots=True)
class Parted:
    """A log by month. ahead: months after the present one that are there already, without a gap."""

    table: str
    parts: list[Part]
    ahead: int
    missing: bool

    @property
    def size(self) -> str:
        return filesizeformat(sum(part.bytes for part in self.parts))

    @property
    def rows_shown(self) -> str:
        return f"{sum(part.rows or 0 for part in self.parts):,}"


_PARTS = """
    SELECT p.relname, to_date(right(c.relname, 6), 'YYYYMM'), c.reltuples::bigint, pg_total_relation_size(c.oid)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE p.oid = ANY (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
    ORDER BY 1, 2 DESC
"""


def parted(present: datetime) -> list[Parted]:
    tables = [log.table for log in partitions.registered()]
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_PARTS, [tables])
        rows = cursor.fetchall()
    here = month_of(present)
    found: dict[str, list[Part]] = {table: [] for table in tables}
    for table, month, estimate, size in rows:
        found[table].append(Part(month, None if estimate < 0 else estimate, size, month > here))
    return [_parted(table, parts, here) for table, parts in found.items()]


def _parted(table: str, parts: list[Part], here: date) -> Parted:
    months, ahead, month = {part.month for part in parts}, 0, here
    while (month := next_month(month)) in months:
        ahead += 1
    return Parted(table, parts, ahead, here not in months or ahead < 1)


def partitions_page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    context = {
        **modeladmin.admin_site.each_context(request), "title": "Partitions", "opts": modeladmin.opts, "logs": parted(now()),
        "wanted": partitions.AHEAD,
    }  # fmt: skip
    return TemplateResponse(request, "cp_auditing/partitions.html", context)
