from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from tenants import commands


class Command(commands.Command):
    help = (
        "Ends the access of a user to an app, and lists the user's live keys in it: they go on, unless --keys is given."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="e-mail or user name")
        commands.add_tenant(parser)
        commands.add_app(parser)
        commands.add_reason(parser, required=False)
        parser.add_argument("--keys", action="store_true", help="revoke these keys too; needs a reason")

    def handle(self, *args: Any, user: str, tenant: str, app: str, reason: str, keys: bool, **options: Any) -> str:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        target, holder = commands.app_by_slug(owner, app), commands.user_by_name(owner, user)
        held = [f"{key.name} ({key.pk})" for key in holder.keys_in(target)]
        with audit_context(actor=command_actor(self.name)):
            ended = target.revoke(holder, reason, by=self.by, keys=keys)
        for name in held:
            self.say(f"{'Revoked' if keys else 'Goes on'}: the key {name}")
        if not ended and not (keys and held):
            raise CommandError(f"{holder.email} has no access to {tenant}/{app}.")
        return f"{holder.email} has no access to {tenant}/{app} any more."
