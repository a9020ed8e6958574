from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from auditing.context import audit_context, command_actor
from controlplane.core.commands import uuid
from tenants import commands
from tenants.errors import TenantsError
from tenants.models import RefreshFamily, RefreshToken


class Command(commands.Command):
    help = (
        "Ends the sessions of a user, or one of them: their refresh tokens are refused for ever. The user's keys go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="e-mail or user name")
        commands.add_tenant(parser)
        commands.add_reason(parser)
        parser.add_argument("--family", type=uuid, metavar="ID", help="only this session")

    def handle(self, *args: Any, user: str, tenant: str, reason: str, family: UUID | None, **options: Any) -> str:
        found = commands.user_by_name(commands.tenant_by_slug(tenant, deleted=True), user)
        with audit_context(actor=command_actor(self.name)):
            if family is None:
                return f"Ended {RefreshToken.objects.revoke_all(found, reason)} sessions of {found.email}."
            one = RefreshFamily.objects.for_user(found).filter(pk=family)
            if not one.exists():
                raise TenantsError("not_found", f"{found.email} has no session {family}.", http_status=404)
            ended = one.end(RefreshFamily.Ended.LOGOUT, reason)
        return f"Ended the session {family} of {found.email}." if ended else f"The session {family} had ended before."
