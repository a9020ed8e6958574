from __future__ import annotations

from typing import Any, NoReturn, Self

from django.db import models

from auditing.errors import AppendOnly
from auditing.models.logs import id_of


class RetentionRecordQuerySet(models.QuerySet["RetentionRecord"]):
    def for_tenant(self, tenant: object) -> Self:
        return self.filter(tenant_id=id_of(tenant))

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly


class RetentionRecord(models.Model):
    """One decision about how long records are kept, or one act that followed. Written by retention; never changes.

    rule: `months` that a log is kept; of rules for the same log and tenant the latest counts, and one for a tenant more than
    one for all. hold: nothing of it goes until a `release` that names it.
    retired: a month of a tenant's rows is gone, with what their seals said of them. erased: personal columns of an actor
    are nulled. all_tenants: the decision is about every tenant, and tenant_id is nil. log '': every log.
    """

    class Kind(models.TextChoices):
        RULE = "rule"
        HOLD = "hold"
        RELEASE = "release"
        RETIRED = "retired"
        ERASED = "erased"

    id = models.UUIDField(primary_key=True, editable=False)
    created_at = models.DateTimeField()
    kind = models.CharField(max_length=7, choices=Kind)
    log = models.CharField(max_length=16, default="")
    tenant_id = models.UUIDField(help_text="Nil: the platform, or every tenant.")
    all_tenants = models.BooleanField(default=False)
    months = models.IntegerField(null=True, help_text="Of a rule: months that rows are kept.")
    month = models.DateField(null=True, help_text="Of what is retired: the UTC month.")
    releases = models.UUIDField(null=True, help_text="Of a release: the hold that ends.")
    rows = models.BigIntegerField(null=True, help_text="Rows that are gone, or whose personal columns are.")
    seals = models.BigIntegerField(null=True, help_text="Of what is retired: seals over its rows.")
    last_hash = models.BinaryField(max_length=32, null=True, help_text="Hash of the last of these seals.")
    archive = models.TextField(default="", help_text="Of what is retired: where it is kept, if anywhere.")
    archive_sha256 = models.BinaryField(max_length=32, null=True)
    subject = models.TextField(
        default="", help_text="Of an erasure: the actor's id. Of a month that goes with its table: the table."
    )
    reason = models.TextField()
    actor = models.TextField(default="", help_text="Who decided it.")

    objects = RetentionRecordQuerySet.as_manager()

    class Meta:
        db_table_comment = "Decisions about how long records are kept, and what followed. Append-only."
        verbose_name = "retention record"
        default_permissions = ("view",)
        permissions = [("hold_retentionrecord", "Can hold and release records")]
        constraints = [
            # whoever keeps, holds or removes records says why
            models.CheckConstraint(condition=~models.Q(reason=""), name="cp_auditing_retentionrecord_reason_given"),
            models.CheckConstraint(
                condition=models.Q(months__isnull=True) | models.Q(months__gte=1),
                name="cp_auditing_retentionrecord_a_month_at_least",
            ),
        ]
        indexes = [models.Index(fields=["tenant_id", "kind", "log", "month"], name="retentionrecord_kind_idx")]

    def __str__(self) -> str:
        return f"{self.kind} {self.log or 'every log'}"

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        raise AppendOnly
