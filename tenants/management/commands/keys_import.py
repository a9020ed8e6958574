from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from controlplane.core.commands import REFUSED
from tenants import commands, keyimport

SHOWN = 20
"""Rows with a fault that are named; --json names all."""


class Command(commands.Command):
    help = (
        "Takes over the keys of another gateway by the SHA-256 of their tokens: callers go on with what they hold. Shows what "
        "it would make; --apply makes it, all or nothing. Again, it makes nothing twice. Exit code 0: done; 1: rows to mend."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="CSV with a head, or JSON lines if it ends in .jsonl or .ndjson")
        parser.add_argument(
            "--origin", required=True, help="where the keys come from, as litellm; kept with each secret"
        )
        parser.add_argument("--apply", action="store_true", help="make the keys; without it nothing is written")
        parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")

    def handle(self, *args: Any, file: Path, origin: str, apply: bool, **options: Any) -> None:
        plan = keyimport.plan(file, origin)
        made = 0
        if apply and not plan.faults:
            with audit_context(actor=command_actor(self.name)):
                made = plan.apply(by=self.by)
        if options["json"]:
            faults = [{"line": row.line, "name": row.name, "fault": row.fault} for row in plan.faults]
            self.write_json({"new": len(plan.new), "known": len(plan.known), "made": made, "faults": faults})
        else:
            self.tell(plan, made)
        if plan.faults:
            raise CommandError(f"{len(plan.faults)} rows to mend; nothing was imported.", returncode=REFUSED)

    def tell(self, plan: keyimport.Plan, made: int) -> None:
        for row in plan.faults[:SHOWN]:
            self.say(f"line {row.line}: {row.fault}")
        if len(plan.faults) > SHOWN:
            self.say(f"… and {len(plan.faults) - SHOWN} more; --json names all.")
        known = f" {len(plan.known)} are known already." if plan.known else ""
        if made or plan.faults:
            self.stdout.write(f"Imported {made} keys.{known}")
        else:
            hint = " Make them with --apply." if plan.new else ""
            self.stdout.write(f"{len(plan.new)} keys would be imported.{known}{hint}")
