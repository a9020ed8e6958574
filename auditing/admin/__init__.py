from __future__ import annotations

from auditing.admin import auditlog, deadletter, requests, retention, seals

__all__ = ["auditlog", "deadletter", "requests", "retention", "seals"]
