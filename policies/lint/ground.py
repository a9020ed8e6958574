"""What the rules look at: the policies by scope, the sets of them that apply together, and the catalogue."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import islice, pairwise
from typing import Any
from uuid import UUID

from catalog.models import AIModel, ModelAlias
from policies.changes import Shelf
from policies.merging import Merged, merge
from policies.models import Policy
from policies.operators import Layer, Row
from policies.patterns import names_model
from policies.periods import Schedule, Window
from policies.resolution import StoredPolicy
from tenants.models import Tenant

Scope = tuple[UUID | None, ...]
"""(app, branch, user, key); None = any."""

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


class Catalogue:
    """All models, disabled ones too: they may come back. Sets of them are numbers, one bit a model."""

    def __init__(self, models: Iterable[tuple[str, str, str]]) -> None:
        """models: (provider, name, key)."""
        models = list(models)
        self.models = sorted({(provider, name) for provider, name, _ in models})
        self.everything = (1 << len(self.models)) - 1
        self.keys = {lower(key): f"{provider}/{name}" for provider, name, key in models}
        self.ids = {lower(f"{provider}/{name}") for provider, name in self.models}
        self._whole = _Names((f"{provider}/{name}", f"{provider}/{name}") for provider, name in self.models)
        self._last = _Names((name, f"{provider}/{name}") for provider, name in self.models)
        self._named: dict[str, int] = {}
        self._providers: dict[str, int] = {}
        for number, (provider, _) in enumerate(self.models):
            self._providers[provider] = self._providers.get(provider, 0) | 1 << number

    def named(self, pattern: str) -> int:
        """The models that a pattern names, exactly as patterns.names_model has it."""
        if pattern not in self._named:
            self._named[pattern] = (self._whole if "/" in pattern else self._last).named(pattern)
        return self._named[pattern]

    def of_provider(self, slug: str) -> int:
        return self._providers.get(slug, 0)

    def list(self, models: int) -> Iterator[str]:
        """Ids of a set."""
        while models:
            number = models.bit_length() - 1
            models ^= 1 << number
            yield "/".join(self.models[number])


class _Names:
    """Texts that patterns meet, sorted: only those that share the plain beginning of a pattern are tried."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """names: (what is met, canonical id), in the order of their numbers."""
        self._sorted = sorted((lower(met), number, model) for number, (met, model) in enumerate(names))

    def named(self, pattern: str) -> int:
        """Plain names, and those that only end in a star, need no regular expression, of which thousands are slow."""
        pattern = lower(pattern)
        plain = re.split(r"[*?]", pattern, maxsplit=1)[0]
        rest, found = pattern[len(plain) :], 0
        for met, number, model in islice(self._sorted, bisect_left(self._sorted, (plain,)), None):
            if not met.startswith(plain):
                break
            if rest == "*" or (met == plain if not rest else names_model(pattern, model)):
                found |= 1 << number
        return found


def lower(text: str) -> str:
    """Lower case of ASCII letters alone, as patterns compare."""
    return text.lower() if text.isascii() else "".join(c.lower() if c.isascii() else c for c in text)


@dataclass(frozen=True)
class Place:
    """A scope that policies have. own: its policies; around: all that a request of this very scope meets, in the total
    order, at whatever time; sets: those of the types that matter here (the own ones), one list for each combination that
    applies at some instant from `at` on.

    What is true here of a policy of this scope holds for each request that it applies to, as far as locked values and
    denials go: all that is wider applies there too.
    """

    scope: Scope
    own: Sequence[StoredPolicy]
    around: Sequence[StoredPolicy]
    at: datetime

    @cached_property
    def sets(self) -> list[list[StoredPolicy]]:
        types = {one.row.policy_type for one in self.own}
        if types & {"model_access", "routing"}:  # which models may be called is told by both
            types |= {"model_access", "routing"}
        return together([one for one in self.around if one.row.policy_type in types], self.at)

    @cached_property
    def merges(self) -> list[tuple[frozenset[UUID], Merged]]:
        """For each set: the ids in it, and what they come to."""
        return [
            (frozenset(one.row.id for one in each), merge(one.row for one in each if one.valid)) for each in self.sets
        ]


@dataclass(frozen=True)
class Ground:
    """at: the policies are judged from then on; what has ended counts no more."""

    at: datetime
    policies: Mapping[UUID, Policy]
    catalogue: Catalogue
    catalog_aliases: frozenset[str]
    shelf: Shelf
    places: Sequence[Place] = field(repr=False)

    @classmethod
    def of(cls, tenant: Tenant, policies: Iterable[Policy], at: datetime) -> Ground:
        """Reads the catalogue: two statements."""
        policies = sorted(policies, key=lambda policy: policy.pk)
        shelf = Shelf(policy for policy in policies if policy.valid_until is None or policy.valid_until > at)
        catalogue = Catalogue(AIModel.objects.order_by().values_list("provider__slug", "name", "key"))
        aliases = ModelAlias.objects.for_tenant(tenant).filter(enabled=True).values_list("alias", flat=True)
        return cls(
            at=at,
            policies={policy.pk: policy for policy in policies},
            catalogue=catalogue,
            catalog_aliases=frozenset(map(lower, aliases)),
            shelf=shelf,
            places=[Place(scope, shelf.exactly(scope), shelf.matching(scope), at) for scope in shelf.scopes()],
        )

    @cached_property
    def live(self) -> list[StoredPolicy]:
        """Enabled policies that have not ended."""
        return [one for place in self.places for one in place.own]

    @cached_property
    def rows(self) -> dict[UUID, Row]:
        return {one.row.id: one.row for one in self.live}

    @cached_property
    def aliases(self) -> frozenset[str]:
        """Other names of models in lower case: of the catalog, and of the tenant's routing policies."""
        return self.catalog_aliases.union(*(one.row.config.get("aliases") or {} for one in self.sound("routing")))

    def sound(self, policy_type: str) -> Iterator[StoredPolicy]:
        """Live policies of a type that can be read."""
        return (one for one in self.live if one.valid and one.row.policy_type == policy_type)

    def label(self, policy: UUID) -> str:
        """A policy in a sentence."""
        found = self.policies[policy]
        return f"Policy {found.name}" if found.name else f"The {found.policy_type} policy {policy}"

    def labels(self, policies: Iterable[UUID]) -> str:
        """Policies in a sentence, at most three."""
        names = [self.policies[policy].name or str(policy) for policy in policies]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"{', '.join(names[:3])}{more}"

    def scope_words(self, place: Place) -> str:
        words = self.policies[place.own[0].row.id].scope_label()
        return "the organization" if words == "organization" else words

    def mask(self, layer: Layer) -> int:
        """The models that a merged list of patterns names."""
        found = 0
        for pattern, _ in layer.entries:
            found |= self.catalogue.named(pattern)
        return found


