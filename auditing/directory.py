"""What auditing asks of higher floors: who a tenant is. The floor that knows registers itself in its `ready()`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from django.utils.module_loading import import_string

from controlplane.core.conf import conf


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """What a fact needs to know of its tenant when it is written. time_zone: IANA name."""

    id: UUID
    name: str = ""
    time_zone: str = "UTC"


class Directory(Protocol):
    def tenants(self, ids: Iterable[UUID]) -> dict[UUID, TenantFacts]:
        """Those of the ids that are tenants, deleted ones too."""

    def find(self, kind: str, text: str, tenant_id: UUID | None = None) -> UUID | None:
        """The id of a tenant (kind "tenant") or an app of a tenant ("app") by its slug or id; None if there is none."""

    def names(self, kind: str, ids: Iterable[UUID]) -> dict[UUID, str]:
        """Names of ids for people; kind: tenant, app, branch, user or api_key. Unknown ids are left out."""

    def choices(self, kind: str, limit: int) -> list[tuple[UUID, str]]:
        """The first ids and names of a kind, for a filter to offer."""


class OpenDirectory:
    """The directory of an installation without tenants: every tenant is known and lives in UTC."""

    def tenants(self, ids: Iterable[UUID]) -> dict[UUID, TenantFacts]:
        return {id: TenantFacts(id) for id in ids}

    def find(self, kind: str, text: str, tenant_id: UUID | None = None) -> UUID | None:
        try:
            return UUID(text)
        except ValueError:
            return None

    def names(self, kind: str, ids: Iterable[UUID]) -> dict[UUID, str]:
        return {}

    def choices(self, kind: str, limit: int) -> list[tuple[UUID, str]]:
        return []


_registered: Directory | None = None


def register(directory: Directory) -> None:
    global _registered
    _registered = directory


def directory() -> Directory:
    """The directory in force: `CONTROLPLANE["AUDIT_DIRECTORY"]`, else the registered one, else OpenDirectory."""
    given = conf.AUDIT_DIRECTORY
    if given is not None:
        found: Directory = import_string(given) if isinstance(given, str) else given
        return found
    return _registered or OpenDirectory()
