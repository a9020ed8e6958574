from __future__ import annotations

from django.db import models

from controlplane.core.fields import created_at_field, id_field, updated_at_field
from storage_meta.counting import refresh
from tenants.models import Tenant


class StorageQuota(models.Model):
    """How much a tenant may store, over all its buckets and versions. Written by operators; no row: as much as it likes."""

    class OnExcess(models.TextChoices):
        WARN = "warn"
        REFUSE = "refuse"

    id = id_field()
    tenant = models.OneToOneField(Tenant, models.PROTECT, related_name="storage_quota", db_comment="Whose it is")
    max_bytes = models.BigIntegerField(null=True, blank=True, db_comment="Bytes of all versions; NULL: no limit")
    max_objects = models.BigIntegerField(null=True, blank=True, db_comment="Live objects; NULL: no limit")
    on_excess = models.CharField(
        max_length=6, choices=OnExcess, default=OnExcess.REFUSE, db_comment="What happens to a put above it"
    )
    created_at = created_at_field()
    updated_at = updated_at_field()

    class Meta:
        verbose_name = "quota"
        db_table_comment = "How much a tenant may store"
        constraints = [
            models.CheckConstraint(
                condition=(models.Q(max_bytes__isnull=True) | models.Q(max_bytes__gte=0))
                & (models.Q(max_objects__isnull=True) | models.Q(max_objects__gte=0)),
                name="cp_storage_meta_storagequota_not_negative",
                violation_error_message="A quota is 0 or more; leave it empty for no limit.",
            ),
            models.CheckConstraint(
                condition=models.Q(on_excess__in=["warn", "refuse"]),
                name="cp_storage_meta_storagequota_on_excess",
                violation_error_message="Above the quota a put is marked (warn) or refused (refuse).",
            ),
        ]

    def __str__(self) -> str:
        return _whose(self)


class StorageUsageManager(models.Manager["StorageUsage"]):
    def refresh(self) -> int:
        """Count what every tenant stores; returns the number of tenants. Runs every 300 s in the worker."""
        return refresh()


class StorageUsage(models.Model):
    """What a tenant stored when it was last counted. Written by `storage_meta.counting`; made again from the versions."""

    id = id_field()
    tenant = models.OneToOneField(Tenant, models.CASCADE, related_name="storage_usage", db_comment="Whose it is")
    bytes = models.BigIntegerField(default=0, db_comment="Bytes of all its versions")
    objects_count = models.BigIntegerField("objects", default=0, db_column="objects", db_comment="Its live objects")
    versions = models.BigIntegerField(default=0, db_comment="All its versions, markers too")
    counted_at = models.DateTimeField(db_comment="When that was so")
    created_at = created_at_field()

    objects = StorageUsageManager()

    class Meta:
        verbose_name = "usage of a tenant"
        verbose_name_plural = "usage by tenant"
        db_table_comment = "What a tenant stored when it was last counted"

    def __str__(self) -> str:
        return _whose(self)


def _whose(row: StorageQuota | StorageUsage) -> str:
    """The tenant's name where it was read with the row, else its id: no query for a name."""
    return str(row.tenant) if "tenant" in row._state.fields_cache else f"tenant {row.tenant_id}"
