from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from policies.rebooking import rebook
from tenants import commands


class Command(commands.Command):
    help = (
        "Charges limits and budgets what calls are known to have used by now, where that was not known when they ended: "
        "after prices_rerate, for calls that had no price. Run again, it changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="calls of this tenant only")
        parser.add_argument("--json", action="store_true", help="the numbers as one JSON object, for scripts")

    def handle(self, *args: Any, tenant: str | None, **options: Any) -> None:
        done = rebook(commands.tenant_by_slug(tenant, deleted=True).pk if tenant is not None else None)
        self.report(
            {"looked": done.looked, "corrected": done.corrected},
            f"Looked at {done.looked} reservations that are estimated, and corrected {done.corrected}.",
            as_json=options["json"],
        )
