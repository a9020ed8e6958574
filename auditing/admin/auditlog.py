from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.text import Truncator

from auditing.admin.base import LogAdmin, as_json
from auditing.admin.filters import ResourceFilter, subject_filter
from auditing.models import AuditLog
from controlplane.core import display
from controlplane.core.bigtables import WindowFilter
from controlplane.core.ids import PLATFORM

OUTCOMES = {"denied": "warn", "failure": "bad"}


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
        ("Where", {"fields": ("tenant", "app", "branch", "user", "api_key", "request_id", "address", "user_agent")}),
        ("Record", {"fields": ("id", "more", "proof")}),
    )
    readonly_fields = (
        "at", "actor", "action", "object", "result", "reason", "difference", "tenant", "app", "branch", "user", "api_key",
        "request_id", "address", "user_agent", "id", "more", "proof",
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
        if not row.reason:
            return display.NOTHING
        return format_html('<span title="{}">{}</span>', row.reason, Truncator(row.reason).chars(24))

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
        return Truncator(", ".join(sorted(row.after))).chars(24)

    @admin.display(description="IP address")
    def address(self, row: AuditLog) -> str:
        return row.ip or display.NOTHING

    @admin.display(description="Outcome")
    def result(self, row: AuditLog) -> str:
        shown, url = display.status(row.outcome, OUTCOMES), _explained(row)
        return format_html('{} <a href="{}">Explain this</a>', shown, url) if url else shown

    @admin.display(description="Fields")
    def difference(self, row: AuditLog) -> str:
        before, after = row.before or {}, row.after or {}
        if not before and not after:
            return display.NOTHING
        pairs = ((name, *_sides(before, after, name)) for name in sorted({*before, *after}))
        return format_html('<dl class="cp-kv cp-diff">{}</dl>', format_html_join("", "<dt>{}</dt><dd>{}{}</dd>", pairs))

    @admin.display(description="Details")
    def more(self, row: AuditLog) -> str:
        return as_json(row.details)

    @admin.display(description="Commitment")
    def proof(self, row: AuditLog) -> str:
        text = bytes(row.pii_commit).hex() if row.pii_commit else ""
        return format_html('<span class="cp-mono">{}</span>', text or display.NOTHING)


def _explained(row: AuditLog) -> str:
    """The page that says why a call was denied, asked about this one; "" where no app above has such a page."""
    if row.action != "gate.denied" or row.tenant_id == PLATFORM:
        return ""
    try:
        page = reverse("admin:cp_policies_policy_explain")
    except NoReverseMatch:
        return ""
    ids = {
        "tenant": row.tenant_id,
        "app": row.app_id,
        "branch": row.branch_id,
        "user": row.user_id,
        "key": row.api_key_id,
    }
    asked = ids | {"model": row.model, "at": row.created_at.isoformat()}
    return f"{page}?{urlencode({name: str(value) for name, value in asked.items() if value})}"


def _sides(before: dict[str, Any], after: dict[str, Any], name: str) -> Iterable[str]:
    was = format_html("<del>{}</del>", _plain(before[name])) if name in before else ""
    now = format_html("<ins>{}</ins>", _plain(after[name])) if name in after else ""
    return was, now


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
