"""How the limits of a request stand, without holding anything: the counters that a call would add to, as they are."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.errors import CatalogError, UsageError
from catalog.pricing import worst_case
from catalog.rating import billed_by
from catalog.records import ModelRecord
from catalog.units import plain
from controlplane.core.ids import iso
from policies.counting import Amounts, Counter, counters
from policies.effective import EffectivePolicy
from policies.models import LimitBucket

_ZERO = Decimal(0)


def standing(
    effective: EffectivePolicy,
    record: ModelRecord,
    name: str,
    at: datetime,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
) -> list[dict[str, Any]]:
    """The counters of a call of this model at `at`, as JSON, with what it would add as far as that is known. One statement.

    name: by which the model was asked for; with it, what the call is billed by. Numbers are text; a counter that nobody has
    counted on yet stands at 0. requested: None where it is not known; then the result is fail only where nothing is left.
    result: fail (a hard limit refuses), warn (a soft one is passed) or pass. Raises PolicyError("policy_invalid").
    """
    known = _asked(effective, record, name, at, input_tokens, output_tokens)
    filled = Amounts(
        input_tokens=known.input_tokens or 0, output_tokens=known.output_tokens or 0, cost=known.cost or _ZERO
    )
    wanted = counters(effective, record.canonical_id, filled, at)
    rows = LimitBucket.objects.filter(tenant_id=effective.tenant_id, key__in=[one.key for one in wanted])
    found = {key: rest for key, *rest in rows.values_list("key", "id", "spent", "reserved")} if wanted else {}
    return [
        _bucket(one, known.of(one.metric), effective.time_zone, *found.get(one.key, (None, _ZERO, _ZERO)))
        for one in wanted
    ]


def told(counter: Counter, spent: Decimal, reserved: Decimal, requested: Decimal | None, zone: str) -> dict[str, Any]:
    """What is told of a counter wherever one is: whose it is, what it counts, how it stands, when it begins anew.

    As JSON, numbers as text: calls, tokens or US dollars by `metric`. requested: None where it is not known. zone: the
    tenant's.
    """
    return {
        "owner": counter.owner_id,
        "kind": counter.kind,
        "metric": counter.metric,
        "window": counter.window,
        "models": None if counter.models is None else list(counter.models),
        "spent": plain(spent),
        "reserved": plain(reserved),
        "requested": None if requested is None else plain(requested),
        "resets_at": None if counter.ends_at is None else iso(counter.ends_at),
        "zone": zone,
    }


def hardest(bucket: dict[str, Any]) -> dict[str, Any]:
    """The entry of `limits` that refuses: the lowest hard one."""
    hard = [one for one in bucket["limits"] if one["mode"] == "hard"]
    found: dict[str, Any] = min(hard, key=lambda one: Decimal(one["limit"]))
    return found


def _asked(
    effective: EffectivePolicy,
    record: ModelRecord,
    name: str,
    at: datetime,
    input_tokens: int | None,
    output_tokens: int | None,
) -> Amounts:
    cost, price = None, billed_by(effective.tenant_id, record, name, at)
    if price is not None and price.rates and input_tokens is not None and output_tokens is not None:
        try:
            cost = worst_case(price.compiled, prompt_tokens=input_tokens, max_output_tokens=output_tokens, at=at).total
        except (CatalogError, UsageError):
            cost = None  # a price that cannot price it: the calculator says why
    return Amounts(input_tokens=input_tokens, output_tokens=output_tokens, cost=cost)


def _bucket(
    counter: Counter, requested: Decimal | None, zone: str, id: Any, spent: Decimal, reserved: Decimal
) -> dict[str, Any]:
    shown, used = counter.shown, spent + reserved
    return told(counter, spent, reserved, requested, zone) | {
        "bucket": None if id is None else str(id),
        "counts": counter.owner_kind,
        "label": counter.label,
        "mode": shown.mode,
        "limit": plain(shown.limit),
        "limits": [
            {"mode": one.mode, "limit": plain(one.limit), "policy": str(one.policy_id), "version": one.policy_version}
            for one in counter.thresholds
        ],
        "left": plain(max(shown.limit - used, _ZERO)),
        "result": _result(counter, used, requested),
    }  # fmt: skip


def _result(counter: Counter, used: Decimal, requested: Decimal | None) -> str:
    """Of what is not known it is known to be more than nothing."""

    def passes(limit: Decimal) -> bool:
        return used < limit if requested is None else used + requested <= limit

    modes = {one.mode for one in counter.thresholds if not passes(one.limit)}
    return "fail" if "hard" in modes else "warn" if "soft" in modes else "pass"
