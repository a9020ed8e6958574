from __future__ import annotations

from typing import ClassVar

from django.apps import AppConfig


class StorageMetaConfig(AppConfig):
    """What is stored, in which version, by whom, and how it is found; the bytes lie in STORAGES."""

    name = "storage_meta"
    label = "cp_storage_meta"
    verbose_name = "Storage"
    default_auto_field = "django.db.models.BigAutoField"
    audit_exempt: ClassVar[dict[str, str]] = {
        "StorageObject": "traffic, not configuration; each change is a row of the access log",
        "StorageVersion": "traffic, not configuration; each change is a row of the access log",
        "StorageAudit": "is the access log",
        "StorageEvent": "traffic: what hooks are to be told of changes that are in the access log",
        "HookExecution": "is a log itself, of attempts to tell a hook",
        "PendingBlob": "what is being written or removed, gone when it is",
        "StorageUsage": "counted from the versions, made again from them",
    }

    def ready(self) -> None:
        import storage_meta.checks  # noqa: F401 - registers them
        from controlplane.core import partitions
        from controlplane.core.duties import Duty, register
        from storage_meta import blobs, cleaning, counting, delivering, retention
        from storage_meta.handle import Files
        from storage_meta.models.hooks import StorageEventManager
        from storage_meta.models.objects import StorageObjectManager

        StorageObjectManager.handle = Files
        StorageEventManager.delivery = staticmethod(delivering.deliver_due)
        partitions.register(partitions.PartitionedLog("cp_storage_meta_storageaudit"))
        register(Duty("storage_hooks", 1, delivering.Courier().run, alone=False))
        register(Duty("storage_blobs", 60, blobs.work_off, alone=False))
        register(Duty("storage_usage", 300, counting.duty))
        register(Duty("storage_lifecycle", 3600, retention.run, alone=False))
        register(Duty("storage_log", 86_400, cleaning.duty))
