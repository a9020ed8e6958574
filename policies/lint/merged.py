"""Rules about what policies come to together, in each scope that has policies and at each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import and_
from typing import Any
from uuid import UUID

from policies.lint.findings import Finding
from policies.lint.ground import Ground, Place, Scope, together
from policies.merging import FIELDS, Merged
from policies.operators import Leaf, Row, leaves

MOST_APPLICABLE = 200

_CONFLICT = "retention_floor_exceeds_ceiling"
_ALLOW, _DENY, _PROVIDERS = ("model_access", "allow"), ("model_access", "deny"), ("routing", "providers")


def retention_floor_exceeds_ceiling(ground: Ground) -> Iterator[Finding]:
    seen: set[tuple[UUID, ...]] = set()
    for place in ground.places:
        for _, merged in place.merges:
            if _CONFLICT not in merged.conflicts:
                continue
            floor, ceiling = merged.provenance["retention"]["min_days"], merged.provenance["retention"]["max_days"]
            policies = (*floor["from"], *ceiling["shadowed"])
            if policies not in seen:
                seen.add(policies)
                yield Finding.of(
                    _CONFLICT,
                    policies,
                    f"{ground.label(floor['from'][0])} keeps bodies for at least "
                    f"{merged.values['retention']['min_days']} days, longer than {ground.labels(ceiling['shadowed'])} "
                    "lets them be kept: they are kept. Lower min_days, or raise max_days.",
                )


@dataclass(frozen=True)
class Access:
    """The models of one merged set, as sets of the catalogue. admitted: those that deny, allow and providers let pass."""

    layers: Sequence[tuple[tuple[UUID, ...], int]]
    denied: int
    everything: int

    @classmethod
    def of(cls, ground: Ground, merged: Merged) -> Access:
        catalogue = ground.catalogue
        layers = [(layer.policies, ground.mask(layer)) for layer in merged.layers.get(_ALLOW, ())]
        for layer in merged.layers.get(_PROVIDERS, ()):
            named = 0
            for slug, _ in layer.entries:
                named |= catalogue.of_provider(slug)
            layers.append((layer.policies, named))
        denied = 0
        for layer in merged.layers.get(_DENY, ()):
            denied |= ground.mask(layer)
        return cls(layers, denied, catalogue.everything)

    @property
    def listed(self) -> int:
        """Models that all lists name."""
        return reduce(and_, (named for _, named in self.layers), self.everything)

    @property
    def admitted(self) -> int:
        return self.listed & ~self.denied

    def beside(self, policy: UUID) -> int:
        """Models that pass everything but the lists with a part of this policy."""
        others = (named for policies, named in self.layers if policy not in policies)
        return reduce(and_, others, self.everything) & ~self.denied


def empty_effective_allow(ground: Ground) -> Iterator[Finding]:
    """Lists that were meant to allow something, and together allow nothing. `[]` alone is meant to."""
    seen: set[tuple[UUID, ...]] = set()
    for place in ground.places if ground.catalogue.models else ():
        for _, merged in place.merges:
            access = Access.of(ground, merged)
            meant = any(layer.entries for where in (_ALLOW, _PROVIDERS) for layer in merged.layers.get(where, ()))
            if access.admitted or not meant:
                continue
            policies = [policy for listed, _ in reversed(access.layers) for policy in listed]
            if access.listed:
                policies += [policy for layer in merged.layers[_DENY] for policy in layer.policies]
            key = tuple(sorted(set(policies)))
            if key not in seen:
                seen.add(key)
                yield Finding.of(
                    "empty_effective_allow",
                    policies,
                    f"{ground.label(policies[0])} allows nothing to {ground.scope_words(place)}: no model passes all lists of "
                    f"{ground.labels(dict.fromkeys(policies))}. Let one model pass them all.",
                )


def dead_allow(ground: Ground) -> Iterator[Finding]:
    """Entries that name models of which none passes the other lists that hold wherever the entry does."""
    for place in ground.places:
        accesses: list[tuple[frozenset[UUID], Access]] = []
        for one in place.own if ground.catalogue.models else ():
            entries = one.row.config.get("allow") if one.valid and one.row.policy_type == "model_access" else None
            if not entries:
                continue
            accesses = accesses or [(ids, Access.of(ground, merged)) for ids, merged in place.merges]
            passing = 0
            for ids, access in accesses:
                passing |= access.beside(one.row.id) if one.row.id in ids else 0
            for pattern in entries:
                named = ground.catalogue.named(pattern)
                if named and not named & passing:
                    yield Finding.of(
                        "dead_allow",
                        [one.row.id],
                        f"{ground.label(one.row.id)}: {pattern} in allow has no effect, because other policies that hold "
                        "there refuse every model that it names. Remove it, or change what refuses them.",
                    )


def shadowed_value(ground: Ground) -> Iterator[Finding]:
    for place in ground.places:
        for row, path, rivals in _lost(place):
            if not rivals.final:
                yield Finding.of(
                    "shadowed_value",
                    [row.id, *rivals.policies],
                    f"{ground.label(row.id)} sets {'.'.join(path)}, but {ground.labels(rivals.policies)} always comes "
                    "before it and it never counts. Remove it, or change or open the other.",
                )


def dead_under_final(ground: Ground) -> Iterator[Finding]:
    for place in ground.places:
        for row, path, rivals in _lost(place):
            if rivals.final:
                yield Finding.of(
                    "dead_under_final",
                    [row.id, *rivals.policies],
                    f"{ground.label(row.id)} sets {'.'.join(path)}, which {ground.labels(rivals.policies)} has made "
                    "final: it never counts. Remove it, or take the field out of final there.",
                )


@dataclass(frozen=True)
class _Rivals:
    policies: tuple[UUID, ...]
    final: bool


def _lost(place: Place) -> Iterator[tuple[Row, tuple[str, ...], _Rivals]]:
    """What policies of a place say in vain: at every time something else counts, and nothing nearer changes that."""
    rows = {one.row.id: one.row for each in place.sets for one in each}
    told = [(ids, [*_told(merged)]) for ids, merged in place.merges]
    for one in place.own:
        if not one.valid:
            continue
        lost: dict[tuple[str, ...], _Rivals] | None = None
        for ids, found in told:
            if one.row.id in ids:
                now = _lost_at_once(one.row, rows, found)
                lost = now if lost is None else {path: rivals for path, rivals in lost.items() if path in now}
        for path, rivals in (lost or {}).items():
            yield one.row, path, rivals


def _told(merged: Merged) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """The leaves of a merge; those of limits by what they count, which is what limits meet on."""
    for path, leaf in leaves(merged.provenance, numbered=False):
        if leaf["op"] != "ALL_APPLY":
            yield path, leaf
    for policy_type in ("rate_limit", "budget"):
        entries = merged.values.get(policy_type, {}).get("limits", ())
        for entry, leaf in zip(entries, merged.provenance.get(policy_type, {}).get("limits", ()), strict=True):
            yield (policy_type, "limits", counter_words(entry)), leaf


def counter_words(entry: dict[str, Any]) -> str:
    """What a merged limit counts, as "requests 1m per:user": equal for equal counters."""
    models = sorted(model.lower() for model in entry["models"]) if entry.get("models") else []
    anchor = [f"from {entry['anchor']}"] if entry.get("anchor", 1) != 1 else []
    return " ".join([entry.get("metric", "cost"), entry["window"], *anchor, entry["bucket"], *models])


def _lost_at_once(
    row: Row, rows: Mapping[UUID, Row], found: Sequence[tuple[tuple[str, ...], Leaf]]
) -> dict[tuple[str, ...], _Rivals]:
    counts = {path for path, leaf in found if row.id in leaf["from"]}
    lost = {}
    for path, leaf in found:
        if path[0] == row.policy_type and row.id in leaf["shadowed"] and path not in counts:
            winners = [rows[policy] for policy in leaf["from"]]
            others = [rows[policy] for policy in leaf["shadowed"]]
            if _for_good(row, path, leaf, winners) and not _replaces(row, path, leaf, others):
                preference = FIELDS[path[0]][path[1]].kind == "preference"
                final = preference and leaf.get("why") == "final" and winners[0].layer < row.layer
                lost[path] = _Rivals(tuple(leaf["from"]), final)
    return lost


def _for_good(row: Row, path: tuple[str, ...], leaf: Leaf, winners: Sequence[Row]) -> bool:
    """Whether the winners win wherever `row` applies: none that is opened, and goes once a nearer layer speaks, while
    `row` stays. Where the id alone decides, that is another finding.
    """
    forced = leaf.get("why") in FIELDS[path[0]]
    if leaf["op"] == "NEAREST" and not forced:
        winner, name = winners[0], path[1]
        only_winner = name in winner.final and name not in row.final
        return winner.layer < row.layer or only_winner or winner.priority > row.priority
    name = leaf["why"] if forced else path[1]
    return name in row.overridable or any(name not in winner.overridable for winner in winners)


def _replaces(row: Row, path: tuple[str, ...], leaf: Leaf, others: Sequence[Row]) -> bool:
    """Whether something else would hold without `row`, though its own value comes to nothing: an opened one behind it that
    it takes away, or the value behind a ceiling or floor that cuts its own.
    """
    if leaf.get("why") in FIELDS[path[0]]:
        return bool(leaf["why"] != "zero_retention")
    return leaf["op"] != "NEAREST" and any(path[1] in one.overridable and one.layer < row.layer for one in others)


def too_many_applicable(ground: Ground) -> Iterator[Finding]:
    """Scopes in which the limit is passed and, of those that lie within each other, the widest only."""
    full = {
        place.scope: max(map(len, together(place.around, ground.at)))
        for place in ground.places
        if len(place.around) > MOST_APPLICABLE
    }
    for place in ground.places:
        count = full.get(place.scope, 0)
        if count > MOST_APPLICABLE and not any(full.get(wider, 0) > MOST_APPLICABLE for wider in _around(place.scope)):
            yield Finding.of(
                "too_many_applicable",
                [one.row.id for one in place.own],
                f"{count} policies apply to a request of {ground.scope_words(place)} at once, which makes each look-up "
                f"slow and hard to explain. Join those of one type, to {MOST_APPLICABLE} at most.",
            )


def _around(scope: Scope) -> Iterator[Scope]:
    """The scopes that are wider: some of the columns any."""
    choices = [{None, value} for value in scope]
    return (wider for wider in product(*choices) if wider != scope)
