from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator

from auditing.directory import directory
from auditing.models import AuditLog, DeadLetter, InferenceRequest, InFlightRequest
from controlplane.core import display
from controlplane.core.admin import ModelAdmin
from controlplane.core.bigtables import BigTableAdmin, WindowFilter
from controlplane.core.ids import PLATFORM

SUBJECTS = ("tenant", "app", "branch", "user", "api_key")
OUTCOMES = {"denied": "warn", "failure": "bad"}
STATUSES = {"failed": "bad", "cancelled": "warn", "lost": "bad", "running": "info"}


class SubjectFilter(admin.SimpleListFilter):
    """Rows of one tenant, app, user or key, by its id. Offers tenants; the others are reached by links."""

    offer: ClassVar[bool] = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name or "")
        ids = [UUID(chosen)] if chosen and _is_uuid(chosen) else []
        named = directory().names(str(self.parameter_name), ids)
        found = {str(id): named.get(id, f"…{str(id)[-8:]}") for id in ids}
        if self.offer:
            found = {**{str(id): name for id, name in directory().choices(str(self.parameter_name), 50)}, **found}
        return list(found.items())

    def has_output(self) -> bool:
        return bool(self.lookup_choices) or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(**{f"{self.parameter_name}_id": value}) if _is_uuid(value) else queryset.none()


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


