from __future__ import annotations

from auditing.admin import auditlog, deadletter, requests, retention, seals, summaries

__all__ = ["auditlog", "deadletter", "requests", "retention", "seals", "summaries"]
