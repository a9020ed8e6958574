"""Blobs and rows compared: what lies there that nobody knows, what is known and does not lie there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from tenants.models import Tenant

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Report:
    """orphans, missing: names of blobs. mismatched: names of blobs whose size or SHA-256 is another. heads: ids of heads that are
    unlike their version."""

    orphans: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


def reconcile(
    tenant: Tenant | None = None, *, grace: timedelta = DAY, delete: bool = False, verify: str | None = None
) -> Report:
    """Compare the blobs of all storages with the versions."""
    raise NotImplementedError
