from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from catalog.checking import CODES, check_prices
from controlplane.core import commands
from controlplane.core.commands import REFUSED


class Command(commands.Command):
    help = (
        "Looks for what is odd about the prices in force: ten times off, per million typed as per token, gaps, ended "
        "without successor, aliases of models that are gone, deprecated models in use. Exit code 1 if there is any."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--at", type=commands.instant, metavar="TIME", help="prices in force then (now)")
        parser.add_argument("--only", action="append", choices=CODES, help="this finding; may be repeated (all)")
        parser.add_argument("--json", action="store_true", help='one JSON object, {"findings": […]}, for scripts')

    def handle(self, *args: Any, only: list[str] | None, **options: Any) -> None:
        found = [finding for finding in check_prices(options["at"]) if not only or finding.code in only]
        if options["json"]:
            self.write_json({"findings": [asdict(finding) for finding in found]})
        elif found:
            rows = [[finding.code, finding.key, finding.tenant or "-", finding.message] for finding in found]
            self.stdout.write(commands.table(["finding", "model", "tenant", "what"], rows))
        if found:
            kinds = ", ".join(f"{count} {code}" for code, count in Counter(finding.code for finding in found).items())
            raise CommandError(f"{len(found):,} findings: {kinds}.", returncode=REFUSED)
        if not options["json"]:
            self.stdout.write("Nothing is odd.")
