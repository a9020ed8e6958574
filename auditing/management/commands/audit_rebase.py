from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing import rebasing
from auditing.context import command_actor
from controlplane.core import commands


class Command(commands.Command):
    help = (
        "Numbers what is written from now on behind all that is there, once a dump was restored into another cluster, where "
        "transactions are numbered anew. Until then nothing is sealed or rolled up. Writers of the logs wait meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reason", required=True, help="why, as which dump was restored; kept in the audit log")
        parser.add_argument("--json", action="store_true", help="what was done as one JSON object, for scripts")

    def handle(self, *args: Any, reason: str, **options: Any) -> None:
        done = rebasing.rebase(reason=reason, by=command_actor(self.name))
        if options["json"]:
            self.write_json({"changed": done is not None, "offset": done and done.offset, "rows": done and done.rows})
        elif done is None:
            self.stdout.write(
                "Transactions are numbered as they were when the logs were read last: there is nothing to do."
            )
        elif done.offset == done.former:
            self.stdout.write("This is another cluster, which goes on with the numbers. Sealing and roll-ups go on.")
        else:
            self.stdout.write(
                f"What is written from now on is numbered {done.offset:,} higher, as are {done.rows:,} rows written since the "
                "restore. Sealing and roll-ups go on."
            )
