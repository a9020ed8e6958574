"""May this call use this model; may it touch this object? Pure: names are resolved before, nothing is looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from policies.merging import Merged
from policies.operators import Layer
from policies.patterns import canonical_uri, covers_below, covers_some_below, covers_uri, names_model


@dataclass(frozen=True, slots=True)
class Check:
    """One question on the way to a verdict, in the order asked. layer: index into the list of lists, widest first."""

    check: str
    passed: bool
    layer: int | None = None
    pattern: str | None = None
    policies: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. by: the policy that decided; pattern: its entry; layer: of which list; policies: all with a part."""

    allow: bool
    reason: str
    by: UUID | None = None
    pattern: str | None = None
    layer: int | None = None
    policies: tuple[UUID, ...] = ()
    checks: tuple[Check, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """A model after its name was resolved. asked: as the caller wrote it; canonical_id: `<provider>/<name>`.

    region: where the call would go, None = not known yet, which leaves regions unchecked.
    """

    asked: str
    canonical_id: str
    provider: str
    region: str | None = None


def judge_model(merged: Merged, model: ModelAsked) -> Verdict:
    """Deny, then the allow layers from the widest, then providers, then regions; the first refusal ends it.

    Allow meets the canonical id only, deny meets the name asked for too: no alias launders its target, and an alias can
    be forbidden by name.
    """
    asked = model.asked if "/" in model.asked else f"?/{model.asked}"
    region = None if model.region is None else model.region.lower()

    def denied(entry: Any) -> bool:
        return names_model(entry, model.canonical_id) or names_model(entry, asked)

    def allowed(entry: Any) -> bool:
        return names_model(entry, model.canonical_id)

    trace = _Trace(merged)
    return (
        trace.deny("model.deny", "model_access", denied, "model_denied")
        or trace.admit("model.allow", _ALLOW, allowed, "model_not_in_allowlist")
        or trace.admit("provider", _PROVIDERS, model.provider.__eq__, "provider_not_allowed")
        or (trace.admit("region", _REGIONS, region.__eq__, "region_not_allowed") if region is not None else None)
        or trace.allowed()
    )


def judge_storage(merged: Merged, uri: str, mode: str, *, below: bool = False) -> Verdict:
    """Deny, then the allow layers, each for this mode (`list read write delete`). No allow layer at all: denied.

    below: of all that begins with uri; allowed only where nothing of it, there or not, would be refused.
    """
    if not canonical_uri(uri):
        return Verdict(False, "uri_not_canonical")

    def meets(entry: Any) -> bool:
        return mode in entry["modes"] and (covers_below if below else covers_uri)(entry["uri"], uri)

    def touches(entry: Any) -> bool:
        return mode in entry["modes"] and (covers_some_below if below else covers_uri)(entry["uri"], uri)

    trace = _Trace(merged)
    if refusal := trace.deny("storage.deny", "storage_access", touches, "storage_denied"):
        return refusal
    if _STORAGE not in merged.layers:
        return Verdict(False, "storage_default_deny", checks=trace.checks())
    return trace.admit("storage.allow", _STORAGE, meets, "storage_not_in_allowlist") or trace.allowed()


_ALLOW = ("model_access", "allow")
_PROVIDERS = ("routing", "providers")
_REGIONS = ("routing", "regions")
_STORAGE = ("storage_access", "allow")

Meets = Callable[[Any], bool]


class _Trace:
    """Asks one list after the other and remembers the answers; a question returns a Verdict only if it ends it all."""

    def __init__(self, merged: Merged) -> None:
        self._layers = merged.layers
        self._checks: list[Check] = []

    def deny(self, name: str, policy_type: str, meets: Meets, reason: str) -> Verdict | None:
        for layer in self._layers.get((policy_type, "deny"), ()):
            hit = _first(layer, meets)
            if hit is not None:
                self._checks.append(Check(name, False, None, *hit))
                return self.verdict(False, reason)
            self._checks.append(Check(name, True, None, None, layer.policies))
        return None

    def admit(self, name: str, where: tuple[str, str], meets: Meets, reason: str) -> Verdict | None:
        for index, layer in enumerate(self._layers.get(where, ())):
            hit = _first(layer, meets)
            if hit is None:
                self._checks.append(Check(name, False, index, None, layer.policies))
                return self.verdict(False, reason)
            self._checks.append(Check(name, True, index, *hit))
        return None

    def allowed(self) -> Verdict:
        return self.verdict(True, "allowed" if self._checks else "no_restriction")

    def verdict(self, allow: bool, reason: str) -> Verdict:
        """A refusal is owed to the last check, a permission to the entry of the nearest list, an allow list if any."""
        named = [check for check in self._checks if check.pattern is not None]
        part = (([check for check in named if check.check.endswith(".allow")] or named) if allow else self._checks)[-1:]
        had_part = named if allow else part
        return Verdict(
            allow=allow,
            reason=reason,
            by=part[0].policies[0] if part else None,
            pattern=part[0].pattern if part else None,
            layer=part[0].layer if part else None,
            policies=tuple(dict.fromkeys(policy for check in had_part for policy in check.policies)),
            checks=self.checks(),
        )

    def checks(self) -> tuple[Check, ...]:
        return tuple(self._checks)


def _first(layer: Layer, meets: Meets) -> tuple[str, tuple[UUID, ...]] | None:
    """The first entry that fits, as text, with its policy."""
    for entry, policy in layer.entries:
        if meets(entry):
            return (entry if isinstance(entry, str) else str(entry["uri"])), (policy,)
    return None
