from __future__ import annotations

import hashlib
import json

import pytest
from django.db import DatabaseError, connection, transaction

from auditing.context import audit_context
from auditing.models import AuditLog
from controlplane.core.bulk import copy_rows
from controlplane.core.ids import PLATFORM, uuid7
from tenants import tokens
from tenants.models import App, Tenant
from tests.factories import (
    AppFactory,
    BranchFactory,
    ProviderFactory,
    TenantFactory,
    UserAppFactory,
    UserFactory,
    issue,
)

pytestmark = pytest.mark.django_db


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def rows_of(instance, action):
    return list(AuditLog.objects.for_object(instance).with_action(action).order_by("id"))


def test_a_new_row_is_recorded_whole(acme):
    app = AppFactory(tenant=acme, slug="chat", metadata={"owner": "ada"})

    [row] = rows_of(app, "create")
    assert row.before is None
    assert (row.after["slug"], row.after["metadata"], row.after["id"]) == ("chat", {"owner": "ada"}, str(app.pk))
    assert (row.tenant_id, row.app_id, row.resource_type) == (acme.pk, app.pk, "cp_tenants_app")
    assert (row.resource_label, row.outcome) == (app.name, "success")


def test_a_change_is_recorded_by_what_changed(acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="New", app_type="web")

    [row] = rows_of(acme_app, "update")
    assert row.before == {"name": "Chat", "app_type": "other"}
    assert row.after == {"name": "New", "app_type": "web"}


def test_a_change_of_nothing_is_no_event(acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="Chat")
    acme_app.save()

    assert rows_of(acme_app, "update") == []


def test_a_removed_row_is_recorded_whole(acme):
    app = AppFactory(tenant=acme)
    execute("DELETE FROM cp_tenants_app WHERE id = %s", app.pk)

    [row] = rows_of(app, "delete")
    assert row.after is None
    assert row.before["slug"] == app.slug


