"""What a change would do, before it is made: what is odd about it, and what would have become of recent requests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError

from controlplane.core import display
from controlplane.core.errors import ControlPlaneError
from controlplane.core.figures import dollars
from controlplane.core.ids import now
from policies.changes import FIELDS, Change
from policies.lint import Finding, lint
from policies.lint.findings import SEVERITIES
from policies.models import Policy
from policies.simulation import Example, Sample, Simulation, simulate

MOST_REQUESTS = 1000
DAYS = 7
MOST_EXAMPLES = 5
MOST_POLICIES = 300
"""Of a tenant with more of them findings wait for the review: a preview follows the typing, and lint asks every layer."""


@dataclass(frozen=True)
class Findings:
    """What lint says of one policy as it would be. Errors forbid the change; warnings have to be ticked."""

    errors: Sequence[str]
    warnings: Sequence[str]
    notes: Sequence[str]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Findings:
        return cls(*([each.text for each in findings if each.severity == severity] for severity in SEVERITIES))

    @property
    def digest(self) -> str:
        """Of the warnings: a tick is for these and no others."""
        return hashlib.sha256("\n".join(self.warnings).encode()).hexdigest() if self.warnings else ""

    def __bool__(self) -> bool:
        return bool(self.errors or self.warnings or self.notes)


def findings(draft: Policy) -> Findings:
    """Findings that concern a valid draft, as if it were stored; those of other policies are another page's."""
    found = lint(draft.tenant, [change_to(draft)])
    return Findings.of([each for each in found if draft.pk in each.policies])


def quick_findings(draft: Policy) -> Findings | None:
    """For a preview; None where it would take too long."""
    many = Policy.objects.filter(tenant=draft.tenant)[: MOST_POLICIES + 1].count() > MOST_POLICIES
    return None if many else findings(draft)


def change_to(draft: Policy) -> Change:
    """The change that makes a policy the draft."""
    fields = {name: getattr(draft, name) for name in FIELDS}
    if draft._state.adding:
        return Change("create", draft.pk, fields)
    return Change("update", draft.pk, {name: value for name, value in fields.items() if name != "policy_type"})


@dataclass(frozen=True)
class Weighed:
    """The summary of a simulation. result: None where there was nothing to ask, and why."""

    result: Simulation | None
    why: str
    cost: str
    examples: Sequence[dict[str, Any]]


def weigh(draft: Policy) -> Weighed:
    """At most 1,000 requests of the last 7 days, asked of the policies as they are and with the draft in place."""
    end = now()
    try:
        sample = Sample.from_requests(draft.tenant, end - timedelta(days=DAYS), end, MOST_REQUESTS)
        if not sample.requests:
            return Weighed(None, f"There was no request in the last {DAYS} days to try it with.", "", [])
        result = simulate(draft.tenant, [change_to(draft)], sample)
    except (ControlPlaneError, ValidationError) as refused:
        return Weighed(None, getattr(refused, "message", "This could not be tried with recent requests."), "", [])
    sign = "+" if result.cost_difference > 0 else "−" if result.cost_difference < 0 else ""
    cost = f"{sign}{dollars(abs(result.cost_difference))}"
    return Weighed(result, "", cost, [_shown(each) for each in result.examples[:MOST_EXAMPLES]])


def _shown(example: Example) -> dict[str, Any]:
    asked, became = example.request, example.after
    if example.kind == "newly_denied":
        told = f"refused: {became.reason.replace('_', ' ')}"
    elif example.kind == "newly_allowed":
        told = f"allowed; so far refused: {example.before.reason.replace('_', ' ')}"
    else:
        told = f"answered by {became.model}"
    return {"at": display.instant(asked.at), "what": asked.model or asked.uri, "told": told}
