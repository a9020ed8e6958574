"""Filters of logs: by the ids and names that their rows carry, offered without reading the log."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponseRedirect

from auditing.directory import directory
from controlplane.core.bigtables import CURSOR, WindowFilter
from controlplane.core.ids import now
from controlplane.core.partitions import FIRST_MONTH


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

    def chosen(self) -> UUID | None:
        value = self.value()
        return UUID(value) if value and is_uuid(value) else None

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


class Typed:
    """A filter with an input in its menu: what is sought is typed, as no list of all values is read. kept: what else the
    address of the page asks, for the form to send along.
    """

    template = "cp_auditing/typed_filter.html"
    kept: list[tuple[str, str]]

    def keep(self, request: HttpRequest, *own: str) -> None:
        left = {CURSOR, "p", "e", *own}
        self.kept = [(name, value) for name, values in request.GET.lists() for value in values if name not in left]


class TypedFilter(Typed, ValueFilter):
    """Rows of one value of a column, that is typed or reached by a link."""

    help: ClassVar[str] = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.keep(request, str(self.parameter_name))

    def has_output(self) -> bool:
        return True


class ActorFilter(TypedFilter):
    """By the actor's id, whole: of a user, a key, a command."""

    title = "actor"
    parameter_name = "actor"
    help = "Id of a user or key, or the name of a command"

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.by_actor(value) if value else queryset  # type: ignore[no-any-return]


class ActionFilter(TypedFilter):
    title = "action"
    parameter_name = "action"
    help = "As update, or gate.* for all that begin so"

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.with_action(value) if value else queryset  # type: ignore[no-any-return]


class RequestFilter(TypedFilter):
    title = "request id"
    parameter_name = "request"
    help = "A request id, whole"

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.for_request(value) if value else queryset  # type: ignore[no-any-return]


class MonthFilter(TypedFilter):
    """Rows of one month, by its first day; what is no month chooses nothing."""

    title = "month"
    parameter_name = "month"
    help = "As 2026-11"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        month = _day(f"{value[:7]}-01")
        return queryset.filter(month=month) if month else queryset.none()


class PeriodFilter(Typed, WindowFilter):
    """The window, with two inputs for its first and last day."""

    template = "cp_auditing/period_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.keep(request, "window", "from", "to")
        start, _, end = self.value().partition("..")
        self.first, self.last = _day(start), _day(end)
        if self.last and len(end) == 10:
            self.last -= timedelta(days=1)  # the end of a window is excluded, the last day of a form is not


def period(request: HttpRequest) -> HttpResponseRedirect | None:
    """From the days `from` and `to` of a form, both included, to the window they mean; None where none is asked for."""
    if not {"from", "to"} & request.GET.keys():
        return None
    asked = request.GET.copy()
    asked.pop(CURSOR, None)
    first, last = (_day("".join(asked.pop(name, []))) for name in ("from", "to"))
    if first or last:
        end = min(last or now().date(), date(9998, 12, 30)) + timedelta(days=1)
        asked["window"] = f"{first or FIRST_MONTH}..{end}"
    return HttpResponseRedirect(f"{request.path}?{asked.urlencode()}")


def _day(text: str) -> date | None:
    with suppress(ValueError):
        return date.fromisoformat(text[:10])
    return None


def is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
