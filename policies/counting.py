"""What one call counts against: a counter per owner, metric, window and set of models, with its limits. Pure: no ORM.

Budgets count US dollars, rate limits count requests, tokens and calls at a time. Rules for readers: docs/limits.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from policies.allowances import Limit
from policies.errors import PolicyError
from policies.windows import window

METRICS = ("requests", "input_tokens", "output_tokens", "total_tokens", "concurrent", "cost")
LEVELS = {"app": 2, "branch": 4, "user": 8, "key": 16}
"""What an owner may consist of, with its bit of the layer."""
MOST = 10**15
"""Of one call: a thousand of them fit into a counter."""
_ZERO = Decimal(0)
_REMEMBERED = 500


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a call asks for, at worst, or what it used. cost: US dollars. None = not known, which is never zero.

    total_tokens: None = the sum of the other two, where both are known. Raises PolicyError("amount_invalid") for what is
    negative, over MOST, or no int; or no Decimal, for the cost.
    """

    requests: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost: Decimal | None = None
    concurrent: int = 1

    def __post_init__(self) -> None:
        counts = (self.requests, self.input_tokens, self.output_tokens, self.total_tokens, self.concurrent)
        if any(count is not None and not (type(count) is int and 0 <= count <= MOST) for count in counts):
            raise PolicyError("amount_invalid")
        cost = self.cost
        if cost is not None and not (isinstance(cost, Decimal) and cost.is_finite() and 0 <= cost <= MOST):
            raise PolicyError("amount_invalid")
        if self.total_tokens is None and self.input_tokens is not None and self.output_tokens is not None:
            object.__setattr__(self, "total_tokens", self.input_tokens + self.output_tokens)

    def of(self, metric: str) -> Decimal | None:
        amount = getattr(self, metric)
        return None if amount is None else Decimal(amount)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One entry of a policy. mode: hard refuses, soft warns, shadow is only counted. alert_at: shares of limit."""

    mode: str
    limit: Decimal
    policy_id: UUID
    policy_version: int
    alert_at: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class _Counted:
    """All entries that share a counter, before an instant says in which window. owner: app, branch, user and key.

    models: patterns of the calls that count, None = all calls. hard: the lowest hard limit, None = nothing is refused.
    """

    prefix: str
    kind: str
    owner_kind: str
    owner: tuple[UUID | None, ...]
    metric: str
    window: str
    anchor: int
    models: tuple[str, ...] | None
    thresholds: tuple[Threshold, ...]

    @property
    def hard(self) -> Decimal | None:
        return min((one.limit for one in self.thresholds if one.mode == "hard"), default=None)


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter that a call adds to, and how much. starts_at, ends_at: None for a window without bounds.

    kind: rate or budget. owner_kind: `scope:<layer>` or `per:<x>`. owner_id: the owner in words, as `user:<id>`. key: the
    counter's name within its tenant; it holds everything but the limits, so an edited limit keeps its count.
    """

    key: str
    kind: str
    owner_kind: str
    owner: tuple[UUID | None, ...]
    metric: str
    window: str
    label: str
    starts_at: datetime | None
    ends_at: datetime | None
    models: tuple[str, ...] | None
    amount: Decimal
    hard: Decimal | None
    thresholds: tuple[Threshold, ...]

    @property
    def owner_id(self) -> str:
        return owner_words(self.owner_kind, self.owner)

    @property
    def shown(self) -> Threshold:
        """The limit to show where there is room for one: the hard one, else the lowest of the strongest mode."""
        return min(self.thresholds, key=lambda one: (_STRENGTH[one.mode], one.limit))


_STRENGTH = {"hard": 0, "soft": 1, "shadow": 2}


class Effective(Protocol):
    """What is needed of policies.resolution.EffectivePolicy."""

    @property
    def scope(self) -> Any: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def policies(self) -> Mapping[UUID, Any]: ...
    def limits(self, model: str) -> tuple[Limit, ...]: ...


