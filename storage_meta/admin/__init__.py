from __future__ import annotations

from storage_meta.admin import accesses, buckets, deliveries, hooks, objects, quotas

__all__ = ["accesses", "buckets", "deliveries", "hooks", "objects", "quotas"]
