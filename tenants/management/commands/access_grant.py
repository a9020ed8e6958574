from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands
from tenants.models import UserApp


class Command(commands.Command):
    help = "Gives a user access to an app of the tenant, or changes the role in it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="e-mail or user name")
        commands.add_tenant(parser)
        commands.add_app(parser)
        parser.add_argument("--role", choices=UserApp.Role.values, default="viewer", help="role in the app (viewer)")

    def handle(self, *args: Any, user: str, tenant: str, app: str, role: str, **options: Any) -> str:
        owner = commands.tenant_by_slug(tenant)
        target, holder = commands.app_by_slug(owner, app), commands.user_by_name(owner, user)
        with audit_context(actor=command_actor(self.name)):
            target.grant(holder, role, by=self.by)
        return f"{holder.email} is {role} of {tenant}/{app}."
