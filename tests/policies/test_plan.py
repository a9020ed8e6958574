"""How the database finds the policies of a request among very many: one look into one index, whatever plan it keeps."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime

import pytest
from django.db import connection

from controlplane.core.ids import NIL
from policies.models import Policy
from policies.resolution import _STATEMENT

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEYS = ("app_key", "branch_key", "user_key", "key_key")
COPIES = 400


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def multiply():
    """Each policy so many times more; until the test's transaction ends, no trigger of ours notes anything."""
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    for (name,) in execute(
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'cp_policies_policy'::regclass"
    ):
        execute(f'ALTER TABLE cp_policies_policy DISABLE TRIGGER "{name}"')
    columns = [field.column for field in Policy._meta.concrete_fields if not field.generated and field.column != "id"]
    listed = ", ".join(columns)
    execute(
        f"INSERT INTO cp_policies_policy (id, {listed}) SELECT cp_uuid7(clock_timestamp()), {listed} "
        "FROM cp_policies_policy, generate_series(1, %s)",
        COPIES,
    )
    execute("ANALYZE cp_policies_policy")


@pytest.fixture
def crowded(acme, globex):
    """Two tenants with 16,000 policies each, of users mostly; the scope of one request of acme meets four of them."""
    for world in (acme, globex):
        users = [world.user(f"user-{number}") for number in range(38)]
        for row in (*users, *(world.app(f"app-{number}") for number in range(2))):
            world.policy("budget", **{row._meta.model_name: row})
    multiply()
    user = acme.user("rare")
    mine = [
        acme.policy("budget"),
        acme.policy("budget", app=acme.app()),
        acme.policy("budget", user=user),
        acme.policy("budget", app=acme.app(), user=user),
    ]
    return [acme.app().pk, NIL, user.pk, NIL, NOON, acme.tenant.pk], mine


def plan_of(params, mode):
    """The plan that is run, as nodes."""
    numbers = itertools.count(1)
    statement = re.sub("%s", lambda _: f"${next(numbers)}", _STATEMENT)
    execute(f"SET LOCAL plan_cache_mode = {mode}")
    execute(f"PREPARE asked (uuid, uuid, uuid, uuid, timestamptz, uuid) AS {statement}")
    [[found]] = execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({', '.join(['%s'] * 6)})", *params)
    execute("DEALLOCATE asked")
    plan = found if isinstance(found, list) else json.loads(found)
    return [*nodes(plan[0]["Plan"])]


def nodes(node):
    yield node
    for below in node.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_the_cold_statement_is_one_scan_of_the_scope_index_that_reads_what_applies_and_nothing_else(crowded, mode):
    params, mine = crowded

    found = plan_of(params, mode)

    scans = [node for node in found if node.get("Index Name") == "cp_policy_scope_idx"]
    assert len(scans) == 1
    assert all(f"({key} = " in scans[0]["Index Cond"] for key in ("tenant_id", *KEYS))
    assert scans[0]["Actual Rows"] == len(mine)
    tables = [node for node in found if node.get("Relation Name") == "cp_policies_policy"]
    assert len(tables) == 1
    assert not any(key in tables[0].get("Filter", "") for key in KEYS)
    assert tables[0].get("Rows Removed by Filter", 0) == 0


def test_the_statement_finds_in_a_crowd_what_the_query_set_finds(crowded, acme):
    _, mine = crowded
    asked = {"app": acme.app(), "user": acme.user("rare"), "at": NOON}

    assert list(acme.effective(**asked).applicable) == [
        row.pk for row in Policy.objects.applicable(acme.tenant, **asked)
    ]
    assert {*acme.effective(**asked).applicable} == {policy.pk for policy in mine}
