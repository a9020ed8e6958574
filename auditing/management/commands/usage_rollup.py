from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing import rollups
from controlplane.core import commands
from controlplane.core.ids import now


class Command(commands.Command):
    help = "Rolls up the requests that transactions which are over have written, until none waits. The worker does it every 5 s."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="one run of about 200,000 requests")
        parser.add_argument("--json", action="store_true", help="a JSON object, {runs, more}, for scripts")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        runs, more = 1, rollups.run(now())
        while more and not once:
            runs, more = runs + 1, rollups.run(now())
        line = (
            f"Rolled up in {runs} runs; more requests wait." if more else f"All requests are rolled up, in {runs} runs."
        )
        self.report({"runs": runs, "more": more}, line, as_json=options["json"])
