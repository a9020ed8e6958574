from __future__ import annotations

from storage_meta.models.access import StorageAudit
from storage_meta.models.blobs import PendingBlob
from storage_meta.models.bucket import Bucket
from storage_meta.models.hooks import HookExecution, StorageEvent, StorageHook
from storage_meta.models.objects import StorageObject, StorageVersion
from storage_meta.models.quotas import StorageQuota, StorageUsage

__all__ = [
    "Bucket",
    "HookExecution",
    "PendingBlob",
    "StorageAudit",
    "StorageEvent",
    "StorageHook",
    "StorageObject",
    "StorageQuota",
    "StorageUsage",
    "StorageVersion",
]
