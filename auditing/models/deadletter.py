from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Self
from uuid import UUID

from django.db import models

from auditing import retrying
from auditing.columns import Refusal
from auditing.context import Actor, audit_context
from auditing.errors import InvalidRow
from auditing.ingest import IngestResult
from auditing.models.auditlog import AuditLog
from auditing.redaction import clean
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

    def retry(self, ids: Iterable[UUID], by: str | Actor) -> IngestResult:
        """Write those of these that wait into their log, with the request ids they had, however old they are.

        What is in the log then, new or already, is resolved as `retried` in the same transaction, a thousand at a time; another
        one gets the new reason, if there is one, and waits on. A result as of `ingest`, rows numbered by their place among the
        ids; one that does not wait is not read. by: who wants it; a text is the label of whom the open `audit_context` names.
        """
        result, wanted = IngestResult(), sorted(set(ids))
        who, label = (by, by.label) if isinstance(by, Actor) else (None, by)
        for start in range(0, len(wanted), 1000):
            with audit_context(actor=who, using=self.db):
                letters = list(
                    self.waiting().filter(pk__in=wanted[start : start + 1000]).select_for_update().order_by("pk")
                )
                outcome = retrying.write([bytes(letter.payload) for letter in letters], using=self.db)
                _resolve(letters, outcome, label)
            result.inserted += outcome.inserted
            result.duplicates += outcome.duplicates
            refused = [
                (start + place + 1, Refusal(letter.code, letter.field, letter.message))
                for place, letter in enumerate(letters)
                if place in outcome.refused or place in outcome.unreadable
            ]
            result.reject(refused)
        return result


def _resolve(letters: list[DeadLetter], outcome: retrying.Outcome, by: str) -> None:
    done, at = [], now()
    for place, letter in enumerate(letters):
        if place in outcome.refused:
            why = outcome.refused[place]
            letter.code, letter.field, letter.message = why.code, clean(why.field), clean(why.message)
        elif place not in outcome.unreadable:
            letter.resolution, letter.resolved_at, letter.resolved_by = DeadLetter.Resolution.RETRIED, at, by
            done.append(letter)
    fields = ["code", "field", "message", "resolution", "resolved_at", "resolved_by"]
    DeadLetter.objects.bulk_update(letters, fields, batch_size=500)
    for tenant in sorted({letter.tenant_id for letter in done}):
        sources = Counter(letter.source for letter in done if letter.tenant_id == tenant)
        AuditLog.objects.record("deadletter.retried", tenant=tenant, details={"sources": dict(sources)})


class DeadLetter(models.Model):
    """A row that a log refused, whole, with the reason. Written by ingest and the writer; only its resolution ever
    changes, and the reason where it was refused again.

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
