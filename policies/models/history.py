from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Case, F, OuterRef, Q, Subquery, When

from controlplane.core.fields import id_field
from tenants.models import Tenant

if TYPE_CHECKING:
    from policies.models.policy import Policy


class PolicyVersionQuerySet(models.QuerySet["PolicyVersion"]):
    def for_policy(self, policy: Policy) -> Self:
        """The versions of one policy, newest first."""
        return self.filter(tenant_id=policy.tenant_id, policy_id=policy.pk).order_by("-version")

    def with_before(self) -> Self:
        """Each with `before`: the body of the version before it; None for the first, and after a deletion."""
        earlier = PolicyVersion.objects.filter(
            tenant=OuterRef("tenant"), policy_id=OuterRef("policy_id"), version__lt=OuterRef("version")
        ).order_by("-version")
        there = Case(When(op=PolicyVersion.Op.DELETE, then=None), default=F("body"))
        return self.annotate(before=Subquery(earlier.values(there=there)[:1]))

    def at_epoch(self, epoch: int) -> Self:
        """What each policy was at an epoch: its newest version until then, unless that one deleted it.

        For the versions of one tenant: epochs of two say nothing about each other.
        """
        newest = self.filter(epoch__lte=epoch).order_by("tenant_id", "policy_id", "-version")
        newest = newest.distinct("tenant_id", "policy_id")
        return self.filter(pk__in=newest.values("pk")).exclude(op=PolicyVersion.Op.DELETE)


class PolicyVersion(models.Model):
    """What a policy was after one change, and who made it. A trigger writes it, whoever wrote the policy; append-only.

    A deletion has a version of its own, with the body that was deleted. A policy that comes back under its id counts on.
    Versions with one epoch were written by one statement.
    """

    class Op(models.TextChoices):
        CREATE = "create"
        UPDATE = "update"
        DELETE = "delete"

    id = id_field()
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, related_name="policy_versions", db_comment="Whose policy it is"
    )
    policy_id = models.UUIDField(db_comment="The policy; no foreign key: it may be gone")
    version = models.IntegerField(db_comment="Number of the change, from 1 for each policy")
    op = models.CharField("operation", max_length=6, choices=Op, db_comment="create, update or delete")
    epoch = models.BigIntegerField(db_comment="Epoch of the tenant that the change began")
    body = models.JSONField(db_comment="Every field after the change; of a deletion: before it")
    actor = models.TextField(db_comment="Who: type and id, as in the audit log")
    reason = models.TextField(blank=True, default="", db_comment="Why, in the writer's words")
    recorded_at = models.DateTimeField(db_comment="When it was written; the transaction was committed later")

    objects = PolicyVersionQuerySet.as_manager()

    before: dict[str, Any] | None
    """The body before the change; of `with_before()`."""

    class Meta:
        db_table_comment = "What each policy was after each change; append-only"
        constraints = [
            # The history of one policy in order; the trigger that counts versions looks up the last one.
            models.UniqueConstraint(
                fields=["tenant", "policy_id", "version"],
                name="cp_policies_policyversion_once",
                violation_error_message="This version is recorded already.",
            ),
            models.CheckConstraint(
                condition=Q(op__in=["create", "update", "delete"]),
                name="cp_policies_policyversion_op_known",
                violation_error_message="The operation is create, update or delete.",
            ),
            models.CheckConstraint(
                condition=Q(version__gte=1, epoch__gte=1),
                name="cp_policies_policyversion_counted",
                violation_error_message="Versions and epochs begin with 1.",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "epoch"], name="cp_policyversion_epoch_idx")]

    def __str__(self) -> str:
        return f"{self.body.get('name') or self.policy_id} v{self.version}"


class PolicyEpoch(models.Model):
    """How many statements have changed policies of a tenant. Counted by a trigger under the row's lock, so epochs are in the
    order of commits: who has seen one has seen all before it. A tenant without a row is at 0."""

    id = id_field()
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, related_name="policy_epochs", db_comment="Whose policies"
    )
    epoch = models.BigIntegerField(db_comment="Number of the last statement that changed policies")

    class Meta:
        db_table_comment = "State of each tenant's policies as one number"
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="cp_policies_policyepoch_tenant_once"),
            models.CheckConstraint(
                condition=Q(epoch__gte=1),
                name="cp_policies_policyepoch_counted",
                violation_error_message="Epochs begin with 1.",
            ),
        ]

    def __str__(self) -> str:
        return f"epoch {self.epoch}"
