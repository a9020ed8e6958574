from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = "Brings a deleted tenant back; its keys and users work again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the tenant")
        commands.add_reason(parser)

    def handle(self, *args: Any, slug: str, reason: str, **options: Any) -> str:
        tenant = commands.tenant_by_slug(slug, deleted=True)
        with audit_context(actor=command_actor(self.name)):
            tenant.restore(reason)
        return f"Restored {slug}."
