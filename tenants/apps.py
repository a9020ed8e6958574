from __future__ import annotations

import os
from datetime import datetime
from typing import ClassVar

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    label = "cp_tenants"
    verbose_name = "Tenancy"
    default_auto_field = "django.db.models.BigAutoField"
    audit_exempt: ClassVar[dict[str, str]] = {
        "APIKeySecretUse": "derived from use, and written too often; who used a key is in the requests",
        "User_groups": "of operators only; what a tenant's user may do is its role",
        "RefreshToken": "its family is watched; a row of the log per rotation would say nothing more",
        "SignInCount": "counters of a quarter of an hour; what they refuse is recorded as an event",
        "User_user_permissions": "of operators only; what a tenant's user may do is its role",
    }

    def ready(self) -> None:
        import tenants.checks  # noqa: F401 - registers them
        from auditing import directory
        from controlplane.core import duties
        from controlplane.core.caches import invalidation
        from tenants import lastuse, rehashing
        from tenants.directory import TenantDirectory
        from tenants.models import APIKey, RefreshToken

        def purge_keys(now: datetime) -> None:
            APIKey.objects.purge_expired(actor="worker")

        def purge_sessions(now: datetime) -> None:
            RefreshToken.objects.purge_expired(now, actor="worker")

        directory.register(TenantDirectory())
        invalidation.duties.add(
            "last use", lastuse.EVERY, lambda connection: lastuse.write(connection.execute), at_end=True
        )
        invalidation.duties.add(
            "pepper", rehashing.EVERY, lambda connection: rehashing.change_over(connection.execute), at_end=True
        )
        duties.register(duties.Duty("keys_purge", 3600, purge_keys))
        duties.register(duties.Duty("refresh_purge", 3600, purge_sessions))
        os.register_at_fork(after_in_child=lastuse.forget)
        os.register_at_fork(after_in_child=rehashing.forget)
