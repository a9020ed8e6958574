from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = (
        "Closes the account of a user: no sign-in, the user's own keys are refused at once, and sessions end. Says what "
        "stops, and how many keys of apps the user has issued, and so seen the secrets of."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="e-mail or user name")
        commands.add_tenant(parser)
        commands.add_reason(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would stop")

    def handle(self, *args: Any, user: str, tenant: str, reason: str, dry_run: bool, **options: Any) -> str:
        found = commands.user_by_name(commands.tenant_by_slug(tenant, deleted=True), user)
        preview = found.deactivation_preview()
        if dry_run:
            return f"Deactivating {found.email} would stop {preview}."
        with audit_context(actor=command_actor(self.name)):
            found.deactivate(reason)
        return f"Deactivated {found.email}, and with it {preview}."
