from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = "Revokes a key, or one of its secrets, for ever. Again: the first time and reason stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "key", help="id of the key, or the first part of one of its tokens, as cpk_live_0123456789AB"
        )
        commands.add_tenant(parser)
        commands.add_reason(parser)
        parser.add_argument("--secret", metavar="PREFIX", help="only this secret: the first part of its token")

    def handle(self, *args: Any, key: str, tenant: str, reason: str, secret: str | None, **options: Any) -> str:
        found = commands.key_by_name(commands.tenant_by_slug(tenant, deleted=True), key)
        what = commands.secret_by_kid(found, secret) if secret else found
        with audit_context(actor=command_actor(self.name)):
            what.revoke(reason, by=self.by)
        named = f"the secret {what}" if secret else f"the key {found.name} ({found.pk})"
        return f"Revoked {named} at {what.revoked_at:%Y-%m-%d %H:%M}Z: {what.revoke_reason}"
