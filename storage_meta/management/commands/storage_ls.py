from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import page_size, shown
from storage_meta import commands, tokens
from storage_meta.models import StorageObject, StorageVersion


class Command(commands.Command):
    help = (
        "Lists the keys of a bucket in the order of their bytes: all that begin with PREFIX, or with --delimiter / as folders. "
        "With --versions all versions and delete markers, each key's newest first. A page at a time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "prefix", nargs="?", default="", metavar="PREFIX", help="keys that begin so; without it: all"
        )
        parser.add_argument(
            "--prefix", dest="prefix_too", metavar="PREFIX", help="the same, for one that begins with -"
        )
        commands.add_tenant(parser)
        commands.add_bucket(parser)
        parser.add_argument("--delimiter", default="", metavar="TEXT", help="fold keys at it into one line, as at /")
        parser.add_argument("--versions", action="store_true", help="versions and delete markers, not folded")
        parser.add_argument(
            "--max", type=page_size, default=1000, metavar="N", help="lines of a page, 1 to 1000 (1000)"
        )
        parser.add_argument(
            "--after", metavar="TOKEN", help="go on where the page before ended, which named this token"
        )
        commands.add_json(parser)

    def handle(self, *args: Any, tenant: str, bucket: str, prefix: str, **options: Any) -> None:
        files = self.files(tenant, bucket)
        prefix = prefix if options["prefix_too"] is None else options["prefix_too"]
        most, after = options["max"], options["after"]
        if options["versions"]:
            key, version_id = tokens.read(files, self.name, after, prefix=prefix) if after is not None else (None, None)
            found = files.list_object_versions(prefix, key, version_id, most)
            rows = [_version(one) for one in found.versions]
            last = [found.next_key_marker, found.next_version_id_marker]
            following = tokens.make(files, self.name, last, prefix=prefix) if found.is_truncated else None
        else:
            page = files.list_objects_v2(prefix, options["delimiter"], most, continuation_token=after)
            rows, following = [_entry(one) for one in page.entries], page.next_continuation_token
        if options["json"]:
            self.write_json({"rows": rows, "next": following})
            return
        for row in rows:
            self.stdout.write(_line(row))
        if not rows:
            self.say("There is none here." if following is None else "This page is empty.")
        if following is not None:
            self.say(f"There are more: go on with --after {following}")


def _entry(entry: StorageObject | str) -> dict[str, Any]:
    return {"prefix": entry} if isinstance(entry, str) else _content(entry.object_key, entry)


def _version(version: StorageVersion) -> dict[str, Any]:
    return {
        **_content(version.object.object_key, version),
        "version_id": version.version_id,
        "seq": version.seq,
        "is_latest": version.is_latest,
        "is_delete_marker": version.is_delete_marker,
    }


def _content(key: str, found: StorageObject | StorageVersion) -> dict[str, Any]:
    return {
        "key": key,
        "size": found.size,
        "last_modified": found.last_modified if isinstance(found, StorageObject) else found.created_at,
        "etag": found.etag,
        "content_type": found.content_type,
        "storage_class": found.storage_class,
    }


def _line(row: dict[str, Any]) -> str:
    """Time, bytes, version and key; the key comes last, as it may hold blanks."""
    if "prefix" in row:
        return f"{'-':<17}  {'-':>15}  {_printable(row['prefix'])}"
    size = "deleted" if row.get("is_delete_marker") else f"{row['size']:,}"
    version = f"  {row['version_id']:<32}" if "version_id" in row else ""
    return f"{shown(row['last_modified']):<17}  {size:>15}{version}  {_printable(row['key'])}"


def _printable(key: str) -> str:
    """A key may hold what a terminal obeys, or a line's end."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in key)
