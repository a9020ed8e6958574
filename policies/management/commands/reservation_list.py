from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from controlplane.core.commands import add_page_arguments, page, uuid
from policies.models import Reservation
from tenants import commands


class Command(commands.Command):
    help = "Lists what calls of a tenant hold of its limits: the open reservations, the newest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands.add_tenant(parser)
        parser.add_argument(
            "--state", choices=Reservation.State.values, default="reserved", help="how they stand (reserved)"
        )
        parser.add_argument("--stale", action="store_true", help="only open ones whose time is over")
        add_page_arguments(parser, "ID", uuid)

    def handle(self, *args: Any, tenant: str, state: str, limit: int, after: UUID | None, **options: Any) -> None:
        held = Reservation.objects.for_tenant(commands.tenant_by_slug(tenant, deleted=True))
        held = held.stale() if options["stale"] else held.filter(state=state)
        found, following = page(held, "-id", after, limit)
        self.write_page([reservation.as_record() for reservation in found], following, as_json=options["json"])
