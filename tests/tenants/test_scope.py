from __future__ import annotations

from contextlib import nullcontext
from threading import Barrier, Thread

import pytest
from django.db import DatabaseError, ProgrammingError, connection, transaction
from django.db.models import Count, F

from auditing.models import AuditLog, DeadLetter, InferenceRequest, InFlightRequest
from catalog.models import AIModel, ModelAlias, Provider
from controlplane.core.ids import PLATFORM, uuid7
from tenants.models import APIKey, APIKeySecret, App, Branch, Tenant, User, UserApp
from tenants.scope import current_scope, tenant_scope
from tests.factories import (
    AppFactory,
    AuditLogFactory,
    BranchFactory,
    DeadLetterFactory,
    InferenceRequestFactory,
    InFlightRequestFactory,
    ModelAliasFactory,
    OperatorFactory,
    TenantFactory,
    UserAppFactory,
    UserFactory,
    issue,
)

OWNED = [
    Tenant,
    App,
    Branch,
    User,
    UserApp,
    APIKey,
    APIKeySecret,
    AuditLog,
    InferenceRequest,
    InFlightRequest,
    DeadLetter,
]


def fill(tenant):
    app = AppFactory(tenant=tenant)
    user = UserFactory(tenant=tenant)
    BranchFactory(app=app)
    UserAppFactory(app=app, user=user)
    issue(app)
    AuditLogFactory(tenant_id=tenant.pk)
    InferenceRequestFactory(tenant_id=tenant.pk)
    InFlightRequestFactory(tenant_id=tenant.pk)
    DeadLetterFactory(tenant_id=tenant.pk)
    ModelAliasFactory(tenant=tenant)
    return app


def tenant_column(model):
    return "id" if model is Tenant else "tenant_id"


def raw(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else cursor.rowcount


@pytest.fixture
def two(acme, globex):
    fill(acme)
    fill(globex)
    return acme, globex


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_a_scope_shows_its_own_rows_and_no_others(two, model):
    acme, globex = two
    column = tenant_column(model)

    with tenant_scope(acme):
        seen = set(model.objects.values_list(column, flat=True))
        counted = model.objects.aggregate(n=Count("pk"))["n"]
        asked = model.objects.filter(**{column: globex.pk}).exists()

    assert seen == {acme.pk}
    assert counted == model.objects.filter(**{column: acme.pk}).count() > 0
    assert not asked
    assert model.objects.filter(**{column: globex.pk}).exists()


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_no_kind_of_raw_query_sees_the_other_tenant(two, model):
    acme, globex = two
    table, column = model._meta.db_table, tenant_column(model)
    others = {
        "select": f"SELECT {column} FROM {table} WHERE {column} = %s",
        "join": f"SELECT t.{column} FROM {table} t LEFT JOIN {table} o ON true WHERE o.{column} = %s",
        "count": f"SELECT 1 FROM {table} WHERE {column} = %s HAVING count(*) > 0",
        "window": f"SELECT n FROM (SELECT {column} AS n, row_number() OVER () FROM {table}) x WHERE n = %s",
        "whole row": f"SELECT to_jsonb(x) FROM {table} x WHERE {column} = %s",
        "union": f"SELECT {column} FROM {table} UNION SELECT {column} FROM {table} WHERE {column} = %s EXCEPT SELECT '{acme.pk}'",
        "with": f"WITH x AS MATERIALIZED (SELECT * FROM {table}) SELECT 1 FROM x WHERE {column} = %s",
        "lateral": f"SELECT 1 FROM cp_tenants_tenant, LATERAL (SELECT * FROM {table} i WHERE i.{column} = %s) x",
        "exists": f"SELECT 1 WHERE EXISTS (SELECT FROM {table} WHERE {column} = %s)",
        "function": "SELECT * FROM query_to_xml(%s, true, false, '') AS found(x) WHERE x::text LIKE '%%row%%'",
    }

    with tenant_scope(acme):
        for kind, statement in others.items():
            asked = f"SELECT {column} FROM {table} WHERE {column} = '{globex.pk}'" if kind == "function" else globex.pk
            assert raw(statement, asked) == [], kind


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_copy_gives_out_no_row_of_the_other_tenant(two, model):
    acme, globex = two

    with tenant_scope(acme), connection.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT * FROM {model._meta.db_table}) TO STDOUT") as copy:
            text = b"".join(copy).decode()

    assert str(acme.pk) in text
    assert str(globex.pk) not in text


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_no_update_or_delete_reaches_the_other_tenant(two, model):
    acme, globex = two
    table, column = model._meta.db_table, tenant_column(model)
    before = raw(f"SELECT to_jsonb(x) FROM {table} x WHERE {column} = %s", globex.pk)

    for privilege, statement in (
        ("UPDATE", f"UPDATE {table} SET {column} = {column}"),
        ("DELETE", f"DELETE FROM {table}"),
    ):
        granted = raw("SELECT has_table_privilege('cp_tenant', %s, %s)", table, privilege) == [(True,)]
        refused = nullcontext() if granted else pytest.raises(ProgrammingError, match="permission denied")
        with refused, tenant_scope(acme):
            assert raw(statement + f" WHERE {column} = %s", globex.pk) == 0

    assert raw(f"SELECT to_jsonb(x) FROM {table} x WHERE {column} = %s", globex.pk) == before


