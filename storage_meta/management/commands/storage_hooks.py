from __future__ import annotations

import signal
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN, uuid
from storage_meta import commands, delivering
from storage_meta.models import StorageEvent
from tenants.commands import tenant_by_slug


class Command(commands.Command):
    help = (
        "Sends events to the hooks that asked for them, as the worker does: once all that are due, or until it is told to stop. "
        "--retry has events of a tenant sent again, dead ones above all."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        kind = parser.add_mutually_exclusive_group(required=True)
        kind.add_argument("--once", action="store_true", help="send what is due now, and end")
        kind.add_argument("--watch", action="store_true", help="send what is due, until SIGTERM or Ctrl-C")
        kind.add_argument(
            "--retry", nargs="+", type=uuid, metavar="ID", help="ids of events, which are sent again; --tenant"
        )
        parser.add_argument("--tenant", metavar="SLUG", help="the tenant of the events; with --retry")
        parser.add_argument("--limit", type=_limit, default=10_000, help="with --once: events at most (10000)")
        commands.add_json(parser)

    def handle(
        self, *args: Any, once: bool, retry: list[Any] | None, tenant: str | None, limit: int, **options: Any
    ) -> None:
        if retry is not None:
            if tenant is None:
                raise CommandError("--retry needs --tenant: whose events they are.", returncode=COULD_NOT_RUN)
            count = delivering.resend(tenant_by_slug(tenant), retry)
            self.report({"retried": count}, f"To be sent again: {count:,}.", as_json=options["json"])
            return
        sent = StorageEvent.objects.deliver_due(limit=limit) if once else self._watch()
        self.report(
            {"sent": sent}, f"Sent: {sent:,}. What came of each is in the log of deliveries.", as_json=options["json"]
        )

    def _watch(self) -> int:
        told: list[int] = []  # no lock: a handler that takes one might wait for itself
        before = {n: signal.signal(n, lambda number, _: told.append(number)) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.say("Sending what is due. Ctrl-C ends it.")
            return delivering.Courier().follow(lambda: bool(told))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _limit(text: str) -> int:
    """An argument: a whole number from 1."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:10]) <= 10**9):
        raise ArgumentTypeError(f"{text!r} is no limit: a whole number from 1 is needed")
    return int(text)
