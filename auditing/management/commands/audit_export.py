from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from auditing.context import command_actor
from auditing.exporting import FORMATS, export
from auditing.management.commands.usage_dead_letter import tenant_id
from auditing.models import AuditSeal
from auditing.verifying import LOGS
from controlplane.core import commands
from controlplane.core.conf import conf
from controlplane.core.ids import PLATFORM


class Command(commands.Command):
    help = (
        "Writes the logs of a tenant into a folder, with all that proves them: leaves, seals, checkpoints, and verify_export.py, "
        "which checks the folder with Python alone, on any machine. The export is recorded before anything is written. Exit code "
        "0: written; 1: refused, as for a folder in use; 2: could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_scope_arguments(parser, required=True)
        parser.add_argument("--log", choices=LOGS, help="only this log")
        parser.add_argument("--format", choices=FORMATS, default="jsonl", help="of the rows: jsonl or csv (jsonl)")
        parser.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="folder that is empty, or not there yet"
        )
        parser.add_argument("--json", action="store_true", help="what was written as one JSON object, for scripts")

    def handle(self, *args: Any, tenant: str, out: Path, **options: Any) -> None:
        with commands.Progress(self.stderr, self.name, 0) as progress:
            done = export(
                tenant=tenant_of(tenant), start=options["start"], end=options["end"], out=out,
                logs=(options["log"],) if options["log"] else LOGS, rows_format=options["format"],
                actor=command_actor(self.name), progress=progress,
            )  # fmt: skip
        self.report(
            {"folder": str(out), **asdict(done)},
            f"Wrote {done.rows:,} rows and {done.seals:,} seals to {out}. Check them: python3 {out}/verify_export.py",
            as_json=options["json"],
        )


def add_scope_arguments(parser: ArgumentParser, *, required: bool) -> None:
    """--tenant, --from and --to."""
    parser.add_argument("--tenant", required=required, metavar="SLUG", help="of this tenant; platform: what is of none")
    parser.add_argument(
        "--from", required=required, type=commands.instant, dest="start", metavar="TIME", help="from here on"
    )
    parser.add_argument(
        "--to", required=required, type=commands.instant, dest="end", metavar="TIME", help="before this"
    )


def tenant_of(text: str) -> UUID:
    """The id of a tenant by its slug or id, of one that is gone too, if there are seals of it; `platform`, or the nil id: what
    belongs to none. Raises CommandError."""
    if text in ("platform", str(PLATFORM)):
        return PLATFORM
    try:
        id = UUID(text)
    except ValueError:
        return tenant_id(text)
    return id if AuditSeal.objects.using(conf.DATABASE).for_tenant(id).exists() else tenant_id(text)
