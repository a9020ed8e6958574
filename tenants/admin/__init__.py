from __future__ import annotations

from tenants.admin import access, key, refresh, tenant, user

__all__ = ["access", "key", "refresh", "tenant", "user"]
