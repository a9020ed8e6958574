"""Limits as they stand: counters with what is spent, held and left, and when they begin anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from auditing.admin.filters import is_uuid, subject_filter
from auditing.models.logs import LogQuerySet
from controlplane.core import display
from controlplane.core.bigtables import BigTableAdmin
from controlplane.core.charts import Bar, Mark, horizontal_bars, level_bar, share
from controlplane.core.ids import now
from policies.admin import owners
from policies.admin.phrases import limit_words, link, measured, owner_words, resets
from policies.counting import LEVELS
from policies.models import LimitAlert, LimitBucket, Policy, Reservation
from tenants.models import User

MOST_ROWS = 12
NEAR = Decimal("0.8")
TYPES = {"rate": "rate_limit", "budget": "budget"}


class PeriodFilter(admin.SimpleListFilter):
    """Counters whose window is now, unless chosen otherwise."""

    title = "period"
    parameter_name = "period"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "Now"), ("ended", "Ended"), ("all", "All")]

    def value(self) -> str:
        return str(super().value() or "now")

    def choices(self, changelist: Any) -> Iterator[Any]:
        for name, label in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: name})
            yield {"selected": name == self.value(), "query_string": query, "display": label}

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        at, chosen = now(), self.value()
        if chosen == "all":
            return queryset
        if chosen == "ended":
            return queryset.filter(ends_at__lte=at)
        return queryset.filter(Q(starts_at=None) | Q(starts_at__lte=at), Q(ends_at=None) | Q(ends_at__gt=at))


class UsedFilter(admin.SimpleListFilter):
    """Counters of which most is used or held."""

    title = "used"
    parameter_name = "used"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("80", "80 % and more"), ("100", "All of it"), ("held", "Held by calls")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        shares = {"80": NEAR, "100": Decimal(1)}
        if self.value() == "held":
            return queryset.filter(reserved__gt=0)
        if self.value() not in shares:
            return queryset
        return queryset.filter(spent__gte=F("last_limit") * shares[str(self.value())] - F("reserved"))


class Paged(LogQuerySet[LimitBucket]):
    """Counters by cursor: their ids are in the order in which they were opened."""


@admin.register(LimitBucket)
class LimitBucketAdmin(BigTableAdmin):
    list_display = ("limit", "whose", "of", "level", "used", "held", "remaining", "begins_anew")
    list_filter = (
        PeriodFilter,
        UsedFilter,
        subject_filter("tenant", "tenant", offer=True),
        "kind",
        subject_filter("app", "app"),
        subject_filter("user", "user"),
    )
    search_fields = ("id",)
    search_help_text = "An id of a counter or its owner, or the e-mail of a user"
    list_select_related = ("tenant",)
    fieldsets = (
        (None, {"fields": ("limit", "whose", "tenant", "level", "used", "held", "remaining")}),
        ("Window", {"fields": ("kind_shown", "began", "begins_anew", "zone")}),
        ("Record", {"fields": ("id", "opened")}),
    )
    readonly_fields = (
        "limit", "whose", "tenant", "level", "used", "held", "remaining", "kind_shown", "began", "begins_anew", "zone", "id",
        "opened",
    )  # fmt: skip
    empty_help = (
        "A counter is here from the first call that it counts. Policies of the types budget and rate limit set limits."
    )
    change_form_template = "cp_policies/counter.html"
    has_history = False

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_policies/policies.css"]}

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[LimitBucket]:
        return Paged(LimitBucket, using=super().get_queryset(request).db).select_related("tenant")

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip().replace("\x00", "")
        if not text:
            return queryset, False
        if is_uuid(text):
            return queryset.filter(Q(pk=text) | _owned_by(text)), False
        return queryset.filter(user_id__in=User.objects.filter(email__iexact=text).values("pk")), False

    def prepare(self, rows: list[Any], changelist: Any) -> None:
        _name(rows)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            _name([found])
            found.__dict__["thresholds"] = [*thresholds(found)]
        return found

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None:
            context |= _panel(obj) | {"headline": f"{self.limit(obj)}, {self.whose(obj)}"}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="Limit")
    def limit(self, row: LimitBucket) -> str:
        if row.last_limit is None:
            return f"{row.metric} by {row.window}, without a limit"
        return limit_words(_entry(row, row.last_limit, row.last_mode))

    @admin.display(description="Counted for")
    def whose(self, row: LimitBucket) -> str:
        return owner_words(row.owner, row.owner_kind, row.__dict__.get("names", {}))

    @admin.display(description="Tenant")
    def of(self, row: LimitBucket) -> str:
        return row.tenant.slug

    @admin.display(description="Used")
    def level(self, row: LimitBucket) -> str:
        return level_cell(row)

    @admin.display(description="Spent")
    def used(self, row: LimitBucket) -> str:
        return _number(row, row.spent)

    @admin.display(description="Held")
    def held(self, row: LimitBucket) -> str:
        return _number(row, row.reserved)

    @admin.display(description="Left")
    def remaining(self, row: LimitBucket) -> str:
        return display.number(None) if row.left is None else _number(row, row.left)

    @admin.display(description="Resets, local")
    def begins_anew(self, row: LimitBucket) -> str:
        return resets(row.ends_at, row.tenant.time_zone)

    @admin.display(description="Kind")
    def kind_shown(self, row: LimitBucket) -> str:
        return f"{row.kind}, {row.metric.replace('_', ' ')} by {row.window}"

    @admin.display(description="Began")
    def began(self, row: LimitBucket) -> str:
        return display.NOTHING if row.starts_at is None else resets(row.starts_at, row.tenant.time_zone)

    @admin.display(description="Time zone")
    def zone(self, row: LimitBucket) -> str:
        return row.tenant.time_zone

    @admin.display(description="Opened (UTC)")
    def opened(self, row: LimitBucket) -> str:
        return display.instant(row.created_at)


def _owned_by(id: str) -> Q:
    return Q(app_id=id) | Q(branch_id=id) | Q(user_id=id) | Q(key_id=id)


def _name(rows: list[LimitBucket]) -> None:
    names = owners.named(rows)
    for row in rows:
        row.__dict__["names"] = names


def _entry(row: LimitBucket, limit: Decimal, mode: str) -> dict[str, Any]:
    return {"window": row.window, "metric": row.metric, "limit": limit.normalize(), "mode": mode, "models": row.models}


def _number(row: LimitBucket, value: Decimal) -> str:
    return format_html('<span class="cp-num">{}</span>', measured(row.metric, value))


def level_cell(row: LimitBucket) -> str:
    """A bar of what is spent and held, with the limits in force, and the part of the limit in words."""
    found: list[Mapping[str, Any]] = row.__dict__.get("thresholds", [])
    marks = {(Decimal(one["limit"]), one["mode"] == "hard") for one in found}
    if row.last_limit is not None and not marks:
        marks.add((row.last_limit, row.last_mode == "hard"))
    part = share(row.spent + row.reserved, row.last_limit)
    text = "no limit" if part is None else f"{part:.0%}"
    words = f"{measured(row.metric, row.spent)} spent, {measured(row.metric, row.reserved)} held: {text}"
    bar = level_bar(words, row.spent, row.reserved, [Mark(value, firm) for value, firm in sorted(marks)])
    tone = "bad" if part is not None and part >= 1 else "warn" if part is not None and part >= NEAR else ""
    told = display.pill(text, tone) if tone else format_html('<span class="cp-quiet">{}</span>', text)
    return format_html('<div class="cp-gauge">{}{}</div>', bar, told)


def thresholds(row: LimitBucket) -> Iterator[dict[str, Any]]:
    """Entries of the policies in force that count on this counter: what they say, with `policy`, `version` and `name`.

    Of a counter for each app, branch, user or key that is every policy of the tenant that has such a limit: whom it
    applies to depends on the request.
    """
    rows = Policy.objects.filter(tenant_id=row.tenant_id, policy_type=TYPES[row.kind], enabled=True)
    how, _, which = row.owner_kind.partition(":")
    if how == "scope":
        rows = rows.filter(**{f"{level}_id": getattr(row, f"{level}_id") for level in LEVELS})
    per = "scope" if how == "scope" else which
    anchor = int(row.key.split("|")[5])
    for policy in rows.order_by("-layer", "-priority", "id"):
        for entry in policy.config.get("limits") or ():
            named = entry.get("models")
            same = (
                entry.get("metric", "cost"), entry["window"], entry.get("anchor", 1), entry.get("per", "scope"),
                None if named is None else sorted(name.lower() for name in named),
            ) == (row.metric, row.window, anchor, per, row.models)  # fmt: skip
            if same:
                yield {"mode": "hard", **entry, "policy": policy.pk, "version": policy.version, "name": policy.name}


def _panel(row: LimitBucket) -> dict[str, Any]:
    """What stands below a counter: its policies, what it warned of, what holds it, and its periods."""
    found = row.__dict__["thresholds"]
    names = {str(one["policy"]): one["name"] for one in found}
    sources = [(link(str(one["policy"]), names, one["version"]), limit_words(one)) for one in found]
    holding = list(Reservation.objects.open().of_bucket(row).order_by("reserved_at")[: MOST_ROWS + 1])
    held = [
        (one, measured(row.metric, one.amounts[one.bucket_ids.index(row.pk)]), display.instant(one.reserved_at))
        for one in holding[:MOST_ROWS]
    ]
    alerts = LimitAlert.objects.filter(tenant_id=row.tenant_id, bucket_id=row.pk).order_by("told_at")[:MOST_ROWS]
    return {
        "sources": sources,
        "holding": held,
        "more_holding": len(holding) > MOST_ROWS,
        "holding_url": f"{reverse('admin:cp_policies_reservation_changelist')}?bucket={row.pk}&state=open",
        "alerts": [_alert(row, one, names) for one in alerts],
        "periods": _periods(row),
    }


def _alert(row: LimitBucket, alert: LimitAlert, names: Mapping[str, str]) -> dict[str, Any]:
    what = "a soft limit was passed" if alert.threshold.startswith("soft:") else "an alert was due"
    return {
        "at": display.instant(alert.told_at),
        "words": f"{what} at {measured(row.metric, alert.level)}: {measured(row.metric, alert.used)} was used",
        "policy": link(str(alert.policy_id), names, alert.policy_version),
    }


def _periods(row: LimitBucket) -> str:
    """The counter in the windows before and now, newest first; nothing for one that has no other."""
    beginning = row.key.removesuffix(row.label)
    same = LimitBucket.objects.filter(tenant_id=row.tenant_id, key__startswith=beginning).exclude(label="")
    rows = list(same.order_by("-starts_at")[:MOST_ROWS])
    if len(rows) < 2:
        return ""
    bars = [
        Bar(one.label, one.spent, _spent_of(one), reverse("admin:cp_policies_limitbucket_change", args=[one.pk]))
        for one in rows
    ]
    return horizontal_bars(
        "Spent by period, newest first", bars, unit="US dollars" if row.metric == "cost" else row.metric
    )


def _spent_of(row: LimitBucket) -> str:
    spent = measured(row.metric, row.spent)
    return spent if row.last_limit is None else f"{spent} of {measured(row.metric, row.last_limit)}"
