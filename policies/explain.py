"""Why: one JSON record for programs, commands and the audit. Fed back as a question it gives the same answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from controlplane.core.ids import iso
from policies.deciding import Check
from policies.merging import FIELDS
from policies.operators import Leaf, Row, leaves

if TYPE_CHECKING:
    from policies.decisions import Decision
    from policies.effective import EffectivePolicy, StoredPolicy


def explain(
    effective: EffectivePolicy,
    decision: Decision | None = None,
    left_out: Sequence[tuple[UUID, str]] = (),
    buckets: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The effective policy, and a decision made from it if one is given, as JSON: ids and instants are text.

    `request` is the question, and under `model_resolved` which model its name was taken for: asked again, that is left out.
    left_out: further policies of the tenant and why they have no part (PolicyQuerySet.left_out), told as skipped.
    buckets: the state of the counters that were asked, as JSON already.
    """
    asked = {} if decision is None else {**decision.request, "model_resolved": decision.model}
    asked = {name: value for name, value in asked.items() if value is not None}
    record = {} if decision is None else _decision(decision)
    return record | {
        "at": iso(effective.at),
        "expires_at": iso(effective.expires_at),
        "policy_set": {
            "tenant": str(effective.tenant_id),
            "epoch": effective.epoch,
            "fingerprint": f"sha256:{effective.fingerprint}",
        },
        "request": _scope(effective) | asked,
        "applicable": [_policy(effective.policies[policy]) for policy in effective.applicable],
        "skipped": [{"policy": str(policy), "why": why} for policy, why in [*effective.skipped, *left_out]],
        "conflicts": list(effective.conflicts),
        "effective": dict(_effective(effective)),
        "buckets": [dict(bucket) for bucket in buckets],
    }


def _decision(decision: Decision) -> dict[str, Any]:
    by = None if decision.by is None else decision.effective.policies[decision.by]
    return {
        "decision": "allow" if decision.allow else "deny",
        "reason": decision.reason,
        "message": decision.message,
        "by": None if by is None else _policy(by),
        "pattern": decision.pattern,
        "layer": decision.layer,
        "policies": [str(policy) for policy in decision.policies],
        "checks": [_check(check) for check in decision.verdict.checks],
    }


def _check(check: Check) -> dict[str, Any]:
    told: dict[str, Any] = {"check": check.check, "result": "pass" if check.passed else "fail"}
    if check.layer is not None:
        told["layer"] = check.layer
    if check.pattern is not None:
        told["pattern"] = check.pattern
    return told | {"policies": [str(policy) for policy in check.policies]}


def _scope(effective: EffectivePolicy) -> dict[str, str]:
    scope = effective.scope
    ids = {"app": scope.app_id, "branch": scope.branch_id, "user": scope.user_id, "key": scope.key_id}
    return {name: str(value) for name, value in ids.items() if value is not None}


def _policy(stored: StoredPolicy) -> dict[str, Any]:
    row = stored.row
    told = {"policy": str(row.id), "version": row.version, "layer": row.layer, "priority": row.priority}
    return told | {"type": row.policy_type, "name": stored.name}


def _effective(effective: EffectivePolicy) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each value under its path, as `token_caps.max_output_tokens`, `routing.aliases.smart`, `budget.limits.0`."""
    merged = effective.merged
    for path, leaf in leaves(merged.provenance):
        value = _at(merged.values, path)
        rows = {policy: effective.policies[policy].row for policy in [*leaf["from"], *leaf["shadowed"]]}
        yield (
            ".".join(path),
            {
                "value": value,
                "op": leaf["op"],
                "from": [_source(rows[policy]) for policy in leaf["from"]],
                "shadowed": [_shadowed(rows[policy], path, leaf, rows) for policy in leaf["shadowed"]],
            },
        )


def _at(node: Any, path: Sequence[str]) -> Any:
    """The value at a path; a list stands for its entries, where another policy's entries have other numbers."""
    for name in path:
        if isinstance(node, Mapping):
            node = node.get(name)
        elif isinstance(node, list) and int(name) < len(node):
            node = node[int(name)]
    return node


def _source(row: Row) -> dict[str, Any]:
    return {"policy": str(row.id), "version": row.version, "layer": row.layer, "priority": row.priority}


def _shadowed(row: Row, path: Sequence[str], leaf: Leaf, rows: Mapping[UUID, Row]) -> dict[str, Any]:
    inside = path[1:2] if leaf["op"] == "ALL_APPLY" else path[1:]
    return {"policy": str(row.id), "value": _at(row.config, inside), "why": _why(row, path, leaf, rows)}


def _why(row: Row, path: Sequence[str], leaf: Leaf, rows: Mapping[UUID, Row]) -> str:
    """replaced_by_nearer looser_than_locked looser locked_by_wider farther, or forced_by_<field>."""
    policy_type, name = path[0], path[1]
    why = leaf.get("why", "")
    if why in FIELDS[policy_type]:
        return f"forced_by_{why}"
    if leaf["op"] == "NEAREST":
        return "locked_by_wider" if why == "final" else "farther"
    if name in row.overridable and row.layer < max(other.layer for other in rows.values()):
        return "replaced_by_nearer"
    locked = any(name not in rows[policy].overridable for policy in leaf["from"])
    return "looser_than_locked" if locked else "looser"
