"""Whether a tenant may store more."""

from __future__ import annotations

from uuid import UUID


def demand(tenant_id: UUID, *, size: int, objects: int) -> bool:
    """Whether size more bytes in so many more objects are above the quota (True: the result is marked). Raises QuotaExceeded."""
    raise NotImplementedError
