from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = "Resumes a suspended tenant: its keys and users work again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the tenant")
        commands.add_reason(parser, required=False)

    def handle(self, *args: Any, slug: str, reason: str, **options: Any) -> str:
        tenant = commands.tenant_by_slug(slug)
        with audit_context(actor=command_actor(self.name)):
            tenant.resume(reason or "resumed")
        return f"Resumed {slug}."
