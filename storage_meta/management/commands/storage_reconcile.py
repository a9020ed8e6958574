from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import REFUSED, Progress, span
from storage_meta.commands import Command as StorageCommand
from storage_meta.commands import add_json
from storage_meta.reconciling import DAY, SHA256, SIZE, Report, reconcile
from tenants.commands import tenant_by_slug


class Command(StorageCommand):
    help = (
        "Compares what lies in the storages with what is known of it, and lists orphans (bytes that nobody knows), missing "
        "ones (known, but not there), mismatched ones (with --verify) and heads unlike their version. Changes nothing; with "
        "--delete orphans are removed, never a row. May run at any time, beside uploads, and again. Exit code 0: all is in "
        "order, or was put in order; 1: something is left to see to; 2: it could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="of this tenant alone, a deleted one too")
        parser.add_argument(
            "--grace", type=span, default=DAY, metavar="SPAN", help="younger bytes are no orphans: 24h, 7d (1d)"
        )
        parser.add_argument("--delete", action="store_true", help="remove the orphans")
        parser.add_argument(
            "--verify", choices=[SIZE, SHA256], help="compare sizes too, or read every byte and compare its SHA-256"
        )
        add_json(parser)

    def handle(self, *args: Any, tenant: str | None, **options: Any) -> None:
        owner = None if tenant is None else tenant_by_slug(tenant, deleted=True)
        with Progress(self.stderr, "Comparing", 0) as progress:
            found = reconcile(
                owner, grace=options["grace"], delete=options["delete"], verify=options["verify"], progress=progress
            )
        if not options["json"]:
            for kind in KINDS:
                for name in getattr(found, kind):
                    self.stdout.write(f"{KINDS[kind]} {name}")
        row = {kind: getattr(found, kind) for kind in KINDS} | {
            "removed": found.removed,
            "blobs": found.blobs,
            "versions": found.versions,
        }
        self.report(row, closing(found), as_json=options["json"])
        if not found.clean:
            raise SystemExit(REFUSED)


KINDS = {"orphans": "orphan", "missing": "missing", "mismatched": "mismatched", "heads": "head"}


def closing(found: Report) -> str:
    counts = ", ".join(f"{len(getattr(found, kind)):,} {kind}" for kind in KINDS)
    removed = f" {found.removed:,} orphans were removed." if found.removed else ""
    left = "" if found.removed or not found.orphans else " Remove the orphans with --delete."
    restore = " Restore missing and mismatched bytes from a backup." if found.missing or found.mismatched else ""
    return f"{found.blobs:,} in the storages, {found.versions:,} known: {counts}.{removed}{left}{restore}"
