from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from controlplane.core.commands import REFUSED
from policies.applying import export
from tenants import commands


class Command(commands.Command):
    help = (
        "Writes the policies of a tenant as one JSON document on stdout, for policy_apply here or elsewhere: by name, their "
        "scopes by slug, code, e-mail and key prefix, without ids. Exit code 0; 1: policies without a name of their own are "
        "left out, and named on stderr; 2: there is no such tenant."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        parser.add_argument("--json", action="store_true", help="as without it: the document is JSON")

    def handle(self, *args: Any, tenant: str, **options: Any) -> None:
        found = export(commands.tenant_by_slug(tenant, deleted=True))
        self.stdout.write(json.dumps(found.document, indent=2, ensure_ascii=False))
        for policy in found.left_out:
            self.say(f"Left out: {policy.policy_type} {policy.pk} {policy.name!r}")
        if found.left_out:
            text = (
                f"{len(found.left_out)} policies have no name of their own. Name them, so that they can be told apart."
            )
            raise CommandError(text, returncode=REFUSED)
