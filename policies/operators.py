"""How the values of one field become one value. Pure.

Every operator takes what was said about a field, in total order, and depends on nothing else: not on the order of rows,
not on who wrote them. A value is locked if no nearer layer can replace it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

Leaf = dict[str, Any]
"""Where one value comes from: `{"op", "from": [policy ids], "shadowed": [policy ids]}`; NEAREST adds `why`."""

Sourced = tuple[Any, UUID]
"""An entry of a list, and the policy that wrote it (the first in total order, if several did)."""

MODES = ("shadow", "soft", "hard")
ACTIONS = ("block", "mask", "log", "off")
STAGES = ("input", "output", "tool_call")


@dataclass(frozen=True, slots=True)
class Row:
    """One applicable policy, as stored. layer: 1 (organization) to 31; the higher, the nearer."""

    id: UUID
    layer: int
    priority: int
    policy_type: str
    config: Mapping[str, Any]
    overridable: frozenset[str] = frozenset()
    final: frozenset[str] = frozenset()
    version: int = 1

    def order(self) -> tuple[int, int, int]:
        """Sort key of the one order everywhere: layer DESC, priority DESC, id ASC."""
        return -self.layer, -self.priority, self.id.int


class Said(NamedTuple):
    """What one policy says about one field."""

    row: Row
    value: Any
    locked: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """One merged list: its entries, and every policy that gave it, also those with an empty list."""

    entries: Sequence[Sourced]
    policies: tuple[UUID, ...]

    @classmethod
    def of(cls, said: Iterable[Said]) -> Layer:
        found: dict[str, Sourced] = {}
        said = list(said)
        for one in said:
            for entry in one.value:
                found.setdefault(
                    entry if isinstance(entry, str) else json.dumps(entry, sort_keys=True), (entry, one.row.id)
                )
        return cls(tuple(found.values()), tuple(one.row.id for one in said))

    def values(self) -> list[Any]:
        return [entry for entry, _ in self.entries]


class Merge(NamedTuple):
    """A merged field. provenance: a Leaf, or maps and lists of leaves in the shape of the value. layers: the lists of
    an INTERSECT field, widest layer first, or the one list of a UNION field.
    """

    value: Any
    provenance: Any
    layers: Sequence[Layer] = ()


def leaves(node: Any, path: tuple[str, ...] = (), *, numbered: bool = True) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Every leaf of a provenance with its path. numbered: places in lists are part of it; else a list stands for its entries."""
    # An alias or guardrail may itself be called "op": there it is a map, in a leaf it is text.
    if isinstance(node, dict) and isinstance(node.get("op"), str):
        yield path, node
        return
    below = node.items() if isinstance(node, dict) else ((str(number), one) for number, one in enumerate(node))
    for name, one in below:
        yield from leaves(one, (*path, name) if numbered or isinstance(node, dict) else path, numbered=numbered)


Operator = Callable[[Sequence[Said]], Merge]


def survivors(said: Iterable[Said]) -> list[Said]:
    """The locked values, and those of the nearest layer that says anything: it replaces the opened ones behind it."""
    said = list(said)
    nearest = max(one.row.layer for one in said)
    return [one for one in said if one.locked or one.row.layer == nearest]


def strictest(rank: Callable[[Any], Any]) -> Operator:
    """The survivor of lowest rank; all equal ones are its sources."""

    def merge(said: Sequence[Said]) -> Merge:
        left = survivors(said)
        best = min(left, key=lambda one: rank(one.value))
        return Merge(best.value, _leaf("STRICTEST", [one for one in left if one.value == best.value], said))

    return merge


def lowest(value: Any) -> Any:
    return value


def highest(value: Any) -> Any:
    return -value


def first_of(*ranking: Any) -> Callable[[Any], int]:
    """A rank for words: the strictest is named first."""
    return ranking.index


def intersect(said: Sequence[Said]) -> Merge:
    """A list of lists, widest layer first: union inside a layer, AND across. An empty list alone admits nothing."""
    left = survivors(said)
    by_layer: dict[int, list[Said]] = {}
    for one in reversed(left):  # the widest layer first, and within a layer the total order
        by_layer.setdefault(one.row.layer, []).insert(0, one)
    layers = [Layer.of(group) for group in by_layer.values()]
    return Merge([layer.values() for layer in layers], _leaf("INTERSECT", left, said), layers)


def union(said: Sequence[Said]) -> Merge:
    """Every entry of every policy: what one forbids, nobody takes back."""
    layer = Layer.of(said)
    return Merge(layer.values(), _leaf("UNION", said, said), [layer])


def nearest(said: Sequence[Said]) -> Merge:
    """The locked value of the widest layer; none locked: the first in total order. A list is one value."""
    locked = [one for one in said if one.locked]
    winner = min(locked, key=lambda one: (one.row.layer, -one.row.priority, one.row.id)) if locked else said[0]
    return Merge(winner.value, _leaf("NEAREST", [winner], said, why="final" if locked else "nearest"))


def keyed_nearest(said: Sequence[Said]) -> Merge:
    """A map: the nearest value of each key."""
    return _keyed(said, lambda _name, about: nearest(about))


