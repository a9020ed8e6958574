from __future__ import annotations

from typing import Any, NoReturn, Self
from uuid import UUID

from django.db import models

from auditing.errors import AppendOnly


class StorageAuditQuerySet(models.QuerySet["StorageAudit"]):
    def for_tenant(self, tenant: object) -> Self:
        found = getattr(tenant, "pk", tenant)
        return self.filter(tenant_id=found if isinstance(found, UUID) else UUID(str(found)))

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly


class StorageAudit(models.Model):
    """One thing done to what is stored: who, what, to which key, how it ended. Written by `storage_meta.trail`.

    Never changes, and goes only by `cleanup_old_audits`; the database refuses every other UPDATE, DELETE and TRUNCATE. A row
    of a change commits with it; refusals and failures are written on a connection of their own. Partitioned by month of `id`;
    it points at nothing.
    """

    class RecordType(models.TextChoices):
        CREATE = "CREATE", "Create"
        UPDATE_METADATA = "UPDATE_METADATA", "Update metadata"
        DELETE = "DELETE", "Delete"
        READ = "READ", "Read"
        ADMIN = "ADMIN", "Administer"

    id = models.UUIDField(primary_key=True, editable=False)
    created_at = models.DateTimeField()
    tenant_id = models.UUIDField()
    action = models.CharField(max_length=64, help_text="As s3:PutObject.")
    record_type = models.CharField(max_length=15, choices=RecordType)
    bucket = models.CharField(blank=True, max_length=63, default="", help_text="Its name then; empty: of all.")
    object_key = models.TextField(blank=True, db_collation="C", default="")
    version_id = models.CharField(blank=True, max_length=1024, default="")
    sequencer = models.CharField(blank=True, max_length=16, default="")
    size = models.BigIntegerField(blank=True, null=True, help_text="Bytes.")
    etag = models.CharField(blank=True, max_length=255, default="")
    is_delete_marker = models.BooleanField(default=False)
    bytes_sent = models.BigIntegerField(blank=True, null=True, help_text="Of a download: bytes the caller took.")
    metadata = models.JSONField(blank=True, null=True)
    actor_type = models.CharField(max_length=16)
    actor_id = models.TextField(blank=True, default="")
    actor_name = models.TextField(blank=True, default="")
    source_ip = models.GenericIPAddressField(blank=True, null=True)
    user_agent = models.TextField(blank=True, default="")
    request_id = models.TextField(blank=True, default="")
    success = models.BooleanField(default=True)
    error_code = models.CharField(blank=True, max_length=64, default="")
    error_message = models.TextField(blank=True, default="")

    keyset = ("id",)
    objects = StorageAuditQuerySet.as_manager()

    class Meta:
        db_table = "cp_storage_meta_storageaudit"
        verbose_name = "access"
        verbose_name_plural = "access log"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.action} {self.object_key}".strip()

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        raise AppendOnly
