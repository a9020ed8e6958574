"""Reservations: what calls that run hold of limits, and what those that ended took."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Concat
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from auditing.admin.filters import is_uuid, subject_filter
from auditing.models.logs import LogQuerySet
from auditing.windows import id_bounds
from controlplane.core import display
from controlplane.core.admin import confirmed_action
from controlplane.core.bigtables import BigTableAdmin, WindowFilter
from controlplane.core.ids import now
from policies.admin import owners
from policies.admin.phrases import link, measured
from policies.models import LimitBucket, Policy, Reservation

TONES = {"overdue": "bad", "expired": "warn"}
OLD = timedelta(minutes=5)
OPEN = ("open", "old")


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        ended = [(state.value, state.label) for state in Reservation.State if state != Reservation.State.RESERVED]
        return [("open", "Open"), ("old", "Open, older than 5 minutes"), *ended]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if value in OPEN:
            found = queryset.filter(state=Reservation.State.RESERVED)
            return found.filter(reserved_at__lt=now() - OLD) if value == "old" else found
        return queryset.filter(state=value) if value in Reservation.State.values else queryset


class OpenWindowFilter(WindowFilter):
    """The last day; of those that are open all: they are few, and an old one is the one that is looked for."""

    def value(self) -> str:
        given = self.used_parameters.get(self.parameter_name)
        return super().value() if given or not self.open else "all"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.open = request.GET.get(StateFilter.parameter_name) in OPEN
        super().__init__(request, params, model, model_admin)


class BucketFilter(admin.SimpleListFilter):
    """Those that hold, or held, something of one counter; reached by links."""

    title = "counter"
    parameter_name = "bucket"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, f"…{chosen[-8:]}")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(bucket_ids__contains=[value]) if is_uuid(value) else queryset.none()


class Paged(LogQuerySet[Reservation]):
    """Reservations by cursor: their ids are in the order in which they were made."""

    def between(self, start: Any, end: Any) -> Any:
        low, high = id_bounds(start, end)
        return self.filter(id__gte=low, id__lt=high)


@admin.register(Reservation)
class ReservationAdmin(BigTableAdmin):
    list_display = ("since", "request", "of", "owner", "holds", "until", "standing")
    list_filter = (OpenWindowFilter, StateFilter, subject_filter("tenant", "tenant", offer=True), BucketFilter)
    search_fields = ("request_id",)
    search_help_text = "A request id or the id of a reservation, whole"
    list_select_related = ("tenant",)
    fieldsets = (
        (None, {"fields": ("request_id", "standing", "since", "until", "ended", "amounts_shown", "flags")}),
        ("Who", {"fields": ("tenant", "app", "branch", "user", "key", "model")}),
        ("Why", {"fields": ("policies",)}),
        ("Record", {"fields": ("id",)}),
    )
    readonly_fields = (
        "request_id", "standing", "since", "until", "ended", "amounts_shown", "flags", "tenant", "app", "branch", "user", "key",
        "model", "policies", "id",
    )  # fmt: skip
    actions = (
        confirmed_action(
            "Release",
            permission="release",
            command="reservation_release",
            past="released",
            explain="What these calls hold is given back now. A call that still runs is not stopped, and is charged nothing.",
            perform=lambda row, request, reason: row.release(reason),
            offered=lambda row: row.state == Reservation.State.RESERVED,
            preview=lambda rows: [
                (str(row), f"{row.tenant}, since {row.reserved_at:%Y-%m-%d %H:%M:%S} UTC") for row in rows
            ],
            danger=True,
        ),
    )
    empty_help = "No call held anything of a limit in this span. One that a budget or rate limit counts is here."
    every_row = "window=all"
    has_history = False

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_policies/policies.css"]}

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Reservation]:
        return Paged(Reservation, using=super().get_queryset(request).db).select_related("tenant")

    def has_release_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_policies.change_reservation"))

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip().replace("\x00", "")
        if not text:
            return queryset, False
        found = Q(request_id=text)
        return queryset.filter(found | Q(pk=text) if is_uuid(text) else found), False

    def prepare(self, rows: list[Any], changelist: Any) -> None:
        _name(rows)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            _name([found])
        return found

    @admin.display(description="Since (UTC)")
    def since(self, row: Reservation) -> str:
        return display.instant(row.reserved_at)

    @admin.display(description="Request")
    def request(self, row: Reservation) -> str:
        return display.short_id(row.request_id)

    @admin.display(description="Tenant")
    def of(self, row: Reservation) -> str:
        return row.tenant.slug

    @admin.display(description="Asked by")
    def owner(self, row: Reservation) -> str:
        """The nearest of key, user, branch and app; its page names all."""
        ids = {level: getattr(row, f"{level}_id") for level in ("key", "user", "branch", "app")}
        nearest = next(((level, id) for level, id in ids.items() if id), None)
        return format_html("{} {}", nearest[0], _named(row, nearest[1])) if nearest else "organization"

    @admin.display(description="Holds")
    def holds(self, row: Reservation) -> str:
        most: dict[str, Decimal] = {}
        for metric, amount in _parts(row):
            most[metric] = max(amount, most.get(metric, amount))
        told = [
            f"{measured(metric, most[metric])}{unit.removesuffix('s') if most[metric] == 1 else unit}"
            for metric, unit in _UNITS.items()
            if metric in most
        ]
        return display.NOTHING if not told else ", ".join(told[:2]) + (" …" if told[2:] else "")

    @admin.display(description="Until (UTC)")
    def until(self, row: Reservation) -> str:
        return display.instant(row.expires_at)

    @admin.display(description="Ended (UTC)")
    def ended(self, row: Reservation) -> str:
        return display.instant(row.ended_at)

    @admin.display(description="State")
    def standing(self, row: Reservation) -> str:
        """One past its end waits for the sweep, which comes every few seconds."""
        overdue = row.state == Reservation.State.RESERVED and row.expires_at <= now()
        shown = "overdue" if overdue else row.state
        return display.status(shown, TONES)

    @admin.display(description="Amounts")
    def amounts_shown(self, row: Reservation) -> str:
        actuals = row.actuals or [None] * len(row.amounts)
        lines = []
        for id, amount, actual in zip(row.bucket_ids, row.amounts, actuals, strict=True):
            metric, _, window = row.__dict__["names"].get(str(id), "").partition(" ")
            if not metric:
                shown: str = display.short_id(id)  # its window is over, and the counter was removed
            else:
                url = reverse("admin:cp_policies_limitbucket_change", args=[id])
                shown = format_html('<a href="{}">{} by {}</a>', url, metric.replace("_", " "), window)
            took = "" if actual is None else f", {measured(metric, actual)} spent"
            lines.append((shown, f"{measured(metric, amount)} held{took}"))
        return _listed(lines)

    @admin.display(description="Flags")
    def flags(self, row: Reservation) -> str:
        told = {
            "more was spent than was held": row.overrun,
            "something is spent as held: what was used is not known": row.estimated,
        }
        return ", ".join(text for text, flag in told.items() if flag) or display.NOTHING

    @admin.display(description="App")
    def app(self, row: Reservation) -> str:
        return _named(row, row.app_id)

    @admin.display(description="Branch")
    def branch(self, row: Reservation) -> str:
        return _named(row, row.branch_id)

    @admin.display(description="User")
    def user(self, row: Reservation) -> str:
        return _named(row, row.user_id)

    @admin.display(description="API key")
    def key(self, row: Reservation) -> str:
        return _named(row, row.key_id)

    @admin.display(description="Policies asked")
    def policies(self, row: Reservation) -> str:
        names = {str(id): name for id, name in Policy.objects.filter(pk__in=row.policy_ids).values_list("pk", "name")}
        pairs = zip(row.policy_ids, row.policy_versions, strict=True)
        return _listed([(link(str(id), names, version), "") for id, version in dict(pairs).items()])


_UNITS = {
    "cost": "", "total_tokens": " tokens", "input_tokens": " in", "output_tokens": " out", "requests": " requests",
    "concurrent": " at once",
}  # fmt: skip
"""What is told first where there is room for two, and after which number."""


def _name(rows: list[Reservation]) -> None:
    """Names of who asked, and metric and window of the counters, in one statement."""
    counters = LimitBucket.objects.filter(pk__in={id for row in rows for id in row.bucket_ids})
    names = owners.named(rows, owners.texts(counters, Concat("metric", Value(" "), "window"))) if rows else {}
    for row in rows:
        row.__dict__["names"] = names


def _listed(lines: list[tuple[str, str]]) -> str:
    if not lines:
        return display.NOTHING
    return format_html('<ul class="cp-plain cp-lines">{}</ul>', format_html_join("", "<li>{} {}</li>", lines))


def _named(row: Reservation, id: Any) -> str:
    names: Mapping[str, str] = row.__dict__.get("names", {})
    return display.named(names.get(str(id)), id)


def _parts(row: Reservation) -> list[tuple[str, Decimal]]:
    """What is held, by metric; a counter that was removed after its window is left out."""
    names: Mapping[str, str] = row.__dict__.get("names", {})
    found = zip(row.bucket_ids, row.amounts, strict=True)
    return [(names[str(id)].split()[0], amount) for id, amount in found if str(id) in names]
