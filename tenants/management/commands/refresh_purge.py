from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import command_actor
from tenants import commands
from tenants.models import RefreshToken


class Command(commands.Command):
    help = "Removes the sessions past their absolute end, with all their refresh tokens. Removed ones answer unknown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> str:
        if dry_run:
            return f"{RefreshToken.objects.purgeable().count()} sessions would be removed."
        return f"Removed {RefreshToken.objects.purge_expired(actor=command_actor(self.name))} sessions."
