from __future__ import annotations

from auditing.admin import auditlog, deadletter, requests

__all__ = ["auditlog", "deadletter", "requests"]
