from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from controlplane.core.ids import now
from policies.changes import Change, changed
from policies.errors import PolicyError
from policies.lint import merged, pairs, single
from policies.lint.findings import Finding, Rule
from policies.lint.ground import Ground
from policies.models import Policy
from policies.periods import check_instant
from tenants.models import Tenant

RULES: Sequence[Rule] = (
    single.stored_invalid,
    merged.retention_floor_exceeds_ceiling,
    merged.empty_effective_allow,
    single.alias_target_gone,
    single.schedule_never_active,
    single.dead_allow,
    merged.dead_allow,
    single.glob_overreach,
    single.storage_prefix_boundary,
    merged.shadowed_value,
    merged.dead_under_final,
    pairs.priority_tie,
    pairs.duplicate_limit,
    single.counter_shared,
    single.allow_names_alias,
    single.alias_shadows_model,
    single.override_without_effect,
    merged.too_many_applicable,
    pairs.child_budget_exceeds_parent,
    pairs.validity_gap,
    pairs.validity_overlap,
    single.empty_config,
    single.disabled,
)


def lint(tenant: Tenant | UUID, changes: Iterable[Change] = (), at: datetime | None = None) -> list[Finding]:
    """Everything odd about a tenant's policies, the gravest first; equal for equal policies and catalogue.

    changes: as if they had been made; nothing is stored. at: from when on (aware), None = now; policies that have ended
    by then do not count. Exact: each rule merges the policies of every scope that has some, for every combination that
    applies at some time, and meets each list with every model. A handful of statements, whatever the number of policies.
    Raises PolicyError: tenant_mismatch, time_out_of_range; ValidationError for a change that could not be saved.
    """
    tenant_id = tenant if isinstance(tenant, UUID) else tenant.pk
    owner = Tenant.objects.filter(pk=tenant_id).first()
    if owner is None:
        raise PolicyError("tenant_mismatch")
    policies = Policy.objects.filter(tenant=owner).select_related("app", "branch", "user", "key")
    ground = Ground.of(owner, changed(owner, policies, changes), now() if at is None else check_instant(at))
    return sorted((finding for rule in RULES for finding in rule(ground)), key=Finding.order)
