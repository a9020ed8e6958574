from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any
from uuid import UUID

from controlplane.core.commands import add_page_arguments, instant, page, uuid
from policies.models import LimitBucket
from tenants import commands


class Command(commands.Command):
    help = (
        "Lists the counters of a tenant whose window is open: what is spent, held by calls that run, and left of the limit "
        "of the last call. An owner is a part of the tenant, as user:<id>."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        parser.add_argument("--kind", choices=LimitBucket.Kind.values, help="budgets, or rate limits, only")
        parser.add_argument("--held", action="store_true", help="only those of which calls hold something")
        parser.add_argument(
            "--at", type=instant, metavar="TIME", help="windows of then, as 2026-03-10T12:00Z; without it: now"
        )
        parser.add_argument("--all", action="store_true", help="windows that are over too")
        add_page_arguments(parser, "ID", uuid)

    def handle(
        self, *args: Any, tenant: str, at: datetime | None, limit: int, after: UUID | None, **options: Any
    ) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        counters = (
            LimitBucket.objects.filter(tenant=owner) if options["all"] else LimitBucket.objects.current(owner, at)
        )
        if options["kind"]:
            counters = counters.filter(kind=options["kind"])
        if options["held"]:
            counters = counters.with_held()
        found, following = page(counters, "id", after, limit)
        rows = [{**counter.as_record(), "zone": owner.time_zone} for counter in found]
        self.write_page(rows, following, as_json=options["json"])
