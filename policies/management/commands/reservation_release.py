from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from controlplane.core.commands import COULD_NOT_RUN
from policies.models import Reservation
from tenants import commands


class Command(commands.Command):
    help = (
        "Gives back what a call holds of its limits. The call is not stopped; it is charged nothing when it ends. "
        "Exit code 1: it has ended already; 2: there is none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("request_id", help="the request; reservation_list shows them")
        commands.add_tenant(parser)
        commands.add_reason(parser)
        parser.add_argument("--json", action="store_true", help="the reservation as one JSON object, for scripts")

    def handle(self, *args: Any, request_id: str, tenant: str, reason: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        held = Reservation.objects.for_tenant(owner).filter(request_id=request_id).first()
        if held is None:
            text = f"The tenant {tenant} has no reservation of {request_id!r}. reservation_list shows them."
            raise CommandError(text, returncode=COULD_NOT_RUN)
        with audit_context(actor=command_actor(self.name)):
            held.release(reason)
        self.report(held.as_record(), f"Released {request_id}: it holds nothing any more.", as_json=options["json"])
