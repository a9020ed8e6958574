from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from catalog.commands import tenant_or_none
from catalog.management.commands.price_set import model_by_key
from catalog.setting import end_price
from controlplane.core import commands


class Command(commands.Command):
    help = (
        "Ends the price of a model; calls after that are unpriced unless another price follows. What was billed stays "
        "explained by it. --void takes it back as a whole: prices_rerate then corrects what it billed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", help="key of the model")
        parser.add_argument("--tenant", metavar="SLUG", help="this tenant's own price, instead of the list price")
        parser.add_argument("--at", type=commands.instant, metavar="TIME", help="when it ends (now)")
        parser.add_argument("--void", action="store_true", help="end it where it began: it never held")
        parser.add_argument("--reason", required=True, help="why; kept in the audit log")
        parser.add_argument("--json", action="store_true", help="the price as one JSON object, for scripts")

    def handle(self, *args: Any, key: str, **options: Any) -> None:
        with audit_context(actor=command_actor(self.name), reason=options["reason"]):
            price = end_price(
                model_by_key(key), tenant=tenant_or_none(options["tenant"]), at=options["at"], void=options["void"],
                reason=options["reason"],
            )  # fmt: skip
        told = {
            "id": price.pk, "model": key, "tenant": options["tenant"], "effective_from": price.effective_from,
            "effective_to": price.effective_to, "rates": price.rates,
        }  # fmt: skip
        done = "is void" if price.void else f"ends {commands.shown(price.effective_to)}"
        self.report(
            told, f"The price of {key} from {commands.shown(price.effective_from)} {done}.", as_json=options["json"]
        )
