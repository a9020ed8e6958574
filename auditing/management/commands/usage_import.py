from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from auditing import importing
from auditing.context import audit_context, command_actor
from auditing.directory import directory
from auditing.errors import InvalidImport
from auditing.ingest import IngestResult, examine, ingest
from auditing.models import AuditLog
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN, REFUSED
from controlplane.core.conf import conf

SHOWN = 20
"""Refused rows that are named on stderr; all of them are kept aside."""


class Command(commands.Command):
    help = (
        "Imports finished calls from CSV or JSON lines files: known columns, Azure's public traces, or any others by a "
        "mapping. Running it again imports nothing twice. Rows that cannot be right are kept aside with their line and "
        "the reason, the others are imported. Exit code 0: all in; 1: some kept aside; 2: could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="+", type=Path, help="CSV, or JSON lines if it ends in .jsonl or .ndjson")
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="whose calls these are")
        parser.add_argument("--app", required=True, metavar="SLUG", help="app of the tenant that made them")
        parser.add_argument(
            "--model", type=canonical_id, metavar="PROVIDER/NAME", help="model they called, unless the file says it"
        )
        parser.add_argument("--map", type=Path, metavar="FILE", help="JSON that says which field fills which column")
        parser.add_argument(
            "--set", type=pair, action="append", default=[], metavar="COLUMN=VALUE",
            help="the same value for every row; may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--shift", type=commands.duration, default=timedelta(0), metavar="DURATION",
            help="move every call in time, as 52w or, back, --shift=-3d",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only look at the rows; nothing is written")
        parser.add_argument("--json", action="store_true", help="the figures as one JSON object, for scripts")

    def handle(self, *args: Any, file: list[Path], **options: Any) -> None:
        try:
            files = self.opened(file, options)
        except InvalidImport as error:
            raise CommandError(error.message, returncode=COULD_NOT_RUN) from error
        results = []
        for usage in files:
            result = self.read(usage, options["dry_run"])
            line = self.tell(usage.path.name, result, options["dry_run"])
            results.append((usage, result))
            if not options["json"]:
                self.stdout.write(line)
        if options["json"]:
            self.write_json({"dry_run": options["dry_run"], "files": [record(*result) for result in results]})
        rejected = sum(result.rejected for _, result in results)
        if rejected:
            kept = "" if options["dry_run"] else " and kept aside: usage_dead_letter list shows them"
            raise CommandError(f"{rejected:,} rows were refused{kept}.", returncode=REFUSED)

    def opened(self, paths: list[Path], options: dict[str, Any]) -> list[importing.UsageFile]:
        """All files, looked at before a row of the first is written. Raises InvalidImport."""
        constants = subjects(options["tenant"], options["app"]) | importing.read_constants(dict(options["set"]))
        if options["model"]:
            constants |= {"provider": options["model"].partition("/")[0], "model": options["model"]}
        mapping = importing.read_mapping(options["map"]) if options["map"] else None
        return [importing.open_usage(path, mapping, constants=constants, shift=options["shift"]) for path in paths]

    def read(self, usage: importing.UsageFile, dry_run: bool) -> IngestResult:
        name, tenant = usage.path.name, usage.constants["tenant_id"]
        if usage.unused:
            self.say(f"{name}: not read: {', '.join(usage.unused)}"[:500])
        with commands.Progress(self.stderr, name, usage.lines) as progress:
            if dry_run:
                result = examine(usage.rows(), historical=True, progress=progress)
            else:
                result = ingest(
                    usage.rows(), source="import", origin=name, historical=True, progress=progress, tenant_id=tenant,
                    using=conf.DATABASE,
                )  # fmt: skip
        if not dry_run:
            details = {"file": name, "sha256": usage.digest, **counts(result)}
            with audit_context(actor=command_actor(self.name)):
                AuditLog.objects.record("usage.imported", tenant=tenant, app=usage.constants["app_id"], details=details)
        return result

    def tell(self, name: str, result: IngestResult, dry_run: bool) -> str:
        """Name the refused rows on stderr; returns the closing sentence."""
        for refused in result.rejections[:SHOWN]:
            self.say(f"{name}, line {refused.row}: {refused.code}: {refused.message}")
        if result.rejected > SHOWN:
            self.say(f"{name}: and {result.rejected - SHOWN:,} more")
        done = f"{result.inserted:,} to import" if dry_run else f"{result.inserted:,} imported"
        known = "" if dry_run else f", {result.duplicates:,} known already"
        return f"{name}: {result.read:,} rows: {done}{known}, {result.rejected:,} refused"


def subjects(tenant: str, app: str) -> dict[str, Any]:
    """tenant_id and app_id of the slugs. Raises InvalidImport."""
    tenant_id = directory().find("tenant", tenant)
    if tenant_id is None:
        raise InvalidImport(message=f"There is no tenant {tenant!r}. tenant_list shows them.")
    app_id = directory().find("app", app, tenant_id)
    if app_id is None:
        raise InvalidImport(message=f"The tenant {tenant} has no app {app!r}. app_list --tenant {tenant} shows them.")
    return {"tenant_id": tenant_id, "app_id": app_id}


def counts(result: IngestResult) -> dict[str, int]:
    return {
        "read": result.read,
        "inserted": result.inserted,
        "duplicates": result.duplicates,
        "rejected": result.rejected,
    }


def record(usage: importing.UsageFile, result: IngestResult) -> dict[str, Any]:
    refused = [asdict(refused) for refused in result.rejections]
    return {"file": str(usage.path), "sha256": usage.digest, **counts(result), "rejections": refused}


def canonical_id(text: str) -> str:
    """An argument: provider/name."""
    provider, slash, name = text.partition("/")
    if not (provider and slash and name):
        raise ArgumentTypeError(f"{text!r} is no model: write provider/name, as openai/gpt-4")
    return text


def pair(text: str) -> tuple[str, str]:
    """An argument: column=value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r} has no =: write column=value, as status=completed")
    return name, value
