from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db.models import Value
from django.db.models.functions import Lower

from auditing.context import audit_context, command_actor
from catalog.checking import said
from catalog.commands import tenant_or_none
from catalog.errors import UnknownModel
from catalog.models import AIModel
from catalog.setting import set_price
from controlplane.core import commands

PER_MILLION = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache-read": "cache_read_input_token_cost",
    "cache-write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "batch-input": "input_cost_per_token_batches",
    "batch-output": "output_cost_per_token_batches",
}


class Command(commands.Command):
    help = (
        "Ends the price of a model and sets a new one: the rates that are named anew, the others as they are. What was "
        "billed stays explained by the old one. An import leaves a price that was set so alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", help="key of the model")
        for name, field in PER_MILLION.items():
            parser.add_argument(
                f"--{name}-per-million", dest=field, type=dollars, metavar="USD", help=f"{field}, per million tokens"
            )
        parser.add_argument(
            "--rate", action="append", default=[], type=rate, metavar="FIELD=USD",
            help="any rate, per unit, as output_cost_per_image=0.04; may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--drop", action="append", default=[], metavar="FIELD", help="take a rate away; may be repeated"
        )
        parser.add_argument(
            "--fresh", action="store_true", help="keep no rate, discount or margin of the price in force"
        )
        parser.add_argument("--discount", type=dollars, metavar="PERCENT", help="percent off (as it is)")
        parser.add_argument(
            "--margin", type=dollars, metavar="PERCENT", help="percent on top, after the discount (as it is)"
        )
        parser.add_argument(
            "--margin-fixed", type=dollars, metavar="USD", help="US dollars on top of each call (as it is)"
        )
        parser.add_argument("--tenant", metavar="SLUG", help="for this tenant alone, instead of the list price")
        parser.add_argument(
            "--from", dest="start", type=commands.instant, metavar="TIME", help="from when it holds (now)"
        )
        parser.add_argument("--reason", default="", help="why; needed for a price that begins in the past")
        parser.add_argument(
            "--confirm", action="store_true", help="even if a rate is ten times the present one, or a tenth"
        )
        parser.add_argument("--json", action="store_true", help="what was set as one JSON object, for scripts")

    def handle(self, *args: Any, key: str, **options: Any) -> None:
        rates: dict[str, Decimal | None] = dict.fromkeys(options["drop"])
        rates |= {f: per_token(options[f]) for f in PER_MILLION.values() if options[f] is not None}
        rates |= dict(options["rate"])
        terms = {
            "discount_percent": options["discount"],
            "margin_percent": options["margin"],
            "margin_fixed": options["margin_fixed"],
        }
        with audit_context(actor=command_actor(self.name), reason=options["reason"]):
            price = set_price(
                model_by_key(key), rates,
                tenant=tenant_or_none(options["tenant"]),
                effective_from=options["start"], reason=options["reason"], fresh=options["fresh"], confirmed=options["confirm"],
                **{name: value for name, value in terms.items() if value is not None},
            )  # fmt: skip
        told = {
            "id": price.pk, "model": price.model.key, "tenant": options["tenant"], "effective_from": price.effective_from,
            "effective_to": price.effective_to, "rates": price.rates,
        }  # fmt: skip
        named = ", ".join(f"{field} {said(field, value)}" for field, value in rates.items() if value is not None)
        kept = len(price.rates.keys() - rates.keys())
        others = f"; {kept} other rates stay" if kept else ""
        self.report(
            told,
            f"{key} from {commands.shown(price.effective_from)}: {named or 'no rate anew'}{others}.",
            as_json=options["json"],
        )


def model_by_key(key: str) -> AIModel:
    """The model of a key, in any case. Raises UnknownModel with the nearest."""
    rows = AIModel.objects.select_related("provider").alias(lowered=Lower("key"))
    found: list[AIModel] = list(rows.filter(lowered=Lower(Value(key)))) if key.isprintable() else []
    if not found:
        raise UnknownModel(key, [model.key for model in AIModel.objects.search(key, limit=3)])
    return found[0]


def per_token(amount: Decimal) -> Decimal:
    """What is typed per million tokens, exactly: scaleb() rounds."""
    sign, digits, exponent = amount.as_tuple()
    return Decimal((sign, digits, int(exponent) - 6))


def dollars(text: str) -> Decimal:
    """An argument: a number from 0 on."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not (found.is_finite() and found >= 0):
        raise ArgumentTypeError(f"{text!r} is no amount: a number from 0 on is needed")
    return found


def rate(text: str) -> tuple[str, Decimal]:
    """An argument: field=amount."""
    field, equals, amount = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r} has no =: write field=amount, as output_cost_per_image=0.04")
    return field, dollars(amount)
