from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from policies.lint.ground import Ground

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_OF: Mapping[Severity, str] = {
    "error": "stored_invalid retention_floor_exceeds_ceiling empty_effective_allow alias_target_gone "
    "schedule_never_active",
    "warning": "dead_allow glob_overreach storage_prefix_boundary shadowed_value dead_under_final priority_tie "
    "duplicate_limit counter_shared allow_names_alias alias_shadows_model override_without_effect too_many_applicable",
    "note": "child_budget_exceeds_parent validity_gap validity_overlap empty_config disabled",
}

CODES: Mapping[str, Severity] = {code: severity for severity in SEVERITIES for code in _OF[severity].split()}
"""Every code and its severity, the gravest first. error: something cannot work as written."""


@dataclass(frozen=True, slots=True)
class Finding:
    """code: one of CODES; policies: the ids concerned, the one to change first; text: what is so, and what to do."""

    code: str
    severity: Severity
    policies: tuple[UUID, ...]
    text: str

    @classmethod
    def of(cls, code: str, policies: Iterable[UUID], text: str) -> Finding:
        return cls(code, CODES[code], tuple(dict.fromkeys(policies)), text)

    def as_record(self) -> dict[str, Any]:
        """As JSON: ids are text."""
        policies = [str(policy) for policy in self.policies]
        return {"code": self.code, "severity": self.severity, "policies": policies, "text": self.text}

    def order(self) -> tuple[int, str, tuple[UUID, ...]]:
        """Sort key: by code as CODES has them, which is the gravest first."""
        return [*CODES].index(self.code), self.text, self.policies


Rule = Callable[["Ground"], Iterator[Finding]]
