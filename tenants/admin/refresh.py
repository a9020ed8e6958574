from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from controlplane.core import display
from controlplane.core.admin import ModelAdmin, confirmed_action
from controlplane.core.ids import now
from tenants.models import RefreshFamily

TONES = {"copied": "bad", "ended": "warn", "expired": "warn", "user inactive": "warn", "tenant inactive": "warn"}
WHY = {
    RefreshFamily.Ended.LOGOUT: "signed out",
    RefreshFamily.Ended.ALL: "all sessions were ended, or the password was changed",
    RefreshFamily.Ended.LIMIT: "the user had too many",
    RefreshFamily.Ended.REUSE: "a spent token was used again: somebody has a copy",
    RefreshFamily.Ended.USER: "the user was deactivated",
}


def session_state(row: Any) -> str:
    """Needs `with_newest`, `user`."""
    if row.revoked_at is not None:
        shown = "copied" if row.revoked_reason == RefreshFamily.Ended.REUSE else "ended"
        return display.status(shown, TONES, WHY.get(row.revoked_reason, ""))
    after = row.user.tokens_valid_after
    if not row.user.is_active or (after is not None and row.created_at <= after):
        return display.status("ended", TONES, WHY[RefreshFamily.Ended.USER])
    return "live" if row.expires_at and row.expires_at > now() else display.status("expired", TONES)


class SessionStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Live"), ("ended", "Ended"), ("copied", "Ended: a copy was used")]

    def queryset(self, request: HttpRequest, queryset: Any) -> models.QuerySet[Any]:
        found: dict[str | None, Any] = {
            "live": lambda: queryset.live(),
            "ended": lambda: queryset.exclude(revoked_at=None),
            "copied": lambda: queryset.filter(revoked_reason=RefreshFamily.Ended.REUSE),
        }
        return found.get(self.value(), lambda: queryset)()  # type: ignore[no-any-return]


@admin.register(RefreshFamily)
class RefreshFamilyAdmin(ModelAdmin):
    list_display = ("user", "client", "tenant", "state", "generation", "begun_on", "rotated", "ends_on")
    list_filter = (SessionStateFilter,)
    search_fields = ("user__email__istartswith", "tenant__slug__exact")
    search_help_text = "E-mail of the user, or slug of the tenant"
    list_select_related = ("user", "tenant")
    ordering = ("-created_at",)
    fields = ("user", "tenant", "client", "state", "generation", "began", "rotated", "ends", "ends_at_last", "ended")
    readonly_fields = fields
    actions = (
        confirmed_action(
            "End",
            permission="revoke",
            command="refresh_revoke",
            past="ended",
            explain="Every token of these sessions is refused from now on. This is final; the users can sign in again.",
            perform=lambda row, request, reason: RefreshFamily.objects.filter(pk=row.pk).end("logout", reason),
            offered=lambda row: row.revoked_at is None,
            preview=lambda rows: [(str(row), f"{row.user}, {row.tenant}") for row in rows],
            danger=True,
        ),
    )
    empty_help = (
        "A session begins when a portal signs a user in and issues a refresh token. Sign-ins to this admin are none."
    )

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[RefreshFamily]:
        rows: models.QuerySet[RefreshFamily] = RefreshFamily.objects.with_newest()
        return rows

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_tenants.revoke_refreshfamily"))

    @admin.display(description="State")
    def state(self, row: Any) -> str:
        return session_state(row)

    @admin.display(description="Generation")
    def generation(self, row: Any) -> str:
        return display.number(row.generation)

    @admin.display(description="Began", ordering="created_at")
    def begun_on(self, row: Any) -> str:
        return display.day(row.created_at)

    @admin.display(description="Ends")
    def ends_on(self, row: Any) -> str:
        return display.day(row.revoked_at or row.expires_at)

    @admin.display(description="Began (UTC)")
    def began(self, row: Any) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Last rotated (UTC)")
    def rotated(self, row: Any) -> str:
        return display.instant(row.issued_at)

    @admin.display(description="Ends, unless rotated (UTC)")
    def ends(self, row: Any) -> str:
        return display.instant(None if row.revoked_at else row.expires_at)

    @admin.display(description="Ends at the latest (UTC)")
    def ends_at_last(self, row: Any) -> str:
        return display.instant(row.absolute_expires_at)

    @admin.display(description="Ended (UTC)")
    def ended(self, row: Any) -> str:
        return display.instant(row.revoked_at)
