from __future__ import annotations

from auditing.models.auditlog import AuditLog, AuditLogQuerySet
from auditing.models.deadletter import DeadLetter
from auditing.models.inference import InferenceRequest, InferenceRequestQuerySet
from auditing.models.inflight import InFlightRequest
from auditing.models.retention import RetentionRecord
from auditing.models.rollups import IngestWatermark, UsageDay, UsageHour, UsageSummary, UsageZone
from auditing.models.seals import AuditSeal

__all__ = [
    "AuditLog",
    "AuditLogQuerySet",
    "AuditSeal",
    "DeadLetter",
    "InFlightRequest",
    "InferenceRequest",
    "InferenceRequestQuerySet",
    "IngestWatermark",
    "RetentionRecord",
    "UsageDay",
    "UsageHour",
    "UsageSummary",
    "UsageZone",
]
