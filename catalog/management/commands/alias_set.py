from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from catalog import commands
from catalog.aliases import redirected, set_alias
from catalog.models import AIModel
from controlplane.core.commands import Command as BaseCommand


class Command(BaseCommand):
    help = "Lets an alias mean a model, for everybody or for one tenant. A tenant's own wins, also over a model's key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("alias", help="the other name, in any case")
        parser.add_argument("model", help="key or canonical id of the model, or an alias: then the model it means")
        commands.add_tenant(parser, "whose alias; without it everybody's")
        parser.add_argument("--note", help="why it is there")
        parser.add_argument("--move", action="store_true", help="also where the alias means another model now")
        parser.add_argument("--reason", default="", help="why; kept in the audit log")
        parser.add_argument("--json", action="store_true", help="the alias as one JSON object, for scripts")

    def handle(self, *args: Any, alias: str, model: str, **options: Any) -> None:
        tenant = commands.tenant_or_none(options["tenant"])
        target = AIModel.objects.get(pk=AIModel.objects.resolve(model, tenant=tenant).id)
        with audit_context(actor=command_actor(self.name), reason=options["reason"]):
            row = set_alias(alias, target, tenant=tenant, note=options["note"], move=options["move"])
        hidden = redirected(alias)
        if hidden is not None and hidden.pk != target.pk:
            self.say(
                f"Warning: {hidden.key} is a model's key; {options['tenant']}'s calls of it now go to {target.key}."
            )
        self.report(
            {"id": row.pk, "alias": row.alias, "model": target.key, "tenant": options["tenant"], "note": row.note},
            f"{row.alias} means {target.key} for {options['tenant'] or 'everybody'}.",
            as_json=options["json"],
        )
