from __future__ import annotations

from typing import ClassVar

from django.apps import AppConfig


class AuditingConfig(AppConfig):
    name = "auditing"
    label = "cp_auditing"
    verbose_name = "Auditing and usage"
    default_auto_field = "django.db.models.BigAutoField"
    audit_exempt: ClassVar[dict[str, str]] = {
        "AuditLog": "is the audit log",
        "InferenceRequest": "is a log itself, append-only",
        "InFlightRequest": "traffic, not configuration; ends as a fact of the log",
        "DeadLetter": "refused input, kept whole; its resolution is recorded as an event",
        "UsageHour": "sums of the log, made again from it",
        "UsageDay": "sums of the log, made again from it",
        "UsageSummary": "sums of the log; closing a month is recorded as an event",
        "UsageZone": "follows from the log, made again from it",
        "IngestWatermark": "how far a job has read, not configuration",
        "AuditSeal": "append-only itself, and chained",
        "RetentionRecord": "append-only itself; each is recorded as an event too",
    }

    def ready(self) -> None:
        import auditing.checks  # noqa: F401 - registers them
        from auditing import anchors, partitioning, reconciling, retention, rollups, sealing, sweeping
        from auditing.ingest import LOG
        from controlplane.core import duties, partitions

        partitions.register(partitions.PartitionedLog("cp_auditing_auditlog"))
        partitions.register(LOG)
        partitions.register(rollups.HOURS)
        duties.register(duties.Duty("partitions", 3600, partitioning.duty))
        duties.register(duties.Duty("retention", 86_400, retention.duty))
        duties.register(duties.Duty("usage_sweep", 10, sweeping.duty, alone=False))
        duties.register(duties.Duty("usage_rollup", 5, rollups.run))
        duties.register(duties.Duty("audit_seal", 60, sealing.duty))
        duties.register(duties.Duty("audit_anchor", 300, anchors.duty))
        duties.register(duties.Duty("usage_reconcile", 86_400, reconciling.duty, at_start=False))
