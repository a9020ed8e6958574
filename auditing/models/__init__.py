from __future__ import annotations

from auditing.models.auditlog import AuditLog, AuditLogQuerySet
from auditing.models.deadletter import DeadLetter
from auditing.models.inference import InferenceRequest, InferenceRequestQuerySet
from auditing.models.inflight import InFlightRequest

__all__ = [
    "AuditLog",
    "AuditLogQuerySet",
    "DeadLetter",
    "InFlightRequest",
    "InferenceRequest",
    "InferenceRequestQuerySet",
]