WRITERS = {
    "save": lambda tenant: AppFactory(tenant=tenant),
    "create": lambda tenant: App.objects.create(tenant=tenant, slug="new", name="New"),
    "bulk_create": lambda tenant: App.objects.bulk_create([App(tenant=tenant, slug="new", name="New")]),
    "copy": lambda tenant: copy_rows(
        App,
        ("id", "tenant_id", "slug", "name", "status", "app_type", "config", "metadata"),
        [(uuid7(), tenant.pk, "new", "New", "active", "web", {}, {})],
    ),
    "raw": lambda tenant: execute(
        "INSERT INTO cp_tenants_app (id, tenant_id, slug, name, status, app_type, config, metadata) "
        "VALUES (gen_random_uuid(), %s, 'new', 'New', 'active', 'web', '{}', '{}')",
        tenant.pk,
    ),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_whoever_adds_a_row_is_named(acme, write):
    with audit_context(actor="importer", reason="move", request_id="r-1", ip="10.0.0.1", user_agent="curl"):
        write(acme)

    row = AuditLog.objects.filter(resource_type="cp_tenants_app").get()
    assert (row.action, row.actor_type, row.actor_id, row.actor_label) == ("create", "system", "importer", "importer")
    assert (row.reason, row.request_id, row.ip, row.user_agent) == ("move", "r-1", "10.0.0.1", "curl")
    assert row.tenant_id == acme.pk


CHANGERS = {
    "save": lambda app: setattr(app, "name", "New") or app.save(),
    "update": lambda app: App.objects.filter(pk=app.pk).update(name="New"),
    "bulk_update": lambda app: setattr(app, "name", "New") or App.objects.bulk_update([app], ["name"]),
    "update_or_create": lambda app: App.objects.update_or_create(pk=app.pk, defaults={"name": "New"}),
    "raw": lambda app: execute("UPDATE cp_tenants_app SET name = 'New' WHERE id = %s", app.pk),
    "upsert": lambda app: execute(
        "INSERT INTO cp_tenants_app SELECT * FROM cp_tenants_app WHERE id = %s ON CONFLICT (id) DO UPDATE SET name = 'New'",
        app.pk,
    ),
    "merge": lambda app: execute(
        "MERGE INTO cp_tenants_app t USING (SELECT %s::uuid AS id) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = 'New'",
        app.pk,
    ),
}


@pytest.mark.parametrize("change", CHANGERS.values(), ids=CHANGERS.keys())
def test_whoever_changes_a_row_is_named(acme_app, change):
    operator = UserFactory(tenant=None, role="operator", email="ops@example.org")
    with audit_context(actor=operator, reason="rename"):
        change(acme_app)

    [row] = rows_of(acme_app, "update")
    assert (row.actor_type, row.actor_id, row.actor_label) == ("operator", str(operator.pk), "ops@example.org")
    assert (row.reason, row.after) == ("rename", {"name": "New"})


def test_without_a_context_the_login_is_the_actor(acme_app):
    App.objects.filter(pk=acme_app.pk).update(name="New")

    [row] = rows_of(acme_app, "update")
    assert (row.actor_type, row.actor_id) == ("database", execute("SELECT session_user")[0][0])


def test_psql_may_say_why(acme_app):
    execute('SET LOCAL cp.audit = \'{"reason": "by hand"}\'')
    App.objects.filter(pk=acme_app.pk).update(name="New")

    [row] = rows_of(acme_app, "update")
    assert (row.reason, row.actor_type) == ("by hand", "database")


@pytest.mark.parametrize("text", ["no json", "[]", "1", '"x"'])
def test_what_psql_says_must_be_an_object(acme_app, text):
    with pytest.raises(DatabaseError), transaction.atomic():
        execute("SELECT set_config('cp.audit', %s, true)", text)
        App.objects.filter(pk=acme_app.pk).update(name="New")

    assert App.objects.get(pk=acme_app.pk).name == "Chat"


def test_a_truncate_is_recorded_with_its_count(acme):
    for _ in range(2):
        UserAppFactory(user=UserFactory(tenant=acme), app=AppFactory(tenant=acme))
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    with audit_context(actor="ops", tenant=acme):
        execute("TRUNCATE cp_tenants_userapp")
    execute("TRUNCATE cp_tenants_userapp")

    empty, full = AuditLog.objects.with_action("truncate").for_resource("cp_tenants_userapp", "").order_by("-id")
    assert (full.details, full.tenant_id) == ({"rows": 2}, acme.pk)
    assert empty.details == {"rows": 0}


def test_a_tenants_own_row_is_its_own(acme):
    [row] = rows_of(acme, "create")

    assert row.tenant_id == acme.pk


def test_a_row_of_no_tenant_is_the_platforms_or_the_contexts(acme):
    platform = ProviderFactory()
    with audit_context(tenant=acme):
        told = ProviderFactory()

    assert rows_of(platform, "create")[0].tenant_id == PLATFORM
    assert rows_of(told, "create")[0].tenant_id == acme.pk


def test_a_row_with_a_tenant_keeps_it_whatever_the_context_says(acme_app, globex):
    with audit_context(tenant=globex):
        App.objects.filter(pk=acme_app.pk).update(name="New")

    assert rows_of(acme_app, "update")[0].tenant_id == acme_app.tenant_id


def test_a_change_that_is_rolled_back_leaves_no_event(acme_app):
    with pytest.raises(RuntimeError), transaction.atomic():
        App.objects.filter(pk=acme_app.pk).update(name="New")
        raise RuntimeError

    assert rows_of(acme_app, "update") == []


def test_secrets_in_values_do_not_reach_the_log(acme):
    token = tokens.new_key("live").token
    app = AppFactory(
        tenant=acme,
        name=f"app {token}",
        config={"password": "hunter2", "deep": [{"api_key": "x", "note": f"see {token}"}], "prompt_tokens": 5},
    )

    [row] = rows_of(app, "create")
    assert row.after["config"] == {
        "password": "[redacted]",
        "deep": [{"api_key": "[redacted]", "note": f"see {token[:21]}[redacted]"}],
        "prompt_tokens": 5,
    }
    assert row.resource_label == f"app {token[:21]}[redacted]"
    assert token[22:] not in json.dumps(row.after)


def test_a_token_at_the_end_of_a_long_label_is_not_cut_in_half(acme):
    token = tokens.new_key("live").token
    app = AppFactory(tenant=acme, name="n" * 129 + token)

    assert token[22:40] not in rows_of(app, "create")[0].resource_label


def test_a_big_value_is_kept_as_its_size_and_hash(acme_app):
    text = "x" * 9000
    App.objects.filter(pk=acme_app.pk).update(metadata={"a": text})

    [row] = rows_of(acme_app, "update")
    whole = '{"a": "' + text + '"}'
    assert row.after == {
        "metadata": {"$sha256": hashlib.sha256(whole.encode()).hexdigest(), "$bytes": len(whole)},
    }


def test_whom_a_row_is_about_comes_from_its_columns(acme_app):
    user, branch = UserFactory(tenant=acme_app.tenant), BranchFactory(app=acme_app)
    key = issue(acme_app, user=user, branch=branch).key

    [row] = rows_of(key, "create")
    assert (row.tenant_id, row.app_id, row.branch_id, row.user_id, row.api_key_id) == (
        acme_app.tenant_id, acme_app.pk, branch.pk, user.pk, key.pk,
    )  # fmt: skip


# --- joining


@pytest.fixture
def table():
    execute("CREATE TABLE cp_thing (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text, n int, tenant uuid)")
    return "cp_thing"


def test_a_redacted_column_is_not_the_label_either(table):
    execute("SELECT cp_audit_watch('cp_thing', '{key}', '{\"tenant_id\": \"tenant\"}')")
    tenant = uuid7()
    execute("INSERT INTO cp_thing (key, n, tenant) VALUES ('hunter2', 1, %s)", tenant)
    execute("UPDATE cp_thing SET key = 'hunter3'")

    created, updated = AuditLog.objects.filter(resource_type="cp_thing").order_by("id")
    assert (created.resource_label, created.tenant_id, created.after["key"]) == ("", tenant, "[redacted]")
    assert (updated.before, updated.after) == ({"key": "[redacted]"}, {"key": "[redacted]"})


@pytest.mark.parametrize("arguments", ["'cp_thing', '{nothing}'", "'cp_thing', '{}', '{\"app_id\": \"nothing\"}'"])
def test_an_unknown_column_fails_the_migration(table, arguments):
    with pytest.raises(DatabaseError, match="no such column"), transaction.atomic():
        execute(f"SELECT cp_audit_watch({arguments})")


def test_a_table_leaves_again(table):
    execute("SELECT cp_audit_watch('cp_thing')")
    execute("SELECT cp_audit_unwatch('cp_thing')")
    execute("INSERT INTO cp_thing (n) VALUES (1)")

    assert not AuditLog.objects.filter(resource_type="cp_thing").exists()


def test_a_watch_fires_always(table):
    execute("SELECT cp_audit_watch('cp_thing')")

    enabled = execute("SELECT tgname::text, tgenabled::text FROM pg_trigger WHERE tgrelid = 'cp_thing'::regclass")

    assert sorted(enabled) == [("cp_audit", "A"), ("cp_audit_truncate", "A")]


def test_replication_is_no_way_around_the_log(acme_app, can_replicate):
    with can_replicate() as cursor:
        cursor.execute("UPDATE cp_tenants_app SET name = 'New' WHERE id = %s", [acme_app.pk])

    assert rows_of(acme_app, "update")[0].after == {"name": "New"}


def test_a_label_of_any_length_is_cut(acme):
    tenant = TenantFactory(name="n" * 200)
    Tenant.objects.filter(pk=tenant.pk).update(status="suspended")

    assert rows_of(tenant, "update")[0].resource_label == "n" * 200
