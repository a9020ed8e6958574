from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from controlplane.devdb import server
from controlplane.devdb.errors import DevdbError


class Command(BaseCommand):
    help = (
        "Shows, stops or resets the embedded PostgreSQL of this checkout. It starts by itself when a command needs it "
        "and stays up until it is stopped here."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "action",
            choices=("status", "stop", "reset"),
            help="status: whether it runs, and where its data, socket and log are; stop: stop it, the data stays; "
            "reset: stop it and delete all its data",
        )
        parser.add_argument("--json", action="store_true", help="status as one JSON object, for scripts")
        parser.add_argument("--noinput", action="store_false", dest="interactive", help="reset without asking")

    def handle(self, *args: Any, action: str, **options: Any) -> str | None:
        database = settings.DATABASES["default"]
        if database["ENGINE"] != "controlplane.devdb":
            raise CommandError(
                "This project uses the database in DATABASE_URL and no embedded one: unset DATABASE_URL to use that.",
                returncode=2,
            )
        folder = database["DEVDB_DIR"]
        try:
            if action == "status":
                return describe(server.status(folder), as_json=options["json"])
            if action == "stop":
                return (
                    "Stopped the embedded PostgreSQL."
                    if server.stop(folder)
                    else "The embedded PostgreSQL does not run."
                )
            return self.reset(folder, options["interactive"])
        except DevdbError as error:
            raise CommandError(str(error), returncode=2) from error

    def reset(self, folder: str, interactive: bool) -> str:
        data = server.status(folder).data
        if interactive and not confirmed(f"Delete the whole embedded database in {data}? Type 'yes' to do so: "):
            raise CommandError("Nothing was deleted: confirm with 'yes', or pass --noinput.")
        if not server.reset(folder):
            return f"There is no database in {data}."
        return f"Deleted the database in {data}; the next command that needs one makes a new one."


def confirmed(question: str) -> bool:
    try:
        return input(question) == "yes"
    except EOFError:
        return False


def describe(status: server.Status, *, as_json: bool) -> str:
    """Status as one JSON object, or as one aligned line per field, those without a value left out."""
    fields = dataclasses.asdict(status)
    if as_json:
        return json.dumps(fields)
    return "\n".join(f"{name:<8} {value}" for name, value in fields.items() if value is not None)
