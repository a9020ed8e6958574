"""From a scope to its effective policy: from the cache, or by one statement and one merge."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from controlplane.core.caches import Ask, CacheUnavailable, RecordCache, invalidation
from controlplane.core.conf import conf
from controlplane.core.ids import NIL, now
from controlplane.core.statements import fetch
from policies.decisions import REASONS, Decision, TokenDecision
from policies.effective import EffectivePolicy, StoredPolicy
from policies.errors import PolicyError
from policies.scope import Scope
from tenants.scope import current_scope

__all__ = ("REASONS", "Decision", "EffectivePolicy", "StoredPolicy", "TokenDecision", "cache", "effective", "load")

# ARRAY[nil, x] and no array parameter: with those the planner never keeps a plan. Rows that do not apply yet come back
# too: they are skipped with a reason, and the next of them sets the deadline.
_STATEMENT = """
SELECT t.time_zone, coalesce(e.epoch, 0), p.id, p.layer, p.priority, p.policy_type, p.config::text, p.overridable,
       p.final, p.version, p.valid_from, p.valid_until, p.schedule::text, p.name, p.message
FROM cp_tenants_tenant t
LEFT JOIN cp_policies_policyepoch e ON e.tenant_id = t.id
LEFT JOIN cp_policies_policy p ON p.tenant_id = t.id AND p.enabled
  AND p.app_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.branch_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.user_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND p.key_key = ANY (ARRAY['00000000-0000-0000-0000-000000000000'::uuid, %s])
  AND (p.valid_until IS NULL OR p.valid_until > %s)
WHERE t.id = %s
ORDER BY p.layer DESC, p.priority DESC, p.id
"""


def effective(using: str | None, scope: Scope, at: datetime | None = None) -> EffectivePolicy:
    """What the policies of `scope` come to: now, from the cache where it may serve, or at an instant, never from it.

    Past the cache goes what it must not know or does not: a transaction's own changes, and another tenant than the
    present tenant scope's. using: an alias that was asked for by name, else None. Raises PolicyError: tenant_mismatch,
    no tenant is seen; policy_unavailable, the database is away.
    """
    present = current_scope()
    past = at or using or invalidation.changed_here("policy") or (present is not None and present != scope.tenant_id)
    if past:
        return load(using or conf.DATABASE, scope, at or now())
    try:
        found = cache.get(tuple(0 if id is None else id.int for id in scope))
    except CacheUnavailable as error:
        raise PolicyError("policy_unavailable", http_status=503) from error
    if found is None:
        raise PolicyError("tenant_mismatch")
    return found


def load(using: str, scope: Scope, at: datetime) -> EffectivePolicy:
    """Read and merge the policies of `scope` at `at`, as the present transaction sees them. Raises tenant_mismatch."""
    found = _read(scope, at, partial(fetch, using))
    if found is None:
        raise PolicyError("tenant_mismatch")
    return found


def _read(scope: Scope, at: datetime, ask: Ask) -> EffectivePolicy | None:
    asked = [scope.app_id, scope.branch_id, scope.user_id, scope.key_id]
    rows = ask(_STATEMENT, [*(value or NIL for value in asked), at, scope.tenant_id])
    if not rows:
        return None
    time_zone, epoch = rows[0][:2]
    stored = tuple(_compiled(row[2:]) for row in rows if row[2] is not None)
    return EffectivePolicy.of(scope, time_zone, at, stored, epoch)


def _compiled(columns: tuple[Any, ...]) -> StoredPolicy:
    """The policy in these columns, worked out once. They are compared whole: a version that was rolled back may come again."""
    key = columns[0].int, columns[7]
    held = _policies.get(key)
    if held is not None and held[0] == columns[1:]:
        return held[1]
    policy = StoredPolicy.read(columns)
    if len(_policies) >= MAX_COMPILED:
        _policies.clear()
    _policies[key] = columns[1:], policy
    return policy


MAX_COMPILED = 20_000
_policies: dict[tuple[int, int], tuple[tuple[Any, ...], StoredPolicy]] = {}

Key = tuple[int, ...]
"""Tenant, app, branch, user and key as numbers, which hash in C; 0 = none."""


def _load(key: Key, ask: Ask) -> EffectivePolicy | None:
    tenant, *rest = key
    return _read(Scope(UUID(int=tenant), *(UUID(int=id) if id else None for id in rest)), now(), ask)


cache: RecordCache[Key, EffectivePolicy] = RecordCache(
    "policies",
    size=conf.CACHE_POLICY_SIZE,
    ttl=conf.CACHE_POLICY_TTL,
    loader=_load,
    kinds={"policy"},
    refs=lambda found: [("policy", found.tenant_id)],
    lasts=lambda found: (found.expires_at - found.at).total_seconds(),
    negative_ttl=0,  # a tenant that is not there yet may be there at once, and no change of a policy tells of it
)
