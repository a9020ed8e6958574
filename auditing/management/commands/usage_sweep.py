from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing import sweeping
from controlplane.core import commands
from controlplane.core.ids import now


class Command(commands.Command):
    help = (
        "Records the calls that nobody ended before their deadline as lost, at their estimated cost or unpriced. The worker "
        "does it every 10 s."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count them")
        parser.add_argument("--json", action="store_true", help="the number as a JSON object, for scripts")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        found = sweeping.overdue(now()) if dry_run else sweeping.sweep(now())
        line = f"{found} calls are overdue." if dry_run else f"Recorded {found} calls as lost."
        self.report({"overdue" if dry_run else "lost": found}, line, as_json=options["json"])
