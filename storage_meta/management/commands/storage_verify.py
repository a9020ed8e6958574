from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from controlplane.core.commands import REFUSED
from storage_meta import commands
from storage_meta.verifying import verify


class Command(commands.Command):
    help = (
        "Tries whether storage works here: extensions, locale and partitions of the database, and every operation once in a "
        "throw-away bucket of a tenant that is taken back. It leaves nothing behind. Exit code 0: all of it works; 1: something "
        "does not; 2: could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--storage", default="", metavar="ALIAS", help="alias in STORAGES to try (STORAGE_ALIAS)")
        commands.add_json(parser)

    def handle(self, *args: Any, storage: str, **options: Any) -> None:
        found = verify(storage)
        wrong = [one for one in found if not one.passed]
        if options["json"]:
            self.write_json([asdict(one) | {"passed": one.passed} for one in found])
        else:
            for one in found:
                self.stdout.write(f"{'ok' if one.passed else 'FAILED':<7} {one.name}{one.said and f': {one.said}'}")
        if wrong:
            raise CommandError(f"{len(wrong)} of {len(found)} do not work.", returncode=REFUSED)
        if not options["json"]:
            self.stdout.write(f"All {len(found)} work.")
