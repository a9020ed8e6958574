from __future__ import annotations

from tenants.models.access import UserApp
from tenants.models.fields import Status
from tenants.models.key import APIKey, Issued
from tenants.models.secret import APIKeySecret, APIKeySecretUse
from tenants.models.tenant import App, Branch, Tenant
from tenants.models.user import User
from tenants.roles import Role

__all__ = [
    "APIKey",
    "APIKeySecret",
    "APIKeySecretUse",
    "App",
    "Branch",
    "Issued",
    "Role",
    "Status",
    "Tenant",
    "User",
    "UserApp",
]
