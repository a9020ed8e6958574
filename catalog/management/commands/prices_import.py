from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from catalog.commands import tenant_or_none
from catalog.errors import ImportRefused
from catalog.importing import Diff, bundled, describing, plan, read, read_bundled
from catalog.importing.applying import DEFAULT_SOURCE
from catalog.models import PriceImport
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN, REFUSED


class Command(commands.Command):
    help = (
        "Compares a price file (the JSON of LiteLLM) with the prices in force and, with --apply, takes it over: all or "
        "nothing. Entries with an error are left out and named. A price that a person entered stays. Exit code 0: all "
        "well; 1: entries with errors, or refused; 2: the file cannot be read."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", metavar="PATH-or-URL", help="the price file; a path needs no network")
        parser.add_argument("--bundled", action="store_true", help="the catalog that comes with the project, instead")
        parser.add_argument("--apply", action="store_true", help="write it; without this nothing is written")
        parser.add_argument(
            "--effective-from", type=commands.instant, metavar="TIME",
            help="from when the prices hold (now; those of --bundled from 2020 where there is no price at all)",
        )  # fmt: skip
        parser.add_argument(
            "--threshold",
            type=percent,
            default=Decimal(20),
            metavar="PERCENT",
            help="flag rates that move by more (20)",
        )
        parser.add_argument(
            "--allow-shrink", action="store_true", help="even if many models would go or lose their price"
        )
        parser.add_argument("--strict", action="store_true", help="refuse the whole file for one entry with an error")
        parser.add_argument(
            "--source", default="", metavar="NAME",
            help=f"whose file it is ({DEFAULT_SOURCE}); models that this source had before and has no more are unlisted",
        )  # fmt: skip
        parser.add_argument("--source-version", default="", metavar="TEXT", help="what the source calls this state")
        parser.add_argument(
            "--tenant", metavar="SLUG", help="the prices are this tenant's alone; models stay as they are"
        )
        parser.add_argument("--reason", default="", help="why; needed for prices that begin in the past")
        parser.add_argument("--json", action="store_true", help="the whole diff as one JSON object, for scripts")

    def handle(self, *args: Any, file: str | None, **options: Any) -> None:
        diff = self.planned(file, options)
        limits = {"allow_shrink": options["allow_shrink"], "strict": options["strict"]}
        applied = None
        try:
            if options["apply"]:
                diff, applied = self.applied(diff, options["reason"], limits)
            elif refusal := diff.refusal(None, **limits):
                raise refusal
        except ImportRefused as error:
            self.tell(diff, f"Nothing was written: {error.code}.", {"applied": False, "refused": error.code}, options)
            raise
        if applied:
            done = f"{diff.counts['prices']:,} prices hold from {commands.shown(applied.effective_from)}."
            self.tell(diff, done, {"applied": True, "import": applied.pk}, options)
        else:
            self.tell(diff, "Nothing was written: --apply writes it.", {"applied": False}, options)
        if errors := diff.counts["errors"]:
            raise CommandError(f"{errors:,} errors: their entries were left out.", returncode=REFUSED)

    def planned(self, file: str | None, options: dict[str, Any]) -> Diff:
        if options["bundled"] == bool(file):
            raise CommandError("Name a price file, or say --bundled.", returncode=COULD_NOT_RUN)
        try:
            parsed, version = read_bundled() if file is None else (read(file), "")
        except ImportRefused as error:
            code = COULD_NOT_RUN if error.code == "import_unreadable" else REFUSED
            raise CommandError(error.message, returncode=code) from error
        if file is None and options["effective_from"] is None and not options["tenant"]:
            options["effective_from"] = bundled.beginning()
            options["reason"] = options["reason"] or (bundled.why(version) if options["effective_from"] else "")
        return plan(
            parsed,
            source=options["source"] or (bundled.SOURCE if file is None else DEFAULT_SOURCE),
            source_version=options["source_version"] or version,
            tenant=tenant_or_none(options["tenant"]),
            effective_from=options["effective_from"],
            threshold=options["threshold"],
        )

    def applied(self, diff: Diff, reason: str, limits: dict[str, bool]) -> tuple[Diff, PriceImport]:
        """Nobody has read this diff, so one that another import made stale is made anew."""
        with (
            commands.Progress(self.stderr, diff.parsed.name, diff.rows()) as progress,
            audit_context(actor=command_actor(self.name)),
        ):
            try:
                return diff, diff.apply(None, reason=reason, progress=progress, **limits)
            except ImportRefused as error:
                if error.code != "import_stale":
                    raise
            diff = diff.again()
            return diff, diff.apply(None, reason=reason, progress=progress, **limits)

    def tell(self, diff: Diff, outcome: str, as_json: dict[str, Any], options: dict[str, Any]) -> None:
        """The diff: as one JSON object, or issues on stderr, changes and a closing sentence on stdout."""
        if options["json"]:
            self.write_json(as_json | diff.as_json())
            return
        for line in describing.issues(diff):
            self.say(line)
        for line in describing.changes(diff):
            self.stdout.write(line)
        self.stdout.write(f"{describing.summary(diff)} {outcome}")


def percent(text: str) -> Decimal:
    """An argument: a number of percent from 0 on."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not (found.is_finite() and 0 <= found < 10**6):
        raise ArgumentTypeError(f"{text!r} is no percentage: a number from 0 on is needed")
    return found
