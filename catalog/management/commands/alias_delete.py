from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from catalog import commands
from catalog.aliases import delete_alias
from controlplane.core.commands import Command as BaseCommand


class Command(BaseCommand):
    help = "Takes an alias back: everybody's, or one tenant's. Calls by that name are then of the model of that key, or refused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("alias", help="the other name, in any case")
        commands.add_tenant(parser, "whose alias; without it everybody's")
        parser.add_argument("--reason", default="", help="why; kept in the audit log")
        parser.add_argument("--json", action="store_true", help="what it was as one JSON object, for scripts")

    def handle(self, *args: Any, alias: str, **options: Any) -> None:
        tenant = commands.tenant_or_none(options["tenant"])
        with audit_context(actor=command_actor(self.name), reason=options["reason"]):
            row = delete_alias(alias, tenant=tenant)
        self.report(
            {"id": row.pk, "alias": row.alias, "model": row.model.key, "tenant": options["tenant"], "note": row.note},
            f"{row.alias} no longer means {row.model.key} for {options['tenant'] or 'everybody'}.",
            as_json=options["json"],
        )
