from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict, fields
from typing import Any

from controlplane.core.commands import table
from storage_meta import commands
from storage_meta.statistics import Group

TITLES = {
    "total_objects": "objects",
    "total_size": "bytes of objects",
    "delete_markers": "keys under a delete marker",
    "total_versions": "versions",
    "version_bytes": "bytes of versions",
    "recent_audits_24h": "accesses of 24 hours",
    "recent_hooks_24h": "deliveries of 24 hours",
}


class Command(commands.Command):
    help = "Counts what a tenant or one of its buckets stores: by backend, class and content type, with versions and markers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        commands.add_bucket(parser, required=False, help="a bucket of the tenant; without it: all")
        commands.add_json(parser)

    def handle(self, *args: Any, tenant: str, bucket: str | None, json: bool, **options: Any) -> None:
        found = self.files(tenant, bucket).statistics()
        if json:
            self.write_json(asdict(found))
            return
        if found.groups:
            head = [field.name for field in fields(Group)]
            self.stdout.write(
                table(head, [[_cell(value) for value in asdict(group).values()] for group in found.groups])
            )
        for name, title in TITLES.items():
            self.stdout.write(f"{getattr(found, name):>21,}  {title}")


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else commands.printable(value) or "-"
