from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any

from auditing.context import audit_context, command_actor
from controlplane.core.commands import instant, span
from controlplane.core.ids import now
from tenants import commands
from tenants.models import APIKey


def canonical_id(text: str) -> str:
    """An argument: provider/name."""
    provider, slash, name = text.partition("/")
    if not (provider and slash and name):
        raise ArgumentTypeError(f"{text!r} is no canonical id: write provider/name, as openai/gpt-5.6")
    return text


class Command(commands.Command):
    help = "Issues an API key. The token is printed once, alone, on stdout, and kept nowhere; all else goes to stderr."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the key, for people")
        commands.add_tenant(parser)
        commands.add_app(parser)
        parser.add_argument("--user", help="e-mail or user name of whose personal key it is")
        parser.add_argument("--branch", metavar="CODE", help="branch of the app that it is bound to")
        parser.add_argument(
            "--environment", choices=APIKey.Environment.values, default="live", help="live or test (live)"
        )
        parser.add_argument("--scope", action="append", default=[], help="what it may be used for; may be repeated")
        parser.add_argument(
            "--model",
            action="append",
            type=canonical_id,
            metavar="PROVIDER/NAME",
            help="model it may call; may be repeated; without it the key restricts none",
        )
        parser.add_argument("--tag", action="append", default=[], help="to find it by; may be repeated")
        end = parser.add_mutually_exclusive_group()
        end.add_argument("--expires", type=instant, metavar="TIME", help="its end, ISO 8601 with an offset")
        end.add_argument("--expires-in", type=span, metavar="DURATION", help="its end from now on, as 90d or 12h")
        parser.add_argument("--not-before", type=instant, metavar="TIME", help="its beginning, ISO 8601 with an offset")
        parser.add_argument("--json", action="store_true", help="what goes to stderr as one JSON object")

    def handle(self, *args: Any, name: str, tenant: str, app: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant)
        target = commands.app_by_slug(owner, app)
        with audit_context(actor=command_actor(self.name)):
            issued = APIKey.objects.issue(
                tenant=owner,
                app=target,
                name=name,
                environment=options["environment"],
                user=commands.user_by_name(owner, options["user"]) if options["user"] else None,
                branch=commands.branch_by_code(target, options["branch"]) if options["branch"] else None,
                scopes=options["scope"],
                allowed_models=options["model"],
                expires_at=expiry(options["expires"], options["expires_in"]),
                not_before=options["not_before"],
                tags=options["tag"],
                by=self.by,
            )
        told = {"id": str(issued.key.pk), "prefix": issued.secret.prefix, "tenant": tenant, "app": app}
        self.say(
            json.dumps(told)
            if options["json"]
            else f"Issued the key {name} of {tenant}/{app}, id {issued.key.pk}. Its token, shown this once:"
        )
        self.stdout.write(issued.token)


def expiry(at: datetime | None, after: timedelta | None) -> datetime | None:
    return now() + after if after is not None else at
