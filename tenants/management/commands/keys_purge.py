from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from auditing.context import command_actor
from controlplane.core.commands import span
from tenants import commands
from tenants.models import APIKey


class Command(commands.Command):
    help = "Removes the secrets that ended long ago; the keys stay, with their history. Removed ones answer unknown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than", type=span, metavar="DURATION", help="ended longer ago than this (API_KEY_PURGE_AFTER: 90d)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, *args: Any, older_than: timedelta | None, dry_run: bool, **options: Any) -> str:
        if dry_run:
            return f"{APIKey.objects.purgeable(older_than).count()} secrets would be removed."
        removed = APIKey.objects.purge_expired(older_than, actor=command_actor(self.name))
        return f"Removed {removed} secrets."