class ModelFilter(admin.SimpleListFilter):
    """Requests of one model, by its name; reached by links, as a list of all names would read the whole log."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, chosen)] if chosen else []

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        return queryset.filter(model=self.value()) if self.value() else queryset  # type: ignore[no-any-return]


class LogAdmin(BigTableAdmin):
    """A log of auditing: names of its ids are looked up for a page at a time."""

    search_help_text = "An id or a request id, whole"
    _subjects: ClassVar[tuple[str, ...]] = SUBJECTS

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        text = search_term.strip().replace("\x00", "")
        if not text:
            return queryset, False
        found = models.Q(request_id=text)
        if _is_uuid(text):
            found |= models.Q(pk=text)
        return queryset.filter(found), False

    def prepare(self, rows: list[Any]) -> None:
        for subject in self._subjects:
            ids = {id for row in rows if (id := getattr(row, f"{subject}_id")) and id != PLATFORM}
            names = directory().names(subject, ids) if ids else {}
            for row in rows:
                row.__dict__.setdefault("names", {})[subject] = names.get(getattr(row, f"{subject}_id"))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            self.prepare([found])
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


@admin.register(AuditLog)
class AuditLogAdmin(LogAdmin):
    list_display = ("at", "actor", "done", "object", "tenant", "change", "why")
    list_filter = (
        WindowFilter,
        subject_filter("tenant", "tenant", offer=True),
        subject_filter("app", "app"),
        subject_filter("user", "user"),
        ResourceFilter,
        "actor_type",
        "outcome",
    )
    search_fields = ("request_id",)
    fieldsets = (
        (None, {"fields": ("at", "actor", "action", "object", "result", "reason", "difference")}),
        ("Where", {"fields": ("tenant", "app", "branch", "user", "api_key", "request_id", "ip", "user_agent")}),
        ("Record", {"fields": ("id", "more", "proof")}),
    )
    readonly_fields = (
        "at", "actor", "action", "object", "result", "reason", "difference", "tenant", "app", "branch", "user", "api_key",
        "request_id", "ip", "user_agent", "id", "more", "proof",
    )  # fmt: skip
    empty_help = "Every change of tenants, keys, models and policies is recorded here by the database."

    @admin.display(description="Actor")
    def actor(self, row: AuditLog) -> str:
        shown = row.actor_label or row.actor_id or row.actor_type
        if row.actor_type == AuditLog.ActorType.COMMAND:
            shown = f"{row.actor_id} ({row.actor_label})"
        return format_html('<span title="{}">{}</span>', f"{row.actor_type} {row.actor_id}", shown)

    @admin.display(description="Action")
    def done(self, row: AuditLog) -> str:
        tone = OUTCOMES.get(row.outcome)
        return display.pill(row.action, tone) if tone else row.action

    @admin.display(description="Reason")
    def why(self, row: AuditLog) -> str:
        return Truncator(row.reason).chars(48) or display.NOTHING

    @admin.display(description="Object")
    def object(self, row: AuditLog) -> str:
        if not row.resource_type:
            return display.NOTHING
        kind = row.resource_type.removeprefix("cp_").split("_", 1)[-1]
        return format_html(
            '<span title="{}">{} {}</span>', row.resource_id, kind, row.resource_label or f"…{row.resource_id[-8:]}"
        )

    @admin.display(description="Changed")
    def change(self, row: AuditLog) -> str:
        if row.before is None or row.after is None:
            return display.NOTHING
        return Truncator(", ".join(sorted(row.after))).chars(32)

    @admin.display(description="Outcome")
    def result(self, row: AuditLog) -> str:
        return display.status(row.outcome, OUTCOMES)

    @admin.display(description="Fields")
    def difference(self, row: AuditLog) -> str:
        before, after = row.before or {}, row.after or {}
        if not before and not after:
            return display.NOTHING
        pairs = ((name, *_sides(before, after, name)) for name in sorted({*before, *after}))
        return format_html('<dl class="cp-kv cp-diff">{}</dl>', format_html_join("", "<dt>{}</dt><dd>{}{}</dd>", pairs))

    @admin.display(description="Details")
    def more(self, row: AuditLog) -> str:
        return _json(row.details)

    @admin.display(description="Commitment")
    def proof(self, row: AuditLog) -> str:
        text = bytes(row.pii_commit).hex() if row.pii_commit else ""
        return format_html('<span class="cp-mono">{}</span>', text or display.NOTHING)


@admin.register(InferenceRequest)
class InferenceRequestAdmin(LogAdmin):
    list_display = (
        "at",
        "ident",
        "tenant",
        "app",
        "called",
        "state",
        "tokens",
        "money",
        "took",
    )
    list_filter = (
        WindowFilter,
        subject_filter("tenant", "tenant", offer=True),
        subject_filter("app", "app"),
        subject_filter("user", "user"),
        subject_filter("api_key", "API key"),
        "status",
        "pricing_status",
        ModelFilter,
    )
    search_fields = ("request_id",)
    fieldsets = (
        (None, {"fields": ("at", "request_id", "called", "requested_model", "state", "failure", "error")}),
        ("Who", {"fields": ("tenant", "app", "branch", "user", "api_key")}),
        ("Usage", {"fields": (
            "tokens_in", "tokens_out", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "units", "took", "ttft_ms",
            "stream",
        )}),
        ("Cost", {"fields": ("money", "pricing_status", "breakdown", "price_id", "adjusts", "reason_code", "reason")}),
        ("Record", {"fields": ("id", "source", "time_zone", "local_date", "booked_at", "more")}),
    )  # fmt: skip
    readonly_fields = (
        "at", "request_id", "called", "requested_model", "state", "failure", "error", "tenant", "app", "branch", "user",
        "api_key", "tokens_in", "tokens_out", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "units", "took",
        "ttft_ms", "stream", "money", "pricing_status", "breakdown", "price_id", "adjusts", "reason_code", "reason", "id",
        "source", "time_zone", "local_date", "booked_at", "more",
    )  # fmt: skip
    empty_help = "Calls through the gate are recorded here, and those of `manage.py usage_import`. Or widen the window."

    @admin.display(description="Request")
    def ident(self, row: InferenceRequest) -> str:
        return display.short_id(row.request_id)

    @admin.display(description="Model")
    def called(self, row: InferenceRequest) -> str:
        return format_html('<span title="{}">{}</span>', row.provider, row.model)

    @admin.display(description="Status")
    def state(self, row: InferenceRequest) -> str:
        return display.status(row.status, STATUSES, why=row.error_code)

    @admin.display(description="Tokens in / out")
    def tokens(self, row: InferenceRequest) -> str:
        return display.counts(row.prompt_tokens, row.completion_tokens)

    @admin.display(description="Tokens in")
    def tokens_in(self, row: InferenceRequest) -> str:
        return display.number(row.prompt_tokens)

    @admin.display(description="Tokens out")
    def tokens_out(self, row: InferenceRequest) -> str:
        return display.number(row.completion_tokens)

    @admin.display(description="Cost")
    def money(self, row: InferenceRequest) -> str:
        return display.cost(row.cost)

    @admin.display(description="Latency")
    def took(self, row: InferenceRequest) -> str:
        return display.number(row.latency_ms, "ms")

    @admin.display(description="Error")
    def failure(self, row: InferenceRequest) -> str:
        return row.error_code or display.NOTHING

    @admin.display(description="Other units")
    def units(self, row: InferenceRequest) -> str:
        return _json(row.other_units)

    @admin.display(description="Cost breakdown")
    def breakdown(self, row: InferenceRequest) -> str:
        return _json(row.cost_breakdown)

    @admin.display(description="Metadata")
    def more(self, row: InferenceRequest) -> str:
        return _json(row.metadata)


@admin.register(InFlightRequest)
class InFlightRequestAdmin(ModelAdmin):
    list_display = ("at", "request_id", "tenant", "provider", "model", "state", "until")
    list_filter = ("status",)
    search_fields = ("request_id__exact",)
    search_help_text = "A request id, whole"
    ordering = ("-created_at",)
    empty_help = "No call is under way. A call is listed here from its start until it ends."

    @admin.display(description="Since (UTC)", ordering="created_at")
    def at(self, row: InFlightRequest) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Tenant")
    def tenant(self, row: InFlightRequest) -> str:
        return display.short_id(row.tenant_id)

    @admin.display(description="Status")
    def state(self, row: InFlightRequest) -> str:
        return display.status(row.status, STATUSES)

    @admin.display(description="Deadline (UTC)", ordering="deadline")
    def until(self, row: InFlightRequest) -> str:
        return display.instant(row.deadline)


@admin.register(DeadLetter)
class DeadLetterAdmin(ModelAdmin):
    list_display = ("at", "source", "row_number", "code", "field", "message", "resolved")
    list_filter = ("code", "resolution")
    search_fields = ("request_id__exact", "source__startswith")
    search_help_text = "A request id, or how a source begins"
    ordering = ("-created_at", "row_number")
    fieldsets = (
        (None, {"fields": ("at", "source", "row_number", "code", "field", "message")}),
        ("Row", {"fields": ("tenant_id", "request_id", "text", "payload_bytes")}),
        ("Resolution", {"fields": ("resolution", "resolved_at", "resolved_by")}),
    )
    readonly_fields = ("at", "text")
    empty_help = "No row was refused. Rows that an import cannot take are kept here, whole, with the reason."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[DeadLetter]:
        rows: models.QuerySet[DeadLetter] = super().get_queryset(request)
        return rows if request.resolver_match and request.resolver_match.kwargs else rows.defer("payload")

    @admin.display(description="Time (UTC)", ordering="created_at")
    def at(self, row: DeadLetter) -> str:
        return display.instant(row.created_at)

    @admin.display(description="State", ordering="resolution")
    def resolved(self, row: DeadLetter) -> str:
        return row.resolution or display.pill("open", "warn")

    @admin.display(description="Content")
    def text(self, row: DeadLetter) -> str:
        shown = bytes(row.payload[:8192]).decode("utf-8", "replace")
        return format_html('<pre class="cp-mono">{}</pre>', shown)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _subject(row: Any, subject: str) -> str:
    return display.named(row.__dict__.get("names", {}).get(subject), getattr(row, f"{subject}_id"))


def _sides(before: dict[str, Any], after: dict[str, Any], name: str) -> Iterable[str]:
    was = format_html("<del>{}</del>", _plain(before[name])) if name in before else ""
    now = format_html("<ins>{}</ins>", _plain(after[name])) if name in after else ""
    return was, now


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(value: Any) -> str:
    if not value:
        return display.NOTHING
    return format_html('<pre class="cp-mono">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
