from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar
from uuid import UUID

from django.db.models import Model, Q

from auditing.directory import TenantFacts
from tenants.models import APIKey, App, Branch, Tenant, User


class TenantDirectory:
    """Tells auditing who the ids of its facts are. Registered when the app is ready."""

    _sources: ClassVar[dict[str, tuple[type[Model], str]]] = {
        "tenant": (Tenant, "name"),
        "app": (App, "name"),
        "branch": (Branch, "name"),
        "user": (User, "email"),
        "api_key": (APIKey, "name"),
    }

    def tenants(self, ids: Iterable[UUID]) -> dict[UUID, TenantFacts]:
        rows = Tenant.objects.filter(pk__in=list(ids)).values_list("pk", "name", "time_zone")
        return {id: TenantFacts(id, name, zone) for id, name, zone in rows}

    def find(self, kind: str, text: str, tenant_id: UUID | None = None) -> UUID | None:
        model = Tenant if kind == "tenant" else App
        rows = model.objects.all() if kind == "tenant" else model.objects.filter(tenant_id=tenant_id)
        try:
            by_id = Q(pk=UUID(text))
        except ValueError:
            by_id = Q()
        rows = rows.filter(by_id | Q(slug=text))  # a slug may look like an id
        found: UUID | None = rows.values_list("pk", flat=True).first()
        return found

    def names(self, kind: str, ids: Iterable[UUID]) -> dict[UUID, str]:
        model, field = self._sources[kind]
        return dict(model._base_manager.filter(pk__in=list(ids)).values_list("pk", field))

    def choices(self, kind: str, limit: int) -> list[tuple[UUID, str]]:
        model, field = self._sources[kind]
        return list(model._base_manager.order_by(field).values_list("pk", field)[:limit])
