from __future__ import annotations

from typing import Any, NoReturn, Self

from django.db import models

from auditing.errors import AppendOnly
from auditing.models.logs import id_of


class AuditSealQuerySet(models.QuerySet["AuditSeal"]):
    def for_tenant(self, tenant: object) -> Self:
        return self.filter(tenant_id=id_of(tenant))

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly


class AuditSeal(models.Model):
    """A hash over rows that nobody may change any more, chained to the seal before it. Written by sealing; never changes.

    rows: root is the RFC 6962 tree of the leaves of n rows of one log, tenant and month, of the transactions
    xid_from <= xid < xid_to and the ids id_from <= id <= id_to; the ranges of a window cover its month. checkpoint (of the
    platform): root over the hashes of the seals of its `run`, by log, tenant and seq, so that a seal dropped at the end shows.
    close, reopen: a month of summaries, with their rows' root. run: the first 16 octets of the hash of the checkpoint before,
    nil before the first. hash covers all but id; prev is the hash of seq - 1 of the same log and tenant, at first 32 zero bytes.
    """

    class Kind(models.TextChoices):
        ROWS = "rows"
        CHECKPOINT = "checkpoint"
        CLOSE = "close"
        REOPEN = "reopen"

    class Log(models.TextChoices):
        AUDITLOG = "auditlog", "Audit log"
        INFERENCEREQUEST = "inferencerequest", "Requests"
        USAGESUMMARY = "usagesummary", "Summaries"
        CHECKPOINT = "checkpoint", "Checkpoints"

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.CharField(max_length=10, choices=Kind)
    log = models.CharField(max_length=16, choices=Log)
    tenant_id = models.UUIDField(help_text="Nil: the platform.")
    month = models.DateField(help_text="First day of the month: UTC of rows, local of summaries.")
    seq = models.BigIntegerField(help_text="1, 2, 3 … of the log and tenant.")
    run = models.UUIDField(help_text="Of the hash of the checkpoint before, the first 16 octets.")
    xid_from = models.BigIntegerField()
    xid_to = models.BigIntegerField()
    id_from = models.UUIDField()
    id_to = models.UUIDField()
    n = models.BigIntegerField(help_text="Rows (of a checkpoint: seals) under the root.")
    root = models.BinaryField(max_length=32)
    prev = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)
    schema = models.SmallIntegerField(default=1)
    sealed_at = models.DateTimeField()

    objects = AuditSealQuerySet.as_manager()

    class Meta:
        db_table_comment = "A hash over rows that nobody may change any more. Append-only."
        verbose_name = "seal"
        default_permissions = ("view",)
        permissions = [("verify_auditlog", "Can verify the audit log")]
        constraints = [
            # the chain of a log and tenant has no fork
            models.UniqueConstraint(fields=["tenant_id", "log", "seq"], name="cp_auditing_auditseal_chain"),
        ]
        indexes = [
            models.Index(fields=["tenant_id", "log", "month", "seq"], name="auditseal_month_idx"),
            # what a checkpoint binds: sealing reads it at each run
            models.Index(fields=["run"], name="auditseal_run_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.log} {self.seq}"

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        raise AppendOnly
