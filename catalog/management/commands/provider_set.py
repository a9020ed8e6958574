from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from auditing.context import audit_context, command_actor
from catalog.models.fields import TERMS
from catalog.providers import set_provider
from controlplane.core.commands import Command as BaseCommand
from controlplane.core.commands import instant

FIELDS = ("name", "family", "website", "doc_url", "notes", "enabled", *TERMS)


def number(text: str) -> Decimal:
    """An argument: a decimal number."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        raise ArgumentTypeError(f"{text!r} is no number: write it as 12.5")
    return found


class Command(BaseCommand):
    help = (
        "Makes a provider, or changes one; what is not named stays. Another discount or margin ends its list prices and "
        "begins them anew with it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="first part of its models' ids: lower-case letters, digits and _ . -")
        parser.add_argument("--name", help="name for people (the slug)")
        parser.add_argument("--family", help="whose pricing rules it follows, as openai; empty: by its slug")
        parser.add_argument("--website", help="where it presents itself")
        parser.add_argument("--doc-url", help="where its models are documented")
        parser.add_argument("--notes", help="for operators")
        switch = parser.add_mutually_exclusive_group()
        switch.add_argument(
            "--enable", dest="enabled", action="store_true", default=None, help="its models may be used"
        )
        switch.add_argument("--disable", dest="enabled", action="store_false", help="none of its models may be used")
        parser.add_argument("--discount-percent", type=number, metavar="PERCENT", help="off the list price, 0 to 100")
        parser.add_argument("--margin-percent", type=number, metavar="PERCENT", help="on top, after the discount")
        parser.add_argument("--margin-fixed", type=number, metavar="USD", help="US dollars on top of each call")
        parser.add_argument(
            "--from", dest="effective_from", type=instant, metavar="TIME", help="when terms begin (now)"
        )
        parser.add_argument("--reason", default="", help="why; kept with the prices and in the audit log")
        parser.add_argument("--json", action="store_true", help="the provider as one JSON object, for scripts")

    def handle(self, *args: Any, slug: str, reason: str, **options: Any) -> None:
        values = {name: options[name] for name in FIELDS}
        with audit_context(actor=command_actor(self.name), reason=reason):
            provider, made, followed = set_provider(
                slug, reason=reason, effective_from=options["effective_from"], **values
            )
        prices = f" Prices that go on with these terms: {followed}." if followed else ""
        self.report(
            {"slug": slug, "id": provider.pk, "made": made, "prices": followed}
            | {name: getattr(provider, name) for name in FIELDS},
            f"{'Made' if made else 'Changed'} the provider {slug}.{prices}",
            as_json=options["json"],
        )
