"""Bounded caches of frozen records, which forget what was changed by anybody, in any process, within CACHE_LEASE."""

from __future__ import annotations

from controlplane.core.caches.connections import Ask, CacheUnavailable
from controlplane.core.caches.listener import Invalidation, invalidation
from controlplane.core.caches.processes import flush_everywhere
from controlplane.core.caches.records import MISSING, RecordCache, in_transaction, on_this_thread

__all__ = (
    "MISSING",
    "Ask",
    "CacheUnavailable",
    "Invalidation",
    "RecordCache",
    "flush_everywhere",
    "in_transaction",
    "invalidation",
    "on_this_thread",
)