def value_at(config: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What a config says at a path of names; None if it says nothing."""
    found: Any = config
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def together(stored: Sequence[StoredPolicy], at: datetime) -> list[list[StoredPolicy]]:
    """Every set of these policies that applies at some instant from `at` on: one, if none is bounded in time.

    Between two bounds of validity only schedules change, and they repeat each week; as zones set their clocks at other
    dates, schedules of several zones are looked at in each quarter of a year.
    """
    bounded = {one.window for one in stored if one.window != Window()}
    if not bounded:
        return [[*stored]]
    schedules = frozenset(w.schedule for w in bounded if w.schedule is not None)
    quarters = range(4 if len({schedule.zone for schedule in schedules}) > 1 else 1)
    bounds = {edge for w in bounded for edge in (w.valid_from, w.valid_until) if edge is not None and edge > at}
    combinations = set()
    for start, end in pairwise([at, *sorted(bounds), datetime.max.replace(tzinfo=UTC)]):
        valid = [w for w in bounded if not Window(w.valid_from, w.valid_until).why_not(start)]
        for quarter in quarters:
            if (probe := start + 13 * quarter * _WEEK) < end:
                for held in _held(schedules, probe, end):
                    combinations.add(frozenset(w for w in valid if w.schedule is None or w.schedule in held))
    ordered = sorted(combinations, key=lambda held: [one.window in held for one in stored], reverse=True)
    return [[one for one in stored if one.window in held or one.window == Window()] for held in ordered]


def _held(schedules: frozenset[Schedule], start: datetime, end: datetime) -> set[frozenset[Schedule]]:
    """The sets of schedules that hold at some instant of a week or more from `start` on, before `end`."""
    monday = (start - timedelta(days=start.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    found = {held for instant, held in _weeks(schedules, monday) if start < instant < end}
    return found | {frozenset(one for one in schedules if one.holds(start))}


@lru_cache(maxsize=1024)
def _weeks(schedules: frozenset[Schedule], monday: datetime) -> tuple[tuple[datetime, frozenset[Schedule]], ...]:
    """Instants of fifteen days at which these schedules can change, and those that hold then."""
    instants = {edge for schedule in schedules for edge in schedule.edges(monday, monday + 2 * _WEEK + _DAY)}
    return tuple((instant, frozenset(one for one in schedules if one.holds(instant))) for instant in sorted(instants))
