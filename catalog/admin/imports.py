from __future__ import annotations

from django.contrib import admin

from catalog.models import PriceImport
from controlplane.core import display
from controlplane.core.admin import ModelAdmin


@admin.register(PriceImport)
class PriceImportAdmin(ModelAdmin):
    """Price files that were applied. The rows are their own record: nothing changes one."""

    has_history = False
    list_display = ("source", "source_version", "applied", "start", "actor", "added", "changed", "removed", "errors")
    search_fields = ("source__icontains", "source_version__exact", "sha256__startswith")
    search_help_text = "A part of the source, its version, or the beginning of the SHA-256"
    ordering = ("-applied_at", "-id")
    fieldsets = ((None, {"fields": ("source", "source_version", "applied_at", "effective_from", "actor", "reason")}),)
    readonly_fields = ("source", "source_version", "applied_at", "effective_from", "actor", "reason")
    empty_help = (
        "An import reads a price file, shows what it changes, and applies it. The command: manage.py prices_import."
    )

    @admin.display(description="Applied (UTC)", ordering="applied_at")
    def applied(self, row: PriceImport) -> str:
        return display.instant(row.applied_at)

    @admin.display(description="Holds from", ordering="effective_from")
    def start(self, row: PriceImport) -> str:
        return display.day(row.effective_from)

    @admin.display(description="Added")
    def added(self, row: PriceImport) -> str:
        return display.number(row.counts.get("added"))

    @admin.display(description="Changed")
    def changed(self, row: PriceImport) -> str:
        return display.number(row.counts.get("changed"))

    @admin.display(description="Removed")
    def removed(self, row: PriceImport) -> str:
        return display.number(row.counts.get("removed"))

    @admin.display(description="Errors")
    def errors(self, row: PriceImport) -> str:
        return display.number(row.counts.get("errors"))
