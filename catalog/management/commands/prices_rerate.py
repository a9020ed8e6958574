from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from auditing.context import command_actor
from auditing.directory import directory
from catalog.rating import Rerating, rerate
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN, Progress


class Command(commands.Command):
    help = (
        "Prices finished calls again, at the prices of their time, and shows what that makes of what is booked: after a price "
        "came late, or was wrong. With --apply the difference is booked as adjustments; the calls themselves never change. "
        "Interrupted, run it again; the same again books nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from", dest="start", type=commands.instant, required=True, metavar="TIME",
            help="calls from this time on, as 2026-12-01T00:00Z",
        )  # fmt: skip
        parser.add_argument(
            "--to", dest="end", type=commands.instant, required=True, metavar="TIME", help="calls before this time"
        )
        parser.add_argument("--model", help="only of this model: as the calls have it, or a name of it in the catalog")
        parser.add_argument("--provider", metavar="SLUG", help="only of this provider")
        parser.add_argument("--tenant", metavar="SLUG", help="only of this tenant")
        parser.add_argument(
            "--status", choices=("unpriced", "priced", "estimated"),
            help="only calls that are unpriced, or were stored as priced or estimated",
        )  # fmt: skip
        parser.add_argument("--reason", required=True, help="why; kept with each adjustment and in the audit log")
        parser.add_argument("--apply", action="store_true", help="book the differences; else nothing is written")
        parser.add_argument("--json", action="store_true", help="the figures as one JSON object, for scripts")

    def handle(self, *args: Any, start: datetime, end: datetime, json: bool, **options: Any) -> None:
        tenant = options["tenant"] and found(options["tenant"])
        with Progress(self.stderr, "re-rating", 0) as progress:
            result = rerate(
                start, end, model=options["model"], provider=options["provider"], tenant=tenant, status=options["status"],
                reason=options["reason"], apply=options["apply"], actor=command_actor(self.name), progress=progress,
            )  # fmt: skip
        rows = sums(result)
        if rows and not json:
            self.stdout.write(
                commands.table(list(rows[0]), [[commands.shown(cell) for cell in row.values()] for row in rows])
            )
        self.report(figures(result) | {"sums": rows}, sentence(result), as_json=json)


def found(slug: str) -> UUID:
    tenant = directory().find("tenant", slug)
    if tenant is None:
        raise CommandError(f"There is no tenant {slug}. Give its slug or id.", returncode=COULD_NOT_RUN)
    return tenant


def sums(result: Rerating) -> list[dict[str, Any]]:
    """What is booked and what is due by tenant and model, money as text."""
    names = directory().names("tenant", {tenant for tenant, _ in result.sums})
    groups = [(names.get(tenant, str(tenant)), model, one) for (tenant, model), one in result.sums.items()]
    return [
        {
            "tenant": tenant, "model": model, "requests": one.rows, "booked": f"{one.booked:f}", "cost": f"{one.cost:f}",
            "difference": f"{one.difference:+f}",
        }
        for tenant, model, one in sorted(groups, key=lambda group: group[:2])
    ]  # fmt: skip


def figures(result: Rerating) -> dict[str, Any]:
    counts = {name: getattr(result, name) for name in ("applied", "rows", "adjusted", "unchanged", "unknown")}
    return counts | {"difference": f"{result.difference:+f}"}


def sentence(result: Rerating) -> str:
    did = "were" if result.applied else "would be"
    text = (
        f"{result.adjusted:,} of {result.rows:,} requests {did} adjusted, by {result.difference:+f} US dollars in all; "
        f"{result.unchanged:,} are right, {result.unknown:,} have no price at their time or no usage."
    )
    return text if result.applied or not result.adjusted else f"{text} Nothing is written yet: add --apply."
