from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import add_page_arguments, page
from tenants import commands
from tenants.models import Status, Tenant


class Command(commands.Command):
    help = "Lists tenants by slug, a page at a time; deleted ones too when they are asked for."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--status", choices=Status.values, help="only these (all but the deleted ones)")
        add_page_arguments(parser, "SLUG")

    def handle(self, *args: Any, status: str | None, **options: Any) -> None:
        tenants = Tenant.objects.filter(status=status) if status else Tenant.objects.present()
        found, after = page(tenants, "slug", options["after"], options["limit"])
        self.write_page([commands.tenant_row(tenant) for tenant in found], after, as_json=options["json"])
