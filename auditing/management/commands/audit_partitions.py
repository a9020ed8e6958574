from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date, datetime
from typing import Any

from auditing.context import command_actor
from auditing.models import AuditLog
from controlplane.core import commands, partitions
from controlplane.core.conf import conf
from controlplane.core.ids import now


class Command(commands.Command):
    help = (
        "Makes the monthly partitions that the logs need: the present month, those ahead, and others by name. Says what "
        "it makes; what is there stays."
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
        present, made = now(), {}
        plans = {
            log: partitions.plan(partitions.existing_months(log), present, ahead, month)
            for log in partitions.registered()
        }
        for log, months in plans.items():
            if not dry_run:
                months = partitions.ensure(log, present, ahead, month, using=conf.DATABASE)
            made[log.table] = [f"{first:%Y-%m}" for first in months]
        if not dry_run and any(made.values()):
            AuditLog.objects.record("partitions.made", actor=command_actor(self.name), details=made)
        if options["json"]:
            self.write_json(made)
            return
        for table, names in made.items():
            verb = "would make" if dry_run else "made"
            self.stdout.write(f"{table}: {verb} {', '.join(names)}" if names else f"{table}: nothing to make")


def month(text: str) -> date:
    """An argument: YYYY-MM."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no month: write it as 2026-12") from None


def months_ahead(text: str) -> int:
    """An argument: a whole number from 0 to 24."""
    if not (text.isascii() and text.isdecimal() and int(text[:9]) <= 24):
        raise ArgumentTypeError(f"{text!r} is no number of months: a whole number from 0 to 24 is needed")
    return int(text)
