from __future__ import annotations

from argparse import ArgumentParser
from datetime import date
from typing import Any
from uuid import UUID

from auditing import months
from auditing.context import command_actor
from auditing.management.commands.audit_partitions import month
from auditing.management.commands.usage_dead_letter import tenant_id
from auditing.models import UsageSummary
from auditing.summaries import Counts, Month, MonthlySummary
from controlplane.core import commands
from controlplane.core.figures import plain


class Command(commands.Command):
    help = (
        "Shows the usage of a tenant's months, in its time zone, closes months and reopens them. What comes for a closed month "
        "is booked when it comes; its sums are sealed and do not change."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listed = actions.add_parser("list", help="all months, the newest first")
        shown = actions.add_parser("show", help="one month by app, branch, key, user and model")
        closed = actions.add_parser("close", help="close a month that has been over for three days")
        reopened = actions.add_parser("reopen", help="open a closed month again")
        for part in (listed, shown, closed, reopened):
            part.add_argument("tenant", metavar="TENANT", help="slug of the tenant")
            if part is not listed:
                part.add_argument("month", type=month, metavar="YYYY-MM", help="the month")
            part.add_argument("--json", action="store_true", help="as one JSON object, for scripts")
        closed.add_argument("--accept-unpriced", action="store_true", help="although requests in it have no cost")
        closed.add_argument("--reason", default="", help="why, if there is more to say; kept in the audit log")
        reopened.add_argument("--reason", required=True, help="why; kept in the audit log")

    def handle(self, *args: Any, action: str, tenant: str, **options: Any) -> None:
        getattr(self, action)(tenant_id(tenant), **{name: options[name] for name in _TAKEN[action]})

    def list(self, tenant: UUID, json: bool) -> None:
        self.write_page([_row(found) for found in UsageSummary.objects.months(tenant)], None, as_json=json)

    def show(self, tenant: UUID, month: date, json: bool) -> None:
        found = UsageSummary.objects.monthly(tenant, month.year, month.month)
        if json:
            self.write_json({**_row(found), "rows": [_json(row) for row in found.rows]})
            return
        self.say(_sentence(found))
        self.write_page([_json(row) for row in found.rows], None, as_json=False)

    def close(self, tenant: UUID, month: date, accept_unpriced: bool, reason: str, json: bool) -> None:
        seal = months.close(
            tenant, month.year, month.month,
            by=command_actor(self.name), reason=reason, accept_unpriced=accept_unpriced,
        )  # fmt: skip
        self.report(
            {
                "month": f"{month:%Y-%m}",
                "seq": seal.seq,
                "rows": seal.n,
                "root": seal.root.hex(),
                "hash": seal.hash.hex(),
            },
            f"Closed {month:%Y-%m}: {seal.n:,} sums are sealed under {seal.root.hex()}.",
            as_json=json,
        )

    def reopen(self, tenant: UUID, month: date, reason: str, json: bool) -> None:
        seal = months.reopen(tenant, month.year, month.month, by=command_actor(self.name), reason=reason)
        self.report(
            {"month": f"{month:%Y-%m}", "seq": seal.seq, "hash": seal.hash.hex()},
            f"Reopened {month:%Y-%m}. Close it again once it is right.",
            as_json=json,
        )


_TAKEN = {
    "list": ("json",),
    "show": ("month", "json"),
    "close": ("month", "accept_unpriced", "reason", "json"),
    "reopen": ("month", "reason", "json"),
}


def _row(found: Month) -> dict[str, Any]:
    return {
        "month": f"{found.month:%Y-%m}",
        "state": "closed" if found.closed_at else "open",
        **_figures(found.totals),
        "closed_at": found.closed_at,
    }


def _json(row: Any) -> dict[str, Any]:
    subjects = {
        name: getattr(row, name) for name in ("app_id", "branch_id", "api_key_id", "user_id", "provider", "model")
    }
    return {name: None if value is None else str(value) for name, value in subjects.items()} | _figures(row.counts)


def _figures(counts: Counts) -> dict[str, Any]:
    names = ("requests", "completed", "failed", "prompt_tokens", "completion_tokens", "unpriced", "adjustments")
    return {name: getattr(counts, name) for name in names} | {"cost": f"{counts.cost:f}"}


def _sentence(found: MonthlySummary) -> str:
    state = f"closed at {found.closed_at:%Y-%m-%d %H:%M} UTC" if found.closed_at else "open"
    totals = found.totals
    return f"{found.month:%Y-%m} is {state}: {plain(totals.requests)} requests, {totals.cost:f} US dollars."
