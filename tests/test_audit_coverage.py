"""From the registry and the catalog of the database: what is new is covered, or says why not."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import ProgrammingError, connection, transaction

from tests import factories

FLOORS = ("cp_core", "cp_auditing", "cp_tenants", "cp_catalog", "cp_policies", "cp_storage_meta")
MODELS = [
    model
    for model in apps.get_models(include_auto_created=True)
    if model._meta.app_label in FLOORS and model._meta.managed and not model._meta.proxy
]
FACTORIES = {
    factory._meta.model: factory
    for factory in vars(factories).values()
    if isinstance(factory, type) and issubclass(factory, factories.Factory) and factory._meta.model is not None
    if factory is not factories.OperatorFactory
}
# How a row of a table is another tenant's, where it is not a column tenant_id.
OWN_ID = {"cp_tenants_tenant": "id"}


def named(model):
    return model._meta.label


def rows(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()


def exempt():
    return {
        (config.label, model): reason
        for config in apps.get_app_configs()
        if config.label in FLOORS
        for model, reason in getattr(config, "audit_exempt", {}).items()
    }


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_every_model_is_watched_or_says_why_not(model):
    triggers = rows(
        "SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname LIKE 'cp_audit%%' "
        "AND tgenabled = 'A'",
        model._meta.db_table,
    )
    reason = exempt().get((model._meta.app_label, model.__name__))

    watched = {name for (name,) in triggers} == {"cp_audit", "cp_audit_truncate"}
    assert watched != bool(reason), f"{model._meta.label}: watch it, or give a reason in audit_exempt, and not both"
    assert reason is None or len(reason) > 10


def test_no_reason_is_kept_for_a_model_that_is_gone():
    assert set(exempt()) <= {(model._meta.app_label, model.__name__) for model in MODELS}


def test_every_model_has_a_factory():
    made_by_django = {model for model in MODELS if model._meta.auto_created}

    assert set(MODELS) - made_by_django == set(FACTORIES)


@pytest.mark.django_db
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=lambda factory: factory.__name__)
def test_what_a_factory_makes_by_default_is_valid_and_another_one_too(factory):
    row = factory()
    factory()

    if row._meta.app_label != "cp_auditing":  # no form writes a log
        row.full_clean()


def tenant_owned():
    """Tables of ours with a column tenant_id, partitions aside; and their owners' column."""
    found = rows(
        "SELECT c.relname, 'tenant_id' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
        "AND a.attname = 'tenant_id' AND NOT a.attisdropped ORDER BY 1"
    )
    return {**dict(found), **OWN_ID}


@pytest.mark.django_db
def test_every_tenant_owned_table_is_isolated():
    bare = [
        table
        for table in tenant_owned()
        if rows("SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass(%s)", table) != [(True,)]
        or not rows("SELECT 1 FROM pg_policies WHERE tablename = %s AND 'cp_tenant' = ANY (roles)", table)
    ]

    assert bare == []


@pytest.mark.django_db
def test_the_models_with_a_tenant_are_all_among_them():
    with_tenant = {
        model._meta.db_table
        for model in MODELS
        if any(field.column == "tenant_id" for field in model._meta.concrete_fields)
    }

    assert with_tenant | set(OWN_ID) == set(tenant_owned())


@pytest.mark.django_db
def test_an_unset_scope_sees_nothing_of_any_tenant():
    for factory in FACTORIES.values():
        factory()

    for table, column in tenant_owned().items():
        assert rows(f"SELECT count(*) > 0 FROM {table}") == [(True,)], f"{table} has no row to hide"
        with transaction.atomic():
            rows("SELECT set_config('role', 'cp_tenant', true)")
            try:
                with transaction.atomic():
                    assert rows(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL") == [], table
            except ProgrammingError as refused:  # a table that no tenant reads at all
                if "permission denied" not in str(refused):
                    raise
            rows("SELECT set_config('role', 'none', true)")


@pytest.mark.django_db
def test_a_scope_has_rights_only_where_rows_are_isolated_or_everybodys():
    """Tables that cp_tenant may touch without row security: the catalog, for reading."""
    open_tables = rows(
        "SELECT c.relname, string_agg(p.privilege, ',' ORDER BY p.privilege) FROM pg_class c, "
        "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p(privilege) "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relrowsecurity "
        "AND has_table_privilege('cp_tenant', c.oid, p.privilege) GROUP BY 1 ORDER BY 1"
    )

    assert open_tables == [("cp_catalog_aimodel", "SELECT"), ("cp_catalog_provider", "SELECT")]


# Functions of the owner that a scope calls on purpose, and whose each must ask first whether the tenant is the scope's: @@ and
# @> wait behind row security, so the GIN indexes serve nobody else (storage_meta/sql/0005_searching.up.sql).
ASK_FIRST = {"cp_storage_hits": "cp_storage_demand", "cp_storage_search": "cp_storage_demand"}


@pytest.mark.django_db
def test_a_function_that_runs_as_the_owner_has_a_fixed_path_and_is_a_trigger():
    definers = rows(
        "SELECT proname, prorettype = 'trigger'::regtype, proconfig::text FROM pg_proc "
        "WHERE prosecdef AND pronamespace = 'public'::regnamespace ORDER BY 1"
    )

    assert definers != []
    for name, is_trigger, config in definers:
        assert is_trigger or name in ASK_FIRST, f"{name} could be called from a scope"
        assert "search_path=pg_catalog, public, pg_temp" in config, name


@pytest.mark.django_db
@pytest.mark.parametrize(("function", "asks"), ASK_FIRST.items())
def test_a_function_that_a_scope_calls_as_the_owner_asks_for_the_tenant_before_it_reads(function, asks):
    [(body, everybody, tenant)] = rows(
        "SELECT prosrc, has_function_privilege('public', oid, 'EXECUTE'), has_function_privilege('cp_tenant', oid, 'EXECUTE') "
        "FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace AND proname = %s",
        function,
    )

    first = body[body.index("BEGIN") + len("BEGIN") :].split(";")[0]
    assert first.split() == ["PERFORM", f"{asks}(the_tenant)"]
    assert (everybody, tenant) == (False, True)
