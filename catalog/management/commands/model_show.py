from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from catalog import commands
from catalog.models import AIModel
from catalog.resolution import find, unknown
from controlplane.core.commands import Command as BaseCommand
from controlplane.core.commands import instant, shown, table


class Command(BaseCommand):
    help = (
        "Shows the model that a name means, as a call would find it, with its price: each rate as it is stored and as people "
        "count it, in US dollars per million tokens."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="a key, a canonical id, an alias, or the name that a provider gives it")
        parser.add_argument("--provider", metavar="SLUG", help="whose model it is; aliases do not count then")
        parser.add_argument("--region", help="where the call would run, in the provider's words")
        parser.add_argument("--size", help="of an image, as 1024x1536")
        parser.add_argument("--quality", help="of an image, as high")
        commands.add_tenant(parser, "whose aliases and price count, beside everybody's")
        parser.add_argument("--at", type=instant, metavar="TIME", help="the price of this instant (now)")
        parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")

    def handle(self, *args: Any, model: str, **options: Any) -> None:
        tenant = commands.tenant_or_none(options["tenant"])
        asked = (options[name] for name in ("provider", "region", "size", "quality"))
        key = (tenant and tenant.pk.int, model, *asked)
        record = find(key)
        if record is None:
            raise unknown(key)
        row = AIModel.objects.select_related("provider").get(pk=record.id)
        price = commands.prices_of([row], tenant, options["at"]).get(row.pk)
        sheet = commands.model_sheet(row, price, tenant)
        if options["json"]:
            self.write_json(sheet)
            return
        rates = sheet.pop("price")
        head, *lines = [(name, shown(value)) for name, value in sheet.items()]
        self.stdout.write(table(head, lines))
        if rates is None:
            self.say("It has no price at that time: calls of it are unpriced.")
        else:
            self._write_price(rates, row.mode, options["tenant"])

    def _write_price(self, price: dict[str, Any], mode: str, tenant: str | None) -> None:
        whose = f"Price of {tenant}" if price["tenant_id"] else "List price"
        end = f" to {shown(price['effective_to'])}" if price["effective_to"] else ""
        self.stdout.write(f"\n{whose} from {shown(price['effective_from'])}{end}, {price['id']}:\n")
        self.stdout.write(table(("rate", "USD per unit", "as counted"), commands.rate_lines(price["rates"], mode)))