@pytest.mark.parametrize(
    "row",
    [
        lambda tenant, app: App(tenant=tenant, slug="new", name="New"),
        lambda tenant, app: Branch(tenant=tenant, app=app, code="new", name="New"),
        lambda tenant, app: User(tenant=tenant, email="new@example.org"),
        lambda tenant, app: APIKey(tenant=tenant, app=app, name="new"),
        lambda tenant, app: ModelAlias(tenant=tenant, alias="new", model=AIModel.objects.first()),
        lambda tenant, app: AuditLogFactory.build(tenant_id=tenant.pk),
        lambda tenant, app: InferenceRequestFactory.build(tenant_id=tenant.pk),
        lambda tenant, app: InFlightRequestFactory.build(tenant_id=tenant.pk),
        lambda tenant, app: DeadLetterFactory.build(tenant_id=tenant.pk),
    ],
    ids=["app", "branch", "user", "key", "alias", "audit", "request", "in flight", "dead letter"],
)
def test_a_row_of_the_other_tenant_cannot_be_written(two, acme_app, globex_app, row):
    acme, globex = two

    with tenant_scope(acme):
        row(acme, acme_app).save(force_insert=True)
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(acme):
        row(globex, globex_app).save(force_insert=True)
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(acme):
        type(row(globex, globex_app)).objects.bulk_create([row(globex, globex_app)])


def test_a_row_cannot_be_given_away(two):
    acme, globex = two

    for model in (App, Branch, User, UserApp):
        with pytest.raises(DatabaseError), tenant_scope(acme):
            model.objects.update(tenant=globex)


def test_a_row_cannot_point_into_a_tenant_that_is_not_seen(two, globex_app):
    acme, _ = two

    with pytest.raises(DatabaseError, match="cp_tenants_branch_app_of_tenant"), tenant_scope(acme):
        Branch.objects.create(tenant=acme, app=globex_app, code="x", name="x")


def test_copy_cannot_write_a_row_of_the_other_tenant(two):
    acme, globex = two

    # PostgreSQL refuses COPY FROM under row security altogether; rows go by INSERT … SELECT from a staged table
    with (
        pytest.raises(DatabaseError),
        tenant_scope(acme),
        connection.cursor() as cursor,
        connection.wrap_database_errors,
    ):
        with cursor.copy("COPY cp_tenants_app (id, tenant_id, slug, name) FROM STDIN") as copy:
            copy.write_row([uuid7(), globex.pk, "x", "x"])


def test_a_tenant_cannot_make_a_user_of_the_platform(acme):
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(acme):
        User.objects.bulk_create([User(tenant=None, email="root@example.org", role="operator", is_superuser=True)])


def test_operators_and_platform_events_are_not_seen(acme):
    OperatorFactory()
    AuditLogFactory(tenant_id=PLATFORM)

    with tenant_scope(acme):
        assert not User.objects.filter(tenant=None).exists()
        assert not AuditLog.objects.filter(tenant_id=PLATFORM).exists()


def test_of_aliases_those_for_everybody_are_read_and_not_written(acme):
    shared = ModelAliasFactory()

    with tenant_scope(acme):
        assert ModelAlias.objects.get() == shared
        assert ModelAlias.objects.update(note="mine") == 0
        assert ModelAlias.objects.all().delete()[0] == 0
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(acme):
        ModelAlias.objects.bulk_create([ModelAlias(alias="everybody", model=shared.model)])


