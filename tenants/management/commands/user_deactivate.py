from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands
from tenants.models import APIKey


class Command(commands.Command):
    help = "Closes the account of a user: no sign-in, and the user's own keys are refused at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="e-mail or user name")
        commands.add_tenant(parser)
        commands.add_reason(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would stop")

    def handle(self, *args: Any, user: str, tenant: str, reason: str, dry_run: bool, **options: Any) -> str:
        found = commands.user_by_name(commands.tenant_by_slug(tenant, deleted=True), user)
        keys = APIKey.objects.filter(user=found).live().count()
        if dry_run:
            return f"Deactivating {found.email} would stop {keys} live keys."
        with audit_context(actor=command_actor(self.name)):
            found.deactivate(reason)
        return f"Deactivated {found.email}, and with it {keys} live keys."
