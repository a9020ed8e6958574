"""One set of applicable policies in, one effective config out, with the policies each value came from. Pure: no ORM.

The operator belongs to the field; no author chooses it. Tight fields are locked unless their author opened them
(`overridable`), preferences are open unless their author locked them (`final`). Rules for readers: docs/policies.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from policies import operators as op
from policies.operators import Layer, Leaf, Row, Said


@dataclass(frozen=True, slots=True)
class Field:
    """kind: tight fields may be opened by their author, preferences locked, additive ones neither."""

    merge: op.Operator
    kind: Literal["tight", "preference", "additive"] = "tight"


_LOW = Field(op.strictest(op.lowest))
_HIGH = Field(op.strictest(op.highest))
_INTERSECT = Field(op.intersect)
_UNION = Field(op.union, "additive")
_NEAREST = Field(op.nearest, "preference")
_LIMITS = Field(op.all_apply)


def _strictest(*ranking: Any) -> Field:
    return Field(op.strictest(op.first_of(*ranking)))


FIELDS: Mapping[str, Mapping[str, Field]] = {
    "model_access": {"allow": _INTERSECT, "deny": _UNION},
    "token_caps": {
        "max_input_tokens": _LOW,
        "max_output_tokens": _LOW,
        "max_total_tokens": _LOW,
        "default_max_output_tokens": _NEAREST,
        "on_exceed": _strictest("reject", "clamp"),
    },
    "rate_limit": {"limits": _LIMITS},
    "budget": {"limits": _LIMITS},
    "guardrail": {"fail_mode": _strictest("closed", "open"), "guardrails": Field(op.guardrails)},
    "routing": {
        "strategy": _NEAREST,
        "targets": _NEAREST,
        "aliases": Field(op.keyed_nearest, "preference"),
        "timeout_ms": _LOW,
        "max_retries": _LOW,
        "providers": _INTERSECT,
        "regions": _INTERSECT,
    },
    "retention": {
        "max_days": _LOW,
        "min_days": _HIGH,
        "log_bodies": _strictest(False, True),
        "redact_pii": _strictest(True, False),
        "zero_retention": _strictest(True, False),
    },
    "storage_access": {"allow": _INTERSECT, "deny": _UNION},
}


@dataclass(frozen=True, slots=True)
class Merged:
    """values and provenance: `{type: {field: …}}` in the same shape, absent where nobody said anything; limit entries
    carry `bucket`, their owner's label. layers: the lists behind INTERSECT and UNION fields, with their policies.
    """

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: dict[tuple[str, str], Sequence[Layer]] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()


def merge(rows: Iterable[Row]) -> Merged:
    """Merge applicable policies, in any order; their configs fit their schemas. null says nothing, 0 and [] do."""
    by_type: dict[str, list[Row]] = {}
    for row in sorted(rows, key=Row.order):
        by_type.setdefault(row.policy_type, []).append(row)
    values: dict[str, dict[str, Any]] = {}
    provenance: dict[str, dict[str, Any]] = {}
    layers: dict[tuple[str, str], Sequence[Layer]] = {}
    for policy_type, fields in FIELDS.items():
        of_type = by_type.get(policy_type, ())
        for name in fields if of_type else ():
            rule = fields[name]
            said = [
                Said(row, value, name in row.final if rule.kind == "preference" else name not in row.overridable)
                for row in of_type
                if (value := row.config.get(name)) is not None
            ]
            if said:
                merged = rule.merge(said)
                values.setdefault(policy_type, {})[name] = merged.value
                provenance.setdefault(policy_type, {})[name] = merged.provenance
                layers[policy_type, name] = merged.layers
    conflicts = _settle(values, provenance)
    return Merged(values, provenance, layers, conflicts)


def joined(parts: Iterable[Merged]) -> Merged:
    """Merges of different types as the one of all their policies: no type depends on another."""
    whole = Merged()
    conflicts: tuple[str, ...] = ()
    for part in parts:
        whole.values.update(part.values)
        whole.provenance.update(part.provenance)
        whole.layers.update(part.layers)
        conflicts += part.conflicts
    return replace(whole, conflicts=conflicts)


def _settle(values: dict[str, dict[str, Any]], provenance: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Rules between fields, in order; a value changed here is owed to the policies that forced it. The conflicts."""
    caps, origin = values.get("token_caps", {}), provenance.get("token_caps", {})
    ceiling = caps.get("max_output_tokens")
    if ceiling is not None and caps.get("default_max_output_tokens", 0) > ceiling:
        _force(caps, origin, "default_max_output_tokens", ceiling, by="max_output_tokens")
    keep, origin = values.get("retention", {}), provenance.get("retention", {})
    if keep.get("zero_retention"):
        _force(keep, origin, "max_days", 0, by="zero_retention")
        _force(keep, origin, "log_bodies", False, by="zero_retention")
    # A legal hold beats deletion: what must be kept is kept, and the contradiction is shown.
    if "min_days" in keep and "max_days" in keep and keep["min_days"] > keep["max_days"]:
        _force(keep, origin, "max_days", keep["min_days"], by="min_days")
        return ("retention_floor_exceeds_ceiling",)
    return ()


def _force(values: dict[str, Any], provenance: dict[str, Any], name: str, value: Any, *, by: str) -> None:
    """Set a field because another one demands it. A field that already has the value keeps its own origin."""
    if name in values and values[name] == value:
        return
    was: Leaf = provenance.get(name, {"op": "STRICTEST", "from": [], "shadowed": []})
    sources = provenance[by]["from"]
    lost = [policy for policy in [*was["from"], *was["shadowed"]] if policy not in sources]
    values[name] = value
    provenance[name] = {"op": was["op"], "from": list(sources), "shadowed": list(dict.fromkeys(lost)), "why": by}
