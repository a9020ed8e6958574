from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands
from tenants.models import Tenant


class Command(commands.Command):
    help = "Makes a tenant: one organisation, the border that nothing crosses. Its slug is for ever."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="name in URLs and commands: lower-case letters, digits, single hyphens")
        parser.add_argument("--name", required=True, help="name for people")
        parser.add_argument(
            "--time-zone", default="UTC", metavar="ZONE", help="IANA name of its days and budgets (UTC)"
        )
        parser.add_argument("--domain", default="", help="its e-mail or web domain, in lower case")
        commands.add_json(parser)

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        tenant = Tenant(
            slug=slug, name=options["name"], time_zone=options["time_zone"], domain=options["domain"].lower()
        )
        tenant.full_clean()
        with audit_context(actor=command_actor(self.name)):
            tenant.save(force_insert=True)
            tenant.refresh_from_db()
        self.report(commands.tenant_row(tenant), f"Made the tenant {slug}.", as_json=options["json"])