def test_the_catalog_is_read_and_not_written(acme):
    model = ModelAliasFactory().model

    with tenant_scope(acme):
        assert AIModel.objects.get() == model
    for change in (
        lambda: Provider.objects.update(enabled=False),
        lambda: AIModel.objects.update(enabled=False),
        lambda: raw("DELETE FROM cp_catalog_aimodel"),
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(acme):
            change()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM cp_tenants_apikey", "DELETE FROM cp_tenants_app", "DELETE FROM cp_tenants_user",
        "DELETE FROM cp_auditing_auditlog", "UPDATE cp_auditing_auditlog SET reason = ''", "TRUNCATE cp_auditing_auditlog",
        "UPDATE cp_tenants_tenant SET name = 'x'", "INSERT INTO cp_tenants_tenant (id, slug) VALUES (gen_random_uuid(), 'x')",
        "DELETE FROM cp_auditing_inferencerequest", "UPDATE cp_auditing_inferencerequest SET cost = 0",
        "SELECT * FROM django_session", "SELECT * FROM auth_permission", "SELECT * FROM cp_tenants_user_groups",
        "SELECT * FROM django_migrations", "ALTER TABLE cp_tenants_app DISABLE ROW LEVEL SECURITY",
        "DROP POLICY cp_tenant ON cp_tenants_app", "CREATE TABLE mine (id int)", "SET ROLE cp_reader",
        "SELECT cp_unisolate('cp_tenants_app')", "SELECT cp_partition_add('cp_auditing_auditlog', '2020-01-01')",
        "ALTER TABLE cp_auditing_auditlog DISABLE TRIGGER cp_append_only", "COPY cp_tenants_app TO '/tmp/x'",
    ],
)  # fmt: skip
def test_a_scope_has_no_more_rights_than_it_needs(acme, acme_app, statement):
    with pytest.raises(DatabaseError, match=r"permission denied|must be owner|append-only|not able|privileges"):
        with tenant_scope(acme):
            raw(statement)


def test_partitions_are_closed_to_a_scope(acme):
    AuditLogFactory(tenant_id=acme.pk)
    partitions = raw(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'cp_auditing_auditlog'::regclass"
    )

    for (partition,) in partitions:
        for statement in (f"SELECT * FROM {partition}", f"INSERT INTO {partition} SELECT * FROM cp_auditing_auditlog"):
            with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(acme):
                raw(statement)


@pytest.mark.parametrize("model", [*OWNED, ModelAlias], ids=lambda model: model.__name__)
def test_the_role_without_a_tenant_sees_nothing(two, model):
    owned = model.objects.exclude(tenant=None) if model is ModelAlias else model.objects.all()

    with transaction.atomic():
        raw("SET LOCAL ROLE cp_tenant")
        seen = list(owned)
        raw("RESET ROLE")

    assert seen == []


@pytest.mark.parametrize("value", ["", None])
def test_the_setting_left_empty_sees_nothing(two, value):
    with transaction.atomic():
        raw("SET LOCAL ROLE cp_tenant")
        raw("SELECT set_config('cp.tenant_id', %s, true)", value)
        assert raw("SELECT count(*) FROM cp_tenants_app") == [(0,)]


def test_a_setting_that_is_no_id_is_an_error_and_no_door(two):
    with pytest.raises(DatabaseError, match="uuid"), transaction.atomic():
        raw("SET LOCAL ROLE cp_tenant")
        raw("SET LOCAL cp.tenant_id = 'x'' OR true'")
        raw("SELECT * FROM cp_tenants_app")


def test_a_scope_takes_a_row_an_id_or_its_text(two):
    acme, _ = two

    for given in (acme, acme.pk, str(acme.pk)):
        with tenant_scope(given):
            assert Tenant.objects.get() == acme
            assert current_scope() == acme.pk


@pytest.mark.parametrize("given", ["", "acme", None, 7])
def test_a_scope_of_nothing_does_not_open(db, given):
    with pytest.raises(ValueError, match="badly formed"), tenant_scope(given):
        pass


def test_a_scope_of_an_unknown_tenant_sees_nothing(two):
    with tenant_scope(uuid7()):
        assert not Tenant.objects.exists()
        assert not App.objects.exists()


def test_a_nested_scope_is_of_its_own_tenant_and_the_outer_one_comes_back(two):
    acme, globex = two

    with tenant_scope(acme):
        with tenant_scope(globex):
            assert Tenant.objects.get() == globex
            assert current_scope() == globex.pk
        assert Tenant.objects.get() == acme
        assert current_scope() == acme.pk
        with tenant_scope(acme):
            assert Tenant.objects.get() == acme
        assert Tenant.objects.get() == acme

    assert Tenant.objects.count() == 2
    assert current_scope() is None


def test_an_error_in_a_nested_scope_gives_back_the_outer_one(two):
    acme, globex = two

    with tenant_scope(acme):
        with pytest.raises(RuntimeError), tenant_scope(globex):
            App.objects.create(tenant=globex, slug="lost", name="Lost")
            raise RuntimeError
        assert Tenant.objects.get() == acme
        with pytest.raises(DatabaseError), tenant_scope(globex):
            raw("SELECT 1/0")
        assert Tenant.objects.get() == acme
        assert current_scope() == acme.pk

    assert not App.objects.filter(slug="lost").exists()
    assert current_scope() is None


