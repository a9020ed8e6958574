"""The most that a call may use and cost, known before it is made. What has no bound is None: unknown is never zero."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from catalog.errors import CatalogError, UsageError
from catalog.pricing import worst_case
from catalog.records import ModelRecord, PriceSegment
from controlplane.denials import Denied
from controlplane.gate.asking import Asked

_SILENT = frozenset({"embedding", "moderation", "rerank"})
"""Modes of models that answer without tokens."""
_PLACES, _PRECISION = Decimal("1e-12"), Context(prec=50)


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so many tokens and US dollars; None = no bound is known. why: what is missing for the cost, for people."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cost: Decimal | None
    why: str = ""


def bound(
    asked: Asked,
    record: ModelRecord,
    price: PriceSegment | None,
    caps: dict[str, Any],
    output: int | None,
    at: datetime,
) -> Bound:
    """The bound of one call of a model.

    price: what it will be billed by. caps: the merged token_caps, which it keeps to. output: what the caps leave of the output
    asked for, None = no cap and nothing asked for. Raises Denied (400) for `units` that no usage has.
    """
    model_input, model_output = record.max_input_tokens, record.max_output_tokens or record.max_tokens
    total_cap = caps.get("max_total_tokens")
    tokens_in = model_input if asked.input_tokens is None else asked.input_tokens
    tokens_out = 0 if record.mode in _SILENT else _least(output, model_output)
    both = None if tokens_in is None or tokens_out is None else tokens_in + tokens_out
    cost, why = _cost(asked, record, price, tokens_in, tokens_out, at)
    return Bound(tokens_in, tokens_out, _least(both, total_cap), cost, why)


def _least(*known: int | None) -> int | None:
    return min((value for value in known if value is not None), default=None)


def _cost(
    asked: Asked,
    record: ModelRecord,
    price: PriceSegment | None,
    tokens_in: int | None,
    tokens_out: int | None,
    at: datetime,
) -> tuple[Decimal | None, str]:
    if price is None or not price.rates:
        return None, f"{record.canonical_id} has no price. Set one, or ask for another model."
    rates = price.compiled
    by_token = rates.kind in ("tokens", "decisions")
    if by_token and tokens_in is None:
        return None, "How many tokens it sends has no bound. Give input_tokens, or cap them by a policy."
    if by_token and tokens_out is None:
        return None, "How long its answer gets has no bound. Give max_output_tokens, or cap it by a policy."
    if not by_token and not asked.units:
        return None, f"{record.canonical_id} is not sold by the token. Give units: what the call will use."
    try:
        worst = worst_case(rates, prompt_tokens=tokens_in or 0, max_output_tokens=tokens_out or 0, at=at, **asked.units)
    except (UsageError, TypeError) as error:
        if asked.units:
            raise Denied("bad_argument", 400, f"units cannot be read: {error}") from error
        return None, f"The price of {record.canonical_id} cannot price it: {error}"
    except CatalogError as error:
        return None, f"The price of {record.canonical_id} cannot price it: {error}"
    if worst.total is None or (not worst.lines and (tokens_in or tokens_out)):
        return None, f"The price of {record.canonical_id} has no rate for it. Set one, or ask for another model."
    return max(worst.total, Decimal(0)).quantize(_PLACES, ROUND_CEILING, _PRECISION), ""
