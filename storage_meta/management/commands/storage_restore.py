from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from storage_meta import commands


class Command(commands.Command):
    help = (
        "Brings back what a key held: without a version the delete markers on top of it go; with one, that version's content "
        "becomes a new version. No bytes are moved."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", metavar="KEY", help="the key, as it is")
        commands.add_tenant(parser)
        commands.add_bucket(parser)
        parser.add_argument(
            "--version-id", metavar="ID", help="the version to bring back; else the newest that is none"
        )
        commands.add_json(parser)

    def handle(self, *args: Any, key: str, tenant: str, bucket: str, version_id: str | None, **options: Any) -> None:
        done = self.files(tenant, bucket).restore_object(key, version_id)
        row = {"bucket": bucket, "key": key, "version_id": done.version_id, "seq": done.seq}
        row |= {"size": done.size, "etag": done.etag}
        said = f"Restored {key}: version {done.version_id}, {done.size:,} bytes."
        self.report(row, said, as_json=options["json"])
