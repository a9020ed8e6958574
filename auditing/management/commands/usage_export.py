from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from auditing import exporting_usage
from auditing.context import command_actor
from auditing.exporting_usage import FORMATS, UsageExport
from auditing.management.commands.usage_dead_letter import tenant_id
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN

GROUPS = ("app", "branch", "user", "api_key", "provider", "model", "hour", "day", "month")


class Command(commands.Command):
    help = (
        "Writes the usage of a tenant to a file: totals by group, each request, or charges by day in the columns of FOCUS, which "
        "cost tools read. The file is there once it is whole; on stdout the last line says so."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="whose usage")
        parser.add_argument(
            "--from", required=True, type=commands.instant, dest="start", metavar="TIME", help="from here on"
        )
        parser.add_argument(
            "--to", required=True, type=commands.instant, dest="end", metavar="TIME", help="before this"
        )
        parser.add_argument("--raw", action="store_true", help="each request, with all its columns, instead of totals")
        parser.add_argument(
            "--by", type=groups, default=("model",), metavar="GROUP[,GROUP]",
            help=f"what totals are by: {', '.join(GROUPS)} (model)",
        )  # fmt: skip
        parser.add_argument("--format", choices=FORMATS, default="csv", help="csv, jsonl or focus (csv)")
        parser.add_argument("--out", type=Path, metavar="FILE", help="write this file; a file of that name is replaced")
        parser.add_argument("--json", action="store_true", help="with --out: what was written as one JSON object")

    def handle(self, *args: Any, tenant: str, out: Path | None, **options: Any) -> None:
        export = UsageExport(
            tenant_id=tenant_id(tenant), **{name: options[name] for name in ("start", "end", "format", "by", "raw")}
        )
        who = command_actor(self.name)
        with commands.Progress(self.stderr, self.name, 0) as progress:
            if out is None:
                self.print(export, who, progress)
                return
            done = exporting_usage.write_file(export, out, by=who, progress=progress)
        row = {"file": str(out), "rows": done.rows}
        self.report(row, f"Wrote {done.rows:,} rows to {out}.", as_json=options["json"])

    def print(self, export: UsageExport, who: object, progress: commands.Progress) -> None:
        try:
            exporting_usage.write(export, _Stdout(self.stdout), by=who, progress=progress)
        except BrokenPipeError as error:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # or Python complains when it flushes at its end
            raise CommandError(
                "Who reads the export went away: what it has is cut.", returncode=COULD_NOT_RUN
            ) from error


class _Stdout:
    """Django's stdout, which would end each text with a line."""

    def __init__(self, out: Any) -> None:
        self._out = out

    def write(self, text: str) -> None:
        self._out.write(text, ending="")

    def flush(self) -> None:
        self._out.flush()


def groups(text: str) -> tuple[str, ...]:
    """An argument: names of groups, each once."""
    names = tuple(text.split(","))
    if set(names) - set(GROUPS) or len(set(names)) < len(names):
        raise ArgumentTypeError(f"{text!r} is no list of groups: choose from {', '.join(GROUPS)}")
    return names
