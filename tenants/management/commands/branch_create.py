from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands
from tenants.models import Branch


class Command(commands.Command):
    help = "Makes a branch of an app: a location or sub-unit that keys and policies can be bound to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("code", help="short name, unique in the app: letters, digits and . _ -")
        commands.add_tenant(parser)
        commands.add_app(parser)
        parser.add_argument("--name", required=True, help="name for people")
        parser.add_argument(
            "--type", choices=Branch.Type.values, default=Branch.Type.OTHER.value, help="what it is (other)"
        )
        parser.add_argument("--city", default="", help="where it is")
        parser.add_argument("--country", default="", metavar="XX", help="where it is: ISO 3166-1, two capital letters")
        parser.add_argument("--contact", default="", help="whom to ask")
        commands.add_json(parser)

    def handle(self, *args: Any, code: str, tenant: str, app: str, **options: Any) -> None:
        found = commands.app_by_slug(commands.tenant_by_slug(tenant), app)
        branch = Branch(
            tenant_id=found.tenant_id, app=found, code=code, name=options["name"], branch_type=options["type"],
            address={name: options[name] for name in ("city", "country") if options[name]}, contact=options["contact"],
        )  # fmt: skip
        branch.full_clean()
        with audit_context(actor=command_actor(self.name)):
            branch.save(force_insert=True)
        row = {"code": code, "name": branch.name, "type": branch.branch_type, "app": app, "id": branch.pk}
        self.report(row, f"Made the branch {code} of {tenant}/{app}.", as_json=options["json"])
