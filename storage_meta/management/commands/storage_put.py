from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN
from storage_meta.commands import Command as StorageCommand
from storage_meta.commands import add_bucket, add_json, add_tenant


def document(text: str) -> Any:
    """An argument: JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f"{text!r:.100} is no JSON: {error}") from None


def tag(text: str) -> tuple[str, str]:
    """An argument: NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r} is no tag: write it as NAME=VALUE")
    return name, value


class Command(StorageCommand):
    help = "Stores a file as a new version of a key, or in place of what is there, as the bucket's versioning says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", metavar="KEY", help="the key to store it under, as it is")
        parser.add_argument("file", metavar="FILE", help="its bytes; - for stdin")
        add_tenant(parser)
        add_bucket(parser)
        parser.add_argument("--content-type", metavar="TYPE", help="as text/plain")
        parser.add_argument("--metadata", type=document, metavar="JSON", help="a JSON object, which search finds")
        parser.add_argument("--tag", type=tag, action="append", metavar="NAME=VALUE", help="may come ten times")
        parser.add_argument("--storage-class", default="STANDARD", metavar="NAME", help="a label (STANDARD)")
        parser.add_argument("--part-size", type=int, metavar="BYTES", help="give it the etag of a multipart upload")
        parser.add_argument("--if-none-match", metavar="*", help="only where nothing is")
        parser.add_argument("--if-match", metavar="ETAG", help="only in place of this")
        parser.add_argument("--comment", default="", metavar="TEXT", help="what is to be said of this version")
        add_json(parser)

    def handle(self, *args: Any, key: str, file: str, tenant: str, bucket: str, **options: Any) -> None:
        with opened(file) as body:
            put = self.files(tenant, bucket).put_object(
                key,
                body,
                tags=dict(filter(None, options["tag"] or ())),  # argparse makes [] of --tag=--
                **{
                    name: options[name]
                    for name in (
                        *("content_type", "metadata", "storage_class", "part_size"),
                        *("if_none_match", "if_match", "comment"),
                    )
                },
            )
        row = {
            "key": key,
            "version_id": put.version_id,
            "size": put.size,
            "etag": put.etag,
            "checksum_sha256": put.checksum_sha256,
            "over_quota": put.over_quota,
        }
        warning = " The tenant is above its quota." if put.over_quota else ""
        line = f"Stored {put.size:,} bytes as version {put.version_id} of {key!r}.{warning}"
        self.report(row, line, as_json=options["json"])


def opened(file: str) -> AbstractContextManager[IO[bytes]]:
    """Raises CommandError for a file that cannot be read."""
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(file, "rb")
    except (OSError, ValueError) as error:
        raise CommandError(f"{file!r} cannot be read: {error}.", returncode=COULD_NOT_RUN) from error
