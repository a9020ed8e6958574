from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from storage_meta import commands


class Command(commands.Command):
    help = (
        "Deletes what a key holds, as its bucket's versioning says: a versioned one gets a delete marker, which storage_restore "
        "takes away. With a version that version alone, for good; one that is held stays. What is not there is no error."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", metavar="KEY", help="the key, as it is")
        commands.add_tenant(parser)
        commands.add_bucket(parser)
        parser.add_argument("--version-id", metavar="ID", help="remove this version, for good")
        parser.add_argument("--dry-run", action="store_true", help="only say what is there")
        commands.add_json(parser)

    def handle(self, *args: Any, key: str, tenant: str, bucket: str, version_id: str | None, **options: Any) -> None:
        files = self.files(tenant, bucket)
        if options["dry_run"]:
            found = files.head_object(key, version_id)
            row = {"bucket": bucket, "key": key, "version_id": version_id, "size": found.size, "etag": found.etag}
            self.report(row, f"Would delete {key} of {found.size:,} bytes.", as_json=options["json"])
            return
        done = files.delete_object(key, version_id)
        row = {"bucket": bucket, "key": key, "version_id": done.version_id}
        row |= {"delete_marker": done.delete_marker, "existed": done.existed}
        if not done.existed and not done.delete_marker:
            said = f"There was no {key}." if version_id is None else f"{key} had no version {version_id}."
        elif version_id is not None:
            said = f"Removed version {done.version_id} of {key}, for good."
        elif done.delete_marker:
            said = f"Deleted {key}: a delete marker, {done.version_id}, is on top of it."
        else:
            said = f"Deleted {key}."
        self.report(row, said, as_json=options["json"])