def counters(effective: Effective, model: str, amounts: Amounts, at: datetime) -> tuple[Counter, ...]:
    """The counters that a call of `model` (canonical id) adds to at `at`, sorted by key; each once.

    Raises PolicyError: policy_invalid, limits that cannot be read; amount_unknown, a hard limit on what is not known.
    """
    return tuple(_counter(limit, amounts, effective.time_zone, at) for limit in _counted(effective, model))


def _counted(effective: Effective, model: str) -> tuple[_Counted, ...]:
    """The limits of a model by counter, sorted by key. Found once, and kept with the policy, which never changes."""
    kept: dict[str | tuple[int, ...], tuple[_Counted, ...]] = vars(effective).setdefault("_counted", {})
    if model not in kept:
        if len(kept) >= _REMEMBERED:
            kept.clear()
        limits = effective.limits(model)
        alike = tuple(map(id, limits))  # they live as long as the policy: most models meet the same
        if alike not in kept:
            kept[alike] = _group(effective, limits)
        kept[model] = kept[alike]
    return kept[model]


def _group(effective: Effective, limits: Iterable[Limit]) -> tuple[_Counted, ...]:
    grouped: dict[str, _Counted] = {}
    for limit in limits:
        owner = _owner(limit.owner, effective.scope)
        models = None if limit.models is None else tuple(sorted(limit.models))
        fields = (limit.kind, limit.owner, owner, limit.metric, limit.window, limit.anchor, models)
        prefix = _prefix(*fields)
        thresholds = grouped[prefix].thresholds if prefix in grouped else ()
        grouped[prefix] = _Counted(prefix, *fields, (*thresholds, _threshold(effective, limit)))
    return tuple(grouped[prefix] for prefix in sorted(grouped))


def _threshold(effective: Effective, limit: Limit) -> Threshold:
    policy = limit.policies[0]
    shares = tuple(Decimal(str(share)) for share in limit.alert_at)
    return Threshold(limit.mode, limit.limit, policy, effective.policies[policy].row.version, shares)


def _owner(owner_kind: str, scope: Any) -> tuple[UUID | None, ...]:
    """Ids of app, branch, user and key: those of the layer, or the request's own one."""
    how, _, which = owner_kind.partition(":")
    return tuple(
        getattr(scope, f"{level}_id") if (int(which) & bit if how == "scope" else which == level) else None
        for level, bit in LEVELS.items()
    )


def owner_words(owner_kind: str, owner: Iterable[UUID | None]) -> str:
    """As `user:<id>`, several parts with commas; `organization`; `none`, which all requests without one share."""
    parts = [f"{level}:{value}" for level, value in zip(LEVELS, owner, strict=True) if value is not None]
    return ",".join(parts) or ("organization" if owner_kind.startswith("scope:") else "none")


def _prefix(
    kind: str,
    owner_kind: str,
    owner: tuple[UUID | None, ...],
    metric: str,
    window: str,
    anchor: int,
    models: tuple[str, ...] | None,
) -> str:
    named = "-" if models is None else hashlib.sha256("\n".join(models).encode()).hexdigest()[:16]
    return "|".join((kind, owner_kind, owner_words(owner_kind, owner), metric, window, str(anchor), named, ""))


def _counter(limit: _Counted, amounts: Amounts, zone: str, at: datetime) -> Counter:
    amount, hard = amounts.of(limit.metric), limit.hard
    if amount is None and hard is not None:
        raise PolicyError("amount_unknown")
    period = window(limit.window, zone, at, limit.anchor)
    return Counter(
        key=limit.prefix + period.label,
        kind=limit.kind,
        owner_kind=limit.owner_kind,
        owner=limit.owner,
        metric=limit.metric,
        window=limit.window,
        label=period.label,
        starts_at=period.start,
        ends_at=period.end,
        models=limit.models,
        amount=_ZERO if amount is None else amount,
        hard=hard,
        thresholds=limit.thresholds,
    )
