from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = "Suspends a tenant: nothing of it verifies until it is resumed. No row below it is touched."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the tenant")
        commands.add_reason(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would stop")

    def handle(self, *args: Any, slug: str, reason: str, dry_run: bool, **options: Any) -> str:
        tenant = commands.tenant_by_slug(slug)
        stopped = commands.numbers(commands.what_stops(tenant))
        if dry_run:
            return f"Suspending {slug} would stop {stopped}."
        with audit_context(actor=command_actor(self.name)):
            tenant.suspend(reason)
        return f"Suspended {slug}, and with it {stopped}."
