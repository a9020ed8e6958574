"""A look-up of policies that are not cached, beside the same SQL, prepared, by psycopg alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
from django.db import connection

from benchmarks.report import Goal, show
from controlplane.core.caches import invalidation
from controlplane.core.ids import NIL, now
from policies import resolution, schemas
from policies.models import Policy
from policies.scope import Scope

OURS, FRESH = "effective(…), its scope not cached", "effective(…), nothing cached at all"
ALONE = "the same SQL, prepared, psycopg alone"

TENANTS = 10_000
ASKED, TURNS = 200, 15

# Four types each: 4 policies of the organization, 4 of each app, 4 of each user in an app, so a request meets 12. A user is in
# all apps of a small tenant, and in 50 of the big one, which has 10 + 600 + 10,000 policies; the others have 100.
_SMALL = {"org": 4, "apps": 4, "users": 5}
_BIG = {"org": 10, "apps": 150, "users": 50}

# Copies of a row that Django made, so that every column has what it has there.
_TENANT_ROWS = """
INSERT INTO cp_tenants_tenant
SELECT (jsonb_populate_record(t, jsonb_build_object('id', cp_uuid7(clock_timestamp()), 'slug', 'cold-' || n))).*
FROM cp_tenants_tenant t, generate_series(1, %s) n WHERE t.slug = 'bench-policies'
"""
_APP_ROWS = """
INSERT INTO cp_tenants_app
SELECT (jsonb_populate_record(a, jsonb_build_object(
    'id', cp_uuid7(clock_timestamp()), 'tenant_id', t.id, 'slug', 'app-' || n, 'name', 'App ' || n))).*
FROM cp_tenants_app a JOIN cp_tenants_tenant o ON o.id = a.tenant_id, cp_tenants_tenant t,
LATERAL generate_series(1, CASE t.slug WHEN 'cold-1' THEN %s ELSE %s END) n
WHERE o.slug = 'bench-policies' AND a.slug = 'app-0' AND t.slug LIKE 'cold-%%'
"""
_USER_ROWS = """
INSERT INTO cp_tenants_user
SELECT (jsonb_populate_record(u, jsonb_build_object(
    'id', cp_uuid7(clock_timestamp()), 'tenant_id', t.id, 'email', 'user-' || n || '@' || t.slug || '.example'))).*
FROM cp_tenants_user u, cp_tenants_tenant t,
LATERAL generate_series(1, CASE t.slug WHEN 'cold-1' THEN %s ELSE %s END) n
WHERE u.email = 'user-0@bench.example' AND t.slug LIKE 'cold-%%'
"""
_POLICIES = """
WITH body (n, policy_type, config) AS (VALUES
    (0, 'model_access', '{"allow": ["openai/*", "anthropic/*"], "deny": ["*-preview"]}'::jsonb),
    (1, 'token_caps', '{"max_input_tokens": 100000, "max_output_tokens": 4096}'),
    (2, 'rate_limit', '{"limits": [{"metric": "requests", "window": "1m", "limit": 600}]}'),
    (3, 'budget', '{"limits": [{"window": "month", "limit": "500.00"}]}')
)
INSERT INTO cp_policies_policy (id, tenant_id, app_id, user_id, policy_type, config, priority, enabled, overridable, final,
    name, description, message, version)
