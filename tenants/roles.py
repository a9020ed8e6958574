"""Roles of a user in a tenant, and what each may do: the one table that Django's permissions are derived from."""

from __future__ import annotations

from itertools import product

from django.db import models


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    AUDITOR = "auditor"
    BILLING = "billing"
    VIEWER = "viewer"
    OPERATOR = "operator"
    """Of no tenant: runs the platform. What it may do beyond superusers' rights comes from Django's groups."""


def _permissions(actions: str, models_: str) -> frozenset[str]:
    return frozenset(
        f"{label}.{action}_{model}"
        for action, (label, model) in product(actions.split(), (name.split(".") for name in models_.split()))
    )


_TENANCY = "cp_tenants.app cp_tenants.branch cp_tenants.user cp_tenants.userapp cp_tenants.apikey"
_KEYS = frozenset(f"cp_tenants.{verb}_apikey" for verb in ("issue", "rotate", "revoke"))
_SESSIONS = frozenset({"cp_tenants.view_refreshfamily", "cp_tenants.revoke_refreshfamily"})
_GOVERNANCE = "cp_policies.policy"
_CATALOG = "cp_catalog.provider cp_catalog.aimodel cp_catalog.modelalias"
_USAGE = "cp_auditing.inferencerequest cp_auditing.inflightrequest cp_auditing.usagesummary"
_LOG = "cp_auditing.auditlog cp_auditing.auditseal cp_auditing.retentionrecord"
_PROOF = frozenset({"cp_auditing.verify_auditlog", "cp_auditing.export_auditlog"})

_VIEWER = _permissions("view", f"cp_tenants.app {_GOVERNANCE} {_CATALOG} cp_auditing.inferencerequest")
_ADMIN = (
    _permissions("view add change", f"{_TENANCY} {_GOVERNANCE} cp_catalog.modelalias")
    | _KEYS
    | _SESSIONS
    | _permissions("view", f"cp_tenants.tenant {_CATALOG} {_USAGE} {_LOG}")
)

PERMISSIONS: dict[str, frozenset[str]] = {
    Role.OWNER: _ADMIN,
    Role.ADMIN: _ADMIN,
    Role.DEVELOPER: _KEYS | _permissions("view", f"cp_tenants.app cp_tenants.apikey {_GOVERNANCE} {_CATALOG} {_USAGE}"),
    Role.AUDITOR: _PROOF
    | _permissions(
        "view", f"cp_tenants.tenant cp_tenants.refreshfamily {_TENANCY} {_GOVERNANCE} {_CATALOG} {_USAGE} {_LOG}"
    ),
    Role.BILLING: _permissions("view", f"{_CATALOG} {_USAGE}"),
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: frozenset(),
}
"""Permissions by role, inside the user's own tenant."""
