"""Rules that hold policies of one scope, or of one scope and those around it, beside each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Any
from uuid import UUID

from policies.lint.findings import Finding
from policies.lint.ground import Ground, Place, value_at
from policies.merging import FIELDS
from policies.operators import Leaf, Row, leaves, owner_label
from policies.resolution import StoredPolicy

LIMITS = ("budget", "rate_limit")


def priority_tie(ground: Ground) -> Iterator[Finding]:
    """Two preferences of one scope and one priority, of which nothing but the id chooses one."""
    found: dict[tuple[UUID, UUID, str], None] = {}
    for place in ground.places:
        for ids, merged in place.merges:
            mine = [one.row for one in place.own if one.row.id in ids and one.valid]
            for path, leaf in leaves(merged.provenance, numbered=False):
                for winner, loser in _tied(path, leaf, mine):
                    found[winner.id, loser.id, ".".join(path)] = None
    for winner_id, loser_id, where in found:
        yield Finding.of(
            "priority_tie",
            [loser_id, winner_id],
            f"{ground.label(loser_id)} and {ground.labels([winner_id])} set {where} differently, with the same scope and "
            "the same priority: their ids decide. Give one the higher priority.",
        )


def _tied(path: tuple[str, ...], leaf: Leaf, mine: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    winner = next((row for row in mine if row.id in leaf["from"]), None)
    if winner is None or leaf.get("why") not in ("nearest", "final"):
        return
    for row in mine:
        tied = row.id in leaf["shadowed"] and row.priority == winner.priority and _equal_rank(path, row, winner)
        if tied and value_at(row.config, path[1:]) != value_at(winner.config, path[1:]):
            yield winner, row


def _equal_rank(path: tuple[str, ...], row: Row, other: Row) -> bool:
    policy_type, name = path[:2]
    if FIELDS[policy_type][name].kind == "preference":
        return (name in row.final) == (name in other.final)
    return (name in row.overridable) == (name in other.overridable)


def duplicate_limit(ground: Ground) -> Iterator[Finding]:
    for place in ground.places:
        groups: dict[Hashable, list[Row]] = {}
        for one in place.own:
            for entry in _entries(one):
                groups.setdefault((one.row.policy_type, merge_key(one.row, entry)), []).append(one.row)
        for rows in groups.values():
            if len(rows) > 1 and _meet(place, rows):
                yield Finding.of(
                    "duplicate_limit",
                    [row.id for row in rows],
                    f"{ground.label(rows[0].id)}: {len(rows)} limits of the same scope count the same thing in the same "
                    "mode, and the lowest alone holds. Keep one.",
                )


def _meet(place: Place, rows: Sequence[Row]) -> bool:
    """Whether two of the entries ever apply at once."""
    return any(sum(one.row.id == row.id for one in each for row in rows) > 1 for each in place.sets)


def child_budget_exceeds_parent(ground: Ground) -> Iterator[Finding]:
    found: dict[tuple[UUID, UUID, str, str, str], None] = {}
    for place in ground.places:
        for each in place.sets:
            for child, parent, entry, wider in _too_generous(each):
                found[child.id, parent.id, entry["limit"], entry["window"], wider["limit"]] = None
    for child_id, parent_id, limit, window, ceiling in found:
        yield Finding.of(
            "child_budget_exceeds_parent",
            [child_id, parent_id],
            f"{ground.label(child_id)} grants {limit} US dollars ({window}), but {ground.labels([parent_id])}, which "
            f"holds around it, ends at {ceiling}. Lower the one or raise the other.",
        )


def _too_generous(each: Sequence[StoredPolicy]) -> Iterator[tuple[Row, Row, dict[str, Any], dict[str, Any]]]:
    """Budgets of the nearest layer of a set that are higher than one behind them: (child, parent, and their entries)."""
    budgets = [(one.row, entry, _same(entry)) for one in each for entry in _budgets(one)]
    children = [said for said in budgets if said[0].layer == each[0].row.layer]
    for child, entry, same in children:
        for parent, wider, other in budgets:
            if parent.layer < child.layer and same == other and Decimal(entry["limit"]) > Decimal(wider["limit"]):
                yield child, parent, entry, wider


def validity_gap(ground: Ground) -> Iterator[Finding]:
    for rows in _successions(ground):
        for before, after in pairwise(rows):
            end = max(one.window.valid_until or _never(rows) for one in rows[: rows.index(after)])
            begin = after.window.valid_from
            if begin is not None and end < begin:
                yield Finding.of(
                    "validity_gap",
                    [before.row.id, after.row.id],
                    f"{ground.label(before.row.id)} ends at {_shown(end)} and {ground.labels([after.row.id])} begins at "
                    f"{_shown(begin)}: in between nothing holds. Let the one end when the other begins.",
                )


def validity_overlap(ground: Ground) -> Iterator[Finding]:
    for rows in _successions(ground):
        for first, second in combinations(rows, 2):
            begin, end = second.window.valid_from, first.window.valid_until
            if begin is not None and end is not None and begin < end:
                yield Finding.of(
                    "validity_overlap",
                    [first.row.id, second.row.id],
                    f"{ground.label(first.row.id)} ends at {_shown(end)}, after {ground.labels([second.row.id])} began "
                    f"at {_shown(begin)}: both hold in between. Let the one end when the other begins.",
                )


def _successions(ground: Ground) -> Iterator[list[StoredPolicy]]:
    """Policies bounded in time that say the same kind of thing for one scope at the same hours, by their beginning.

    If one of them is there for good, the others are exceptions, and neither gaps nor overlaps mean anything.
    """
    for place in ground.places:
        groups: dict[Hashable, list[StoredPolicy]] = {}
        for one in place.own:
            if one.valid:
                said = frozenset(name for name, value in one.row.config.items() if value is not None)
                groups.setdefault((one.row.policy_type, said, one.window.schedule), []).append(one)
        for rows in groups.values():
            if len(rows) > 1 and all(one.window.valid_from or one.window.valid_until for one in rows):
                earliest = min(filter(None, (bound for one in rows for bound in _bounds(one))))
                yield sorted(rows, key=lambda one: (one.window.valid_from or earliest, one.row.id))


def _bounds(one: StoredPolicy) -> tuple[datetime | None, datetime | None]:
    return one.window.valid_from, one.window.valid_until


def _never(rows: Sequence[StoredPolicy]) -> datetime:
    """An instant no earlier than any bound of these."""
    return max(filter(None, (bound for one in rows for bound in _bounds(one))))


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _entries(one: StoredPolicy) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = one.row.config.get("limits") or [] if one.row.policy_type in LIMITS else []
    return found if one.valid else []


def _budgets(one: StoredPolicy) -> Sequence[dict[str, Any]]:
    """Hard budgets of the policy's own scope."""
    entries = _entries(one) if one.row.policy_type == "budget" else []
    return [e for e in entries if e.get("per", "scope") == "scope" and e.get("mode", "hard") == "hard"]


def _same(entry: dict[str, Any]) -> Hashable:
    """What two budgets must share to be compared."""
    models = entry.get("models")
    return entry["window"], entry.get("anchor", 1), None if models is None else frozenset(m.lower() for m in models)


def merge_key(row: Row, entry: dict[str, Any]) -> Hashable:
    """What two limits share of which the lowest alone holds; policies.operators merges by it."""
    return owner_label(row, entry), entry.get("metric"), _same(entry), entry.get("mode", "hard")
