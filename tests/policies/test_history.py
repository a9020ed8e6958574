"""What the database keeps of every change of a policy, whoever makes it."""

from __future__ import annotations

import psycopg
import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import QuerySet
from django.test import override_settings

from auditing.context import Actor, audit_context
from policies.models import Policy, PolicyEpoch, PolicyVersion
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import PolicyEpochFactory, PolicyFactory, PolicyVersionFactory, TenantFactory
from tests.races import behind, together

GENERATED = {"app_key", "branch_key", "user_key", "key_key"}


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def epoch_of(tenant):
    return PolicyEpoch.objects.filter(tenant=tenant).values_list("epoch", flat=True).first() or 0


def history(policy_id):
    """(version, operation, epoch) of each version of a policy, oldest first."""
    found = PolicyVersion.objects.filter(policy_id=policy_id).order_by("version")
    return [*found.values_list("version", "op", "epoch")]


def told():
    """What the log of changes was told about policies since it was last read here."""
    taken = "DELETE FROM cp_core_invalidation WHERE xid = pg_current_xact_id() AND kind IN ('policy', 'all')"
    return sorted(execute(f"{taken} RETURNING kind, ref, value"), key=str)


@pytest.fixture
def policy(acme):
    return acme.policy(config={"allow": ["gpt-*"]}, name="models")


# ---------------------------------------------------------------- what makes a version


def test_a_policy_that_is_made_changed_and_deleted_has_three_versions(acme, policy):
    id_ = policy.pk
    policy.config = {"allow": ["o1"]}
    policy.save()
    policy.delete()

    assert history(id_) == [(1, "create", 1), (2, "update", 2), (3, "delete", 3)]
    first, second, third = PolicyVersion.objects.filter(policy_id=id_).order_by("version")
    assert [one.body["config"] for one in (first, second, third)] == [
        {"allow": ["gpt-*"]}, {"allow": ["o1"]}, {"allow": ["o1"]},
    ]  # fmt: skip
    assert epoch_of(acme.tenant) == 3


def test_a_version_has_every_field_but_those_of_the_index_alone(policy):
    body = PolicyVersion.objects.get(policy_id=policy.pk).body

    columns = {field.column for field in Policy._meta.concrete_fields}
    assert {*body} == columns - GENERATED
    assert (body["layer"], body["name"], body["valid_from"]) == (1, "models", None)


def test_instants_of_a_version_are_utc_whatever_the_zone_of_the_session(acme):
    execute("SET LOCAL timezone = 'Asia/Tokyo'")
    policy = acme.policy()

    assert PolicyVersion.objects.get(policy_id=policy.pk).body["created_at"].endswith("+00:00")


def test_bulk_create_makes_a_version_of_each_and_one_epoch(acme):
    made = Policy.objects.bulk_create([Policy(tenant=acme.tenant, policy_type="budget") for _ in range(50)])

    assert {version for policy in made for version in history(policy.pk)} == {(1, "create", 1)}
    assert PolicyVersion.objects.count() == 50


def test_update_makes_versions_of_the_policies_that_really_change(acme):
    first, second = acme.policy(priority=1), acme.policy(priority=2)

    Policy.objects.filter(tenant=acme.tenant).update(priority=2)

    assert history(first.pk)[1:] == [(2, "update", 3)]
    assert history(second.pk) == [(1, "create", 2)]


def test_a_write_that_changes_nothing_makes_nothing(acme, policy):
    told()
    policy.save()
    Policy.objects.filter(pk=policy.pk).update(priority=0)
    execute("UPDATE cp_policies_policy SET version = 99, updated_at = now()")
    execute("DELETE FROM cp_policies_policy WHERE false")

    assert history(policy.pk) == [(1, "create", 1)]
    assert (epoch_of(acme.tenant), told()) == (1, [])


def test_plain_sql_makes_versions_too(acme, policy):
    execute("UPDATE cp_policies_policy SET name = name || '!' WHERE id = %s", policy.pk)
    execute("DELETE FROM cp_policies_policy WHERE id = %s", policy.pk)

    assert history(policy.pk) == [(1, "create", 1), (2, "update", 2), (3, "delete", 3)]


