from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import models, transaction
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator

from auditing.admin.base import Named, NamedChangeList
from auditing.admin.filters import subject_filter, value_filter
from auditing.context import audit_context
from auditing.models import DeadLetter
from controlplane.core import display
from controlplane.core.admin import confirmed_action
from controlplane.core.conf import conf


def _what_goes(rows: Sequence[DeadLetter]) -> list[tuple[str, str]]:
    """Of what is discarded: how many for which reason, and from where."""
    codes, sources = Counter(row.code for row in rows), Counter(row.source for row in rows)
    told = [(f"Refused as {code}", f"{n:,}") for code, n in codes.most_common(8)]
    return told + [(f"From {source}", f"{n:,}") for source, n in sources.most_common(8)]


def _what_would_become(rows: Sequence[DeadLetter]) -> list[tuple[str, str]]:
    """What a retry would come to: it is made, and undone."""
    with transaction.atomic(using=conf.DATABASE):
        found = DeadLetter.objects.retry([row.pk for row in rows], "preview")
        transaction.set_rollback(True, using=conf.DATABASE)
    told = [("Would be written", f"{found.inserted:,}"), ("In the log already", f"{found.duplicates:,}")]
    told.append(("Would be refused again", f"{found.rejected:,}"))
    return told + [(each.code, Truncator(each.message).chars(200)) for each in found.rejections[:8]]


def _retry(row: DeadLetter, request: HttpRequest, reason: str) -> None:
    with audit_context(reason=reason):
        found = DeadLetter.objects.retry([row.pk], str(request.user))
    for each in found.rejections:
        messages.warning(request, f"{row.source}:{row.row_number} is refused again. {each.message}")


def _discard(row: DeadLetter, request: HttpRequest, reason: str) -> None:
    DeadLetter.objects.filter(pk=row.pk).discard(str(request.user), reason)


@admin.register(DeadLetter)
class DeadLetterAdmin(Named):
    list_display = ("at", "tenant", "source", "line", "code", "field", "what", "resolved")
    list_filter = (subject_filter("tenant", "tenant", offer=True), value_filter("code"), "resolution")
    search_fields = ("request_id__exact", "source__startswith")
    search_help_text = "A request id, or how a source begins"
    ordering = ("-created_at", "row_number")
    fieldsets = (
        (None, {"fields": ("at", "source", "row_number", "code", "field", "message")}),
        ("Row", {"fields": ("tenant", "request_id", "text", "payload_bytes")}),
        ("Resolution", {"fields": ("resolution", "resolved_at", "resolved_by")}),
    )
    readonly_fields = ("at", "tenant", "text")
    actions = (
        confirmed_action(
            "Retry",
            permission="resolve",
            command="usage_dead_letter retry",
            past="tried again",
            explain="These rows are written into their log as they came, however old they are. What is refused again waits on.",
            perform=_retry,
            offered=lambda row: not row.resolution,
            preview=_what_would_become,
        ),
        confirmed_action(
            "Discard",
            permission="resolve",
            command="usage_dead_letter discard",
            past="discarded",
            explain="Nothing will be done about these rows: they are in no sum, and go after 90 days.",
            perform=_discard,
            offered=lambda row: not row.resolution,
            preview=_what_goes,
            danger=True,
        ),
    )
    empty_help = "No row was refused. Rows that an import cannot take are kept here, whole, with the reason."

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_auditing.resolve_deadletter"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NamedChangeList]:
        return NamedChangeList

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[DeadLetter]:
        rows: models.QuerySet[DeadLetter] = super().get_queryset(request)
        return rows if request.resolver_match and request.resolver_match.kwargs else rows.defer("payload")

    @admin.display(description="Time (UTC)", ordering="created_at")
    def at(self, row: DeadLetter) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Row", ordering="row_number")
    def line(self, row: DeadLetter) -> str:
        return display.number(row.row_number)

    @admin.display(description="Message")
    def what(self, row: DeadLetter) -> str:
        return format_html('<span title="{}">{}</span>', row.message, Truncator(row.message).chars(60))

    @admin.display(description="State", ordering="resolution")
    def resolved(self, row: DeadLetter) -> str:
        return row.resolution or display.pill("open", "warn")

    @admin.display(description="Content")
    def text(self, row: DeadLetter) -> str:
        shown = bytes(row.payload[:8192]).decode("utf-8", "replace")
        return format_html('<pre class="cp-mono">{}</pre>', shown)
