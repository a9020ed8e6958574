from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import add_page_arguments, page
from tenants import commands
from tenants.models import App


class Command(commands.Command):
    help = "Lists the apps of a tenant by slug, a page at a time; deleted ones too, with their status."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        parser.add_argument("--type", choices=App.Type.values, help="only these")
        add_page_arguments(parser, "SLUG")

    def handle(self, *args: Any, tenant: str, type: str | None, **options: Any) -> None:
        apps = App.objects.for_tenant(commands.tenant_by_slug(tenant, deleted=True))
        apps = apps.of_type(type) if type else apps
        found, after = page(apps, "slug", options["after"], options["limit"])
        self.write_page([commands.app_row(app) for app in found], after, as_json=options["json"])
