"""What the caches of all processes count, and emptying them: the same for the page and for the command."""

from __future__ import annotations

from dataclasses import dataclass

from auditing.context import audit_context
from auditing.models import AuditLog
from controlplane.core.caches import flush_everywhere
from controlplane.core.errors import ControlPlaneError
from controlplane.core.models import Process

FLUSHED = "caches.flushed"


@dataclass(frozen=True, slots=True)
class Counted:
    """One cache of one process."""

    process: Process
    cache: str
    counts: dict[str, int]

    @property
    def calls(self) -> int:
        return self.counts["hits"] + self.counts["misses"] + self.counts["negative_hits"]

    @property
    def hit_rate(self) -> float | None:
        """Percent of the calls that no statement was needed for; None: no call yet."""
        return (self.calls - self.counts["misses"]) * 100 / self.calls if self.calls else None


def counted() -> list[Counted]:
    """Every cache of every process that was seen in the last ten minutes."""
    return [
        Counted(process, cache, counts)
        for process in Process.objects.seen()
        for cache, counts in sorted(process.caches.items())
    ]


def flush(reason: str, actor: object = None) -> None:
    """Have every process empty its caches, for a reason that the audit log keeps. Raises reason_required."""
    if not reason.strip():
        raise ControlPlaneError("reason_required", "Say why: this is kept in the audit log.", http_status=422)
    with audit_context(actor=actor, reason=reason):
        AuditLog.objects.record(FLUSHED, reason=reason)
        flush_everywhere()
