from __future__ import annotations

from django.db import models

from controlplane.core.fields import id_field


class PendingBlob(models.Model):
    """A blob that is being written, or is to be removed. Written on a connection of its own before the bytes are, and by the
    trigger of a version that goes; gone when the row that names the blob is committed, or the blob is removed.

    It points at nothing: it is about what may have no rows. What is older than the grace is nobody's upload any more.
    """

    class Reason(models.TextChoices):
        UPLOAD = "upload"
        DELETE = "delete"

    id = id_field()
    tenant_id = models.UUIDField(db_comment="Whose blob it is")
    storage_backend = models.CharField(max_length=64, db_comment="Alias in STORAGES")
    blob_name = models.TextField(db_collation="C", db_comment="Name of the blob there")
    reason = models.CharField(max_length=6, choices=Reason, db_comment="upload or delete")
    started_at = models.DateTimeField(db_comment="Since when")

    class Meta:
        db_table_comment = "A blob that is being written, or is to be removed"
        constraints = [
            models.UniqueConstraint(fields=["blob_name"], name="cp_storage_meta_pendingblob_blob_once"),
            models.CheckConstraint(
                condition=models.Q(reason__in=["upload", "delete"]), name="cp_storage_meta_pendingblob_reason"
            ),
        ]
        indexes = [models.Index(fields=["reason", "started_at"], name="pendingblob_due_idx")]

    def __str__(self) -> str:
        return f"{self.reason} {self.blob_name}"
