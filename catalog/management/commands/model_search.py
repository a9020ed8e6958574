from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from catalog import commands
from catalog.models import AIModel
from controlplane.core.commands import Command as BaseCommand
from controlplane.core.commands import page_size


class Command(BaseCommand):
    help = (
        "Finds models by key, name or alias, however it is written, the most alike first; with their prices of now, in US "
        "dollars per million tokens."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("text", nargs="+", help="what is sought, as: claude sonet")
        parser.add_argument("--mode", help="only these, as chat")
        parser.add_argument("--provider", metavar="SLUG", help="only models of this provider")
        commands.add_tenant(parser, "whose aliases and prices count, beside everybody's")
        parser.add_argument("--limit", type=page_size, default=20, help="how many at most, 1 to 1000 (20)")
        parser.add_argument("--json", action="store_true", help='one JSON object, {"rows": […]}, for scripts')

    def handle(self, *args: Any, text: list[str], **options: Any) -> None:
        tenant = commands.tenant_or_none(options["tenant"])
        found = AIModel.objects.search(" ".join(text), options["limit"], options["mode"], options["provider"], tenant)
        models = list(found.select_related("provider"))
        prices = commands.prices_of(models, tenant)
        rows = [commands.model_row(model, prices.get(model.pk)) for model in models]
        self.write_page(rows, None, as_json=options["json"])