def test_an_insert_that_updates_on_conflict_makes_a_version_of_both_kinds(acme, policy):
    fresh = Policy(tenant=acme.tenant, policy_type="budget")
    policy.name = "renamed"
    QuerySet(Policy).bulk_create([policy, fresh], update_conflicts=True, unique_fields=["id"], update_fields=["name"])

    assert [one[:2] for one in history(policy.pk)] == [(1, "create"), (2, "update")]
    assert [one[:2] for one in history(fresh.pk)] == [(1, "create")]


def test_a_savepoint_that_is_rolled_back_leaves_nothing(acme, policy):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Policy.objects.update(priority=7)
        raise ZeroDivisionError

    assert (history(policy.pk), epoch_of(acme.tenant)) == ([(1, "create", 1)], 1)


def test_a_policy_that_comes_back_under_its_id_counts_on(acme, policy):
    id_ = policy.pk
    Policy.objects.filter(pk=id_).delete()

    again = acme.policy(id=id_)

    assert again.version == 3
    assert [one[:2] for one in history(id_)] == [(1, "create"), (2, "delete"), (3, "create")]


def test_replication_makes_versions_too(acme, policy, can_replicate):
    with can_replicate() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET priority = 3")

    assert history(policy.pk)[-1] == (2, "update", 2)


def test_a_thousand_policies_of_one_statement_are_joined_by_hash_after_one_was_changed(acme):
    Policy.objects.bulk_create([Policy(tenant=acme.tenant, policy_type="budget") for _ in range(1000)])
    Policy.objects.filter(pk=Policy.objects.first().pk).update(priority=1)

    Policy.objects.update(priority=2)

    assert PolicyVersion.objects.filter(op="update").count() == 1001
    assert epoch_of(acme.tenant) == 3


# ---------------------------------------------------------------- two tenants


def test_tenants_of_one_statement_have_an_epoch_each(acme, globex):
    acme.policy(), acme.policy(), globex.policy()
    told()

    Policy.objects.update(priority=4)

    assert (epoch_of(acme.tenant), epoch_of(globex.tenant)) == (3, 2)
    assert {*PolicyVersion.objects.filter(op="update").values_list("tenant", "epoch")} == {
        (acme.tenant.pk, 3), (globex.tenant.pk, 2),
    }  # fmt: skip
    assert told() == sorted([("policy", acme.tenant.pk, 3), ("policy", globex.tenant.pk, 2)], key=str)


def test_the_epochs_of_one_tenant_say_nothing_about_another(acme, globex):
    acme.policy(), acme.policy()
    globex.policy()

    assert (epoch_of(acme.tenant), epoch_of(globex.tenant)) == (2, 1)


def test_an_id_that_another_tenant_used_begins_anew(acme, globex):
    policy = acme.policy()
    id_ = policy.pk
    policy.delete()

    assert globex.policy(id=id_).version == 1


# ---------------------------------------------------------------- who and why


@pytest.mark.parametrize(
    ("actor", "said"),
    [
        (Actor("operator", "7", "ada@acme.example"), "operator 7"),
        (Actor("command", "policy_apply", "root"), "command policy_apply"),
        (Actor("anonymous"), "anonymous"),
        ("scheduler", "system scheduler"),
    ],
)
def test_a_version_says_who_made_it_and_why_and_keeps_no_name_of_a_person(acme, actor, said):
    with audit_context(actor=actor, reason="ticket 5"):
        policy = acme.policy()

    version = PolicyVersion.objects.get(policy_id=policy.pk)
    assert (version.actor, version.reason) == (said, "ticket 5")


def test_without_an_audit_context_the_login_of_the_database_made_it(policy):
    version = PolicyVersion.objects.get(policy_id=policy.pk)

    assert (version.actor, version.reason) == (f"database {execute('SELECT session_user')[0][0]}", "")


def test_a_secret_in_the_reason_is_not_kept(acme):
    execute("SELECT set_config('cp.audit', %s, true)", '{"reason": "see Bearer abcdefghijklmnop"}')
    policy = acme.policy()

    assert PolicyVersion.objects.get(policy_id=policy.pk).reason == "see Bearer [redacted]"


# ---------------------------------------------------------------- the log of changes


def test_each_change_tells_the_caches_the_new_epoch(acme, policy):
    told()
    Policy.objects.update(priority=1)
    Policy.objects.update(priority=2)
    policy.delete()

    assert told() == [("policy", acme.tenant.pk, 2), ("policy", acme.tenant.pk, 3), ("policy", acme.tenant.pk, 4)]