SELECT cp_uuid7(clock_timestamp()), o.tenant_id, o.app_id, o.user_id, b.policy_type, b.config, 0, true, '{}', '{}', '', '', '', 1
FROM (
    SELECT t.id AS tenant_id, NULL::uuid AS app_id, NULL::uuid AS user_id, n FROM cp_tenants_tenant t,
        LATERAL generate_series(0, CASE t.slug WHEN 'cold-1' THEN %s ELSE %s END - 1) n WHERE t.slug LIKE 'cold-%%'
    UNION ALL SELECT a.tenant_id, a.id, NULL, n FROM cp_tenants_app a JOIN cp_tenants_tenant t ON t.id = a.tenant_id,
        generate_series(0, 3) n WHERE t.slug LIKE 'cold-%%'
    UNION ALL SELECT u.tenant_id, a.id, u.id, n FROM cp_tenants_user u JOIN cp_tenants_tenant t ON t.id = u.tenant_id
        JOIN cp_tenants_app a ON a.tenant_id = t.id, generate_series(0, 3) n
        WHERE t.slug LIKE 'cold-%%' AND substr(a.slug, 5)::int <= 50
) o JOIN body b ON b.n = o.n %% 4
"""
_TABLES = ("cp_tenants_tenant", "cp_tenants_app", "cp_tenants_user", "cp_policies_policy")


def run() -> bool:
    """The rows of benchmarks.policies_set are there."""
    _fill()
    scopes = _scopes()
    params = connection.get_connection_params()
    del params["cursor_factory"]  # Django's binds on the client
    with psycopg.connect(**params, autocommit=True) as raw:
        measured = _measured(scopes, raw)
    goals = [Goal("a cold scope in the same SQL alone", measured[OURS] / measured[ALONE], 2.0, "{:.2f} x", most=True)]
    return show(f"Look-ups that are not cached, of {Policy.objects.count():,} policies", measured, "µs", goals)


def _measured(scopes: list[Scope], raw: psycopg.Connection[Any]) -> dict[str, float]:
    """Medians over single calls, in µs: each call of ours follows one of the bare statement for the same scope."""

    def alone(scope: Scope) -> None:
        ids = [scope.app_id or NIL, NIL, scope.user_id or NIL, NIL]
        rows = raw.execute(resolution._STATEMENT, [*ids, now(), scope.tenant_id], prepare=True).fetchall()
        assert len(rows) >= 12  # noqa: S101

    def ours(scope: Scope) -> None:
        resolution.effective(None, scope)

    taken: dict[str, list[float]] = {name: [] for name in (OURS, ALONE, FRESH)}
    for turn in range(TURNS + 1):
        for name, forget in ((OURS, _forget_scopes), (FRESH, _forget_all)):
            if name == OURS:
                _each(scopes, ours)  # its policies are worked out by then
            forget()
            invalidation.poll()
            for scope in scopes:
                alone_s, ours_s = _seconds(alone, scope), _seconds(ours, scope)
                if turn:
                    taken[ALONE].append(alone_s)
                    taken[name].append(ours_s)
    return {name: median(found) * 1e6 for name, found in taken.items()}


def _each(scopes: list[Scope], call: Callable[[Scope], None]) -> None:
    for scope in scopes:
        call(scope)


def _seconds(call: Callable[[Scope], None], scope: Scope) -> float:
    began = perf_counter()
    call(scope)
    return perf_counter() - began


def _forget_scopes() -> None:
    resolution.cache.clear()


def _forget_all() -> None:
    resolution.cache.clear()
    resolution._policies.clear()
    schemas.stored_config_is_valid.cache_clear()


def _scopes() -> list[Scope]:
    """Apps and users of random tenants, and of the big one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.id, a.id, u.id FROM cp_tenants_tenant t "
            "JOIN cp_tenants_app a ON a.tenant_id = t.id AND a.slug = 'app-3' "
            "JOIN cp_tenants_user u ON u.tenant_id = t.id AND u.email LIKE 'user-3@%' "
            "WHERE t.slug LIKE 'cold-%' ORDER BY t.slug"
        )
        rows = cursor.fetchall()
    [big, *small] = [Scope(tenant, app, None, user) for tenant, app, user in rows]
    return [big, *random.Random(9).sample(small, min(ASKED - 1, len(small)))]  # noqa: S311


def _fill() -> None:
    with _unwatched(), connection.cursor() as cursor:
        cursor.execute(_TENANT_ROWS, [TENANTS])
        for statement, name in ((_APP_ROWS, "apps"), (_USER_ROWS, "users"), (_POLICIES, "org")):
            cursor.execute(statement, [_BIG[name], _SMALL[name]])
        cursor.execute("VACUUM ANALYZE cp_policies_policy")
        cursor.execute("ANALYZE")


@contextmanager
def _unwatched() -> Iterator[None]:
    """While rows are made by the million, which is not what is measured: no trigger of ours runs."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger "
            "WHERE NOT tgisinternal AND tgrelid = ANY (%s::regclass[])",
            [[*_TABLES]],
        )
        triggers = cursor.fetchall()
        for table, name, _ in triggers:
            cursor.execute(f'ALTER TABLE {table} DISABLE TRIGGER "{name}"')
        yield
        for table, name, enabled in triggers:
            always = "ALWAYS" if enabled == "A" else ""
            cursor.execute(f'ALTER TABLE {table} ENABLE {always} TRIGGER "{name}"')
