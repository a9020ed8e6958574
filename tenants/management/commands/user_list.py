from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import add_page_arguments, page
from tenants import commands
from tenants.management.commands.user_create import ROLES
from tenants.models import User


class Command(commands.Command):
    help = "Lists the users of a tenant by e-mail, a page at a time; inactive ones too, with their status."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        parser.add_argument("--role", choices=ROLES, help="only these")
        commands.add_app(parser, required=False, help="only those with access to this app")
        add_page_arguments(parser, "EMAIL")

    def handle(self, *args: Any, tenant: str, role: str | None, app: str | None, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        users = User.objects.for_tenant(owner)
        if role:
            users = users.filter(role=role)
        if app:
            users = users.with_access_to(commands.app_by_slug(owner, app))
        found, after = page(users, "email", options["after"], options["limit"])
        self.write_page([commands.user_row(user) for user in found], after, as_json=options["json"])
