from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from auditing import keeping, retention
from auditing.context import command_actor
from auditing.directory import directory
from auditing.models import RetentionRecord
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN, REFUSED, uuid
from controlplane.core.ids import now


class Command(commands.Command):
    help = (
        "Decides how long the logs are kept and removes the months whose time is over, or holds them. Requests are kept for 13 "
        "months, the audit log for 36; a hold beats every rule."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        rule = actions.add_parser("rule", help="keep a log for so many months")
        rule.add_argument("--months", type=months, required=True, metavar="N", help="1 to 1200")
        hold = actions.add_parser("hold", help="let nothing be removed or erased; prints the hold's id")
        release = actions.add_parser("release", help="end a hold")
        release.add_argument("hold", type=uuid, help="its id")
        plan = actions.add_parser("plan", help="what a run would remove, and what it would leave, and why")
        apply = actions.add_parser("apply", help="remove what is due; where that was interrupted, go on")
        apply.add_argument("--archive", type=Path, metavar="DIR", help="write the rows there first, as CSV in gzip")
        apply.add_argument("--dry-run", action="store_true", help="only say what would be removed")
        apply.add_argument("--reason", default="", help="why; kept with the records (their time is over)")
        for part in (rule, hold, release):
            part.add_argument("--reason", required=True, help="why; kept with the record")
        for part in (rule, hold, plan, apply):
            part.add_argument("--tenant", metavar="SLUG", help="of this tenant alone")
            part.add_argument("--log", choices=[*keeping.DEFAULTS], help="of this log alone")
        for part in (rule, hold, release, plan, apply):
            part.add_argument("--json", action="store_true", help="the outcome as a JSON object, for scripts")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        who, tenant, log = command_actor(self.name), tenant_id(options.get("tenant")), options.get("log")
        if action in ("plan", "apply"):
            self.months(action == "plan" or options["dry_run"], tenant, options)
            return
        if action == "release":
            record = retention.release(options["hold"], reason=options["reason"], by=who)
        elif action == "hold":
            record = retention.hold(log=log or "", tenant=tenant, reason=options["reason"], by=who)
        else:
            record = retention.rule(options["months"], log=log or "", tenant=tenant, reason=options["reason"], by=who)
        self.report(told(record), said(record, options.get("tenant")), as_json=options["json"])

    def months(self, dry: bool, tenant: UUID | None, options: dict[str, Any]) -> None:
        if dry:
            steps = retention.plan(now(), tenant=tenant, log=options["log"])
        else:
            steps = retention.apply(
                now(), tenant=tenant, log=options["log"], archive=options["archive"], reason=options["reason"],
                by=command_actor(self.name), told=self.say,
            )  # fmt: skip
        rows = [asdict(step) | {"month": f"{step.month:%Y-%m}"} for step in steps]
        if options["json"]:
            holds = [
                {"id": str(hold.id), "log": hold.log, "tenant_id": hold.tenant_id} for hold in keeping.terms().holds
            ]
            self.write_json({"steps": rows, "holds": holds, "dry_run": dry})
        else:
            self.write_page(rows, None, as_json=False)
            for hold in keeping.terms().holds:
                self.say(f"Held: {hold.log or 'every log'} of {hold.tenant_id or 'every tenant'} ({hold.id})")
        stay = [step for step in steps if step.verdict == "refused"]
        if stay:
            raise CommandError(f"{len(stay)} could not be removed: {stay[0].why}", returncode=REFUSED)


def months(text: str) -> int:
    """An argument: a whole number from 1 to 1200."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= keeping.LONGEST):
        raise ArgumentTypeError(
            f"{text!r} is no number of months: a whole number from 1 to {keeping.LONGEST} is needed"
        )
    return int(text)


def tenant_id(slug: str | None) -> UUID | None:
    if slug is None:
        return None
    found = directory().find("tenant", slug)
    if found is None:
        raise CommandError(f"There is no tenant {slug!r}. tenant_list shows them.", returncode=COULD_NOT_RUN)
    return found


def told(record: RetentionRecord) -> dict[str, Any]:
    tenant = None if record.all_tenants else str(record.tenant_id)
    return {"id": str(record.pk), "kind": record.kind, "log": record.log, "tenant_id": tenant, "months": record.months}


def said(record: RetentionRecord, tenant: str | None) -> str:
    of = f"{record.log or 'every log'} of {tenant or 'every tenant'}"
    if record.kind == "rule":
        return f"Keeps {of} for {record.months} months."
    if record.kind == "hold":
        return f"Holds {of}: {record.pk}"
    return f"Released {record.releases}."
