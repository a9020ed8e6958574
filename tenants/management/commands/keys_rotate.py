from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from auditing.context import audit_context, command_actor
from controlplane.core.commands import span
from tenants import commands


class Command(commands.Command):
    help = (
        "Gives a key a new secret; its others end after the grace. The new token is printed once, alone, on stdout; "
        "all else goes to stderr."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "key", help="id of the key, or the first part of one of its tokens, as cpk_live_0123456789AB"
        )
        commands.add_tenant(parser)
        parser.add_argument(
            "--grace", type=span, default=timedelta(hours=24), metavar="DURATION",
            help="how long the old secrets still work: 0s to 7d (24h)",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="what goes to stderr as one JSON object")

    def handle(self, *args: Any, key: str, tenant: str, grace: timedelta, **options: Any) -> None:
        found = commands.key_by_name(commands.tenant_by_slug(tenant), key)
        with audit_context(actor=command_actor(self.name)):
            issued = found.rotate(grace=grace)
        told = {"id": str(found.pk), "prefix": issued.secret.prefix, "rotation": issued.key.rotation}
        self.say(
            json.dumps(told)
            if options["json"]
            else f"Rotated the key {found.name}; the old secrets end in {grace}. Its new token, shown this once:"
        )
        self.stdout.write(issued.token)
