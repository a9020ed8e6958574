from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import table
from policies.models import Policy
from policies.schemas import SCHEMAS
from tenants import commands


class Command(commands.Command):
    help = "List the policies of a tenant, by type, nearest scope first. Exit code 0; 2 if there is no such tenant."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        parser.add_argument("--type", choices=[*SCHEMAS], help="policies of this type only")
        parser.add_argument("--json", action="store_true", help="one JSON array, every field, for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = commands.tenant_by_slug(options["tenant"], deleted=True)
        policies = Policy.objects.filter(tenant=tenant).select_related("app", "branch", "user", "key")
        policies = policies.order_by("policy_type", "-layer", "-priority", "id")
        if options["type"]:
            policies = policies.filter(policy_type=options["type"])
        if options["json"]:
            self.stdout.write(json.dumps([policy.as_record() for policy in policies], indent=2))
            return
        head = ("id", "type", "version", "state", "scope", "name", "config")
        rows = [
            (str(p.pk), p.policy_type, str(p.version), p.state(), p.scope_label(), p.name or "-", json.dumps(p.config))
            for p in policies
        ]
        if rows:
            self.stdout.write(table(head, rows))
        self.stdout.write(f"{len(rows)} {'policy' if len(rows) == 1 else 'policies'} of {tenant.slug}.")
