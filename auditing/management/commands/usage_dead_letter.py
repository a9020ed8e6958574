from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.db import models

from auditing.context import audit_context, command_actor
from auditing.directory import directory
from auditing.models import DeadLetter
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN, add_page_arguments, page, uuid


class Command(commands.Command):
    help = "Shows the rows that a log refused, tries them again, or discards them once somebody has looked."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        shown = actions.add_parser("list", help="those that wait, the newest first, a page at a time")
        shown.add_argument("--all", action="store_true", help="those that were dealt with, too")
        shown.add_argument("--payload", action="store_true", help="with the row as it came, redacted")
        add_page_arguments(shown, "ID", uuid)
        discarded = actions.add_parser("discard", help="note that nothing will be done about those that wait")
        discarded.add_argument("id", nargs="*", type=uuid, help="these; none: all that the options choose")
        discarded.add_argument("--reason", required=True, help="why; kept in the audit log")
        discarded.add_argument("--dry-run", action="store_true", help="only count them")
        retried = actions.add_parser(
            "retry", help="write those that wait once more: what stood in their way may be gone"
        )
        retried.add_argument("id", nargs="*", type=uuid, help="these; none: all that the options choose")
        retried.add_argument("--dry-run", action="store_true", help="only count them")
        retried.add_argument("--json", action="store_true", help="the numbers as a JSON object, for scripts")
        for part in (shown, discarded, retried):
            part.add_argument("--tenant", metavar="SLUG", help="only those of this tenant")
            part.add_argument("--source", metavar="FILE", help="only those of this file or caller")
            part.add_argument("--code", help="only those refused for this, as negative or wrong_type")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        letters = chosen(options)
        if action == "list":
            self.show(letters if options["all"] else letters.waiting(), options)
            return
        if options["id"]:
            letters = letters.filter(pk__in=options["id"])
        elif not (options["tenant"] or options["source"] or options["code"]):
            raise CommandError(
                "Name the rows by their ids, or by --tenant, --source or --code.", returncode=COULD_NOT_RUN
            )
        if options["dry_run"]:
            what = "discarded" if action == "discard" else "tried again"
            self.stdout.write(f"{letters.waiting().count()} rows would be {what}.")
            return
        if action == "retry":
            self.retry(letters.waiting(), as_json=options["json"])
            return
        who = command_actor(self.name)
        with audit_context(actor=who):
            discarded = letters.discard(who.label, options["reason"])
        self.stdout.write(f"Discarded {discarded} rows.")

    def retry(self, letters: models.QuerySet[DeadLetter], *, as_json: bool) -> None:
        found = DeadLetter.objects.retry(letters.values_list("pk", flat=True), command_actor(self.name))
        numbers = {"inserted": found.inserted, "duplicates": found.duplicates, "rejected": found.rejected}
        line = f"{found.inserted} written, {found.duplicates} there already, {found.rejected} refused."
        self.report(numbers, f"Tried {found.read} rows again: {line}", as_json=as_json)
        if found.rejected:
            raise CommandError("Those refused wait with their reason: usage_dead_letter list shows them.")

    def show(self, letters: models.QuerySet[DeadLetter], options: dict[str, Any]) -> None:
        found, after = page(letters, "-id", options["after"], options["limit"])
        self.write_page([row(letter, options["payload"]) for letter in found], after, as_json=options["json"])


def chosen(options: dict[str, Any]) -> Any:
    letters = DeadLetter.objects.all()
    if options["tenant"]:
        letters = letters.filter(tenant_id=tenant_id(options["tenant"]))
    if options["source"]:
        letters = letters.filter(source=options["source"])
    return letters.filter(code=options["code"]) if options["code"] else letters


def tenant_id(slug: str) -> UUID:
    found = directory().find("tenant", slug)
    if found is None:
        raise CommandError(f"There is no tenant {slug!r}. tenant_list shows them.", returncode=COULD_NOT_RUN)
    return found


def row(letter: DeadLetter, payload: bool) -> dict[str, Any]:
    fields = {
        "source": letter.source,
        "line": letter.row_number,
        "code": letter.code,
        "message": letter.message,
        "state": letter.resolution or "waiting",
        "id": letter.pk,
    }
    return fields | ({"payload": bytes(letter.payload).decode("utf-8", "replace")} if payload else {})
