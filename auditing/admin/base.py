"""What the pages of auditing share: names of the plain ids that its rows carry, and how logs are searched."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from auditing.admin.filters import SubjectFilter, is_uuid
from auditing.directory import directory
from controlplane.core import display
from controlplane.core.admin import ModelAdmin
from controlplane.core.bigtables import BigTableAdmin
from controlplane.core.ids import NIL, PLATFORM

SUBJECTS = ("tenant", "app", "branch", "user", "api_key")


class Named(ModelAdmin):
    """Shows names for the plain ids of its rows, looked up for a page at a time, of those SUBJECTS that the page shows."""

    has_history = False

    def prepare(self, rows: list[Any], changelist: ChangeList) -> None:
        offered = [spec for spec in changelist.filter_specs if isinstance(spec, SubjectFilter)]
        self._name(rows, self.list_display, {str(spec.parameter_name): spec.names() for spec in offered})

    def _name(self, rows: list[Any], shown: Any, known: dict[str, dict[UUID, str]]) -> None:
        for subject in set(SUBJECTS) & set(shown):
            names = known.get(subject, {})
            ids = {id for row in rows if (id := getattr(row, f"{subject}_id")) and id != PLATFORM} - names.keys()
            names |= directory().names(subject, ids) if ids else {}
            for row in rows:
                row.__dict__.setdefault("names", {})[subject] = names.get(getattr(row, f"{subject}_id"))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            self._name([found], self.readonly_fields, {})
            found.__dict__["linked"] = True
        return found

    @admin.display(description="Time (UTC)")
    def at(self, row: Any) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Tenant")
    def tenant(self, row: Any) -> str:
        return "Platform" if row.tenant_id == PLATFORM else _subject(row, "tenant")

    @admin.display(description="App")
    def app(self, row: Any) -> str:
        return _subject(row, "app")

    @admin.display(description="Branch")
    def branch(self, row: Any) -> str:
        return _subject(row, "branch")

    @admin.display(description="User")
    def user(self, row: Any) -> str:
        return _subject(row, "user")

    @admin.display(description="API key")
    def api_key(self, row: Any) -> str:
        return _subject(row, "api_key")


class NamedChangeList(ChangeList):
    """A numbered list whose rows get their names; the lists of logs have `prepare` called by themselves."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        self.model_admin.prepare(self.result_list, self)  # type: ignore[attr-defined]


class LogAdmin(Named, BigTableAdmin):
    """A log of auditing: names of its ids are looked up for a page at a time."""

    search_help_text = "An id or a request id, whole"

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip().replace("\x00", "")
        if not text:
            return queryset, False
        found = models.Q(request_id=text)
        if is_uuid(text):
            found |= models.Q(pk=text)
        return queryset.filter(found), False


def _subject(row: Any, subject: str) -> str:
    """The name of a subject; on the page of one row it leads to the subject, where an app above has a page of it."""
    id, name = getattr(row, f"{subject}_id"), row.__dict__.get("names", {}).get(subject)
    if id == NIL:  # a sum without this subject
        return display.NOTHING
    shown = display.named(name, id)
    if name and "linked" in row.__dict__:
        try:
            url = reverse(f"admin:cp_tenants_{subject.replace('_', '')}_change", args=[id])
        except NoReverseMatch:
            return shown
        return format_html('<a href="{}">{}</a>', url, shown)
    return shown


def as_json(value: Any) -> str:
    if not value:
        return display.NOTHING
    return format_html('<pre class="cp-mono">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
