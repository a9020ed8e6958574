from __future__ import annotations

from django.db import models

from auditing.context import audit_context
from controlplane.core.constraints import TenantForeignKey
from controlplane.core.fields import created_at_field, id_field, updated_at_field
from controlplane.core.ids import now
from tenants.errors import TenantsError
from tenants.models.tenant import App, Tenant
from tenants.models.user import User


class UserAppManager(models.Manager["UserApp"]):
    def grant(self, app: App, user: User, role: str = "viewer", by: str = "") -> UserApp:
        """Give access, or change its role; a revoked one begins anew. Raises wrong_tenant, operator, unknown_role."""
        if user.tenant_id is None:
            raise TenantsError("operator")
        if user.tenant_id != app.tenant_id:
            raise TenantsError("wrong_tenant")
        if role not in UserApp.Role.values:
            raise TenantsError(
                "unknown_role", f"There is no role {role!r}: choose from {', '.join(UserApp.Role.values)}."
            )
        fresh = {
            "role": role, "status": UserApp.Status.ACTIVE, "granted_at": now(), "granted_by": by,
            "revoked_at": None, "revoked_by": "", "reason": "",
        }  # fmt: skip
        with audit_context():
            access, made = self.get_or_create(tenant_id=app.tenant_id, user=user, app=app, defaults=fresh)
            if not made and (access.status != UserApp.Status.ACTIVE or access.role != role):
                self.filter(pk=access.pk).update(**fresh)
                access.refresh_from_db()
        return access

    def revoke(self, app: App, user: User, reason: str = "", by: str = "", keys: bool = False) -> bool:
        """End an access. False: there was none that was active. keys: revoke the user's keys in the app too.

        Raises reason_required where keys are to be revoked without one.
        """
        active = self.filter(tenant_id=app.tenant_id, user=user, app=app, status=UserApp.Status.ACTIVE)
        if keys and not reason.strip():
            raise TenantsError("reason_required")
        with audit_context(reason=reason):
            ended = active.update(status=UserApp.Status.REVOKED, revoked_at=now(), revoked_by=by, reason=reason)
            for key in user.keys_in(app) if keys else ():
                key.revoke(reason, by=by)
        return bool(ended)


class UserApp(models.Model):
    """A user's access to an app, in a role. One row per user and app: revoked and granted again, it is the same row."""

    class Role(models.TextChoices):
        ADMIN = "admin"
        DEVELOPER = "developer"
        VIEWER = "viewer"

    class Status(models.TextChoices):
        ACTIVE = "active"
        REVOKED = "revoked"

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    user = models.ForeignKey(
        User,
        models.PROTECT,
        swappable=False,
        db_index=False,
        db_constraint=False,
        related_name="accesses",
        db_comment="Who has access",
    )
    app = models.ForeignKey(
        App, models.PROTECT, db_index=False, db_constraint=False, related_name="accesses", db_comment="To which app"
    )
    role = models.CharField(max_length=9, choices=Role, default=Role.VIEWER, db_comment="admin, developer, viewer")
    status = models.CharField(
        max_length=7, choices=Status, default=Status.ACTIVE, editable=False, db_comment="active, revoked"
    )
    granted_at = models.DateTimeField(default=now, editable=False, db_comment="Since when")
    granted_by = models.CharField(max_length=254, default="", editable=False, db_comment="Label of who granted it")
    revoked_at = models.DateTimeField(null=True, editable=False, db_comment="When it ended")
    revoked_by = models.CharField(max_length=254, default="", editable=False, db_comment="Label of who ended it")
    reason = models.TextField(default="", editable=False, db_comment="Why it ended")
    created_at = created_at_field()
    updated_at = updated_at_field()

    objects = UserAppManager()

    class Meta:
        verbose_name = "app access"
        verbose_name_plural = "app accesses"
        db_table_comment = "A user's access to an app"
        indexes = [models.Index(fields=["tenant", "app", "user"], name="userapp_app_idx")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user", "app"],
                name="cp_tenants_userapp_once",
                violation_error_message="This user has a row for this app already. Change that one.",
            ),
            TenantForeignKey(fields=("tenant", "user"), to="cp_tenants.User", name="cp_tenants_userapp_user_of_tenant"),
            TenantForeignKey(fields=("tenant", "app"), to="cp_tenants.App", name="cp_tenants_userapp_app_of_tenant"),
            models.CheckConstraint(
                condition=models.Q(role__in=("admin", "developer", "viewer")), name="cp_tenants_userapp_role"
            ),
            models.CheckConstraint(
                condition=models.Q(status="active", revoked_at__isnull=True)
                | models.Q(status="revoked", revoked_at__isnull=False),
                name="cp_tenants_userapp_revoked_has_a_time",
                violation_error_message="A revoked access has revoked_at, and an active one has not.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} access"
