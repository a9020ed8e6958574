from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import Command as BaseCommand
from policies import limits


class Command(BaseCommand):
    help = (
        "Gives back what calls hold of limits that never ended, and removes counters of rate limits whose window is long "
        "past. Every process that decides about calls does this by itself, each 10 seconds."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="the numbers as one JSON object, for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        swept = limits.sweep()
        self.report(
            {"expired": swept.expired, "removed": swept.removed},
            f"Gave back {swept.expired} reservations, and removed {swept.removed} counters.",
            as_json=options["json"],
        )
