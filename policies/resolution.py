"""From a scope to its effective policy: one statement, one merge."""

from __future__ import annotations

from datetime import datetime

from controlplane.core.ids import NIL
from controlplane.core.statements import fetch
from policies.decisions import REASONS, Decision, TokenDecision
from policies.effective import EffectivePolicy, StoredPolicy
from policies.errors import PolicyError
from policies.scope import Scope

__all__ = ("REASONS", "Decision", "EffectivePolicy", "StoredPolicy", "TokenDecision", "load")

# ARRAY[nil, x] and no array parameter: with those the planner never keeps a plan. Rows that do not apply yet come back
# too: they are skipped with a reason, and the next of them sets the deadline.
_STATEMENT = """
SELECT t.time_zone, p.id, p.layer, p.priority, p.policy_type, p.config::text, p.overridable, p.final, p.version,
       p.valid_from, p.valid_until, p.schedule::text, p.name, p.message
FROM cp_tenants_tenant t
LEFT JOIN cp_policies_policy p ON p.tenant_id = t.id AND p.enabled
  AND p.app_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.branch_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.user_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.key_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND (p.valid_until IS NULL OR p.valid_until > %s)
WHERE t.id = %s
ORDER BY p.layer DESC, p.priority DESC, p.id
"""


def load(using: str, scope: Scope, at: datetime) -> EffectivePolicy:
    """Read and merge the policies of `scope` at `at`. Raises PolicyError("tenant_mismatch"): no tenant is seen."""
    asked = [scope.app_id, scope.branch_id, scope.user_id, scope.key_id]
    rows = fetch(using, _STATEMENT, [*(value or NIL for value in asked), at, scope.tenant_id])
    if not rows:
        raise PolicyError("tenant_mismatch")
    stored = tuple(StoredPolicy.read(row[1:]) for row in rows if row[1] is not None)
    return EffectivePolicy.of(scope, rows[0][0], at, stored)
