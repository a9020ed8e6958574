from __future__ import annotations

from tenants.models.access import UserApp
from tenants.models.attempt import SignInCount
from tenants.models.fields import Status
from tenants.models.key import APIKey, Issued
from tenants.models.refresh import IssuedRefresh, RefreshFamily, RefreshToken, VerifiedRefresh
from tenants.models.secret import APIKeySecret, APIKeySecretUse
from tenants.models.tenant import App, Branch, Tenant
from tenants.models.user import DeactivationPreview, User
from tenants.roles import Role

__all__ = [
    "APIKey", "APIKeySecret", "APIKeySecretUse", "App", "Branch", "DeactivationPreview", "Issued", "IssuedRefresh",
    "RefreshFamily", "RefreshToken", "Role", "SignInCount", "Status", "Tenant", "User", "UserApp", "VerifiedRefresh",
]  # fmt: skip
