from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands
from tenants.models import App


class Command(commands.Command):
    help = "Makes an app of a tenant: what calls models, and what keys and policies point at."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="name in URLs and commands, unique in the tenant")
        commands.add_tenant(parser)
        parser.add_argument("--name", required=True, help="name for people, unique in the tenant")
        parser.add_argument("--type", choices=App.Type.values, default=App.Type.OTHER.value, help="what it is (other)")
        commands.add_json(parser)

    def handle(self, *args: Any, slug: str, tenant: str, **options: Any) -> None:
        app = App(tenant=commands.tenant_by_slug(tenant), slug=slug, name=options["name"], app_type=options["type"])
        app.full_clean()
        with audit_context(actor=command_actor(self.name)):
            app.save(force_insert=True)
            app.refresh_from_db()
        self.report(commands.app_row(app), f"Made the app {slug} of {tenant}.", as_json=options["json"])
