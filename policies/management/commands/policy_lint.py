from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from controlplane.core.commands import REFUSED
from policies.commands import changes_in
from policies.lint import lint
from policies.lint.findings import SEVERITIES
from tenants import commands


class Command(commands.Command):
    help = (
        "Lists what is odd about the policies of a tenant: contradictions, dead rules, traps; the gravest first. With a "
        "file: as if its changes were made; nothing is written. Exit code 0: no errors, perhaps warnings and notes; 1: "
        "errors, or the changes do not fit; 2: the file cannot be read."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", nargs="?", metavar="PATH", help="a document as for policy_apply, or a list of changes; - for stdin"
        )
        commands.add_tenant(parser)
        parser.add_argument("--json", action="store_true", help="one JSON array, for scripts")

    def handle(self, *args: Any, file: str | None, tenant: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant)
        findings = lint(owner, changes_in(owner, file) if file is not None else ())
        if options["json"]:
            self.write_json([one.as_record() for one in findings])
        else:
            for one in findings:
                self.stdout.write(f"{one.severity:<7}  {one.code}  {one.text}")
            counted = Counter(one.severity for one in findings)
            words = [f"{counted[each]} {each}{'' if counted[each] == 1 else 's'}" for each in SEVERITIES]
            self.stdout.write(f"{tenant}: {', '.join(words)}.")
        if any(one.severity == "error" for one in findings):
            raise SystemExit(REFUSED)
