from __future__ import annotations

from storage_meta.admin import accesses, buckets, objects, quotas

__all__ = ["accesses", "buckets", "objects", "quotas"]
