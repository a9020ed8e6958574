from __future__ import annotations

from tenants.admin import key, tenant, user

__all__ = ["key", "tenant", "user"]
