"""Lists of logs: keyset pages, a window of time, no COUNT, and a time limit, so that ten million rows are as quick as ten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import OperationalError, connections, models, transaction
from django.http import HttpRequest

from controlplane.core.admin import ModelAdmin
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import now

CURSOR = "after"
STATEMENT_TIMEOUT = "2s"
QUERY_CANCELED = "57014"

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Between them an instant has a place in the order of ids."""

WINDOWS: dict[str, tuple[str, timedelta | None]] = {
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
    "all": ("All time", None),
}


class WindowFilter(admin.SimpleListFilter):
    """The span of time a list shows: one of WINDOWS, or `start..end` (ISO dates or instants, the end excluded)."""

    title = "window"
    parameter_name = "window"

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: type[models.Model], model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        try:
            self._bounds = self._read(self.value())
        except (ValueError, ControlPlaneError):
            messages.warning(
                request, "A window is written start..end, as 2026-11-01..2026-12-01. The last day is shown."
            )
            self.used_parameters.pop(self.parameter_name, None)
            self._bounds = self._read(self.value())

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in WINDOWS.items()]

    def value(self) -> str:
        return str(super().value() or "24h")

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        chosen = self.value()
        options = {name: label for name, (label, _) in WINDOWS.items()}
        if chosen not in options:
            options[chosen] = chosen.replace("..", " to ").replace("T00:00:00+00:00", "")
        for name, label in options.items():
            query = changelist.get_query_string({self.parameter_name: name}, [CURSOR])
            yield {"selected": name == chosen, "query_string": query, "display": label}

    @property
    def bounds(self) -> tuple[datetime, datetime] | None:
        """Start and end of the window; None: all time."""
        return self._bounds

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        return queryset.between(*self._bounds) if self._bounds else queryset  # type: ignore[no-any-return]

    def _read(self, chosen: str) -> tuple[datetime, datetime] | None:
        """Start and end; None for all time. Raises ValueError or ControlPlaneError for what is no window."""
        if chosen in WINDOWS:
            present, span = now(), WINDOWS[chosen][1]
            return (present - span, present + timedelta(minutes=5)) if span else None
        start, end = (_instant(part) for part in chosen.split(".."))
        if start >= end or start < EARLIEST or end > LATEST:
            raise ValueError(chosen)
        return start, end


class KeysetChangeList(ChangeList):
    """A list by cursor: `next_link` and `previous_link` instead of numbered pages."""

    next_link: str | None = None
    previous_link: str | None = None
    newest_link: str | None = None

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        kept: dict[str, Any] = super().get_filters_params(params)
        kept.pop(CURSOR, None)
        return kept

    def get_ordering(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> list[Any]:
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        page = self._page(request, request.GET.get(CURSOR))
        self.result_list = page.rows if page else []
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = False
        self.show_admin_actions = bool(self.result_list)
        self.can_show_all = self.multi_page = False
        self.paginator = self.model_admin.get_paginator(request, self.result_list, self.list_per_page)
        if page is not None:
            self.next_link = self._link(page.next)
            self.previous_link = self._link(page.previous)
            self.newest_link = self.get_query_string({}, [CURSOR]) if request.GET.get(CURSOR) else None
            prepare: Callable[[list[Any], ChangeList], None] = getattr(self.model_admin, "prepare")  # noqa: B009 - BigTableAdmin has it
            prepare(self.result_list, self)

    def _page(self, request: HttpRequest, cursor: str | None) -> Any:
        binding = f"{self.model._meta.label}?{self.get_query_string({}, [CURSOR])}"
        rows: Any = self.queryset
        try:
            with transaction.atomic(using=conf.DATABASE):
                with connections[conf.DATABASE].cursor() as statement:
                    statement.execute("SELECT set_config('statement_timeout', %s, true)", [STATEMENT_TIMEOUT])
                return rows.page(after=cursor, size=self.list_per_page, binding=binding)
        except ControlPlaneError as error:
            messages.warning(request, error.message)
            return self._page(request, None) if cursor else None
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != QUERY_CANCELED:
                raise
            messages.error(request, "This took too long. Choose a shorter window, or filter by tenant.")
            return None

    def _link(self, cursor: str | None) -> str | None:
        return self.get_query_string({CURSOR: cursor}) if cursor else None


class BigTableAdmin(ModelAdmin):
    """Shows a log. The model declares `keyset`, its queryset has `page` and `between`; the first filter is WindowFilter."""

    change_list_template = "cp_core/big_list.html"
    sortable_by = ()
    list_filter: ClassVar[Any] = (WindowFilter,)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def prepare(self, rows: list[Any], changelist: ChangeList) -> None:
        """Load what the rows of a page need beside themselves (names of ids), in a fixed number of queries."""


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text.strip().replace(" ", "+"))
    return at if at.tzinfo else at.replace(tzinfo=UTC)
