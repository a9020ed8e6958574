"""What the database itself refuses and does, whoever writes: everything here goes around Policy.save()."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError, QuerySet
from django.db.utils import ProgrammingError
from psycopg import sql

from auditing.models import AuditLog
from controlplane.core.ids import NIL, uuid7
from policies.models import Policy
from policies.periods import Schedule
from policies.schemas import SCHEMAS, ScheduleConfig, problems
from tenants.scope import tenant_scope
from tests.policies.test_periods import CHANGES

NIGHT = {"tz": "Europe/Berlin", "days": ["fri"], "start": "22:00", "end": "06:00"}
SPRING = datetime(2026, 3, 1, tzinfo=UTC)


def force(policy, **columns):
    """UPDATE past every check of Python."""
    QuerySet(Policy).filter(pk=policy.pk).update(**columns)


def refused(name):
    return pytest.raises(IntegrityError, match=f'"?{name}"?')


@pytest.fixture
def policy(acme):
    return acme.policy(config={"allow": ["gpt-*"]}, name="models")


def test_a_policy_has_a_known_type(policy):
    with refused("cp_policies_policy_type_known"):
        QuerySet(Policy).bulk_create([Policy(tenant=policy.tenant, policy_type="anything")])


def test_a_config_is_an_object(policy):
    with refused("cp_policies_policy_config_object"):
        force(policy, config=["allow"])


def test_a_config_has_at_most_64_kib(policy):
    with refused("cp_policies_policy_config_size"):
        force(policy, config={"x": "x" * 65_536})


def test_a_policy_cannot_end_before_it_begins(policy):
    with refused("cp_policies_policy_ends_after_start"):
        force(policy, valid_from=SPRING, valid_until=SPRING)


@pytest.mark.parametrize("column", ["valid_from", "valid_until"])
@pytest.mark.parametrize(
    "text", ["infinity", "-infinity", "0001-12-31Z", "9999-01-01Z", "10000-01-01Z", "0001-01-01Z BC"]
)
def test_a_time_that_python_cannot_tell_is_refused(policy, column, text):
    with refused("cp_policies_policy_within_calendar"), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("UPDATE cp_policies_policy SET {} = %s WHERE id = %s").format(sql.Identifier(column)),
            [text, policy.pk],
        )


def test_a_branch_needs_its_app(acme, policy):
    with refused("cp_policies_policy_branch_needs_app"):
        force(policy, branch=acme.branch())


@pytest.mark.parametrize("column", ["app", "branch", "user", "key"])
def test_a_scope_id_is_not_nil(acme, policy, column):
    with refused("cp_policies_policy_scope_not_nil"):
        force(policy, **{"app": acme.app(), column: NIL})


@pytest.mark.parametrize("column", ["app", "user", "key"])
def test_a_scope_of_another_tenant_is_refused(policy, globex, column):
    with refused(f"cp_policies_policy_{column}_fk"):
        force(policy, **{column: getattr(globex, column)()})


def test_a_branch_of_another_tenant_is_refused(policy, acme, globex):
    with refused("cp_policies_policy_branch_fk"):
        force(policy, app=acme.app(), branch=globex.branch())


def test_a_branch_of_another_app_is_refused(policy, acme):
    with refused("cp_policies_policy_branch_of_app_fk"):
        force(policy, app=acme.app("other"), branch=acme.branch())


def test_a_key_of_another_app_is_refused(policy, acme):
    with refused("cp_policies_policy_key_of_app_fk"):
        force(policy, app=acme.app("other"), key=acme.key())


def test_a_key_without_an_app_is_taken(policy, acme):
    force(policy, key=acme.key())

    policy.refresh_from_db()
    assert policy.layer == 17


@pytest.mark.parametrize("column", ["id", "tenant", "policy_type"])
def test_id_tenant_and_type_of_a_policy_stay(policy, globex, column):
    value = {"id": uuid7(), "tenant": globex.tenant, "policy_type": "budget"}[column]
    with refused("cp_policies_policy_identity"):
        force(policy, **{column: value})


@pytest.mark.parametrize(
    "schedule",
    [
        [],
        {},
        NIGHT | {"tz": "Europe/Atlantis"},
        NIGHT | {"tz": "europe/berlin"},
        NIGHT | {"tz": "ABC+5"},
        NIGHT | {"tz": "localtime"},
        NIGHT | {"tz": None},
        NIGHT | {"days": []},
        NIGHT | {"days": "fri"},
        NIGHT | {"days": ["friday"]},
        NIGHT | {"days": ["fri", "fri"]},
        NIGHT | {"start": "24:00"},
        NIGHT | {"end": "6:00"},
        NIGHT | {"end": 6},
        NIGHT | {"until": "06:00"},
    ],
)
def test_a_stored_schedule_is_sound(policy, schedule):
    assert list(problems(ScheduleConfig, schedule)), "Python and the database disagree"
    with refused("cp_policies_policy_schedule_valid"):
        force(policy, schedule=schedule)


def test_every_zone_that_python_knows_can_be_stored(policy):
    force(policy, schedule=NIGHT)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_timezone_names")
        known = {name for (name,) in cursor}

    zones = ["Asia/Kathmandu", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "UTC", "EST5EDT"]
    assert {*zones} <= known
    assert not any(list(problems(ScheduleConfig, NIGHT | {"tz": zone})) for zone in zones)


def test_the_database_and_python_agree_on_every_schedule_around_clock_changes(db):
    chance = random.Random(7)  # noqa: S311  the same questions every time
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    asked = []
    for zone, instant in CHANGES:
        for _ in range(60):
            start, end = (f"{chance.randrange(24):02}:{chance.choice([0, 1, 29, 30, 31, 59]):02}" for _ in range(2))
            days = chance.sample(names, chance.randint(1, 7))
            schedule = {"tz": zone, "days": days, "start": start, "end": chance.choice([start, end, end])}
            asked += [
                (schedule, instant + timedelta(seconds=chance.randint(-172_800, 172_800)))
                for _ in range(chance.randint(1, 6))
            ]

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT array_agg(cp_policies_schedule_holds(s, a) ORDER BY n) "
            "FROM unnest(%s::jsonb[], %s::timestamptz[]) WITH ORDINALITY AS t(s, a, n)",
            [[json.dumps(schedule) for schedule, _ in asked], [at for _, at in asked]],
        )
        (answers,) = cursor.fetchone()

    assert answers == [Schedule.parse(schedule).holds(at) for schedule, at in asked]
    assert {*answers} == {True, False}


def test_generated_columns_follow_the_scope(acme):
    user = acme.policy(app=acme.app(), user=acme.user())
    everything = acme.policy(app=acme.app(), branch=acme.branch(), user=acme.user(), key=acme.key())

    assert (user.layer, user.app_key, user.branch_key, user.user_key) == (11, acme.app().pk, NIL, acme.user().pk)
    assert everything.layer == 31


def test_the_version_counts_real_changes_and_cannot_be_set(policy):
    force(policy, priority=5)
    force(policy, priority=5)
    force(policy, version=99)

    before = Policy.objects.get(pk=policy.pk)
    assert before.version == 2
    assert before.updated_at > policy.updated_at
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET name = name || '!', version = 50 WHERE id = %s", [policy.pk])
    assert Policy.objects.get(pk=policy.pk).version == 3


def test_a_new_policy_begins_with_version_one(acme):
    assert acme.policy(version=7).version == 1


def test_every_way_of_writing_is_audited(acme):
    [policy] = Policy.objects.bulk_create([Policy(tenant=acme.tenant, policy_type="budget")])
    Policy.objects.filter(pk=policy.pk).update(priority=3)
    Policy.objects.filter(pk=policy.pk).delete()

    assert AuditLog.objects.filter(tenant_id=acme.tenant.pk, resource_id=str(policy.pk)).count() == 3


def test_inside_a_scope_policies_of_the_tenant_alone_are_read_and_none_written(acme, globex):
    mine, theirs = acme.policy(), globex.policy()

    with tenant_scope(acme.tenant):
        assert [policy.pk for policy in Policy.objects.all()] == [mine.pk]
        for write in (lambda: force(mine, priority=1), mine.delete, lambda: acme.policy()):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                write()

    assert Policy.objects.filter(pk=theirs.pk).exists()


def test_what_a_policy_points_at_cannot_be_deleted(acme):
    acme.policy(app=acme.app())

    with pytest.raises(ProtectedError):
        acme.app()._meta.model._base_manager.filter(pk=acme.app().pk).delete()
    with refused("cp_policies_policy_app_fk"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_tenants_app WHERE id = %s", [acme.app().pk])


def test_the_types_are_those_of_the_schemas():
    assert {*Policy.Type.values} == {*SCHEMAS}


CONSTRAINTS_BROKEN_HERE = {
    "cp_policies_policy_app_fk",
    "cp_policies_policy_branch_fk",
    "cp_policies_policy_user_fk",
    "cp_policies_policy_key_fk",
    "cp_policies_policy_branch_of_app_fk",
    "cp_policies_policy_key_of_app_fk",
    "cp_policies_policy_type_known",
    "cp_policies_policy_config_object",
    "cp_policies_policy_config_size",
    "cp_policies_policy_ends_after_start",
    "cp_policies_policy_within_calendar",
    "cp_policies_policy_branch_needs_app",
    "cp_policies_policy_scope_not_nil",
    "cp_policies_policy_schedule_valid",
}


def test_every_constraint_is_broken_by_a_test():
    assert {constraint.name for constraint in Policy._meta.constraints} == CONSTRAINTS_BROKEN_HERE
