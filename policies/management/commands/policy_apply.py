from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from controlplane.core.commands import COULD_NOT_RUN, REFUSED
from policies.applying import Plan, plan, read
from policies.commands import lines_of
from policies.errors import PolicyError
from tenants import commands


class Command(commands.Command):
    help = (
        "Compares a document of policies, as policy_export writes it, with those of a tenant, by name, and shows what it "
        "would change; with --apply it is written, all or nothing. A policy that the document does not name stays as it "
        "is, or is disabled with --prune; none is ever deleted. Exit code 0: done, or could be; 1: something does not fit, "
        "or was changed meanwhile: nothing is written; 2: the document cannot be read."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="PATH", help="the document; - for stdin")
        commands.add_tenant(parser)
        parser.add_argument("--apply", action="store_true", help="write it; without this nothing is written")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="disable the policies that the document does not name, unnamed ones too",
        )
        parser.add_argument(
            "--epoch",
            type=int,
            metavar="NUMBER",
            help="only if nothing was changed since the run that showed this epoch",
        )
        commands.add_reason(parser, required=False)
        parser.add_argument("--json", action="store_true", help="the whole plan as one JSON object, for scripts")

    def handle(self, *args: Any, file: str, tenant: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant)
        planned = plan(owner, self.document(file), prune=options["prune"])
        outcome = {"applied": False, "refused_as": None}
        try:
            if options["epoch"] not in (None, planned.epoch):
                raise PolicyError("plan_stale", http_status=409)
            if options["apply"]:
                with audit_context(actor=command_actor(self.name)):
                    planned.apply(options["reason"])
                outcome["applied"] = True
            elif planned.refused:
                raise PolicyError("plan_refused")
        except PolicyError as error:
            self.tell(planned, outcome | {"refused_as": error.code}, as_json=options["json"])
            raise CommandError(error.message, returncode=REFUSED) from error
        self.tell(planned, outcome, as_json=options["json"])

    def document(self, file: str) -> Any:
        try:
            return read(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise CommandError(f"The document {file!r} cannot be read: {error}.", returncode=COULD_NOT_RUN) from error
        except PolicyError as error:
            raise CommandError(error.message, returncode=COULD_NOT_RUN) from error

    def tell(self, planned: Plan, outcome: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.write_json(outcome | planned.as_record())
            return
        for fault in planned.refused:
            self.say(f"{fault.path}{f' ({fault.name})' if fault.name else ''}: {fault.text} [{fault.code}]")
        for one in planned.changes:
            self.stdout.write(f"{one.op:<8} {one.policy.name or one.policy.pk}")
            for line in lines_of(one.changes):
                self.stdout.write(line)
        ops = [one.op for one in planned.changes]
        counts = ", ".join(f"{ops.count(op)} to {op}" for op in ("create", "update", "disable"))
        closing = "Written." if outcome["applied"] and ops else "Nothing was written."
        if ops and not outcome["applied"] and not outcome["refused_as"]:
            closing = f"Nothing was written: --apply --epoch {planned.epoch} writes it, if nothing changes till then."
        self.stdout.write(f"{counts}, {planned.unchanged} as they are. {closing}")
