from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from auditing import partitioning
from auditing.context import command_actor
from controlplane.core import commands, partitions
from controlplane.core.ids import now


class Command(commands.Command):
    help = (
        "Makes the monthly partitions that the logs need: the present month, those ahead, and others by name. Says what "
        "it does; what is there stays, and what was interrupted is finished."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--ahead", type=months_ahead, default=partitions.AHEAD, metavar="N",
            help=f"months after the present one, 0 to 24 ({partitions.AHEAD})",
        )  # fmt: skip
        parser.add_argument(
            "--month", type=month, action="append", default=[], metavar="YYYY-MM", help="a further month, from 2020 on"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be made")
        parser.add_argument("--json", action="store_true", help="the months by log as one JSON object, for scripts")

    def handle(self, *args: Any, ahead: int, month: list[date], dry_run: bool, **options: Any) -> None:
        plans = partitioning.plans(now(), ahead, month)
        if not dry_run:
            partitioning.apply(plans, actor=command_actor(self.name))
        if options["json"]:
            self.write_json(partitioning.told(plans))
            return
        for log, steps in plans.items():
            told = [f"{f'would {step.says}' if dry_run else step.said} {step.month:%Y-%m}" for step in steps]
            self.stdout.write(f"{log.table}: {', '.join(told) or 'nothing to make'}")


def month(text: str) -> date:
    """An argument: YYYY-MM."""
    try:
        if len(text) != len("2026-12"):
            raise ValueError
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no month: write it as 2026-12") from None


def months_ahead(text: str) -> int:
    """An argument: a whole number from 0 to 24."""
    if not (text.isascii() and text.isdecimal() and int(text[:9]) <= 24):
        raise ArgumentTypeError(f"{text!r} is no number of months: a whole number from 0 to 24 is needed")
    return int(text)
