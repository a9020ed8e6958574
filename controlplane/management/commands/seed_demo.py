from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from controlplane.core import commands
from controlplane.core.ids import now
from controlplane.demo import seeding, settling, storing


class Command(commands.Command):
    help = (
        "Makes three organisations with apps, branches, users, keys and policies, a catalog of models and two weeks of "
        "traffic, summed up and sealed, and objects in buckets, so that no page is empty. Once: a second run changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--at",
            type=commands.instant,
            metavar="TIME",
            help="when the two weeks end, ISO 8601 with an offset (now); the same instant gives the same data",
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="delete the three organisations softly instead; seed_demo brings them back",
        )

    def handle(self, *args: Any, at: datetime | None, remove: bool, **options: Any) -> str:
        if remove:
            gone = seeding.remove()
            return f"Deleted {', '.join(gone)} (softly)." if gone else "There is no demo data."
        at = at or now()
        made = seeding.seed(at)
        if made.requests:
            storing.fill(at)
            settling.settle(at)
        if not made.done:
            return "The demo data is there already."
        if not made.requests:
            return "Restored the demo data."
        return f"Made {len(seeding.TENANTS)} organisations and {made.requests} requests."
