from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from controlplane.core.commands import add_page_arguments, page, span, uuid
from tenants import commands
from tenants.models import APIKey


class Command(commands.Command):
    help = "Lists the keys of a tenant, the newest first, a page at a time. No token is in it: there is none to show."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        commands.add_app(parser, required=False, help="only those of this app")
        parser.add_argument("--live", action="store_true", help="only those neither revoked nor disabled nor expired")
        parser.add_argument(
            "--expiring", type=span, metavar="DURATION", help="only live ones that end within this time"
        )
        add_page_arguments(parser, "ID", uuid)

    def handle(self, *args: Any, tenant: str, app: str | None, expiring: timedelta | None, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        keys = APIKey.objects.for_app(commands.app_by_slug(owner, app)) if app else APIKey.objects.for_tenant(owner)
        if options["live"]:
            keys = keys.live()
        if expiring is not None:
            keys = keys.expiring(expiring)
        keys = keys.with_last_use().select_related("app", "user", "branch").prefetch_related("secrets")
        found, after = page(keys, "-id", options["after"], options["limit"])
        self.write_page([commands.key_row(key) for key in found], after, as_json=options["json"])