def test_after_an_error_nobody_is_in_a_scope(two):
    acme, _ = two

    with pytest.raises(RuntimeError), tenant_scope(acme):
        raise RuntimeError

    assert raw("SELECT current_user = session_user, coalesce(current_setting('cp.tenant_id', true), '')") == [
        (True, "")
    ]
    assert Tenant.objects.count() == 2


def test_a_scope_ends_in_the_role_it_began_in(two):
    acme, _ = two

    with transaction.atomic():
        raw("SELECT set_config('role', session_user, true)")
        with tenant_scope(acme):
            assert raw("SELECT current_user, current_setting('role')") == [("cp_tenant", "cp_tenant")]
        assert raw("SELECT current_setting('role') = session_user") == [(True,)]
        raw("RESET ROLE")


def test_a_change_in_a_scope_is_audited_though_the_scope_may_not_write_that_row(acme, acme_app):
    with tenant_scope(acme):
        App.objects.update(name=F("name"), app_type="web")

    assert AuditLog.objects.for_object(acme_app).with_action("update").get().after == {"app_type": "web"}


def test_a_platform_event_cannot_be_forged_from_a_scope(acme):
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(acme):
        AuditLog.objects.record("auth.login", actor="nobody")


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_scope_outlives_its_transaction():
    acme = TenantFactory(slug="acme")

    with tenant_scope(acme):
        pid = raw("SELECT pg_backend_pid()")

    assert raw("SELECT pg_backend_pid()") == pid
    assert raw("SELECT current_user = session_user, coalesce(current_setting('cp.tenant_id', true), '')") == [
        (True, "")
    ]


@pytest.mark.django_db(transaction=True)
def test_scopes_of_two_threads_do_not_meet():
    tenants = [TenantFactory(slug=f"tenant-{n}x") for n in range(2)]
    barrier, seen = Barrier(2), {}

    def look(tenant):
        try:
            with tenant_scope(tenant):
                barrier.wait()
                seen[tenant.slug] = (Tenant.objects.get().slug, current_scope())
                barrier.wait()
        finally:
            connection.close()

    threads = [Thread(target=look, args=[tenant]) for tenant in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {tenant.slug: (tenant.slug, tenant.pk) for tenant in tenants}


@pytest.mark.django_db
@pytest.mark.parametrize("model", [*OWNED, ModelAlias], ids=lambda model: model.__name__)
def test_the_reader_is_bound_to_no_tenant_and_changes_nothing(model):
    table = model._meta.db_table

    policies = raw("SELECT cmd, qual FROM pg_policies WHERE tablename = %s AND roles = '{cp_reader}'", table)
    may = {
        privilege: raw("SELECT has_table_privilege('cp_reader', %s, %s)", table, privilege)[0][0]
        for privilege in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER")
    }

    assert policies == ([] if model is APIKeySecret else [("SELECT", "true")])
    assert not any(may.values())


@pytest.mark.django_db
@pytest.mark.parametrize(
    "column",
    [
        "cp_tenants_tenant.db_dsn", "cp_tenants_user.password", "cp_tenants_apikeysecret.digest", "cp_tenants_apikeysecret.kid",
        "cp_auditing_deadletter.payload", "cp_auditing_auditlog.pii_salt",
    ],
)  # fmt: skip
def test_the_reader_sees_no_secret(column):
    table, name = column.split(".")

    assert raw("SELECT has_column_privilege('cp_reader', %s, %s, 'SELECT')", table, name) == [(False,)]
    if table != "cp_tenants_apikeysecret":
        assert raw("SELECT has_column_privilege('cp_reader', %s, 'id', 'SELECT')", table) == [(True,)]


def test_no_function_that_runs_as_the_owner_can_be_hung_on_a_table_of_ones_own(two):
    acme, globex = two
    with pytest.raises(ProgrammingError, match="cp_audit_row"), tenant_scope(acme):
        raw("CREATE TEMPORARY TABLE forged (id uuid, tenant_id uuid) ON COMMIT DROP")
        raw(
            "CREATE TRIGGER t AFTER INSERT ON forged FOR EACH ROW "
            "EXECUTE FUNCTION cp_audit_row('{}', '{\"tenant_id\": \"tenant_id\"}')"
        )
        raw("INSERT INTO forged VALUES (%s, %s)", uuid7(), globex.pk)

    callable_by_anybody = raw(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace "
        "AND prorettype = 'trigger'::regtype AND has_function_privilege('cp_tenant', oid, 'EXECUTE')"
    )

    assert callable_by_anybody == []
