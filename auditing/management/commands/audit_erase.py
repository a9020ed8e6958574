from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing import erasing
from auditing.context import command_actor
from auditing.management.commands.audit_retention import tenant_id
from controlplane.core import commands


class Command(commands.Command):
    help = (
        "Takes address, browser and name of an actor out of the audit log. Its id stays, and the rows still verify. What is in "
        "archives, exports and backups is not touched."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("actor", help="the actor's id, as the log has it: of a user or key, or a name")
        parser.add_argument("--tenant", metavar="SLUG", help="only in rows of this tenant")
        parser.add_argument("--reason", required=True, help="why; kept with the records")
        parser.add_argument("--dry-run", action="store_true", help="only count the rows")
        parser.add_argument("--json", action="store_true", help="the numbers as a JSON object, for scripts")

    def handle(self, *args: Any, actor: str, dry_run: bool, **options: Any) -> None:
        tenant = tenant_id(options["tenant"])
        if dry_run:
            rows = erasing.count(actor, tenant=tenant)
            self.report({"rows": rows}, f"{rows} rows would be erased.", as_json=options["json"])
            return
        found = erasing.erase(actor, tenant=tenant, reason=options["reason"], by=command_actor(self.name))
        line = f"Erased what is personal in {found.rows} rows of {actor}."
        self.report({"rows": found.rows, "records": found.records}, line, as_json=options["json"])
