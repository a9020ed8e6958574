from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = (
        "Deletes a tenant softly: it is hidden and closed, its slug stays taken, all that points to it stays, and "
        "tenant_restore brings it back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the tenant")
        commands.add_reason(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would stop")

    def handle(self, *args: Any, slug: str, reason: str, dry_run: bool, **options: Any) -> str:
        tenant = commands.tenant_by_slug(slug)
        stopped = commands.numbers(commands.what_stops(tenant))
        if dry_run:
            return f"Deleting {slug} would stop {stopped}."
        with audit_context(actor=command_actor(self.name)):
            tenant.delete(reason)
        return f"Deleted {slug} (softly), and with it stopped {stopped}."