def guardrails(said: Sequence[Said]) -> Merge:
    """A map of guardrails, which nobody weakens: action, threshold, stages stay locked even if config is opened."""

    def one(_name: str, about: Sequence[Said]) -> Merge:
        values, provenance = {}, {}
        for part, operator in _GUARDRAIL_PARTS.items():
            spoken = [
                one._replace(value=one.value[part], locked=one.locked or part != "config")
                for one in about
                if one.value.get(part) is not None
            ]
            if spoken:
                merged = operator(spoken)
                values[part], provenance[part] = merged.value, merged.provenance
        return Merge(values, provenance)

    return _keyed(said, one)


def _stages(said: Sequence[Said]) -> Merge:
    named = {stage for one in said for stage in one.value}
    return Merge([stage for stage in STAGES if stage in named], _leaf("UNION", said, said))


_GUARDRAIL_PARTS: Mapping[str, Operator] = {
    "action": strictest(first_of(*ACTIONS)),
    "threshold": strictest(lowest),
    "stages": _stages,
    "config": nearest,
}


class _Entry(NamedTuple):
    """One limit of one policy. counter: what is counted, for whom; with the mode it is the merge key."""

    said: Said
    raw: Mapping[str, Any]
    counter: Hashable
    mode: str
    amount: Decimal

    @classmethod
    def of(cls, said: Said, raw: Mapping[str, Any]) -> _Entry:
        models = raw.get("models")
        named = None if models is None else frozenset(model.lower() for model in models)
        counter = (owner_label(said.row, raw), raw.get("metric"), raw["window"], raw.get("anchor", 1), named)
        return cls(said, raw, counter, raw.get("mode", "hard"), Decimal(raw["limit"]))


def owner_label(row: Row, entry: Mapping[str, Any]) -> str:
    """Whose counter a limit is on: `scope:<layer>`, the policy's own scope, or `per:<x>` of the request."""
    per = entry.get("per", "scope")
    return f"scope:{row.layer}" if per == "scope" else f"per:{per}"


def all_apply(said: Sequence[Said]) -> Merge:
    """Limits: of one merge key the lowest survivor; every merge key applies.

    An entry goes if a stronger mode on its counter has a limit no higher. The mode is part of the merge key, so a
    shadow limit, however tight or near, changes nothing that is enforced.
    """
    entries = [_Entry.of(one, raw) for one in said for raw in one.value]
    kept = [_lowest_of(same) for same in _grouped(entries, lambda entry: (entry.counter, entry.mode))]
    kept = [entry for entry in kept if not any(_makes_pointless(other, entry) for other in kept)]
    value = [{**entry.raw, "bucket": owner_label(entry.said.row, entry.raw)} for entry in kept]
    return Merge(value, [_limit_leaf(entry, kept, entries) for entry in kept])


def _lowest_of(same: Sequence[_Entry]) -> _Entry:
    if len(same) == 1:
        return same[0]
    alive = {id(one.row) for one in survivors(entry.said for entry in same)}
    return min((entry for entry in same if id(entry.said.row) in alive), key=lambda entry: entry.amount)


def _makes_pointless(other: _Entry, entry: _Entry) -> bool:
    stronger = MODES.index(other.mode) > MODES.index(entry.mode)
    return stronger and other.counter == entry.counter and other.amount <= entry.amount


def _limit_leaf(entry: _Entry, kept: Sequence[_Entry], entries: Sequence[_Entry]) -> Leaf:
    """Sources: all survivors of the merge key with this limit. Shadowed: whose entries on it came to nothing."""
    rivals = [other for other in entries if other.counter == entry.counter]
    if len(rivals) == 1:
        return _leaf("ALL_APPLY", [entry.said], [])
    same = [other for other in rivals if other.mode == entry.mode]
    alive = {id(one.row) for one in survivors(other.said for other in same)}
    sources = [other.said for other in same if other.amount == entry.amount and id(other.said.row) in alive]
    won = {(other.mode, other.amount) for other in kept if other.counter == entry.counter}
    lost = [other.said for other in rivals if (other.mode, other.amount) not in won]
    return _leaf("ALL_APPLY", sources, [*sources, *lost])


def _keyed(said: Sequence[Said], merge: Callable[[str, Sequence[Said]], Merge]) -> Merge:
    names = sorted({name for one in said for name in one.value})
    merged = {
        name: merge(name, [one._replace(value=one.value[name]) for one in said if name in one.value]) for name in names
    }
    return Merge(
        {name: one.value for name, one in merged.items()}, {name: one.provenance for name, one in merged.items()}
    )


def _grouped(entries: Iterable[_Entry], key: Callable[[_Entry], Hashable]) -> list[list[_Entry]]:
    """Groups of equal key, in the order of their first members."""
    groups: dict[Hashable, list[_Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return list(groups.values())


def _leaf(op: str, sources: Iterable[Said], said: Iterable[Said], **more: str) -> Leaf:
    # By the identity of rows, which is cheap: one policy is one row.
    chosen = {id(one.row): one.row.id for one in sources}
    shadowed = {id(one.row): one.row.id for one in said if id(one.row) not in chosen}
    return {"op": op, "from": [*chosen.values()], "shadowed": [*shadowed.values()], **more}