def test_more_than_a_thousand_tenants_of_one_statement_are_one_row_for_all(db):
    made = Tenant.objects.bulk_create([TenantFactory.build() for _ in range(1001)])
    told()

    Policy.objects.bulk_create([Policy(tenant=tenant, policy_type="budget") for tenant in made])

    assert told() == [("all", None, None)]


def test_a_change_of_the_tenants_zone_tells_the_caches_and_is_no_epoch(acme, globex):
    told()
    Tenant.objects.filter(pk=acme.tenant.pk).update(time_zone="Asia/Tokyo")
    Tenant.objects.filter(pk=globex.tenant.pk).update(name="Globex!")
    Tenant.objects.filter(pk=acme.tenant.pk).update(time_zone="Asia/Tokyo")

    assert told() == [("policy", acme.tenant.pk, None)]
    assert epoch_of(acme.tenant) == 0


# ---------------------------------------------------------------- who may do what


@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET reason = 'x'", "DELETE FROM {}", "TRUNCATE {}"],
)
def test_versions_are_append_only(policy, statement):
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        execute(statement.format("cp_policies_policyversion"))


def test_policies_cannot_be_truncated(policy):
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    with pytest.raises(IntegrityError, match="history would miss it"), transaction.atomic():
        execute("TRUNCATE cp_policies_policy CASCADE")


def test_inside_a_scope_the_history_of_the_tenant_alone_is_read(acme, globex):
    mine, theirs = acme.policy(), globex.policy()

    with tenant_scope(acme.tenant):
        assert [*PolicyVersion.objects.values_list("policy_id", flat=True)] == [mine.pk]
        assert [*PolicyEpoch.objects.values_list("tenant_id", flat=True)] == [acme.tenant.pk]

    assert PolicyVersion.objects.filter(policy_id=theirs.pk).exists()


