from __future__ import annotations

from collections import Counter
from typing import Self

from django.db import models

from auditing.context import audit_context
from auditing.errors import InvalidRow
from auditing.models.auditlog import AuditLog
from controlplane.core.fields import created_at_field, id_field
from controlplane.core.ids import now


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    def waiting(self) -> Self:
        """Those that nobody has dealt with."""
        return self.filter(resolution="")

    def discard(self, by: str, reason: str) -> int:
        """Note that nothing will be done about these that wait, as one event for each tenant. Returns their number.

        by: label of who decides it. Raises InvalidRow for a blank reason.
        """
        if not reason.strip():
            raise InvalidRow(message="Say why they are discarded: this is kept in the audit log.")
        with audit_context(reason=reason):
            waiting = list(self.waiting().select_for_update().order_by("pk").values_list("pk", "tenant_id", "source"))
            ids = [id for id, *_ in waiting]
            self.model.objects.filter(pk__in=ids).update(resolution="discarded", resolved_at=now(), resolved_by=by)
            for tenant in sorted({tenant for _, tenant, _ in waiting}):
                sources = Counter(source for _, owner, source in waiting if owner == tenant)
                AuditLog.objects.record("deadletter.discarded", tenant=tenant, details={"sources": dict(sources)})
        return len(ids)


class DeadLetter(models.Model):
    """A row that a log refused, whole, with the reason. Written by ingest; only its resolution ever changes.

    payload: the row as UTF-8 JSON, or the raw line of a file, redacted. row_number: in the source, from 1.
    """

    class Resolution(models.TextChoices):
        RETRIED = "retried"
        DISCARDED = "discarded"

    id = id_field()
    created_at = created_at_field()
    tenant_id = models.UUIDField(help_text="Nil: unknown.")
    source = models.CharField(max_length=300, help_text="Where the row came from: a file's name, or the caller.")
    row_number = models.BigIntegerField()
    request_id = models.CharField(max_length=200, default="")
    code = models.CharField(max_length=40)
    field = models.CharField(max_length=64, default="")
    message = models.TextField()
    payload = models.BinaryField()
    payload_bytes = models.BigIntegerField()
    sha256 = models.BinaryField(max_length=32)
    resolved_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=9, choices=Resolution, default="", blank=True)
    resolved_by = models.TextField(default="")

    objects = DeadLetterQuerySet.as_manager()

    class Meta:
        db_table_comment = "A row that a log refused, whole, with the reason"
        permissions = [("resolve_deadletter", "Can retry and discard dead letters")]
        indexes = [models.Index(fields=["tenant_id", "-created_at"], name="deadletter_tenant_idx")]
        constraints = [
            # one refused row is kept once, however often its file is imported
            models.UniqueConstraint(
                fields=["tenant_id", "source", "row_number", "sha256"], name="cp_auditing_deadletter_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source}:{self.row_number} {self.code}"
