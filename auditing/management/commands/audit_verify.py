from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from auditing import verified
from auditing.context import audit_context, command_actor
from auditing.errors import InvalidAnchor
from auditing.management.commands.audit_export import add_scope_arguments, tenant_of
from auditing.verifying import LIMITS, LOGS, Finding, Report, verify
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN, REFUSED


class Command(commands.Command):
    help = (
        "Verifies that the logs are what was sealed: chains, checkpoints, rows, retired and closed months, guards. Each finding "
        "names the log, the tenant, the month, and the row or seal. Without an anchor kept elsewhere, the owner of the database "
        "can rebuild everything. Exit code 0: nothing was found; 1: findings; 2: could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_scope_arguments(parser, required=False)
        parser.add_argument("--log", choices=LOGS, help="only this log")
        parser.add_argument("--anchors", type=Path, metavar="FILE", help="signed notes that were kept elsewhere")
        parser.add_argument("--json", action="store_true", help="findings and states as one JSON object, for scripts")

    def handle(self, *args: Any, tenant: str | None, log: str | None, **options: Any) -> None:
        scope = {"tenant": tenant_of(tenant) if tenant else None, "start": options["start"], "end": options["end"]}
        with commands.Progress(self.stderr, self.name, 0) as progress:
            try:
                report = verify(log=log, anchors=options["anchors"], progress=progress, **scope)
            except InvalidAnchor as error:  # 1 would say that something was found
                raise CommandError(error.message, returncode=COULD_NOT_RUN) from error
        with audit_context(actor=command_actor(self.name)):
            verified.note(report, log=log or "", **scope)
        if options["json"]:
            self.write_json(as_row(report))
        else:
            self.tell(report)
        if not report.anchors:
            self.say(LIMITS)
        if report.findings:
            raise CommandError(f"{len(report.findings) + report.more:,} findings.", returncode=REFUSED)

    def tell(self, report: Report) -> None:
        for finding in report.findings:
            self.stdout.write(line(finding))
        if report.more:
            self.stdout.write(f"and {report.more:,} more")
        for (log, state), months in sorted(
            Counter((place[0], state) for place, state in report.states.items()).items()
        ):
            self.stdout.write(f"{log}: {months:,} months of tenants {state}")
        anchors = f", {report.anchors:,} anchors" if report.anchors else ""
        self.stdout.write(f"Read {report.rows:,} rows and {report.seals:,} seals{anchors}.")


def line(finding: Finding) -> str:
    where = [finding.log, str(finding.tenant_id or ""), f"{finding.month:%Y-%m}" if finding.month else ""]
    where.append("" if finding.seq is None else f"seal {finding.seq}")
    if finding.id_from and finding.id_from != finding.id_to:
        where.append(f"ids {finding.id_from} to {finding.id_to or 'the end'}")
    return f"{finding.kind}: {' '.join(filter(None, where))}: {finding.message}"


def as_row(report: Report) -> dict[str, Any]:
    states = [
        {"log": log, "tenant_id": tenant_id, "month": month, "state": state}
        for (log, tenant_id, month), state in report.states.items()
    ]
    return {
        "rows": report.rows, "seals": report.seals, "anchors": report.anchors, "more": report.more,
        "findings": [asdict(finding) for finding in report.findings], "states": states,
    }  # fmt: skip
