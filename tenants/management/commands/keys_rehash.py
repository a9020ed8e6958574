from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import command_actor
from tenants import commands
from tenants.models import APIKeySecret


class Command(commands.Command):
    help = (
        "Gives every digest of a key that has no pepper the newest of API_KEY_PEPPERS; no caller notices. "
        "Between two peppers nothing needs to be run: a secret changes over when it is next used."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--status", action="store_true", help="only count the live secrets per version of the pepper"
        )
        parser.add_argument("--json", action="store_true", help="the counts as one JSON object, for scripts")

    def handle(self, *args: Any, status: bool, **options: Any) -> None:
        changed = 0 if status else APIKeySecret.objects.rehash(actor=command_actor(self.name))
        versions = APIKeySecret.objects.versions()
        left = ", ".join(f"{count} of version {version}" for version, count in versions.items()) or "none"
        line = (
            f"Live secrets: {left}." if status else f"Gave {changed} digests the newest pepper. Live secrets: {left}."
        )
        self.report({"changed": changed, "versions": versions}, line, as_json=options["json"])
