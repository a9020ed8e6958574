"""Lists of what is made in the order of its ids, as seals and summaries are: by cursor, of all time unless a window is chosen."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.http import HttpRequest

from auditing.admin.base import LogAdmin
from auditing.admin.filters import is_uuid
from auditing.models.logs import LogQuerySet
from auditing.windows import id_bounds
from controlplane.core.bigtables import WindowFilter


class AnyTimeFilter(WindowFilter):
    def value(self) -> str:
        return super().value() if self.used_parameters.get(self.parameter_name) else "all"


class Paged(LogQuerySet[Any]):
    """Rows by cursor whose ids have the instant that a window is about."""

    def between(self, start: datetime, end: datetime) -> Paged:
        low, high = id_bounds(start, end)
        return self.filter(id__gte=low, id__lt=high)


class PagedAdmin(LogAdmin):
    """A list by cursor of rows that are found by their id alone."""

    search_fields = ("id",)
    search_help_text = "An id, whole"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return Paged(self.model, using=super().get_queryset(request).db)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        return (queryset.filter(pk=text) if is_uuid(text) else queryset.none()), False