@pytest.mark.parametrize("table", ["cp_policies_policyversion", "cp_policies_policyepoch"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET epoch = 9", "DELETE FROM {}", "INSERT INTO {} (epoch) VALUES (1)"]
)
def test_inside_a_scope_the_history_is_not_written(acme, policy, table, statement):
    with tenant_scope(acme.tenant), pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        execute(statement.format(table))


def test_who_may_write_policies_inside_a_scope_makes_versions_he_could_not_write(acme, policy):
    execute("GRANT INSERT, UPDATE, DELETE ON cp_policies_policy TO cp_tenant")

    with tenant_scope(acme.tenant):
        QuerySet(Policy).filter(pk=policy.pk).update(priority=5)
        [made] = QuerySet(Policy).bulk_create([Policy(tenant=acme.tenant, policy_type="budget")])
        QuerySet(Policy).filter(pk=policy.pk).delete()

    assert history(policy.pk) == [(1, "create", 1), (2, "update", 2), (3, "delete", 4)]
    assert history(made.pk) == [(1, "create", 3)]


@pytest.mark.parametrize("name", ["cp_policies_record", "cp_policies_policy_versioned"])
def test_nobody_can_hang_the_functions_on_a_table_of_his_own(acme, name):
    with tenant_scope(acme.tenant), pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        execute("CREATE TEMPORARY TABLE mine (id uuid)")
        execute(f"CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {name}()")


# ---------------------------------------------------------------- constraints


def refused(name):
    return pytest.raises(IntegrityError, match=name)


def test_a_version_is_recorded_once(policy):
    with refused("cp_policies_policyversion_once"):
        PolicyVersionFactory(tenant=policy.tenant, policy_id=policy.pk)


def test_a_version_has_a_known_operation(db):
    with refused("cp_policies_policyversion_op_known"):
        PolicyVersionFactory(op="rename")


@pytest.mark.parametrize("fields", [{"version": 0}, {"epoch": 0}])
def test_versions_begin_with_one(db, fields):
    with refused("cp_policies_policyversion_counted"):
        PolicyVersionFactory(**fields)


def test_a_tenant_has_one_epoch(policy):
    with refused("cp_policies_policyepoch_tenant_once"):
        PolicyEpochFactory(tenant=policy.tenant)


def test_epochs_begin_with_one(db):
    with refused("cp_policies_policyepoch_counted"):
        PolicyEpochFactory(epoch=0)


# ---------------------------------------------------------------- what was there before


def test_policies_from_before_the_history_begin_it(acme, globex):
    first, second = acme.policy(priority=3), globex.policy()
    first.name = "changed"
    first.save()
    execute("SET CONSTRAINTS ALL IMMEDIATE")

    with override_settings(CONTROLPLANE={"MIGRATE": True}):
        MigrationExecutor(connection).migrate([("cp_policies", "0001_create_policy")])
        MigrationExecutor(connection).migrate([("cp_policies", "0002_create_history")])

    assert (history(first.pk), history(second.pk)) == ([(2, "create", 1)], [(1, "create", 1)])
    execute("UPDATE cp_policies_policy SET priority = 9 WHERE id = %s", first.pk)
    assert history(first.pk) == [(2, "create", 1), (3, "update", 2)]
    execute("SET CONSTRAINTS ALL IMMEDIATE")


# ---------------------------------------------------------------- at once


@pytest.mark.django_db(transaction=True)
def test_a_change_waits_for_the_one_before_so_epochs_are_in_the_order_of_commits(acme, other_connection):
    first, second = acme.policy(), acme.policy()

    def early():
        Policy.objects.filter(pk=first.pk).update(priority=1)

    def late():
        Policy.objects.filter(pk=second.pk).update(priority=1)

    assert behind(early, late, other_connection) is None
    assert (history(first.pk)[-1], history(second.pk)[-1]) == ((2, "update", 3), (2, "update", 4))


@pytest.mark.django_db(transaction=True)
def test_statements_over_the_same_tenants_at_once_never_wait_in_a_ring(acme, globex):
    threads, rounds = 6, 10
    tenants = [acme.tenant, globex.tenant, *(TenantFactory() for _ in range(4))]
    mine = [[PolicyFactory(tenant=tenant).pk for tenant in tenants] for _ in range(threads)]
    before = [epoch_of(tenant) for tenant in tenants]

    def write(own):
        # As written, so that the rows are met in an order of their own; a row is of one thread.
        values = ", ".join("(%s::uuid)" for _ in own)
        for _ in range(rounds):
            execute(
                f"UPDATE cp_policies_policy p SET priority = priority + 1 FROM (VALUES {values}) v(id) WHERE p.id = v.id",
                *own,
            )

    outcomes = together(*(lambda own=own[i:] + own[:i]: write(own) for i, own in enumerate(mine)))

    assert outcomes == [None] * threads
    assert [epoch_of(tenant) for tenant in tenants] == [epoch + threads * rounds for epoch in before]


@pytest.mark.django_db(transaction=True)
def test_who_sees_an_epoch_sees_every_change_before_it(acme, other_connection):
    policies = [acme.policy() for _ in range(4)]
    ended = []

    def write(policy):
        for number in range(40):
            Policy.objects.filter(pk=policy.pk).update(priority=number + 1)
        ended.append(policy)

    def read():
        """Each write has one version and one epoch, so their numbers are equal in every snapshot."""
        seen = []
        while len(ended) < len(policies):
            seen += execute(
                "SELECT epoch, (SELECT count(*) FROM cp_policies_policyversion v WHERE v.tenant_id = e.tenant_id), "
                "(SELECT sum(version) FROM cp_policies_policy p WHERE p.tenant_id = e.tenant_id) "
                "FROM cp_policies_policyepoch e WHERE tenant_id = %s",
                acme.tenant.pk,
            )
        return seen

    *_, seen = together(*(lambda policy=policy: write(policy) for policy in policies), read)

    assert [row for row in seen if len({*row}) != 1] == []
    assert epoch_of(acme.tenant) == 4 + 160


@pytest.mark.django_db(transaction=True)
def test_a_change_whose_session_is_killed_leaves_no_epoch(acme, other_connection):
    policy = acme.policy()

    with psycopg.connect(**connection.get_connection_params()) as doomed, pytest.raises(psycopg.OperationalError):
        doomed.execute("UPDATE cp_policies_policy SET priority = 1")
        other_connection.execute("SELECT pg_terminate_backend(%s)", [doomed.info.backend_pid])
        doomed.execute("SELECT 1")

    Policy.objects.filter(pk=policy.pk).update(priority=2)
    assert history(policy.pk) == [(1, "create", 1), (2, "update", 2)]
