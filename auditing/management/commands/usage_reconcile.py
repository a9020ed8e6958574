from __future__ import annotations

import argparse
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from auditing import invoices
from auditing.context import audit_context, command_actor
from auditing.directory import directory
from auditing.errors import InvalidInvoice
from auditing.reconciling import Difference, reconcile
from controlplane.core import commands


class Command(commands.Command):
    help = (
        "Compares the roll-ups with the requests they were made of, per tenant and local day, hours per UTC day. "
        "With --invoice: an invoice with what the requests cost. Exit 1: something differs."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="only this tenant; default: all")
        parser.add_argument(
            "--from", dest="start", type=day, metavar="YYYY-MM-DD", help="first day; default: all there are"
        )
        parser.add_argument("--to", dest="end", type=day, metavar="YYYY-MM-DD", help="last day")
        parser.add_argument("--fix", action="store_true", help="make anew what differs, but for closed months")
        parser.add_argument(
            "--invoice", type=Path, metavar="FILE",
            help="compare a provider's invoice instead: CSV with provider, model, month, cost in US dollars; months are of UTC",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="a JSON list of what differs, for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = directory().find("tenant", options["tenant"]) if options["tenant"] is not None else None
        if options["tenant"] is not None and tenant is None:
            raise CommandError(
                f"There is no tenant {options['tenant']!r}. tenant_list shows them.", returncode=commands.COULD_NOT_RUN
            )
        if options["invoice"]:
            self.compare(options["invoice"], tenant, options)
            return
        end = options["end"] + timedelta(days=1) if options["end"] else None
        with commands.Progress(self.stderr, "Comparing", 0) as progress:
            if options["fix"]:
                with audit_context(actor=command_actor(self.name), reason="usage_reconcile --fix"):
                    found = reconcile(tenant, options["start"], end, fix=True, progress=progress)
            else:
                found = reconcile(tenant, options["start"], end, progress=progress)
        if options["json"]:
            self.write_json([shown(difference) for difference in found])
        elif found:
            self.stdout.write(commands.table(HEAD, [line(difference) for difference in found]))
        else:
            self.stdout.write("No roll-up differs from its requests.")
        if left := sum(not difference.repaired for difference in found):
            raise CommandError(f"{left} of {len(found)} differences are left.", returncode=commands.REFUSED)

    def compare(self, path: Path, tenant: UUID | None, options: dict[str, Any]) -> None:
        """An invoice beside ours: all lines, those too in which they agree."""
        if options["fix"] or options["start"] or options["end"]:
            raise CommandError(
                "An invoice names its months, and nothing is repaired by it: leave out --from, --to and --fix.",
                returncode=commands.COULD_NOT_RUN,
            )
        try:
            told = invoices.read_invoice(path)
        except InvalidInvoice as error:  # 1 would say that the invoice differs
            raise CommandError(error.message, returncode=commands.COULD_NOT_RUN) from error
        found = [billed(delta) for delta in invoices.compare(told, tenant_id=tenant)]
        if options["json"]:
            self.write_json(found)
        else:
            self.stdout.write(commands.table(list(found[0]), [[str(value) for value in row.values()] for row in found]))
        if differing := sum(Decimal(row["difference"]) != 0 for row in found):
            raise CommandError(f"{differing} of {len(found)} lines differ.", returncode=commands.REFUSED)


HEAD = ["roll-up", "tenant", "on", "rows", "requests", "cost", "state"]


def billed(delta: invoices.Delta) -> dict[str, Any]:
    costs = {name: f"{getattr(delta, name):f}" for name in ("invoiced", "ours", "difference")}
    return {
        "month": f"{delta.month:%Y-%m}", "provider": delta.provider, "model": delta.model, **costs, "unpriced": delta.unpriced,
    }  # fmt: skip


def line(found: Difference) -> list[str]:
    state = "repaired" if found.repaired else found.kept or "differs"
    requests, cost = (by_how_much(found, name) for name in ("requests", "cost"))
    return [found.kind, str(found.tenant_id), f"{found.on}", str(found.rows), requests, cost, state]


def by_how_much(found: Difference, name: str) -> str:
    """Of a roll-up, against its requests."""
    should, stored = found.columns.get(name, (0, 0))
    return f"{stored - should:+f}" if stored != should else "0"


def shown(found: Difference) -> dict[str, Any]:
    return {
        "roll_up": found.kind, "tenant": found.tenant_id, "on": found.on, "rows": found.rows, "repaired": found.repaired,
        "kept": found.kept,
        "columns": {name: {"requests": should, "roll_up": stored} for name, (should, stored) in found.columns.items()},
    }  # fmt: skip


def day(text: str) -> date:
    """An argument: a day."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write it as 2026-12-31") from None
    if not 2020 <= found.year < 9000:
        raise argparse.ArgumentTypeError(f"{text} is outside 2020 to 8999: no request is of then")
    return found
