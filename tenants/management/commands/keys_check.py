from __future__ import annotations

import sys
from argparse import ArgumentParser
from io import TextIOWrapper
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from controlplane.core.commands import REFUSED, shown, table
from tenants import commands, leaks


class Command(commands.Command):
    help = (
        "Tells what leaked tokens of keys and sessions open, without using them: tenant, app, key or user, state, last use. "
        "The tokens are not shown. "
        "Exit code 0: none is live; 1: at least one was; 2: could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "token", nargs="+", help="a token; better -, which reads them from stdin, a line each: arguments show in ps"
        )
        parser.add_argument(
            "--revoke", action="store_true", help="revoke the live ones' secrets and sessions; needs --reason"
        )
        commands.add_reason(parser, required=False)
        parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")

    def handle(self, *args: Any, token: list[str], revoke: bool, reason: str, **options: Any) -> None:
        if "-" in token and isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # what is no UTF-8 is no token either, and hides none after it
        given = [line for word in token for line in (sys.stdin.read().split() if word == "-" else [word])]
        found = [leaks.inspect(one) for one in given]
        ended = 0
        if revoke:
            with audit_context(actor=command_actor(self.name)):
                ended = leaks.end(found, reason, by=self.by)
        live = sum(leak.live for leak in found)
        rows = [_row(leak) for leak in found]
        if options["json"]:
            self.write_json({"tokens": rows, "live": live, "revoked": ended})
        elif rows:
            self.stdout.write(table(list(rows[0]), [[shown(value) for value in row.values()] for row in rows]))
        if live:
            done = f"{ended} of them revoked." if revoke else "Revoke them: --revoke --reason TEXT."
            raise CommandError(f"{live} of {len(found)} tokens open a key or a session. {done}", returncode=REFUSED)


def _row(leak: leaks.Leak) -> dict[str, Any]:
    key = leak.secret.key if leak.secret else None
    owner = key or leak.session
    return {
        "token": leak.hint,
        "state": leak.state,
        "tenant": owner.tenant.slug if owner else None,
        "app": key.app.slug if key else None,
        "key": key.name if key else None,
        "key_id": key.pk if key else None,
        "user": owner.user.email if owner and owner.user else None,
        "last_used_at": leak.last_used_at,
    }
