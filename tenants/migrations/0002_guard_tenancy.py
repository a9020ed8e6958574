from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile

# table → privileges inside a tenant's scope, columns hidden from cp_reader (None: not readable at all), redacted
# columns, and whom a row is about
TABLES: dict[str, tuple[str, str | None, str, str]] = {
    "cp_tenants_tenant": ("SELECT", "{db_dsn}", "{db_dsn}", '{"tenant_id": "id"}'),
    "cp_tenants_app": ("SELECT, INSERT, UPDATE", "{}", "{}", '{"app_id": "id"}'),
    "cp_tenants_branch": ("SELECT, INSERT, UPDATE", "{}", "{}", '{"branch_id": "id"}'),
    "cp_tenants_user": ("SELECT, INSERT, UPDATE", "{password}", "{}", '{"user_id": "id"}'),
    "cp_tenants_userapp": ("SELECT, INSERT, UPDATE", "{}", "{}", "{}"),
    "cp_tenants_apikey": ("SELECT, INSERT, UPDATE", "{}", "{}", '{"api_key_id": "id"}'),
    "cp_tenants_apikeysecret": ("SELECT, INSERT, UPDATE", None, "{digest}", '{"api_key_id": "key_id"}'),
}


def join(table: str, privileges: str, hidden: str | None, redacted: str, subject: str) -> list[migrations.RunSQL]:
    owner = "id" if table == "cp_tenants_tenant" else "tenant_id"
    operations = [
        migrations.RunSQL(
            [("SELECT cp_isolate(%s, %s, %s)", [table, owner, privileges])], [("SELECT cp_unisolate(%s)", [table])]
        ),
        migrations.RunSQL(
            [("SELECT cp_audit_watch(%s, %s, %s)", [table, redacted, subject])],
            [("SELECT cp_audit_unwatch(%s)", [table])],
        ),
    ]
    if hidden is not None:
        operations.append(
            migrations.RunSQL(
                [("SELECT cp_readable(%s, %s)", [table, hidden])], [("SELECT cp_unreadable(%s)", [table])]
            )
        )
    if table != "cp_tenants_apikeysecret":
        operations.append(migrations.RunSQL([("SELECT cp_touch(%s)", [table])], [("SELECT cp_untouch(%s)", [table])]))
    return operations


class Migration(migrations.Migration):
    dependencies = [("cp_tenants", "0001_create_tenancy"), ("cp_auditing", "0001_create_auditlog")]

    operations = [
        RunSQLFile("tenants", "0001_users"),
        RunSQLFile("tenants", "0002_keys"),
        *(operation for table, rules in TABLES.items() for operation in join(table, *rules)),
    ]
