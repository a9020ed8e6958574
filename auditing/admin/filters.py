"""Filters of logs: by the ids and names that their rows carry, offered without reading the log."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from auditing.directory import directory


class SubjectFilter(admin.SimpleListFilter):
    """Rows of one tenant, app, user or key, by its id. Offers tenants; the others are reached by links."""

    offer: ClassVar[bool] = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name or "")
        ids = [UUID(chosen)] if chosen and is_uuid(chosen) else []
        named = directory().names(str(self.parameter_name), ids)
        found = {str(id): named.get(id, f"…{str(id)[-8:]}") for id in ids}
        if self.offer:
            found = {**{str(id): name for id, name in directory().choices(str(self.parameter_name), 50)}, **found}
        return list(found.items())

    def names(self) -> dict[UUID, str]:
        """Names of the ids that are offered."""
        return {UUID(id): str(name) for id, name in self.lookup_choices}

    def has_output(self) -> bool:
        return bool(self.lookup_choices) or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(**{f"{self.parameter_name}_id": value}) if is_uuid(value) else queryset.none()


def subject_filter(subject: str, title: str, offer: bool = False) -> type[SubjectFilter]:
    return type(f"{subject}_filter", (SubjectFilter,), {"parameter_name": subject, "title": title, "offer": offer})


class ResourceFilter(admin.SimpleListFilter):
    """Audit rows about one row: `table:id`."""

    title = "object"
    parameter_name = "resource"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, chosen)] if chosen else []

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        table, _, id = (self.value() or "").partition(":")
        return queryset.for_resource(table, id) if table else queryset  # type: ignore[no-any-return]


class ValueFilter(admin.SimpleListFilter):
    """Rows of one value of a column; reached by links, as a list of all values would read the whole table."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name or "")
        return [(chosen, chosen)] if chosen else []

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(**{str(self.parameter_name): value}) if value else queryset  # type: ignore[no-any-return]


def value_filter(column: str) -> type[ValueFilter]:
    return type(f"{column}_filter", (ValueFilter,), {"parameter_name": column, "title": column})


def is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
