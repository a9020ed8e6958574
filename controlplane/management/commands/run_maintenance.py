from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from controlplane.core import commands
from controlplane.core.duties import Duty, registered
from controlplane.worker import Outcome, each_once, go_direct


class Command(commands.Command):
    help = (
        "Does each duty that is due once, to its end, and says what came of it: for cron, where no worker runs. "
        "Exit 1: one failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--only", metavar="NAME", help="only this duty, and at once, due or not")
        parser.add_argument(
            "--json", action="store_true", help="one JSON object, {duty: {outcome, error}}, for scripts"
        )

    def handle(self, *args: Any, only: str | None, json: bool, **options: Any) -> None:
        duties = _named(only) if only is not None else registered()
        go_direct()
        found = each_once(duties, due=only is not None)
        if json:
            self.write_json(
                {name: {"outcome": each.outcome.value, "error": each.error} for name, each in found.items()}
            )
        else:
            rows = [[name, each.outcome.value, each.error or "-"] for name, each in sorted(found.items())]
            self.stdout.write(commands.table(["duty", "outcome", "error"], rows))
        if failed := [name for name, each in found.items() if each.outcome is Outcome.FAILED]:
            raise CommandError(f"Not done: {', '.join(sorted(failed))}.", returncode=commands.REFUSED)


def _named(name: str) -> list[Duty]:
    found = [duty for duty in registered() if duty.name == name]
    if not found:
        known = ", ".join(sorted(duty.name for duty in registered())) or "none"
        raise CommandError(f"No duty has the name {name!r}: there are {known}.", returncode=commands.COULD_NOT_RUN)
    return found
