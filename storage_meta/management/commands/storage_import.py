from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN, REFUSED, Progress
from storage_meta.commands import Command as StorageCommand
from storage_meta.commands import add_bucket, add_json, add_tenant
from storage_meta.errors import InvalidArgument
from storage_meta.importing import entries, import_tree


def threads(text: str) -> int:
    """An argument: a whole number from 1 to 64."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 64):
        raise ArgumentTypeError(f"{text!r} is no number of threads: a whole number from 1 to 64 is needed")
    return int(text)


class Command(StorageCommand):
    help = (
        "Stores every file of a tree under its path there, with / between names. What lies there already, with equal size "
        "and SHA-256, is skipped: run it again to go on, or to bring the bucket up to date. Files that cannot be stored are "
        "listed, links among them, and the rest goes on. Exit code 0: all are there; 1: some were left out; 2: it could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", metavar="PATH", help="a folder, or one file")
        add_tenant(parser)
        add_bucket(parser)
        parser.add_argument(
            "--prefix", default="", metavar="TEXT", help="put before each path as it is, as in reports/"
        )
        parser.add_argument("--workers", type=threads, default=4, metavar="NUMBER", help="threads, 1 to 64 (4)")
        add_json(parser)

    def handle(self, *args: Any, path: str, tenant: str, bucket: str, **options: Any) -> None:
        files = self.files(tenant, bucket)
        try:
            total = sum(1 for _ in entries(path))
        except InvalidArgument as error:
            raise CommandError(error.message, returncode=COULD_NOT_RUN) from error
        with Progress(self.stderr, "Importing", total) as progress:
            done = import_tree(files, path, prefix=options["prefix"], workers=options["workers"], progress=progress)
        for name, why in done.failed:
            self.say(f"{name}: {why}")
        row = {"stored": done.stored, "skipped": done.skipped, "bytes": done.size, "failed": done.failed}
        line = f"{done.stored:,} stored ({done.size:,} bytes), {done.skipped:,} there already, {len(done.failed):,} left out."
        self.report(row, line, as_json=options["json"])
        if done.failed:
            raise SystemExit(REFUSED)
