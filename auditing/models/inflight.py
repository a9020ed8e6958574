from __future__ import annotations

from typing import Self

from django.db import models

from auditing.models.logs import id_of
from controlplane.core.constraints import object_within
from controlplane.core.fields import id_field


class InFlightRequestQuerySet(models.QuerySet["InFlightRequest"]):
    def for_tenant(self, tenant: object) -> Self:
        return self.filter(tenant_id=id_of(tenant))

    def with_status(self, status: str) -> Self:
        return self.filter(status=status)


class InFlightRequest(models.Model):
    """A call that is not finished. Written by `start`, removed by `complete`, `fail` and `cancel` with the fact they
    write, and by the sweep (`auditing.sweeping`) where none of them came before its deadline: then it is lost.

    `id` is the id the fact will have.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"

    id = id_field()
    created_at = models.DateTimeField()
    request_id = models.CharField(max_length=200)
    tenant_id = models.UUIDField()
    app_id = models.UUIDField(null=True)
    branch_id = models.UUIDField(null=True)
    user_id = models.UUIDField(null=True)
    api_key_id = models.UUIDField(null=True)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=265)
    requested_model = models.CharField(max_length=265, null=True)  # noqa: DJ001 - NULL = the same
    status = models.CharField(max_length=7, choices=Status, default=Status.PENDING)
    estimated_cost = models.DecimalField(max_digits=24, decimal_places=12, null=True, help_text="US dollars")
    deadline = models.DateTimeField()
    stream = models.BooleanField(default=False)
    time_zone = models.CharField(max_length=64)
    metadata = models.JSONField(null=True)

    objects = InFlightRequestQuerySet.as_manager()

    class Meta:
        db_table_comment = "A call that is not finished"
        verbose_name = "request in flight"
        verbose_name_plural = "requests in flight"
        indexes = [models.Index(fields=["deadline"], name="inflight_deadline_idx")]
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "request_id"], name="cp_auditing_inflightrequest_once"),
            # what the fact would refuse is refused here, or the call could never end
            models.CheckConstraint(
                condition=~models.Q(request_id=""), name="cp_auditing_inflightrequest_request_id_given"
            ),
            models.CheckConstraint(
                condition=models.Q(metadata__isnull=True) | object_within("metadata", 4096),
                name="cp_auditing_inflightrequest_metadata_is_small",
            ),
        ]

    def __str__(self) -> str:
        return self.request_id
